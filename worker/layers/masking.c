/*
 * Masking: steps all of whose features (the last axis) are mask_value do not count, and are zero from here on.
 *
 * Source: tf_keras/layers/core/masking.py.
 */
#include <float.h>

#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    double value = 0;
    LS_TRY(ls_json_get_double(call->config, "mask_value", -FLT_MAX, FLT_MAX, &value, err));
    ls_tensor *in = call->in[0];
    if (in->shape.rank < 2) {
        char text[96];
        return ls_layer_fail(call, err,
                             "expects an input of 3 axes or more (batch, time, .., features), found shape %s",
                             ls_shape_text(&in->shape, true, text, sizeof text));
    }
    ls_mask_attr a = {.differs = true, .value = (float)value};
    ls_shape steps = in->shape, column = in->shape;
    steps.rank--;
    column.dim[column.rank - 1] = 1;
    ls_tensor *mask = ls_builder_node(b, call->layer, &ls_op_mask, &a, sizeof a, 1, &in, 0, NULL, 1, &steps)->out[0];
    ls_tensor *both[2] = {in, ls_builder_view(b, call->layer, mask, mask->rows, &column)};
    ls_merge_attr m = {.kind = LS_MERGE_MULTIPLY};
    call->n_out = 1;
    call->out[0] = ls_builder_node(b, call->layer, &ls_op_merge, &m, sizeof m, 2, both, 0, NULL, 1, &in->shape)->out[0];
    call->out[0]->mask = mask;
    return LS_OK;
}

const ls_layer_class ls_layer_masking = {
    .name = "Masking", .keys = "mask_value", .min_in = 1, .max_in = 1, .build = build};
