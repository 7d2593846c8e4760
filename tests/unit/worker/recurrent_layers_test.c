/* Recurrent layers as graphs: their weights' paths, initial states in every spelling, both directions, masks. */
#include "tests/unit/worker/model_fixture.h"
#include "worker/model/initializer.h"

#define L(class_, name, config) "{\"class_name\": \"" class_ "\", \"config\": {\"name\": \"" name "\"" config "}}"
#define LSTM(more) L("LSTM", "lstm", ", \"units\": 3" more)

static const ls_rnn_attr *attr_of(const ls_model *m, int node) {
    assert_ptr_equal(m->nodes[node]->op, &ls_op_rnn);
    return m->nodes[node]->attr;
}

static void weights_are_named_after_the_cell(void **state) {
    (void)state;
    ls_model *m = build_sequential("5, 2", LSTM(""));
    assert_weight(m, 0, "lstm/lstm_cell/kernel:0", "(2, 12)");
    assert_weight(m, 1, "lstm/lstm_cell/recurrent_kernel:0", "(3, 12)");
    assert_weight(m, 2, "lstm/lstm_cell/bias:0", "(12,)");
    assert_string_equal(m->weights[1]->name, "recurrent_kernel");
    ls_model_destroy(m);
    m = build_sequential("5, 2", L("GRU", "g", ", \"units\": 3"));
    assert_weight(m, 2, "g/gru_cell/bias:0", "(2, 9)");
    ls_model_destroy(m);
    m = build_sequential("5, 2", L("GRU", "g", ", \"units\": 3, \"reset_after\": false"));
    assert_weight(m, 2, "g/gru_cell/bias:0", "(9,)");
    ls_model_destroy(m);
    m = build_sequential("5, 2", L("Bidirectional", "b", ", \"layer\": " LSTM(", \"use_bias\": false")));
    assert_weight(m, 0, "b/forward_lstm/lstm_cell/kernel:0", "(2, 12)");
    assert_weight(m, 3, "b/backward_lstm/lstm_cell/recurrent_kernel:0", "(3, 12)");
    assert_shape(&m->outputs[0]->shape, "(6,)");
    ls_model_destroy(m);
}

static void jordan_has_a_kernel_for_its_output(void **state) {
    (void)state;
    ls_model *m = build_sequential("5, 2", L("Jordan", "j", ", \"units\": 3, \"hidden_units\": 7"));
    assert_weight(m, 0, "j/jordan_cell/kernel:0", "(2, 7)");
    assert_weight(m, 1, "j/jordan_cell/recurrent_kernel:0", "(3, 7)");
    assert_weight(m, 2, "j/jordan_cell/bias:0", "(7,)");
    assert_weight(m, 3, "j/jordan_cell/output_kernel:0", "(7, 3)");
    assert_weight(m, 4, "j/jordan_cell/output_bias:0", "(3,)");
    assert_shape(&m->outputs[0]->shape, "(3,)");
    assert_int_equal(attr_of(m, 0)->recurrent_activation.kind, LS_ACT_LINEAR);
    ls_model_destroy(m);
}

static void forget_gates_begin_open(void **state) {
    (void)state;
    static const char *const configs[] = {LSTM(""), LSTM(", \"unit_forget_bias\": false")};
    for (int k = 0; k < 2; k++) {
        ls_model *m = build_sequential("5, 2", configs[k]);
        float bias[12];
        ls_initializer_fill(m->weights[2], 1, bias);
        for (int i = 0; i < 12; i++) {
            assert_true(bias[i] == (k == 0 && i >= 3 && i < 6 ? 1.0f : 0.0f));
        }
        ls_model_destroy(m);
    }
}

