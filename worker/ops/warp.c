/*
 * A random geometry for each image: RandomFlip, RandomTranslation, RandomZoom, RandomRotation, RandomCrop.
 *
 * Output cell (i, j) takes its value at the input's place (y, x), an affine function of it. Where y depends on i alone
 * and x on j alone (all but the rotation) each image has a list of taps an axis: two rows are mixed into a line, then
 * neighbours in the line. The way back runs over the same taps. Nothing is kept for it: the same draws are made again.
 *
 * Source: tf_keras/layers/preprocessing/image_preprocessing.py (matrices), tensorflow/core/kernels/image/image_ops.h
 * (ImageProjectiveTransformV3: filling, interpolation).
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/draw.h"
#include "worker/ops/ops_common.h"

static const double PI = 3.14159265358979323846;

/* Cells of an axis that a place takes part in: (1 - share) of low, share of high; -1: the fill value. */
typedef struct tap {
    int32_t low, high;
    float share;
} tap;

typedef struct warp_state {
    ls_warp_attr a;
    int layer;
    size_t n_images, rows; /* rows: images of a sample */
    int64_t h, w, c, out_h, out_w;
    size_t scratch_bytes; /* of an image: taps, a line, a line of fill values */
} warp_state;

/* place = turn[k][0] i + turn[k][1] j + offset[k], for y (k 0) and x (k 1). */
typedef struct affine_map {
    float turn[2][2], offset[2];
} affine_map;

/* ---- what is drawn ---- */

static affine_map rotation(double angle, int64_t h, int64_t w) {
    float c = (float)cos(angle), s = (float)sin(angle), height = (float)(h - 1), width = (float)(w - 1);
    return (affine_map){.turn = {{c, s}, {-s, c}},
                        .offset = {(height - (s * width + c * height)) / 2, (width - (c * width - s * height)) / 2}};
}

static affine_map draw(const warp_state *s, const ls_run *run, size_t image) {
    const ls_warp_attr *a = &s->a;
    const ls_philox r = ls_draw_row(run, s->layer, image, s->rows);
    const int64_t n[2] = {s->h, s->w}, out[2] = {s->out_h, s->out_w};
    affine_map m = {.turn = {{1, 0}, {0, 1}}};
    if (a->kind == LS_WARP_ROTATE) {
        return rotation(2 * PI * ls_draw_between(r.v[0], a->low[0], a->high[0]), s->h, s->w);
    }
    for (int k = 0; k < 2; k++) {
        float u = (float)ls_draw_between(r.v[a->together ? 0 : k], a->low[k], a->high[k]);
        switch (a->kind) {
            case LS_WARP_FLIP:
                if (a->flips[k] && r.v[k] >> 31) {
                    m.turn[k][k] = -1;
                    m.offset[k] = (float)(n[k] - 1);
                }
                break;
            case LS_WARP_TRANSLATE: m.offset[k] = -(u * (float)n[k]); break;
            case LS_WARP_ZOOM:
                m.turn[k][k] = 1 + u;
                m.offset[k] = ((float)n[k] - 1) / 2 * (1 - (1 + u));
                break;
            case LS_WARP_CROP: m.offset[k] = (float)(r.v[k] % (uint32_t)(n[k] - out[k] + 1)); break;
            case LS_WARP_ROTATE: break;
        }
    }
    return m;
}

/* ---- places ---- */

/* A place beyond the border brought back to [0, n - 1]; a constant's is left outside. */
static float inside(ls_fill fill, float at, float n) {
    if (fill == LS_FILL_CONSTANT) {
        return at;
    }
    if (fill == LS_FILL_REFLECT && (at < 0 || at > n - 1) && n > 1) {
        float period = 2 * n;
        if (at < 0) {
            at = at < period ? period * truncf(-at / period) + at : at;
            at = at < -n ? at + period : -at - 1;
        } else {
            at -= period * truncf(at / period);
            at = at >= n ? period - at - 1 : at;
        }
    } else if (fill == LS_FILL_WRAP && (at < 0 || at > n - 1) && n > 1) {
        at = at < 0 ? at + n * (truncf(-at / (n - 1)) + 1) : at - n * truncf(at / (n - 1));
    }
    return at < 0 ? 0 : at > n - 1 ? n - 1 : at;
}

static inline tap tap_at(const ls_warp_attr *a, float at, int64_t n) {
    float place = inside(a->fill, at, (float)n), low = a->nearest ? roundf(place) : floorf(place);
    float high = a->nearest ? low : low + 1, most = (float)(n - 1);
    tap t = {.low = low >= 0 && low <= most ? (int32_t)low : -1, .share = a->nearest ? 0 : place - low};
    t.high = high >= 0 && high <= most ? (int32_t)high : -1;
    if (t.share == 0) { /* beyond the last cell, too */
        t.high = t.low;
    }
    return t;
}

