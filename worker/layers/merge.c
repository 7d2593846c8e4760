/*
 * Add, Subtract, Multiply, Average, Maximum, Minimum: element-wise over inputs; axes of size 1 are broadcast, and
 * inputs of fewer axes get axes of size 1 in front. Concatenate: along one axis.
 *
 * Source: tf_keras/layers/merging/.
 */
#include <string.h>

#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

static ls_status mismatch(const ls_layer_call *call, const ls_shape *a, const ls_shape *b, ls_err *err) {
    char one[96], other[96];
    return ls_layer_fail(call, err, "its inputs' shapes %s and %s do not go together",
                         ls_shape_text(a, true, one, sizeof one), ls_shape_text(b, true, other, sizeof other));
}

static ls_status check_rows(const ls_layer_call *call, ls_err *err) {
    for (int i = 1; i < call->n_in; i++) {
        if (call->in[i]->rows != call->in[0]->rows) {
            return ls_layer_fail(call, err, "its inputs have different numbers of time steps");
        }
    }
    return LS_OK;
}

/* Widens out (rank r) so that in fits; in has rank r too. */
static bool broadcast(ls_shape *out, const ls_shape *in) {
    for (int i = 0; i < out->rank; i++) {
        if (out->dim[i] == 1) {
            out->dim[i] = in->dim[i];
        } else if (in->dim[i] != 1 && in->dim[i] != out->dim[i]) {
            return false;
        }
    }
    return true;
}

static ls_tensor *with_rank(ls_builder *b, const ls_layer_call *call, ls_tensor *t, int rank) {
    ls_shape s = {.rank = rank};
    int missing = rank - t->shape.rank;
    if (missing == 0) {
        return t;
    }
    for (int i = 0; i < rank; i++) {
        s.dim[i] = i < missing ? 1 : t->shape.dim[i - missing];
    }
    return ls_builder_view(b, call->layer, t, t->rows, &s);
}

static ls_status build_merge(ls_builder *b, ls_layer_call *call, ls_merge_kind kind, ls_err *err) {
    LS_TRY(check_rows(call, err));
    int rank = 0;
    for (int i = 0; i < call->n_in; i++) {
        rank = call->in[i]->shape.rank > rank ? call->in[i]->shape.rank : rank;
    }
    ls_tensor **in = ls_pool_alloc(&ls_builder_model(b)->pool, (size_t)call->n_in * sizeof(ls_tensor *));
    ls_shape out;
    for (int i = 0; i < call->n_in; i++) {
        in[i] = with_rank(b, call, call->in[i], rank);
        if (i == 0) {
            out = in[0]->shape;
        } else if (!broadcast(&out, &in[i]->shape)) {
            return mismatch(call, &call->in[0]->shape, &call->in[i]->shape, err);
        }
    }
    ls_merge_attr a = {.kind = kind};
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_merge, &a, sizeof a, call->n_in, in, 0, NULL, 1, &out);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return ls_builder_merge_masks(b, call, call->n_in, call->in, &call->out[0]->mask, err);
}

#define MERGE(suffix, name_, kind, max)                                                \
    static ls_status build_##suffix(ls_builder *b, ls_layer_call *call, ls_err *err) { \
        return build_merge(b, call, kind, err);                                        \
    }                                                                                  \
    const ls_layer_class ls_layer_##suffix = {                                         \
        .name = name_, .keys = "", .min_in = 2, .max_in = max, .masks = true, .build = build_##suffix}

MERGE(add, "Add", LS_MERGE_ADD, -1);
MERGE(subtract, "Subtract", LS_MERGE_SUBTRACT, 2);
MERGE(multiply, "Multiply", LS_MERGE_MULTIPLY, -1);
MERGE(average, "Average", LS_MERGE_AVERAGE, -1);
MERGE(maximum, "Maximum", LS_MERGE_MAXIMUM, -1);
MERGE(minimum, "Minimum", LS_MERGE_MINIMUM, -1);

/* Along time the masks are put together like their tensors; along another axis all of them must agree to a step. */
static ls_status concatenate_masks(ls_builder *b, ls_layer_call *call, int at, ls_tensor **mask, ls_err *err) {
    int n_masked = 0;
    for (int i = 0; i < call->n_in; i++) {
        n_masked += call->in[i]->mask != NULL;
    }
    if (at > 0 || n_masked == 0) {
        return ls_builder_merge_masks(b, call, call->n_in, call->in, mask, err);
    }
    if (n_masked < call->n_in) {
        return ls_layer_fail(call, err, "joins time steps of which some are masked and some have no mask");
    }
    ls_tensor **masks = ls_pool_alloc(&ls_builder_model(b)->pool, (size_t)call->n_in * sizeof(ls_tensor *));
    ls_shape out = call->in[0]->mask->shape;
    out.dim[0] = 0;
    for (int i = 0; i < call->n_in; i++) {
        masks[i] = call->in[i]->mask;
        if (masks[i]->shape.rank != out.rank) {
            return ls_layer_fail(call, err, "joins inputs whose masks have different numbers of axes");
        }
        out.dim[0] += masks[i]->shape.dim[0];
    }
    ls_concat_attr a = {.axis = 0};
    *mask = ls_builder_node(b, call->layer, &ls_op_concat, &a, sizeof a, call->n_in, masks, 0, NULL, 1, &out)->out[0];
    return LS_OK;
}

static ls_status build_concatenate(ls_builder *b, ls_layer_call *call, ls_err *err) {
    const ls_shape *first = &call->in[0]->shape;
    int64_t axis = -1;
    LS_TRY(check_rows(call, err));
    LS_TRY(ls_json_get_int(call->config, "axis", -LS_MAX_RANK, LS_MAX_RANK, &axis, err));
    int at = (int)(axis < 0 ? axis + first->rank : axis - 1); /* Keras counts the batch axis */
    if (at < 0 || at >= first->rank) {
        char text[96];
        return ls_json_fail(ls_json_member(call->config, "axis"), err, "there is no axis %d in an input of shape %s",
                            (int)axis, ls_shape_text(first, true, text, sizeof text));
    }
    ls_shape out = *first;
    for (int i = 1; i < call->n_in; i++) {
        ls_shape other = call->in[i]->shape;
        if (other.rank != out.rank) {
            return mismatch(call, first, &call->in[i]->shape, err);
        }
        out.dim[at] += other.dim[at];
        other.dim[at] = out.dim[at];
        if (!ls_shape_equal(&other, &out)) {
            return mismatch(call, first, &call->in[i]->shape, err);
        }
    }
    ls_concat_attr a = {.axis = at};
    ls_node *node =
        ls_builder_node(b, call->layer, &ls_op_concat, &a, sizeof a, call->n_in, call->in, 0, NULL, 1, &out);
    call->n_out = 1;
    call->out[0] = node->out[0];
    return concatenate_masks(b, call, at, &call->out[0]->mask, err);
}

const ls_layer_class ls_layer_concatenate = {
    .name = "Concatenate", .keys = "axis", .min_in = 1, .max_in = -1, .build = build_concatenate};
