/*
 * Conv1D, Conv2D, Conv3D: cross-correlation, channels last; kernel (k.., C/groups, filters).
 *
 * Source: tf_keras/layers/convolutional/base_conv.py.
 */
#include "worker/layers/conv.h"

#include "worker/layers/rows.h"

ls_status ls_conv_read(const ls_layer_call *call, ls_conv_attr *a, ls_padding *padding, ls_err *err) {
    *a = (ls_conv_attr){.n_spatial = call->layer->class_->spatial, .groups = 1};
    for (int i = 0; i < LS_MAX_SPATIAL; i++) {
        a->stride[i] = a->dilation[i] = a->kernel[i] = 1;
    }
    LS_TRY(ls_spatial_ints(call, "kernel_size", true, 1, a->kernel, err));
    LS_TRY(ls_spatial_ints(call, "strides", false, 1, a->stride, err));
    LS_TRY(ls_spatial_ints(call, "dilation_rate", false, 1, a->dilation, err));
    LS_TRY(ls_json_get_int(call->config, "groups", 1, INT32_MAX, &a->groups, err));
    LS_TRY(ls_spatial_padding(call, a->n_spatial == 1, padding, err));
    bool strided = false, dilated = false;
    for (int i = 0; i < a->n_spatial; i++) {
        strided |= a->stride[i] > 1;
        dilated |= a->dilation[i] > 1;
    }
    if (strided && dilated) {
        return ls_layer_fail(call, err, "strides above 1 do not go with a dilation_rate above 1");
    }
    return LS_OK;
}

ls_status ls_conv_place(const ls_layer_call *call, ls_conv_attr *a, ls_padding padding, ls_shape *out, ls_err *err) {
    *out = call->in[0]->shape;
    for (int i = 0; i < a->n_spatial; i++) {
        out->dim[i] = ls_spatial_out(padding, out->dim[i], a->kernel[i], a->stride[i], a->dilation[i],
                                     &a->pad_before[i], &a->pad_after[i]);
        if (out->dim[i] < 1) {
            char text[96];
            return ls_layer_fail(call, err, "the kernel does not fit into its input of shape %s",
                                 ls_shape_text(&call->in[0]->shape, true, text, sizeof text));
        }
    }
    return LS_OK;
}

void ls_conv_kernel_shape(const ls_conv_attr *a, int64_t second_last, int64_t last, ls_shape *out) {
    *out = (ls_shape){.rank = a->n_spatial + 2};
    for (int i = 0; i < a->n_spatial; i++) {
        out->dim[i] = a->kernel[i];
    }
    out->dim[a->n_spatial] = second_last;
    out->dim[a->n_spatial + 1] = last;
}

ls_status ls_conv_finish(ls_builder *b, ls_layer_call *call, const ls_conv_attr *a, ls_tensor *in, ls_weight *kernel,
                         const ls_shape *out, ls_err *err) {
    bool use_bias = true;
    ls_weight *weights[2] = {kernel};
    LS_TRY(ls_json_get_bool(call->config, "use_bias", &use_bias, err));
    if (use_bias) {
        ls_shape shape = {.rank = 1, .dim = {out->dim[out->rank - 1]}};
        LS_TRY(ls_builder_weight(b, call, "bias", "bias", "zeros", &shape, &weights[1], err));
    }
    ls_node *node =
        ls_builder_node(b, call->layer, &ls_op_conv, a, sizeof *a, 1, &in, use_bias ? 2 : 1, weights, 1, out);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return ls_builder_activation(b, call, "activation", "linear", &call->out[0], err);
}

ls_status ls_conv_filters(const ls_layer_call *call, int64_t *filters, ls_err *err) {
    *filters = 0;
    LS_TRY(ls_json_get_int(call->config, "filters", 1, INT32_MAX, filters, err));
    return *filters > 0 ? LS_OK : ls_json_fail(call->config, err, "\"filters\" is missing");
}

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_conv_attr a;
    ls_padding padding;
    ls_shape out, shape;
    int64_t filters;
    LS_TRY(ls_spatial_check_input(call, err));
    LS_TRY(ls_conv_read(call, &a, &padding, err));
    LS_TRY(ls_conv_filters(call, &filters, err));
    LS_TRY(ls_conv_place(call, &a, padding, &out, err));
    int64_t channels = out.dim[a.n_spatial];
    if (channels % a.groups != 0 || filters % a.groups != 0) {
        return ls_layer_fail(call, err, "groups (%d) must divide the input's channels (%d) and the filters (%d)",
                             (int)a.groups, (int)channels, (int)filters);
    }
    out.dim[a.n_spatial] = filters;
    ls_conv_kernel_shape(&a, channels / a.groups, filters, &shape);
    ls_weight *kernel;
    LS_TRY(ls_builder_weight(b, call, "kernel", "kernel", "glorot_uniform", &shape, &kernel, err));
    return ls_conv_finish(b, call, &a, call->in[0], kernel, &out, err);
}

#define KEYS                                                                                                       \
    "filters kernel_size strides padding data_format dilation_rate groups activation use_bias kernel_initializer " \
    "bias_initializer kernel_regularizer bias_regularizer kernel_constraint bias_constraint"
#define ROW(suffix, name_, axes)               \
    const ls_layer_class ls_layer_##suffix = { \
        .name = name_, .keys = KEYS, .min_in = 1, .max_in = 1, .spatial = axes, .build = build}

ROW(conv1d, "Conv1D", 1);
ROW(conv2d, "Conv2D", 2);
ROW(conv3d, "Conv3D", 3);
ROW(convolution1d, "Convolution1D", 1);
ROW(convolution2d, "Convolution2D", 2);
ROW(convolution3d, "Convolution3D", 3);
