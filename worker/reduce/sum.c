#include "worker/reduce/sum.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

enum { SHAPE_ANY, SHAPE_2, SHAPE_3_LEFT, SHAPE_3_RIGHT, SHAPE_4 };

static int shape_of(const ls_sum *s) {
    const ls_sum_op *o = s->ops;
    if (s->n_out != 1) {
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

void ls_sum_init(ls_sum *s, int n_lanes, const ls_branch *leaves, int n_leaves) {
    *s = (ls_sum){.n_leaves = n_leaves};
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

void ls_sum_run(const ls_sum *s, const float *const *leaf, size_t n, float *scratch, size_t stride, const float **out) {
    float *restrict d = scratch;
    if (s->shape != SHAPE_ANY) {
        const float *f0 = leaf[0], *f1 = leaf[1];
        const float *f2 = s->n_leaves > 2 ? leaf[2] : NULL, *f3 = s->n_leaves > 3 ? leaf[3] : NULL;
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
        add(scratch + (size_t)(o.dst - s->n_leaves) * stride, reg(s, leaf, scratch, stride, o.a),
            reg(s, leaf, scratch, stride, o.b), n);
    }
    for (int i = 0; i < s->n_out; i++) {
        out[i] = reg(s, leaf, scratch, stride, s->out[i]);
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
