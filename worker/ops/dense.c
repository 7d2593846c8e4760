/* Dense: y = x W + b over the last axis; all axes before it count as batch. */
#include "worker/ops/linear.h"

static const ls_linear_labels labels = {"dense.forward", "dense.backward_weights", "dense.backward_data"};

static ls_linear_desc describe(const ls_plan *p, const ls_node *node, double *flops) {
    /* (in, units), or the same numbers under more axes, as attention's heads have them */
    const ls_shape *x = &node->in[0]->shape;
    int64_t in = x->dim[x->rank - 1], units = ls_shape_elems(&node->weights[0]->shape) / in;
    int64_t n = (int64_t)ls_plan_elems(p, node->in[0]) / in;
    ls_dtype dtype = ls_plan_compute(p);
    ls_linear_desc d = {.src = ls_md_matrix(n, in, dtype), .dst = ls_md_matrix(n, units, dtype)};
    d.weights = (ls_md){.rank = 2, .dim = {units, in}, .stride = {1, units}, .dtype = dtype};
    if (node->n_weights > 1) {
        d.bias = ls_md_vector(units, LS_F32);
    }
    *flops = 2.0 * (double)n * (double)in * (double)units;
    return d;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    double flops;
    ls_linear_desc d = describe(p, node, &flops);
    return ls_linear_forward(p, node, &d, &labels, flops, err);
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    double flops;
    ls_linear_desc d = describe(p, node, &flops);
    return ls_linear_backward(p, node, &d, &labels, flops, err);
}

const ls_operator ls_op_dense = {"dense", forward, backward, ls_linear_can_fuse};
