/* Convolutions of a plan that Winograd's algorithm computes (worker/ops/winograd.h). */
#ifndef LS_WORKER_OPS_CONV_WINOGRAD_H
#define LS_WORKER_OPS_CONV_WINOGRAD_H

#include "worker/ops/ops_common.h"
#include "worker/ops/winograd.h"

/* Whether it computes the node, forward and backward: a 3x3 convolution with stride 1, one group and no dilation, for
 * which it pays, unless the plan wants direct convolutions. Fills in w. */
bool ls_conv_winograd_takes(const ls_plan *p, const ls_node *node, ls_wino *w);

/* keras: the weights in Keras's order. flops are those of a direct convolution. */
ls_status ls_conv_winograd_forward(ls_plan *p, const ls_node *node, const ls_wino *w, const ls_md *keras, double flops,
                                   ls_err *err) LS_MUST_CHECK;
ls_status ls_conv_winograd_backward(ls_plan *p, const ls_node *node, const ls_wino *w, const ls_md *keras, double flops,
                                    ls_err *err) LS_MUST_CHECK;

#endif
