/*
 * MultiHeadAttention: query, value and key are projected into num_heads spaces, attention is paid in each, and what
 * comes out is projected together. Axes between batch and features count as one, or those that attention_axes names:
 * then each place of the others pays attention by itself. An attention_mask, the last input, says which key each query
 * may look at.
 *
 * Weights: query, key, value kernel (features, heads, dim), bias (heads, dim); attention_output kernel (heads,
 * value_dim, out), bias (out).
 *
 * Source: tf_keras/layers/attention/multi_head_attention.py; Vaswani et al., Attention Is All You Need, 2017.
 */
#include <math.h>

#include "worker/layers/attention.h"
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

typedef struct heads {
    int n_in; /* query, value and maybe key */
    int64_t n, key_dim, value_dim;
    bool use_bias;
    ls_shape out;   /* features of the output: "output_shape" */
    unsigned along; /* bit i set: axis i of a sample is attended along; 0: all between batch and features, as one */
} heads;

/* Inputs without the attention mask: it comes after a key, or by its name. */
static int n_tensors(const ls_layer_call *call) {
    bool named = ls_json_present(ls_json_member(call->kwargs, "attention_mask"));
    return call->n_in - (named || call->n_in == 4);
}

static ls_status read_config(const ls_layer_call *call, heads *h, ls_err *err) {
    *h = (heads){.use_bias = true, .n_in = n_tensors(call)};
    LS_TRY(ls_json_get_int(call->config, "num_heads", 1, INT32_MAX, &h->n, err));
    LS_TRY(ls_json_get_int(call->config, "key_dim", 1, INT32_MAX, &h->key_dim, err));
    h->value_dim = h->key_dim;
    LS_TRY(ls_json_get_int(call->config, "value_dim", 1, INT32_MAX, &h->value_dim, err));
    LS_TRY(ls_json_get_bool(call->config, "use_bias", &h->use_bias, err));
    if (h->n == 0 || h->key_dim == 0) {
        return ls_json_fail(call->config, err, "\"num_heads\" and \"key_dim\" must be given");
    }
    const ls_shape *query = &call->in[0]->shape;
    size_t n = 0;
    h->out = (ls_shape){.rank = 1, .dim = {query->dim[query->rank - 1]}};
    LS_TRY(ls_json_get_ints(call->config, "output_shape", 1, LS_MAX_RANK - 2, h->out.dim, &n, err));
    h->out.rank = n > 0 ? (int)n : 1;
    return LS_OK;
}

static ls_status check_inputs(const ls_layer_call *call, ls_err *err) {
    if (n_tensors(call) < 2) {
        return ls_layer_fail(call, err, "needs a query and a value besides its attention_mask");
    }
    const ls_tensor *query = call->in[0], *value = call->in[1], *key = call->in[n_tensors(call) - 1];
    int rank = query->shape.rank;
    bool fit = rank >= 2 && value->shape.rank >= 2 && key->shape.rank == value->shape.rank &&
               query->rows == value->rows && query->rows == key->rows;
    for (int i = 0; fit && i < key->shape.rank - 1; i++) {
        fit = key->shape.dim[i] == value->shape.dim[i];
    }
    if (!fit) {
        char q[96], v[96], k[96];
        return ls_layer_fail(
            call, err, "expects a query (batch, Tq, ..), a value and a key (batch, Tv, ..), found shapes %s, %s and %s",
            ls_shape_text(&query->shape, true, q, sizeof q), ls_shape_text(&value->shape, true, v, sizeof v),
            ls_shape_text(&key->shape, true, k, sizeof k));
    }
    return LS_OK;
}

