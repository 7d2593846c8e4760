/* PReLU: x where it is positive, alpha x elsewhere; alpha is learned, one for each element of a sample or shared along
 * axes. Source: tf_keras/layers/activation/prelu.py. */
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    ls_scale_attr a = {.negative_only = true};
    int64_t axes[LS_MAX_RANK];
    size_t n = 0;
    LS_TRY(ls_json_get_ints(call->config, "shared_axes", -LS_MAX_RANK, LS_MAX_RANK, axes, &n, err));
    ls_shape shape = *in;
    for (size_t i = 0; i < n; i++) {
        int64_t at = axes[i] < 0 ? axes[i] + in->rank : axes[i] - 1; /* Keras counts the batch axis */
        if (at < 0 || at >= in->rank) {
            char text[96];
            return ls_json_fail(ls_json_member(call->config, "shared_axes"), err,
                                "there is no axis %d in an input of shape %s", (int)axes[i],
                                ls_shape_text(in, true, text, sizeof text));
        }
        shape.dim[at] = 1;
        a.shared_axes |= 1u << at;
    }
    ls_weight *alpha;
    LS_TRY(ls_builder_weight(b, call, "alpha", "alpha", "zeros", &shape, &alpha, err));
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_scale, &a, sizeof a, 1, call->in, 1, &alpha, 1, in);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return LS_OK;
}

const ls_layer_class ls_layer_prelu = {.name = "PReLU",
                                       .keys = "alpha_initializer alpha_regularizer alpha_constraint shared_axes",
                                       .min_in = 1,
                                       .max_in = 1,
                                       .masks = true,
                                       .build = build};
