/* Functional models: both styles of inbound_nodes, shared and nested layers, several inputs and outputs, the order. */
#include "tests/unit/worker/model_fixture.h"

#define INPUT(name, shape)                                                                                       \
    "{\"class_name\": \"InputLayer\", \"name\": \"" name "\", \"config\": {\"batch_input_shape\": [null, " shape \
    "], \"dtype\": \"float32\", \"sparse\": false, \"ragged\": false, \"name\": \"" name "\"}, \"inbound_nodes\": []}"
#define LAYER(class_, name, config, nodes)                                                                \
    "{\"class_name\": \"" class_ "\", \"name\": \"" name "\", \"config\": {\"name\": \"" name "\"" config \
    "}, "                                                                                                 \
    "\"inbound_nodes\": " nodes "}"
#define MODEL(layers, inputs, outputs)                                                    \
    "{\"class_name\": \"Functional\", \"config\": {\"name\": \"m\", \"layers\": [" layers \
    "], \"input_layers\": " inputs ", \"output_layers\": " outputs "}}"
#define TENSOR(layer, node)                                                                              \
    "{\"class_name\": \"__keras_tensor__\", \"config\": {\"shape\": [null, 4], \"dtype\": \"float32\", " \
    "\"keras_history\": [\"" layer "\", " node ", 0]}}"

static const char *const old_style =
    MODEL(INPUT("x", "4") "," LAYER("Dense", "a", ", \"units\": 4", "[[[\"x\", 0, 0, {}]]]") "," LAYER(
              "Add", "add", "", "[[[\"x\", 0, 0, {}], [\"a\", 0, 0]]]"),
          "[\"x\", 0, 0]", "[[\"add\", 0, 0]]");
static const char *const new_style =
    MODEL(INPUT("x", "4") "," LAYER(
              "Dense", "a", ", \"units\": 4",
              "[{\"args\": [" TENSOR(
                  "x", "0") "], \"kwargs\": {}}]") "," LAYER("Add", "add", "",
                                                             "[{\"args\": [[" TENSOR("x", "0") ", " TENSOR(
                                                                 "a", "0") "]], \"kwargs\": {\"mask\": null}}]"),
          "[[\"x\", 0, 0]]", "[\"add\", 0, 0]");

static void both_styles_give_the_same_graph(void **state) {
    (void)state;
    const char *texts[] = {old_style, new_style};
    for (int i = 0; i < 2; i++) {
        ls_model *m = build(texts[i]);
        assert_false(m->sequential);
        assert_int_equal(m->n_nodes, 2);
        assert_ptr_equal(m->nodes[0]->op, &ls_op_dense);
        assert_ptr_equal(m->nodes[1]->op, &ls_op_merge);
        assert_ptr_equal(m->nodes[1]->in[0], m->inputs[0]);
        assert_ptr_equal(m->nodes[1]->in[1], m->nodes[0]->out[0]);
        assert_int_equal(m->inputs[0]->n_consumers, 2);
        assert_ptr_equal(m->outputs[0], m->nodes[1]->out[0]);
        assert_int_equal(m->layers[2]->n_links, 2);
        assert_string_equal(m->layers[2]->links[1], "a[0][0]");
        ls_model_destroy(m);
    }
}

static void shared_layer_has_one_set_of_weights(void **state) {
    (void)state;
    ls_model *m = build(MODEL(INPUT("l", "5") "," INPUT("r", "5") "," LAYER(
                                  "Dense", "shared", ", \"units\": 6, \"activation\": \"tanh\"",
                                  "[[[\"l\", 0, 0, {}]], [[\"r\", 0, 0, {}]]]") "," LAYER("Subtract", "diff", "",
                                                                                          "[[[\"shared\", 1, 0, {}], "
                                                                                          "[\"shared\", 0, 0, {}]]]"),
                              "[[\"l\", 0, 0], [\"r\", 0, 0]]", "[[\"diff\", 0, 0]]"));
    assert_int_equal(m->n_inputs, 2);
    assert_string_equal(m->input_names[1], "r");
    assert_int_equal(m->n_weights, 2);
    assert_int_equal(m->layers[2]->n_calls, 2);
    assert_int_equal(m->n_nodes, 5);
    const ls_node *diff = m->nodes[4];
    assert_ptr_equal(diff->in[0]->producer->in[0]->producer->in[0], m->inputs[1]); /* the second call comes first */
    assert_ptr_equal(diff->in[1]->producer->in[0]->producer->in[0], m->inputs[0]);
    assert_ptr_equal(m->nodes[0]->weights[0], m->weights[0]);
    ls_model_destroy(m);
}

