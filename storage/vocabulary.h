/*
 * The characters that a model of text knows: Unicode code points, each with its class number. Text is UTF-8.
 */
#ifndef LS_STORAGE_VOCABULARY_H
#define LS_STORAGE_VOCABULARY_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/* The attribute of a data set's file that holds it, as a JSON list of characters. */
#define LS_VOCABULARY_ATTRIBUTE "vocabulary"

enum { LS_VOCABULARY_MAX = 0x110000 };

/* One zeroed is empty; release may be called on it. */
typedef struct ls_vocabulary {
    uint32_t *code; /* [n] code[i] is the character of class i */
    size_t n;
    struct ls_vocabulary_entry *sorted; /* [n] by code */
} ls_vocabulary;

void ls_vocabulary_release(ls_vocabulary *v);

/* The distinct characters of a text, in the order of their code points. `name` is the text's, for messages. LS_EINPUT:
 * empty, or no UTF-8, with the line. */
ls_status ls_vocabulary_of_text(ls_vocabulary *v, const char *name, const char *text, size_t n_bytes,
                                ls_err *err) LS_MUST_CHECK;
/* Of a file: a data set (its attribute), a .json list of characters, or any other text, whose distinct characters they
 * are. LS_EINPUT. */
ls_status ls_vocabulary_load(ls_vocabulary *v, const char *path, ls_err *err) LS_MUST_CHECK;
/* The JSON list, freed by the caller. */
char *ls_vocabulary_text(const ls_vocabulary *v);

/* Class numbers of a text's characters, (*n), freed by the caller. LS_EINPUT names the first that is not known, and its
 * line. */
ls_status ls_vocabulary_encode(const ls_vocabulary *v, const char *name, const char *text, size_t n_bytes,
                               int32_t **classes, size_t *n, ls_err *err) LS_MUST_CHECK;
/* Character i as UTF-8 with a '\0' after it into out; returns its bytes. */
size_t ls_vocabulary_decode(const ls_vocabulary *v, size_t i, char out[5]);

#endif
