/*
 * Batch normalisation over one axis: y = gamma (x - mean) / sqrt(variance + epsilon) + beta.
 *
 * Training takes mean and variance of the lane's rows and leaves them, times run->stat_scale, as the "gradients" of the
 * moving statistics; inference and frozen layers take the moving statistics as constants. Synchronized layers of a
 * batch that is cut into lanes take mean and variance of the whole batch: oneDNN normalises with them, and the sums and
 * the backward pass, of which its primitive knows the lane's own alone, are batch_norm_sync.c's.
 */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/batch_norm.h"
#include "worker/ops/ops_common.h"

typedef struct bn_weights {
    ls_weight *gamma, *beta, *mean, *variance; /* gamma, beta: NULL when the layer has none */
} bn_weights;

static bn_weights weights_of(const ls_node *node) {
    const ls_batch_norm_attr *a = node->attr;
    bn_weights w = {0};
    int i = 0;
    w.gamma = a->scale ? node->weights[i++] : NULL;
    w.beta = a->center ? node->weights[i++] : NULL;
    w.mean = node->weights[i++];
    w.variance = node->weights[i];
    return w;
}

static bool uses_batch(const ls_plan *p, const ls_node *node) {
    return ls_plan_training(p) && !((const ls_batch_norm_attr *)node->attr)->frozen;
}

/* Whether mean and variance span lanes. */
static bool spans_lanes(const ls_plan *p, const ls_node *node) {
    const ls_batch_norm_attr *a = node->attr;
    return uses_batch(p, node) && ls_plan_cut(p) && (a->sync || ls_plan_sync_batch_norm(p));
}

static const ls_tensor *result_of(const ls_plan *p, const ls_node *node) {
    const ls_node *fused = ls_plan_fused(p, node);
    return fused != NULL ? fused->out[0] : node->out[0];
}

/* The array as (rows, before, C, after). */
typedef struct bn_shape {
    int64_t rows, before, channels, after;
} bn_shape;

static bn_shape shape_of(const ls_plan *p, const ls_node *node) {
    const ls_batch_norm_attr *a = node->attr;
    const ls_shape *shape = &node->in[0]->shape;
    bn_shape s = {ls_plan_rows(p, node->in[0]), 1, shape->dim[a->axis], 1};
    for (int i = 0; i < shape->rank; i++) {
        s.before *= i < a->axis ? shape->dim[i] : 1;
        s.after *= i > a->axis ? shape->dim[i] : 1;
    }
    return s;
}

/* Four axes as oneDNN's kernels know them: channels last as (rows, C, 1, before), otherwise (rows before, C, 1, after).
 */
static ls_batch_norm_desc describe(const ls_plan *p, const ls_node *node) {
    const ls_batch_norm_attr *a = node->attr;
    bn_shape s = shape_of(p, node);
    int64_t c = s.channels;
    ls_batch_norm_desc d = {.epsilon = a->epsilon,
                            .scale = a->scale,
                            .shift = a->center,
                            .relu = ls_plan_fused(p, node) != NULL,
                            .given_stats = a->frozen || spans_lanes(p, node)};
    if (s.after == 1) {
        d.src = (ls_md){.rank = 4, .dim = {s.rows, c, 1, s.before}, .stride = {s.before * c, 1, s.before * c, c}};
    } else {
        d.src =
            (ls_md){.rank = 4, .dim = {s.rows * s.before, c, 1, s.after}, .stride = {c * s.after, s.after, s.after, 1}};
    }
    d.src.dtype = ls_plan_compute(p);
    return d;
}

/* ---- moving statistics ---- */

typedef struct stat_state {
    int64_t channels;
    float variance_factor;
} stat_state;

static void stat_kernel(const ls_call *call, const ls_run *run) {
    const stat_state *s = call->state;
    const float *mean = call->args[0].p, *variance = call->args[1].p;
    float *to_mean = call->args[2].p, *to_variance = call->args[3].p;
    for (int64_t c = 0; c < s->channels; c++) {
        to_mean[c] = mean[c] * run->stat_scale;
        to_variance[c] = variance[c] * s->variance_factor * run->stat_scale;
    }
}