#define BLOCK(nodes) \
    "{\"class_name\": \"Functional\", \"name\": \"block\", \"config\": {\"name\": \"block\", \"layers\": [" INPUT(   \
        "bx", "4") ", " LAYER("Dense", "d", ", \"units\": 4", "[[[\"bx\", 0, 0, {}]]]") ", " LAYER(                  \
        "BatchNormalization", "bn", "", "[[[\"d\", 0, 0, {}]]]") ", " LAYER("Dropout", "drop", ", \"rate\": 0.5",   \
                                                                         "[[[\"bn\", 0, 0, {}]]]")                   \
    "], \"input_layers\": [[\"bx\", 0, 0]], \"output_layers\": [[\"drop\", 0, 0]]}, \"inbound_nodes\": " nodes "}"

/* Keras 2 counts a nested model's calls from 1, Keras 3 a nested Sequential's from 0. */
static void nested_model_counts_from_one_or_zero(void **state) {
    (void)state;
    const char *texts[] = {
        MODEL(INPUT("x", "4") "," BLOCK("[[[\"x\", 0, 0, {}]]]") "," LAYER("Dense", "out", ", \"units\": 2",
                                                                           "[[[\"block\", 1, 0, {}]]]"),
              "[[\"x\", 0, 0]]", "[[\"out\", 0, 0]]"),
        MODEL(INPUT("x", "4") "," BLOCK("[[[\"x\", 0, 0, {}]]]") "," LAYER("Dense", "out", ", \"units\": 2",
                                                                           "[[[\"block\", 0, 0, {}]]]"),
              "[[\"x\", 0, 0]]", "[[\"out\", 0, 0]]"),
    };
    for (int i = 0; i < 2; i++) {
        ls_model *m = build(texts[i]);
        assert_int_equal(m->n_layers, 3);
        assert_int_equal(m->n_weights, 8);
        assert_weight(m, 0, "d/kernel:0", "(4, 4)");
        assert_weight(m, 4, "bn/moving_mean:0", "(4,)");
        assert_weight(m, 6, "out/kernel:0", "(4, 2)");
        assert_int_equal(m->n_nodes, 4);
        ls_model_destroy(m);
    }
}

static void shared_nested_model_and_training_false(void **state) {
    (void)state;
    ls_model *m =
        build(MODEL(INPUT("x", "4") "," BLOCK("[[[\"x\", 0, 0, {\"training\": false}]], [[\"block\", 1, 0, {}]]]"),
                    "[[\"x\", 0, 0]]", "[[\"block\", 2, 0]]"));
    assert_int_equal(m->n_weights, 6);
    assert_int_equal(m->n_nodes, 5); /* dense, norm; dense, norm, dropout: none at training=False */
    assert_true(((const ls_batch_norm_attr *)m->nodes[1]->attr)->frozen);
    assert_false(((const ls_batch_norm_attr *)m->nodes[3]->attr)->frozen);
    assert_true(m->weights[0]->trainable);
    ls_model_destroy(m);
}

/* Two levels deep, the paths of weights stay different. */
static void deep_weights_have_distinct_paths(void **state) {
    (void)state;
    static const char *const inner =
        "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"%s\", \"layers\": [{\"class_name\": \"Dense\", "
        "\"config\": {\"name\": \"dense\", \"units\": 4}}]}}";
    char *one = ls_xprintf(inner, "one"), *two = ls_xprintf(inner, "two");
    char *layers =
        ls_xprintf("{\"class_name\": \"Sequential\", \"config\": {\"name\": \"top\", \"layers\": [%s, %s]}}", one, two);
    ls_model *m = build_sequential("4", layers);
    assert_weight(m, 0, "one/dense/kernel:0", "(4, 4)");
    assert_weight(m, 2, "two/dense/kernel:0", "(4, 4)");
    free(one);
    free(two);
    free(layers);
    ls_model_destroy(m);
}

