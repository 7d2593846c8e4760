/*
 * y = (x - shift) * factor + offset with numbers that are not learned: constants of the layer, or, for Normalization,
 * from weights that hold a mean and a variance: factor = 1 / max(sqrt(variance), 1e-7), or the way back.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"

static const float LEAST = 1e-7f; /* Keras's epsilon */

typedef struct affine_state {
    size_t n_rows, n_elems, n; /* n: numbers of each kind */
    bool invert;
    uint32_t *place; /* (n_elems) */
} affine_state;

static void destroy_state(void *state) {
    free(((affine_state *)state)->place);
    free(state);
}

static affine_state *new_state(const ls_plan *p, const ls_node *node) {
    const ls_affine_attr *a = node->attr;
    affine_state *s = ls_xcalloc(1, sizeof *s);
    s->n_rows = (size_t)ls_plan_rows(p, node->in[0]);
    s->n_elems = (size_t)ls_shape_elems(&node->in[0]->shape);
    s->invert = a->invert;
    s->place = ls_xcalloc(s->n_elems, sizeof *s->place);
    s->n = ls_ops_places(&node->in[0]->shape, a->shared_axes, s->place);
    return s;
}

typedef struct affine_work {
    const affine_state *s;
    const float *x, *numbers; /* (3, n): shift, factor, offset */
    float *y;
    bool backward; /* x is dy, y is dx */
} affine_work;

static void affine_range(void *context, size_t begin, size_t end) {
    const affine_work *w = context;
    const affine_state *s = w->s;
    const float *shift = w->numbers, *factor = shift + s->n, *offset = factor + s->n;
    for (size_t i = begin * s->n_elems, e = 0; i < end * s->n_elems; i++, e = e + 1 < s->n_elems ? e + 1 : 0) {
        size_t k = s->place[e];
        w->y[i] = w->backward ? w->x[i] * factor[k] : (w->x[i] - shift[k]) * factor[k] + offset[k];
    }
}

static void run_affine(const ls_call *call, const ls_run *run, bool backward) {
    affine_work w = {call->state, call->args[0].p, call->args[1].p, call->args[2].p, backward};
    size_t chunk = LS_CHUNK / w.s->n_elems;
    ls_ops_parallel(run->n_threads, w.s->n_rows, chunk ? chunk : 1, affine_range, &w);
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    run_affine(call, run, false);
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    run_affine(call, run, true);
}

/* The numbers from mean and variance. */
static void statistics_kernel(const ls_call *call, const ls_run *run) {
    const affine_state *s = call->state;
    const float *mean = call->args[0].p, *variance = call->args[1].p;
    float *shift = call->args[2].p, *factor = shift + s->n, *offset = factor + s->n;
    (void)run;
    for (size_t i = 0; i < s->n; i++) {
        float deviation = sqrtf(variance[i]);
        deviation = deviation > LEAST ? deviation : LEAST;
        shift[i] = s->invert ? 0.0f : mean[i];
        factor[i] = s->invert ? deviation : 1.0f / deviation;
        offset[i] = s->invert ? mean[i] : 0.0f;
    }
}

typedef struct constant_state {
    size_t n;
    const float *values; /* the layer's */
} constant_state;

static void constant_kernel(const ls_call *call, const ls_run *run) {
    const constant_state *s = call->state;
    (void)run;
    memcpy(call->args[0].p, s->values, s->n * sizeof(float));
}

/* Made once a step, before the passes. */
static ls_ref emit_numbers(ls_plan *p, const ls_node *node, size_t n) {
    const ls_affine_attr *a = node->attr;
    ls_ref numbers = ls_plan_persistent(p, 3 * n * sizeof(float));
    if (a->constants != NULL) {
        constant_state *s = ls_xcalloc(1, sizeof *s);
        *s = (constant_state){3 * n, a->constants};
        ls_call *c = ls_plan_emit(p, LS_PHASE_PREPARE, "affine.constants", node, constant_kernel, s, NULL);
        ls_call_arg(c, LS_WRITE, numbers);
        return numbers;
    }
    for (int i = 0; i < node->n_weights; i++) {
        ls_plan_weight_layout(p, node->weights[i], NULL);
    }
    ls_call *c = ls_plan_emit(p, LS_PHASE_PREPARE, "affine.statistics", node, statistics_kernel, new_state(p, node),
                              destroy_state);
    ls_call_arg(c, LS_READ, ls_plan_weight(p, node->weights[0]));
    ls_call_arg(c, LS_READ, ls_plan_weight(p, node->weights[1]));
    ls_call_arg(c, LS_WRITE, numbers);
    return numbers;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    affine_state *s = new_state(p, node);
    ls_ref *numbers = ls_xcalloc(1, sizeof *numbers);
    *numbers = emit_numbers(p, node, s->n);
    ls_plan_remember(p, node, numbers);
    ls_ref src = ls_plan_in(p, node->in[0], LS_F32), dst = ls_plan_out(p, node->out[0], LS_F32);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "affine.forward", node, forward_kernel, s, destroy_state);
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_READ, *numbers);
    ls_call_arg(c, LS_WRITE, dst);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_ref dout = ls_plan_dout(p, node->out[0], LS_F32);
    if (!ls_ref_some(dout) || !ls_plan_wants_grad(p, node->in[0])) {
        return LS_OK;
    }
    const ls_ref *numbers = ls_plan_recall(p, node);
    ls_ref din = ls_plan_din(p, node->in[0], LS_F32);
    ls_call *c =
        ls_plan_emit(p, LS_PHASE_BACKWARD, "affine.backward", node, backward_kernel, new_state(p, node), destroy_state);
    ls_call_arg(c, LS_READ, dout);
    ls_call_arg(c, LS_READ, *numbers);
    ls_call_arg(c, LS_WRITE, din);
    return LS_OK;
}

const ls_operator ls_op_affine = {"affine", forward, backward, NULL, NULL, false};
