/*
 * data_format "channels_first": the layer's inputs (C, spatial..) are put channels last, the layer is built as if it
 * had been written so, and its outputs are put channels first again. Weights lie alike in both formats. Two such layers
 * in a row pass what lies between them on as it is, and the permutation that nobody reads is not computed.
 *
 * Flatten of channels_first means that too: it flattens channels last.
 */
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

/* (spatial.., C) -> (C, spatial..), or back. */
static ls_rearrange_attr permutation(int rank, bool to_first) {
    ls_rearrange_attr a = {.factor = {0}};
    for (int i = 0; i < rank; i++) {
        a.source[i] = to_first ? (i + rank - 1) % rank : (i + 1) % rank;
        a.factor[i] = 1;
    }
    return a;
}

/* What t was before it was put channels first; NULL: it was not. */
static ls_tensor *before_permutation(const ls_tensor *t) {
    const ls_node *node = t->producer;
    if (node == NULL || node->op != &ls_op_rearrange) {
        return NULL;
    }
    const ls_rearrange_attr *have = node->attr, want = permutation(t->shape.rank, true);
    for (int i = 0; i < t->shape.rank; i++) {
        bool whole = t->shape.dim[i] == node->in[0]->shape.dim[want.source[i]];
        if (have->source[i] != want.source[i] || have->factor[i] != 1 || have->before[i] != 0 || !whole) {
            return NULL;
        }
    }
    return node->in[0];
}

static ls_tensor *permuted(ls_builder *b, ls_layer *layer, ls_tensor *t, bool to_first) {
    int rank = t->shape.rank;
    ls_tensor *last = to_first ? NULL : before_permutation(t);
    if (last != NULL || rank < 2) {
        return last != NULL ? last : t;
    }
    ls_rearrange_attr a = permutation(rank, to_first);
    ls_shape out = {.rank = rank};
    for (int i = 0; i < rank; i++) {
        out.dim[i] = t->shape.dim[a.source[i]];
    }
    return ls_builder_node(b, layer, &ls_op_rearrange, &a, sizeof a, 1, &t, 0, NULL, 1, &out)->out[0];
}

ls_status ls_layer_build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    static const char *const formats[] = {"channels_last", "channels_first"};
    const ls_layer_class *c = call->layer->class_;
    int format = 0;
    if (json_is_object(call->config.value)) {
        LS_TRY(ls_json_get_choice(call->config, "data_format", formats, 2, &format, err));
    }
    if (format == 0) {
        return c->build(b, call, err);
    }
    ls_tensor *const *given = call->in;
    ls_tensor **in = ls_pool_alloc(&ls_builder_model(b)->pool, (size_t)call->n_in * sizeof *in);
    for (int i = 0; i < call->n_in; i++) {
        in[i] = permuted(b, call->layer, given[i], false);
    }
    call->in = in;
    ls_status status = c->build(b, call, err);
    call->in = given;
    for (int i = 0; status == LS_OK && i < call->n_out; i++) {
        if (call->out[i]->shape.rank == given[0]->shape.rank) {
            call->out[i] = permuted(b, call->layer, call->out[i], true);
        }
    }
    return status;
}
