/*
 * Global pooling: (rows, S, C) -> (rows, C), average or largest.
 *
 * A mask (rows, S) of 0 and 1 weighs the average, as Keras's GlobalAveragePooling1D does. The gradient of the largest
 * is shared by all cells that are equal to it, as TensorFlow's reduce_max does.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"

enum { COLUMNS = 256 }; /* channels taken at a time */

typedef struct gp_state {
    bool average;
    ls_dtype dtype;
    size_t rows, cells, channels;
} gp_state;

typedef struct gp_work {
    const gp_state *s;
    const void *x, *y, *dy;
    const float *mask;
    void *to;
} gp_work;

/* 1 / (cells that count) of one row. */
static float weight_of(const gp_work *w, size_t row) {
    float n = (float)w->s->cells;
    if (w->mask != NULL) {
        n = 0;
        for (size_t i = 0; i < w->s->cells; i++) {
            n += w->mask[row * w->s->cells + i];
        }
    }
    return 1.0f / n;
}

static void average_block(const gp_work *w, size_t row, size_t c, size_t n) {
    const gp_state *s = w->s;
    float sum[COLUMNS] = {0}, x[COLUMNS], scale = weight_of(w, row);
    for (size_t i = 0; i < s->cells; i++) {
        float m = w->mask != NULL ? w->mask[row * s->cells + i] : 1.0f;
        ls_load_f32(s->dtype, w->x, (row * s->cells + i) * s->channels + c, x, n);
        for (size_t k = 0; k < n; k++) {
            sum[k] += x[k] * m;
        }
    }
    for (size_t k = 0; k < n; k++) {
        sum[k] *= scale;
    }
    ls_store_f32(s->dtype, w->to, row * s->channels + c, sum, n);
}

static void average_backward_block(const gp_work *w, size_t row, size_t c, size_t n) {
    const gp_state *s = w->s;
    float dy[COLUMNS], dx[COLUMNS], scale = weight_of(w, row);
    ls_load_f32(s->dtype, w->dy, row * s->channels + c, dy, n);
    for (size_t i = 0; i < s->cells; i++) {
        float m = w->mask != NULL ? w->mask[row * s->cells + i] * scale : scale;
        for (size_t k = 0; k < n; k++) {
            dx[k] = dy[k] * m;
        }
        ls_store_f32(s->dtype, w->to, (row * s->cells + i) * s->channels + c, dx, n);
    }
}

static void max_block(const gp_work *w, size_t row, size_t c, size_t n) {
    const gp_state *s = w->s;
    float top[COLUMNS], x[COLUMNS];
    ls_load_f32(s->dtype, w->x, row * s->cells * s->channels + c, top, n);
    for (size_t i = 1; i < s->cells; i++) {
        ls_load_f32(s->dtype, w->x, (row * s->cells + i) * s->channels + c, x, n);
        for (size_t k = 0; k < n; k++) {
            top[k] = top[k] >= x[k] ? top[k] : x[k];
        }
    }
    ls_store_f32(s->dtype, w->to, row * s->channels + c, top, n);
}

static void max_backward_block(const gp_work *w, size_t row, size_t c, size_t n) {
    const gp_state *s = w->s;
    float top[COLUMNS], dy[COLUMNS], x[COLUMNS], equal[COLUMNS] = {0};
    ls_load_f32(s->dtype, w->y, row * s->channels + c, top, n);
    ls_load_f32(s->dtype, w->dy, row * s->channels + c, dy, n);
    for (size_t i = 0; i < s->cells; i++) {
        ls_load_f32(s->dtype, w->x, (row * s->cells + i) * s->channels + c, x, n);
        for (size_t k = 0; k < n; k++) {
            equal[k] += x[k] == top[k] ? 1.0f : 0.0f;
        }
    }
    for (size_t i = 0; i < s->cells; i++) {
        ls_load_f32(s->dtype, w->x, (row * s->cells + i) * s->channels + c, x, n);
        for (size_t k = 0; k < n; k++) {
            x[k] = x[k] == top[k] ? dy[k] / equal[k] : 0.0f;
        }
        ls_store_f32(s->dtype, w->to, (row * s->cells + i) * s->channels + c, x, n);
    }
}

