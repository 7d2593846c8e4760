/*
 * Training: from a job file to final weights. What DESIGN.md calls "rank 0 decides" and the loop that all ranks run.
 *
 *   a. Rank 0 reads the job; the others are told. Model, data and callbacks are made and checked on all ranks; what is
 *      wrong is agreed on before the first step, so that all leave by one door with one sentence.
 *   b. With resume, rank 0 reads the newest good checkpoint and tells the others. Training goes on at the very step.
 *   c. Each step ends in a verdict that all ranks share: loss, non-finite flag, stop requests. Each epoch ends with
 *      validation over all ranks and the callbacks.
 *   d. Checkpoints: rank 0 copies weights and state at a step's boundary, a thread writes them. At the end final.h5
 * holds the final weights (the best ones where EarlyStopping restores them).
 *
 * Random numbers, the order of samples and sums depend on seed, epoch and step only; so does the result, with lanes.
 *
 * Faults for tests: LOCKSTEP_FAULT (common/fault.h) knows the places "rankR.step" (passed before each step by rank R;
 * any action, fail: as a bad sample), "rankR.nan" (fail: a NaN among the inputs of that step), "rankR.validate" (before
 * each step of validation; fail: nothing).
 */
#ifndef LS_FIT_FIT_H
#define LS_FIT_FIT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

struct ls_team;

typedef struct ls_fit_request {
    const char *job_path;
    char *const *sets; /* [n_sets] of --set */
    size_t n_sets;
    const char *run_dir; /* NULL: runs/NAME-YYYYMMDD-HHMMSS in the current folder */
    bool resume, quiet;
    const char *control; /* lockstepd's socket; NULL: none */
    const char *trace;   /* file for a trace of the run in Chrome's format; NULL: none */
} ls_fit_request;

/* Collective. LS_OK; LS_ESTOPPED when stopped on purpose (a checkpoint was written); LS_EINPUT for what is wrong with
 * job, model, data or checkpoint; LS_ENONFINITE, LS_EDIVERGED, LS_EIO ... for what fails later. The sentence is the
 * same on all ranks. Signals are handled from the call on (trainer/fit/stop.h). */
ls_status ls_fit_run(struct ls_team *team, const ls_fit_request *request, ls_err *err) LS_MUST_CHECK;

#endif
