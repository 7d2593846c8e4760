/* The matrices of recurrent operators and their products, through oneDNN. */
#include "worker/ops/rnn.h"

#include <stdlib.h>

#include "common/memory.h"

enum { SHARED_ELEMS = 1 << 24 }; /* of a matrix, from which threads are worth their meeting to pack it: some 5 ms */

rnn_matrix ls_rnn_input_matrix(const rnn_form *f, const ls_node *node) {
    return (rnn_matrix){node->weights[0], f->in, f->wide, 0, f->wide};
}

rnn_matrix ls_rnn_step_matrix(const rnn_form *f, const ls_node *node, int product) {
    if (product == 1 && f->cell->columns[1] == 0) {
        return (rnn_matrix){node->weights[f->attr->use_bias ? 3 : 2], f->from[1], f->to[1], 0, f->to[1]};
    }
    return (rnn_matrix){node->weights[1], f->from[product], f->wide, product == 1 ? f->to[0] : 0, f->to[product]};
}

ls_weight *ls_rnn_step_bias(const rnn_form *f, const ls_node *node, int product, size_t *at) {
    *at = 0;
    if (f->attr->use_bias && product == 0 && f->attr->cell == LS_CELL_GRU_RESET_AFTER) {
        *at = f->wide * sizeof(float);
        return node->weights[2];
    }
    return f->attr->use_bias && product == 1 && f->attr->cell == LS_CELL_JORDAN ? node->weights[4] : NULL;
}

/* As the weights (outputs, inputs) of a dense layer: of W, or of W^T. A gradient that goes back through W is a forward
 * product with W^T, for which oneDNN has faster kernels than for the gradient of a product with W. */
static ls_md describe_matrix(const rnn_matrix *m, bool back) {
    const int64_t in = (int64_t)m->in, width = (int64_t)m->width, total = (int64_t)m->total;
    return back ? (ls_md){.rank = 2, .dim = {in, width}, .stride = {total, 1}, .dtype = LS_F32}
                : (ls_md){.rank = 2, .dim = {width, in}, .stride = {1, total}, .dtype = LS_F32};
}

static ls_linear_desc describe(const rnn_matrix *m, size_t rows, bool bias, bool back, ls_dtype dtype) {
    const int64_t from = (int64_t)(back ? m->width : m->in), to = (int64_t)(back ? m->in : m->width);
    ls_linear_desc d = {.src = ls_md_matrix((int64_t)rows, from, dtype),
                        .dst = ls_md_matrix((int64_t)rows, to, LS_F32),
                        .weights = describe_matrix(m, back)};
    d.weights.any = true;
    d.weights.dtype = dtype;
    if (bias) {
        d.bias = ls_md_vector(to, LS_F32);
    }
    return d;
}

/* The columns in the layout and type that the kernel wants: brought into it once a step. */
static ls_status packed(ls_plan *p, const ls_node *node, const rnn_matrix *m, bool back, ls_dtype dtype,
                        const ls_layout *wanted, ls_ref *out, ls_err *err) {
    ls_ref plain = ls_ref_at(ls_plan_weight(p, m->weight), m->column * sizeof(float));
    if (wanted == NULL && dtype == LS_F32) {
        *out = plain;
        return LS_OK;
    }
    ls_md keras = describe_matrix(m, back), from = ls_md_in(keras, NULL, LS_F32), to = ls_md_in(keras, wanted, dtype);
    ls_prim *reorder;
    const int n_threads = m->in * m->width >= SHARED_ELEMS ? ls_plan_threads(p) : 1;
    LS_TRY(ls_prim_reorder(&reorder, &from, &to, n_threads, err));
    *out = ls_plan_persistent(p, ls_prim_arg_bytes(reorder, LS_ARG_DST));
    ls_prim_refs refs = {0};
    refs.of[LS_ARG_SRC] = plain;
    refs.of[LS_ARG_DST] = *out;
    ls_ops_emit_prim(p, LS_PHASE_PREPARE, "weight.reorder", node, reorder, &refs, 0);
    return LS_OK;
}

