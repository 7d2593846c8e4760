/*
 * A plan: a model compiled for one number of samples, one precision and one mode.
 *
 * Compile once, run many. A plan is three flat lists of calls: prepare (once a step: weights brought into the form that
 * kernels want), forward, backward. Every buffer is placed beforehand in one arena by a liveness plan over the timeline
 * forward + backward; a step walks the lists and allocates nothing. A call is a function pointer, its state, and
 * pointers that were resolved when the plan was bound to memory.
 *
 * Three stages:  create (operators add calls with symbolic references)  ->  bind (references become pointers)  ->  run.
 *
 * Values are channels-last arrays of LS_F32, LS_BF16 or LS_I32: (rows of the batch, shape). Gradients have the same
 * form as the value. Loss gradients are those of the mean over the *global* batch (ls_run.grad_scale), so that adding
 * lanes gives the gradient of the step.
 *
 * All functions are local; none communicates.
 */
#ifndef LS_WORKER_PLAN_H
#define LS_WORKER_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/model/model.h"

typedef struct ls_plan ls_plan;
typedef struct ls_call ls_call;
struct ls_arena; /* worker/plan/arena.h */

/* What a call can point at; resolved at bind. */
typedef enum { LS_REF_NONE, LS_REF_BUFFER, LS_REF_WEIGHT, LS_REF_DWEIGHT, LS_REF_MARKS } ls_ref_kind;
typedef struct ls_ref {
    ls_ref_kind kind;
    int index;     /* of the buffer or the weight */
    size_t offset; /* bytes from its start */
} ls_ref;
static inline bool ls_ref_some(ls_ref r) {
    return r.kind != LS_REF_NONE;
}

/* Lanes that go through the same plan one after the other and whose gradients are then added: what makes a gradient may
 * keep its factors until the last of them, and write the sum (ls_plan_waits). */
typedef struct ls_turn {
    int at, of;    /* this lane is number `at`; `of` at most 1: it is on its own */
    ptrdiff_t sum; /* floats from where the lane's own gradient would be written to the place of the sum of all */
} ls_turn;

enum { LS_RUN_NEAR = 3 };

/* What a run is about; the same for all calls of one lane's pass. */
typedef struct ls_run {
    int64_t n_samples;
    int n_threads;    /* that a kernel may use */
    float grad_scale; /* 1 / samples of the global batch (a lane writes d(mean over the batch)) */
    float stat_scale; /* samples of this lane / samples of the global batch */
    uint64_t seed;
    uint64_t step;                /* global step number from 0: with the sample's index, what random draws depend on */
    const uint32_t *sample_index; /* (n_samples) position in the data set */
    float *const *states; /* (model->n_states) what stateful layers go on with, and leave: (n_samples, state_elems) */
    ls_turn turn;
    /* Floats from where a weight's gradient is written to what is used with it as soon as it is complete, the weight
     * itself and the like: worth bringing into the caches. 0: nothing. */
    ptrdiff_t near[LS_RUN_NEAR];
} ls_run;

typedef void (*ls_kernel)(const ls_call *call, const ls_run *run);

typedef enum { LS_READ = 1, LS_WRITE = 2, LS_READWRITE = 3 } ls_access;
typedef struct ls_arg {
    void *p; /* valid while running */
    ls_ref ref;
    ls_access access;
} ls_arg;

enum { LS_CALL_ARGS = 20 };
struct ls_call {
    ls_kernel run;
    void *state;             /* owned by the plan */
    void (*destroy)(void *); /* of state; NULL: free() */
    int n_args;
    ls_arg args[LS_CALL_ARGS];
    const char *label;   /* "conv.forward" */
    const ls_node *node; /* NULL: loss, conversion */
    double flops;        /* of one run; 0 when not counted */
    size_t n_met;        /* a meeting point: doubles of args[0] that all lanes add up; 0: an ordinary call */
};

typedef enum { LS_PHASE_PREPARE, LS_PHASE_FORWARD, LS_PHASE_BACKWARD } ls_phase;

/* ---- for operators: what is being compiled ---- */

