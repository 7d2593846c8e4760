/*
 * Bidirectional: a recurrent layer over the sequence in both directions, with weights of their own.
 *
 * Source: tf_keras/layers/rnn/bidirectional.py. The second layer's sequence is turned round, so that step t of both is
 * about step t of the input; masked steps of a sequence are zeros. Initial states: the first half is the forward
 * layer's, the second half the backward layer's.
 */
#include <string.h>

#include "worker/layers/recurrent.h"
#include "worker/layers/rows.h"
#include "worker/ops/ops.h"

typedef enum { MERGE_CONCAT, MERGE_SUM, MERGE_MUL, MERGE_AVE, MERGE_NONE } merge_mode;

static ls_status read_merge(const ls_layer_call *call, merge_mode *mode, ls_err *err) {
    static const char *const words[] = {"concat", "sum", "mul", "ave"};
    int which = MERGE_CONCAT;
    ls_json at = ls_json_member(call->config, "merge_mode");
    if (json_is_null(at.value)) {
        *mode = MERGE_NONE;
        return LS_OK;
    }
    LS_TRY(ls_json_get_choice(call->config, "merge_mode", words, 4, &which, err));
    *mode = (merge_mode)which;
    return LS_OK;
}

typedef struct traits {
    bool go_backwards, return_sequences, return_state, stateful;
} traits;

static ls_status read_traits(ls_json config, traits *t, ls_err *err) {
    LS_TRY(ls_json_get_bool(config, "go_backwards", &t->go_backwards, err));
    LS_TRY(ls_json_get_bool(config, "return_sequences", &t->return_sequences, err));
    LS_TRY(ls_json_get_bool(config, "return_state", &t->return_state, err));
    return ls_json_get_bool(config, "stateful", &t->stateful, err);
}

/* The two layers; *first tells what both return. */
static ls_status make_pair(ls_builder *b, const ls_layer_call *call, ls_layer *pair[2], traits *first, ls_err *err) {
    static const ls_recurrent_role forward = {.no_echo = true}, given = {.flip = true, .no_echo = true},
                                   made = {.turn = true, .flip = true, .no_echo = true};
    ls_json spec = ls_json_member(call->config, "layer"), back = ls_json_member(call->config, "backward_layer");
    if (!ls_json_present(spec)) {
        return ls_json_fail(call->config, err, "\"layer\" is missing");
    }
    bool own = ls_json_present(back);
    LS_TRY(ls_builder_inner_as(b, call, spec, "forward_", &pair[0], err));
    LS_TRY(ls_builder_inner_as(b, call, own ? back : spec, "backward_", &pair[1], err));
    for (int i = 0; i < 2; i++) {
        if (!ls_layer_is_recurrent(pair[i]->class_)) {
            return ls_json_fail(i == 1 && own ? back : spec, err,
                                "wraps recurrent layers (SimpleRNN, LSTM, GRU), found %s", pair[i]->class_->name);
        }
    }
    pair[0]->role = &forward;
    pair[1]->role = own ? &given : &made;
    traits second = {0};
    LS_TRY(read_traits(pair[0]->config, first, err));
    LS_TRY(read_traits(pair[1]->config, &second, err));
    if (own && (first->go_backwards == second.go_backwards || first->return_sequences != second.return_sequences ||
                first->return_state != second.return_state || first->stateful != second.stateful)) {
        return ls_json_fail(back, err,
                            "expected the other \"go_backwards\" than \"layer\" and the same \"return_sequences\", "
                            "\"return_state\" and \"stateful\"");
    }
    return LS_OK;
}

static ls_status call_half(ls_builder *b, const ls_layer_call *call, ls_layer *layer, int half, ls_layer_call *done,
                           ls_err *err) {
    int n_states = (call->n_in - 1) / 2;
    ls_tensor *in[8] = {call->in[0]};
    if ((call->n_in - 1) % 2 != 0 || n_states > 4) {
        return ls_layer_fail(call, err, "takes initial states in pairs, is given %d", call->n_in - 1);
    }
    for (int i = 0; i < n_states; i++) {
        in[1 + i] = call->in[1 + half * n_states + i];
    }
    return ls_builder_call(b, layer, 1 + n_states, in, call->kwargs, done, err);
}

static ls_tensor *merge(ls_builder *b, const ls_layer_call *call, merge_mode mode, ls_tensor *const *both) {
    ls_shape out = both[0]->shape;
    ls_merge_attr m = {.kind = mode == MERGE_SUM   ? LS_MERGE_ADD
                               : mode == MERGE_MUL ? LS_MERGE_MULTIPLY
                                                   : LS_MERGE_AVERAGE};
    ls_concat_attr c = {.axis = out.rank - 1};
    if (mode == MERGE_CONCAT) {
        out.dim[out.rank - 1] += both[1]->shape.dim[out.rank - 1];
        return ls_builder_node(b, call->layer, &ls_op_concat, &c, sizeof c, 2, both, 0, NULL, 1, &out)->out[0];
    }
    return ls_builder_node(b, call->layer, &ls_op_merge, &m, sizeof m, 2, both, 0, NULL, 1, &out)->out[0];
}

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    merge_mode mode;
    ls_layer *pair[2];
    traits t = {0};
    ls_layer_call half[2];
    LS_TRY(read_merge(call, &mode, err));
    LS_TRY(make_pair(b, call, pair, &t, err));
    for (int i = 0; i < 2; i++) {
        LS_TRY(call_half(b, call, pair[i], i, &half[i], err));
    }
    ls_tensor *both[2] = {half[0].out[0], half[1].out[0]};
    bool joins = mode == MERGE_CONCAT || mode == MERGE_NONE;
    if (!joins && !ls_shape_equal(&both[0]->shape, &both[1]->shape)) {
        return ls_layer_fail(call, err, "the two layers have different units, which only \"concat\" can merge");
    }
    if (mode == MERGE_NONE) {
        call->out[call->n_out++] = both[0];
        call->out[call->n_out++] = both[1];
    } else {
        call->out[0] = merge(b, call, mode, both);
        call->out[0]->mask = t.return_sequences ? call->in[0]->mask : NULL;
        call->n_out = 1;
    }
    for (int i = 0; i < 2; i++) {
        for (int k = 1; k < half[i].n_out; k++) {
            call->out[call->n_out++] = half[i].out[k];
        }
    }
    return LS_OK;
}

const ls_layer_class ls_layer_bidirectional = {.name = "Bidirectional",
                                               .keys = "layer merge_mode backward_layer",
                                               .call_keys = "mask",
                                               .min_in = 1,
                                               .max_in = 5,
                                               .build = build};
