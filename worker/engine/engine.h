/*
 * The engine that each rank runs: a model compiled with losses, metrics and an optimizer, the lanes that this rank
 * owns, and the all-reduce. The training loop above it (trainer/fit) decides what happens; the engine makes a step
 * happen.
 *
 * Calls marked "collective" must be made by all ranks with the same arguments (but for what is local by nature); they
 * return the same status on every rank.
 */
#ifndef LS_WORKER_ENGINE_H
#define LS_WORKER_ENGINE_H

#include "worker/engine/compile.h"

typedef struct ls_engine ls_engine;
struct ls_team; /* worker/reduce/team.h */

/* Where samples come from. Arrays are numbered: the model's inputs, then the targets, then sample weights if any.
 * fill writes samples index[0..n) of an array, converted and scaled: f32, or int32 where the model's input or the loss
 * wants class numbers (want says which). Called from several threads at once when lanes run side by side.
 * expect (may be NULL) says that samples index[0..n) will be filled from after those said before; it does not wait for
 * them. The list stays as it is until they have been. */
typedef struct ls_feed {
    void *self;
    size_t n_samples;
    ls_status (*fill)(void *self, int array, ls_dtype want, const uint32_t *index, size_t n, void *out, ls_err *err);
    void (*expect)(void *self, const uint32_t *index, size_t n);
    bool has_sample_weights;
} ls_feed;

typedef struct ls_engine_options {
    int64_t batch;           /* global batch size */
    int64_t eval_batch;      /* global batch of evaluation; 0: as batch */
    int lanes;               /* 0: lanes_per_rank times the ranks */
    int lanes_per_rank;      /* without lanes: computed one after the other, by all threads; 0: one */
    ls_dtype compute;        /* LS_F32, LS_BF16 */
    bool direct_convolution; /* no Winograd */
    uint64_t seed;
    size_t bucket_bytes;                 /* 0: chosen by measurement in the first steps */
    int n_threads;                       /* 0: from the cores that this rank is bound to */
    int64_t last_batch, last_eval_batch; /* the sizes of the last batches of an epoch, so that their plans are compiled
                                            beforehand; 0: as the others */
    bool dense_tables;  /* gradients of embedding tables are added whole, not just the rows that were used; the bits
                           are the same */
    bool wire_bfloat16; /* gradients are rounded to bfloat16, which is how they go between nodes (reducer.h) */
    bool inference;     /* no training plans, no optimizer */
    bool input_gradients;
    bool sample_weights;  /* the feed has one weight a sample and output */
    bool sync_batch_norm; /* as if every BatchNormalization were synchronized */
} ls_engine_options;

/* Collective. The model and the compile stay the caller's and must outlive the engine. Weights start at their initial
 * values (a function of the seed). */
ls_status ls_engine_create(ls_engine **out, struct ls_team *team, ls_model *model, const ls_compile *compile,
                           const ls_engine_options *options, ls_err *err) LS_MUST_CHECK;
void ls_engine_destroy(ls_engine *e);

/* The sums of one step or of a whole evaluation: for each loss and metric its doubles, added over all samples of all
 * lanes in a fixed order: the same bits on every rank and on any number of ranks (with lanes). */
int ls_engine_n_sums(const ls_engine *e);
int ls_engine_loss_sums_at(const ls_engine *e, int output); /* 2 doubles: sum of weighted losses, sum of weights */
int ls_engine_metric_sums_at(const ls_engine *e, int metric);
/* Total loss (weighted over outputs, penalties included) and metric results from sums. */
double ls_engine_loss(const ls_engine *e, const double *sums);
double ls_engine_metric(const ls_engine *e, int metric, const double *sums);

/* What all ranks know after a step. */
typedef struct ls_verdict {
    bool non_finite; /* loss or gradient */
    const ls_weight
        *non_finite_weight; /* the weight nearest the output whose gradient is not finite; NULL: the loss only */
    unsigned flags;         /* OR over ranks of what each passed in */
    int odd_rank;           /* the lowest rank whose digest (ls_engine_say_digest) is not rank 0's; -1: none */
    double *sums;           /* (n_sums) of this step; the caller's array */
} ls_verdict;

/* Collective. One optimizer step over the samples index[0..n) (n <= batch; the same on every rank). `step` is the
 * global step number from 0 (what random draws depend on). flags are any bits a rank wants all to know (stop requests).
 */
ls_status ls_engine_train_step(ls_engine *e, const ls_feed *feed, const uint32_t *index, size_t n, uint64_t step,
                               double learning_rate, unsigned flags, ls_verdict *verdict, ls_err *err) LS_MUST_CHECK;

/* Collective. Adds the sums of samples index[0..n), n <= eval_batch, in inference mode. */
ls_status ls_engine_evaluate_step(ls_engine *e, const ls_feed *feed, const uint32_t *index, size_t n, unsigned flags,
                                  ls_verdict *verdict, ls_err *err) LS_MUST_CHECK;

/* Collective. Predictions of output o for samples index[0..n), n <= eval_batch, complete on rank 0: out[o] is (n, shape
 * of the output) f32 there and ignored elsewhere. */
ls_status ls_engine_predict_step(ls_engine *e, const ls_feed *feed, const uint32_t *index, size_t n, float *const *out,
                                 ls_err *err) LS_MUST_CHECK;

/* Local: a step over samples index[0..n) will come, after those said before: tells the feed which of them are this
 * rank's. */
void ls_engine_expect(const ls_engine *e, const ls_feed *feed, const uint32_t *index, size_t n);

