/*
 * The arguments of all verbs, read in one way: --word VALUE, --word=VALUE, -w VALUE, -wVALUE, and operands among them;
 * what follows "--" is operands. Complaints name the verb, what was given, what was expected, and how to see the rest.
 */
#ifndef LS_CLI_OPTION_H
#define LS_CLI_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

typedef struct ls_option {
    const char *word;
    char letter; /* 0: none */
    bool takes_value;
} ls_option;

typedef struct ls_option_table {
    const char *verb; /* "train"; "data import csv" */
    const ls_option *option;
    int n;
    uint32_t takes; /* bit i: option i is this verb's */
} ls_option_table;
#define LS_TAKES_ALL UINT32_MAX

/* Hands over each option (its number; value is "" where it takes none) and each operand, in their order. Stops at the
 * first complaint, of its own or theirs; operands that were not wanted are the callback's to refuse, by
 * ls_option_stray. argv[0] is the verb. */
ls_status ls_options_read(const ls_option_table *table, int argc, char **argv,
                          ls_status (*option)(void *context, int number, const char *value, ls_err *err),
                          ls_status (*operand)(void *context, const char *word, ls_err *err), void *context,
                          ls_err *err) LS_MUST_CHECK;

/* "lockstep VERB: <format>; "lockstep VERB --help" shows what it takes". LS_EINPUT. */
ls_status ls_option_fail(const char *verb, ls_err *err, const char *format, ...)
    __attribute__((format(printf, 3, 4))) LS_MUST_CHECK;
ls_status ls_option_stray(const char *verb, const char *word, ls_err *err) LS_MUST_CHECK;

/* The value of an option ("--batch"); a complaint names it, what was given and what was expected. */
ls_status ls_option_int(const char *option, const char *text, int64_t min, int64_t max, int64_t *out,
                        ls_err *err) LS_MUST_CHECK;
ls_status ls_option_double(const char *option, const char *text, double min, double max, double *out,
                           ls_err *err) LS_MUST_CHECK;
/* One of n words; *out is its index. */
ls_status ls_option_choice(const char *option, const char *text, const char *const *words, int n_words, int *out,
                           ls_err *err) LS_MUST_CHECK;
/* "28,28,1": 1 to max_n lengths. */
ls_status ls_option_lengths(const char *option, const char *text, int max_n, int64_t *out, int *n_out,
                            ls_err *err) LS_MUST_CHECK;

#endif
