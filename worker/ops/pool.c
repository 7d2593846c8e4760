/* Max and average pooling. */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"
#include "worker/ops/relu_mask.h"

static ls_pool_desc describe(const ls_plan *p, const ls_node *node) {
    const ls_pool_attr *a = node->attr;
    int64_t n = ls_plan_rows(p, node->in[0]);
    ls_dtype dtype = ls_plan_compute(p);
    ls_pool_desc d = {.src = ls_md_channels_last(n, &node->in[0]->shape, dtype),
                      .dst = ls_md_channels_last(n, &node->out[0]->shape, dtype),
                      .n_spatial = a->n_spatial,
                      .average = a->average};
    for (int i = 0; i < a->n_spatial; i++) {
        d.kernel[i] = a->kernel[i];
        d.stride[i] = a->stride[i];
        d.pad_before[i] = a->pad_before[i];
        d.pad_after[i] = a->pad_after[i];
    }
    return d;
}

/* What forward leaves for backward. */
typedef struct pool_note {
    ls_ref dst;
    ls_ref workspace; /* which cell of each window was the largest; NONE for averages */
} pool_note;

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    ls_pool_desc d = describe(p, node);
    ls_dtype dtype = ls_plan_compute(p);
    ls_prim *prim;
    LS_TRY(
        ls_prim_pool(&prim, &d, ls_plan_training(p) ? LS_PASS_TRAINING : LS_PASS_INFERENCE, ls_plan_threads(p), err));
    ls_prim_refs refs = {0};
    refs.of[LS_ARG_SRC] = ls_plan_in(p, node->in[0], dtype);
    refs.of[LS_ARG_DST] = ls_plan_out(p, node->out[0], dtype);
    size_t workspace = ls_prim_arg_bytes(prim, LS_ARG_WORKSPACE);
    pool_note *note = ls_xcalloc(1, sizeof *note);
    ls_plan_remember(p, node, note);
    note->dst = refs.of[LS_ARG_DST];
    if (workspace) {
        note->workspace = refs.of[LS_ARG_WORKSPACE] = ls_plan_temp(p, workspace);
    }
    ls_ops_emit_prim(p, LS_PHASE_FORWARD, "pool.forward", node, prim, &refs, 0);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    ls_pool_desc d = describe(p, node);
    ls_dtype dtype = ls_plan_compute(p);
    ls_ref ddst = ls_plan_dout(p, node->out[0], dtype);
    if (!ls_ref_some(ddst) || !ls_plan_wants_grad(p, node->in[0])) {
        return LS_OK;
    }
    ls_prim *prim;
    LS_TRY(ls_prim_pool(&prim, &d, LS_PASS_BACKWARD_DATA, ls_plan_threads(p), err));
    const pool_note *note = ls_plan_recall(p, node);
    if (ls_relu_is_masked_by_pool(p, node->in[0])) {
        ddst = ls_relu_mask(p, node, node->out[0], note->dst, ddst, dtype);
    }
    ls_prim_refs refs = {0};
    refs.of[LS_ARG_DIFF_DST] = ddst;
    refs.of[LS_ARG_WORKSPACE] = note->workspace;
    refs.of[LS_ARG_DIFF_SRC] = ls_plan_din(p, node->in[0], dtype);
    ls_ops_emit_prim(p, LS_PHASE_BACKWARD, "pool.backward", node, prim, &refs, 0);
    return LS_OK;
}

const ls_operator ls_op_pool = {"pool", forward, backward, NULL};
