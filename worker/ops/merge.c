/*
 * Element-wise merges of several inputs: sum, difference, product, mean, largest, smallest.
 *
 * Inputs that broadcast (an axis of size 1 against a longer one) are first spread over the output's shape; their
 * gradients are summed back. Of equal inputs the first is the largest (smallest) and takes the gradient, as in
 * tf.maximum(tf.maximum(a, b), c).
 */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"

enum { BLOCK = 512, MOST = LS_CALL_ARGS - 2 };

typedef struct merge_state {
    ls_merge_kind kind;
    ls_dtype dtype;
    size_t n;
    int n_in;
    int which; /* backward: the input whose gradient this is */
} merge_state;

typedef struct merge_work {
    const merge_state *s;
    const ls_arg *in; /* (n_in) */
    const void *dy;   /* NULL: forward */
    void *to;
} merge_work;

static void combine(ls_merge_kind kind, float *restrict y, const float *restrict x, size_t n) {
    switch (kind) {
        case LS_MERGE_ADD:
        case LS_MERGE_AVERAGE:
            for (size_t i = 0; i < n; i++) {
                y[i] += x[i];
            }
            break;
        case LS_MERGE_SUBTRACT:
            for (size_t i = 0; i < n; i++) {
                y[i] -= x[i];
            }
            break;
        case LS_MERGE_MULTIPLY:
            for (size_t i = 0; i < n; i++) {
                y[i] *= x[i];
            }
            break;
        case LS_MERGE_MAXIMUM:
            for (size_t i = 0; i < n; i++) {
                y[i] = x[i] > y[i] ? x[i] : y[i];
            }
            break;
        case LS_MERGE_MINIMUM:
            for (size_t i = 0; i < n; i++) {
                y[i] = x[i] < y[i] ? x[i] : y[i];
            }
            break;
    }
}

static void scale(float *y, float by, size_t n) {
    for (size_t i = 0; i < n; i++) {
        y[i] *= by;
    }
}

/* The residual sum in single precision, straight from memory to memory: it is bound by it. */
static void add_two(const float *restrict a, const float *restrict b, float *restrict y, size_t n) {
    for (size_t i = 0; i < n; i++) {
        y[i] = a[i] + b[i];
    }
}

static void forward_block(const merge_work *w, size_t at, size_t n) {
    const merge_state *s = w->s;
    if (s->kind == LS_MERGE_ADD && s->n_in == 2 && s->dtype == LS_F32) {
        add_two((const float *)w->in[0].p + at, (const float *)w->in[1].p + at, (float *)w->to + at, n);
        return;
    }
    float y[BLOCK], x[BLOCK];
    ls_load_f32(s->dtype, w->in[0].p, at, y, n);
    for (int k = 1; k < s->n_in; k++) {
        ls_load_f32(s->dtype, w->in[k].p, at, x, n);
        combine(s->kind, y, x, n);
    }
    if (s->kind == LS_MERGE_AVERAGE) {
        scale(y, 1.0f / (float)s->n_in, n);
    }
    ls_store_f32(s->dtype, w->to, at, y, n);
}

/* dy where input `which` is the first that is largest (smallest), else 0. */
static void keep_winner(const merge_work *w, size_t at, size_t n, float *restrict dy) {
    const merge_state *s = w->s;
    float mine[BLOCK], x[BLOCK];
    ls_load_f32(s->dtype, w->in[s->which].p, at, mine, n);
    for (int k = 0; k < s->n_in; k++) {
        if (k == s->which) {
            continue;
        }
        ls_load_f32(s->dtype, w->in[k].p, at, x, n);
        if (s->kind == LS_MERGE_MINIMUM) {
            scale(x, -1.0f, n);
        }
        const float sign = s->kind == LS_MERGE_MINIMUM ? -1.0f : 1.0f;
        for (size_t i = 0; i < n; i++) {
            float m = sign * mine[i];
            bool wins = k < s->which ? m > x[i] : m >= x[i];
            dy[i] = wins ? dy[i] : 0.0f;
        }
    }
}

