/*
 * Benchmark: training steps of a model on synthetic data that is in memory already.
 *
 * A step is what training does: forward, loss, backward with the all-reduce, the optimizer's update. After a warm-up
 * (about a second) seven windows of equal step counts fill the seconds, each closed by a barrier.
 *
 * Apart: the engine is that of a team of one, and no gradients are exchanged, but all ranks of `team` begin each step
 * together. What is then lost against one rank is the machine's doing: memory that is shared, and waiting for the
 * slowest.
 */
#ifndef LS_FIT_BENCH_H
#define LS_FIT_BENCH_H

#include "trainer/fit/profile.h"
#include "worker/engine/engine.h"
#include "worker/reduce/team.h"

typedef struct ls_bench_result {
    double samples_per_s, low, high;          /* global rate: the median, slowest and fastest window */
    double step_ms, step_ms_p10, step_ms_p90; /* of rank 0's steps */
    double exposed_communication_ms;          /* a step: time that rank 0 waited for others or for the network */
    double late_ms, network_ms; /* of it: for ranks of its node that are late; for other nodes, late or far */
    double send_ms;             /* a step: rank 0's messages between operators */
    double reduce_ms;           /* a step: rank 0's adding of gradients and updating of parameters */
    double compute_ms;          /* a step: what a rank does by itself, in the mean over ranks */
    double slowest_ms;          /* a step: what its slowest rank does by itself; no step can be shorter */
    int slowest_rank;           /* that was slowest in most steps */
    double slowest_share;       /* of the steps in which it was */
    double rss_mb;              /* peak resident size of the largest rank */
    double startup_s;           /* from the launch of rank 0's process to the end of its first step */
    double first_loss, last_loss;
    uint64_t n_steps;
    ls_peaks peaks; /* with profile */
} ls_bench_result;

/* Collective. batch: of the engine, a rank's own when apart. *result is right on rank 0. profile: one more window after
 * the others, with the engine profiling. */
ls_status ls_bench_run(ls_engine *engine, ls_team *team, bool apart, const ls_model *model, const ls_compile *compile,
                       int64_t batch, double seconds, bool profile, ls_bench_result *result, ls_err *err) LS_MUST_CHECK;

#endif
