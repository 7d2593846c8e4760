/*
 * Telling the world: the terminal, the run folder's history.csv and events.jsonl, and lockstepd.
 *
 * Rank 0 alone has a report. On a terminal there is a bar that is redrawn in place; elsewhere (a pipe, mpirun, a batch
 * job) one line an epoch; with quiet nothing but warnings and errors. Events are JSON objects, one a line, each with
 * "event" and "time" (Unix seconds); epochs and steps count from 1:
 *
 *   start       run_dir, pid, ranks, host, epochs, steps_per_epoch, resumed_from (a path, when resumed)
 *   progress    epoch, step, steps, samples_per_s, eta_s, loss, metrics {}      about once a second, and at an epoch's
 * last step epoch       epoch, seconds, learning_rate, metrics {loss, val_loss, ...} checkpoint  path, epoch, step
 *   warning     message
 *   end         status (done, failed, stopped), exit_code, message
 *
 * ls_report_step neither allocates nor waits.
 */
#ifndef LS_FIT_REPORT_H
#define LS_FIT_REPORT_H

#include <stdbool.h>

#include "storage/run_folder.h"
#include "trainer/fit/bar.h"
#include "worker/engine/engine.h"

typedef struct ls_report ls_report;

typedef struct ls_report_options {
    const ls_run_folder *run; /* open; borrowed */
    const char *job_path;     /* absolute */
    const char *host;
    int ranks;
    bool quiet;
    const char *control;        /* lockstepd's socket; NULL: none */
    const char *const *columns; /* [n_columns] of history.csv, after epoch; borrowed */
    int n_columns;
} ls_report_options;

ls_status ls_report_create(ls_report **out, const ls_report_options *options, ls_err *err) LS_MUST_CHECK;
void ls_report_destroy(ls_report *r); /* NULL is legal */

/* A line for people, on standard output unless quiet. */
void ls_report_say(ls_report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

void ls_report_start(ls_report *r, int64_t epochs, int64_t steps_per_epoch, const char *resumed_from);
void ls_report_step(ls_report *r, const ls_bar *bar);
/* learning_rate is what the epoch was trained with; quantities that were not measured are nan in history.csv. */
void ls_report_epoch(ls_report *r, const ls_bar *bar, double learning_rate);
void ls_report_checkpoint(ls_report *r, const char *path, int64_t epoch, int64_t step);
void ls_report_tuned(ls_report *r, const ls_tuned *tuned); /* how gradients are reduced, into the events */
void ls_report_warning(ls_report *r, const char *message);
void ls_report_end(ls_report *r, ls_status status, const char *message);

#endif
