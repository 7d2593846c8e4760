/* The configuration that checkpoints hold: Keras 2's form, readable again, without what Keras 3 refuses. */
#include "tests/unit/worker/model_fixture.h"

static json_t *written(const ls_model *m) {
    char *text = ls_model_config_text(m);
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    free(text);
    return root;
}

static void assert_json(json_t *actual, const char *expected) {
    json_t *wanted = json_loads(expected, 0, NULL);
    assert_non_null(wanted);
    if (!json_equal(actual, wanted)) {
        fail_msg("written: %s\nexpected: %s", json_dumps(actual, JSON_COMPACT | JSON_SORT_KEYS),
                 json_dumps(wanted, JSON_COMPACT | JSON_SORT_KEYS));
    }
    json_decref(wanted);
}

static void an_input_layer_is_put_in_front(void **state) {
    (void)state;
    ls_model *m = build(
        "{\"class_name\": \"Sequential\", \"config\": [{\"class_name\": \"Dense\", \"config\": {\"name\": \"d\", "
        "\"units\": 3, \"batch_input_shape\": [null, 5]}}]}");
    json_t *root = written(m);
    assert_json(root,
                "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"sequential\", \"layers\": [{\"class_name\": "
                "\"InputLayer\", \"config\": {\"batch_input_shape\": [null, 5], \"dtype\": \"float32\", \"sparse\": "
                "false, \"ragged\": false, \"name\": \"d_input\"}}, {\"class_name\": \"Dense\", \"config\": {\"name\": "
                "\"d\", \"units\": 3, \"batch_input_shape\": [null, 5]}}]}}");
    json_decref(root);
    ls_model_destroy(m);
}

static void keras_3_becomes_keras_2(void **state) {
    (void)state;
    ls_model *m = build(
        "{\"module\": \"keras\", \"class_name\": \"Functional\", \"config\": {\"name\": \"f\", \"trainable\": true, "
        "\"layers\": [{\"module\": \"keras.layers\", \"class_name\": \"InputLayer\", \"config\": {\"batch_shape\": "
        "[null, 4], \"dtype\": \"float32\", \"sparse\": false, \"name\": \"x\"}, \"registered_name\": null, \"name\": "
        "\"x\", \"inbound_nodes\": []}, {\"module\": \"keras.layers\", \"class_name\": \"Dense\", \"config\": "
        "{\"name\": \"d\", \"dtype\": {\"module\": \"keras\", \"class_name\": \"DTypePolicy\", \"config\": {\"name\": "
        "\"float32\"}, \"registered_name\": null}, \"units\": 2, \"kernel_initializer\": {\"module\": "
        "\"keras.initializers\", \"class_name\": \"GlorotUniform\", \"config\": {\"seed\": null}, \"registered_name\": "
        "null}}, \"registered_name\": null, \"build_config\": {\"input_shape\": [null, 4]}, \"name\": \"d\", "
        "\"inbound_nodes\": [{\"args\": [{\"class_name\": \"__keras_tensor__\", \"config\": {\"shape\": [null, 4], "
        "\"dtype\": \"float32\", \"keras_history\": [\"x\", 0, 0]}}], \"kwargs\": {\"training\": null}}]}, "
        "{\"module\": \"keras.layers\", \"class_name\": \"LeakyReLU\", \"config\": {\"name\": \"l\", "
        "\"negative_slope\": 0.5}, \"name\": \"l\", \"inbound_nodes\": [{\"args\": [{\"class_name\": "
        "\"__keras_tensor__\", \"config\": {\"keras_history\": [\"d\", 0, 0]}}], \"kwargs\": {}}]}], "
        "\"input_layers\": [\"x\", 0, 0], \"output_layers\": [[\"l\", 0, 0]]}, \"registered_name\": null}");
    json_t *root = written(m);
    assert_json(root,
                "{\"class_name\": \"Functional\", \"config\": {\"name\": \"f\", \"layers\": [{\"class_name\": "
                "\"InputLayer\", \"config\": {\"batch_input_shape\": [null, 4], \"dtype\": \"float32\", \"sparse\": "
                "false, \"ragged\": false, \"name\": \"x\"}, \"name\": \"x\", \"inbound_nodes\": []}, {\"class_name\": "
                "\"Dense\", \"config\": {\"name\": \"d\", \"dtype\": \"float32\", \"units\": 2, "
                "\"kernel_initializer\": {\"class_name\": \"GlorotUniform\", \"config\": {\"seed\": null}}}, \"name\": "
                "\"d\", \"inbound_nodes\": [[[\"x\", 0, 0, {}]]]}, {\"class_name\": \"LeakyReLU\", \"config\": "
                "{\"name\": \"l\", \"alpha\": 0.5}, \"name\": \"l\", \"inbound_nodes\": [[[\"d\", 0, 0, {}]]]}], "
                "\"input_layers\": [[\"x\", 0, 0]], \"output_layers\": [[\"l\", 0, 0]]}}");
    json_decref(root);
    ls_model_destroy(m);
}

