/*
 * What an epoch came to: named numbers in Keras's words ("loss", "accuracy", "val_loss", "lr"), in a fixed order.
 */
#ifndef LS_FIT_LOGS_H
#define LS_FIT_LOGS_H

#include <stddef.h>

enum { LS_LOGS_MAX = 128, LS_LOGS_NAME = 80 };

/* A zeroed one is empty. */
typedef struct ls_logs {
    int n;
    struct {
        char name[LS_LOGS_NAME];
        double value;
    } item[LS_LOGS_MAX];
} ls_logs;

/* Appends or overwrites; what does not fit is left out. */
void ls_logs_set(ls_logs *logs, const char *name, double value);
/* NULL when absent. */
const double *ls_logs_find(const ls_logs *logs, const char *name);
/* "loss, accuracy, val_loss" into out; returns out. */
const char *ls_logs_names(const ls_logs *logs, char *out, size_t size);

#endif
