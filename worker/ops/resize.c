/*
 * A window of an image resized, as tf.image.resize does with half-pixel centres: output cell i of n lies at
 * (i + 0.5) length / n - 0.5 of the window; cells beyond its border take the border's value.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/map.h"

typedef struct tap {
    int64_t low, high;
    float share; /* of high */
} tap;

typedef struct resize {
    int64_t n_rows, h, w, c, out_h, out_w;
    bool backward;
    tap taps[]; /* (out_h), then (out_w) */
} resize;

static void fill_taps(tap *taps, int64_t start, int64_t length, int64_t n_out, bool nearest) {
    for (int64_t i = 0; i < n_out; i++) {
        double at = ((double)i + 0.5) * (double)length / (double)n_out - (nearest ? 0 : 0.5), floor_at = floor(at);
        int64_t low = (int64_t)floor_at;
        if (nearest) {
            low = low < length ? low : length - 1;
            taps[i] = (tap){start + low, start + low, 0};
            continue;
        }
        taps[i] = (tap){start + (low < 0 ? 0 : low), start + (low + 1 < length ? low + 1 : length - 1),
                        (float)(at - floor_at)};
    }
}

typedef struct resize_work {
    const resize *r;
    const float *from;
    float *to;
} resize_work;

/* The four neighbours of an output cell and their shares: y = sum share[k] * x[at[k]]. */
static void neighbours(const resize *r, int64_t i, int64_t j, int64_t *at, float *share) {
    const tap *v = &r->taps[i], *h = &r->taps[r->out_h + j];
    const int64_t rows[2] = {v->low, v->high}, columns[2] = {h->low, h->high};
    const float by_row[2] = {1 - v->share, v->share}, by_column[2] = {1 - h->share, h->share};
    for (int k = 0; k < 4; k++) {
        at[k] = (rows[k / 2] * r->w + columns[k % 2]) * r->c;
        share[k] = by_row[k / 2] * by_column[k % 2];
    }
}

static void rows_range(void *context, size_t begin, size_t end) {
    const resize_work *w = context;
    const resize *r = w->r;
    size_t n_in = (size_t)(r->h * r->w * r->c), n_out = (size_t)(r->out_h * r->out_w * r->c);
    for (size_t row = begin; row < end; row++) {
        const float *from = w->from + row * (r->backward ? n_out : n_in);
        float *to = w->to + row * (r->backward ? n_in : n_out);
        if (r->backward) {
            memset(to, 0, n_in * sizeof *to);
        }
        for (int64_t cell = 0; cell < r->out_h * r->out_w; cell++) {
            int64_t at[4];
            float share[4];
            neighbours(r, cell / r->out_w, cell % r->out_w, at, share);
            for (int64_t c = 0; c < r->c; c++) {
                if (!r->backward) {
                    to[cell * r->c + c] = share[0] * from[at[0] + c] + share[1] * from[at[1] + c] +
                                          share[2] * from[at[2] + c] + share[3] * from[at[3] + c];
                    continue;
                }
                for (int k = 0; k < 4; k++) {
                    to[at[k] + c] += share[k] * from[cell * r->c + c];
                }
            }
        }
    }
}

static void kernel(const ls_call *call, const ls_run *run) {
    const resize *r = call->state;
    resize_work w = {r, call->args[0].p, call->args[1].p};
    ls_ops_parallel(run->n_threads, (size_t)r->n_rows, 1, rows_range, &w);
}

static resize *new_resize(const ls_plan *p, const ls_node *node, const ls_resize_attr *a, bool is_backward) {
    const ls_shape *in = &node->in[0]->shape, *out = &node->out[0]->shape;
    resize *r = ls_xcalloc(1, sizeof *r + (size_t)(out->dim[0] + out->dim[1]) * sizeof r->taps[0]);
    r->n_rows = ls_plan_rows(p, node->in[0]);
    r->h = in->dim[0];
    r->w = in->dim[1];
    r->c = in->dim[2];
    r->out_h = out->dim[0];
    r->out_w = out->dim[1];
    r->backward = is_backward;
    fill_taps(r->taps, a->start[0], a->length[0], r->out_h, a->nearest);
    fill_taps(r->taps + r->out_h, a->start[1], a->length[1], r->out_w, a->nearest);
    return r;
}

void ls_resize_emit(ls_plan *p, const ls_node *node, const ls_resize_attr *a) {
    ls_map_forward(p, node, "resize.forward", LS_F32, kernel, new_resize(p, node, a, false));
}

ls_resize_attr ls_resize_window(const ls_shape *in, const ls_shape *out) {
    ls_resize_attr a = {.nearest = false};
    int64_t h = in->dim[0], w = in->dim[1], fit_h = w * out->dim[0] / out->dim[1],
            fit_w = h * out->dim[1] / out->dim[0];
    a.length[0] = fit_h < 1 ? 1 : fit_h < h ? fit_h : h;
    a.length[1] = fit_w < 1 ? 1 : fit_w < w ? fit_w : w;
    a.start[0] = (h - a.length[0]) / 2;
    a.start[1] = (w - a.length[1]) / 2;
    return a;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_resize_emit(p, node, node->attr);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    if (ls_map_has_backward(p, node)) {
        ls_map_backward(p, node, "resize.backward", false, kernel, new_resize(p, node, node->attr, true));
    }
    return LS_OK;
}

const ls_operator ls_op_resize = {"resize", forward, backward, NULL};
