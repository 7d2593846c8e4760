/*
 * y = x / sqrt(max(sum of x^2 along one axis, 1e-12)), as TensorFlow's l2_normalize. Below that bound the divisor is a
 * constant, and its gradient too.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/map.h"

static const double LEAST = 1e-12;

typedef struct l2_state {
    size_t lines, n, after; /* an element of line (i, k) lies at (i * n + j) * after + k, i = line / after */
} l2_state;

typedef struct l2_work {
    const l2_state *s;
    const float *x, *dy;
    float *to;
} l2_work;

static void l2_range(void *context, size_t begin, size_t end) {
    const l2_work *w = context;
    const l2_state *s = w->s;
    for (size_t line = begin; line < end; line++) {
        size_t first = line / s->after * s->n * s->after + line % s->after;
        double square = 0, product = 0;
        for (size_t j = 0; j < s->n; j++) {
            double x = w->x[first + j * s->after];
            square += x * x;
            product += w->dy != NULL ? x * w->dy[first + j * s->after] : 0;
        }
        double r = 1 / sqrt(square > LEAST ? square : LEAST), along = square > LEAST ? product * r * r : 0;
        for (size_t j = 0; j < s->n; j++) {
            size_t i = first + j * s->after;
            w->to[i] = (float)(w->dy == NULL ? w->x[i] * r : (w->dy[i] - w->x[i] * along) * r);
        }
    }
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    l2_work w = {.s = call->state, .x = call->args[0].p, .to = call->args[1].p};
    ls_ops_parallel(run->n_threads, w.s->lines, 1 + LS_CHUNK / w.s->n, l2_range, &w);
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    l2_work w = {.s = call->state, .x = call->args[0].p, .dy = call->args[1].p, .to = call->args[2].p};
    ls_ops_parallel(run->n_threads, w.s->lines, 1 + LS_CHUNK / w.s->n, l2_range, &w);
}

static l2_state *new_state(const ls_plan *p, const ls_node *node) {
    const ls_shape *x = &node->in[0]->shape;
    int axis = ((const ls_l2_attr *)node->attr)->axis;
    l2_state *s = ls_xcalloc(1, sizeof *s);
    s->n = (size_t)x->dim[axis];
    s->after = 1;
    for (int i = axis + 1; i < x->rank; i++) {
        s->after *= (size_t)x->dim[i];
    }
    s->lines = ls_plan_elems(p, node->in[0]) / s->n;
    return s;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_map_forward(p, node, "l2_normalize.forward", LS_F32, forward_kernel, new_state(p, node));
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    if (ls_map_has_backward(p, node)) {
        ls_map_backward(p, node, "l2_normalize.backward", true, backward_kernel, new_state(p, node));
    }
    return LS_OK;
}

const ls_operator ls_op_l2_normalize = {"l2_normalize", forward, backward, NULL, NULL};