static void backward_block(const merge_work *w, size_t at, size_t n) {
    const merge_state *s = w->s;
    float dy[BLOCK], x[BLOCK];
    ls_load_f32(s->dtype, w->dy, at, dy, n);
    switch (s->kind) {
        case LS_MERGE_ADD: break;
        case LS_MERGE_SUBTRACT: scale(dy, s->which == 0 ? 1.0f : -1.0f, n); break;
        case LS_MERGE_AVERAGE: scale(dy, 1.0f / (float)s->n_in, n); break;
        case LS_MERGE_MULTIPLY:
            for (int k = 0; k < s->n_in; k++) {
                if (k != s->which) {
                    ls_load_f32(s->dtype, w->in[k].p, at, x, n);
                    combine(LS_MERGE_MULTIPLY, dy, x, n);
                }
            }
            break;
        case LS_MERGE_MAXIMUM:
        case LS_MERGE_MINIMUM: keep_winner(w, at, n, dy); break;
    }
    ls_store_f32(s->dtype, w->to, at, dy, n);
}

static void merge_range(void *context, size_t begin, size_t end) {
    const merge_work *w = context;
    for (size_t at = begin; at < end; at += BLOCK) {
        size_t n = end - at < BLOCK ? end - at : BLOCK;
        if (w->dy == NULL) {
            forward_block(w, at, n);
        } else {
            backward_block(w, at, n);
        }
    }
}

/* Arguments: result, the output's gradient (NULL in forward), then the inputs. */
static void merge_kernel(const ls_call *call, const ls_run *run) {
    const merge_state *s = call->state;
    merge_work w = {s, call->args + 2, call->args[1].p, call->args[0].p};
    ls_ops_parallel(run->n_threads, s->n, LS_CHUNK, merge_range, &w);
}

/* ---- broadcasting, in f32 ---- */

typedef struct spread_state {
    int rank; /* axes (rows, shape) of the wide array */
    size_t dim[LS_MAX_RANK + 1], step[LS_MAX_RANK + 1];
    size_t n_wide, n_narrow;
} spread_state;

/* Walks the wide array and the place in the narrow one that each element belongs to. */
static void walk(const spread_state *s, float *wide, float *narrow, bool sum) {
    size_t index[LS_MAX_RANK + 1] = {0}, at = 0;
    for (size_t i = 0; i < s->n_wide; i++) {
        if (sum) {
            narrow[at] += wide[i];
        } else {
            wide[i] = narrow[at];
        }
        for (int k = s->rank - 1; k >= 0; k--) {
            at += s->step[k];
            if (++index[k] < s->dim[k]) {
                break;
            }
            at -= s->dim[k] * s->step[k];
            index[k] = 0;
        }
    }
}

static void spread_kernel(const ls_call *call, const ls_run *run) {
    (void)run;
    walk(call->state, call->args[1].p, call->args[0].p, false);
}

static void sum_kernel(const ls_call *call, const ls_run *run) {
    const spread_state *s = call->state;
    (void)run;
    memset(call->args[1].p, 0, s->n_narrow * sizeof(float));
    walk(s, call->args[0].p, call->args[1].p, true);
}

/* Shapes are aligned at the last axis; rows count as one axis. */
static spread_state *new_spread(const ls_plan *p, const ls_tensor *narrow, const ls_tensor *wide) {
    spread_state *s = ls_xcalloc(1, sizeof *s);
    int shift = wide->shape.rank - narrow->shape.rank;
    s->rank = wide->shape.rank + 1;
    s->n_wide = ls_plan_elems(p, wide);
    s->n_narrow = ls_plan_elems(p, narrow);
    size_t step = 1;
    for (int k = s->rank - 1; k >= 1; k--) {
        int64_t small = k - 1 - shift >= 0 ? narrow->shape.dim[k - 1 - shift] : 1;
        s->dim[k] = (size_t)wide->shape.dim[k - 1];
        s->step[k] = small == 1 ? 0 : step;
        step *= (size_t)small;
    }
    s->dim[0] = (size_t)ls_plan_rows(p, wide);
    s->step[0] = step;
    return s;
}

/* ---- the operator ---- */

typedef struct merge_note {
    ls_dtype dtype;
    ls_ref in[MOST];
} merge_note;

static bool same_shape(const ls_tensor *a, const ls_tensor *b) {
    return a->rows == b->rows && ls_shape_equal(&a->shape, &b->shape);
}

/* One type for all: single precision as soon as one is not bfloat16 or broadcasts. */
static ls_dtype work_dtype(const ls_plan *p, const ls_node *node) {
    for (int i = 0; i < node->n_in; i++) {
        if (ls_plan_stored(p, node->in[i]) != LS_BF16 || !same_shape(node->in[i], node->out[0])) {
            return LS_F32;
        }
    }
    return LS_BF16;
}

