/*
 * SimpleRNN, LSTM, GRU and their cells (which RNN runs), and Jordan, which is not Keras's: `units` outputs that go back
 * into `hidden_units` (default: as many), with activation (tanh) and output_activation (linear), output_initializer and
 * the like.
 *
 * Source: tf_keras/layers/rnn/{simple_rnn,lstm,gru,base_rnn}.py and backend.rnn. `unroll` and `implementation` choose
 * among programs for the same numbers and are accepted without effect; one dropout mask a sample serves all gates and
 * all steps. A stateful layer goes on, in sample i of the global batch, with the state that sample i of the batch
 * before left, be it of training or of validation, as Keras's do; a state that an input gives counts instead.
 */
#include "worker/layers/recurrent.h"

#include <string.h>

#include "worker/layers/activation.h"
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

typedef struct options {
    ls_rnn_attr attr;
    bool unit_forget_bias, return_state;
    const char *kernel, *recurrent_kernel, *bias; /* weights, with the cell's name in front */
} options;

/* What the cell says, and what the layer says that runs it. */
static ls_status read_flags(const ls_layer_call *call, options *o, ls_err *err) {
    const ls_recurrent_role *role = call->layer->role;
    ls_json sequence = role != NULL && role->sequence.value != NULL ? role->sequence : call->config;
    bool reset_after = true, unroll = false, time_major = false;
    struct {
        ls_json at;
        const char *key;
        bool *flag;
    } flags[] = {{call->config, "use_bias", &o->attr.use_bias},
                 {call->config, "unit_forget_bias", &o->unit_forget_bias},
                 {call->config, "reset_after", &reset_after},
                 {sequence, "return_sequences", &o->attr.sequences},
                 {sequence, "return_state", &o->return_state},
                 {sequence, "go_backwards", &o->attr.backwards},
                 {sequence, "stateful", &o->attr.stateful},
                 {sequence, "zero_output_for_mask", &o->attr.zero_masked},
                 {sequence, "unroll", &unroll},
                 {sequence, "time_major", &time_major}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        LS_TRY(ls_json_get_bool(flags[i].at, flags[i].key, flags[i].flag, err));
    }
    if (time_major) {
        return ls_json_fail(ls_json_member(sequence, "time_major"), err,
                            "samples come one by one, so the first axis cannot be time; expected false");
    }
    if (o->attr.cell == LS_CELL_GRU && reset_after) {
        o->attr.cell = LS_CELL_GRU_RESET_AFTER;
    }
    return LS_OK;
}

static void take_role(const ls_recurrent_role *role, ls_rnn_attr *a) {
    a->backwards = a->backwards != role->turn;
    a->sequences = a->sequences || role->feeds_next;
    a->flip = role->feeds_next ? a->backwards : role->flip && a->sequences;
    a->zero_masked = !role->feeds_next && ((role->no_echo && a->sequences) || (!role->no_echo && a->zero_masked));
}

static ls_status read_options(ls_builder *b, const ls_layer_call *call, ls_cell_kind cell, options *o, ls_err *err) {
    o->attr.cell = cell;
    o->attr.use_bias = o->unit_forget_bias = true;
    LS_TRY(ls_json_get_int(call->config, "units", 1, INT32_MAX / 4, &o->attr.units, err));
    if (o->attr.units == 0) {
        return ls_json_fail(call->config, err, "\"units\" is missing");
    }
    LS_TRY(ls_layer_read_activation(call, "activation", "tanh", &o->attr.activation, err));
    bool jordan = cell == LS_CELL_JORDAN;
    o->attr.hidden = o->attr.units;
    LS_TRY(ls_json_get_int(call->config, "hidden_units", 1, INT32_MAX / 4, &o->attr.hidden, err));
    LS_TRY(ls_layer_read_activation(call, jordan ? "output_activation" : "recurrent_activation",
                                    jordan ? "linear" : "sigmoid", &o->attr.recurrent_activation, err));
    LS_TRY(read_flags(call, o, err));
    LS_TRY(ls_json_get_double(call->config, "dropout", 0, 0.999999, &o->attr.dropout, err));
    LS_TRY(ls_json_get_double(call->config, "recurrent_dropout", 0, 0.999999, &o->attr.recurrent_dropout, err));
    if (ls_builder_inference(b)) {
        o->attr.dropout = o->attr.recurrent_dropout = 0;
    }
    if (call->layer->role != NULL) {
        take_role(call->layer->role, &o->attr);
    }
    return LS_OK;
}

