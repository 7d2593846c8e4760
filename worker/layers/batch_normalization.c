/*
 * BatchNormalization along one axis: gamma (x - mean) / sqrt(variance + epsilon) + beta.
 *
 * Source: tf_keras/layers/normalization/batch_normalization.py. Inputs of 4 or 5 axes with the batch go through TF's
 * fused kernel, whose moving variance takes n/(n-1) times the batch variance, unless "synchronized". A layer with
 * trainable false uses its moving statistics in training too.
 */
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

typedef struct {
    ls_batch_norm_attr attr;
    double momentum;
} config;

static ls_status read_axis(const ls_layer_call *call, int *out, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    int64_t axis = -1;
    size_t n = 1;
    LS_TRY(ls_json_get_ints(call->config, "axis", -LS_MAX_RANK, 1, &axis, &n, err));
    axis = axis < 0 ? axis + in->rank : axis - 1; /* Keras counts the batch axis */
    if (axis < 0 || axis >= in->rank) {
        char text[96];
        return ls_json_fail(ls_json_member(call->config, "axis"), err, "there is no such axis in an input of shape %s",
                            ls_shape_text(in, true, text, sizeof text));
    }
    *out = (int)axis;
    return LS_OK;
}

static ls_status read_config(ls_builder *b, const ls_layer_call *call, config *c, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    double epsilon = 1e-3;
    bool center = true, scale = true, renorm = false, synchronized = false;
    *c = (config){.momentum = 0.99};
    LS_TRY(read_axis(call, &c->attr.axis, err));
    LS_TRY(ls_json_get_double(call->config, "momentum", 0, 1, &c->momentum, err));
    LS_TRY(ls_json_get_double(call->config, "epsilon", 0, 1, &epsilon, err));
    LS_TRY(ls_json_get_bool(call->config, "center", &center, err));
    LS_TRY(ls_json_get_bool(call->config, "scale", &scale, err));
    LS_TRY(ls_json_get_bool(call->config, "renorm", &renorm, err));
    LS_TRY(ls_json_get_bool(call->config, "synchronized", &synchronized, err));
    ls_json virtual_batch = ls_json_member(call->config, "virtual_batch_size");
    if (renorm || ls_json_present(virtual_batch)) {
        return ls_layer_fail(call, err, "renorm and virtual_batch_size are not supported");
    }
    bool fused = (in->rank == 3 || in->rank == 4) && (c->attr.axis == 0 || c->attr.axis == in->rank - 1);
    c->attr.epsilon = (float)epsilon;
    c->attr.center = center;
    c->attr.scale = scale;
    c->attr.frozen = !call->layer->trainable || ls_builder_inference(b);
    c->attr.unbiased = fused && !synchronized;
    c->attr.sync = synchronized;
    return LS_OK;
}

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    config c;
    if (call->in[0]->shape.rank < 1) {
        return ls_layer_fail(call, err, "expects an input of 2 axes or more");
    }
    LS_TRY(read_config(b, call, &c, err));
    ls_shape shape = {.rank = 1, .dim = {call->in[0]->shape.dim[c.attr.axis]}};
    ls_weight *weights[4];
    int n = 0;
    if (c.attr.scale) {
        LS_TRY(ls_builder_weight(b, call, "gamma", "gamma", "ones", &shape, &weights[n++], err));
    }
    if (c.attr.center) {
        LS_TRY(ls_builder_weight(b, call, "beta", "beta", "zeros", &shape, &weights[n++], err));
    }
    LS_TRY(ls_builder_stat(b, call, "moving_mean", "moving_mean_initializer", "zeros", c.momentum, &shape,
                           &weights[n++], err));
    LS_TRY(ls_builder_stat(b, call, "moving_variance", "moving_variance_initializer", "ones", c.momentum, &shape,
                           &weights[n++], err));
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_batch_norm, &c.attr, sizeof c.attr, 1, call->in, n, weights,
                                    1, &call->in[0]->shape);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return LS_OK;
}

const ls_layer_class ls_layer_batch_normalization = {
    .name = "BatchNormalization",
    .keys =
        "axis momentum epsilon center scale beta_initializer gamma_initializer moving_mean_initializer "
        "moving_variance_initializer beta_regularizer gamma_regularizer beta_constraint gamma_constraint renorm "
        "renorm_clipping renorm_momentum fused virtual_batch_size adjustment synchronized",
    .min_in = 1,
    .max_in = 1,
    .masks = true,
    .drop = "renorm renorm_clipping renorm_momentum fused virtual_batch_size adjustment",
    .drop_false = "synchronized",
    .build = build};
