/*
 * Reading JSON that people wrote: every complaint names the file, the line, the path and what was expected.
 *
 * A document keeps its text, so that a value's line can be found again when there is something to say about it. A
 * cursor (ls_json) is one value and where it is; it is passed by value and owns nothing. Parsing is jansson's.
 */
#ifndef LS_COMMON_JSON_H
#define LS_COMMON_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

typedef struct ls_json_doc {
    char *name; /* for messages: the file's path, or "--set" and the like */
    char *text;
    json_t *root;
    struct ls_json_override *overrides; /* values that came from elsewhere; see ls_json_set */
} ls_json_doc;

typedef struct ls_json {
    const ls_json_doc *doc;
    json_t *value;  /* borrowed; NULL: absent */
    char path[224]; /* "fit.callbacks[0].config.patience"; "" at the root */
} ls_json;

/* Reads and parses. LS_EINPUT with the line and column of a syntax error, or when the file cannot be read. */
ls_status ls_json_load(ls_json_doc *doc, const char *path, ls_err *err) LS_MUST_CHECK;
/* The same from memory; text is copied. */
ls_status ls_json_parse(ls_json_doc *doc, const char *name, const char *text, ls_err *err) LS_MUST_CHECK;
/* Wraps a value that has no text of its own (a model inside an HDF5 attribute, say); takes one more reference. */
void ls_json_wrap(ls_json_doc *doc, const char *name, json_t *root);
void ls_json_release(ls_json_doc *doc);

ls_json ls_json_root(const ls_json_doc *doc);

/* The member / element; its .value is NULL when absent (never an error). null is given as it is. */
ls_json ls_json_member(ls_json at, const char *key);
ls_json ls_json_element(ls_json at, size_t index);
size_t ls_json_length(ls_json at); /* elements of an array, members of an object, else 0 */
static inline bool ls_json_present(ls_json at) {
    return at.value != NULL && !json_is_null(at.value);
}

/* 1-based line of the value (of its key, for a member), 0 when not known. */
int ls_json_line(ls_json at);

/* "FILE:LINE: PATH: <format>" as LS_EINPUT. */
ls_status ls_json_fail(ls_json at, ls_err *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__ /* as ls_fail */
#define ls_json_fail(at, err, ...) ((void)ls_json_fail(at, err, __VA_ARGS__), LS_EINPUT)
#endif

/* Member readers. An absent (or null) member leaves *out as it was, so that defaults are set before; a wrong type or a
 * value outside the range is an error that says what was expected and what was found. */
ls_status ls_json_get_bool(ls_json at, const char *key, bool *out, ls_err *err) LS_MUST_CHECK;
ls_status ls_json_get_int(ls_json at, const char *key, int64_t min, int64_t max, int64_t *out,
                          ls_err *err) LS_MUST_CHECK;
ls_status ls_json_get_double(ls_json at, const char *key, double min, double max, double *out,
                             ls_err *err) LS_MUST_CHECK;
ls_status ls_json_get_string(ls_json at, const char *key, const char **out, ls_err *err) LS_MUST_CHECK; /* borrowed */
/* One of n words; *out is its index. */
ls_status ls_json_get_choice(ls_json at, const char *key, const char *const *words, size_t n_words, int *out,
                             ls_err *err) LS_MUST_CHECK;
/* An integer or a list of up to max_n integers >= min; *n_out is how many (1 for a bare integer). Absent: untouched. */
ls_status ls_json_get_ints(ls_json at, const char *key, int64_t min, size_t max_n, int64_t *out, size_t *n_out,
                           ls_err *err) LS_MUST_CHECK;

/* The value must be an object. */
ls_status ls_json_expect_object(ls_json at, ls_err *err) LS_MUST_CHECK;
/* Every member of the object must be one of the known keys; names the stranger, its line and the nearest known key. */
ls_status ls_json_only_keys(ls_json at, const char *const *known, size_t n_known, ls_err *err) LS_MUST_CHECK;

/* Puts a value at a path of member names ("fit.epochs"; objects on the way are made where they are missing) and
 * remembers where it came from: later complaints about it begin with `origin` ("--set fit.epochs=x") in place of file
 * and line. Takes over the reference to value. LS_EINPUT: an empty name in the path, or something on the way that is no
 * object. */
ls_status ls_json_set(ls_json_doc *doc, const char *path, json_t *value, const char *origin, ls_err *err) LS_MUST_CHECK;

/* The same, the known keys being the words of lists that spaces separate (a NULL list has none); the complaint
 * names whose keys they are: "unknown key of optimizer Adam", kind and name. */
ls_status ls_json_only_listed(ls_json at, const char *const *lists, size_t n_lists, const char *kind, const char *name,
                              ls_err *err) LS_MUST_CHECK;
/* The value's word names nothing: `"reul" is not an activation that Lockstep knows`, and the nearest of the known
 * words, or all of them where none is near. LS_EINPUT. */
ls_status ls_json_unknown(ls_json at, const char *word, const char *kind, const char *const *known, size_t n_known,
                          ls_err *err) LS_MUST_CHECK;

/* What a value is, for messages: "the number 3", "the text \"abc\"", "a list", ... into out; returns out. */
const char *ls_json_describe(const json_t *value, char *out, size_t size);

#endif
