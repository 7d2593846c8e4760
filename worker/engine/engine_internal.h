/* The inside of the engine, shared by engine.c (making), engine_meet.c, engine_step.c (steps) and engine_update.c (what
 * owners do). */
#ifndef LS_WORKER_ENGINE_INTERNAL_H
#define LS_WORKER_ENGINE_INTERNAL_H

#include <stdatomic.h>

#include "worker/engine/engine.h"
#include "worker/plan/arena.h"
#include "worker/plan/heads.h"
#include "worker/plan/plan.h"
#include "worker/reduce/meeting.h"
#include "worker/reduce/reducer.h"
#include "worker/reduce/team.h"

/* A plan bound to one lane context's memory. */
typedef struct {
    int64_t n_samples;
    bool training;
    ls_plan *plan;
    uint64_t prepared;                /* 1 + the step whose weights it has prepared; 0: none */
    int *bucket_call[LS_TUNED_SIZES]; /* by size of bucket: (n_buckets) backward call after which the bucket is ready */
    void *own_arena;                  /* when the context's is too small; else NULL */
} engine_plan;

/* A lane's pass through its plan. */
typedef struct {
    engine_plan *plan; /* NULL: the lane has no samples, or could not be read */
    ls_run run;
    int own_bucket;  /* next bucket that it completes */
    int own_segment; /* a lane that is computed alone: the next whose gradient it merges, and */
    size_t merged;   /* the floats of it that it has merged */
    bool in_stretches;
} lane_pass;

/* What one lane needs while it is computed; as many as lanes are computed side by side or, where they meet, as the rank
 * has lanes. */
typedef struct {
    engine_plan **plans; /* each lives as long as the engine */
    int n_plans, cap_plans;
    void *arena;
    size_t arena_bytes;
    engine_plan *last; /* the plan of the last training step */
    float **states;    /* (model->n_states) of the lane's first sample */
    lane_pass pass;    /* under way */
    ls_status status;  /* of filling the inputs in this step */
    ls_err err;
} lane_context;

/* A weight's range of the arenas. */
typedef struct {
    size_t first, last;
    const ls_weight *weight;
    bool statistic;
    float clip;   /* factor for this step; 1: none */
    double trust; /* LARS, LAMB: ratio for this step; else 1 */
    double decay; /* LARS, LAMB: weight decay */
    bool sparse;  /* plan/arena.h */
    bool adapts;  /* LARS, LAMB: not excluded from adaptation */
} segment;

/* Nanoseconds since profiling was turned on; of the first lane context where several run side by side. */
typedef struct {
    bool on;
    uint64_t n_steps;
    int64_t step_ns, fill_ns, merge_ns;
    ls_reducer_times reduce;
} engine_profile;

/* Buckets of one size. */
typedef struct {
    size_t bytes; /* about */
    int n_buckets;
    size_t *buckets; /* (n_buckets + 1) floats */
} engine_cut;

/* The choice of what changes no bits (engine_tune.c). */
typedef struct {
    bool on, news;
    int stage, first, n; /* what is tried out now: [first, first + n) of tuned.tried */
    int at;              /* steps done in this stage */
    int64_t before_ns, step_start_ns;
    double least_ms;   /* of this round's steps so far; negative: none */
    double warm_share; /* of the all-reduce in a step, before anything was tried out */
    ls_tuned tuned;
} engine_tuning;

