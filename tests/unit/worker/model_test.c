/* Sequential models from every spelling of their configuration; weights, inputs, consumers. */
#include "tests/unit/worker/model_fixture.h"

static const char *const cnn =
    "{\"class_name\": \"Conv2D\", \"config\": {\"name\": \"conv2d\", \"filters\": 8, \"kernel_size\": [3, 3], "
    "\"activation\": \"relu\"}},"
    "{\"class_name\": \"MaxPooling2D\", \"config\": {\"name\": \"pool\", \"pool_size\": [2, 2]}},"
    "{\"class_name\": \"Dropout\", \"config\": {\"name\": \"dropout\", \"rate\": 0.25}},"
    "{\"class_name\": \"Flatten\", \"config\": {\"name\": \"flatten\"}},"
    "{\"class_name\": \"Dense\", \"config\": {\"name\": \"dense\", \"units\": 10, \"activation\": \"softmax\"}}";

static void sequential_cnn(void **state) {
    (void)state;
    ls_model *m = build_sequential("28, 28, 1", cnn);
    assert_true(m->sequential);
    assert_int_equal(m->n_layers, 6);
    assert_int_equal(m->n_weights, 4);
    assert_weight(m, 0, "conv2d/kernel:0", "(3, 3, 1, 8)");
    assert_weight(m, 1, "conv2d/bias:0", "(8,)");
    assert_weight(m, 2, "dense/kernel:0", "(1352, 10)");
    assert_weight(m, 3, "dense/bias:0", "(10,)");
    const ls_operator *ops[] = {&ls_op_conv, &ls_op_activation, &ls_op_pool,      &ls_op_dropout,
                                &ls_op_view, &ls_op_dense,      &ls_op_activation};
    assert_int_equal(m->n_nodes, 7);
    for (int i = 0; i < 7; i++) {
        assert_ptr_equal(m->nodes[i]->op, ops[i]);
        assert_int_equal(m->nodes[i]->id, i);
        assert_int_equal(m->nodes[i]->in[0]->n_consumers, 1);
        assert_ptr_equal(m->nodes[i]->in[0]->consumers[0], m->nodes[i]);
    }
    assert_shape(&m->outputs[0]->shape, "(10,)");
    assert_int_equal(m->outputs[0]->n_consumers, 1);
    assert_null(m->outputs[0]->consumers[0]);
    assert_string_equal(m->input_names[0], "in");
    assert_string_equal(m->output_names[0], "dense");
    assert_int_equal(ls_layer_count_params(m->layers[5], false), 13530);
    ls_model_destroy(m);
}

/* The four places where the input's shape may stand, and Keras's oldest form of "config". */
static void input_shape_spellings(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"class_name\": \"Sequential\", \"config\": {\"layers\": [{\"class_name\": \"Dense\", \"config\": {\"name\": "
        "\"d\", \"units\": 3, \"batch_input_shape\": [null, 5]}}]}}",
        "{\"class_name\": \"Sequential\", \"config\": [{\"class_name\": \"Dense\", \"config\": {\"name\": "
        "\"d\", \"units\": 3, \"input_dim\": 5}}]}",
        "{\"class_name\": \"Sequential\", \"config\": {\"layers\": [{\"class_name\": \"Dense\", \"config\": {\"name\": "
        "\"d\", \"units\": 3}}], \"build_input_shape\": [null, 5]}}",
        "{\"module\": \"keras\", \"class_name\": \"Sequential\", \"config\": {\"name\": \"s\", \"layers\": "
        "[{\"module\": \"keras.layers\", \"class_name\": \"InputLayer\", \"config\": {\"batch_shape\": "
        "{\"class_name\": "
        "\"__tuple__\", \"items\": [null, 5]}, \"dtype\": \"float32\", \"sparse\": false, \"name\": \"d_input\"}, "
        "\"registered_name\": null}, {\"module\": \"keras.layers\", \"class_name\": \"Dense\", \"config\": {\"name\": "
        "\"d\", \"trainable\": true, \"dtype\": {\"module\": \"keras\", \"class_name\": \"DTypePolicy\", \"config\": "
        "{\"name\": \"float32\"}, \"registered_name\": null}, \"units\": 3, \"activation\": {\"module\": \"builtins\", "
        "\"class_name\": \"function\", \"config\": \"linear\", \"registered_name\": \"function\"}, "
        "\"kernel_initializer\": {\"module\": \"keras.initializers\", \"class_name\": \"HeNormal\", \"config\": "
        "{\"seed\": null}, \"registered_name\": null}}, \"registered_name\": null, \"build_config\": "
        "{\"input_shape\": [null, 5]}}]}, \"registered_name\": null, \"compile_config\": {\"loss\": \"mse\"}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        bool wants_data = i == 2;
        ls_model *m = NULL;
        ls_err err = LS_ERR_INIT;
        ls_shape five = {.rank = 1, .dim = {5}};
        if (try_build(&m, texts[i], wants_data ? &five : NULL, wants_data, &err) != LS_OK) {
            fail_msg("form %zu: %s", i, err.text);
        }
        assert_int_equal(m->n_layers, 2);
        assert_string_equal(m->layers[0]->name, "d_input");
        assert_true(m->layers[0]->builtin_input);
        assert_weight(m, 0, "d/kernel:0", "(5, 3)");
        assert_shape(&m->inputs[0]->shape, "(5,)");
        ls_model_destroy(m);
    }
}

