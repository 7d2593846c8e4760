/* The matrix products of recurrent operators, through oneDNN. */
#include "worker/ops/rnn.h"

static ls_md describe_matrix(const rnn_matrix *m) {
    return (ls_md){
        .rank = 2, .dim = {(int64_t)m->width, (int64_t)m->in}, .stride = {1, (int64_t)m->total}, .dtype = LS_F32};
}

static ls_linear_desc describe(const rnn_matrix *m, size_t rows, bool bias) {
    ls_linear_desc d = {.src = ls_md_matrix((int64_t)rows, (int64_t)m->in, LS_F32),
                        .dst = ls_md_matrix((int64_t)rows, (int64_t)m->width, LS_F32),
                        .weights = describe_matrix(m)};
    d.weights.any = true;
    if (bias) {
        d.bias = ls_md_vector((int64_t)m->width, LS_F32);
    }
    return d;
}

static double flops_of(const rnn_matrix *m, size_t rows) {
    return 2.0 * (double)rows * (double)m->in * (double)m->width;
}

/* The columns in the layout that the kernel wants: brought into it once a step. */
static ls_status packed(ls_plan *p, const ls_node *node, const rnn_matrix *m, const ls_layout *wanted, ls_ref *out,
                        ls_err *err) {
    ls_ref plain = ls_ref_at(ls_plan_weight(p, m->weight), m->column * sizeof(float));
    if (wanted == NULL) {
        *out = plain;
        return LS_OK;
    }
    ls_md keras = describe_matrix(m), from = ls_md_in(keras, NULL, LS_F32), to = ls_md_in(keras, wanted, LS_F32);
    ls_prim *reorder;
    LS_TRY(ls_prim_reorder(&reorder, &from, &to, ls_plan_threads(p), err));
    *out = ls_plan_persistent(p, ls_prim_arg_bytes(reorder, LS_ARG_DST));
    ls_prim_refs refs = {0};
    refs.of[LS_ARG_SRC] = plain;
    refs.of[LS_ARG_DST] = *out;
    ls_ops_emit_prim(p, LS_PHASE_PREPARE, "weight.reorder", node, reorder, &refs, 0);
    return LS_OK;
}

ls_status ls_rnn_product_prim(ls_plan *p, const ls_node *node, const rnn_matrix *m, size_t rows, bool bias,
                              ls_pass pass, ls_prim **prim, ls_ref *weight, ls_err *err) {
    ls_linear_desc d = describe(m, rows, bias);
    ls_plan_weight_layout(p, m->weight, NULL);
    LS_TRY(ls_prim_linear(prim, &d, pass, ls_plan_threads(p), err));
    ls_status s = packed(p, node, m, ls_prim_weight_layout(*prim), weight, err);
    if (s != LS_OK) {
        ls_prim_destroy(*prim);
        *prim = NULL;
    }
    return s;
}

ls_status ls_rnn_product_gradient(ls_plan *p, const ls_node *node, const rnn_matrix *m, size_t rows, ls_ref src,
                                  ls_ref ddst, ls_ref dweight, ls_ref dbias, ls_err *err) {
    ls_linear_desc d = describe(m, rows, ls_ref_some(dbias));
    ls_prim *prim, *reorder = NULL;
    LS_TRY(ls_prim_linear(&prim, &d, LS_PASS_BACKWARD_WEIGHTS, ls_plan_threads(p), err));
    const ls_layout *made = ls_prim_weight_layout(prim);
    ls_ref to = ls_ref_at(dweight, m->column * sizeof(float)), raw = to;
    if (made != NULL) {
        ls_md keras = describe_matrix(m), from = ls_md_in(keras, made, LS_F32), plain = ls_md_in(keras, NULL, LS_F32);
        ls_status s = ls_prim_reorder(&reorder, &from, &plain, ls_plan_threads(p), err);
        if (s != LS_OK) {
            ls_prim_destroy(prim);
            return s;
        }
        raw = ls_plan_temp(p, ls_prim_arg_bytes(reorder, LS_ARG_SRC));
    }
    ls_prim_refs refs = {0};
    refs.of[LS_ARG_SRC] = src;
    refs.of[LS_ARG_DIFF_DST] = ddst;
    refs.of[LS_ARG_DIFF_WEIGHTS] = raw;
    refs.of[LS_ARG_DIFF_BIAS] = dbias;
    ls_ops_emit_prim(p, LS_PHASE_BACKWARD, "rnn.backward_weights", node, prim, &refs, flops_of(m, rows));
    if (reorder != NULL) {
        ls_prim_refs again = {0};
        again.of[LS_ARG_SRC] = raw;
        again.of[LS_ARG_DST] = to;
        ls_ops_emit_prim(p, LS_PHASE_BACKWARD, "gradient.reorder", node, reorder, &again, 0);
    }
    return LS_OK;
}

static void run(ls_prim *prim, void *const *of) {
    void *pointers[LS_CALL_ARGS];
    int n = ls_prim_n_args(prim);
    for (int i = 0; i < n; i++) {
        bool written;
        size_t n_bytes;
        pointers[i] = of[ls_prim_arg_at(prim, i, &written, &n_bytes)];
    }
    ls_prim_run(prim, pointers);
}

void ls_rnn_product_run(ls_prim *prim, const float *src, const float *weight, const float *bias, float *dst,
                        void *scratch) {
    void *of[LS_ARG_COUNT] = {[LS_ARG_SRC] = (void *)src,
                              [LS_ARG_WEIGHTS] = (void *)weight,
                              [LS_ARG_BIAS] = (void *)bias,
                              [LS_ARG_DST] = dst,
                              [LS_ARG_SCRATCHPAD] = scratch};
    run(prim, of);
}

void ls_rnn_product_run_data(ls_prim *prim, const float *ddst, const float *weight, float *dsrc, void *scratch) {
    void *of[LS_ARG_COUNT] = {[LS_ARG_DIFF_DST] = (void *)ddst,
                              [LS_ARG_WEIGHTS] = (void *)weight,
                              [LS_ARG_DIFF_SRC] = dsrc,
                              [LS_ARG_SCRATCHPAD] = scratch};
    run(prim, of);
}
