/* LayerNormalization over any axes: they are put last for it. Source:
 * tf_keras/layers/normalization/layer_normalization.py. */
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

/* The axes of "axis", counted without the batch, as written. */
static ls_status read_axes(const ls_layer_call *call, int *at, int *n_axes, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    int64_t axes[LS_MAX_RANK] = {-1};
    size_t n = 1;
    unsigned seen = 0;
    LS_TRY(ls_json_get_ints(call->config, "axis", -LS_MAX_RANK, LS_MAX_RANK, axes, &n, err));
    for (size_t i = 0; i < n; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + in->rank : axes[i] - 1; /* Keras counts the batch axis */
        if (axis < 0 || axis >= in->rank || (seen >> axis & 1u)) {
            char text[96];
            return ls_json_fail(ls_json_member(call->config, "axis"), err,
                                "expected different axes, not the batch, of an input of shape %s",
                                ls_shape_text(in, true, text, sizeof text));
        }
        seen |= 1u << axis;
        at[i] = (int)axis;
    }
    *n_axes = (int)n;
    return LS_OK;
}

/* The other axes, then these, both from first to last: gamma and beta lie so too, in whatever order "axis" names them.
 */
static void last_axes(int rank, const int *axes, int n_axes, int *order) {
    int n = 0;
    for (int last = 0; last < 2; last++) {
        for (int i = 0; i < rank; i++) {
            bool listed = false;
            for (int k = 0; k < n_axes; k++) {
                listed = listed || axes[k] == i;
            }
            if (listed == (last == 1)) {
                order[n++] = i;
            }
        }
    }
}

/* t with its axes in the order given; back: the way back. */
static ls_tensor *permuted(ls_builder *b, ls_layer_call *call, ls_tensor *t, const int *order, bool back) {
    ls_rearrange_attr a = {.factor = {0}};
    ls_shape out = t->shape;
    bool same = true;
    for (int i = 0; i < out.rank; i++) {
        a.source[back ? order[i] : i] = back ? i : order[i];
        a.factor[i] = 1;
        same = same && order[i] == i;
    }
    for (int i = 0; i < out.rank; i++) {
        out.dim[i] = t->shape.dim[a.source[i]];
    }
    return same ? t : ls_builder_node(b, call->layer, &ls_op_rearrange, &a, sizeof a, 1, &t, 0, NULL, 1, &out)->out[0];
}

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    const ls_shape *in = &call->in[0]->shape;
    ls_layer_norm_attr a = {.scale = true, .center = true};
    double epsilon = 1e-3;
    bool rms = false;
    if (in->rank < 1) {
        return ls_layer_fail(call, err, "expects an input of 2 axes or more");
    }
    int order[LS_MAX_RANK], axes[LS_MAX_RANK] = {0};
    LS_TRY(read_axes(call, axes, &a.n_axes, err));
    last_axes(in->rank, axes, a.n_axes, order);
    LS_TRY(ls_json_get_double(call->config, "epsilon", 0, 1, &epsilon, err));
    LS_TRY(ls_json_get_bool(call->config, "scale", &a.scale, err));
    LS_TRY(ls_json_get_bool(call->config, "center", &a.center, err));
    LS_TRY(ls_json_get_bool(call->config, "rms_scaling", &rms, err));
    if (rms) {
        return ls_json_fail(ls_json_member(call->config, "rms_scaling"), err, "is not supported; expected false");
    }
    a.epsilon = (float)epsilon;
    ls_shape shape = {.rank = a.n_axes};
    for (int i = 0; i < a.n_axes; i++) {
        shape.dim[i] = in->dim[axes[i]];
    }
    ls_weight *weights[2];
    int n = 0;
    if (a.scale) {
        LS_TRY(ls_builder_weight(b, call, "gamma", "gamma", "ones", &shape, &weights[n++], err));
    }
    if (a.center) {
        LS_TRY(ls_builder_weight(b, call, "beta", "beta", "zeros", &shape, &weights[n++], err));
    }
    ls_tensor *t = permuted(b, call, call->in[0], order, false);
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_layer_norm, &a, sizeof a, 1, &t, n, weights, 1, &t->shape);
    call->n_out = 1;
    call->out[0] = permuted(b, call, node->out[0], order, true);
    return LS_OK;
}

const ls_layer_class ls_layer_layer_normalization = {
    .name = "LayerNormalization",
    .keys =
        "axis epsilon center scale beta_initializer gamma_initializer beta_regularizer gamma_regularizer "
        "beta_constraint gamma_constraint rms_scaling",
    .min_in = 1,
    .max_in = 1,
    .masks = true,
    .drop = "rms_scaling",
    .build = build};