static void emit_statistics(ls_plan *p, const ls_node *node, const bn_weights *w, ls_ref mean, ls_ref variance) {
    const ls_batch_norm_attr *a = node->attr;
    bn_shape shape = shape_of(p, node);
    double n = (double)(shape.rows * shape.before * shape.after);
    stat_state *s = ls_xcalloc(1, sizeof *s);
    s->channels = shape.channels;
    s->variance_factor = a->unbiased && n > 1 ? (float)(n / (n - 1)) : 1.0f;
    ls_ref to_mean = ls_plan_dweight(p, w->mean), to_variance = ls_plan_dweight(p, w->variance);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "batch_norm.statistics", node, stat_kernel, s, NULL);
    ls_call_arg(c, LS_READ, mean);
    ls_call_arg(c, LS_READ, variance);
    ls_call_arg(c, LS_WRITE, to_mean);
    ls_call_arg(c, LS_WRITE, to_variance);
}

/* ---- forward ---- */

typedef struct bn_note {
    ls_ref src, mean, variance, workspace;
    ls_ref sums; /* of a synchronized layer; NONE */
} bn_note;

/* The geometry of the sums over all lanes. */
static ls_bn_sync sync_of(const ls_plan *p, const ls_node *node) {
    const ls_batch_norm_attr *a = node->attr;
    bn_shape s = shape_of(p, node);
    return (ls_bn_sync){.node = node,
                        .dtype = ls_plan_compute(p),
                        .n = (size_t)(s.rows * s.before * s.channels * s.after),
                        .channels = (size_t)s.channels,
                        .after = (size_t)s.after,
                        .epsilon = a->epsilon,
                        .unbiased = a->unbiased,
                        .relu = ls_plan_fused(p, node) != NULL};
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    bn_weights w = weights_of(node);
    ls_batch_norm_desc d = describe(p, node);
    ls_dtype dtype = ls_plan_compute(p);
    bool batch = uses_batch(p, node), together = spans_lanes(p, node);
    ls_prim *prim;
    ls_pass pass = ls_plan_training(p) && !together ? LS_PASS_TRAINING : LS_PASS_INFERENCE;
    LS_TRY(ls_prim_batch_norm(&prim, &d, pass, ls_plan_threads(p), err));
    for (int i = 0; i < node->n_weights; i++) {
        ls_plan_weight_layout(p, node->weights[i], NULL);
    }
    bn_note *note = ls_xcalloc(1, sizeof *note);
    ls_plan_remember(p, node, note);
    size_t n_bytes = (size_t)shape_of(p, node).channels * sizeof(float);
    note->src = ls_plan_in(p, node->in[0], dtype);
    note->mean = batch ? ls_plan_temp(p, n_bytes) : ls_plan_weight(p, w.mean);
    note->variance = batch ? ls_plan_temp(p, n_bytes) : ls_plan_weight(p, w.variance);
    if (together) {
        ls_bn_sync s = sync_of(p, node);
        note->sums = ls_bn_emit_statistics(p, &s, note->src, note->mean, note->variance, w.mean, w.variance);
    }
    size_t workspace = ls_prim_arg_bytes(prim, LS_ARG_WORKSPACE);
    if (workspace) {
        note->workspace = ls_plan_temp(p, workspace);
    }
    ls_prim_refs refs = {0};
    refs.of[LS_ARG_SRC] = note->src;
    refs.of[LS_ARG_MEAN] = note->mean;
    refs.of[LS_ARG_VARIANCE] = note->variance;
    refs.of[LS_ARG_WORKSPACE] = note->workspace;
    if (w.gamma != NULL) {
        refs.of[LS_ARG_SCALE] = ls_plan_weight(p, w.gamma);
    }
    if (w.beta != NULL) {
        refs.of[LS_ARG_SHIFT] = ls_plan_weight(p, w.beta);
    }
    refs.of[LS_ARG_DST] = ls_plan_out(p, result_of(p, node), dtype);
    ls_ops_emit_prim(p, LS_PHASE_FORWARD, "batch_norm.forward", node, prim, &refs, 0);
    if (batch && !together) {
        emit_statistics(p, node, &w, note->mean, note->variance);
    }
    return LS_OK;
}

