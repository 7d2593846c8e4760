/*
 * Maxout: the channels are taken as c / num_units groups of num_units, and each unit is the largest of its groups.
 *
 * Source: tensorflow_addons/layers/maxout.py; Goodfellow et al., Maxout Networks, ICML 2013.
 */
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_tensor *in = call->in[0];
    int64_t units = 0, axis = -1, before = 1, after = 1;
    LS_TRY(ls_json_get_int(call->config, "num_units", 1, INT32_MAX, &units, err));
    LS_TRY(ls_json_get_int(call->config, "axis", -LS_MAX_RANK, LS_MAX_RANK, &axis, err));
    int at = (int)(axis < 0 ? axis + in->shape.rank : axis - 1); /* Keras counts the batch axis */
    if (units == 0 || at < 0 || at >= in->shape.rank || in->shape.dim[at] % units != 0) {
        char text[96];
        return ls_layer_fail(call, err,
                             "expects \"num_units\" that divide the channels, axis %d of its input of shape %s",
                             (int)axis, ls_shape_text(&in->shape, true, text, sizeof text));
    }
    for (int i = 0; i < in->shape.rank; i++) {
        before *= i < at ? in->shape.dim[i] : 1;
        after *= i > at ? in->shape.dim[i] : 1;
    }
    ls_shape groups = {.rank = 2, .dim = {in->shape.dim[at] / units, units * after}};
    ls_shape one = {.rank = 1, .dim = {units * after}}, out = in->shape;
    out.dim[at] = units;
    ls_global_pool_attr a = {.average = false};
    ls_tensor *view = ls_builder_view(b, call->layer, in, in->rows * before, &groups);
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_global_pool, &a, sizeof a, 1, &view, 0, NULL, 1, &one);
    call->n_out = 1;
    call->out[0] = ls_builder_view(b, call->layer, node->out[0], in->rows, &out);
    return LS_OK;
}

const ls_layer_class ls_layer_maxout = {
    .name = "Maxout", .keys = "num_units axis", .min_in = 1, .max_in = 1, .build = build};
