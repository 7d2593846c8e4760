#include "trainer/fit/logs.h"

#include <stdio.h>
#include <string.h>

const double *ls_logs_find(const ls_logs *logs, const char *name) {
    for (int i = 0; i < logs->n; i++) {
        if (strcmp(logs->item[i].name, name) == 0) {
            return &logs->item[i].value;
        }
    }
    return NULL;
}

void ls_logs_set(ls_logs *logs, const char *name, double value) {
    double *old = (double *)ls_logs_find(logs, name);
    if (old != NULL) {
        *old = value;
    } else if (logs->n < LS_LOGS_MAX) {
        snprintf(logs->item[logs->n].name, sizeof logs->item[0].name, "%s", name);
        logs->item[logs->n++].value = value;
    }
}

const char *ls_logs_names(const ls_logs *logs, char *out, size_t size) {
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < logs->n && used < size; i++) {
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", logs->item[i].name);
    }
    return out;
}
