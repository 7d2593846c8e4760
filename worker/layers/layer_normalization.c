/* LayerNormalization over the last axes. Source: tf_keras/layers/normalization/layer_normalization.py. */
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

/* "axis" must name the last axes of the input, in order: n_axes of them. */
static ls_status read_axes(const ls_layer_call *call, int *n_axes, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    int64_t axes[LS_MAX_RANK] = {-1};
    size_t n = 1;
    LS_TRY(ls_json_get_ints(call->config, "axis", -LS_MAX_RANK, LS_MAX_RANK, axes, &n, err));
    for (size_t i = 0; i < n; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + in->rank : axes[i] - 1; /* Keras counts the batch axis */
        if (n > (size_t)in->rank || axis != in->rank - (int64_t)n + (int64_t)i) {
            char text[96];
            return ls_json_fail(ls_json_member(call->config, "axis"), err,
                                "expected the last axes, in order, of an input of shape %s",
                                ls_shape_text(in, true, text, sizeof text));
        }
    }
    *n_axes = (int)n;
    return LS_OK;
}

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    ls_layer_norm_attr a = {.scale = true, .center = true};
    double epsilon = 1e-3;
    bool rms = false;
    if (in->rank < 1) {
        return ls_layer_fail(call, err, "expects an input of 2 axes or more");
    }
    LS_TRY(read_axes(call, &a.n_axes, err));
    LS_TRY(ls_json_get_double(call->config, "epsilon", 0, 1, &epsilon, err));
    LS_TRY(ls_json_get_bool(call->config, "scale", &a.scale, err));
    LS_TRY(ls_json_get_bool(call->config, "center", &a.center, err));
    LS_TRY(ls_json_get_bool(call->config, "rms_scaling", &rms, err));
    if (rms) {
        return ls_json_fail(ls_json_member(call->config, "rms_scaling"), err, "is not supported; expected false");
    }
    a.epsilon = (float)epsilon;
    ls_shape shape = {.rank = a.n_axes};
    for (int i = 0; i < a.n_axes; i++) {
        shape.dim[i] = in->dim[in->rank - a.n_axes + i];
    }
    ls_weight *weights[2];
    int n = 0;
    if (a.scale) {
        LS_TRY(ls_builder_weight(b, call, "gamma", "gamma", "ones", &shape, &weights[n++], err));
    }
    if (a.center) {
        LS_TRY(ls_builder_weight(b, call, "beta", "beta", "zeros", &shape, &weights[n++], err));
    }
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_layer_norm, &a, sizeof a, 1, call->in, n, weights, 1, in);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return LS_OK;
}

const ls_layer_class ls_layer_layer_normalization = {
    .name = "LayerNormalization",
    .keys =
        "axis epsilon center scale beta_initializer gamma_initializer beta_regularizer gamma_regularizer "
        "beta_constraint gamma_constraint rms_scaling",
    .min_in = 1,
    .max_in = 1,
    .masks = true,
    .drop = "rms_scaling",
    .build = build};
