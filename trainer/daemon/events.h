/*
 * What a run tells: one JSON object a line, from events.jsonl in its run folder or over the push socket. An event that
 * came both ways counts once.
 */
#ifndef LS_DAEMON_EVENTS_H
#define LS_DAEMON_EVENTS_H

#include "trainer/daemon/job.h"

/* Called for each new event, after it went into the job: its name and its text (JSON, one line). */
typedef void (*ls_event_fn)(void *context, ls_job *job, const char *name, const char *text);

/* Takes one line (n_bytes, no newline) into the job: progress, message, end status, and the state, which goes from
 * starting to running at the first one. A line that is no JSON object with an "event" is ignored and gives false; so
 * does one that came before. */
bool ls_events_apply(ls_job *job, const char *line, size_t n_bytes, ls_event_fn fn, void *context);

/* Reads what events.jsonl has got since the last call, whole lines only, at most about 4 MiB a call. Far behind (more
 * than 1 MiB), it begins 1 MiB before the end. No file yet is no error. Returns how many new events there were. */
size_t ls_events_read(ls_job *job, ls_event_fn fn, void *context);

/* Begins again for a new start of the run: forgets the end and what was seen, and skips what the file holds now. */
void ls_events_restart(ls_job *job);

#endif