static void directions(void **state) {
    (void)state;
    ls_model *m = build_sequential(
        "5, 2",
        L("Bidirectional", "b",
          ", \"merge_mode\": \"ave\", \"layer\": " LSTM(", \"return_sequences\": true, \"go_backwards\": true")));
    assert_true(attr_of(m, 0)->backwards && !attr_of(m, 0)->flip && attr_of(m, 0)->zero_masked);
    assert_true(!attr_of(m, 1)->backwards && attr_of(m, 1)->flip && attr_of(m, 1)->zero_masked);
    assert_int_equal(((const ls_merge_attr *)m->nodes[2]->attr)->kind, LS_MERGE_AVERAGE);
    ls_model_destroy(m);
    /* No sequence: masked steps keep what was there, and there is nothing to turn round. */
    m = build_sequential("5, 2", L("Bidirectional", "b",
                                   ", \"layer\": " LSTM("") ", \"backward_layer\": " L(
                                       "GRU", "back", ", \"units\": 4, \"go_backwards\": true")));
    assert_true(attr_of(m, 1)->backwards && !attr_of(m, 1)->flip && !attr_of(m, 1)->zero_masked);
    assert_weight(m, 3, "b/backward_back/gru_cell/kernel:0", "(2, 12)");
    assert_shape(&m->outputs[0]->shape, "(7,)");
    ls_model_destroy(m);
}

/* ---- RNN ---- */

#define CELL(class_, name) L(class_, name, ", \"units\": 3")
#define STACK                                                                                                    \
    "{\"class_name\": \"StackedRNNCells\", \"config\": {\"cells\": [" CELL("LSTMCell", "c") ", " CELL("GRUCell", \
                                                                                                      "c") "]}}"

static void cells(void **state) {
    (void)state;
    ls_model *m =
        build_sequential("5, 2", L("RNN", "r", ", \"return_sequences\": true, \"cell\": " CELL("GRUCell", "gru_cell")));
    assert_weight(m, 2, "r/gru_cell/bias:0", "(2, 9)");
    assert_true(attr_of(m, 0)->sequences && attr_of(m, 0)->cell == LS_CELL_GRU_RESET_AFTER);
    ls_model_destroy(m);
    /* Backwards: what a cell of a stack hands on is in the input's order again, the last one's is as it was made. */
    m = build_sequential("5, 2", L("RNN", "r", ", \"go_backwards\": true, \"return_state\": true, \"cell\": " STACK));
    assert_int_equal(m->n_weights, 6);
    assert_string_equal(m->weights[3]->path, "r/cell_1_c/gru_cell/kernel:0");
    assert_true(attr_of(m, 0)->backwards && attr_of(m, 0)->sequences && attr_of(m, 0)->flip);
    assert_true(attr_of(m, 1)->backwards && !attr_of(m, 1)->sequences && !attr_of(m, 1)->flip);
    assert_ptr_equal(m->nodes[1]->in[0], m->nodes[0]->out[0]);
    assert_int_equal(m->layers[1]->n_out, 4);
    assert_ptr_equal(m->layers[1]->out[1], m->nodes[0]->out[1]);
    assert_ptr_equal(m->layers[1]->out[3], m->nodes[1]->out[1]);
    ls_model_destroy(m);
    m = build_sequential("5, 2", L("Bidirectional", "b",
                                   ", \"layer\": " L("RNN", "r", ", \"return_sequences\": true, \"cell\": " STACK)));
    assert_shape(&m->outputs[0]->shape, "(5, 6)");
    assert_true(!attr_of(m, 1)->backwards && !attr_of(m, 1)->flip && attr_of(m, 1)->zero_masked);
    assert_true(attr_of(m, 2)->backwards && attr_of(m, 2)->flip && !attr_of(m, 2)->zero_masked);
    assert_true(attr_of(m, 3)->backwards && attr_of(m, 3)->flip && attr_of(m, 3)->zero_masked);
    assert_string_equal(m->weights[6]->path, "b/backward_r/cell_0_c/lstm_cell/kernel:0");
    ls_model_destroy(m);
}

/* ---- initial states ---- */

