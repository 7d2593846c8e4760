/* Operators of one input, one output and no weights: one call each way, which frees its state with free. */
#ifndef LS_WORKER_OPS_MAP_H
#define LS_WORKER_OPS_MAP_H

#include "worker/ops/ops_common.h"

/* The kernel's arguments: 0 src, read; 1 dst, written; both of dtype. */
void ls_map_forward(ls_plan *p, const ls_node *node, const char *label, ls_dtype dtype, ls_kernel kernel, void *state);

/* Whether there is a gradient to pass on, and somebody who wants it. */
bool ls_map_has_backward(ls_plan *p, const ls_node *node);

/* Only where ls_map_has_backward. The kernel's arguments, all f32: where with_src is set first src, read; then dst's
 * gradient, read; then src's, written. */
void ls_map_backward(ls_plan *p, const ls_node *node, const char *label, bool with_src, ls_kernel kernel, void *state);

#endif
