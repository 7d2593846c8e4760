/*
 * Status codes and error sentences.
 *
 * Every fallible function returns an ls_status and takes an ls_err as its last argument. The place that detects a
 * failure writes one sentence into it: what failed, where, and what to do. Callers may prepend one clause with
 * ls_err_context. On success the ls_err is left untouched.
 */
#ifndef LS_COMMON_STATUS_H
#define LS_COMMON_STATUS_H

#include <stdarg.h>

/* name, process exit code, text */
#define LS_STATUS_LIST(X)                              \
    X(OK, 0, "ok")                                     \
    X(EINPUT, 2, "bad usage or input")                 \
    X(EIO, 1, "input or output failed")                \
    X(ENOMEM, 1, "out of memory")                      \
    X(ECORRUPT, 2, "damaged file")                     \
    X(EUNSUPPORTED, 2, "not supported")                \
    X(ENONFINITE, 1, "loss or gradient is not finite") \
    X(EDIVERGED, 1, "ranks hold different weights")    \
    X(ESTALLED, 1, "a rank stalled")                   \
    X(ELIBRARY, 1, "a library call failed")            \
    X(EINTERNAL, 1, "a bug in Lockstep")               \
    X(ESTOPPED, 75, "stopped on purpose, resumable")

typedef enum {
#define X(name, code, text) LS_##name,
    LS_STATUS_LIST(X)
#undef X
        LS_STATUS_COUNT
} ls_status;

#define LS_MUST_CHECK __attribute__((warn_unused_result))

typedef struct ls_err {
    ls_status status; /* of the failure that wrote the text */
    char text[1024];  /* one sentence, no newline; "" when nothing failed */
    int told;         /* another rank prints it: an agreed failure is printed once */
} ls_err;

#define LS_ERR_INIT \
    { LS_OK, "", 0 }

/* Name ("EINPUT"), short text and process exit code of a status. */
const char *ls_status_name(ls_status status);
const char *ls_status_text(ls_status status);
int ls_status_exit_code(ls_status status);

/* Writes the sentence and returns status, so that a caller can `return ls_fail(err, LS_EINPUT, "...")`.
 * err may be NULL. */
ls_status ls_fail(ls_err *err, ls_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__ /* which looks into no other file: it returns the status that it is given */
#define ls_fail(err, status, ...) ((void)ls_fail(err, status, __VA_ARGS__), (status))
#endif
ls_status ls_vfail(ls_err *err, ls_status status, const char *format, va_list args);

/* In a printf-like function: the text of its last arguments, into an array; what does not fit is cut off. For those
 * that put the text into a frame. Needs <stdio.h>. */
#define LS_FORMAT(out, format)                        \
    do {                                              \
        va_list ls_args;                              \
        va_start(ls_args, format);                    \
        vsnprintf(out, sizeof(out), format, ls_args); \
        va_end(ls_args);                              \
    } while (0)

/* Prepends "clause: " to the sentence and returns the status already in err. */
ls_status ls_err_context(ls_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define LS_TRY(expression)                      \
    do {                                        \
        ls_status ls_try_status = (expression); \
        if (ls_try_status != LS_OK) {           \
            return ls_try_status;               \
        }                                       \
    } while (0)

/* For bugs only, never for user input; stays on in release builds. */
#define LS_ASSERT(condition) ((condition) ? (void)0 : ls_assert_failed(#condition, __FILE__, __LINE__))
_Noreturn void ls_assert_failed(const char *condition, const char *file, int line);

#endif