/* attention_axes, which count the batch. Along the others query, value and key go together. */
static ls_status read_axes(const ls_layer_call *call, heads *h, ls_err *err) {
    int64_t axes[LS_MAX_RANK];
    size_t n = 0;
    const ls_shape *query = &call->in[0]->shape, *value = &call->in[1]->shape;
    ls_json at = ls_json_member(call->config, "attention_axes");
    LS_TRY(ls_json_get_ints(call->config, "attention_axes", -LS_MAX_RANK, LS_MAX_RANK, axes, &n, err));
    for (size_t i = 0; i < n; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + query->rank + 1 : axes[i];
        if (axis < 1 || axis >= query->rank) {
            return ls_json_fail(at, err, "expected axes from 1 to %d, found %d", query->rank - 1, (int)axes[i]);
        }
        h->along |= 1u << (axis - 1);
    }
    if (h->along == (1u << (query->rank - 1)) - 1) {
        h->along = 0;
    }
    for (int i = 0; h->along != 0 && i < query->rank - 1; i++) {
        bool same = query->rank == value->rank && (h->along >> i & 1 || query->dim[i] == value->dim[i]);
        if (!same || query->rank + 1 > LS_MAX_RANK) {
            char q[96], v[96];
            return ls_json_fail(at, err,
                                "a query of shape %s and a value of shape %s do not go together, but for the axes that "
                                "are attended along; expected at most %d axes, the others alike",
                                ls_shape_text(query, true, q, sizeof q), ls_shape_text(value, true, v, sizeof v),
                                LS_MAX_RANK);
        }
    }
    return LS_OK;
}

/* The axes of a tensor between batch and features: as they are, or as one. */
static ls_shape axes_between(const heads *h, const ls_shape *t) {
    ls_shape s = *t;
    s.rank--;
    if (h->along == 0) {
        s = (ls_shape){.rank = 1, .dim = {ls_shape_elems(&s)}};
    }
    return s;
}

/* Of n axes between batch and features, then heads and their features: those not attended along come first, heads,
 * those attended along, features. order[i]: which comes i-th; *n_free: how many are before the heads. */
static void order_axes(const heads *h, int n, int *order, int *n_free) {
    unsigned along = h->along != 0 ? h->along : (1u << n) - 1;
    int k = 0;
    for (int i = 0; i < n; i++) {
        if (!(along >> i & 1)) {
            order[k++] = i;
        }
    }
    *n_free = k;
    order[k++] = n;
    for (int i = 0; i < n; i++) {
        if (along >> i & 1) {
            order[k++] = i;
        }
    }
    order[k] = n + 1;
}

/* x W + b over the last axis, with weights PART/kernel and PART/bias; out: features, flat. */
static ls_status project(ls_builder *b, ls_layer_call *call, const char *part, ls_tensor *in, const ls_shape *kernel,
                         const ls_shape *bias, bool use_bias, ls_tensor **out, ls_err *err) {
    ls_weight *weights[2];
    char *name = ls_pool_printf(&ls_builder_model(b)->pool, "%s/kernel", part);
    LS_TRY(ls_builder_weight(b, call, name, "kernel", "glorot_uniform", kernel, &weights[0], err));
    if (use_bias) {
        name = ls_pool_printf(&ls_builder_model(b)->pool, "%s/bias", part);
        LS_TRY(ls_builder_weight(b, call, name, "bias", "zeros", bias, &weights[1], err));
    }
    ls_shape shape = in->shape;
    shape.dim[shape.rank - 1] = ls_shape_elems(bias);
    *out = ls_builder_node(b, call->layer, &ls_op_dense, NULL, 0, 1, &in, use_bias ? 2 : 1, weights, 1, &shape)->out[0];
    return LS_OK;
}

/* Axis i of the result is axis source[i] of t. */
static ls_tensor *permute(ls_builder *b, ls_layer_call *call, ls_tensor *t, const int *source) {
    ls_rearrange_attr a = {0};
    ls_shape out = t->shape;
    for (int i = 0; i < out.rank; i++) {
        a.source[i] = source[i];
        a.factor[i] = 1;
        out.dim[i] = t->shape.dim[source[i]];
    }
    return ls_builder_node(b, call->layer, &ls_op_rearrange, &a, sizeof a, 1, &t, 0, NULL, 1, &out)->out[0];
}

