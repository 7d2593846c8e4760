/*
 * Attention (dot product or "concat" scores) and AdditiveAttention: inputs [query (Tq, D), value (Tv, Dv), key (Tv,
 * D)], the key being the value when it is not given; output (Tq, Dv).
 *
 * Source: tf_keras/layers/attention/{base_dense_attention,attention,additive_attention}.py.
 */
#include "worker/layers/attention.h"

#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

ls_status ls_attention_causal(const ls_layer_call *call, const char *config_key, bool *causal, bool *scores,
                              ls_err *err) {
    bool asked = false;
    *causal = *scores = false;
    if (config_key != NULL) {
        LS_TRY(ls_json_get_bool(call->config, config_key, causal, err));
    }
    LS_TRY(ls_json_get_bool(call->kwargs, "use_causal_mask", &asked, err));
    LS_TRY(ls_json_get_bool(call->kwargs, "return_attention_scores", scores, err));
    *causal = *causal || asked;
    return LS_OK;
}

ls_tensor *ls_attention_weights(ls_builder *b, ls_layer_call *call, ls_tensor *scores, float scale, bool causal,
                                ls_tensor *key_mask, ls_tensor *query_mask, ls_tensor *pair_mask) {
    ls_attention_attr a = {.scale = scale,
                           .causal = causal,
                           .key_mask = key_mask != NULL,
                           .query_mask = query_mask != NULL,
                           .pair_mask = pair_mask != NULL};
    ls_tensor *in[4] = {scores};
    int n = 1;
    if (key_mask != NULL) {
        in[n++] = key_mask;
    }
    if (query_mask != NULL) {
        in[n++] = query_mask;
    }
    if (pair_mask != NULL) {
        in[n++] = pair_mask;
    }
    return ls_builder_node(b, call->layer, &ls_op_attention, &a, sizeof a, n, in, 0, NULL, 1, &scores->shape)->out[0];
}

ls_status ls_attention_dropout(ls_builder *b, ls_layer_call *call, ls_tensor **weights, ls_err *err) {
    ls_dropout_attr a = {.keep_axes = (1u << (*weights)->shape.rank) - 1};
    LS_TRY(ls_json_get_double(call->config, "dropout", 0, 0.999999, &a.rate, err));
    if (a.rate > 0 && !ls_builder_inference(b)) {
        ls_node *node =
            ls_builder_node(b, call->layer, &ls_op_dropout, &a, sizeof a, 1, weights, 0, NULL, 1, &(*weights)->shape);
        *weights = node->out[0];
    }
    return LS_OK;
}

ls_tensor *ls_attention_product(ls_builder *b, ls_layer_call *call, ls_tensor *x, ls_tensor *y, bool transpose_y) {
    ls_matmul_attr a = {.transpose_b = transpose_y};
    ls_tensor *in[2] = {x, y};
    ls_shape out = x->shape;
    out.dim[out.rank - 1] = y->shape.dim[out.rank - (transpose_y ? 2 : 1)];
    return ls_builder_node(b, call->layer, &ls_op_matmul, &a, sizeof a, 2, in, 0, NULL, 1, &out)->out[0];
}

/* ---- Attention, AdditiveAttention ---- */

static ls_status check_inputs(const ls_layer_call *call, ls_err *err) {
    const ls_tensor *query = call->in[0], *value = call->in[1], *key = call->in[call->n_in - 1];
    bool fit = query->shape.rank == 2 && value->shape.rank == 2 && key->shape.rank == 2 &&
               query->shape.dim[1] == key->shape.dim[1] && key->shape.dim[0] == value->shape.dim[0] &&
               query->rows == value->rows && query->rows == key->rows;
    if (!fit) {
        char q[96], v[96], k[96];
        return ls_layer_fail(call, err,
                             "expects a query (batch, Tq, D), a value (batch, Tv, Dv) and a key (batch, Tv, D), found "
                             "shapes %s, %s and %s",
                             ls_shape_text(&query->shape, true, q, sizeof q),
                             ls_shape_text(&value->shape, true, v, sizeof v),
                             ls_shape_text(&key->shape, true, k, sizeof k));
    }
    return LS_OK;
}

/* Scores by tanh of sums; the weights that are there, c first. */
static ls_tensor *additive(ls_builder *b, ls_layer_call *call, ls_additive_attr a, ls_weight *const *weights) {
    ls_tensor *in[2] = {call->in[0], call->in[call->n_in - 1]};
    ls_shape out = {.rank = 2, .dim = {in[0]->shape.dim[0], in[1]->shape.dim[0]}};
    return ls_builder_node(b, call->layer, &ls_op_additive_scores, &a, sizeof a, 2, in, a.has_c + a.has_w, weights, 1,
                           &out)
        ->out[0];
}

