/* Numbers given to options of verbs, checked: a complaint names the option, what was given and what was expected. */
#ifndef LS_CLI_OPTION_H
#define LS_CLI_OPTION_H

#include <stdint.h>

#include "common/status.h"

ls_status ls_option_int(const char *option, const char *text, int64_t min, int64_t max, int64_t *out,
                        ls_err *err) LS_MUST_CHECK;
ls_status ls_option_double(const char *option, const char *text, double min, double max, double *out,
                           ls_err *err) LS_MUST_CHECK;
/* One of n words; *out is its index. */
ls_status ls_option_choice(const char *option, const char *text, const char *const *words, int n_words, int *out,
                           ls_err *err) LS_MUST_CHECK;

#endif