/* (T, heads, dim) as (heads, T, dim), a set of heads for each place that attends by itself. between: the axes T. */
static ls_tensor *to_heads(ls_builder *b, ls_layer_call *call, ls_tensor *t, const heads *h, const ls_shape *between,
                           int64_t dim) {
    int order[LS_MAX_RANK], n_free;
    ls_shape each = *between;
    each.dim[each.rank++] = h->n;
    each.dim[each.rank++] = dim;
    order_axes(h, between->rank, order, &n_free);
    t = permute(b, call, ls_builder_view(b, call->layer, t, t->rows, &each), order);
    if (n_free == 0) {
        return t;
    }
    ls_shape flat = {.rank = 3, .dim = {h->n, 1, dim}};
    for (int i = 0; i < between->rank; i++) {
        flat.dim[i < n_free ? 0 : 1] *= between->dim[order[i < n_free ? i : i + 1]];
    }
    return ls_builder_view(b, call->layer, t, t->rows, &flat);
}

/* And back: (T, heads * dim) from (heads, T, dim). */
static ls_tensor *from_heads(ls_builder *b, ls_layer_call *call, ls_tensor *t, const heads *h,
                             const ls_shape *between) {
    int order[LS_MAX_RANK], back[LS_MAX_RANK], n_free, n = between->rank + 2;
    ls_shape each = {.rank = n};
    order_axes(h, between->rank, order, &n_free);
    for (int i = 0; i < n; i++) {
        back[order[i]] = i;
        each.dim[i] = order[i] < between->rank    ? between->dim[order[i]]
                      : order[i] == between->rank ? h->n
                                                  : h->value_dim;
    }
    ls_shape flat = {.rank = 2, .dim = {ls_shape_elems(between), h->n * h->value_dim}};
    if (n_free > 0) {
        t = ls_builder_view(b, call->layer, t, t->rows, &each);
    }
    t = permute(b, call, t, back);
    return ls_builder_view(b, call->layer, t, t->rows, &flat);
}

/* A tensor (T.., features) as (heads, T, dim). */
static ls_status split(ls_builder *b, ls_layer_call *call, const char *part, ls_tensor *t, const heads *h, int64_t dim,
                       ls_tensor **out, ls_err *err) {
    int64_t features = t->shape.dim[t->shape.rank - 1], steps = ls_shape_elems(&t->shape) / features;
    ls_shape kernel = {.rank = 3, .dim = {features, h->n, dim}}, bias = {.rank = 2, .dim = {h->n, dim}};
    ls_shape flat = {.rank = 2, .dim = {steps, features}}, between = axes_between(h, &t->shape);
    if (t->shape.rank > 2) {
        t = ls_builder_view(b, call->layer, t, t->rows, &flat);
    }
    LS_TRY(project(b, call, part, t, &kernel, &bias, h->use_bias, &t, err));
    *out = to_heads(b, call, t, h, &between, dim);
    return LS_OK;
}

static ls_tensor *mask_of(const ls_tensor *t) {
    return t->shape.rank == 2 ? t->mask : NULL;
}

/* (heads, T, dim) together: (T.., out..) */
static ls_status join(ls_builder *b, ls_layer_call *call, ls_tensor *t, const heads *h, ls_err *err) {
    const ls_shape *query = &call->in[0]->shape;
    ls_shape between = axes_between(h, query), out = *query;
    ls_shape kernel = {.rank = 2 + h->out.rank, .dim = {h->n, h->value_dim}};
    if (query->rank - 1 + h->out.rank > LS_MAX_RANK) {
        return ls_layer_fail(call, err, "its output would have more than %d axes", LS_MAX_RANK + 1);
    }
    out.rank = query->rank - 1 + h->out.rank;
    for (int i = 0; i < h->out.rank; i++) {
        kernel.dim[2 + i] = out.dim[query->rank - 1 + i] = h->out.dim[i];
    }
    t = from_heads(b, call, t, h, &between);
    LS_TRY(project(b, call, "attention_output", t, &kernel, &h->out, h->use_bias, &t, err));
    call->out[0] = ls_builder_view(b, call->layer, t, t->rows, &out);
    call->out[0]->mask = call->in[0]->mask;
    return LS_OK;
}

