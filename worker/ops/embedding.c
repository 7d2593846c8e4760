/* Rows of a table by number. The gradient adds the rows of equal numbers in the order of the batch. */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"

typedef struct embedding {
    size_t n_tokens;
    int64_t n_words;
    size_t width;
} embedding;

typedef struct embedding_work {
    const embedding *e;
    const float *tokens, *from;
    float *to;
} embedding_work;

/* The row of a token; -1: none. */
static inline int64_t word_of(const embedding *e, float token) {
    return token >= 0 && token < (float)e->n_words ? (int64_t)token : -1;
}

static void forward_range(void *context, size_t begin, size_t end) {
    const embedding_work *w = context;
    for (size_t i = begin; i < end; i++) {
        int64_t word = word_of(w->e, w->tokens[i]);
        float *y = w->to + i * w->e->width;
        for (size_t k = 0; k < w->e->width; k++) {
            y[k] = word < 0 ? NAN : w->from[(size_t)word * w->e->width + k];
        }
    }
}

/* Columns [begin, end) of the table's gradient, over all tokens. */
static void backward_range(void *context, size_t begin, size_t end) {
    const embedding_work *w = context;
    size_t width = w->e->width;
    for (size_t word = 0; word < (size_t)w->e->n_words; word++) {
        memset(w->to + word * width + begin, 0, (end - begin) * sizeof *w->to);
    }
    for (size_t i = 0; i < w->e->n_tokens; i++) {
        int64_t word = word_of(w->e, w->tokens[i]);
        for (size_t k = begin; word >= 0 && k < end; k++) {
            w->to[(size_t)word * width + k] += w->from[i * width + k];
        }
    }
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    const embedding *e = call->state;
    embedding_work w = {e, call->args[0].p, call->args[1].p, call->args[2].p};
    size_t chunk = LS_CHUNK / e->width;
    ls_ops_parallel(run->n_threads, e->n_tokens, chunk ? chunk : 1, forward_range, &w);
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    enum { COLUMNS = 16 }; /* a cache line: threads do not share one */
    const embedding *e = call->state;
    embedding_work w = {e, call->args[0].p, call->args[1].p, call->args[2].p};
    ls_ops_parallel(run->n_threads, e->width, COLUMNS, backward_range, &w);
}

static embedding *new_embedding(const ls_plan *p, const ls_node *node) {
    embedding *e = ls_xcalloc(1, sizeof *e);
    e->n_tokens = ls_plan_elems(p, node->in[0]);
    e->n_words = node->weights[0]->shape.dim[0];
    e->width = (size_t)node->weights[0]->shape.dim[1];
    return e;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    LS_ASSERT(ls_plan_weight_layout(p, node->weights[0], NULL) == NULL);
    ls_ref src = ls_plan_in(p, node->in[0], LS_F32), dst = ls_plan_out(p, node->out[0], LS_F32);
    ls_ref *tokens = ls_xcalloc(1, sizeof *tokens); /* backward reads them again */
    *tokens = src;
    ls_plan_remember(p, node, tokens);
    ls_call *c =
        ls_plan_emit(p, LS_PHASE_FORWARD, "embedding.forward", node, forward_kernel, new_embedding(p, node), NULL);
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_READ, ls_plan_weight(p, node->weights[0]));
    ls_call_arg(c, LS_WRITE, dst);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_ref ddst = ls_plan_dout(p, node->out[0], LS_F32);
    if (!ls_ref_some(ddst) || !node->weights[0]->trainable) {
        return LS_OK;
    }
    ls_ref src = *(const ls_ref *)ls_plan_recall(p, node), dweight = ls_plan_dweight(p, node->weights[0]);
    ls_call *c =
        ls_plan_emit(p, LS_PHASE_BACKWARD, "embedding.backward", node, backward_kernel, new_embedding(p, node), NULL);
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_READ, ddst);
    ls_call_arg(c, LS_WRITE, dweight);
    return LS_OK;
}

const ls_operator ls_op_embedding = {"embedding", forward, backward, NULL};