static ls_call *emit_merge(ls_plan *p, const ls_node *node, ls_phase phase, ls_dtype dtype, int which, ls_ref to,
                           ls_ref dy) {
    merge_state *s = ls_xcalloc(1, sizeof *s);
    s->kind = ((const ls_merge_attr *)node->attr)->kind;
    s->dtype = dtype;
    s->n = ls_plan_elems(p, node->out[0]);
    s->n_in = node->n_in;
    s->which = which;
    ls_call *c = ls_plan_emit(p, phase, phase == LS_PHASE_FORWARD ? "merge.forward" : "merge.backward", node,
                              merge_kernel, s, NULL);
    ls_call_arg(c, LS_WRITE, to);
    ls_call_arg(c, LS_READ, dy);
    return c;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    if (node->n_in > MOST) {
        return ls_fail(err, LS_EUNSUPPORTED, "a merge of %d inputs; at most %d are possible, merge in two steps",
                       node->n_in, MOST);
    }
    merge_note *note = ls_xcalloc(1, sizeof *note);
    ls_plan_remember(p, node, note);
    note->dtype = work_dtype(p, node);
    for (int i = 0; i < node->n_in; i++) {
        note->in[i] = ls_plan_in(p, node->in[i], note->dtype);
        if (!same_shape(node->in[i], node->out[0])) {
            ls_ref wide = ls_plan_temp(p, ls_plan_elems(p, node->out[0]) * sizeof(float));
            ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "merge.spread", node, spread_kernel,
                                      new_spread(p, node->in[i], node->out[0]), NULL);
            ls_call_arg(c, LS_READ, note->in[i]);
            ls_call_arg(c, LS_WRITE, wide);
            note->in[i] = wide;
        }
    }
    ls_ref dst = ls_plan_out(p, node->out[0], note->dtype);
    ls_call *c = emit_merge(p, node, LS_PHASE_FORWARD, note->dtype, 0, dst, (ls_ref){0});
    for (int i = 0; i < node->n_in; i++) {
        ls_call_arg(c, LS_READ, note->in[i]);
    }
    return LS_OK;
}

/* The gradient of input i over the output's shape. */
static void emit_gradient(ls_plan *p, const ls_node *node, const merge_note *note, int i, ls_ref dout, ls_ref to) {
    ls_merge_kind kind = ((const ls_merge_attr *)node->attr)->kind;
    bool needs_inputs = kind == LS_MERGE_MULTIPLY || kind == LS_MERGE_MAXIMUM || kind == LS_MERGE_MINIMUM;
    ls_call *c = emit_merge(p, node, LS_PHASE_BACKWARD, note->dtype, i, to, dout);
    for (int k = 0; k < node->n_in; k++) {
        ls_call_arg(c, LS_READ, needs_inputs ? note->in[k] : (ls_ref){0});
    }
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const merge_note *note = ls_plan_recall(p, node);
    ls_merge_kind kind = ((const ls_merge_attr *)node->attr)->kind;
    ls_ref dout = ls_plan_dout(p, node->out[0], note->dtype);
    for (int i = 0; ls_ref_some(dout) && i < node->n_in; i++) {
        if (!ls_plan_wants_grad(p, node->in[i])) {
            continue;
        }
        bool passes = kind == LS_MERGE_ADD || (kind == LS_MERGE_SUBTRACT && i == 0);
        bool same = same_shape(node->in[i], node->out[0]);
        if (same && passes) {
            ls_plan_din_view(p, node->in[i], dout, note->dtype);
            continue;
        }
        ls_ref wide = dout;
        if (!passes) {
            wide = same ? ls_plan_din(p, node->in[i], note->dtype)
                        : ls_plan_temp(p, ls_plan_elems(p, node->out[0]) * sizeof(float));
            emit_gradient(p, node, note, i, dout, wide);
        }
        if (!same) {
            ls_ref din = ls_plan_din(p, node->in[i], LS_F32);
            ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "merge.sum", node, sum_kernel,
                                      new_spread(p, node->in[i], node->out[0]), NULL);
            ls_call_arg(c, LS_READ, wide);
            ls_call_arg(c, LS_WRITE, din);
        }
    }
    return LS_OK;
}

const ls_operator ls_op_merge = {"merge", forward, backward, NULL, NULL};
