/*
 * What a kernel could not do. Kernels return nothing, and a step is finished whatever happens in it, since the other
 * ranks wait; so a kernel that fails (those of plugins can) leaves its sentence here, writes zeros, and the engine
 * finds it at the end of the step and tells all ranks in the verdict.
 */
#ifndef LS_WORKER_FAILURE_H
#define LS_WORKER_FAILURE_H

#include "common/status.h"

/* Keeps the sentence if it is the process's first since the last take. From any thread. */
void ls_failure_report(ls_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The sentence that was kept, if any, and forgets it. LS_OK: nothing failed, err is untouched. */
ls_status ls_failure_take(ls_err *err) LS_MUST_CHECK;

#endif
