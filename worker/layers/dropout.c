/*
 * Dropout and SpatialDropout1D/2D/3D: zero with probability rate in training and divide the rest by 1 - rate.
 *
 * Source: tf_keras/layers/regularization/. noise_shape: an axis of size 1 shares its draws; where
 * it is the first, all samples of a step do, whatever lanes and ranks they are in.
 */
#include "worker/layers/rows.h"
#include "worker/layers/spatial.h"
#include "worker/ops/ops.h"

static ls_status add_node(ls_builder *b, ls_layer_call *call, ls_dropout_attr a, ls_err *err) {
    if (!ls_json_present(ls_json_member(call->config, "rate"))) {
        return ls_json_fail(call->config, err, "\"rate\" is missing");
    }
    LS_TRY(ls_json_get_double(call->config, "rate", 0, 0.999999, &a.rate, err));
    call->n_out = 1;
    call->out[0] = call->in[0];
    if (a.rate > 0 && !ls_builder_inference(b)) {
        ls_node *node =
            ls_builder_node(b, call->layer, &ls_op_dropout, &a, sizeof a, 1, call->in, 0, NULL, 1, &call->in[0]->shape);
        call->out[0] = node->out[0];
    }
    return LS_OK;
}

/* noise_shape has the batch axis in front; null: as the input. */
static ls_status read_noise_shape(const ls_layer_call *call, ls_dropout_attr *a, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    ls_json noise = ls_json_member(call->config, "noise_shape");
    a->keep_axes = (1u << in->rank) - 1;
    if (!ls_json_present(noise)) {
        return LS_OK;
    }
    if (!json_is_array(noise.value) || ls_json_length(noise) != (size_t)in->rank + 1) {
        return ls_json_fail(noise, err, "expected a list of %d, one for each axis of the input", in->rank + 1);
    }
    ls_json first = ls_json_element(noise, 0);
    a->whole_batch = json_integer_value(first.value) == 1;
    if (!json_is_null(first.value) && !a->whole_batch) {
        return ls_json_fail(first, err,
                            "expected null, or 1 for draws that all samples share: a batch may have any size");
    }
    for (int i = 0; i < in->rank; i++) {
        ls_json d = ls_json_element(noise, (size_t)i + 1);
        if (json_is_null(d.value) || (json_is_integer(d.value) && json_integer_value(d.value) == in->dim[i])) {
            continue;
        }
        if (!json_is_integer(d.value) || json_integer_value(d.value) != 1) {
            return ls_json_fail(d, err, "expected null, 1 or %d", (int)in->dim[i]);
        }
        a->keep_axes &= ~(1u << i);
    }
    return LS_OK;
}

static ls_status build_dropout(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_dropout_attr a = {0};
    LS_TRY(read_noise_shape(call, &a, err));
    return add_node(b, call, a, err);
}

/* Whole channels are dropped. */
static ls_status build_spatial(ls_builder *b, ls_layer_call *call, ls_err *err) {
    LS_TRY(ls_spatial_check_input(call, err));
    return add_node(b, call, (ls_dropout_attr){.keep_axes = 1u << (call->in[0]->shape.rank - 1)}, err);
}

#define ROW(suffix, name_, axes, build_, drop_)                                            \
    const ls_layer_class ls_layer_##suffix = {.name = name_,                               \
                                              .keys = "rate noise_shape seed data_format", \
                                              .min_in = 1,                                 \
                                              .max_in = 1,                                 \
                                              .spatial = axes,                             \
                                              .masks = true,                               \
                                              .drop = drop_,                               \
                                              .build = build_}

ROW(dropout, "Dropout", 0, build_dropout, NULL);
ROW(spatial_dropout1d, "SpatialDropout1D", 1, build_spatial, "trainable noise_shape");
ROW(spatial_dropout2d, "SpatialDropout2D", 2, build_spatial, "trainable noise_shape");
ROW(spatial_dropout3d, "SpatialDropout3D", 3, build_spatial, "trainable noise_shape");
