/*
 * Dropout.
 *
 * The draw for an element is 16 bits of Philox4x32, a pure function of seed, layer, step, the sample's index in the
 * data set, and the element's place in the sample: the same whichever rank, lane or thread draws it. Elements are
 * numbered e in the sample (all rows of it), in groups of 128 that take 16 counters: element e uses counter
 * (e / 128) * 16 + e % 16 and its half-word (e % 128) / 16, so that 16 counters are computed side by side and each
 * half-word of all of them covers 16 neighbours.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "common/rng.h"
#include "worker/ops/draw.h"
#include "worker/ops/ops_common.h"

enum { GROUP = LS_DRAW_GROUP, SIDE = 16 };

/* keep[e] = 1 if the half-word of element e of the group is at least threshold. */
static void draw_group(uint64_t key, uint32_t group, uint64_t high, uint32_t threshold, uint8_t *restrict keep) {
    uint32_t word[4][SIDE];
    for (uint32_t l = 0; l < SIDE; l++) { /* vectorised: the rounds of 16 counters side by side, 0.5 ns an element */
        ls_philox r = ls_philox4x32(key, group * SIDE + l, high);
        word[0][l] = r.v[0];
        word[1][l] = r.v[1];
        word[2][l] = r.v[2];
        word[3][l] = r.v[3];
    }
    for (int w = 0; w < 4; w++) {
        for (int l = 0; l < SIDE; l++) {
            keep[(2 * w) * SIDE + l] = (word[w][l] & 0xFFFFu) >= threshold;
            keep[(2 * w + 1) * SIDE + l] = (word[w][l] >> 16) >= threshold;
        }
    }
}

typedef struct dropout_state {
    uint32_t threshold;
    float scale;
    int layer;
    ls_dtype dtype;
    size_t n_elems; /* of a sample, all rows */
    size_t n_drawn; /* mask elements of a sample */
    size_t stride;  /* bytes of a sample's mask: n_drawn up to a whole group */
    bool shared;    /* by all samples: each draws the same mask */
    bool whole;     /* every element has a draw of its own */
    int rank;       /* else: axes (rows, shape), and the step of each in the mask, 0 where it is shared */
    size_t dim[LS_MAX_RANK + 1], step[LS_MAX_RANK + 1];
} dropout_state;

typedef struct dropout_work {
    const dropout_state *s;
    const ls_run *run;
    const void *x;
    void *y;
    uint8_t *mask;
    bool draw;
} dropout_work;

uint32_t ls_draw_threshold(double rate) {
    return (uint32_t)lround(rate * 65536.0);
}

void ls_draw_keep(const ls_run *run, int layer, size_t sample, uint32_t first_group, uint32_t threshold, size_t n,
                  uint8_t *keep) {
    uint64_t key = ls_rng_key(run->seed, LS_STREAM_LAYER, (uint64_t)layer);
    uint64_t high = run->step << 32 | (sample != LS_DRAW_BATCH ? run->sample_index[sample] : UINT32_MAX);
    for (size_t e = 0; e < n; e += GROUP) {
        draw_group(key, first_group + (uint32_t)(e / GROUP), high, threshold, keep + e);
    }
}

static void scale_f32(const float *x, const uint8_t *restrict keep, float *y, size_t n, float scale) {
#pragma GCC ivdep
    for (size_t i = 0; i < n; i++) {
        y[i] = keep[i] ? x[i] * scale : 0.0f;
    }
}

static void scale_bf16(const uint16_t *x, const uint8_t *restrict keep, uint16_t *y, size_t n, float scale) {
#pragma GCC ivdep
    for (size_t i = 0; i < n; i++) {
        uint16_t v = ls_bf16_from_f32(ls_bf16_to_f32(x[i]) * scale);
        y[i] = keep[i] ? v : 0;
    }
}

/* One step of the odometer over the axes but the last; moves the place in the mask. */
static size_t next_line(const dropout_state *s, size_t *index, size_t at) {
    for (int i = s->rank - 2; i >= 0; i--) {
        at += s->step[i];
        if (++index[i] < s->dim[i]) {
            return at;
        }
        at -= s->dim[i] * s->step[i];
        index[i] = 0;
    }
    return at;
}

/* The mask of one sample spread over the axes that share it, line by line. */
static void scale_shared(const dropout_state *s, const void *x, const uint8_t *mask, void *y) {
    size_t index[LS_MAX_RANK + 1] = {0}, at = 0, line = s->dim[s->rank - 1];
    for (size_t e = 0; e < s->n_elems; e += line) {
        for (size_t i = 0; i < line; i++) {
            bool keep = mask[at + i * s->step[s->rank - 1]] != 0;
            if (s->dtype == LS_F32) {
                ((float *)y)[e + i] = keep ? ((const float *)x)[e + i] * s->scale : 0.0f;
            } else {
                float v = ls_bf16_to_f32(((const uint16_t *)x)[e + i]) * s->scale;
                ((uint16_t *)y)[e + i] = keep ? ls_bf16_from_f32(v) : 0;
            }
        }
        at = next_line(s, index, at);
    }
}

