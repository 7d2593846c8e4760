#include "common/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    int exit_code;
    const char *text;
} rows[LS_STATUS_COUNT] = {
#define X(name, code, text) {"LS_" #name, code, text},
    LS_STATUS_LIST(X)
#undef X
};

const char *ls_status_name(ls_status status) {
    return (unsigned)status < LS_STATUS_COUNT ? rows[status].name : "?";
}
const char *ls_status_text(ls_status status) {
    return (unsigned)status < LS_STATUS_COUNT ? rows[status].text : "?";
}
int ls_status_exit_code(ls_status status) {
    return (unsigned)status < LS_STATUS_COUNT ? rows[status].exit_code : 1;
}

ls_status ls_vfail(ls_err *err, ls_status status, const char *format, va_list args) {
    if (err != NULL) {
        err->status = status;
        err->told = 0;
        vsnprintf(err->text, sizeof err->text, format, args);
    }
    return status;
}

#undef ls_fail
ls_status ls_fail(ls_err *err, ls_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    ls_vfail(err, status, format, args);
    va_end(args);
    return status;
}

ls_status ls_err_context(ls_err *err, const char *format, ...) {
    if (err == NULL) {
        return LS_EINTERNAL;
    }
    char clause[sizeof err->text];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(clause, sizeof clause, format, args);
    va_end(args);
    if (length < 0 || (size_t)length > sizeof clause - 3) {
        length = (int)sizeof clause - 3;
    }
    clause[length] = ':';
    clause[length + 1] = ' ';
    size_t head = (size_t)length + 2;
    size_t tail = strlen(err->text);
    if (head + tail > sizeof err->text - 1) {
        tail = sizeof err->text - 1 - head;
    }
    memmove(err->text + head, err->text, tail);
    memcpy(err->text, clause, head);
    err->text[head + tail] = '\0';
    return err->status;
}

void ls_assert_failed(const char *condition, const char *file, int line) {
    fprintf(stderr, "lockstep: bug: %s does not hold at %s:%d\n", condition, file, line);
    abort();
}
