/* What dense and convolution have in common: y = f(W x + b) with one kernel for each of its three passes. */
#ifndef LS_WORKER_OPS_LINEAR_H
#define LS_WORKER_OPS_LINEAR_H

#include "worker/ops/ops_common.h"

/* How a node looks to oneDNN; desc's src and dst have the plan's compute type, weights are in Keras's order. */
typedef struct ls_linear_labels {
    const char *forward, *backward_weights, *backward_data;
} ls_linear_labels;

/* node->weights: kernel, then the bias if any (desc->bias). flops of one pass. */
ls_status ls_linear_forward(ls_plan *p, const ls_node *node, const ls_linear_desc *desc, const ls_linear_labels *labels,
                            double flops, ls_err *err) LS_MUST_CHECK;
ls_status ls_linear_backward(ls_plan *p, const ls_node *node, const ls_linear_desc *desc,
                             const ls_linear_labels *labels, double flops, ls_err *err) LS_MUST_CHECK;
/* can_fuse of both: plain relu. */
bool ls_linear_can_fuse(const ls_plan *p, const ls_node *node, const ls_node *activation);

#endif
