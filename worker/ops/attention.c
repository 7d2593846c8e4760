/*
 * The weights of attention: y = softmax over the last axis of (scale x + m), where m is -1e9 for the places that may
 * not be looked at (masked keys, keys after the query when causal, everything for a masked query), and 0 elsewhere.
 * Where nothing may be looked at all weights are therefore nearly equal, as in Keras.
 *
 * Source: tf_keras/layers/attention/multi_head_attention.py and base_dense_attention.py; layers/activation/softmax.py.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"

static const float AWAY = -1e9f;

typedef struct attention_state {
    float scale;
    bool causal;
    size_t lines, heads, queries, keys; /* lines = rows * heads * queries */
} attention_state;

typedef struct attention_work {
    const attention_state *s;
    const float *x, *key_mask, *query_mask, *pair_mask, *y, *dy;
    float *to;
} attention_work;

static void softmax_range(void *context, size_t begin, size_t end) {
    const attention_work *w = context;
    const attention_state *s = w->s;
    for (size_t line = begin; line < end; line++) {
        size_t row = line / (s->heads * s->queries), query = line % s->queries;
        const float *x = w->x + line * s->keys;
        float *y = w->to + line * s->keys, top = -INFINITY, sum = 0;
        const float *pairs = w->pair_mask != NULL ? w->pair_mask + (row * s->queries + query) * s->keys : NULL;
        bool away = w->query_mask != NULL && w->query_mask[row * s->queries + query] == 0.0f;
        for (size_t k = 0; k < s->keys; k++) {
            bool not = away || (s->causal && k > query) ||
                       (w->key_mask != NULL && w->key_mask[row * s->keys + k] == 0) || (pairs != NULL && pairs[k] == 0);
            y[k] = x[k] * s->scale + (not ? AWAY : 0.0f);
            top = y[k] > top ? y[k] : top;
        }
        for (size_t k = 0; k < s->keys; k++) {
            y[k] = expf(y[k] - top);
            sum += y[k];
        }
        for (size_t k = 0; k < s->keys; k++) {
            y[k] /= sum;
        }
    }
}

/* dx = scale y (dy - sum of y dy) */
static void backward_range(void *context, size_t begin, size_t end) {
    const attention_work *w = context;
    const attention_state *s = w->s;
    for (size_t line = begin; line < end; line++) {
        const float *y = w->y + line * s->keys, *dy = w->dy + line * s->keys;
        float *dx = w->to + line * s->keys, sum = 0;
        for (size_t k = 0; k < s->keys; k++) {
            sum += y[k] * dy[k];
        }
        for (size_t k = 0; k < s->keys; k++) {
            dx[k] = s->scale * y[k] * (dy[k] - sum);
        }
    }
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    attention_work w = {.s = call->state,
                        .x = call->args[0].p,
                        .key_mask = call->args[1].p,
                        .query_mask = call->args[2].p,
                        .pair_mask = call->args[3].p,
                        .to = call->args[4].p};
    ls_ops_parallel(run->n_threads, w.s->lines, 1 + LS_CHUNK / w.s->keys, softmax_range, &w);
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    attention_work w = {.s = call->state, .y = call->args[0].p, .dy = call->args[1].p, .to = call->args[2].p};
    ls_ops_parallel(run->n_threads, w.s->lines, 1 + LS_CHUNK / w.s->keys, backward_range, &w);
}

static attention_state *new_state(const ls_plan *p, const ls_node *node) {
    const ls_attention_attr *a = node->attr;
    const ls_shape *x = &node->in[0]->shape;
    attention_state *s = ls_xcalloc(1, sizeof *s);
    s->scale = a->scale;
    s->causal = a->causal;
    s->queries = (size_t)x->dim[x->rank - 2];
    s->keys = (size_t)x->dim[x->rank - 1];
    s->heads = (size_t)ls_shape_elems(x) / (s->queries * s->keys);
    s->lines = ls_plan_elems(p, node->in[0]) / s->keys;
    return s;
}

typedef struct attention_note {
    ls_ref dst;
} attention_note;

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const ls_attention_attr *a = node->attr;
    int next = 1;
    ls_ref src = ls_plan_in(p, node->in[0], LS_F32), keys = {0}, queries = {0}, pairs = {0};
    if (a->key_mask) {
        keys = ls_plan_in(p, node->in[next++], LS_F32);
    }
    if (a->query_mask) {
        queries = ls_plan_in(p, node->in[next++], LS_F32);
    }
    if (a->pair_mask) {
        pairs = ls_plan_in(p, node->in[next], LS_F32);
    }
    attention_note *note = ls_xcalloc(1, sizeof *note);
    note->dst = ls_plan_out(p, node->out[0], LS_F32);
    ls_plan_remember(p, node, note);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "attention.forward", node, forward_kernel, new_state(p, node), NULL);
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_READ, keys);
    ls_call_arg(c, LS_READ, queries);
    ls_call_arg(c, LS_READ, pairs);
    ls_call_arg(c, LS_WRITE, note->dst);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const attention_note *note = ls_plan_recall(p, node);
    ls_ref dout = ls_plan_dout(p, node->out[0], LS_F32);
    if (!ls_ref_some(dout) || !ls_plan_wants_grad(p, node->in[0])) {
        return LS_OK;
    }
    ls_ref din = ls_plan_din(p, node->in[0], LS_F32);
    ls_call *c =
        ls_plan_emit(p, LS_PHASE_BACKWARD, "attention.backward", node, backward_kernel, new_state(p, node), NULL);
    ls_call_arg(c, LS_READ, note->dst);
    ls_call_arg(c, LS_READ, dout);
    ls_call_arg(c, LS_WRITE, din);
    return LS_OK;
}

const ls_operator ls_op_attention = {"attention", forward, backward, NULL, NULL, false};