/* The written text builds the same model, and is written alike again. */
static void round_trip(void **state) {
    (void)state;
    ls_model *m = build_sequential(
        "6, 6, 2",
        "{\"class_name\": \"DepthwiseConv2D\", \"config\": {\"name\": \"dw\", \"kernel_size\": [3, 3], \"groups\": "
        "1}}, "
        "{\"class_name\": \"SpatialDropout2D\", \"config\": {\"name\": \"sd\", \"trainable\": true, \"rate\": 0.1, "
        "\"noise_shape\": null}}, {\"class_name\": \"Functional\", \"config\": {\"name\": \"inner\", \"layers\": "
        "[{\"class_name\": \"InputLayer\", \"config\": {\"batch_input_shape\": [null, 4, 4, 2], \"name\": \"ix\"}, "
        "\"inbound_nodes\": []}, {\"class_name\": \"Flatten\", \"config\": {\"name\": \"fl\"}, \"inbound_nodes\": "
        "[[[\"ix\", 0, 0, {}]]]}], \"input_layers\": [[\"ix\", 0, 0]], \"output_layers\": [[\"fl\", 0, 0]]}}");
    char *text = ls_model_config_text(m);
    json_t *root = written(m), *layers = json_object_get(json_object_get(root, "config"), "layers");
    json_t *depthwise = json_object_get(json_array_get(layers, 1), "config");
    assert_null(json_object_get(depthwise, "groups"));
    assert_non_null(json_object_get(depthwise, "kernel_size"));
    json_t *spatial = json_object_get(json_array_get(layers, 2), "config");
    assert_null(json_object_get(spatial, "trainable"));
    assert_null(json_object_get(spatial, "noise_shape"));
    ls_model *again = build(text);
    assert_int_equal(again->n_nodes, m->n_nodes);
    assert_int_equal(again->n_weights, m->n_weights);
    char *twice = ls_model_config_text(again);
    assert_string_equal(text, twice);
    free(text);
    free(twice);
    json_decref(root);
    ls_model_destroy(m);
    ls_model_destroy(again);
}

/* Keras knows "synchronized" since 2.12: what trains otherwise without it keeps it, what does not is read by all. */
static void synchronized_where_it_is_true(void **state) {
    static const char *const said[] = {"", ", \"synchronized\": false", ", \"synchronized\": true"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        char *layers = ls_xprintf("{\"class_name\": \"BatchNormalization\", \"config\": {\"name\": \"b\"%s}}", said[i]);
        ls_model *m = build_sequential("4", layers);
        json_t *root = written(m);
        json_t *config =
            json_object_get(json_array_get(json_object_get(json_object_get(root, "config"), "layers"), 1), "config");
        assert_non_null(config);
        assert_true(json_is_true(json_object_get(config, "synchronized")) == (i == 2));
        assert_int_equal(json_object_size(config), i == 2 ? 2 : 1);
        json_decref(root);
        ls_model_destroy(m);
        free(layers);
    }
}

/* A nested model's calls are counted from 1 in Keras 2's form, however they were counted. */
static void calls_of_nested_models_count_from_one(void **state) {
    (void)state;
    ls_model *m = build(
        "{\"class_name\": \"Functional\", \"config\": {\"name\": \"f\", \"layers\": [{\"class_name\": \"InputLayer\", "
        "\"config\": {\"batch_input_shape\": [null, 4], \"name\": \"x\"}, \"inbound_nodes\": []}, {\"class_name\": "
        "\"Sequential\", \"config\": {\"name\": \"s\", \"layers\": [{\"class_name\": \"Dense\", \"config\": {\"name\": "
        "\"d\", \"units\": 2, \"batch_input_shape\": [null, 4]}}]}, \"inbound_nodes\": [[[\"x\", 0, 0, {}]]]}], "
        "\"input_layers\": [[\"x\", 0, 0]], \"output_layers\": [[\"s\", 0, 0]]}}");
    json_t *root = written(m);
    assert_json(json_object_get(json_object_get(root, "config"), "output_layers"), "[[\"s\", 1, 0]]");
    json_decref(root);
    ls_model_destroy(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_input_layer_is_put_in_front),
        cmocka_unit_test(keras_3_becomes_keras_2),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(synchronized_where_it_is_true),
        cmocka_unit_test(calls_of_nested_models_count_from_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