static void dropout_range(void *context, size_t begin, size_t end) {
    const dropout_work *w = context;
    const dropout_state *s = w->s;
    size_t bytes = s->n_elems * ls_dtype_bytes(s->dtype);
    for (size_t i = begin; i < end; i++) {
        uint8_t *mask = w->mask + i * s->stride;
        const char *x = (const char *)w->x + i * bytes;
        char *y = (char *)w->y + i * bytes;
        if (w->draw) {
            ls_draw_keep(w->run, s->layer, s->shared ? LS_DRAW_BATCH : i, 0, s->threshold, s->n_drawn, mask);
        }
        if (!s->whole) {
            scale_shared(s, x, mask, y);
        } else if (s->dtype == LS_F32) {
            scale_f32((const float *)x, mask, (float *)y, s->n_elems, s->scale);
        } else {
            scale_bf16((const uint16_t *)x, mask, (uint16_t *)y, s->n_elems, s->scale);
        }
    }
}

static void run_dropout(const ls_call *call, const ls_run *run, bool draw) {
    const dropout_state *s = call->state;
    dropout_work w = {s, run, call->args[0].p, call->args[2].p, call->args[1].p, draw};
    size_t chunk = LS_CHUNK / s->n_elems;
    ls_ops_parallel(run->n_threads, (size_t)run->n_samples, chunk ? chunk : 1, dropout_range, &w);
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    run_dropout(call, run, true);
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    run_dropout(call, run, false);
}

static dropout_state *new_state(const ls_node *node, ls_dtype dtype) {
    const ls_dropout_attr *a = node->attr;
    const ls_tensor *t = node->in[0];
    dropout_state *s = ls_xcalloc(1, sizeof *s);
    s->threshold = ls_draw_threshold(a->rate);
    s->scale = a->rate < 1.0 ? (float)(1.0 / (1.0 - a->rate)) : 0.0f;
    s->layer = node->id;
    s->dtype = dtype;
    s->shared = a->whole_batch;
    s->n_elems = (size_t)(t->rows * ls_shape_elems(&t->shape));
    s->rank = t->shape.rank + 1;
    s->whole = true;
    s->n_drawn = 1;
    for (int i = s->rank - 1; i >= 0; i--) {
        bool own = i == 0 || (a->keep_axes >> (i - 1) & 1u);
        s->dim[i] = (size_t)(i == 0 ? t->rows : t->shape.dim[i - 1]);
        s->step[i] = own ? s->n_drawn : 0;
        s->n_drawn *= own ? s->dim[i] : 1;
        s->whole = s->whole && (own || s->dim[i] == 1);
    }
    s->stride = ls_align_up(s->n_drawn, GROUP);
    return s;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const ls_dropout_attr *a = node->attr;
    ls_dtype dtype = ls_plan_stored(p, node->in[0]);
    ls_ref src = ls_plan_in(p, node->in[0], dtype);
    if (!ls_plan_training(p) || a->rate <= 0.0) {
        ls_plan_out_view(p, node->out[0], src, dtype);
        return LS_OK;
    }
    dropout_state *s = new_state(node, dtype);
    ls_ref *mask = ls_xcalloc(1, sizeof *mask);
    *mask = ls_plan_temp(p, (size_t)ls_plan_samples(p) * s->stride);
    ls_plan_remember(p, node, mask);
    ls_ref dst = ls_plan_out(p, node->out[0], dtype);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "dropout.forward", node, forward_kernel, s, NULL);
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_WRITE, *mask);
    ls_call_arg(c, LS_WRITE, dst);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const ls_ref *mask = ls_plan_recall(p, node);
    ls_dtype dtype = ls_plan_stored(p, node->out[0]);
    ls_ref dout = ls_plan_dout(p, node->out[0], dtype);
    if (!ls_ref_some(dout) || !ls_plan_wants_grad(p, node->in[0])) {
        return LS_OK;
    }
    bool in_place = mask == NULL || ls_plan_dout_exclusive(p, node->out[0]);
    ls_ref din = dout;
    if (in_place) {
        ls_plan_din_view(p, node->in[0], dout, dtype);
    } else {
        din = ls_plan_din(p, node->in[0], dtype);
    }
    if (mask != NULL) {
        ls_call *c =
            ls_plan_emit(p, LS_PHASE_BACKWARD, "dropout.backward", node, backward_kernel, new_state(node, dtype), NULL);
        ls_call_arg(c, in_place ? LS_READWRITE : LS_READ, dout);
        ls_call_arg(c, LS_READ, *mask);
        ls_call_arg(c, LS_WRITE, din);
    }
    return LS_OK;
}

const ls_operator ls_op_dropout = {"dropout", forward, backward, NULL};
