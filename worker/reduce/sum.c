#include "worker/reduce/sum.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/plan/bf16.h"

enum { SHAPE_ANY, SHAPE_2, SHAPE_3_LEFT, SHAPE_3_RIGHT, SHAPE_4 };

static int shape_of(const ls_sum *s) {
    const ls_sum_op *o = s->ops;
    if (s->n_out != 1 || s->bfloat16) {
        return SHAPE_ANY;
    }
    if (s->n_leaves == 2) {
        return SHAPE_2;
    }
    if (s->n_leaves == 3) {
        return o[0].a == 0 ? SHAPE_3_LEFT : SHAPE_3_RIGHT;
    }
    return s->n_leaves == 4 && o[0].a == 0 && o[1].a == 2 ? SHAPE_4 : SHAPE_ANY;
}

/* A scratch chunk to write to: that of an operand which is one already, else the lowest free. */
static int claim(ls_sum *s, bool *busy, int a, int b) {
    if (a >= s->n_leaves) {
        if (b >= s->n_leaves) {
            busy[b - s->n_leaves] = false;
        }
        return a;
    }
    if (b >= s->n_leaves) {
        return b;
    }
    int i = 0;
    while (busy[i]) {
        i++;
    }
    busy[i] = true;
    if (i + 1 > s->n_scratch) {
        s->n_scratch = i + 1;
    }
    return s->n_leaves + i;
}

void ls_sum_init(ls_sum *s, int n_lanes, const ls_branch *leaves, int n_leaves, bool bfloat16) {
    *s = (ls_sum){.n_leaves = n_leaves, .bfloat16 = bfloat16};
    size_t n = (size_t)n_leaves;
    s->ops = ls_xcalloc(n, sizeof *s->ops);
    s->out = ls_xcalloc(n, sizeof *s->out);
    s->node = ls_xcalloc(n, sizeof *s->node);
    bool *busy = ls_xcalloc(n, sizeof *busy);
    for (int i = 0; i < n_leaves; i++) {
        s->out[s->n_out] = i;
        s->node[s->n_out++] = leaves[i];
        while (s->n_out >= 2) {
            int l = s->n_out - 2, r = s->n_out - 1;
            LS_ASSERT(s->node[l].first + s->node[l].count <= s->node[r].first);
            int count = s->node[l].count + s->node[r].count;
            if (s->node[l].first + s->node[l].count != s->node[r].first ||
                !ls_lanes_is_node(n_lanes, s->node[l].first, count) ||
                !ls_lanes_is_node(n_lanes, s->node[r].first, s->node[r].count)) {
                break;
            }
            int dst = claim(s, busy, s->out[l], s->out[r]);
            s->ops[s->n_ops++] = (ls_sum_op){dst, s->out[l], s->out[r]};
            s->out[l] = dst;
            s->node[l].count = count;
            s->n_out--;
        }
    }
    for (int i = 0; bfloat16 && i < s->n_out; i++) {
        if (s->out[i] < n_leaves) { /* nothing to add to it; it is rounded all the same */
            int dst = claim(s, busy, s->out[i], s->out[i]);
            s->ops[s->n_ops++] = (ls_sum_op){dst, s->out[i], -1};
            s->out[i] = dst;
        }
    }
    s->shape = shape_of(s);
    free(busy);
}

void ls_sum_release(ls_sum *s) {
    free(s->ops);
    free(s->out);
    free(s->node);
    *s = (ls_sum){0};
}

static const float *reg(const ls_sum *s, const float *const *leaf, float *scratch, size_t stride, int i) {
    return i < s->n_leaves ? leaf[i] : scratch + (size_t)(i - s->n_leaves) * stride;
}

/* dst may be a or b, element for element. */
static void add(float *dst, const float *a, const float *b, size_t n) {
#pragma GCC ivdep
    for (size_t i = 0; i < n; i++) {
        dst[i] = a[i] + b[i];
    }
}

/* To what bfloat16 can say. */
static inline float rounded(float x) {
    return ls_bf16_to_f32(ls_bf16_from_f32(x));
}

static void add_rounded(float *dst, const float *a, const float *b, size_t n) {
#pragma GCC ivdep
    for (size_t i = 0; i < n; i++) {
        dst[i] = rounded(rounded(a[i]) + rounded(b[i]));
    }
}

