/*
 * Embedding: rows of a table by number. mask_zero: number 0 stands for a step that does not count.
 *
 * Source: tf_keras/layers/core/embedding.py.
 */
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    int64_t vocabulary = 0, width = 0;
    bool mask_zero = false;
    LS_TRY(ls_json_get_int(call->config, "input_dim", 1, INT32_MAX, &vocabulary, err));
    LS_TRY(ls_json_get_int(call->config, "output_dim", 1, INT32_MAX, &width, err));
    LS_TRY(ls_json_get_bool(call->config, "mask_zero", &mask_zero, err));
    if (vocabulary == 0 || width == 0) {
        return ls_json_fail(call->config, err, "\"%s\" is missing", vocabulary == 0 ? "input_dim" : "output_dim");
    }
    const ls_shape *in = &call->in[0]->shape;
    if (in->rank >= LS_MAX_RANK) {
        return ls_layer_fail(call, err, "expects an input of at most %d axes", LS_MAX_RANK);
    }
    ls_shape table = {.rank = 2, .dim = {vocabulary, width}}, out = *in;
    ls_weight *w;
    LS_TRY(ls_builder_weight(b, call, "embeddings", "embeddings", "uniform", &table, &w, err));
    out.dim[out.rank++] = width;
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_embedding, NULL, 0, 1, call->in, 1, &w, 1, &out);
    call->n_out = 1;
    call->out[0] = node->out[0];
    call->out[0]->mask = NULL;
    if (mask_zero && in->rank >= 1) {
        ls_mask_attr a = {.differs = false};
        call->out[0]->mask =
            ls_builder_node(b, call->layer, &ls_op_mask, &a, sizeof a, 1, call->in, 0, NULL, 1, in)->out[0];
    }
    return LS_OK;
}

const ls_layer_class ls_layer_embedding = {.name = "Embedding",
                                           .keys =
                                               "output_dim embeddings_initializer embeddings_regularizer "
                                               "embeddings_constraint mask_zero sparse lora_rank quantization_config",
                                           .min_in = 1,
                                           .max_in = 1,
                                           .drop = "lora_rank quantization_config sparse",
                                           .build = build};
