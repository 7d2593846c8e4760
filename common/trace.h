/*
 * A trace of what this process did and when: events in a buffer of fixed size, written as Chrome's trace format
 * (chrome://tracing, Perfetto). While no trace is on, a hook costs one load and one branch. Thread-safe, lock-free,
 * allocates nothing between start and stop; when the buffer is full, further events are counted and dropped.
 */
#ifndef LS_COMMON_TRACE_H
#define LS_COMMON_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

extern bool ls_trace_is_on;

/* From now on; times count from now (call it behind a barrier, so that the ranks' clocks agree). LS_ENOMEM. */
ls_status ls_trace_start(size_t n_events, ls_err *err) LS_MUST_CHECK;

/* One event of the calling thread, [start_ns, end_ns) of ls_now_ns. category and name must live until ls_trace_text
 * (constants, layers' names); detail (may be NULL) too. number < 0: none. */
void ls_trace_event(const char *category, const char *name, const char *detail, int64_t number, int64_t start_ns,
                    int64_t end_ns);

/* The events as JSON objects with commas between them, pid `process`, and one that names the process. Freed by the
 * caller. *n_dropped: events that did not fit. */
char *ls_trace_text(int process, const char *process_name, size_t *n_dropped);
void ls_trace_stop(void);

#endif
