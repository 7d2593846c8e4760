/*
 * Permute, RepeatVector, ZeroPadding1D/2D/3D, Cropping1D/2D/3D: the same numbers elsewhere, or zeros.
 *
 * Source: tf_keras/layers/reshaping/.
 */
#include "worker/layers/rows.h"
#include "worker/layers/spatial.h"
#include "worker/ops/ops.h"

static ls_rearrange_attr in_place(int rank) {
    ls_rearrange_attr a = {.factor = {0}};
    for (int i = 0; i < rank; i++) {
        a.source[i] = i;
        a.factor[i] = 1;
    }
    return a;
}

static ls_status add_node(ls_builder *b, ls_layer_call *call, const ls_rearrange_attr *a, const ls_shape *out) {
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_rearrange, a, sizeof *a, 1, call->in, 0, NULL, 1, out);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return LS_OK;
}

/* dims: for each output axis the input axis, counted from 1 without the batch. */
static ls_status build_permute(ls_builder *b, ls_layer_call *call, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    int64_t dims[LS_MAX_RANK];
    size_t n = 0;
    unsigned seen = 0;
    LS_TRY(ls_json_get_ints(call->config, "dims", 1, LS_MAX_RANK, dims, &n, err));
    if (n != (size_t)in->rank) {
        char text[96];
        return ls_json_fail(call->config, err, "\"dims\" must name each of the %d axes of an input of shape %s",
                            in->rank, ls_shape_text(in, true, text, sizeof text));
    }
    ls_rearrange_attr a = in_place(in->rank);
    ls_shape out = {.rank = in->rank};
    for (int i = 0; i < in->rank; i++) {
        if (dims[i] > in->rank || (seen & 1u << dims[i]) != 0) {
            return ls_json_fail(ls_json_member(call->config, "dims"), err, "expected each number from 1 to %d once",
                                in->rank);
        }
        seen |= 1u << dims[i];
        a.source[i] = (int)dims[i] - 1;
        out.dim[i] = in->dim[dims[i] - 1];
    }
    return add_node(b, call, &a, &out);
}

static ls_status build_repeat(ls_builder *b, ls_layer_call *call, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    int64_t n = 0;
    LS_TRY(ls_json_get_int(call->config, "n", 1, INT32_MAX, &n, err));
    if (n == 0 || in->rank != 1) {
        return ls_layer_fail(call, err, "expects \"n\" and an input of 2 axes (batch, features)");
    }
    ls_rearrange_attr a = {.source = {-1, 0}, .factor = {1, 1}};
    ls_shape out = {.rank = 2, .dim = {n, in->dim[0]}};
    return add_node(b, call, &a, &out);
}

/* n for all sides, [a, b, ..] for both sides of each axis, or [[before, after], ..]; one axis: n or [before, after]. */
static ls_status read_sides(const ls_layer_call *call, const char *key, int64_t sides[LS_MAX_SPATIAL][2], ls_err *err) {
    int spatial = call->layer->class_->spatial;
    ls_json at = ls_json_member(call->config, key);
    size_t n = 0;
    int64_t same[LS_MAX_SPATIAL];
    for (int i = 0; i < spatial; i++) {
        sides[i][0] = sides[i][1] = 1;
    }
    if (!ls_json_present(at)) {
        return LS_OK;
    }
    if (spatial == 1 && json_is_array(at.value) && ls_json_length(at) == 2) {
        return ls_json_get_ints(call->config, key, 0, 2, sides[0], &n, err);
    }
    if (!json_is_array(at.value) || !json_is_array(json_array_get(at.value, 0))) {
        LS_TRY(ls_spatial_ints(call, key, true, 0, same, err));
        for (int i = 0; i < spatial; i++) {
            sides[i][0] = sides[i][1] = same[i];
        }
        return LS_OK;
    }
    for (int i = 0; i < spatial; i++) {
        ls_json pair = ls_json_element(at, (size_t)i);
        for (size_t k = 0; k < 2; k++) {
            json_t *value = json_array_get(pair.value, k);
            if (ls_json_length(at) != (size_t)spatial || ls_json_length(pair) != 2 || !json_is_integer(value) ||
                json_integer_value(value) < 0 || json_integer_value(value) > INT32_MAX) {
                return ls_json_fail(at, err, "expected %d pairs of whole numbers of at least 0", spatial);
            }
            sides[i][k] = json_integer_value(value);
        }
    }
    return LS_OK;
}

static ls_status build_sides(ls_builder *b, ls_layer_call *call, const char *key, int sign, ls_err *err) {
    int64_t sides[LS_MAX_SPATIAL][2];
    LS_TRY(ls_spatial_check_input(call, err));
    LS_TRY(read_sides(call, key, sides, err));
    ls_shape out = call->in[0]->shape;
    ls_rearrange_attr a = in_place(out.rank);
    for (int i = 0; i < call->layer->class_->spatial; i++) {
        a.before[i] = sign * sides[i][0];
        out.dim[i] += sign * (sides[i][0] + sides[i][1]);
        if (out.dim[i] < 1) {
            char text[96];
            return ls_json_fail(ls_json_member(call->config, key), err, "leaves nothing of an input of shape %s",
                                ls_shape_text(&call->in[0]->shape, true, text, sizeof text));
        }
    }
    return add_node(b, call, &a, &out);
}

static ls_status build_padding(ls_builder *b, ls_layer_call *call, ls_err *err) {
    return build_sides(b, call, "padding", 1, err);
}

static ls_status build_cropping(ls_builder *b, ls_layer_call *call, ls_err *err) {
    return build_sides(b, call, "cropping", -1, err);
}

#define ROW(suffix, name_, keys_, axes, build_) \
    const ls_layer_class ls_layer_##suffix = {  \
        .name = name_, .keys = keys_, .min_in = 1, .max_in = 1, .spatial = axes, .build = build_}

ROW(permute, "Permute", "dims", 0, build_permute);
ROW(repeat_vector, "RepeatVector", "n", 0, build_repeat);
ROW(zero_padding1d, "ZeroPadding1D", "padding data_format", 1, build_padding);
ROW(zero_padding2d, "ZeroPadding2D", "padding data_format", 2, build_padding);
ROW(zero_padding3d, "ZeroPadding3D", "padding data_format", 3, build_padding);
ROW(cropping1d, "Cropping1D", "cropping data_format", 1, build_cropping);
ROW(cropping2d, "Cropping2D", "cropping data_format", 2, build_cropping);
ROW(cropping3d, "Cropping3D", "cropping data_format", 3, build_cropping);