bool ls_plan_training(const ls_plan *p); /* forward in training mode, backward follows */
int64_t ls_plan_samples(const ls_plan *p);
int64_t ls_plan_rows(const ls_plan *p, const ls_tensor *t); /* samples * t->rows */
size_t ls_plan_elems(const ls_plan *p, const ls_tensor *t); /* rows * elements of the shape */
ls_dtype ls_plan_compute(const ls_plan *p); /* LS_BF16 in mixed precision, else LS_F32: what heavy operators use */
int ls_plan_threads(const ls_plan *p);      /* that kernels will be given */
bool ls_plan_direct_convolution(const ls_plan *p); /* see ls_plan_options */
bool ls_plan_cut(
    const ls_plan *p); /* the samples are a part of the batch: what spans the batch takes a meeting point */
bool ls_plan_sync_batch_norm(const ls_plan *p);
const ls_node *ls_plan_fused(const ls_plan *p, const ls_node *node); /* see ls_operator.can_fuse; NULL: nothing */
bool ls_plan_absorbed(const ls_plan *p, const ls_node *node);        /* another node computes it */

/* ---- for operators: values ---- */

/* The value of a tensor as dtype; adds a conversion call when it is stored otherwise. */
ls_ref ls_plan_in(ls_plan *p, const ls_tensor *t, ls_dtype dtype);
/* How the value is stored now: an operator that takes either uses this to avoid a conversion. */
ls_dtype ls_plan_stored(const ls_plan *p, const ls_tensor *t);
/* The buffer of an output; called once by its producer. */
ls_ref ls_plan_out(ls_plan *p, const ls_tensor *t, ls_dtype dtype);
/* The output is other memory under another name (Flatten, Dropout at inference): no copy. */
void ls_plan_out_view(ls_plan *p, const ls_tensor *t, ls_ref same, ls_dtype dtype);

/* Memory of n_bytes that lives from its first write to its last read (workspaces, masks, scratch), or for ever (weights
 * in another form; zeroed at bind). */
ls_ref ls_plan_temp(ls_plan *p, size_t n_bytes);
ls_ref ls_plan_persistent(ls_plan *p, size_t n_bytes);
static inline ls_ref ls_ref_at(ls_ref r, size_t more_bytes) {
    r.offset += more_bytes;
    return r;
}

/* What forward leaves for backward: one pointer a node, owned by the plan (freed with free()). */
void ls_plan_remember(ls_plan *p, const ls_node *node, void *note);
void *ls_plan_recall(const ls_plan *p, const ls_node *node);

/* ---- for operators: gradients (in backward only) ---- */

/* Whether a gradient with respect to t is of any use (weights lie before it, or the caller asked for input gradients).
 */
bool ls_plan_wants_grad(const ls_plan *p, const ls_tensor *t);
/* The complete gradient of an output; kind NONE when nothing after it contributed. */
ls_ref ls_plan_dout(ls_plan *p, const ls_tensor *t, ls_dtype dtype);
/* The same as a sum that nobody has taken yet: *second is NONE, or has to be added to what is returned. */
ls_ref ls_plan_dout_pair(ls_plan *p, const ls_tensor *t, ls_dtype dtype, ls_ref *second);
/* Whether the memory of that gradient (of a pair, the first) is used by nobody else later, so that it may be changed in
 * place. */
bool ls_plan_dout_exclusive(const ls_plan *p, const ls_tensor *t);
/* Where to write (overwrite) this node's contribution to an input's gradient. Several contributions are added by the
 * plan in a fixed order. Call once for each input slot. */
ls_ref ls_plan_din(ls_plan *p, const ls_tensor *t, ls_dtype dtype);
/* The contribution is memory that exists already (views, Add). */
void ls_plan_din_view(ls_plan *p, const ls_tensor *t, ls_ref same, ls_dtype dtype);

/* ---- for operators: weights ---- */

/* How the weight lies in the arenas. The first plan that asks decides (wanted); NULL: Keras's order, plain. */
const ls_layout *ls_plan_weight_layout(ls_plan *p, ls_weight *w, const ls_layout *wanted);
/* The weight as it lies in the arena (f32). */
ls_ref ls_plan_weight(ls_plan *p, const ls_weight *w);
/* What nodes that prepare a weight in another form leave for others that want the same: NONE until it has been kept. */
ls_ref ls_plan_find_copy(const ls_plan *p, const ls_weight *w, const ls_layout *layout, ls_dtype dtype);
void ls_plan_keep_copy(ls_plan *p, const ls_weight *w, const ls_layout *layout, ls_dtype dtype, ls_ref copy);
/* Where to write (overwrite) this node's gradient of the weight, f32, in the arena's layout; for LS_WEIGHT_STAT the
 * batch's value times run->stat_scale. Contributions of several nodes are added. */
