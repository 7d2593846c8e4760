/* Dense: y = activation(x W + b) over the last axis. Source: tf_keras/layers/core/dense.py. */
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    int64_t units = 0;
    bool use_bias = true;
    LS_TRY(ls_json_get_int(call->config, "units", 1, INT32_MAX, &units, err));
    LS_TRY(ls_json_get_bool(call->config, "use_bias", &use_bias, err));
    if (units == 0) {
        return ls_json_fail(call->config, err, "\"units\" is missing");
    }
    const ls_shape *in = &call->in[0]->shape;
    if (in->rank < 1) {
        return ls_layer_fail(call, err, "expects an input of 2 axes or more, found shape (None,)");
    }
    ls_shape kernel = {.rank = 2, .dim = {in->dim[in->rank - 1], units}}, bias = {.rank = 1, .dim = {units}};
    ls_weight *weights[2];
    LS_TRY(ls_builder_weight(b, call, "kernel", "kernel", "glorot_uniform", &kernel, &weights[0], err));
    if (use_bias) {
        LS_TRY(ls_builder_weight(b, call, "bias", "bias", "zeros", &bias, &weights[1], err));
    }
    ls_shape out = *in;
    out.dim[out.rank - 1] = units;
    ls_node *node =
        ls_builder_node(b, call->layer, &ls_op_dense, NULL, 0, 1, call->in, use_bias ? 2 : 1, weights, 1, &out);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return ls_builder_activation(b, call, "activation", "linear", &call->out[0], err);
}

const ls_layer_class ls_layer_dense = {
    .name = "Dense",
    .keys =
        "units activation use_bias kernel_initializer bias_initializer kernel_regularizer bias_regularizer "
        "kernel_constraint bias_constraint lora_rank quantization_config",
    .min_in = 1,
    .max_in = 1,
    .masks = true,
    .drop = "lora_rank quantization_config",
    .build = build};