/* The attention mask as numbers 0 and 1, (Tq, Tk); NULL: none is given. */
static ls_status read_mask(ls_builder *b, ls_layer_call *call, const ls_tensor *scores, ls_tensor **mask, ls_err *err) {
    *mask = NULL;
    if (n_tensors(call) == call->n_in) {
        return LS_OK;
    }
    ls_tensor *given = call->in[call->n_in - 1];
    const int64_t *want = scores->shape.dim + scores->shape.rank - 2;
    if (given->shape.rank != 2 || given->shape.dim[0] != want[0] || given->shape.dim[1] != want[1] ||
        given->rows != scores->rows) {
        char text[96];
        return ls_layer_fail(call, err, "its attention_mask has the shape %s; expected (None, %d, %d): queries, keys",
                             ls_shape_text(&given->shape, true, text, sizeof text), (int)want[0], (int)want[1]);
    }
    ls_mask_attr a = {.differs = false};
    *mask = ls_builder_node(b, call->layer, &ls_op_mask, &a, sizeof a, 1, &given, 0, NULL, 1, &given->shape)->out[0];
    return LS_OK;
}

/* What only attention along one axis, the first after the batch, has: an order of time, and scores of two axes. */
static ls_status check_call(const ls_layer_call *call, const heads *h, bool causal, bool give_scores, ls_err *err) {
    if (h->along != 0 && ((causal && h->along != 1) || give_scores)) {
        return ls_json_fail(ls_json_member(call->config, "attention_axes"), err, "does not go with %s",
                            give_scores ? "return_attention_scores" : "use_causal_mask unless it is 1");
    }
    return LS_OK;
}

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    heads h;
    bool causal, give_scores;
    LS_TRY(check_inputs(call, err));
    LS_TRY(read_config(call, &h, err));
    LS_TRY(read_axes(call, &h, err));
    LS_TRY(ls_attention_causal(call, NULL, &causal, &give_scores, err));
    LS_TRY(check_call(call, &h, causal, give_scores, err));
    ls_tensor *query, *key, *value, *key_mask = NULL;
    LS_TRY(split(b, call, "query", call->in[0], &h, h.key_dim, &query, err));
    LS_TRY(split(b, call, "key", call->in[h.n_in - 1], &h, h.key_dim, &key, err));
    LS_TRY(split(b, call, "value", call->in[1], &h, h.value_dim, &value, err));
    if (call->in[1]->shape.rank == 2) { /* a masked value, or its key, is not looked at */
        LS_TRY(ls_builder_merge_masks(b, call, h.n_in - 1, call->in + 1, &key_mask, err));
    }
    ls_tensor *scores = ls_attention_product(b, call, query, key, true), *pair_mask;
    LS_TRY(read_mask(b, call, scores, &pair_mask, err));
    ls_tensor *weights = ls_attention_weights(b, call, scores, (float)(1 / sqrt((double)h.key_dim)), causal, key_mask,
                                              mask_of(call->in[0]), pair_mask);
    ls_tensor *dropped = weights;
    LS_TRY(ls_attention_dropout(b, call, &dropped, err));
    LS_TRY(join(b, call, ls_attention_product(b, call, dropped, value, false), &h, err));
    call->n_out = give_scores ? 2 : 1;
    call->out[1] = weights;
    return LS_OK;
}

const ls_layer_class ls_layer_multi_head_attention = {
    .name = "MultiHeadAttention",
    .keys =
        "num_heads key_dim value_dim dropout use_bias output_shape attention_axes kernel_initializer bias_initializer "
        "kernel_regularizer bias_regularizer kernel_constraint bias_constraint query_shape key_shape value_shape seed "
        "flash_attention",
    .call_inputs = "query value key attention_mask",
    .call_keys = "use_causal_mask return_attention_scores",
    .min_in = 2,
    .max_in = 4,
    .drop = "query_shape key_shape value_shape flash_attention",
    .build = build};