#define INPUT(name, shape)                                                                                       \
    "{\"class_name\": \"InputLayer\", \"name\": \"" name "\", \"config\": {\"batch_input_shape\": [null, " shape \
    "], \"name\": \"" name "\"}, \"inbound_nodes\": []}"
#define LAYER(class_, name, config, nodes)                                                                \
    "{\"class_name\": \"" class_ "\", \"name\": \"" name "\", \"config\": {\"name\": \"" name "\"" config \
    "}, \"inbound_nodes\": " nodes "}"
#define MODEL(layers, inputs, output)                                                     \
    "{\"class_name\": \"Functional\", \"config\": {\"name\": \"m\", \"layers\": [" layers \
    "], \"input_layers\": " inputs ", \"output_layers\": [[\"" output "\", 0, 0]]}}"
#define TENSOR(layer, output)                                                                                \
    "{\"class_name\": \"__keras_tensor__\", \"config\": {\"shape\": [null, 3], \"keras_history\": [\"" layer \
    "\", 0, " output "]}}"
#define SEQ2SEQ(nodes)                                                                                                 \
    MODEL(INPUT("a", "5, 2") ", " INPUT("b", "4, 2") ", " LAYER(                                                       \
              "LSTM", "enc", ", \"units\": 3, \"return_state\": true",                                                 \
              "[[[\"a\", 0, 0, {}]]]") ", " LAYER("LSTM", "dec", ", \"units\": 3, \"return_sequences\": true", nodes), \
          "[[\"a\", 0, 0], [\"b\", 0, 0]]", "dec")