static ls_status new_kernel(const rnn_matrix *m, size_t rows, bool bias, bool back, ls_dtype dtype, int n_threads,
                            ls_prim **prim, ls_err *err) {
    ls_linear_desc d = describe(m, rows, bias, back, dtype);
    return ls_prim_linear(prim, &d, LS_PASS_INFERENCE, n_threads, err);
}

ls_status ls_rnn_product(ls_plan *p, const ls_node *node, const rnn_matrix *m, size_t rows, bool bias, bool back,
                         ls_dtype dtype, int n_threads, ls_prim **prim, ls_ref *weight, ls_err *err) {
    ls_plan_weight_layout(p, m->weight, NULL);
    LS_TRY(new_kernel(m, rows, bias, back, dtype, n_threads, prim, err));
    ls_status s = packed(p, node, m, back, dtype, ls_prim_weight_layout(*prim), weight, err);
    if (s != LS_OK) {
        ls_prim_destroy(*prim);
        *prim = NULL;
    }
    return s;
}

ls_status ls_rnn_product_again(const rnn_matrix *m, size_t rows, bool bias, bool back, ls_dtype dtype, ls_prim **prim,
                               ls_err *err) {
    return new_kernel(m, rows, bias, back, dtype, 1, prim, err);
}

ls_status ls_rnn_sum_product(size_t rows, size_t in, size_t width, bool add, ls_dtype dtype, int n_threads,
                             ls_prim **prim, ls_err *err) {
    const int64_t k = (int64_t)rows, m = (int64_t)in, n = (int64_t)width;
    ls_md a = {.rank = 2, .dim = {m, k}, .stride = {1, m}, .dtype = dtype};
    ls_md b = ls_md_matrix(k, n, dtype), c = ls_md_matrix(m, n, LS_F32);
    return ls_prim_matmul(prim, &a, &b, &c, add, n_threads, err);
}

void ls_rnn_product_run(ls_prim *prim, const void *src, const void *weight, const float *bias, float *dst,
                        void *scratch) {
    void *of[LS_ARG_COUNT] = {[LS_ARG_SRC] = (void *)src,
                              [LS_ARG_WEIGHTS] = (void *)weight,
                              [LS_ARG_BIAS] = (void *)bias,
                              [LS_ARG_DST] = dst,
                              [LS_ARG_SCRATCHPAD] = scratch};
    void *pointers[LS_CALL_ARGS];
    int n = ls_prim_n_args(prim);
    for (int i = 0; i < n; i++) {
        bool written;
        size_t n_bytes;
        pointers[i] = of[ls_prim_arg_at(prim, i, &written, &n_bytes)];
    }
    ls_prim_run(prim, pointers);
}

/* ---- what a call owns ---- */

rnn_call *ls_rnn_call_new(const rnn_form *f) {
    rnn_call *call = ls_xcalloc(1, sizeof *call);
    call->form = f;
    call->n_parts = f->parts;
    call->part = ls_xcalloc(f->parts, sizeof *call->part);
    return call;
}

void ls_rnn_call_destroy(void *call) {
    rnn_call *c = call;
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < c->n_parts; i++) {
        rnn_kernels *k = &c->part[i];
        ls_prim_destroy(k->step[0]);
        ls_prim_destroy(k->step[1]);
        ls_prim_destroy(k->dx);
        for (int g = 0; g < RNN_D_BIAS; g++) {
            ls_prim_destroy(k->sum[g]);
        }
    }
    free(c->part);
    free(c);
}

void ls_rnn_call_scratch(rnn_call *call, const ls_prim *prim) {
    size_t n_bytes = ls_align_up(ls_prim_arg_bytes(prim, LS_ARG_SCRATCHPAD), LS_ALIGN);
    call->scratch_bytes = n_bytes > call->scratch_bytes ? n_bytes : call->scratch_bytes;
}
