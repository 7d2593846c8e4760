/*
 * Rescaling: x * scale + offset. Normalization: (x - mean) / max(sqrt(variance), 1e-7) for each place along `axis`,
 * with the mean and variance of the configuration, or those that adapt() left in the weights; invert: the way back.
 *
 * Source: tf_keras/layers/preprocessing/{image_preprocessing,normalization}.py.
 */
#include <float.h>
#include <math.h>

#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

static ls_status add_node(ls_builder *b, ls_layer_call *call, const ls_affine_attr *a, int n_weights,
                          ls_weight *const *weights) {
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_affine, a, sizeof *a, 1, call->in, n_weights, weights, 1,
                                    &call->in[0]->shape);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return LS_OK;
}

/* A number, or a list (of lists ..) of n numbers in all. */
static ls_status read_numbers(ls_json at, float *out, size_t n, size_t *found, ls_err *err) {
    if (json_is_number(at.value)) {
        if (*found < n) {
            out[*found] = (float)json_number_value(at.value);
        }
        ++*found;
        return LS_OK;
    }
    ls_json value = ls_json_member(at, "value"); /* {"type": "ndarray", "value": [..]} */
    if (json_is_object(at.value) && ls_json_present(value)) {
        return read_numbers(value, out, n, found, err);
    }
    if (!json_is_array(at.value)) {
        return ls_json_fail(at, err, "expected a number or a list of numbers");
    }
    for (size_t i = 0; i < ls_json_length(at); i++) {
        LS_TRY(read_numbers(ls_json_element(at, i), out, n, found, err));
    }
    return LS_OK;
}

/* config[key] as n numbers; one number stands for all. */
static ls_status read_filled(const ls_layer_call *call, const char *key, float *out, size_t n, ls_err *err) {
    ls_json at = ls_json_member(call->config, key);
    size_t found = 0;
    LS_TRY(read_numbers(at, out, n, &found, err));
    if (found != 1 && found != n) {
        return ls_json_fail(at, err, "expected one number or %zu, found %zu", n, found);
    }
    for (size_t i = 1; found == 1 && i < n; i++) {
        out[i] = out[0];
    }
    return LS_OK;
}

static ls_status build_rescaling(ls_builder *b, ls_layer_call *call, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    if (!ls_json_present(ls_json_member(call->config, "scale"))) {
        return ls_json_fail(call->config, err, "\"scale\" is missing");
    }
    size_t n = in->rank > 0 ? (size_t)in->dim[in->rank - 1] : 1; /* lists: one number a channel */
    float *numbers = ls_pool_alloc(&ls_builder_model(b)->pool, 3 * n * sizeof *numbers);
    LS_TRY(read_filled(call, "scale", numbers + n, n, err));
    if (ls_json_present(ls_json_member(call->config, "offset"))) {
        LS_TRY(read_filled(call, "offset", numbers + 2 * n, n, err));
    }
    ls_affine_attr a = {.shared_axes = in->rank > 0 ? (1u << (in->rank - 1)) - 1 : 0, .constants = numbers};
    return add_node(b, call, &a, 0, NULL);
}

/* The axes that have a mean each: "axis" is a number, a list, or null for one mean of all. */
static ls_status read_axes(const ls_layer_call *call, unsigned *shared, ls_shape *kept, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    ls_json at = ls_json_member(call->config, "axis");
    int64_t axes[LS_MAX_RANK] = {-1};
    size_t n = 1;
    if (at.value != NULL && json_is_null(at.value)) {
        n = 0;
    }
    LS_TRY(ls_json_get_ints(call->config, "axis", -LS_MAX_RANK, LS_MAX_RANK, axes, &n, err));
    *shared = (1u << in->rank) - 1;
    for (size_t i = 0; i < n; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + in->rank : axes[i] - 1; /* Keras counts the batch axis */
        if (axis < 0 || axis >= in->rank) {
            char text[96];
            return ls_json_fail(at, err, "there is no axis %d, besides the batch, in an input of shape %s",
                                (int)axes[i], ls_shape_text(in, true, text, sizeof text));
        }
        *shared &= ~(1u << axis);
    }
    *kept = (ls_shape){.rank = 0};
    for (int i = 0; i < in->rank; i++) {
        if (!(*shared >> i & 1u)) {
            kept->dim[kept->rank++] = in->dim[i];
        }
    }
    return LS_OK;
}

/* Mean and variance from the configuration. */
static ls_status given(ls_builder *b, ls_layer_call *call, ls_affine_attr *a, size_t n, ls_err *err) {
    float *shift = ls_pool_alloc(&ls_builder_model(b)->pool, 3 * n * sizeof *shift), *factor = shift + n;
    LS_TRY(read_filled(call, "mean", shift, n, err));
    LS_TRY(read_filled(call, "variance", factor, n, err));
    for (size_t i = 0; i < n; i++) {
        float deviation = fmaxf(sqrtf(factor[i]), 1e-7f);
        factor[i] = a->invert ? deviation : 1.0f / deviation;
        if (a->invert) {
            shift[2 * n + i] = shift[i];
            shift[i] = 0;
        }
    }
    a->constants = shift;
    return LS_OK;
}

static ls_status build_normalization(ls_builder *b, ls_layer_call *call, ls_err *err) {
    static const char *const names[3] = {"mean", "variance", "count"}, *const start[3] = {"zeros", "ones", "zeros"};
    ls_affine_attr a = {0};
    ls_shape kept, scalar = {.rank = 0};
    LS_TRY(ls_json_get_bool(call->config, "invert", &a.invert, err));
    LS_TRY(read_axes(call, &a.shared_axes, &kept, err));
    bool mean = ls_json_present(ls_json_member(call->config, "mean"));
    if (mean != ls_json_present(ls_json_member(call->config, "variance"))) {
        return ls_json_fail(call->config, err, "\"mean\" and \"variance\" go together");
    }
    if (mean) {
        LS_TRY(given(b, call, &a, (size_t)ls_shape_elems(&kept), err));
        return add_node(b, call, &a, 0, NULL);
    }
    ls_weight *weights[3];
    for (int i = 0; i < 3; i++) {
        LS_TRY(ls_builder_weight(b, call, names[i], names[i], start[i], i < 2 ? &kept : &scalar, &weights[i], err));
        weights[i]->trainable = false;
    }
    return add_node(b, call, &a, 3, weights);
}

#define ROW(suffix, name_, keys_, build_)      \
    const ls_layer_class ls_layer_##suffix = { \
        .name = name_, .keys = keys_, .min_in = 1, .max_in = 1, .masks = true, .build = build_}

ROW(rescaling, "Rescaling", "scale offset", build_rescaling);
ROW(normalization, "Normalization", "axis mean variance invert", build_normalization);
