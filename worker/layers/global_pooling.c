/*
 * Global max and average pooling: (.., C) -> (C), or (1.., C) with keepdims.
 *
 * Source: tf_keras/layers/pooling/base_global_pooling*.py.
 */
#include "worker/layers/rows.h"
#include "worker/layers/spatial.h"
#include "worker/ops/ops.h"

static ls_status build(ls_builder *b, ls_layer_call *call, bool average, ls_err *err) {
    bool keepdims = false;
    LS_TRY(ls_spatial_check_input(call, err));
    LS_TRY(ls_json_get_bool(call->config, "keepdims", &keepdims, err));
    const ls_shape *in = &call->in[0]->shape;
    int64_t channels = in->dim[in->rank - 1];
    ls_shape out = {.rank = 1, .dim = {channels}};
    if (keepdims) {
        out.rank = in->rank;
        for (int i = 0; i < in->rank; i++) {
            out.dim[i] = i == in->rank - 1 ? channels : 1;
        }
    }
    ls_global_pool_attr a = {.average = average};
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_global_pool, &a, sizeof a, 1, call->in, 0, NULL, 1, &out);
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

#define ROW(suffix, name_, axes, build_, call_keys_)                          \
    const ls_layer_class ls_layer_##suffix = {.name = name_,                  \
                                              .keys = "data_format keepdims", \
                                              .call_keys = call_keys_,        \
                                              .min_in = 1,                    \
                                              .max_in = 1,                    \
                                              .spatial = axes,                \
                                              .build = build_}

ROW(global_max_pooling1d, "GlobalMaxPooling1D", 1, build_max, NULL);
ROW(global_max_pooling2d, "GlobalMaxPooling2D", 2, build_max, NULL);
ROW(global_max_pooling3d, "GlobalMaxPooling3D", 3, build_max, NULL);
ROW(global_average_pooling1d, "GlobalAveragePooling1D", 1, build_average, "mask");
ROW(global_average_pooling2d, "GlobalAveragePooling2D", 2, build_average, NULL);
ROW(global_average_pooling3d, "GlobalAveragePooling3D", 3, build_average, NULL);
