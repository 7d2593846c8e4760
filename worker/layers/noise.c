/*
 * GaussianNoise (stddev), GaussianDropout (rate) and AlphaDropout (rate): noise in training, nothing otherwise.
 *
 * Source: tf_keras/layers/regularization/.
 */
#include <float.h>

#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

static ls_status build(ls_builder *b, ls_layer_call *call, const char *key, ls_noise_kind kind, double most,
                       ls_err *err) {
    ls_noise_attr a = {.kind = kind};
    if (!ls_json_present(ls_json_member(call->config, key))) {
        return ls_json_fail(call->config, err, "\"%s\" is missing", key);
    }
    LS_TRY(ls_json_get_double(call->config, key, 0, most, &a.amount, err));
    ls_json shape = ls_json_member(call->config, "noise_shape");
    if (ls_json_present(shape)) {
        return ls_json_fail(shape, err, "draws shared along axes are not supported for this layer; expected null");
    }
    call->n_out = 1;
    call->out[0] = call->in[0];
    if (a.amount > 0 && !ls_builder_inference(b)) {
        ls_node *node =
            ls_builder_node(b, call->layer, &ls_op_noise, &a, sizeof a, 1, call->in, 0, NULL, 1, &call->in[0]->shape);
        call->out[0] = node->out[0];
    }
    return LS_OK;
}

#define ROW(suffix, name_, key, kind, most)                                            \
    static ls_status build_##suffix(ls_builder *b, ls_layer_call *call, ls_err *err) { \
        return build(b, call, key, kind, most, err);                                   \
    }                                                                                  \
    const ls_layer_class ls_layer_##suffix = {.name = name_,                           \
                                              .keys = key " noise_shape seed",         \
                                              .min_in = 1,                             \
                                              .max_in = 1,                             \
                                              .masks = true,                           \
                                              .build = build_##suffix}

ROW(gaussian_noise, "GaussianNoise", "stddev", LS_NOISE_ADD, FLT_MAX);
ROW(gaussian_dropout, "GaussianDropout", "rate", LS_NOISE_MULTIPLY, 0.999999);
ROW(alpha_dropout, "AlphaDropout", "rate", LS_NOISE_ALPHA, 0.999999);
