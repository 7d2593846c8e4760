/* Embedding: a row of a table for each whole number. Source: tf_keras/layers/core/embedding.py. */
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    enum { MAX_WORDS = 1 << 24 }; /* whole numbers travel as floats, which hold them up to here */
    int64_t n_words = 0, width = 0;
    bool mask_zero = false;
    LS_TRY(ls_json_get_int(call->config, "input_dim", 1, MAX_WORDS, &n_words, err));
    LS_TRY(ls_json_get_int(call->config, "output_dim", 1, INT32_MAX, &width, err));
    LS_TRY(ls_json_get_bool(call->config, "mask_zero", &mask_zero, err));
    if (n_words == 0 || width == 0) {
        return ls_json_fail(call->config, err, "\"%s\" is missing", n_words == 0 ? "input_dim" : "output_dim");
    }
    if (mask_zero) {
        return ls_json_fail(ls_json_member(call->config, "mask_zero"), err, "masks are not supported; expected false");
    }
    if (in->rank == LS_MAX_RANK) {
        return ls_layer_fail(call, err, "its input has too many axes");
    }
    ls_shape table = {.rank = 2, .dim = {n_words, width}}, out = *in;
    out.dim[out.rank++] = width;
    ls_weight *weight;
    LS_TRY(ls_builder_weight(b, call, "embeddings", "embeddings", "uniform", &table, &weight, err));
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_embedding, NULL, 0, 1, call->in, 1, &weight, 1, &out);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return LS_OK;
}

const ls_layer_class ls_layer_embedding = {
    .name = "Embedding",
    .keys = "output_dim embeddings_initializer embeddings_regularizer embeddings_constraint mask_zero",
    .min_in = 1,
    .max_in = 1,
    .build = build};