static ls_status check_inputs(const ls_layer_call *call, const options *o, ls_err *err) {
    int n_states = ls_layer_recurrent_states(call->layer->class_);
    char text[96];
    const ls_tensor *in = call->in[0];
    if (in->shape.rank != 2) {
        return ls_layer_fail(call, err, "expects an input of 3 axes (batch, time, features), found shape %s",
                             ls_shape_text(&in->shape, true, text, sizeof text));
    }
    if (call->n_in != 1 && call->n_in != 1 + n_states) {
        return ls_layer_fail(call, err, "takes %d initial state%s, is given %d", n_states, n_states == 1 ? "" : "s",
                             call->n_in - 1);
    }
    for (int i = 1; i < call->n_in; i++) {
        const ls_tensor *t = call->in[i];
        if (t->shape.rank != 1 || t->shape.dim[0] != o->attr.units || t->rows != in->rows) {
            return ls_layer_fail(call, err, "an initial state has the shape %s; expected (None, %d)",
                                 ls_shape_text(&t->shape, true, text, sizeof text), (int)o->attr.units);
        }
    }
    return LS_OK;
}

static ls_status make_jordan_weights(ls_builder *b, ls_layer_call *call, const options *o, ls_weight **weights,
                                     ls_err *err) {
    const int64_t u = o->attr.units, hidden = o->attr.hidden;
    ls_shape kernel = {.rank = 2, .dim = {call->in[0]->shape.dim[1], hidden}};
    ls_shape recurrent = {.rank = 2, .dim = {u, hidden}}, output = {.rank = 2, .dim = {hidden, u}};
    ls_shape bias = {.rank = 1, .dim = {hidden}}, output_bias = {.rank = 1, .dim = {u}};
    int n = 0;
    LS_TRY(ls_builder_weight(b, call, o->kernel, "kernel", "glorot_uniform", &kernel, &weights[n++], err));
    LS_TRY(ls_builder_weight(b, call, o->recurrent_kernel, "recurrent", "orthogonal", &recurrent, &weights[n++], err));
    if (o->attr.use_bias) {
        LS_TRY(ls_builder_weight(b, call, o->bias, "bias", "zeros", &bias, &weights[n++], err));
    }
    LS_TRY(ls_builder_weight(b, call, "jordan_cell/output_kernel", "output", "glorot_uniform", &output, &weights[n++],
                             err));
    if (o->attr.use_bias) {
        LS_TRY(ls_builder_weight(b, call, "jordan_cell/output_bias", "bias", "zeros", &output_bias, &weights[n], err));
    }
    return LS_OK;
}

static ls_status make_weights(ls_builder *b, ls_layer_call *call, const options *o, ls_weight **weights, ls_err *err) {
    const int64_t u = o->attr.units;
    const int64_t wide = u * (o->attr.cell == LS_CELL_SIMPLE ? 1 : o->attr.cell == LS_CELL_LSTM ? 4 : 3);
    if (o->attr.cell == LS_CELL_JORDAN) {
        return make_jordan_weights(b, call, o, weights, err);
    }
    ls_shape kernel = {.rank = 2, .dim = {call->in[0]->shape.dim[1], wide}};
    ls_shape recurrent = {.rank = 2, .dim = {u, wide}};
    ls_shape bias = {.rank = 1, .dim = {wide}};
    if (o->attr.cell == LS_CELL_GRU_RESET_AFTER) {
        bias = (ls_shape){.rank = 2, .dim = {2, wide}};
    }
    LS_TRY(ls_builder_weight(b, call, o->kernel, "kernel", "glorot_uniform", &kernel, &weights[0], err));
    LS_TRY(ls_builder_weight(b, call, o->recurrent_kernel, "recurrent", "orthogonal", &recurrent, &weights[1], err));
    if (o->attr.use_bias) {
        LS_TRY(ls_builder_weight(b, call, o->bias, "bias", "zeros", &bias, &weights[2], err));
        if (o->attr.cell == LS_CELL_LSTM && o->unit_forget_bias) {
            weights[2]->init.ones_from = u;
            weights[2]->init.ones_to = 2 * u;
        }
    }
    return LS_OK;
}

