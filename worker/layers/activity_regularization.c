/*
 * ActivityRegularization: what flows is left as it is and penalised; and "activity_regularizer", which any layer may
 * have, for the layer's outputs.
 *
 * Source: tf_keras/layers/regularization/activity_regularization.py.
 */
#include <float.h>

#include "worker/layers/rows.h"
#include "worker/model/constraint.h"
#include "worker/ops/ops.h"

static ls_tensor *add_node(ls_builder *b, ls_layer_call *call, ls_tensor *t, double l1, double l2) {
    ls_activity_attr a = {.l1 = l1, .l2 = l2};
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_activity, &a, sizeof a, 1, &t, 0, NULL, 1, &t->shape);
    node->out[0]->mask = t->mask;
    return node->out[0];
}

ls_status ls_builder_activity(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_regularizer r;
    LS_TRY(ls_regularizer_parse(ls_json_member(call->config, "activity_regularizer"), &r, err));
    for (int i = 0; i < call->n_out && (r.l1 != 0 || r.l2 != 0); i++) {
        call->out[i] = add_node(b, call, call->out[i], r.l1, r.l2);
    }
    return LS_OK;
}

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    double l1 = 0, l2 = 0;
    LS_TRY(ls_json_get_double(call->config, "l1", 0, DBL_MAX, &l1, err));
    LS_TRY(ls_json_get_double(call->config, "l2", 0, DBL_MAX, &l2, err));
    call->n_out = 1;
    call->out[0] = l1 != 0 || l2 != 0 ? add_node(b, call, call->in[0], l1, l2) : call->in[0];
    return LS_OK;
}

const ls_layer_class ls_layer_activity_regularization = {
    .name = "ActivityRegularization", .keys = "l1 l2", .min_in = 1, .max_in = 1, .masks = true, .build = build};
