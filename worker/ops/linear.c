#include "worker/ops/linear.h"

#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/relu_mask.h"

/* What forward leaves for backward. */
typedef struct linear_note {
    ls_ref src, dst;
} linear_note;

bool ls_linear_can_fuse(const ls_plan *p, const ls_node *node, const ls_node *activation) {
    (void)p;
    (void)node;
    return ls_act_is_plain_relu(activation);
}

static const ls_tensor *result_of(const ls_plan *p, const ls_node *node) {
    const ls_node *fused = ls_plan_fused(p, node);
    return fused != NULL ? fused->out[0] : node->out[0];
}

/* The arena holds the weight as its gradient comes out of the kernel, so that gradients never need a reorder. */
static ls_status decide_layout(ls_plan *p, const ls_node *node, const ls_linear_desc *desc, const ls_prim *forward,
                               ls_err *err) {
    const ls_layout *wanted = ls_prim_weight_layout(forward);
    if (ls_plan_training(p) && node->weights[0]->trainable) {
        ls_linear_desc d = *desc;
        d.weights.any = true;
        d.weights.dtype = LS_F32;
        d.relu = false;
        ls_prim *gradient;
        LS_TRY(ls_prim_linear(&gradient, &d, LS_PASS_BACKWARD_WEIGHTS, ls_plan_threads(p), err));
        wanted = ls_prim_weight_layout(gradient);
        ls_prim_destroy(gradient);
    }
    ls_plan_weight_layout(p, node->weights[0], wanted);
    return LS_OK;
}

ls_status ls_linear_forward(ls_plan *p, const ls_node *node, const ls_linear_desc *desc, const ls_linear_labels *labels,
                            double flops, ls_err *err) {
    ls_dtype dtype = ls_plan_compute(p);
    ls_linear_desc d = *desc;
    d.weights.any = true;
    d.weights.dtype = dtype;
    d.relu = ls_plan_fused(p, node) != NULL;
    ls_prim *prim;
    LS_TRY(
        ls_prim_linear(&prim, &d, ls_plan_training(p) ? LS_PASS_TRAINING : LS_PASS_INFERENCE, ls_plan_threads(p), err));
    ls_prim_refs refs = {0};
    ls_status s = decide_layout(p, node, desc, prim, err);
    if (s == LS_OK) {
        s = ls_ops_weight(p, node, node->weights[0], &desc->weights, ls_prim_weight_layout(prim), dtype,
                          &refs.of[LS_ARG_WEIGHTS], err);
    }
    if (s != LS_OK) {
        ls_prim_destroy(prim);
        return s;
    }
    if (d.bias.rank) {
        ls_plan_weight_layout(p, node->weights[1], NULL);
        refs.of[LS_ARG_BIAS] = ls_plan_weight(p, node->weights[1]);
    }
    linear_note *note = ls_xcalloc(1, sizeof *note);
    note->src = refs.of[LS_ARG_SRC] = ls_plan_in(p, node->in[0], dtype);
    note->dst = refs.of[LS_ARG_DST] = ls_plan_out(p, result_of(p, node), dtype);
    ls_plan_remember(p, node, note);
    ls_ops_emit_prim(p, LS_PHASE_FORWARD, labels->forward, node, prim, &refs, flops);
    return LS_OK;
}

