/*
 * DepthwiseConv1D/2D: every channel has its own `depth_multiplier` filters; kernel (k.., C, multiplier), output channel
 * c * multiplier + m. SeparableConv1D/2D: that, then a pointwise convolution (1.., C * multiplier, filters).
 *
 * Source: tf_keras/layers/convolutional/{depthwise_conv,separable_conv}*.py.
 */
#include "worker/layers/conv.h"
#include "worker/layers/rows.h"

/* Everything of the depthwise convolution but its node. */
static ls_status read_depthwise(ls_builder *b, ls_layer_call *call, ls_conv_attr *a, ls_shape *out, ls_weight **kernel,
                                ls_err *err) {
    ls_padding padding;
    ls_shape shape;
    int64_t multiplier = 1;
    LS_TRY(ls_spatial_check_input(call, err));
    LS_TRY(ls_conv_read(call, a, &padding, err));
    LS_TRY(ls_json_get_int(call->config, "depth_multiplier", 1, LS_MAX_WINDOW, &multiplier, err));
    LS_TRY(ls_conv_place(call, a, padding, out, err));
    int64_t channels = out->dim[a->n_spatial];
    ls_conv_kernel_shape(a, channels, multiplier, &shape);
    LS_TRY(ls_builder_weight(b, call, "depthwise_kernel", "depthwise", "glorot_uniform", &shape, kernel, err));
    a->groups = channels;
    a->depthwise = true;
    out->dim[a->n_spatial] = channels * multiplier;
    return LS_OK;
}

static ls_status build_depthwise(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_conv_attr a;
    ls_shape out;
    ls_weight *kernel;
    LS_TRY(read_depthwise(b, call, &a, &out, &kernel, err));
    return ls_conv_finish(b, call, &a, call->in[0], kernel, &out, err);
}

static ls_status build_separable(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_conv_attr a;
    ls_shape out, shape;
    ls_weight *depthwise, *pointwise;
    int64_t filters;
    LS_TRY(ls_conv_filters(call, &filters, err));
    LS_TRY(read_depthwise(b, call, &a, &out, &depthwise, err));
    ls_conv_attr point = {.n_spatial = a.n_spatial, .groups = 1};
    for (int i = 0; i < LS_MAX_SPATIAL; i++) {
        point.kernel[i] = point.stride[i] = point.dilation[i] = 1;
    }
    ls_conv_kernel_shape(&point, out.dim[a.n_spatial], filters, &shape);
    LS_TRY(ls_builder_weight(b, call, "pointwise_kernel", "pointwise", "glorot_uniform", &shape, &pointwise, err));
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_conv, &a, sizeof a, 1, call->in, 1, &depthwise, 1, &out);
    out.dim[a.n_spatial] = filters;
    return ls_conv_finish(b, call, &point, node->out[0], pointwise, &out, err);
}

#define COMMON_KEYS                                                                                       \
    "kernel_size strides padding data_format dilation_rate groups activation use_bias depth_multiplier "  \
    "depthwise_initializer depthwise_regularizer depthwise_constraint bias_initializer bias_regularizer " \
    "bias_constraint"
#define KERNEL_KEYS " kernel_initializer kernel_regularizer kernel_constraint"
#define POINT_KEYS " filters pointwise_initializer pointwise_regularizer pointwise_constraint"
#define ROW(suffix, name_, axes, keys_, drop_, build_) \
    const ls_layer_class ls_layer_##suffix = {         \
        .name = name_, .keys = keys_, .min_in = 1, .max_in = 1, .spatial = axes, .drop = drop_, .build = build_}

/* Keras 2 writes groups and kernel_* here too, although they do nothing. */
ROW(depthwise_conv1d, "DepthwiseConv1D", 1, COMMON_KEYS KERNEL_KEYS " filters", "groups filters" KERNEL_KEYS,
    build_depthwise);
ROW(depthwise_conv2d, "DepthwiseConv2D", 2, COMMON_KEYS KERNEL_KEYS " filters", "groups filters" KERNEL_KEYS,
    build_depthwise);
ROW(separable_conv1d, "SeparableConv1D", 1, COMMON_KEYS KERNEL_KEYS POINT_KEYS, "groups" KERNEL_KEYS, build_separable);
ROW(separable_conv2d, "SeparableConv2D", 2, COMMON_KEYS KERNEL_KEYS POINT_KEYS, "groups" KERNEL_KEYS, build_separable);
