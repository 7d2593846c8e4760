/*
 * Activations: as a key of other layers, and the layers Activation, ReLU, LeakyReLU, ELU, Softmax, ThresholdedReLU.
 *
 * Source: tf_keras/activations.py, tf_keras/layers/activation/. hard_sigmoid is Keras 2's clip(0.2 x + 0.5, 0, 1).
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "common/text.h"
#include "worker/layers/activation.h"
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

static const char *const words[] = {
#define X(name, word) [LS_ACT_##name] = word,
    LS_ACTIVATION_LIST(X)
#undef X
        [LS_ACT_COUNT] = NULL,
};

/* Names that stand for another activation, or for one with attributes. */
static const struct {
    const char *word;
    ls_act_kind kind;
    float alpha, max_value;
} aliases[] = {
    {"silu", LS_ACT_SWISH, 0, INFINITY},
    {"relu6", LS_ACT_RELU, 0, 6},
    {"leaky_relu", LS_ACT_RELU, 0.2f, INFINITY},
};

static ls_act_attr plain(ls_act_kind kind) {
    return (ls_act_attr){.kind = kind, .alpha = kind == LS_ACT_ELU ? 1 : 0, .max_value = INFINITY, .axis = -1};
}

static ls_status by_name(ls_json at, const char *name, ls_act_attr *out, ls_err *err) {
    for (int kind = 0; kind < LS_ACT_COUNT; kind++) {
        if (strcmp(name, words[kind]) == 0 && kind != LS_ACT_STEP) {
            *out = plain((ls_act_kind)kind);
            return LS_OK;
        }
    }
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
        if (strcmp(name, aliases[i].word) == 0) {
            *out = plain(aliases[i].kind);
            out->alpha = aliases[i].alpha;
            out->max_value = aliases[i].max_value;
            return LS_OK;
        }
    }
    return ls_json_unknown(at, name, "an activation", words, LS_ACT_STEP, err);
}

/* ---- the layers' configurations ---- */

static ls_status read_number(ls_json config, const char *key, float *out, ls_err *err) {
    double x = *out;
    ls_json at = ls_json_member(config, key);
    if (json_is_array(at.value) && ls_json_length(at) == 1) { /* a NumPy scalar, as old Keras wrote alpha */
        x = json_number_value(json_array_get(at.value, 0));
    } else if (json_is_object(at.value)) { /* {"type": "ndarray", "value": 0.3} */
        LS_TRY(ls_json_get_double(at, "value", -FLT_MAX, FLT_MAX, &x, err));
    } else {
        LS_TRY(ls_json_get_double(config, key, -FLT_MAX, FLT_MAX, &x, err));
    }
    *out = (float)x;
    return LS_OK;
}

static ls_status read_relu(ls_json config, ls_act_attr *out, ls_err *err) {
    *out = plain(LS_ACT_RELU);
    LS_TRY(read_number(config, "max_value", &out->max_value, err));
    LS_TRY(read_number(config, "negative_slope", &out->alpha, err));
    LS_TRY(read_number(config, "threshold", &out->threshold, err));
    return LS_OK;
}

static ls_status read_leaky_relu(ls_json config, ls_act_attr *out, ls_err *err) {
    *out = plain(LS_ACT_RELU);
    out->alpha = 0.3f;
    LS_TRY(read_number(config, "alpha", &out->alpha, err));
    return read_number(config, "negative_slope", &out->alpha, err);
}

static ls_status read_elu(ls_json config, ls_act_attr *out, ls_err *err) {
    *out = plain(LS_ACT_ELU);
    return read_number(config, "alpha", &out->alpha, err);
}

/* x where x > theta, else 0: a relu whose threshold is the next number above theta. */
static ls_status read_thresholded(ls_json config, ls_act_attr *out, ls_err *err) {
    float theta = 1;
    *out = plain(LS_ACT_RELU);
    LS_TRY(read_number(config, "theta", &theta, err));
    out->threshold = nextafterf(theta, INFINITY);
    return LS_OK;
}

/* axis: -1, or [-1] where a list was written; kept negative until the input's rank is known. */
static ls_status read_softmax(ls_json config, ls_act_attr *out, ls_err *err) {
    int64_t axis = -1;
    size_t n = 1;
    *out = plain(LS_ACT_SOFTMAX);
    LS_TRY(ls_json_get_ints(config, "axis", -LS_MAX_RANK, 1, &axis, &n, err));
    out->axis = (int)axis;
    return LS_OK;
}