static void initial_states_in_every_spelling(void **state) {
    (void)state;
    static const char *const texts[] = {
        SEQ2SEQ("[[[\"b\", 0, 0, {}], [\"enc\", 0, 1, {}], [\"enc\", 0, 2, {}]]]"),
        SEQ2SEQ("[[[\"b\", 0, 0, {\"initial_state\": [[\"enc\", 0, 1], [\"enc\", 0, 2]], \"constants\": null}]]]"),
        SEQ2SEQ("[{\"args\": [" TENSOR("b", "0") "], \"kwargs\": {\"initial_state\": [" TENSOR("enc", "1") ", " TENSOR(
            "enc", "2") "], \"mask\": null, \"training\": false}}]"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ls_model *m = build(texts[i]);
        const ls_node *enc = m->nodes[0], *dec = m->nodes[1];
        assert_int_equal(enc->n_out, 3);
        assert_int_equal(dec->n_in, 3);
        assert_ptr_equal(dec->in[0], m->inputs[1]);
        assert_ptr_equal(dec->in[1], enc->out[1]);
        assert_ptr_equal(dec->in[2], enc->out[2]);
        ls_model_destroy(m);
    }
    assert_refused(SEQ2SEQ("[[[\"b\", 0, 0, {}], [\"enc\", 0, 1, {}]]]"), "layer \"dec\" (LSTM)",
                   "takes 2 initial states, is given 1", NULL);
    assert_refused(SEQ2SEQ("[[[\"b\", 0, 0, {}], [\"a\", 0, 0, {}], [\"enc\", 0, 2, {}]]]"), "(None, 5, 2)",
                   "expected (None, 3)", NULL);
}

#define MASKED(class_, config, nodes)                                                                          \
    MODEL(INPUT("x", "5, 2") ", " INPUT("m", "5") ", " INPUT("s", "3") ", " LAYER(class_, "l", config, nodes), \
          "[[\"x\", 0, 0], [\"m\", 0, 0], [\"s\", 0, 0]]", "l")

/* The node that has states, or pools: it reads x under the mask m, as numbers 0 and 1. */
static void assert_masked(const ls_model *m) {
    const ls_node *node = m->nodes[m->n_nodes - 1];
    const ls_tensor *mask = node->in[0]->mask;
    assert_ptr_equal(node->in[0]->producer->in[0], m->inputs[0]);
    assert_non_null(mask);
    assert_ptr_equal(mask->producer->in[0], m->inputs[1]);
    assert_true(node->n_in == 1 || node->in[1] == m->inputs[2]);
}

/* In both spellings, beside an initial state or alone; what is written reads back the same. */
static void masks_as_arguments(void **state) {
    (void)state;
    static const char *const texts[] = {
        MASKED("GRU", ", \"units\": 3",
               "[[[\"x\", 0, 0, {\"mask\": [\"m\", 0, 0], \"initial_state\": [\"s\", 0, 0]}]]]"),
        MASKED("GRU", ", \"units\": 3",
               "[{\"args\": [" TENSOR("x", "0") "], \"kwargs\": {\"mask\": " TENSOR("m", "0") "}}]"),
        MASKED("RNN", ", \"cell\": {\"class_name\": \"GRUCell\", \"config\": {\"name\": \"c\", \"units\": 3}}",
               "[[[\"x\", 0, 0, {\"mask\": [\"m\", 0, 0]}]]]"),
        MASKED("GlobalAveragePooling1D", "", "[[[\"x\", 0, 0, {\"mask\": [\"m\", 0, 0]}]]]"),
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ls_model *m = build(texts[i]);
        char *written = ls_model_config_text(m);
        assert_masked(m);
        assert_non_null(strstr(written, "{\"mask\":[\"m\",0,0]}"));
        ls_model_destroy(m);
        m = build(written);
        assert_masked(m);
        ls_model_destroy(m);
        free(written);
    }
    ls_model *m = build(MASKED("Bidirectional", ", \"layer\": " LSTM(", \"return_sequences\": true"),
                               "[[[\"x\", 0, 0, {\"mask\": [\"m\", 0, 0]}]]]"));
    assert_ptr_equal(m->outputs[0]->mask->producer->in[0], m->inputs[1]);
    ls_model_destroy(m);
    assert_refused(
        MASKED("GRU", ", \"units\": 3", "[[[\"x\", 0, 0, {\"mask\": [\"s\", 0, 0]}]]]"),
        "[0][0][3].mask: the mask has the shape (None, 3), which is not that of the time steps of (None, 5, 2)", NULL);
    assert_refused(MASKED("GRU", ", \"units\": 3", "[[[\"x\", 0, 0, {\"mask\": [[\"m\", 0, 0], [\"m\", 0, 0]]}]]]"),
                   "[0][0][3].mask: expected one tensor", NULL);
    assert_refused(MASKED("Dense", ", \"units\": 3", "[[[\"x\", 0, 0, {\"mask\": [\"m\", 0, 0]}]]]"),
                   "[0][0][3].mask: Dense takes no mask as an argument", NULL);
}

/* A Bidirectional encoder gives four states, and its decoder takes them: the first half forward. */
static void states_of_both_directions(void **state) {
    (void)state;
    ls_model *m =
        build(MODEL(INPUT("a", "5, 2") ", " LAYER(
                        "Bidirectional", "enc", ", \"layer\": " LSTM(", \"return_state\": true"),
                        "[[[\"a\", 0, 0, {}]]]") ", " LAYER("Bidirectional", "dec", ", \"layer\": " LSTM(""),
                                                            "[[[\"a\", 0, 0, {}], [\"enc\", 0, 1, {}], [\"enc\", 0, 2, "
                                                            "{}], [\"enc\", 0, 3, {}], [\"enc\", 0, 4, "
                                                            "{}]]]"),
                    "[[\"a\", 0, 0]]", "dec"));
    const ls_node *forward = m->nodes[3], *backward = m->nodes[4];
    assert_ptr_equal(forward->in[1], m->nodes[0]->out[1]);
    assert_ptr_equal(forward->in[2], m->nodes[0]->out[2]);
    assert_ptr_equal(backward->in[1], m->nodes[1]->out[1]);
    assert_ptr_equal(backward->in[2], m->nodes[1]->out[2]);
    ls_model_destroy(m);
}

/* ---- masks ---- */

#define EMBED(name) L("Embedding", name, ", \"input_dim\": 9, \"output_dim\": 4, \"mask_zero\": true")

static void masks_travel(void **state) {
    (void)state;
    ls_model *m = build_sequential(
        "5", EMBED("e") ", " L("Dropout", "d", ", \"rate\": 0.5") ", " LSTM(", \"return_sequences\": true") ", " L(
                 "TimeDistributed", "td", ", \"layer\": " L("Dense", "dense", ", \"units\": 2")));
    assert_int_equal(m->inputs[0]->dtype, LS_I32);
    assert_non_null(m->outputs[0]->mask);
    assert_ptr_equal(m->outputs[0]->mask->producer->op, &ls_op_mask);
    ls_model_destroy(m);
    static const char *const ends[] = {LSTM(""), L("Flatten", "f", ""), L("GlobalAveragePooling1D", "g", ""),
                                       L("Bidirectional", "b", ", \"layer\": " LSTM(""))};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char *layers = ls_xprintf("%s, %s", EMBED("e"), ends[i]);
        m = build_sequential("5", layers);
        assert_null(m->outputs[0]->mask);
        ls_model_destroy(m);
        free(layers);
    }
    m = build_sequential("5, 2", L("Masking", "m", ", \"mask_value\": -1") ", " L(
                                     "Bidirectional", "b", ", \"layer\": " LSTM(", \"return_sequences\": true")));
    assert_non_null(m->outputs[0]->mask);
    assert_ptr_equal(m->outputs[0]->mask, m->layers[1]->out[0]->mask);
    ls_model_destroy(m);
}

