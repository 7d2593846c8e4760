/*
 * y = w x with a learned w of fewer elements than x: on all of it, or where x is negative (PReLU).
 *
 * PReLU is Keras's relu(x) - w relu(-x), so at 0 no gradient passes. Sums over the elements that share a weight are
 * taken in double and in one order.
 */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"

typedef struct scale_state {
    bool negative_only;
    size_t n_rows, n_elems; /* samples, and elements of one */
    size_t n_weights;
    uint32_t *place; /* (n_elems) the weight of each element */
} scale_state;

static void destroy_state(void *state) {
    free(((scale_state *)state)->place);
    free(state);
}

static scale_state *new_state(const ls_plan *p, const ls_node *node) {
    const ls_scale_attr *a = node->attr;
    const ls_shape *x = &node->in[0]->shape;
    scale_state *s = ls_xcalloc(1, sizeof *s);
    s->negative_only = a->negative_only;
    s->n_rows = (size_t)ls_plan_rows(p, node->in[0]);
    s->n_elems = (size_t)ls_shape_elems(x);
    s->place = ls_xcalloc(s->n_elems, sizeof *s->place);
    s->n_weights = ls_ops_places(x, a->shared_axes, s->place);
    LS_ASSERT(s->n_weights == (size_t)ls_shape_elems(&node->weights[0]->shape));
    return s;
}

typedef struct scale_work {
    const scale_state *s;
    const float *x, *w, *dy;
    float *to;
} scale_work;

static void forward_range(void *context, size_t begin, size_t end) {
    const scale_work *k = context;
    const scale_state *s = k->s;
    for (size_t i = begin * s->n_elems, e = 0; i < end * s->n_elems; i++, e = e + 1 < s->n_elems ? e + 1 : 0) {
        float x = k->x[i];
        k->to[i] = s->negative_only && x > 0.0f ? x : x * k->w[s->place[e]];
    }
}

static void backward_range(void *context, size_t begin, size_t end) {
    const scale_work *k = context;
    const scale_state *s = k->s;
    for (size_t i = begin * s->n_elems, e = 0; i < end * s->n_elems; i++, e = e + 1 < s->n_elems ? e + 1 : 0) {
        float slope = k->w[s->place[e]];
        if (s->negative_only) {
            slope = k->x[i] > 0.0f ? 1.0f : k->x[i] < 0.0f ? slope : 0.0f;
        }
        k->to[i] = k->dy[i] * slope;
    }
}

static void run_range(const ls_run *run, ls_range_fn f, scale_work *k) {
    size_t chunk = LS_CHUNK / k->s->n_elems;
    ls_ops_parallel(run->n_threads, k->s->n_rows, chunk ? chunk : 1, f, k);
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    scale_work k = {.s = call->state, .x = call->args[0].p, .w = call->args[1].p, .to = call->args[2].p};
    run_range(run, forward_range, &k);
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    scale_work k = {
        .s = call->state, .x = call->args[0].p, .w = call->args[1].p, .dy = call->args[2].p, .to = call->args[3].p};
    run_range(run, backward_range, &k);
}

/* dw = sum of x dy over the elements that share w. */
static void gradient_kernel(const ls_call *call, const ls_run *run) {
    const scale_state *s = call->state;
    const float *x = call->args[0].p, *dy = call->args[1].p;
    double *sum = call->args[2].p;
    float *dw = call->args[3].p;
    (void)run;
    memset(sum, 0, s->n_weights * sizeof *sum);
    for (size_t r = 0; r < s->n_rows; r++) {
        const float *xr = x + r * s->n_elems, *dr = dy + r * s->n_elems;
        for (size_t e = 0; e < s->n_elems; e++) {
            sum[s->place[e]] += s->negative_only && xr[e] > 0.0f ? 0.0 : (double)xr[e] * dr[e];
        }
    }
    for (size_t i = 0; i < s->n_weights; i++) {
        dw[i] = (float)sum[i];
    }
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_plan_weight_layout(p, node->weights[0], NULL);
    ls_ref src = ls_plan_in(p, node->in[0], LS_F32), w = ls_plan_weight(p, node->weights[0]);
    ls_ref dst = ls_plan_out(p, node->out[0], LS_F32);
    ls_call *c =
        ls_plan_emit(p, LS_PHASE_FORWARD, "scale.forward", node, forward_kernel, new_state(p, node), destroy_state);
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_READ, w);
    ls_call_arg(c, LS_WRITE, dst);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_ref dout = ls_plan_dout(p, node->out[0], LS_F32);
    if (!ls_ref_some(dout)) {
        return LS_OK;
    }
    ls_ref src = ls_plan_in(p, node->in[0], LS_F32), w = ls_plan_weight(p, node->weights[0]);
    if (node->weights[0]->trainable) {
        ls_ref sum = ls_plan_temp(p, (size_t)ls_shape_elems(&node->weights[0]->shape) * sizeof(double));
        ls_ref dw = ls_plan_dweight(p, node->weights[0]);
        ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "scale.backward_weights", node, gradient_kernel,
                                  new_state(p, node), destroy_state);
        ls_call_arg(c, LS_READ, src);
        ls_call_arg(c, LS_READ, dout);
        ls_call_arg(c, LS_READWRITE, sum);
        ls_call_arg(c, LS_WRITE, dw);
    }
    if (ls_plan_wants_grad(p, node->in[0])) {
        ls_ref din = ls_plan_din(p, node->in[0], LS_F32);
        ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "scale.backward", node, backward_kernel, new_state(p, node),
                                  destroy_state);
        ls_call_arg(c, LS_READ, src);
        ls_call_arg(c, LS_READ, w);
        ls_call_arg(c, LS_READ, dout);
        ls_call_arg(c, LS_WRITE, din);
    }
    return LS_OK;
}

const ls_operator ls_op_scale = {"scale", forward, backward, NULL, NULL};