static void data_fills_open_dimensions(void **state) {
    (void)state;
    char *text = sequential("null, null, 3", "{\"class_name\": \"GlobalAveragePooling2D\", \"config\": {}}");
    ls_model *m = NULL;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(try_build(&m, text, NULL, 0, &err), LS_EINPUT);
    assert_non_null(strstr(err.text, "leaves a dimension open"));
    ls_shape data = {.rank = 3, .dim = {7, 9, 3}};
    assert_int_equal(try_build(&m, text, &data, 1, &err), LS_OK);
    assert_shape(&m->inputs[0]->shape, "(7, 9, 3)");
    ls_model_destroy(m);
    data.dim[2] = 4;
    assert_int_equal(try_build(&m, text, &data, 1, &err), LS_EINPUT);
    assert_non_null(strstr(err.text, "input \"in\" has the shape (-1, -1, 3) (-1: any), but the data has (7, 9, 4)"));
    free(text);
}

static void data_without_a_channel_axis_fits(void **state) {
    (void)state;
    char *text = sequential("8, 8, 1", "{\"class_name\": \"Flatten\", \"config\": {}}");
    ls_model *m = NULL;
    ls_err err = LS_ERR_INIT;
    ls_shape data = {.rank = 2, .dim = {8, 8}}, wrong = {.rank = 2, .dim = {8, 9}};
    assert_int_equal(try_build(&m, text, &data, 1, &err), LS_OK);
    assert_shape(&m->inputs[0]->shape, "(8, 8, 1)");
    ls_model_destroy(m);
    assert_int_equal(try_build(&m, text, &wrong, 1, &err), LS_EINPUT);
    assert_int_equal(try_build(&m, text, (ls_shape[]){data, data}, 2, &err), LS_EINPUT);
    assert_non_null(strstr(err.text, "takes 1 input, but the data has 2"));
    free(text);
}

static void trainable_weights_come_first_in_a_layer(void **state) {
    (void)state;
    ls_model *m = build_sequential(
        "4",
        "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"block\", \"layers\": ["
        "{\"class_name\": \"Dense\", \"config\": {\"name\": \"frozen\", \"units\": 2, \"trainable\": false}},"
        "{\"class_name\": \"BatchNormalization\", \"config\": {\"name\": \"bn\", \"momentum\": 0.9}},"
        "{\"class_name\": \"Dense\", \"config\": {\"name\": \"free\", \"units\": 3, \"use_bias\": false}}]}},"
        "{\"class_name\": \"Dense\", \"config\": {\"name\": \"head\", \"units\": 1}}");
    static const struct {
        const char *path, *shape;
        bool trainable;
        ls_weight_role role;
    } rows[] = {
        {"bn/gamma:0", "(2,)", true, LS_WEIGHT_PARAM},           {"bn/beta:0", "(2,)", true, LS_WEIGHT_PARAM},
        {"free/kernel:0", "(2, 3)", true, LS_WEIGHT_PARAM},      {"frozen/kernel:0", "(4, 2)", false, LS_WEIGHT_PARAM},
        {"frozen/bias:0", "(2,)", false, LS_WEIGHT_PARAM},       {"bn/moving_mean:0", "(2,)", false, LS_WEIGHT_STAT},
        {"bn/moving_variance:0", "(2,)", false, LS_WEIGHT_STAT}, {"head/kernel:0", "(3, 1)", true, LS_WEIGHT_PARAM},
        {"head/bias:0", "(1,)", true, LS_WEIGHT_PARAM},
    };
    assert_int_equal(m->n_weights, 9);
    for (int i = 0; i < 9; i++) {
        assert_weight(m, i, rows[i].path, rows[i].shape);
        assert_int_equal(m->weights[i]->trainable, rows[i].trainable);
        assert_int_equal(m->weights[i]->role, rows[i].role);
    }
    assert_true(m->weights[5]->momentum == 0.9);
    assert_string_equal(m->weights[0]->layer->path, "block/bn");
    assert_string_equal(m->weights[0]->layer->parent->name, "block");
    ls_model_destroy(m);
}

/* A frozen model freezes what is in it; its batch normalization uses the moving statistics. */
static void frozen_model(void **state) {
    (void)state;
    ls_model *m = build_sequential(
        "4",
        "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"block\", \"trainable\": false, \"layers\": ["
        "{\"class_name\": \"BatchNormalization\", \"config\": {\"name\": \"bn\", \"trainable\": true}}]}},"
        "{\"class_name\": \"BatchNormalization\", \"config\": {\"name\": \"after\"}}");
    assert_false(m->weights[0]->trainable);
    assert_true(((const ls_batch_norm_attr *)m->nodes[0]->attr)->frozen);
    assert_false(((const ls_batch_norm_attr *)m->nodes[1]->attr)->frozen);
    assert_true(m->weights[4]->trainable);
    ls_model_destroy(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequential_cnn),
        cmocka_unit_test(input_shape_spellings),
        cmocka_unit_test(data_fills_open_dimensions),
        cmocka_unit_test(data_without_a_channel_axis_fits),
        cmocka_unit_test(trainable_weights_come_first_in_a_layer),
        cmocka_unit_test(frozen_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
