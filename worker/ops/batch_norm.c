/*
 * Batch normalisation over one axis: y = gamma (x - mean) / sqrt(variance + epsilon) + beta.
 *
 * Training takes mean and variance of the lane's rows and leaves them, times run->stat_scale, as the "gradients" of the
 * moving statistics; inference and frozen layers take the moving statistics as constants. Synchronized layers of a
 * batch that is cut into lanes take mean and variance of the whole batch.
 *
 * A relu after it, and before that a sum with another value, as at the end of a residual block, are computed on the
 * way: the sum is then never written, and its gradient is masked where the gradient of the normalisation is read.
 */
#include "worker/ops/batch_norm.h"

#include <stdlib.h>

#include "common/memory.h"

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

/* ---- what it computes besides ---- */

/* The other input of a sum; NULL when it is no sum of this node's output and one value of the same shape. */
static const ls_tensor *added_by(const ls_node *node, const ls_node *sum) {
    if (sum->op != &ls_op_merge || ((const ls_merge_attr *)sum->attr)->kind != LS_MERGE_ADD || sum->n_in != 2) {
        return NULL;
    }
    const ls_tensor *mine = node->out[0], *other = sum->in[sum->in[0] == mine];
    bool same = other->rows == mine->rows && ls_shape_equal(&other->shape, &mine->shape);
    return same && other != mine && other->dtype == LS_F32 ? other : NULL;
}

/* What is added before the relu; NULL: nothing. */
static const ls_tensor *added(const ls_plan *p, const ls_node *node) {
    return ls_plan_fused(p, node) != NULL ? added_by(node, node->out[0]->consumers[0]) : NULL;
}

static bool has_relu(const ls_plan *p, const ls_node *node) {
    const ls_node *fused = ls_plan_fused(p, node);
    return fused != NULL && ls_act_is_plain_relu(fused);
}

/* A sum of two normalisations, as where a block's shortcut is a projection, is computed by the later one. */
static bool can_fuse(const ls_plan *p, const ls_node *node, const ls_node *last, const ls_node *next) {
    (void)p;
    if (ls_act_is_plain_relu(next)) {
        return !ls_act_is_plain_relu(last);
    }
    const ls_tensor *other = last == node ? added_by(node, next) : NULL;
    return other != NULL && (other->producer == NULL || other->producer->id < node->id);
}

static const ls_tensor *result_of(const ls_plan *p, const ls_node *node) {
    const ls_node *fused = ls_plan_fused(p, node);
    return fused != NULL ? fused->out[0] : node->out[0];
}

static ls_bn describe(const ls_plan *p, const ls_node *node) {
    const ls_batch_norm_attr *a = node->attr;
    const ls_shape *shape = &node->in[0]->shape;
    ls_bn bn = {.node = node,
                .dtype = ls_plan_compute(p),
                .n = ls_plan_elems(p, node->in[0]),
                .channels = (size_t)shape->dim[a->axis],
                .after = 1,
                .epsilon = a->epsilon,
                .unbiased = a->unbiased,
                .frozen = !uses_batch(p, node)};
    for (int i = a->axis + 1; i < shape->rank; i++) {
        bn.after *= (size_t)shape->dim[i];
    }
    bn.together = !bn.frozen && ls_plan_cut(p) && (a->sync || ls_plan_sync_batch_norm(p));
    if (has_relu(p, node)) {
        bn.relu = added(p, node) != NULL ? LS_NORM_FROM_DST : LS_NORM_FROM_SRC;
    }
    return bn;
}

/* ---- forward ---- */

typedef struct bn_note {
    ls_bn_values values;
    ls_ref dst;
    ls_ref sums; /* NONE: mean and variance are constants */
} bn_note;

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const ls_ref none = {0};
    const bn_weights w = weights_of(node);
    const ls_bn bn = describe(p, node);
    const ls_tensor *other = added(p, node);
    for (int i = 0; i < node->n_weights; i++) {
        ls_plan_weight_layout(p, node->weights[i], NULL);
    }
    bn_note *note = ls_xcalloc(1, sizeof *note);
    ls_plan_remember(p, node, note);
    ls_bn_values *v = &note->values;
    v->src = ls_plan_in(p, node->in[0], bn.dtype);
    v->gamma = w.gamma != NULL ? ls_plan_weight(p, w.gamma) : none;
    v->beta = w.beta != NULL ? ls_plan_weight(p, w.beta) : none;
    v->mean = bn.frozen ? ls_plan_weight(p, w.mean) : ls_plan_temp(p, bn.channels * sizeof(float));
    v->variance = bn.frozen ? ls_plan_weight(p, w.variance) : ls_plan_temp(p, bn.channels * sizeof(float));
    if (!bn.frozen) {
        note->sums = ls_bn_emit_statistics(p, &bn, v->src, v->mean, v->variance, w.mean, w.variance);
    }
    ls_ref r = other != NULL ? ls_plan_in(p, other, bn.dtype) : none;
    note->dst = ls_plan_out(p, result_of(p, node), bn.dtype);
    ls_bn_emit_forward(p, &bn, v, r, note->dst);
    return LS_OK;
}

/* ---- backward ---- */

static ls_ref gradient_of(ls_plan *p, const ls_weight *w) {
    return w != NULL && w->trainable ? ls_plan_dweight(p, w) : (ls_ref){0};
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const bn_note *note = ls_plan_recall(p, node);
    const bn_weights w = weights_of(node);
    const ls_bn bn = describe(p, node);
    const ls_tensor *other = added(p, node), *result = result_of(p, node);
    ls_bn_gradients g = {.sums = note->sums};
    g.diff_dst = ls_plan_dout_pair(p, result, bn.dtype, &g.more);
    if (!ls_ref_some(g.diff_dst)) {
        return LS_OK;
    }
    bool own = ls_plan_dout_exclusive(p, result), gives = other != NULL && ls_plan_wants_grad(p, other);
    size_t n_bytes = bn.n * ls_dtype_bytes(bn.dtype);
    if (bn.relu == LS_NORM_FROM_DST) {
        g.dst = note->dst;
    }
    if (ls_ref_some(g.more) || bn.relu == LS_NORM_FROM_DST) {
        g.g = own ? g.diff_dst : ls_plan_temp(p, n_bytes);
    }
    if (gives) {
        ls_plan_din_view(p, other, ls_ref_some(g.g) ? g.g : g.diff_dst, bn.dtype);
    }
    g.diff_gamma = gradient_of(p, w.gamma);
    g.diff_beta = gradient_of(p, w.beta);
    if (ls_plan_wants_grad(p, node->in[0])) {
        ls_ref spare = ls_ref_some(g.g) ? g.g : g.diff_dst;
        if (!gives && (own || ls_ref_some(g.g))) { /* nobody reads it any more */
            ls_plan_din_view(p, node->in[0], spare, bn.dtype);
            g.diff_src = spare;
        } else {
            g.diff_src = ls_plan_din(p, node->in[0], bn.dtype);
        }
    }
    ls_bn_emit_backward(p, &bn, &note->values, &g);
    return LS_OK;
}

const ls_operator ls_op_batch_norm = {"batch_norm", forward, backward, can_fuse, NULL};
