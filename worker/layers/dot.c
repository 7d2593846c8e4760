/*
 * Dot: products of the vectors along one axis of each of two inputs, all with all:
 * (.., k, ..) and (.., k, ..) give the axes of the first without k, then those of the second without k.
 *
 * Source: tf_keras/layers/merging/dot.py. normalize: the vectors have length 1, which makes it the cosine.
 */
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

/* axes: one number for both inputs or one each; counted with the batch axis, or from the end. */
static ls_status read_axes(const ls_layer_call *call, int axes[2], ls_err *err) {
    int64_t given[2];
    size_t n = 0;
    LS_TRY(ls_json_get_ints(call->config, "axes", -LS_MAX_RANK, 2, given, &n, err));
    if (n == 0) {
        return ls_json_fail(call->config, err, "\"axes\" is missing");
    }
    for (int i = 0; i < 2; i++) {
        const ls_shape *s = &call->in[i]->shape;
        int64_t axis = given[n == 2 ? i : 0], at = axis < 0 ? axis + s->rank : axis - 1;
        if (at < 0 || at >= s->rank) {
            char text[96];
            return ls_json_fail(ls_json_member(call->config, "axes"), err,
                                "there is no axis %d, besides the batch, in an input of shape %s", (int)axis,
                                ls_shape_text(s, true, text, sizeof text));
        }
        axes[i] = (int)at;
    }
    if (call->in[0]->shape.dim[axes[0]] != call->in[1]->shape.dim[axes[1]] || call->in[0]->rows != call->in[1]->rows) {
        char one[96], other[96];
        return ls_layer_fail(call, err, "its inputs' shapes %s and %s differ along the axes of the product",
                             ls_shape_text(&call->in[0]->shape, true, one, sizeof one),
                             ls_shape_text(&call->in[1]->shape, true, other, sizeof other));
    }
    return LS_OK;
}

/* The tensor as a matrix whose rows, or columns when *transposed, are the vectors of the product. */
static ls_tensor *as_matrix(ls_builder *b, const ls_layer_call *call, ls_tensor *t, int axis, bool *first) {
    ls_shape s = t->shape, matrix;
    int64_t k = s.dim[axis], others = ls_shape_elems(&s) / k;
    *first = axis == 0 && s.rank > 1;
    if (axis > 0 && axis < s.rank - 1) { /* neither first nor last: it is put last */
        ls_rearrange_attr a = {.factor = {0}};
        for (int i = 0; i < s.rank; i++) {
            a.source[i] = i < axis ? i : i < s.rank - 1 ? i + 1 : axis;
            a.factor[i] = 1;
            s.dim[i] = t->shape.dim[a.source[i]];
        }
        t = ls_builder_node(b, call->layer, &ls_op_rearrange, &a, sizeof a, 1, &t, 0, NULL, 1, &s)->out[0];
    }
    matrix = *first ? (ls_shape){.rank = 2, .dim = {k, others}} : (ls_shape){.rank = 2, .dim = {others, k}};
    return ls_builder_view(b, call->layer, t, t->rows, &matrix);
}

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    int axes[2];
    bool normalize = false, first[2];
    LS_TRY(read_axes(call, axes, err));
    LS_TRY(ls_json_get_bool(call->config, "normalize", &normalize, err));
    ls_tensor *in[2];
    ls_shape out = {.rank = 0}, product = {.rank = 2};
    for (int i = 0; i < 2; i++) {
        const ls_shape *s = &call->in[i]->shape;
        in[i] = call->in[i];
        if (normalize) {
            ls_l2_attr a = {.axis = axes[i]};
            in[i] =
                ls_builder_node(b, call->layer, &ls_op_l2_normalize, &a, sizeof a, 1, &in[i], 0, NULL, 1, s)->out[0];
        }
        for (int k = 0; k < s->rank; k++) {
            if (k != axes[i]) {
                if (out.rank == LS_MAX_RANK - 1) {
                    return ls_layer_fail(call, err, "its output would have more than %d axes", LS_MAX_RANK);
                }
                out.dim[out.rank++] = s->dim[k];
            }
        }
        product.dim[i] = ls_shape_elems(s) / s->dim[axes[i]];
        in[i] = as_matrix(b, call, in[i], axes[i], &first[i]);
    }
    if (out.rank == 0) {
        out.dim[out.rank++] = 1;
    }
    ls_matmul_attr a = {.transpose_a = first[0], .transpose_b = !first[1]};
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_matmul, &a, sizeof a, 2, in, 0, NULL, 1, &product);
    call->n_out = 1;
    call->out[0] = ls_builder_view(b, call->layer, node->out[0], node->out[0]->rows, &out);
    return LS_OK;
}

const ls_layer_class ls_layer_dot = {.name = "Dot", .keys = "axes normalize", .min_in = 2, .max_in = 2, .build = build};
