/*
 * Conv1D/2D/3DTranspose: the gradient of a convolution as a layer; kernel (k.., filters, C).
 *
 * Source: tf_keras/layers/convolutional/conv*_transpose.py, utils/conv_utils.py (deconv_output_length): same gives
 * n * s, valid n * s + max(k - s, 0); with output_padding p: (n - 1) * s + k - 2 * pad + p, pad = k / 2 or 0.
 */
#include "worker/layers/conv.h"
#include "worker/layers/rows.h"

static int64_t out_length(ls_padding padding, int64_t n, int64_t window, int64_t stride, int64_t output_padding) {
    if (output_padding >= 0) {
        int64_t pad = padding == LS_PAD_SAME ? window / 2 : 0;
        return (n - 1) * stride + window - 2 * pad + output_padding;
    }
    if (padding == LS_PAD_SAME) {
        return n * stride;
    }
    return n * stride + (window > stride ? window - stride : 0);
}

/* The padding is that of the convolution from the output back to the input. */
static ls_status place(const ls_layer_call *call, ls_conv_attr *a, ls_padding padding, ls_shape *out, ls_err *err) {
    int64_t output_padding[LS_MAX_SPATIAL] = {-1, -1, -1};
    LS_TRY(ls_spatial_ints(call, "output_padding", false, 0, output_padding, err));
    *out = call->in[0]->shape;
    for (int i = 0; i < a->n_spatial; i++) {
        int64_t n = out->dim[i], window = (a->kernel[i] - 1) * a->dilation[i] + 1;
        if (output_padding[i] >= a->stride[i]) {
            return ls_json_fail(ls_json_member(call->config, "output_padding"), err,
                                "expected less than the stride, which is %d", (int)a->stride[i]);
        }
        out->dim[i] = out_length(padding, n, window, a->stride[i], output_padding[i]);
        if (out->dim[i] < 1) {
            return ls_layer_fail(call, err, "its output would have no element");
        }
        int64_t total = (n - 1) * a->stride[i] + window - out->dim[i];
        if (padding == LS_PAD_SAME && total > 0) {
            a->pad_before[i] = total / 2;
            a->pad_after[i] = total - total / 2;
        }
    }
    return LS_OK;
}

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_conv_attr a;
    ls_padding padding;
    ls_shape out, shape;
    ls_weight *kernel;
    int64_t filters;
    LS_TRY(ls_spatial_check_input(call, err));
    LS_TRY(ls_conv_read(call, &a, &padding, err));
    LS_TRY(ls_conv_filters(call, &filters, err));
    if (a.groups != 1 || padding == LS_PAD_CAUSAL) {
        return ls_layer_fail(call, err, "expects groups 1 and padding \"valid\" or \"same\"");
    }
    LS_TRY(place(call, &a, padding, &out, err));
    ls_conv_kernel_shape(&a, filters, out.dim[a.n_spatial], &shape);
    LS_TRY(ls_builder_weight(b, call, "kernel", "kernel", "glorot_uniform", &shape, &kernel, err));
    a.transposed = true;
    out.dim[a.n_spatial] = filters;
    return ls_conv_finish(b, call, &a, call->in[0], kernel, &out, err);
}

#define KEYS                                                                                                   \
    "filters kernel_size strides padding output_padding data_format dilation_rate groups activation use_bias " \
    "kernel_initializer bias_initializer kernel_regularizer bias_regularizer kernel_constraint bias_constraint"
#define ROW(suffix, name_, axes)               \
    const ls_layer_class ls_layer_##suffix = { \
        .name = name_, .keys = KEYS, .min_in = 1, .max_in = 1, .spatial = axes, .drop = "groups", .build = build}

ROW(conv1d_transpose, "Conv1DTranspose", 1);
ROW(conv2d_transpose, "Conv2DTranspose", 2);
ROW(conv3d_transpose, "Conv3DTranspose", 3);
