/*
 * Scores of additive attention: y[t, s] = sum over d of w[d] tanh(c (q[t, d] + k[s, d])).
 *
 * w is a weight of one number or of one for each d, or 1; c is a weight of one number, or 1. The gradients of both are
 * summed for each sample first, then over samples, in double.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"

enum { PAIRS = 2048 }; /* hyperbolic tangents that one thread takes at a time: some 20 microseconds */

typedef struct additive_state {
    size_t rows, queries, keys, depth;
    size_t n_w; /* numbers in w: 0, 1 or depth */
} additive_state;

typedef struct additive_work {
    const additive_state *s;
    const float *q, *k, *w, *c, *dy;
    float *y, *dq, *dk;
    double *sums; /* (rows, n_w + 1): dw, then dc */
} additive_work;

static float weight_at(const additive_work *a, size_t d) {
    return a->s->n_w == 0 ? 1.0f : a->w[a->s->n_w == 1 ? 0 : d];
}

static void forward_range(void *context, size_t begin, size_t end) {
    const additive_work *a = context;
    const additive_state *s = a->s;
    float c = a->c != NULL ? a->c[0] : 1.0f;
    for (size_t line = begin; line < end; line++) {
        const float *q = a->q + line * s->depth, *k = a->k + line / s->queries * s->keys * s->depth;
        for (size_t j = 0; j < s->keys; j++, k += s->depth) {
            float sum = 0;
            for (size_t d = 0; d < s->depth; d++) {
                sum += weight_at(a, d) * tanhf(c * (q[d] + k[d]));
            }
            a->y[line * s->keys + j] = sum;
        }
    }
}

/* One pair of query and key: g is the gradient of its score. */
static void backward_pair(const additive_work *a, float g, const float *q, const float *k, float *dq, float *dk,
                          double *sums) {
    const additive_state *s = a->s;
    float c = a->c != NULL ? a->c[0] : 1.0f;
    for (size_t d = 0; d < s->depth; d++) {
        float both = q[d] + k[d], h = tanhf(c * both), slope = g * weight_at(a, d) * (1.0f - h * h);
        if (s->n_w > 0) {
            sums[s->n_w == 1 ? 0 : d] += (double)g * h;
        }
        sums[s->n_w] += (double)slope * both;
        if (dq != NULL) {
            dq[d] += slope * c;
        }
        if (dk != NULL) {
            dk[d] += slope * c;
        }
    }
}

static void backward_range(void *context, size_t begin, size_t end) {
    const additive_work *a = context;
    const additive_state *s = a->s;
    size_t n_q = s->queries * s->depth, n_k = s->keys * s->depth;
    for (size_t r = begin; r < end; r++) {
        double *sums = a->sums + r * (s->n_w + 1);
        memset(sums, 0, (s->n_w + 1) * sizeof *sums);
        if (a->dq != NULL) {
            memset(a->dq + r * n_q, 0, n_q * sizeof(float));
        }
        if (a->dk != NULL) {
            memset(a->dk + r * n_k, 0, n_k * sizeof(float));
        }
        for (size_t i = 0; i < s->queries; i++) {
            for (size_t j = 0; j < s->keys; j++) {
                size_t at_q = r * n_q + i * s->depth, at_k = r * n_k + j * s->depth;
                backward_pair(a, a->dy[(r * s->queries + i) * s->keys + j], a->q + at_q, a->k + at_k,
                              a->dq != NULL ? a->dq + at_q : NULL, a->dk != NULL ? a->dk + at_k : NULL, sums);
            }
        }
    }
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    additive_work a = {.s = call->state,
                       .q = call->args[0].p,
                       .k = call->args[1].p,
                       .w = call->args[2].p,
                       .c = call->args[3].p,
                       .y = call->args[4].p};
    size_t chunk = 1 + PAIRS / (a.s->keys * a.s->depth);
    ls_ops_parallel(run->n_threads, a.s->rows * a.s->queries, chunk, forward_range, &a);
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    additive_work a = {.s = call->state,
                       .q = call->args[0].p,
                       .k = call->args[1].p,
                       .w = call->args[2].p,
                       .c = call->args[3].p,
                       .dy = call->args[4].p,
                       .dq = call->args[5].p,
                       .dk = call->args[6].p,
                       .sums = call->args[7].p};
    size_t chunk = 1 + PAIRS / (a.s->queries * a.s->keys * a.s->depth);
    ls_ops_parallel(run->n_threads, a.s->rows, chunk, backward_range, &a);
    float *to[2] = {call->args[8].p, call->args[9].p};
    for (size_t i = 0; i <= a.s->n_w; i++) {
        double sum = 0;
        for (size_t r = 0; r < a.s->rows; r++) {
            sum += a.sums[r * (a.s->n_w + 1) + i];
        }
        float *one = to[i < a.s->n_w ? 0 : 1];
        if (one != NULL) {
            one[i < a.s->n_w ? i : 0] = (float)sum;
        }
    }
}