/* ---- one image ---- */

typedef struct image_work {
    const warp_state *s;
    affine_map m;
    const float *x;
    float *y;
    tap *taps;          /* (out_h), (out_w) */
    float *line, *fill; /* ((w + 1) c), the last cell the fill value; all fill values */
} image_work;

/* (1 - share) low + share high */
static void mix(const float *restrict low, const float *restrict high, float share, float *restrict to, size_t n) {
    for (size_t i = 0; i < n; i++) {
        to[i] = low[i] + share * (high[i] - low[i]);
    }
}

static inline __attribute__((always_inline)) void pick(const tap *taps, const float *restrict line, int64_t w,
                                                       int64_t out_w, int64_t c, float *restrict to) {
    for (int64_t j = 0; j < out_w; j++) {
        const float *low = line + (taps[j].low < 0 ? w : taps[j].low) * c;
        const float *high = line + (taps[j].high < 0 ? w : taps[j].high) * c;
        for (int64_t k = 0; k < c; k++) {
            to[j * c + k] = low[k] + taps[j].share * (high[k] - low[k]);
        }
    }
}

static void separable(const image_work *v) {
    const warp_state *s = v->s;
    size_t n = (size_t)(s->w * s->c);
    const tap *columns = v->taps + s->out_h;
    for (int64_t i = 0; i < s->out_h; i++) {
        const tap *t = &v->taps[i];
        const float *low = t->low < 0 ? v->fill : v->x + (size_t)t->low * n;
        const float *high = t->high < 0 ? v->fill : v->x + (size_t)t->high * n;
        float *to = v->y + i * s->out_w * s->c;
        mix(low, high, t->share, v->line, n);
        if (s->c == 3) {
            pick(columns, v->line, s->w, s->out_w, 3, to);
        } else if (s->c == 1) {
            pick(columns, v->line, s->w, s->out_w, 1, to);
        } else {
            pick(columns, v->line, s->w, s->out_w, s->c, to);
        }
    }
}

/* v->x is dy, v->y is dx. */
static void separable_back(const image_work *v) {
    const warp_state *s = v->s;
    size_t n = (size_t)(s->w * s->c);
    const tap *columns = v->taps + s->out_h;
    memset(v->y, 0, (size_t)s->h * n * sizeof *v->y);
    for (int64_t i = 0; i < s->out_h; i++) {
        const tap *t = &v->taps[i];
        const float *from = v->x + i * s->out_w * s->c;
        memset(v->line, 0, (n + (size_t)s->c) * sizeof *v->line);
        for (int64_t e = 0; e < s->out_w * s->c; e++) {
            const tap *u = &columns[e / s->c];
            v->line[(u->low < 0 ? s->w : u->low) * s->c + e % s->c] += (1 - u->share) * from[e];
            v->line[(u->high < 0 ? s->w : u->high) * s->c + e % s->c] += u->share * from[e];
        }
        for (size_t e = 0; e < n; e++) {
            if (t->low >= 0) {
                v->y[(size_t)t->low * n + e] += (1 - t->share) * v->line[e];
            }
            if (t->high >= 0) {
                v->y[(size_t)t->high * n + e] += t->share * v->line[e];
            }
        }
    }
}

/* Every output cell has four cells of its own. */
static void turned(const image_work *v, bool backward) {
    const warp_state *s = v->s;
    const affine_map *m = &v->m;
    if (backward) {
        memset(v->y, 0, (size_t)(s->h * s->w * s->c) * sizeof *v->y);
    }
    for (int64_t cell = 0; cell < s->out_h * s->out_w; cell++) {
        const int64_t at_row = cell / s->out_w, at_column = cell % s->out_w;
        float i = (float)at_row, j = (float)at_column;
        tap row = tap_at(&s->a, m->turn[0][0] * i + m->turn[0][1] * j + m->offset[0], s->h);
        tap column = tap_at(&s->a, m->turn[1][0] * i + m->turn[1][1] * j + m->offset[1], s->w);
        const int64_t rows[2] = {row.low, row.high}, columns[2] = {column.low, column.high};
        const float by_row[2] = {1 - row.share, row.share}, by_column[2] = {1 - column.share, column.share};
        for (int64_t k = 0; k < s->c; k++) {
            float sum = 0;
            for (int q = 0; q < 4; q++) {
                float share = by_row[q / 2] * by_column[q % 2];
                bool here = rows[q / 2] >= 0 && columns[q % 2] >= 0;
                int64_t at = here ? (rows[q / 2] * s->w + columns[q % 2]) * s->c + k : 0;
                if (!backward) {
                    sum += share * (here ? v->x[at] : s->a.fill_value);
                } else if (here) {
                    v->y[at] += share * v->x[cell * s->c + k];
                }
            }
            if (!backward) {
                v->y[cell * s->c + k] = sum;
            }
        }
    }
}