static const struct {
    const char *class_name;
    ls_status (*read)(ls_json config, ls_act_attr *out, ls_err *err);
} layers[] = {{"ReLU", read_relu},
              {"LeakyReLU", read_leaky_relu},
              {"ELU", read_elu},
              {"Softmax", read_softmax},
              {"ThresholdedReLU", read_thresholded}};

/* ---- reading an "activation" ---- */

static ls_status read_activation(ls_json at, const char *default_name, ls_act_attr *out, ls_err *err) {
    if (!ls_json_present(at)) {
        return by_name(at, default_name, out, err);
    }
    if (json_is_string(at.value)) {
        return by_name(at, json_string_value(at.value), out, err);
    }
    const char *class_name = NULL, *function = NULL;
    LS_TRY(ls_json_expect_object(at, err));
    LS_TRY(ls_json_get_string(at, "class_name", &class_name, err));
    ls_json config = ls_json_member(at, "config");
    if (class_name != NULL && strcmp(class_name, "function") == 0) { /* Keras 3: a function by name */
        LS_TRY(ls_json_get_string(at, "config", &function, err));
        if (function != NULL) {
            return by_name(config, function, out, err);
        }
    }
    if (class_name != NULL && strcmp(class_name, "Activation") == 0) {
        return read_activation(ls_json_member(config, "activation"), "linear", out, err);
    }
    for (size_t i = 0; class_name != NULL && i < sizeof layers / sizeof layers[0]; i++) {
        if (strcmp(class_name, layers[i].class_name) == 0) {
            return layers[i].read(config, out, err);
        }
    }
    return ls_json_fail(at, err, "expected the name of an activation, such as \"relu\"");
}

ls_status ls_layer_read_activation(const ls_layer_call *call, const char *key, const char *default_name,
                                   ls_act_attr *out, ls_err *err) {
    return read_activation(ls_json_member(call->config, key), default_name, out, err);
}

static ls_status add_node(ls_builder *b, ls_layer_call *call, ls_act_attr attr, ls_tensor **io, ls_err *err) {
    const ls_shape *s = &(*io)->shape;
    if (attr.kind == LS_ACT_LINEAR) {
        return LS_OK;
    }
    if (attr.kind == LS_ACT_SOFTMAX) {
        int axis = attr.axis < 0 ? attr.axis + s->rank : attr.axis - 1; /* Keras counts the batch axis */
        if (axis < 0 || axis >= s->rank) {
            char text[96];
            return ls_layer_fail(call, err, "softmax has no axis %d in a tensor of shape %s", attr.axis,
                                 ls_shape_text(s, true, text, sizeof text));
        }
        attr.axis = axis;
    }
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_activation, &attr, sizeof attr, 1, io, 0, NULL, 1, s);
    *io = node->out[0];
    return LS_OK;
}

ls_status ls_builder_activation(ls_builder *b, ls_layer_call *call, const char *key, const char *default_name,
                                ls_tensor **io, ls_err *err) {
    ls_act_attr attr;
    LS_TRY(read_activation(ls_json_member(call->config, key), default_name, &attr, err));
    return add_node(b, call, attr, io, err);
}

/* ---- the layers ---- */

static ls_status build_activation(ls_builder *b, ls_layer_call *call, ls_err *err) {
    if (!ls_json_present(ls_json_member(call->config, "activation"))) {
        return ls_json_fail(call->config, err, "\"activation\" is missing");
    }
    call->n_out = 1;
    call->out[0] = call->in[0];
    return ls_builder_activation(b, call, "activation", "linear", &call->out[0], err);
}

static ls_status build_layer(ls_builder *b, ls_layer_call *call, ls_err *err) {
    ls_act_attr attr = {0};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        if (strcmp(call->layer->class_->name, layers[i].class_name) == 0) {
            LS_TRY(layers[i].read(call->config, &attr, err));
        }
    }
    call->n_out = 1;
    call->out[0] = call->in[0];
    return add_node(b, call, attr, &call->out[0], err);
}

#define ROW(suffix, name_, keys_, build_)      \
    const ls_layer_class ls_layer_##suffix = { \
        .name = name_, .keys = keys_, .min_in = 1, .max_in = 1, .masks = true, .build = build_}

ROW(activation, "Activation", "activation", build_activation);
ROW(relu, "ReLU", "max_value negative_slope threshold", build_layer);
ROW(leaky_relu, "LeakyReLU", "alpha negative_slope", build_layer);
ROW(elu, "ELU", "alpha", build_layer);
ROW(softmax, "Softmax", "axis", build_layer);
ROW(thresholded_relu, "ThresholdedReLU", "theta", build_layer);
