/* What dense and convolution have in common: y = f(W x + b) with one kernel for each of its three passes. */
#ifndef LS_WORKER_OPS_LINEAR_H
#define LS_WORKER_OPS_LINEAR_H

#include "worker/ops/ops_common.h"

/* How a node looks to oneDNN; desc's src and dst have the plan's compute type, weights are in Keras's order. */
typedef struct ls_linear_labels {
    const char *forward, *backward_weights, *backward_data;
} ls_linear_labels;

/* What forward leaves for backward: the values of the input and of the result, in the plan's compute type. */
typedef struct ls_linear_note {
    ls_ref src, dst;
} ls_linear_note;

/* For forward: makes the note and the result. For backward: the gradient of what the relu is taken of, if there is one;
 * kind NONE when nobody wants anything of it. */
const ls_linear_note *ls_linear_values(ls_plan *p, const ls_node *node);
ls_ref ls_linear_dz(ls_plan *p, const ls_node *node);
/* The tensor that the node makes: the fused relu's output, or its own. */
const ls_tensor *ls_linear_result(const ls_plan *p, const ls_node *node);

/* node->weights: kernel, then the bias if any (desc->bias). flops of one pass. */
ls_status ls_linear_forward(ls_plan *p, const ls_node *node, const ls_linear_desc *desc, const ls_linear_labels *labels,
                            double flops, ls_err *err) LS_MUST_CHECK;
ls_status ls_linear_backward(ls_plan *p, const ls_node *node, const ls_linear_desc *desc,
                             const ls_linear_labels *labels, double flops, ls_err *err) LS_MUST_CHECK;
/* can_fuse of both: plain relu. */
bool ls_linear_can_fuse(const ls_plan *p, const ls_node *node, const ls_node *last, const ls_node *next);

#endif
