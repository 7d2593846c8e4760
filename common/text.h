/* Text: what to say of a word that is not known, numbers for people. */
#ifndef LS_COMMON_TEXT_H
#define LS_COMMON_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* The known word nearest to `word` by edit distance, or NULL when none is near (more than a third of it differs). */
const char *ls_nearest(const char *word, const char *const *known, size_t n_known);

/* What a complaint about a word that is none of the known ones ends with, into out; returns out: `; did you mean
 * "relu"?`; where none is near, `; known are "a", "b"` when they fit; else "". `mark` stands before each word: "--" or
 * "". */
enum { LS_HINT_MAX = 480 };
const char *ls_hint(char out[LS_HINT_MAX], const char *word, const char *const *known, size_t n_known,
                    const char *mark);

/* Whether word is one of the words of a list separated by single spaces; list may be NULL. */
bool ls_word_listed(const char *list, const char *word);

/* "1.5 GiB", "12 min 5 s" into out; return out. */
const char *ls_format_bytes(char *out, size_t size, double n_bytes);
const char *ls_format_duration(char *out, size_t size, double seconds);

#endif
