/* The inside of a plan, shared by plan.c (compiling), plan_place.c (memory) and plan_run.c (running). */
#ifndef LS_WORKER_PLAN_INTERNAL_H
#define LS_WORKER_PLAN_INTERNAL_H

#include "worker/plan/arena.h"
#include "worker/plan/heads.h"
#include "worker/plan/operator.h"
#include "worker/plan/plan.h"

typedef struct {
    size_t n_asked, n_bytes; /* the same in whole cache lines, with LS_GUARD_BYTES */
    bool persistent;         /* lives as long as the plan */
    bool external;           /* written before the forward pass (inputs, targets) */
    bool kept;               /* read after the last pass (outputs, sums) */
    bool of_lane;            /* lives from one stretch to another: every lane has its own */
    int first, last;         /* timeline: prepare, forward, backward calls; -1: not used */
    size_t offset;           /* in the arena, or in the persistent block */
} plan_buffer;

typedef struct {
    ls_call *calls;
    int n, cap;
} call_list;

typedef struct {
    ls_ref ref;
    ls_dtype dtype;
    ls_ref addend; /* a gradient's: has to be added to ref; NONE: nothing */
    ls_ref other;  /* the same value converted to the other floating type; NONE until asked for */
} plan_value;

/* A contribution that waits to be added when the node's backward is complete. */
typedef struct {
    const ls_tensor *tensor; /* or */
    const ls_weight *weight;
    ls_ref ref;
    ls_dtype dtype;
} contribution;

/* A weight that has been prepared in another form. */
typedef struct {
    const ls_weight *weight;
    const ls_layout *layout;
    ls_dtype dtype;
    ls_ref ref;
} weight_copy;

/* The first n floats of a weight's gradient are complete, and its value is no longer read, after a backward call. */
typedef struct {
    int weight; /* id */
    int call;
    size_t n;
} gradient_piece;

struct ls_plan {
    const ls_model *model;
    ls_arena *arena;
    ls_plan_options options;
    call_list list[3]; /* by ls_phase */
    int *meetings;     /* (n_meetings) calls, counted over forward and backward */
    int n_meetings, cap_meetings;
    int *stretches; /* (n_stretches + 1) first calls, counted likewise; the end */
    int n_stretches;
    int n_lanes;     /* that go through them together */
    int *written_in; /* by weight id: stretch that writes the gradient; -1: none */
    plan_buffer *buffers;
    int n_buffers, cap_buffers;
    plan_value *values;     /* by tensor id */
    plan_value *gradients;  /* by tensor id */
    bool *wants;            /* by tensor id: a gradient is of use */
    const ls_node **fused;  /* by node id: the last node that the node computes besides itself */
    bool *absorbed;         /* by node id: computed by another node, or differentiated by the loss */
    void **notes;           /* by node id */
    bool *written;          /* by weight id: the gradient has a first contribution */
    bool *waits;            /* by weight id: ls_plan_waits */
    int *ready;             /* by weight id */
    gradient_piece *pieces; /* those of a weight one after the other */
    int n_pieces, cap_pieces;
    bool *is_ready_call; /* by backward call */
    weight_copy *copies;
    int n_copies, cap_copies;
    contribution *pending;
    int n_pending, cap_pending;
    ls_phase phase; /* being compiled */

    ls_ref *inputs, *targets, *sample_weights, *outputs;
    const ls_tensor **logits; /* by output */
    ls_ref sums;

    uint64_t n_runs[3];   /* of a phase while profiling */
    int64_t *spent_ns[3]; /* by phase and call, while profiling; else NULL */

    /* The arena: memory that all lanes use, then that of each. */
    size_t shared_bytes, lane_bytes, persistent_bytes;
    int lane;
    ls_arg **lane_args; /* that point into a lane's memory */
    int n_lane_args;
    char *arena_base, *persistent_base;
    float *weights_base, *dweights_base;
    struct {
        ls_arg *arg;
        size_t offset; /* floats */
    } * gradient_args;
    int n_gradient_args;
};

/* A call that is gone once the plan is bound would be a bug: these look buffers and arguments up. */
void *ls_plan_resolve(const ls_plan *p, ls_ref ref);
void ls_plan_find_lifetimes(ls_plan *p);
void ls_plan_find_meetings(ls_plan *p);
void ls_plan_find_stretches(ls_plan *p);                 /* once lifetimes and meetings are known */
const ls_call *ls_plan_call_at(const ls_plan *p, int i); /* i: of forward and backward taken as one list */
void ls_plan_place_buffers(ls_plan *p);
/* Places the buffers that lanes share, or those that each has; returns the bytes that they take. */
size_t ls_plan_place(ls_plan *p, bool of_lane);
int ls_plan_new_buffer(ls_plan *p, size_t n_bytes);

/* Elementwise helpers of the plan itself. */
void ls_plan_emit_convert(ls_plan *p, ls_phase phase, ls_ref from, ls_dtype from_dtype, ls_ref to, size_t n);
void ls_plan_emit_add(ls_plan *p, ls_ref a, ls_ref b, ls_ref to, ls_dtype dtype, size_t n);
void ls_plan_emit_zero(ls_plan *p, ls_phase phase, ls_ref to, size_t n_bytes);

#endif
