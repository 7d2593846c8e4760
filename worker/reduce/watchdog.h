/*
 * The watchdog: ends a job in which a rank has stopped getting on, and names the rank.
 *
 * A thread in each rank reads the progress rows of its node. The culprit is a rank past its limit that waits for
 * nobody: stopped, spinning, or lost in a system call. It is named once,
 *
 *   rank 3 on node2 has not reached bucket 5 of step 812 for 60 s
 *
 * and the job ends with LS_ESTALLED: MPI_Abort, and where that does not end this process within seconds, the culprit (a
 * process of this job on this node) is killed and this one exits by itself. A rank that left politely while others wait
 * for it is named as well. A rank on another node is seen only through those who wait for it; the watchdogs of its own
 * node get some seconds to speak first. Time that the watchdog itself was stopped (a suspended job) does not count.
 */
#ifndef LS_WORKER_WATCHDOG_H
#define LS_WORKER_WATCHDOG_H

#include "worker/reduce/progress.h"
#include "worker/reduce/team.h"

typedef struct ls_watchdog_options {
    double limit_s[LS_DOING_COUNT]; /* by phase; 0: never. Negative: the default */
} ls_watchdog_options;

/* Defaults: 600 s for set-up and finish, 60 s between signs of life in training and validation. A phase is entered by
 * all ranks alike. Who may be slow for a reason (rank 0 whose disk is) gives signs of life meanwhile. */
void ls_watchdog_options_init(ls_watchdog_options *o);

/* Collective. From here on team->progress is shared with the node, and the phase is LS_DOING_SETUP. Who gets on says so
 * with ls_progress_phase(team->progress, ...): the reducer does for each step, bucket and verdict, the training loop
 * for the rest. */
ls_status ls_watchdog_start(ls_team *team, const ls_watchdog_options *options, ls_err *err) LS_MUST_CHECK;
/* Local: this rank is watched no more, and leaves. Legal when not started. */
void ls_watchdog_stop(ls_team *team);

#endif