struct ls_engine {
    ls_team *team;
    ls_model *model;
    const ls_compile *compile; /* NULL for pure inference */
    ls_engine_options options;
    ls_heads *heads;
    ls_arena *arena;
    ls_reducer *reducer;
    int n_lanes, lane_first, lane_last;
    int at_once; /* lanes that are computed side by side, a thread each */
    int n_contexts;
    lane_context *contexts;
    lane_pass *passes; /* (lanes of this rank) of those that go through a plan in stretches, in context 0 */
    int plan_threads;
    ls_meeting *meeting; /* NULL: no plan has meeting points */
    size_t *meet[2];     /* (n_meet) sizes of the meetings of inference and training plans */
    int n_meet[2];
    double **meet_values; /* (lanes of this rank) */
    int n_cuts, cut;      /* sizes of buckets that can be had; the one in use */
    engine_cut cuts[LS_TUNED_SIZES];
    int n_fans, fans[2];    /* fan-ins that can be had: number size + fan * n_cuts of the reducer's */
    bool weights_in_caches; /* of all ranks still, when their update comes: a step touches little else */
    int n_segments;
    segment *segments; /* by offset; over the reduced part */
    bool regularized;
    float *constraint_scratch; /* room for the largest constrained weight; NULL: none is constrained */

    uint64_t iterations;    /* updates done */
    ls_update update;       /* of the current step: what is the same for all ranges */
    uint64_t weights_epoch; /* counts changes of the weights: what `prepared` refers to */

    /* one training step under way */
    _Atomic int *bucket_done; /* lanes of the last group that have completed the bucket */
    int bucket_next;

    /* States of stateful layers: (model->n_states, (state_samples, state_elems)), by the sample's place in the global
     * batch. Of the places below state_batch, the size of the last batch, a rank has those of its lanes right; of those
     * beyond, all. */
    float *states, *marked_states;
    size_t state_samples, state_batch, marked_batch, n_state_elems;

    engine_tuning tuning;

    float **rank_outputs; /* (n_outputs) this rank's part of predictions */
    double compile_ms;
    engine_profile profile;
};

/* The plan for n_samples in a context; compiled now if there is none. NULL: err says why. */
engine_plan *ls_engine_plan(ls_engine *e, lane_context *c, int64_t n_samples, bool training, ls_err *err);

/* Before a batch of n: the lanes of this rank find the states of their samples. Collective when the size of the batches
 * changes. */
void ls_engine_prepare_states(ls_engine *e, size_t n);
/* Those of a lane whose first sample has that place in the batch. */
float *const *ls_engine_lane_states(ls_engine *e, lane_context *c, size_t first);

/* Reducer callbacks; context is the engine. */
void ls_engine_apply(void *context, size_t first, size_t n, const float *gradient);
void ls_engine_norm(void *context, size_t first, size_t n, float *gradient, double *norms);
void ls_engine_norms_ready(void *context, const double *segment_norms, const double *total);
bool ls_engine_needs_norms(const ls_engine *e);

/* engine_cut.c: the sizes of buckets that may be used, and when each bucket of a plan is ready. */
void ls_engine_cut_buckets(ls_engine *e);
void ls_engine_find_bucket_calls(const ls_engine *e, engine_plan *ep);
static inline const engine_cut *ls_engine_buckets(const ls_engine *e) {
    return &e->cuts[e->cut];
}

/* Tuning: once the engine is made; before and after each training step (before: collective). */
void ls_engine_tune_begin(ls_engine *e);
void ls_engine_tune_before(ls_engine *e);
void ls_engine_tune_after(ls_engine *e);

/* Collective over the node, after an update: projects the weights that have constraints. */
void ls_engine_constrain(ls_engine *e);

/* Whether lanes meet: all of a rank's then advance together. */
static inline bool ls_engine_meets(const ls_engine *e) {
    return e->n_meet[0] + e->n_meet[1] > 0;
}

/* engine_meet.c: what meetings a plan has; then, collective, what it takes to hold them. */
void ls_engine_note_meetings(ls_engine *e, const ls_plan *p, bool training);
ls_status ls_engine_make_meeting(ls_engine *e, ls_err *err) LS_MUST_CHECK;

/* Samples [first, last) of lane `lane` when n samples are cut into n_lanes. */
static inline size_t ls_engine_cut(size_t n, int n_lanes, int lane) {
    return n * (size_t)lane / (size_t)n_lanes;
}

#endif