static void gp_range(void *context, size_t begin, size_t end) {
    const gp_work *w = context;
    const gp_state *s = w->s;
    for (size_t row = begin; row < end; row++) {
        for (size_t c = 0; c < s->channels; c += COLUMNS) {
            size_t n = s->channels - c < COLUMNS ? s->channels - c : COLUMNS;
            if (w->dy == NULL) {
                (s->average ? average_block : max_block)(w, row, c, n);
            } else {
                (s->average ? average_backward_block : max_backward_block)(w, row, c, n);
            }
        }
    }
}

static void run_gp(const ls_call *call, const ls_run *run, gp_work *w) {
    const gp_state *s = call->state;
    w->s = s;
    size_t chunk = LS_CHUNK / (s->cells * s->channels);
    ls_ops_parallel(run->n_threads, s->rows, chunk ? chunk : 1, gp_range, w);
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    gp_work w = {.x = call->args[0].p, .mask = call->args[1].p, .to = call->args[2].p};
    run_gp(call, run, &w);
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    gp_work w = {.dy = call->args[0].p,
                 .mask = call->args[1].p,
                 .x = call->args[2].p,
                 .y = call->args[3].p,
                 .to = call->args[4].p};
    run_gp(call, run, &w);
}

/* What forward leaves for backward. */
typedef struct gp_note {
    ls_ref src, dst, mask;
    ls_dtype dtype;
} gp_note;

static gp_state *new_state(const ls_plan *p, const ls_node *node, ls_dtype dtype) {
    const ls_tensor *in = node->in[0];
    gp_state *s = ls_xcalloc(1, sizeof *s);
    s->average = ((const ls_global_pool_attr *)node->attr)->average;
    s->dtype = dtype;
    s->rows = (size_t)ls_plan_rows(p, in);
    s->channels = (size_t)in->shape.dim[in->shape.rank - 1];
    s->cells = (size_t)ls_shape_elems(&in->shape) / s->channels;
    return s;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const ls_tensor *in = node->in[0];
    bool average = ((const ls_global_pool_attr *)node->attr)->average;
    gp_note *note = ls_xcalloc(1, sizeof *note);
    ls_plan_remember(p, node, note);
    note->dtype = ls_plan_stored(p, in);
    note->src = ls_plan_in(p, in, note->dtype);
    if (average && in->mask != NULL && in->shape.rank == 2) {
        note->mask = ls_plan_in(p, in->mask, LS_F32);
    }
    note->dst = ls_plan_out(p, node->out[0], note->dtype);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "global_pool.forward", node, forward_kernel,
                              new_state(p, node, note->dtype), NULL);
    ls_call_arg(c, LS_READ, note->src);
    ls_call_arg(c, LS_READ, note->mask);
    ls_call_arg(c, LS_WRITE, note->dst);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const gp_note *note = ls_plan_recall(p, node);
    bool average = ((const ls_global_pool_attr *)node->attr)->average;
    ls_ref dout = ls_plan_dout(p, node->out[0], note->dtype);
    if (!ls_ref_some(dout) || !ls_plan_wants_grad(p, node->in[0])) {
        return LS_OK;
    }
    ls_ref din = ls_plan_din(p, node->in[0], note->dtype), none = {0};
    ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "global_pool.backward", node, backward_kernel,
                              new_state(p, node, note->dtype), NULL);
    ls_call_arg(c, LS_READ, dout);
    ls_call_arg(c, LS_READ, note->mask);
    ls_call_arg(c, LS_READ, average ? none : note->src);
    ls_call_arg(c, LS_READ, average ? none : note->dst);
    ls_call_arg(c, LS_WRITE, din);
    return LS_OK;
}

const ls_operator ls_op_global_pool = {"global_pool", forward, backward, NULL, NULL};