/* Everything after the scores. */
static ls_status finish(ls_builder *b, ls_layer_call *call, ls_tensor *scores, ls_err *err) {
    bool causal, give_scores;
    LS_TRY(ls_attention_causal(call, "causal", &causal, &give_scores, err));
    ls_tensor *query_mask = call->in[0]->mask;
    ls_tensor *weights = ls_attention_weights(b, call, scores, 1.0f, causal, call->in[1]->mask, NULL, NULL);
    LS_TRY(ls_attention_dropout(b, call, &weights, err));
    ls_tensor *result = ls_attention_product(b, call, weights, call->in[1], false);
    if (query_mask != NULL) { /* masked queries give zeros */
        ls_shape column = {.rank = 2, .dim = {query_mask->shape.dim[0], 1}};
        ls_tensor *both[2] = {result, ls_builder_view(b, call->layer, query_mask, query_mask->rows, &column)};
        ls_merge_attr a = {.kind = LS_MERGE_MULTIPLY};
        result =
            ls_builder_node(b, call->layer, &ls_op_merge, &a, sizeof a, 2, both, 0, NULL, 1, &result->shape)->out[0];
    }
    result->mask = query_mask;
    call->n_out = give_scores ? 2 : 1;
    call->out[0] = result;
    call->out[1] = weights;
    return LS_OK;
}

static ls_status build_dot(ls_builder *b, ls_layer_call *call, bool use_scale, ls_err *err) {
    ls_tensor *scores = ls_attention_product(b, call, call->in[0], call->in[call->n_in - 1], true);
    if (use_scale) {
        ls_shape scalar = {.rank = 0};
        ls_weight *scale;
        LS_TRY(ls_builder_weight(b, call, "scale", "scale", "ones", &scalar, &scale, err));
        ls_scale_attr a = {.shared_axes = 3};
        scores = ls_builder_node(b, call->layer, &ls_op_scale, &a, sizeof a, 1, &scores, 1, &scale, 1, &scores->shape)
                     ->out[0];
    }
    return finish(b, call, scores, err);
}

static ls_status build_attention(ls_builder *b, ls_layer_call *call, ls_err *err) {
    static const char *const modes[] = {"dot", "concat"};
    bool use_scale = false;
    int mode = 0, n = 0;
    LS_TRY(check_inputs(call, err));
    LS_TRY(ls_json_get_bool(call->config, "use_scale", &use_scale, err));
    LS_TRY(ls_json_get_choice(call->config, "score_mode", modes, 2, &mode, err));
    if (mode == 0) {
        return build_dot(b, call, use_scale, err);
    }
    ls_shape scalar = {.rank = 0};
    ls_weight *weights[2];
    if (use_scale) {
        LS_TRY(ls_builder_weight(b, call, "scale", "scale", "ones", &scalar, &weights[n++], err));
    }
    LS_TRY(ls_builder_weight(b, call, "concat_score_weight", "concat_score_weight", "ones", &scalar, &weights[n], err));
    return finish(b, call, additive(b, call, (ls_additive_attr){.has_c = use_scale, .has_w = true}, weights), err);
}

static ls_status build_additive(ls_builder *b, ls_layer_call *call, ls_err *err) {
    bool use_scale = true;
    ls_weight *scale = NULL;
    LS_TRY(check_inputs(call, err));
    LS_TRY(ls_json_get_bool(call->config, "use_scale", &use_scale, err));
    if (use_scale) {
        ls_shape shape = {.rank = 1, .dim = {call->in[0]->shape.dim[1]}};
        LS_TRY(ls_builder_weight(b, call, "scale", "scale", "glorot_uniform", &shape, &scale, err));
    }
    return finish(b, call, additive(b, call, (ls_additive_attr){.has_w = use_scale}, &scale), err);
}

#define ROW(suffix, name_, keys_, build_)                                                             \
    const ls_layer_class ls_layer_##suffix = {.name = name_,                                          \
                                              .keys = "use_scale dropout causal seed " keys_,         \
                                              .call_keys = "use_causal_mask return_attention_scores", \
                                              .min_in = 2,                                            \
                                              .max_in = 3,                                            \
                                              .build = build_}

ROW(attention, "Attention", "score_mode", build_attention);
ROW(additive_attention, "AdditiveAttention", "", build_additive);
