/*
 * Max and average pooling over 1 to 3 spatial axes; averages count the cells inside the image only.
 *
 * Source: tf_keras/layers/pooling/.
 */
#include "worker/layers/rows.h"
#include "worker/layers/spatial.h"
#include "worker/ops/ops.h"

static ls_status build(ls_builder *b, ls_layer_call *call, bool average, ls_err *err) {
    ls_pool_attr a = {.n_spatial = call->layer->class_->spatial, .average = average};
    ls_padding padding;
    LS_TRY(ls_spatial_check_input(call, err));
    for (int i = 0; i < LS_MAX_SPATIAL; i++) {
        a.kernel[i] = i < a.n_spatial ? 2 : 1;
        a.stride[i] = 1;
    }
    LS_TRY(ls_spatial_ints(call, "pool_size", false, 1, a.kernel, err));
    for (int i = 0; i < a.n_spatial; i++) {
        a.stride[i] = a.kernel[i];
    }
    LS_TRY(ls_spatial_ints(call, "strides", false, 1, a.stride, err));
    LS_TRY(ls_spatial_padding(call, false, &padding, err));
    ls_shape out = call->in[0]->shape;
    for (int i = 0; i < a.n_spatial; i++) {
        out.dim[i] =
            ls_spatial_out(padding, out.dim[i], a.kernel[i], a.stride[i], 1, &a.pad_before[i], &a.pad_after[i]);
        if (out.dim[i] < 1) {
            char text[96];
            return ls_layer_fail(call, err, "pool_size is larger than its input of shape %s",
                                 ls_shape_text(&call->in[0]->shape, true, text, sizeof text));
        }
    }
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_pool, &a, sizeof a, 1, call->in, 0, NULL, 1, &out);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return LS_OK;
}

static ls_status build_max(ls_builder *b, ls_layer_call *call, ls_err *err) {
    return build(b, call, false, err);
}

static ls_status build_average(ls_builder *b, ls_layer_call *call, ls_err *err) {
    return build(b, call, true, err);
}

#define ROW(suffix, name_, axes, build_)                                                       \
    const ls_layer_class ls_layer_##suffix = {.name = name_,                                   \
                                              .keys = "pool_size strides padding data_format", \
                                              .min_in = 1,                                     \
                                              .max_in = 1,                                     \
                                              .spatial = axes,                                 \
                                              .build = build_}

ROW(max_pooling1d, "MaxPooling1D", 1, build_max);
ROW(max_pooling2d, "MaxPooling2D", 2, build_max);
ROW(max_pooling3d, "MaxPooling3D", 3, build_max);
ROW(average_pooling1d, "AveragePooling1D", 1, build_average);
ROW(average_pooling2d, "AveragePooling2D", 2, build_average);
ROW(average_pooling3d, "AveragePooling3D", 3, build_average);