ls_ref ls_plan_dweight(ls_plan *p, const ls_weight *w);

/*
 * For a node that makes a weight's gradient in several calls, after each: the first n floats of it (dw: what
 * ls_plan_dweight gave) are complete. They are then added and applied while the next ones are made, unless other nodes
 * use the weight too. n does not fall; the last call's is all.
 */
void ls_plan_dweight_upto(ls_plan *p, const ls_node *node, const ls_weight *w, ls_ref dw, size_t n);

/*
 * For a node that is the only one to use the weight and touches few of its elements: the words of the gradient's blocks
 * (plan/arena.h), or NONE when the gradient is to be written whole. Whoever gets them makes marked blocks zero, clears
 * the words, and marks each block that it writes to; the memory has been zero at first. Before ls_plan_dweight.
 */
ls_ref ls_plan_marks(ls_plan *p, const ls_node *node, const ls_weight *w);

/*
 * For a node that can make the weight's gradient for several lanes at once, before ls_plan_dweight: how many there may
 * be (ls_turn.of); from then on its backward call, in a run with turns, writes the sum over all lanes in the turn of
 * the last, and nothing before. 1: it is to write each lane's gradient, as ever (the weight is used by others too, or
 * lanes are not computed one after the other).
 */
int ls_plan_wait(ls_plan *p, const ls_node *node, const ls_weight *w);
int ls_plan_turns(const ls_plan *p); /* most lanes that there may be, 1 at least */

/* Where a forward call adds a penalty on activations: one double, summed over the samples of the run; what is added is
 * multiplied by *scale. kind NONE: nobody wants a loss. */
ls_ref ls_plan_penalty(const ls_plan *p, double *scale);

/* ---- for operators: calls ---- */

/* Appends a call to a list; state is owned by the plan from here on. The pointer is valid until the next emit. */
ls_call *ls_plan_emit(ls_plan *p, ls_phase phase, const char *label, const ls_node *node, ls_kernel run, void *state,
                      void (*destroy)(void *));
/* Adds the next argument. A NONE reference gives a NULL pointer. */
void ls_call_arg(ls_call *call, ls_access access, ls_ref ref);
/* A meeting point (forward or backward): the calls before it leave n doubles in `values`, those after it read there the
 * sums over all lanes of the batch. Plans of one model meet alike, whatever their numbers of samples. */
void ls_plan_meet(ls_plan *p, ls_phase phase, const ls_node *node, ls_ref values, size_t n);

/* ---- for the engine ---- */

typedef struct ls_plan_options {
    int64_t n_samples;
    bool training;
    bool input_gradients; /* keep d loss / d input */
    ls_dtype compute;     /* LS_F32 or LS_BF16 */
    int n_threads;
    const struct ls_heads *heads; /* losses and metrics (worker/plan/heads.h); NULL: none, inference */
    bool direct_convolution;      /* not Winograd's algorithm, whose rounding is another (worker/ops/winograd.h) */
    bool cut;                     /* the batch has other samples than those of one pass (ls_plan_cut) */
    bool sync_batch_norm;         /* as if every BatchNormalization were synchronized */
    int turns;                    /* most lanes that will be computed one after the other (ls_turn); 0: one */
    int lanes;                    /* that may go through the plan in stretches (ls_plan_run_stretch); 0: one */
} ls_plan_options;

/* Compiles. */
ls_status ls_plan_create(ls_plan **out, const ls_model *model, struct ls_arena *arena, const ls_plan_options *options,
                         ls_err *err) LS_MUST_CHECK;
void ls_plan_destroy(ls_plan *p);

/* Bytes that bind wants: the arena, which plans that do not run at once may share, and what persists, a plan's own. */
size_t ls_plan_arena_bytes(const ls_plan *p);
size_t ls_plan_persistent_bytes(const ls_plan *p);
/* Resolves all references; arena is 64-byte aligned and stays the caller's. weights and dweights are the bases of the
 * parameter and gradient arenas. */
ls_status ls_plan_bind(ls_plan *p, void *arena, float *weights, float *dweights, ls_err *err) LS_MUST_CHECK;
/* Moves the gradient base (between lanes; cheap). */
void ls_plan_set_dweights(ls_plan *p, float *dweights);