static ls_status backward_weights(ls_plan *p, const ls_node *node, const ls_linear_desc *desc, const char *label,
                                  double flops, ls_ref src, ls_ref ddst, ls_err *err) {
    ls_linear_desc d = *desc;
    d.weights.any = true;
    d.weights.dtype = LS_F32;
    ls_prim *prim;
    LS_TRY(ls_prim_linear(&prim, &d, LS_PASS_BACKWARD_WEIGHTS, ls_plan_threads(p), err));
    const ls_layout *made = ls_prim_weight_layout(prim);
    const ls_layout *lies = ls_plan_weight_layout(p, node->weights[0], made);
    ls_prim_refs refs = {0};
    refs.of[LS_ARG_SRC] = src;
    refs.of[LS_ARG_DIFF_DST] = ddst;
    if (d.bias.rank) {
        refs.of[LS_ARG_DIFF_BIAS] = ls_plan_dweight(p, node->weights[1]);
    }
    ls_ref dweight = ls_plan_dweight(p, node->weights[0]);
    if (ls_layout_equal(made, lies)) {
        refs.of[LS_ARG_DIFF_WEIGHTS] = dweight;
        ls_ops_emit_prim(p, LS_PHASE_BACKWARD, label, node, prim, &refs, flops);
        return LS_OK;
    }
    /* Another plan or node has decided otherwise. */
    ls_md from = ls_md_in(desc->weights, made, LS_F32), to = ls_md_in(desc->weights, lies, LS_F32);
    ls_prim *reorder;
    ls_status s = ls_prim_reorder(&reorder, &from, &to, ls_plan_threads(p), err);
    if (s != LS_OK) {
        ls_prim_destroy(prim);
        return s;
    }
    ls_ref raw = ls_plan_temp(p, ls_prim_arg_bytes(reorder, LS_ARG_SRC));
    refs.of[LS_ARG_DIFF_WEIGHTS] = raw;
    ls_ops_emit_prim(p, LS_PHASE_BACKWARD, label, node, prim, &refs, flops);
    ls_prim_refs again = {0};
    again.of[LS_ARG_SRC] = raw;
    again.of[LS_ARG_DST] = dweight;
    ls_ops_emit_prim(p, LS_PHASE_BACKWARD, "gradient.reorder", node, reorder, &again, 0);
    return LS_OK;
}

static ls_status backward_data(ls_plan *p, const ls_node *node, const ls_linear_desc *desc, const char *label,
                               double flops, ls_ref ddst, ls_err *err) {
    ls_dtype dtype = ls_plan_compute(p);
    ls_linear_desc d = *desc;
    d.weights.any = true;
    d.weights.dtype = dtype;
    d.bias.rank = 0;
    ls_prim *prim;
    LS_TRY(ls_prim_linear(&prim, &d, LS_PASS_BACKWARD_DATA, ls_plan_threads(p), err));
    ls_prim_refs refs = {0};
    refs.of[LS_ARG_DIFF_DST] = ddst;
    ls_status s = ls_ops_weight(p, node, node->weights[0], &desc->weights, ls_prim_weight_layout(prim), dtype,
                                &refs.of[LS_ARG_WEIGHTS], err);
    if (s != LS_OK) {
        ls_prim_destroy(prim);
        return s;
    }
    refs.of[LS_ARG_DIFF_SRC] = ls_plan_din(p, node->in[0], dtype);
    ls_ops_emit_prim(p, LS_PHASE_BACKWARD, label, node, prim, &refs, flops);
    return LS_OK;
}

ls_status ls_linear_backward(ls_plan *p, const ls_node *node, const ls_linear_desc *desc,
                             const ls_linear_labels *labels, double flops, ls_err *err) {
    ls_dtype dtype = ls_plan_compute(p);
    const linear_note *note = ls_plan_recall(p, node);
    const ls_tensor *result = result_of(p, node);
    bool learns = node->weights[0]->trainable, passes = ls_plan_wants_grad(p, node->in[0]);
    ls_ref ddst = ls_plan_dout(p, result, dtype);
    if (!ls_ref_some(ddst) || !(learns || passes)) {
        return LS_OK;
    }
    if (ls_plan_fused(p, node) != NULL && !ls_relu_is_masked_by_pool(p, result)) {
        ddst = ls_relu_mask(p, node, result, note->dst, ddst, dtype);
    }
    if (learns) {
        LS_TRY(backward_weights(p, node, desc, labels->backward_weights, flops, note->src, ddst, err));
    }
    if (passes) {
        LS_TRY(backward_data(p, node, desc, labels->backward_data, flops, ddst, err));
    }
    return LS_OK;
}