/* ---- backward ---- */

static ls_ref gradient_of(ls_plan *p, const ls_weight *w, size_t n_bytes) {
    return w->trainable ? ls_plan_dweight(p, w) : ls_plan_temp(p, n_bytes);
}

/* The backward pass of a synchronized layer. */
static void backward_together(ls_plan *p, const ls_node *node, const bn_note *note, ls_ref diff_dst) {
    bn_weights w = weights_of(node);
    ls_bn_sync s = sync_of(p, node);
    const ls_ref none = {0};
    ls_bn_gradients g = {.diff_dst = diff_dst, .src = note->src, .mean = note->mean, .variance = note->variance};
    g.sums = note->sums;
    g.gamma = w.gamma != NULL ? ls_plan_weight(p, w.gamma) : none;
    g.beta = w.beta != NULL ? ls_plan_weight(p, w.beta) : none;
    g.diff_gamma = w.gamma != NULL && w.gamma->trainable ? ls_plan_dweight(p, w.gamma) : none;
    g.diff_beta = w.beta != NULL && w.beta->trainable ? ls_plan_dweight(p, w.beta) : none;
    g.diff_src = ls_plan_wants_grad(p, node->in[0]) ? ls_plan_din(p, node->in[0], s.dtype) : none;
    ls_bn_emit_backward(p, &s, &g);
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    const bn_note *note = ls_plan_recall(p, node);
    bn_weights w = weights_of(node);
    ls_batch_norm_desc d = describe(p, node);
    ls_dtype dtype = ls_plan_compute(p);
    ls_prim_refs refs = {0};
    refs.of[LS_ARG_DIFF_DST] = ls_plan_dout(p, result_of(p, node), dtype);
    if (!ls_ref_some(refs.of[LS_ARG_DIFF_DST])) {
        return LS_OK;
    }
    if (ls_ref_some(note->sums)) {
        backward_together(p, node, note, refs.of[LS_ARG_DIFF_DST]);
        return LS_OK;
    }
    ls_prim *prim;
    LS_TRY(ls_prim_batch_norm(&prim, &d, LS_PASS_BACKWARD_DATA, ls_plan_threads(p), err));
    size_t n_bytes = (size_t)shape_of(p, node).channels * sizeof(float);
    refs.of[LS_ARG_SRC] = note->src;
    refs.of[LS_ARG_MEAN] = note->mean;
    refs.of[LS_ARG_VARIANCE] = note->variance;
    refs.of[LS_ARG_WORKSPACE] = note->workspace;
    if (w.gamma != NULL) {
        refs.of[LS_ARG_SCALE] = ls_plan_weight(p, w.gamma);
        refs.of[LS_ARG_DIFF_SCALE] = gradient_of(p, w.gamma, n_bytes);
    }
    if (w.beta != NULL) {
        refs.of[LS_ARG_SHIFT] = ls_plan_weight(p, w.beta);
        refs.of[LS_ARG_DIFF_SHIFT] = gradient_of(p, w.beta, n_bytes);
    }
    refs.of[LS_ARG_DIFF_SRC] = ls_plan_wants_grad(p, node->in[0])
                                   ? ls_plan_din(p, node->in[0], dtype)
                                   : ls_plan_temp(p, ls_prim_arg_bytes(prim, LS_ARG_DIFF_SRC));
    ls_ops_emit_prim(p, LS_PHASE_BACKWARD, "batch_norm.backward", node, prim, &refs, 0);
    return LS_OK;
}

static bool can_fuse(const ls_plan *p, const ls_node *node, const ls_node *activation) {
    (void)p;
    (void)node;
    return ls_act_is_plain_relu(activation);
}

const ls_operator ls_op_batch_norm = {"batch_norm", forward, backward, can_fuse, NULL};
