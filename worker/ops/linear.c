#include "worker/ops/linear.h"

#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/outer.h"
#include "worker/ops/relu_mask.h"

bool ls_linear_can_fuse(const ls_plan *p, const ls_node *node, const ls_node *last, const ls_node *next) {
    (void)p;
    return last == node && ls_act_is_plain_relu(next);
}

const ls_tensor *ls_linear_result(const ls_plan *p, const ls_node *node) {
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

const ls_linear_note *ls_linear_values(ls_plan *p, const ls_node *node) {
    ls_linear_note *note = ls_xcalloc(1, sizeof *note);
    note->src = ls_plan_in(p, node->in[0], ls_plan_compute(p));
    note->dst = ls_plan_out(p, ls_linear_result(p, node), ls_plan_compute(p));
    ls_plan_remember(p, node, note);
    return note;
}

ls_ref ls_linear_dz(ls_plan *p, const ls_node *node) {
    const ls_linear_note *note = ls_plan_recall(p, node);
    const ls_tensor *result = ls_linear_result(p, node);
    ls_ref none = {0}, dz = ls_plan_dout(p, result, ls_plan_compute(p));
    if (!ls_ref_some(dz) || !(node->weights[0]->trainable || ls_plan_wants_grad(p, node->in[0]))) {
        return none;
    }
    bool masks = ls_plan_fused(p, node) != NULL && !ls_relu_is_masked_by_pool(p, result);
    return masks ? ls_relu_mask(p, node, result, note->dst, dz, ls_plan_compute(p)) : dz;
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
    const ls_linear_note *note = ls_linear_values(p, node);
    refs.of[LS_ARG_SRC] = note->src;
    refs.of[LS_ARG_DST] = note->dst;
    ls_ops_emit_prim(p, LS_PHASE_FORWARD, labels->forward, node, prim, &refs, flops);
    return LS_OK;
}

static ls_status backward_weights(ls_plan *p, const ls_node *node, const ls_linear_desc *desc, const char *label,
                                  double flops, ls_ref src, ls_ref ddst, ls_err *err) {
    if (ls_outer_takes(p, node, desc)) {
        return ls_outer_backward_weights(p, node, desc, label, flops, src, ddst, err);
    }
    ls_linear_desc d = *desc;
    d.weights.any = true;
    d.weights.dtype = LS_F32;
    ls_prim *prim;
    LS_TRY(ls_prim_linear(&prim, &d, LS_PASS_BACKWARD_WEIGHTS, ls_plan_threads(p), err));
    const ls_layout *made = ls_prim_weight_layout(prim);
    ls_prim_refs refs = {0};
    refs.of[LS_ARG_SRC] = src;
    refs.of[LS_ARG_DIFF_DST] = ddst;
    if (d.bias.rank) {
        refs.of[LS_ARG_DIFF_BIAS] = ls_plan_dweight(p, node->weights[1]);
    }
    ls_ops_dweight dweight;
    ls_status s = ls_ops_dweight_begin(&dweight, p, node->weights[0], &desc->weights, made, err);
    if (s != LS_OK) {
        ls_prim_destroy(prim);
        return s;
    }
    refs.of[LS_ARG_DIFF_WEIGHTS] = dweight.made;
    ls_ops_emit_prim(p, LS_PHASE_BACKWARD, label, node, prim, &refs, flops);
    ls_ops_dweight_end(&dweight, p, node);
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
    const ls_linear_note *note = ls_plan_recall(p, node);
    ls_ref dz = ls_linear_dz(p, node);
    if (!ls_ref_some(dz)) {
        return LS_OK;
    }
    const bool weights = node->weights[0]->trainable, data = ls_plan_wants_grad(p, node->in[0]);
    /* A gradient that comes piece by piece comes last: its weight must not be read any more. One that comes at once
     * comes first, so that what it reads can be forgotten. */
    const bool pieces = weights && ls_plan_compute(p) == LS_F32 && ls_outer_takes(p, node, desc);
    if (data && pieces) {
        LS_TRY(backward_data(p, node, desc, labels->backward_data, flops, dz, err));
    }
    if (weights) {
        LS_TRY(backward_weights(p, node, desc, labels->backward_weights, flops, note->src, dz, err));
    }
    if (data && !pieces) {
        LS_TRY(backward_data(p, node, desc, labels->backward_data, flops, dz, err));
    }
    return LS_OK;
}
