/*
 * What each epoch came to, as Keras's History has it: {"epoch": [1, 2], "loss": [0.5, 0.3], ...}; epochs count from 1,
 * and null stands where a quantity was not measured (validation that is not done every epoch) or is not finite.
 */
#ifndef LS_FIT_HISTORY_H
#define LS_FIT_HISTORY_H

#include "common/json.h"
#include "trainer/fit/logs.h"

typedef struct ls_history {
    json_t *lists;
} ls_history;

void ls_history_init(ls_history *h);
void ls_history_release(ls_history *h);
void ls_history_add(ls_history *h, int64_t epoch, const ls_logs *logs);
size_t ls_history_length(const ls_history *h);

/* A copy (new reference), and the whole replaced by one; what is not a history is LS_EINPUT. */
json_t *ls_history_save(const ls_history *h);
ls_status ls_history_restore(ls_history *h, ls_json at, ls_err *err) LS_MUST_CHECK;

#endif
