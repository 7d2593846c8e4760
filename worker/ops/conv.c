/* Convolution of 1 to 3 spatial axes: grouped, depthwise, dilated, transposed. */
#include "worker/ops/conv_winograd.h"
#include "worker/ops/linear.h"

static const ls_linear_labels labels = {"conv.forward", "conv.backward_weights", "conv.backward_data"};

/* Keras's kernel (k.., a, b), a and b as the kind of convolution says, as oneDNN's ([G], O, I, k..). */
static ls_md describe_kernel(const ls_conv_attr *a, const ls_shape *kernel, ls_dtype dtype) {
    int s = a->n_spatial;
    int64_t first = kernel->dim[s], last = kernel->dim[s + 1];
    ls_md m;
    int at;
    if (a->depthwise) { /* (k.., C, multiplier) */
        m = (ls_md){.rank = s + 3, .dim = {first, last, 1}, .stride = {last, 1, 1}, .dtype = dtype};
        at = 3;
    } else if (a->transposed && a->groups <= 1) { /* (k.., filters, C) */
        m = (ls_md){.rank = s + 2, .dim = {first, last}, .stride = {last, 1}, .dtype = dtype};
        at = 2;
    } else if (a->groups > 1) { /* (k.., C / groups, filters) */
        int64_t each = last / a->groups;
        m = (ls_md){.rank = s + 3, .dim = {a->groups, each, first}, .stride = {each, 1, last}, .dtype = dtype};
        at = 3;
    } else { /* (k.., C, filters) */
        m = (ls_md){.rank = s + 2, .dim = {last, first}, .stride = {1, last}, .dtype = dtype};
        at = 2;
    }
    int64_t step = first * last;
    for (int i = s - 1; i >= 0; i--) {
        m.dim[at + i] = kernel->dim[i];
        m.stride[at + i] = step;
        step *= kernel->dim[i];
    }
    return m;
}

static ls_linear_desc describe(const ls_plan *p, const ls_node *node, double *flops) {
    const ls_conv_attr *a = node->attr;
    const ls_tensor *in = node->in[0], *out = node->out[0];
    ls_dtype dtype = ls_plan_compute(p);
    int64_t n = ls_plan_rows(p, in);
    ls_linear_desc d = {.src = ls_md_channels_last(n, &in->shape, dtype),
                        .dst = ls_md_channels_last(n, &out->shape, dtype),
                        .weights = describe_kernel(a, &node->weights[0]->shape, dtype),
                        .n_spatial = a->n_spatial,
                        .transposed = a->transposed};
    for (int i = 0; i < a->n_spatial; i++) {
        d.stride[i] = a->stride[i];
        d.dilation[i] = a->dilation[i];
        d.pad_before[i] = a->pad_before[i];
        d.pad_after[i] = a->pad_after[i];
    }
    if (node->n_weights > 1) {
        d.bias = ls_md_vector(out->shape.dim[a->n_spatial], LS_F32);
    }
    /* Each weight meets every cell of the smaller side of the window once. */
    const ls_shape *cells = a->transposed ? &in->shape : &out->shape;
    *flops = 2.0 * (double)n * (double)ls_shape_elems(cells) / (double)cells->dim[a->n_spatial] *
             (double)ls_shape_elems(&node->weights[0]->shape);
    return d;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    double flops;
    ls_linear_desc d = describe(p, node, &flops);
    ls_wino w;
    if (ls_conv_winograd_takes(p, node, &w)) {
        return ls_conv_winograd_forward(p, node, &w, &d.weights, flops, err);
    }
    return ls_linear_forward(p, node, &d, &labels, flops, err);
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    double flops;
    ls_linear_desc d = describe(p, node, &flops);
    ls_wino w;
    if (ls_conv_winograd_takes(p, node, &w)) {
        return ls_conv_winograd_backward(p, node, &w, &d.weights, flops, err);
    }
    return ls_linear_backward(p, node, &d, &labels, flops, err);
}

const ls_operator ls_op_conv = {"conv", forward, backward, ls_linear_can_fuse};
