/*
 * The backward pass of a relu that was computed inside another operator: dz = dy where y > 0, else 0.
 *
 * When the only reader of the relu is a max pooling, the pooling masks instead: its output, a quarter or less of the
 * size, is positive exactly where the cell that the gradient goes to is, so the result is the same to the bit.
 */
#ifndef LS_WORKER_OPS_RELU_MASK_H
#define LS_WORKER_OPS_RELU_MASK_H

#include "worker/ops/ops_common.h"

/* Masks the gradient ddst of t, whose value is dst, both of dtype; in place when nobody else reads it. Returns where
 * the result is. */
ls_ref ls_relu_mask(ls_plan *p, const ls_node *node, const ls_tensor *t, ls_ref dst, ls_ref ddst, ls_dtype dtype);

/* Whether t is a relu inside a dense or convolution node that leaves the masking to the pooling after it. */
bool ls_relu_is_masked_by_pool(const ls_plan *p, const ls_tensor *t);

#endif
