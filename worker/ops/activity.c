/*
 * y = x, and a penalty on what flows: (l1 sum |x| + l2 sum x^2) / rows of the batch is added to the loss.
 *
 * Source: tf_keras/engine/base_layer.py (_handle_activity_regularization).
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"

typedef struct activity_state {
    double l1, l2; /* for the sum over samples: divided by the rows of a sample */
    double scale;  /* forward: of the sum, see ls_plan_penalty */
    size_t n;
} activity_state;

static void forward_kernel(const ls_call *call, const ls_run *run) {
    const activity_state *s = call->state;
    const float *x = call->args[0].p;
    double absolute = 0, square = 0;
    (void)run;
    for (size_t i = 0; i < s->n; i++) {
        absolute += fabs((double)x[i]);
        square += (double)x[i] * x[i];
    }
    *(double *)call->args[1].p += (s->l1 * absolute + s->l2 * square) * s->scale;
}

typedef struct activity_work {
    float l1, l2;
    const float *x, *dy;
    float *dx;
} activity_work;

static void backward_range(void *context, size_t begin, size_t end) {
    const activity_work *w = context;
    for (size_t i = begin; i < end; i++) {
        float sign = (float)((w->x[i] > 0.0f) - (w->x[i] < 0.0f));
        w->dx[i] = (w->dy != NULL ? w->dy[i] : 0.0f) + w->l1 * sign + w->l2 * 2.0f * w->x[i];
    }
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    const activity_state *s = call->state;
    activity_work w = {.l1 = (float)(s->l1 * run->grad_scale),
                       .l2 = (float)(s->l2 * run->grad_scale),
                       .x = call->args[0].p,
                       .dy = call->args[1].p,
                       .dx = call->args[2].p};
    ls_ops_parallel(run->n_threads, s->n, LS_CHUNK, backward_range, &w);
}

static activity_state *new_state(const ls_plan *p, const ls_node *node, double scale) {
    const ls_activity_attr *a = node->attr;
    activity_state *s = ls_xcalloc(1, sizeof *s);
    double rows = (double)node->in[0]->rows;
    *s = (activity_state){a->l1 / rows, a->l2 / rows, scale, ls_plan_elems(p, node->in[0])};
    return s;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_dtype dtype = ls_plan_stored(p, node->in[0]);
    ls_plan_out_view(p, node->out[0], ls_plan_in(p, node->in[0], dtype), dtype);
    double scale;
    ls_ref sum = ls_plan_penalty(p, &scale);
    if (ls_ref_some(sum)) {
        ls_ref x = ls_plan_in(p, node->in[0], LS_F32);
        ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "activity.forward", node, forward_kernel,
                                  new_state(p, node, scale), NULL);
        ls_call_arg(c, LS_READ, x);
        ls_call_arg(c, LS_READWRITE, sum);
    }
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    if (!ls_plan_wants_grad(p, node->in[0])) {
        return LS_OK;
    }
    ls_ref dout = ls_plan_dout(p, node->out[0], LS_F32), x = ls_plan_in(p, node->in[0], LS_F32);
    ls_ref din = ls_plan_din(p, node->in[0], LS_F32);
    ls_call *c =
        ls_plan_emit(p, LS_PHASE_BACKWARD, "activity.backward", node, backward_kernel, new_state(p, node, 0), NULL);
    ls_call_arg(c, LS_READ, x);
    ls_call_arg(c, LS_READ, dout);
    ls_call_arg(c, LS_WRITE, din);
    return LS_OK;
}

const ls_operator ls_op_activity = {
    .name = "activity", .forward = forward, .backward = backward, .makes_gradient = true};