/*
 * Weights (slot -1) and optimizer slots in Keras's order. Local; between steps only.
 * get: weights are right on every rank; slots on rank 0 after ls_engine_gather. set: counts on rank 0 only, and for the
 * others after ls_engine_publish.
 */
void ls_engine_get(ls_engine *e, const ls_weight *w, int slot, float *out);
void ls_engine_set(ls_engine *e, const ls_weight *w, int slot, const float *in);
/* Collective. Optimizer slots that other nodes own come to rank 0's node. */
void ls_engine_gather(ls_engine *e);
/* Collective. Rank 0's weights and slots go to all. */
void ls_engine_publish(ls_engine *e);

/*
 * What stateful layers carry from one batch to the next, of training and of inference alike: n_elems floats, by layer
 * and by the sample's place in the global batch, and so the same on any number of ranks; 0: the model has none. Zero at
 * first. A batch smaller than the one before goes on with the first samples' states and leaves the others as they are.
 */
size_t ls_engine_n_state_elems(const ls_engine *e);
void ls_engine_reset_states(ls_engine *e);                    /* local, on all ranks alike: zeros */
void ls_engine_gather_states(ls_engine *e, float *out);       /* collective; out counts on rank 0 and may be NULL */
void ls_engine_publish_states(ls_engine *e, const float *in); /* collective: rank 0's */
/* Remembers them, and goes back to what was remembered. Local, on all ranks alike. */
void ls_engine_mark_states(ls_engine *e);
void ls_engine_return_states(ls_engine *e);

uint64_t ls_engine_iterations(const ls_engine *e); /* optimizer steps done, t of the next update less 1 */
void ls_engine_set_iterations(ls_engine *e, uint64_t t);

/* 64-bit hash of the parameter arena as this rank sees it. Local. */
uint64_t ls_engine_weights_hash(const ls_engine *e);
/* Local; all ranks alike: the next verdict compares what they say here. */
void ls_engine_say_digest(ls_engine *e, uint64_t digest);

/* What the last training step left in this rank's first lane, for tests that compare with other implementations: the
 * forward pass's output o in training mode, the gradient of a weight (Keras's order; without penalties and clipping)
 * and of input i (options.input_gradients; NULL when there is none). With one rank and one lane these are those of the
 * whole batch. */
const float *ls_engine_probe_output(const ls_engine *e, int o);
void ls_engine_probe_gradient(const ls_engine *e, const ls_weight *w, float *out);
const float *ls_engine_probe_input_gradient(const ls_engine *e, int i);

/* A way to reduce gradients, and what it cost: a step's time in the all-reduce, the mean over ranks. */
typedef struct ls_way {
    size_t bucket_bytes;
    bool newest_first; /* of the buckets that are ready: what the next forward pass needs first, not what waits longest
                        */
    int fan_in;        /* nodes, or groups of nodes, that exchange directly */
    double exposed_ms;
} ls_way;
/* Which way is used, and which ones the first steps have tried out. */
enum { LS_TUNED_SIZES = 4, LS_TUNED_MOST = 9 };
typedef struct ls_tuned {
    ls_way used;
    int n_tried; /* 0: there was nothing to choose from */
    ls_way tried[LS_TUNED_MOST];
    int n_steps; /* that it took */
} ls_tuned;
/* Whether it has been chosen since the last call; what is used now in any case. */
bool ls_engine_tuned(ls_engine *e, ls_tuned *out);
bool ls_engine_is_tuning(const ls_engine *e); /* the same on all ranks */

/* For bench and logs. */
typedef struct ls_engine_info {
    int lanes, lanes_here, n_threads, n_buckets;
    bool lanes_meet; /* for what spans the batch: the activations of all of a rank's lanes are there at a time */
    double compile_ms;
    size_t activation_bytes; /* this rank's plans, with scratch and weights in other forms */
    size_t gradient_bytes;   /* this rank's, of as many lanes as it keeps apart at a time */
    size_t weights_bytes;    /* once a node */
    size_t optimizer_bytes;  /* spread over all ranks */
    const char *isa;
    double flops_per_sample; /* training step, 2 a multiply-add */
} ls_engine_info;
void ls_engine_describe(const ls_engine *e, ls_engine_info *info);
/* Profiling of training steps on this rank: on, from zero, or off. Between steps. */
void ls_engine_profile(ls_engine *e, bool on);
typedef struct ls_engine_profile_row {
    const char *label, *layer; /* layer: "" for what belongs to none */
    double ms, gflops;         /* in all; gflops of work in all (divide by the time) */
} ls_engine_profile_row;
/*
 * Since profiling was turned on: the calls of the full batch's training plan in the order in which they run (of the
 * first of the lanes that run side by side), then what is no call: data, merging lanes' gradients, adding up over ranks
 * with the optimizer's update, waiting for others, and the rest, with which the rows add up to the time of the steps.
 * Returns the number of rows; *out is the caller's to free().
 */
int ls_engine_profile_rows(ls_engine *e, ls_engine_profile_row **out, uint64_t *n_steps);
/* What the all-reduce has cost this rank since the last call, in nanoseconds: messages between operators, waiting for
 * ranks of its node, waiting for other nodes, and work (adding, and the optimizer's updates). */
typedef struct ls_engine_times {
    int64_t talk_ns, late_ns, network_ns, work_ns;
} ls_engine_times;
ls_engine_times ls_engine_take_times(ls_engine *e);

#endif