/* Written in any order, layers come by decreasing distance from the outputs, then as a walk from the outputs meets
 * them: where Keras looks for their weights. */
static void layers_are_in_keras_order(void **state) {
    (void)state;
    ls_model *m =
        build(MODEL(LAYER("Add", "sum", "", "[[[\"long2\", 0, 0, {}], [\"short\", 0, 0, {}]]]") "," LAYER(
                        "Dense", "short", ", \"units\": 2",
                        "[[[\"x\", 0, 0, {}]]]") "," LAYER("Dense", "long2", ", \"units\": 2",
                                                           "[[[\"long1\", 0, 0, {}]]]") "," LAYER("Dense", "unused",
                                                                                                  ", \"units\": 2",
                                                                                                  "[[[\"x\", 0, 0, "
                                                                                                  "{}]]]") "," LAYER("D"
                                                                                                                     "e"
                                                                                                                     "n"
                                                                                                                     "s"
                                                                                                                     "e",
                                                                                                                     "l"
                                                                                                                     "o"
                                                                                                                     "n"
                                                                                                                     "g"
                                                                                                                     "1",
                                                                                                                     ","
                                                                                                                     " "
                                                                                                                     "\"units\": 2",
                                                                                                                     "["
                                                                                                                     "["
                                                                                                                     "["
                                                                                                                     "\"x\", 0, 0, {}]]]") "," INPUT("x",
                                                                                                                                                     "3"),
                    "[[\"x\", 0, 0]]", "[[\"sum\", 0, 0]]"));
    static const char *const names[] = {"x", "long1", "long2", "short", "sum"};
    assert_int_equal(m->n_layers, 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(m->layers[i]->name, names[i]);
        assert_int_equal(m->layers[i]->id, i);
    }
    ls_model_destroy(m);
}

static void several_outputs_and_an_unused_input(void **state) {
    (void)state;
    ls_model *m =
        build(MODEL(INPUT("x", "3") "," INPUT("idle", "2") "," LAYER(
                        "Dense", "a", ", \"units\": 2",
                        "[[[\"x\", 0, 0, {}]]]") "," LAYER("Dense", "b", ", \"units\": 1", "[[[\"a\", 0, 0, {}]]]"),
                    "[[\"idle\", 0, 0], [\"x\", 0, 0]]", "[[\"b\", 0, 0], [\"a\", 0, 0]]"));
    assert_int_equal(m->n_outputs, 2);
    assert_string_equal(m->output_names[0], "b");
    assert_int_equal(m->outputs[1]->n_consumers, 2); /* b and the model's output */
    assert_string_equal(m->input_names[0], "idle");
    assert_int_equal(m->inputs[0]->n_consumers, 0);
    ls_model_destroy(m);
}

static void time_distributed_counts_time_as_batch(void **state) {
    (void)state;
    ls_model *m = build_sequential(
        "3, 5, 5, 2",
        "{\"class_name\": \"TimeDistributed\", \"config\": {\"name\": \"td\", \"layer\": {\"class_name\": "
        "\"Conv2D\", \"config\": {\"name\": \"c\", \"filters\": 4, \"kernel_size\": 2, \"activation\": "
        "\"relu\"}}}}");
    assert_weight(m, 0, "td/kernel:0", "(2, 2, 2, 4)");
    assert_int_equal(m->n_nodes, 4); /* view, convolution, relu, view */
    assert_int_equal(m->nodes[1]->in[0]->rows, 3);
    assert_shape(&m->nodes[1]->in[0]->shape, "(5, 5, 2)");
    assert_int_equal(m->outputs[0]->rows, 1);
    assert_shape(&m->outputs[0]->shape, "(3, 4, 4, 4)");
    ls_model_destroy(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_styles_give_the_same_graph),
        cmocka_unit_test(shared_layer_has_one_set_of_weights),
        cmocka_unit_test(nested_model_counts_from_one_or_zero),
        cmocka_unit_test(shared_nested_model_and_training_false),
        cmocka_unit_test(deep_weights_have_distinct_paths),
        cmocka_unit_test(layers_are_in_keras_order),
        cmocka_unit_test(several_outputs_and_an_unused_input),
        cmocka_unit_test(time_distributed_counts_time_as_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