static void masks_of_merges(void **state) {
    (void)state;
    static const struct {
        const char *class_name, *config;
        const ls_operator *op; /* that makes the output's mask */
    } rows[] = {
        {"Add", "", &ls_op_merge}, {"Concatenate", "", &ls_op_merge}, {"Concatenate", ", \"axis\": 1", &ls_op_concat}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *text = ls_xprintf(
            MODEL(INPUT("a", "5") ", " INPUT("b", "5") ", " LAYER(
                      "Embedding", "x", ", \"input_dim\": 9, \"output_dim\": 4, \"mask_zero\": true",
                      "[[[\"a\", 0, 0, {}]]]") ", " LAYER("Embedding", "y",
                                                          ", \"input_dim\": 9, \"output_dim\": 4, \"mask_zero\": true",
                                                          "[[[\"b\", 0, 0, {}]]]") ", {\"class_name\": \"%s\", "
                                                                                   "\"name\": \"z\", \"config\": "
                                                                                   "{\"name\": \"z\"%s}, "
                                                                                   "\"inbound_nodes\": [[[\"x\", 0, 0, "
                                                                                   "{}], "
                                                                                   "[\"y\", 0, 0, {}]]]}",
                  "[[\"a\", 0, 0], [\"b\", 0, 0]]", "z"),
            rows[i].class_name, rows[i].config);
        ls_model *m = build(text);
        assert_non_null(m->outputs[0]->mask);
        assert_ptr_equal(m->outputs[0]->mask->producer->op, rows[i].op);
        ls_model_destroy(m);
        free(text);
    }
}

/* Numbers that something else reads too stay floats. */
static void integers_only_where_all_want_them(void **state) {
    (void)state;
    ls_model *m = build(
        MODEL(INPUT("a", "4") ", " LAYER(
                  "Embedding", "e", ", \"input_dim\": 9, \"output_dim\": 4",
                  "[[[\"a\", 0, 0]]]") ", " LAYER("Flatten", "f", "",
                                                  "[[[\"e\", 0, 0]]]") ", " LAYER("Concatenate", "c", "",
                                                                                  "[[[\"f\", 0, 0], [\"a\", 0, 0]]]"),
              "[[\"a\", 0, 0]]", "c"));
    assert_int_equal(m->inputs[0]->dtype, LS_F32);
    ls_model_destroy(m);
}