static additive_state *new_state(const ls_plan *p, const ls_node *node) {
    const ls_additive_attr *a = node->attr;
    const ls_shape *q = &node->in[0]->shape, *k = &node->in[1]->shape;
    additive_state *s = ls_xcalloc(1, sizeof *s);
    s->rows = (size_t)ls_plan_rows(p, node->in[0]);
    s->queries = (size_t)q->dim[0];
    s->keys = (size_t)k->dim[0];
    s->depth = (size_t)q->dim[1];
    s->n_w = a->has_w ? (size_t)ls_shape_elems(&node->weights[a->has_c ? 1 : 0]->shape) : 0;
    return s;
}

/* c comes first among the weights. */
static ls_weight *weight_c(const ls_node *node) {
    return ((const ls_additive_attr *)node->attr)->has_c ? node->weights[0] : NULL;
}

static ls_weight *weight_w(const ls_node *node) {
    const ls_additive_attr *a = node->attr;
    return a->has_w ? node->weights[a->has_c ? 1 : 0] : NULL;
}

static ls_ref value_of(ls_plan *p, ls_weight *w) {
    if (w == NULL) {
        return (ls_ref){0};
    }
    ls_plan_weight_layout(p, w, NULL);
    return ls_plan_weight(p, w);
}

static ls_ref gradient_of(ls_plan *p, const ls_weight *w) {
    return w != NULL && w->trainable ? ls_plan_dweight(p, w) : (ls_ref){0};
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_ref q = ls_plan_in(p, node->in[0], LS_F32), k = ls_plan_in(p, node->in[1], LS_F32);
    ls_ref w = value_of(p, weight_w(node)), c = value_of(p, weight_c(node));
    ls_ref y = ls_plan_out(p, node->out[0], LS_F32);
    ls_call *call =
        ls_plan_emit(p, LS_PHASE_FORWARD, "additive_scores.forward", node, forward_kernel, new_state(p, node), NULL);
    ls_call_arg(call, LS_READ, q);
    ls_call_arg(call, LS_READ, k);
    ls_call_arg(call, LS_READ, w);
    ls_call_arg(call, LS_READ, c);
    ls_call_arg(call, LS_WRITE, y);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_ref dy = ls_plan_dout(p, node->out[0], LS_F32), none = {0};
    if (!ls_ref_some(dy)) {
        return LS_OK;
    }
    additive_state *s = new_state(p, node);
    ls_ref q = ls_plan_in(p, node->in[0], LS_F32), k = ls_plan_in(p, node->in[1], LS_F32);
    ls_ref dq = ls_plan_wants_grad(p, node->in[0]) ? ls_plan_din(p, node->in[0], LS_F32) : none;
    ls_ref dk = ls_plan_wants_grad(p, node->in[1]) ? ls_plan_din(p, node->in[1], LS_F32) : none;
    ls_ref sums = ls_plan_temp(p, s->rows * (s->n_w + 1) * sizeof(double));
    ls_ref args[10] = {q,  k,    value_of(p, weight_w(node)),    value_of(p, weight_c(node)),   dy, dq,
                       dk, sums, gradient_of(p, weight_w(node)), gradient_of(p, weight_c(node))};
    ls_call *call = ls_plan_emit(p, LS_PHASE_BACKWARD, "additive_scores.backward", node, backward_kernel, s, NULL);
    for (int i = 0; i < 10; i++) {
        ls_call_arg(call, i < 5 ? LS_READ : LS_WRITE, args[i]);
    }
    return LS_OK;
}

const ls_operator ls_op_additive_scores = {"additive_scores", forward, backward, NULL, NULL, false};
