/*
 * Embedding: rows of a table.
 *
 * A number outside the table gives a row of NaN, so that the step's verdict names the trouble instead of a model that
 * learns from the wrong row. Gradients of the rows that were used are added in the order of the batch, whichever thread
 * adds which columns. A small table's gradient is zeroed whole; of a large one just the blocks that the last batch had
 * marked are, and those of this batch's rows are marked (plan.h).
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"
#include "worker/plan/arena.h"

enum { COLUMNS = 64 }; /* of the table that one thread takes at a time in the gradient */

typedef struct table_state {
    size_t n, width; /* numbers, floats of a row */
    int64_t vocabulary;
    ls_dtype dtype; /* of the numbers: LS_I32 or LS_F32 */
} table_state;

typedef struct table_work {
    const table_state *s;
    const void *index;
    const float *from;
    float *to;
} table_work;

/* The row of number i; -1: outside the table. */
static inline int64_t row_of(const table_work *w, size_t i) {
    int64_t row = -1;
    if (w->s->dtype == LS_I32) {
        row = ((const int32_t *)w->index)[i];
    } else {
        float x = ((const float *)w->index)[i];
        row = x >= 0.0f && x < (float)w->s->vocabulary ? (int64_t)x : -1;
    }
    return row >= 0 && row < w->s->vocabulary ? row : -1;
}

static void look_up(void *context, size_t begin, size_t end) {
    const table_work *w = context;
    const size_t width = w->s->width;
    for (size_t i = begin; i < end; i++) {
        int64_t row = row_of(w, i);
        float *to = w->to + i * width;
        if (row >= 0) {
            memcpy(to, w->from + (size_t)row * width, width * sizeof *to);
        } else {
            for (size_t j = 0; j < width; j++) {
                to[j] = NAN;
            }
        }
    }
}

static void add_up(void *context, size_t begin, size_t end) {
    const table_work *w = context;
    const size_t width = w->s->width;
    for (size_t i = 0; i < w->s->n; i++) {
        int64_t row = row_of(w, i);
        if (row < 0) {
            continue;
        }
        const float *restrict from = w->from + i * width;
        float *restrict to = w->to + (size_t)row * width;
        for (size_t j = begin; j < end; j++) {
            to[j] += from[j];
        }
    }
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    const table_state *s = call->state;
    table_work w = {s, call->args[0].p, call->args[1].p, call->args[2].p};
    size_t chunk = LS_CHUNK / s->width;
    ls_ops_parallel(run->n_threads, s->n, chunk ? chunk : 1, look_up, &w);
}

/* Blocks that were written to become zero. */
static void clear_marked(float *to, size_t n, uint64_t *words) {
    for (size_t at = 0; at < n; at += 64 * (size_t)LS_ARENA_BLOCK, words++) {
        for (; *words != 0; *words &= *words - 1) {
            size_t block = at + (size_t)__builtin_ctzll(*words) * LS_ARENA_BLOCK;
            memset(to + block, 0, (block + LS_ARENA_BLOCK <= n ? LS_ARENA_BLOCK : n - block) * sizeof *to);
        }
    }
}

static void mark_rows(const table_work *w, uint64_t *words) {
    const size_t width = w->s->width;
    for (size_t i = 0; i < w->s->n; i++) {
        int64_t row = row_of(w, i);
        if (row < 0) {
            continue;
        }
        size_t first = (size_t)row * width / LS_ARENA_BLOCK, last = ((size_t)(row + 1) * width - 1) / LS_ARENA_BLOCK;
        for (size_t block = first; block <= last; block++) {
            words[block / 64] |= (uint64_t)1 << block % 64;
        }
    }
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    const table_state *s = call->state;
    table_work w = {s, call->args[0].p, call->args[1].p, call->args[2].p};
    const size_t n = (size_t)s->vocabulary * s->width;
    uint64_t *words = call->args[3].p;
    if (words == NULL) {
        memset(w.to, 0, n * sizeof *w.to);
    } else {
        clear_marked(w.to, n, words);
        mark_rows(&w, words);
    }
    ls_ops_parallel(run->n_threads, s->width, COLUMNS, add_up, &w);
}

static table_state *new_state(const ls_plan *p, const ls_node *node) {
    const ls_shape *table = &node->weights[0]->shape;
    table_state *s = ls_xcalloc(1, sizeof *s);
    *s = (table_state){ls_plan_elems(p, node->in[0]), (size_t)table->dim[1], table->dim[0], LS_F32};
    s->dtype = ls_plan_stored(p, node->in[0]) == LS_I32 ? LS_I32 : LS_F32;
    return s;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    table_state *s = new_state(p, node);
    ls_ref index = ls_plan_in(p, node->in[0], s->dtype), out = ls_plan_out(p, node->out[0], LS_F32);
    ls_plan_weight_layout(p, node->weights[0], NULL);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "embedding.forward", node, forward_kernel, s, NULL);
    ls_call_arg(c, LS_READ, index);
    ls_call_arg(c, LS_READ, ls_plan_weight(p, node->weights[0]));
    ls_call_arg(c, LS_WRITE, out);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_ref dout = ls_plan_dout(p, node->out[0], LS_F32);
    if (!ls_ref_some(dout) || !node->weights[0]->trainable) {
        return LS_OK;
    }
    table_state *s = new_state(p, node);
    ls_ref index = ls_plan_in(p, node->in[0], s->dtype);
    ls_ref marks = ls_plan_marks(p, node, node->weights[0]), to = ls_plan_dweight(p, node->weights[0]);
    ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "embedding.backward", node, backward_kernel, s, NULL);
    ls_call_arg(c, LS_READ, index);
    ls_call_arg(c, LS_READ, dout);
    ls_call_arg(c, LS_WRITE, to);
    ls_call_arg(c, LS_READWRITE, marks);
    return LS_OK;
}

const ls_operator ls_op_embedding = {"embedding", forward, backward, NULL, NULL};