/* Sentences of words: the mask of words is the inner layer's, and a sentence counts where any word of it does. */
static void masks_of_several_axes(void **state) {
    (void)state;
    ls_model *m = build_sequential(
        "3, 5", L("Embedding", "e", ", \"input_dim\": 9, \"output_dim\": 4, \"mask_zero\": true") ", " L(
                    "TimeDistributed", "each", ", \"layer\": " LSTM("")) ", " L("GRU", "over", ", \"units\": 2"));
    const ls_node *inner = NULL, *outer = NULL;
    for (int i = 0; i < m->n_nodes; i++) {
        if (m->nodes[i]->op == &ls_op_rnn) {
            inner = inner == NULL ? m->nodes[i] : inner;
            outer = m->nodes[i];
        }
    }
    assert_ptr_not_equal(inner, outer);
    const ls_tensor *words = inner->in[0]->mask, *sentences = outer->in[0]->mask;
    assert_int_equal(words->rows, 3);
    assert_int_equal(ls_shape_elems(&words->shape), 5);
    assert_true(sentences->rows == 1 && sentences->shape.rank == 1 && sentences->shape.dim[0] == 3);
    assert_ptr_equal(sentences->producer->op, &ls_op_mask);
    ls_model_destroy(m);
}

static void refused(const char *layers, const char *a, const char *b) {
    char *text = sequential("5, 2", layers);
    assert_refused(text, a, b, NULL);
    free(text);
}

static void complaints(void **state) {
    (void)state;
    refused(LSTM(", \"time_major\": true"), "time_major", "expected false");
    refused(L("LSTM", "x", ""), "\"units\" is missing", "(layer \"x\", LSTM)");
    refused(LSTM("") ", " L("GRU", "x", ", \"units\": 2"), "layer \"x\" (GRU): expects an input of 3 axes",
            "(None, 3)");
    refused(LSTM(", \"recurrent_activation\": \"sigmoud\""), "did you mean \"sigmoid\"?", "layer \"lstm\"");
    refused(L("GRU", "x", ", \"units\": 2, \"unit_forget_bias\": true"), "unknown key", "unit_forget_bias");
    refused(L("Bidirectional", "x", ", \"layer\": " L("Dense", "d", ", \"units\": 2")), "wraps recurrent layers",
            "found Dense");
    refused(L("Bidirectional", "x", ", \"layer\": " LSTM("") ", \"backward_layer\": " LSTM("")), "backward_layer",
            "the other \"go_backwards\"");
    refused(L("Bidirectional", "x",
              ", \"merge_mode\": \"sum\", \"layer\": " LSTM("") ", \"backward_layer\": " L(
                  "LSTM", "y", ", \"units\": 4, \"go_backwards\": true")),
            "different units", "\"concat\"");
    refused(L("LSTMCell", "x", ", \"units\": 2"), "is a cell, not a layer", "layer \"x\"");
    refused(L("RNN", "x", ""), "\"cell\" is missing", "layer \"x\"");
    refused(L("RNN", "x", ", \"cell\": " LSTM("")), "expected a cell", "found LSTM");
    refused(L("Bidirectional", "x", ", \"merge_mode\": \"max\", \"layer\": " LSTM("")), "merge_mode", "\"concat\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_named_after_the_cell),
        cmocka_unit_test(forget_gates_begin_open),
        cmocka_unit_test(jordan_has_a_kernel_for_its_output),
        cmocka_unit_test(directions),
        cmocka_unit_test(masks_of_several_axes),
        cmocka_unit_test(initial_states_in_every_spelling),
        cmocka_unit_test(states_of_both_directions),
        cmocka_unit_test(masks_as_arguments),
        cmocka_unit_test(masks_travel),
        cmocka_unit_test(masks_of_merges),
        cmocka_unit_test(integers_only_where_all_want_them),
        cmocka_unit_test(complaints),
        cmocka_unit_test(cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