static void place_taps(const image_work *v) {
    const warp_state *s = v->s;
    const affine_map *m = &v->m;
    for (int64_t i = 0; i < s->out_h; i++) {
        v->taps[i] = tap_at(&s->a, m->turn[0][0] * (float)i + m->offset[0], s->h);
    }
    for (int64_t j = 0; j < s->out_w; j++) {
        v->taps[s->out_h + j] = tap_at(&s->a, m->turn[1][1] * (float)j + m->offset[1], s->w);
    }
    for (int64_t e = 0; e < s->w * s->c; e++) {
        v->fill[e] = s->a.fill_value;
    }
    for (int64_t k = 0; k < s->c; k++) {
        v->line[s->w * s->c + k] = s->a.fill_value;
    }
}

typedef struct warp_work {
    const warp_state *s;
    const ls_run *run;
    const float *x;
    float *y;
    char *scratch;
    bool backward;
} warp_work;

static void warp_range(void *context, size_t begin, size_t end) {
    const warp_work *w = context;
    const warp_state *s = w->s;
    size_t n_in = (size_t)(s->h * s->w * s->c), n_out = (size_t)(s->out_h * s->out_w * s->c);
    for (size_t k = begin; k < end; k++) {
        image_work v = {.s = s,
                        .m = draw(s, w->run, k),
                        .x = w->x + k * (w->backward ? n_out : n_in),
                        .y = w->y + k * (w->backward ? n_in : n_out)};
        if (s->a.kind == LS_WARP_ROTATE) {
            turned(&v, w->backward);
            continue;
        }
        v.line = (float *)(w->scratch + k * s->scratch_bytes);
        v.fill = v.line + (s->w + 1) * s->c;
        v.taps = (tap *)(v.fill + s->w * s->c);
        place_taps(&v);
        if (w->backward) {
            separable_back(&v);
        } else {
            separable(&v);
        }
    }
}

/* ---- in a plan ---- */

static void run_warp(const ls_call *call, const ls_run *run, bool backward) {
    warp_work w = {call->state, run, call->args[0].p, call->args[1].p, call->args[2].p, backward};
    ls_ops_parallel(run->n_threads, w.s->n_images, 1, warp_range, &w);
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    run_warp(call, run, false);
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    run_warp(call, run, true);
}

static warp_state *new_state(const ls_plan *p, const ls_node *node) {
    const ls_shape *in = &node->in[0]->shape, *out = &node->out[0]->shape;
    warp_state *s = ls_xcalloc(1, sizeof *s);
    s->a = *(const ls_warp_attr *)node->attr;
    s->layer = node->id;
    s->n_images = (size_t)ls_plan_rows(p, node->in[0]);
    s->rows = (size_t)node->in[0]->rows;
    s->h = in->dim[0];
    s->w = in->dim[1];
    s->c = in->dim[2];
    s->out_h = out->dim[0];
    s->out_w = out->dim[1];
    size_t bytes = (size_t)((2 * s->w + 1) * s->c) * sizeof(float) + (size_t)(s->out_h + s->out_w) * sizeof(tap);
    s->scratch_bytes = ls_align_up(bytes, LS_ALIGN);
    return s;
}

static void emit(ls_plan *p, ls_phase phase, const char *label, const ls_node *node, ls_kernel kernel, ls_ref src,
                 ls_ref dst) {
    warp_state *s = new_state(p, node);
    ls_ref scratch = ls_plan_temp(p, s->n_images * s->scratch_bytes);
    ls_call *c = ls_plan_emit(p, phase, label, node, kernel, s, NULL);
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_WRITE, dst);
    ls_call_arg(c, LS_WRITE, scratch);
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const ls_warp_attr *a = node->attr;
    if (ls_plan_training(p)) {
        ls_ref src = ls_plan_in(p, node->in[0], LS_F32), dst = ls_plan_out(p, node->out[0], LS_F32);
        emit(p, LS_PHASE_FORWARD, "warp.forward", node, forward_kernel, src, dst);
    } else if (a->kind == LS_WARP_CROP) {
        ls_resize_attr window = ls_resize_window(&node->in[0]->shape, &node->out[0]->shape);
        ls_resize_emit(p, node, &window);
    } else {
        ls_dtype dtype = ls_plan_stored(p, node->in[0]);
        ls_plan_out_view(p, node->out[0], ls_plan_in(p, node->in[0], dtype), dtype);
    }
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_ref dout = ls_plan_dout(p, node->out[0], LS_F32);
    if (ls_ref_some(dout) && ls_plan_wants_grad(p, node->in[0])) {
        ls_ref din = ls_plan_din(p, node->in[0], LS_F32);
        emit(p, LS_PHASE_BACKWARD, "warp.backward", node, backward_kernel, dout, din);
    }
    return LS_OK;
}

const ls_operator ls_op_warp = {"warp", forward, backward, NULL, NULL};
