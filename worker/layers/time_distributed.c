/*
 * TimeDistributed: the inner layer on every time step, by views that count the time axis as batch. A mask of several
 * axes (of the words in each sentence, say) is the inner layer's, step by step; what the inner layer leaves of it, or
 * whether any of it counts, is the mask of the output's steps.
 *
 * Source: tf_keras/layers/rnn/time_distributed.py.
 */
#include <string.h>

#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

/* The mask of the inner layer's input: what stands beyond the time axis. */
static ls_tensor *inner_mask(ls_builder *b, ls_layer_call *call, ls_tensor *mask, int64_t rows) {
    if (mask == NULL || mask->shape.rank < 2) {
        return NULL;
    }
    ls_shape one = {.rank = mask->shape.rank - 1};
    memcpy(one.dim, mask->shape.dim + 1, (size_t)one.rank * sizeof one.dim[0]);
    ls_tensor *each = ls_builder_view(b, call->layer, mask, rows, &one);
    each->mask = NULL;
    return each;
}

/* The mask of the output's steps: the inner layer's, else 1 where any of the input's mask is. */
static ls_tensor *outer_mask(ls_builder *b, ls_layer_call *call, const ls_tensor *in, ls_tensor *inner, int64_t steps) {
    if (inner != NULL) {
        ls_shape all = {.rank = inner->shape.rank + 1, .dim = {steps}};
        memcpy(all.dim + 1, inner->shape.dim, (size_t)inner->shape.rank * sizeof all.dim[0]);
        ls_tensor *mask = ls_builder_view(b, call->layer, inner, in->rows, &all);
        mask->mask = NULL;
        return mask;
    }
    if (in->mask == NULL || in->mask->shape.rank < 2) {
        return in->mask;
    }
    ls_mask_attr any = {.differs = true, .value = 0};
    ls_tensor *whole = in->mask, *mask;
    ls_shape time = {.rank = 1, .dim = {steps}};
    mask = ls_builder_node(b, call->layer, &ls_op_mask, &any, sizeof any, 1, &whole, 0, NULL, 1, &time)->out[0];
    mask->mask = NULL;
    return mask;
}

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_tensor *in = call->in[0];
    if (in->shape.rank < 2) {
        char text[96];
        return ls_layer_fail(call, err, "expects an input of 3 axes or more (batch, time, ...), found shape %s",
                             ls_shape_text(&in->shape, true, text, sizeof text));
    }
    ls_layer *inner;
    ls_json spec = ls_json_member(call->config, "layer");
    if (!ls_json_present(spec)) {
        return ls_json_fail(call->config, err, "\"layer\" is missing");
    }
    LS_TRY(ls_builder_inner(b, call, spec, &inner, err));
    int64_t steps = in->shape.dim[0];
    ls_shape one = {.rank = in->shape.rank - 1};
    memcpy(one.dim, in->shape.dim + 1, (size_t)one.rank * sizeof one.dim[0]);
    ls_tensor *each = ls_builder_view(b, call->layer, in, in->rows * steps, &one);
    each->mask = inner_mask(b, call, in->mask, in->rows * steps);
    ls_layer_call done;
    LS_TRY(ls_builder_call(b, inner, 1, &each, call->kwargs, &done, err));
    if (done.n_out != 1 || done.out[0]->shape.rank == LS_MAX_RANK) {
        return ls_layer_fail(call, err, "the inner layer must have one output of at most %d axes", LS_MAX_RANK);
    }
    ls_shape all = {.rank = done.out[0]->shape.rank + 1, .dim = {steps}};
    memcpy(all.dim + 1, done.out[0]->shape.dim, (size_t)(all.rank - 1) * sizeof all.dim[0]);
    call->n_out = 1;
    call->out[0] = ls_builder_view(b, call->layer, done.out[0], in->rows, &all);
    call->out[0]->mask = outer_mask(b, call, in, done.out[0]->mask, steps);
    return LS_OK;
}

const ls_layer_class ls_layer_time_distributed = {
    .name = "TimeDistributed", .keys = "layer", .min_in = 1, .max_in = 1, .masks = true, .build = build};