/* Memory of inputs, targets (output i), sample weights, predictions, input gradients; valid after bind. */
void *ls_plan_input(ls_plan *p, int i);
void *ls_plan_target(ls_plan *p, int i);
float *ls_plan_sample_weight(ls_plan *p, int i); /* NULL when not used */
const float *ls_plan_output(ls_plan *p, int i);
const float *ls_plan_input_gradient(ls_plan *p, int i);

/* Sums that a pass leaves: 2 * n doubles, (sum, weight) for each loss and metric, in the order of ls_heads. */
double *ls_plan_sums(ls_plan *p);

/*
 * Meeting points cut forward and backward, taken as one list, into n_meetings + 1 segments. Lanes advance together:
 * segment k of all, then meeting k, where the n doubles at ls_plan_meeting(p, k, &n) become their sums over all lanes,
 * then segment k + 1. A lane that is the whole batch may run forward and backward as if there were no meetings.
 */
int ls_plan_n_meetings(const ls_plan *p);
double *ls_plan_meeting(const ls_plan *p, int k, size_t *n); /* values once bound; n is known before */
void ls_plan_run_segment(ls_plan *p, int k, const ls_run *run, void (*done)(void *context, int call), void *context);

/*
 * Lanes in turn, each in memory of its own: the calls of forward and backward, taken as one
 * list, are cut into stretches. All lanes go through a stretch, one after the other, before the next begins: calls with
 * large weights are stretches of their own, so that these come from memory once for all lanes, while calls with large
 * activations stay together, so that these are found in the caches. Plans with meeting points, and those where nothing
 * is to be gained, are one stretch. The bits are the same: a lane's calls are in the same order, and lanes follow on
 * each other in the same order wherever one is added to another. All that is written of a weight's gradient, and its
 * being ready, lie in one stretch: what makes it waits for the next lane in the same memory.
 */
int ls_plan_n_stretches(const ls_plan *p);
/* How many lanes go through it in this way, at most options.lanes: the memory of each is limited. 1: one stretch. */
int ls_plan_lanes_together(const ls_plan *p);
/* From now on calls, inputs, targets, sums and outputs are those of the lane with that number among those; cheap. */
void ls_plan_set_lane(ls_plan *p, int lane);
void ls_plan_run_stretch(ls_plan *p, int k, const ls_run *run, void (*done)(void *context, int call), void *context);
/* The stretch that writes the weight's gradient (of a statistic: in the forward pass, and nothing is done()); -1: none.
 */
int ls_plan_written_in(const ls_plan *p, const ls_weight *w);

void ls_plan_run_prepare(ls_plan *p, const ls_run *run);
void ls_plan_run_forward(ls_plan *p, const ls_run *run);
/* done(context, call) is called after each backward call that completes the gradient of some weight
 * (ls_plan_ready_call); NULL: nobody wants to know. */
void ls_plan_run_backward(ls_plan *p, const ls_run *run, void (*done)(void *context, int call), void *context);

/* Index of the backward call after which the weight's gradient is complete and its value is no longer read. */
int ls_plan_ready_call(const ls_plan *p, const ls_weight *w);
/* The same of its first n floats as they lie in the arena; and how many are so after a call, SIZE_MAX: all. */
int ls_plan_ready_call_upto(const ls_plan *p, const ls_weight *w, size_t n);
size_t ls_plan_ready_after(const ls_plan *p, const ls_weight *w, int call);
/* Whether a run with turns writes the weight's gradient in the turn of the last lane only, as the sum over all. */
bool ls_plan_waits(const ls_plan *p, const ls_weight *w);
/* Whether the plan writes a gradient (a statistic's value) for the weight. */
bool ls_plan_has_gradient(const ls_plan *p, const ls_weight *w);
int ls_plan_n_backward(const ls_plan *p);

/* For profiles, summaries and tests. */
int ls_plan_n_calls(const ls_plan *p, ls_phase phase);
const ls_call *ls_plan_call(const ls_plan *p, ls_phase phase, int i);
/* Profiling: from now on (off: no longer) each call's time is added up. Turning it on allocates and starts from zero.
 */
void ls_plan_profile(ls_plan *p, bool on);
int64_t ls_plan_spent_ns(const ls_plan *p, ls_phase phase, int i);
uint64_t ls_plan_profiled_runs(const ls_plan *p, ls_phase phase);

#endif