static ls_status build(ls_builder *b, ls_layer_call *call, ls_cell_kind cell, options *o, ls_err *err) {
    if (ls_layer_is_cell(call->layer->class_) && call->layer->role == NULL) {
        return ls_layer_fail(call, err, "is a cell, not a layer; it is the \"cell\" of an RNN");
    }
    LS_TRY(read_options(b, call, cell, o, err));
    LS_TRY(check_inputs(call, o, err));
    ls_weight *weights[5];
    int n_weights = (o->attr.use_bias ? 3 : 2) + (cell != LS_CELL_JORDAN ? 0 : o->attr.use_bias ? 2 : 1);
    LS_TRY(make_weights(b, call, o, weights, err));
    ls_tensor *in = call->in[0];
    if (o->attr.stateful) {
        o->attr.first_state = ls_builder_states(b, call->layer, ls_layer_recurrent_states(call->layer->class_),
                                                (size_t)(in->rows * o->attr.units));
    }
    ls_shape state = {.rank = 1, .dim = {o->attr.units}}, shapes[3];
    shapes[0] = shapes[1] = shapes[2] = state;
    if (o->attr.sequences) {
        shapes[0] = (ls_shape){.rank = 2, .dim = {in->shape.dim[0], o->attr.units}};
    }
    int n_out = 1 + (o->return_state ? ls_layer_recurrent_states(call->layer->class_) : 0);
    ls_node *node = ls_builder_node(b, call->layer, &ls_op_rnn, &o->attr, sizeof o->attr, call->n_in, call->in,
                                    n_weights, weights, n_out, shapes);
    node->out[0]->mask = o->attr.sequences ? in->mask : NULL;
    call->n_out = n_out;
    memcpy(call->out, node->out, (size_t)n_out * sizeof node->out[0]);
    return LS_OK;
}

#define ROW(suffix, name_, scope, kind, keys_, max)                                                                 \
    static ls_status build_##suffix(ls_builder *b, ls_layer_call *call, ls_err *err) {                              \
        options o = {.kernel = scope "kernel", .recurrent_kernel = scope "recurrent_kernel", .bias = scope "bias"}; \
        return build(b, call, kind, &o, err);                                                                       \
    }                                                                                                               \
    const ls_layer_class ls_layer_##suffix = {.name = name_,                                                        \
                                              .keys = LS_CELL_KEYS keys_,                                           \
                                              .call_keys = "mask",                                                  \
                                              .min_in = 1,                                                          \
                                              .max_in = max,                                                        \
                                              .drop = "time_major",                                                 \
                                              .build = build_##suffix}

#define LSTM_KEYS " recurrent_activation unit_forget_bias"
#define GRU_KEYS " recurrent_activation reset_after"

ROW(simple_rnn, "SimpleRNN", "simple_rnn_cell/", LS_CELL_SIMPLE, LS_SEQUENCE_KEYS, 2);
ROW(lstm, "LSTM", "lstm_cell/", LS_CELL_LSTM, LS_SEQUENCE_KEYS LSTM_KEYS, 3);
ROW(gru, "GRU", "gru_cell/", LS_CELL_GRU, LS_SEQUENCE_KEYS GRU_KEYS, 2);
ROW(jordan, "Jordan", "jordan_cell/", LS_CELL_JORDAN,
    LS_SEQUENCE_KEYS " hidden_units output_activation output_initializer output_regularizer output_constraint", 2);
ROW(simple_rnn_cell, "SimpleRNNCell", "simple_rnn_cell/", LS_CELL_SIMPLE, "", 2);
ROW(lstm_cell, "LSTMCell", "lstm_cell/", LS_CELL_LSTM, LSTM_KEYS, 3);
ROW(gru_cell, "GRUCell", "gru_cell/", LS_CELL_GRU, GRU_KEYS, 2);

bool ls_layer_is_recurrent(const ls_layer_class *class_) {
    return class_ == &ls_layer_simple_rnn || class_ == &ls_layer_lstm || class_ == &ls_layer_gru ||
           class_ == &ls_layer_jordan || class_ == &ls_layer_rnn;
}

bool ls_layer_is_cell(const ls_layer_class *class_) {
    return class_ == &ls_layer_simple_rnn_cell || class_ == &ls_layer_lstm_cell || class_ == &ls_layer_gru_cell;
}

int ls_layer_recurrent_states(const ls_layer_class *class_) {
    return class_ == &ls_layer_lstm || class_ == &ls_layer_lstm_cell ? 2 : 1;
}
