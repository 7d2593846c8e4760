/* Sequential and Functional models from every spelling of their configuration. */
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
    }
    assert_shape(&m->outputs[0]->shape, "(10,)");
    assert_int_equal(m->outputs[0]->n_consumers, 1);
    assert_null(m->outputs[0]->consumers[0]);
    assert_string_equal(m->input_names[0], "in");
    assert_string_equal(m->output_names[0], "dense");
    ls_model_destroy(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequential_cnn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
