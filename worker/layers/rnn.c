/*
 * RNN: a layer that runs a cell, or a stack of cells (StackedRNNCells), of which each takes the sequence of the one
 * below. All of a stack's cells go through the sequence in the same direction and skip the same masked steps.
 *
 * Source: tf_keras/layers/rnn/{base_rnn,stacked_rnn_cells}.py. Initial and last states are those of the first cell,
 * then those of the second, and so on.
 */
#include <string.h>

#include "worker/layers/recurrent.h"
#include "worker/layers/rows.h"

enum { MAX_CELLS = 8, MAX_STATES = 7 }; /* of a call: outputs are limited */

typedef struct stack {
    int n;
    ls_layer *cells[MAX_CELLS];
    int n_states;
} stack;

static ls_status add_cell(ls_builder *b, const ls_layer_call *call, ls_json spec, const char *prefix, stack *s,
                          ls_err *err) {
    ls_layer *cell;
    LS_TRY(ls_builder_inner_as(b, call, spec, prefix, &cell, err));
    if (!ls_layer_is_cell(cell->class_)) {
        return ls_json_fail(spec, err, "expected a cell (SimpleRNNCell, LSTMCell, GRUCell), found %s",
                            cell->class_->name);
    }
    s->cells[s->n++] = cell;
    s->n_states += ls_layer_recurrent_states(cell->class_);
    return LS_OK;
}

static ls_status read_stack(ls_builder *b, const ls_layer_call *call, stack *s, ls_err *err) {
    static const char *const keys[] = {"name", "trainable", "dtype", "cells", "reverse_state_order"};
    ls_json spec = ls_json_member(call->config, "cell");
    if (!ls_json_present(spec)) {
        return ls_json_fail(call->config, err, "\"cell\" is missing");
    }
    LS_TRY(ls_json_expect_object(spec, err));
    const char *class_name = NULL;
    LS_TRY(ls_json_get_string(spec, "class_name", &class_name, err));
    if (class_name == NULL || strcmp(class_name, "StackedRNNCells") != 0) {
        return add_cell(b, call, spec, "", s, err);
    }
    ls_json config = ls_json_member(spec, "config"), cells = ls_json_member(config, "cells");
    bool reverse = false;
    LS_TRY(ls_json_only_keys(config, keys, sizeof keys / sizeof keys[0], err));
    LS_TRY(ls_json_get_bool(config, "reverse_state_order", &reverse, err));
    size_t n = ls_json_length(cells);
    if (!json_is_array(cells.value) || n < 1 || n > MAX_CELLS || reverse) {
        return ls_json_fail(config, err, "expected 1 to %d \"cells\", and \"reverse_state_order\" false", MAX_CELLS);
    }
    for (size_t i = 0; i < n; i++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "cell_%zu_", i);
        LS_TRY(add_cell(b, call, ls_json_element(cells, i), prefix, s, err));
    }
    return LS_OK;
}

/* What cell i has to do, within what is wanted of the whole. */
static const ls_recurrent_role *role_of(ls_builder *b, const ls_layer_call *call, bool last) {
    const ls_recurrent_role *own = call->layer->role;
    ls_recurrent_role *role = ls_pool_alloc(&ls_builder_model(b)->pool, sizeof *role);
    *role = own != NULL ? *own : (ls_recurrent_role){0};
    role->sequence = call->config;
    role->feeds_next = !last;
    return role;
}

static ls_status build(ls_builder *b, ls_layer_call *call, ls_err *err) {
    stack s = {0};
    bool return_state = false;
    LS_TRY(read_stack(b, call, &s, err));
    LS_TRY(ls_json_get_bool(call->config, "return_state", &return_state, err));
    if (call->n_in != 1 && call->n_in != 1 + s.n_states) {
        return ls_layer_fail(call, err, "takes %d initial state%s, is given %d", s.n_states, s.n_states == 1 ? "" : "s",
                             call->n_in - 1);
    }
    if (return_state && s.n_states > MAX_STATES) {
        return ls_layer_fail(call, err, "returns %d states; at most %d are supported", s.n_states, MAX_STATES);
    }
    ls_tensor *in[3] = {call->in[0]};
    int given = 1;
    call->n_out = 1;
    for (int i = 0; i < s.n; i++) {
        ls_layer_call done;
        int n_states = call->n_in > 1 ? ls_layer_recurrent_states(s.cells[i]->class_) : 0;
        for (int k = 0; k < n_states; k++) {
            in[1 + k] = call->in[given++];
        }
        s.cells[i]->role = role_of(b, call, i + 1 == s.n);
        LS_TRY(ls_builder_call(b, s.cells[i], 1 + n_states, in, call->kwargs, &done, err));
        call->out[0] = in[0] = done.out[0];
        for (int k = 1; k < done.n_out; k++) {
            call->out[call->n_out++] = done.out[k];
        }
    }
    return LS_OK;
}

const ls_layer_class ls_layer_rnn = {.name = "RNN",
                                     .keys = "cell num_constants" LS_SEQUENCE_KEYS,
                                     .call_keys = "mask",
                                     .min_in = 1,
                                     .max_in = 1 + 2 * MAX_CELLS,
                                     .drop = "time_major",
                                     .build = build};
