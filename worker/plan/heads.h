/*
 * Heads: the losses and metrics that a plan computes at the end of its forward pass, and the gradients that it starts
 * the backward pass with.
 *
 * A plan leaves `n_sums` doubles: for each output's loss {sum of sample-weighted losses, samples}, then each metric's
 * own sums. They are added over lanes and steps by the caller.
 */
#ifndef LS_WORKER_HEADS_H
#define LS_WORKER_HEADS_H

#include "worker/loss/loss.h"
#include "worker/metric/metric.h"
#include "worker/plan/plan.h"

typedef struct ls_heads {
    int n_outputs;              /* of the model */
    const ls_loss *losses;      /* (n_outputs) */
    const double *loss_weights; /* (n_outputs) */
    int n_metrics;
    const ls_metric *metrics;
    const int *metric_output; /* (n_metrics) the output that each looks at */
    bool sample_weights;      /* one f32 a sample and output rides along */
    int n_sums;
    int *loss_at;   /* (n_outputs) index of the loss's two doubles among the sums */
    int *metric_at; /* (n_metrics) */
} ls_heads;

/* Lays out the sums; the arrays given are borrowed. */
ls_heads *ls_heads_create(int n_outputs, const ls_loss *losses, const double *loss_weights, int n_metrics,
                          const ls_metric *metrics, const int *metric_output, bool sample_weights);
void ls_heads_destroy(ls_heads *heads);

/* What the target of an output has to be: LS_I32 (one class number a row, the last axis gone) or LS_F32. */
ls_dtype ls_heads_target_dtype(const ls_heads *heads, int output);
/* Elements of one sample's target. */
size_t ls_heads_target_elems(const ls_heads *heads, const ls_tensor *output, int i);

/*
 * Whether the output's loss is a mean over the time steps that its mask lets count, not over all: as in Keras 2.11 to
 * 2.15, total / valid times the masked losses, both counted over the whole batch: lanes meet for it. A batch of which
 * no step counts has the loss 0. Metrics take the mask as weights. What a loss ignores (ignore_class) is left out in
 * the same way, of the loss and of losses used as metrics.
 *
 * Source: tf_keras/utils/losses_utils.py, apply_valid_mask.
 */
bool ls_heads_masked(const ls_tensor *output);

/* Adds the loss and metric calls of output i: forward calls that write sums, and, in training, the backward call that
 * starts the gradient. `logits` is the tensor whose softmax or sigmoid the output is and whose gradient the loss writes
 * itself; NULL: the loss works on the output. */
ls_status ls_heads_emit(const ls_heads *heads, ls_plan *p, int i, const ls_tensor *output, const ls_tensor *logits,
                        ls_ref target, ls_ref weight, ls_ref sums, ls_err *err) LS_MUST_CHECK;

#endif