static void copy_rounded(float *restrict dst, const float *restrict a, size_t n) {
    for (size_t i = 0; i < n; i++) {
        dst[i] = rounded(a[i]);
    }
}

void ls_sum_merge(float *restrict dst, const float *restrict src, size_t n, bool bfloat16) {
    if (bfloat16) {
        add_rounded(dst, dst, src, n);
    } else {
        add(dst, dst, src, n);
    }
}

void ls_sum_pack(uint16_t *restrict to, const float *restrict from, size_t n) {
    for (size_t i = 0; i < n; i++) {
        to[i] = ls_bf16_from_f32(from[i]);
    }
}

void ls_sum_unpack(float *restrict to, const uint16_t *restrict from, size_t n) {
    for (size_t i = 0; i < n; i++) {
        to[i] = ls_bf16_to_f32(from[i]);
    }
}

static void run_op(const ls_sum *s, ls_sum_op o, float *dst, const float *a, const float *b, size_t n) {
    if (o.b < 0) {
        copy_rounded(dst, a, n);
    } else if (s->bfloat16) {
        add_rounded(dst, a, b, n);
    } else {
        add(dst, a, b, n);
    }
}

void ls_sum_run(const ls_sum *s, const float *const *leaf, size_t n, float *scratch, size_t stride, const float **out) {
    float *restrict d = scratch;
    if (s->shape != SHAPE_ANY) {
        const float *f0 = leaf[0], *f1 = leaf[1];
        const float *f2 = s->n_leaves > 2 ? leaf[2] : f1, *f3 = s->n_leaves > 3 ? leaf[3] : f1; /* f1: not used */
        switch (s->shape) {
            case SHAPE_2:
                for (size_t i = 0; i < n; i++) {
                    d[i] = f0[i] + f1[i];
                }
                break;
            case SHAPE_3_LEFT:
                for (size_t i = 0; i < n; i++) {
                    d[i] = (f0[i] + f1[i]) + f2[i];
                }
                break;
            case SHAPE_3_RIGHT:
                for (size_t i = 0; i < n; i++) {
                    d[i] = f0[i] + (f1[i] + f2[i]);
                }
                break;
            default:
                for (size_t i = 0; i < n; i++) {
                    d[i] = (f0[i] + f1[i]) + (f2[i] + f3[i]);
                }
        }
        out[0] = d;
        return;
    }
    for (int i = 0; i < s->n_ops; i++) {
        ls_sum_op o = s->ops[i];
        run_op(s, o, scratch + (size_t)(o.dst - s->n_leaves) * stride, reg(s, leaf, scratch, stride, o.a),
               o.b >= 0 ? reg(s, leaf, scratch, stride, o.b) : NULL, n);
    }
    for (int i = 0; i < s->n_out; i++) {
        out[i] = reg(s, leaf, scratch, stride, s->out[i]);
    }
}

static const double *reg_f64(const ls_sum *s, const double *const *leaf, double *scratch, size_t stride, int i) {
    return i < s->n_leaves ? leaf[i] : scratch + (size_t)(i - s->n_leaves) * stride;
}

void ls_sum_run_f64(const ls_sum *s, const double *const *leaf, size_t n, double *scratch, size_t stride,
                    const double **out) {
    for (int i = 0; i < s->n_ops; i++) {
        ls_sum_op o = s->ops[i];
        double *dst = scratch + (size_t)(o.dst - s->n_leaves) * stride;
        const double *a = reg_f64(s, leaf, scratch, stride, o.a), *b = reg_f64(s, leaf, scratch, stride, o.b);
#pragma GCC ivdep
        for (size_t k = 0; k < n; k++) { /* dst may be a or b, element for element */
            dst[k] = a[k] + b[k];
        }
    }
    for (int i = 0; i < s->n_out; i++) {
        out[i] = reg_f64(s, leaf, scratch, stride, s->out[i]);
    }
}

bool ls_sum_finite(const float *x, size_t n) {
    uint32_t worst = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffffu;
        worst = bits > worst ? bits : worst;
    }
    return worst < 0x7f800000u;
}
