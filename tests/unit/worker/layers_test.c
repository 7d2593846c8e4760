/* Every layer: the shape that it gives, its weights and the attributes of its operator. */
#include <math.h>

#include "tests/unit/worker/model_fixture.h"

typedef struct {
    const char *in, *class_name, *config, *out;
    const char *weights; /* "(3, 3, 1, 8) (8,)", "" for none */
} shape_case;

static const shape_case shape_cases[] = {
    {"4", "Dense", "\"units\": 3", "(3,)", "(4, 3) (3,)"},
    {"2, 5, 4", "Dense", "\"units\": 3, \"use_bias\": false", "(2, 5, 3)", "(4, 3)"},
    {"28, 28, 3", "Conv2D", "\"filters\": 8, \"kernel_size\": [3, 3]", "(26, 26, 8)", "(3, 3, 3, 8) (8,)"},
    {"28, 27, 3", "Conv2D", "\"filters\": 8, \"kernel_size\": 3, \"strides\": 2, \"padding\": \"same\"", "(14, 14, 8)",
     "(3, 3, 3, 8) (8,)"},
    {"28, 28, 3", "Conv2D", "\"filters\": 8, \"kernel_size\": [5, 3], \"strides\": [2, 3]", "(12, 9, 8)",
     "(5, 3, 3, 8) (8,)"},
    {"9, 9, 6", "Conv2D", "\"filters\": 4, \"kernel_size\": 3, \"dilation_rate\": 2, \"groups\": 2", "(5, 5, 4)",
     "(3, 3, 3, 4) (4,)"},
    {"10, 6", "Conv1D", "\"filters\": 4, \"kernel_size\": [3], \"padding\": \"causal\", \"dilation_rate\": [2]",
     "(10, 4)", "(3, 6, 4) (4,)"},
    {"8, 9, 10, 2", "Conv3D", "\"filters\": 4, \"kernel_size\": [3, 3, 2], \"padding\": \"same\", \"strides\": 2",
     "(4, 5, 5, 4)", "(3, 3, 2, 2, 4) (4,)"},
    {"9, 9, 3", "DepthwiseConv2D", "\"kernel_size\": 3, \"depth_multiplier\": 2", "(7, 7, 6)", "(3, 3, 3, 2) (6,)"},
    {"9, 9, 3", "SeparableConv2D", "\"filters\": 5, \"kernel_size\": 3, \"depth_multiplier\": 2", "(7, 7, 5)",
     "(3, 3, 3, 2) (1, 1, 6, 5) (5,)"},
    {"9, 3", "SeparableConv1D", "\"filters\": 5, \"kernel_size\": 3, \"use_bias\": false", "(7, 5)",
     "(3, 3, 1) (1, 3, 5)"},
    {"5, 5, 3", "Conv2DTranspose", "\"filters\": 2, \"kernel_size\": 3, \"strides\": 2, \"padding\": \"same\"",
     "(10, 10, 2)", "(3, 3, 2, 3) (2,)"},
    {"5, 5, 3", "Conv2DTranspose", "\"filters\": 2, \"kernel_size\": 3, \"strides\": 2", "(11, 11, 2)",
     "(3, 3, 2, 3) (2,)"},
    {"5, 5, 3", "Conv2DTranspose", "\"filters\": 2, \"kernel_size\": 2, \"strides\": 3", "(15, 15, 2)",
     "(2, 2, 2, 3) (2,)"},
    {"5, 5, 3", "Conv2DTranspose",
     "\"filters\": 2, \"kernel_size\": 3, \"strides\": 2, \"padding\": \"same\", \"output_padding\": 0", "(9, 9, 2)",
     "(3, 3, 2, 3) (2,)"},
    {"9, 9, 3", "MaxPooling2D", "\"pool_size\": 2", "(4, 4, 3)", ""},
    {"9, 9, 3", "MaxPooling2D", "\"pool_size\": 3, \"strides\": 2, \"padding\": \"same\"", "(5, 5, 3)", ""},
    {"9, 9, 3", "AveragePooling2D", "\"pool_size\": [2, 3], \"strides\": null, \"padding\": \"valid\"", "(4, 3, 3)",
     ""},
    {"9, 3", "MaxPooling1D", "\"pool_size\": [2], \"strides\": [1]", "(8, 3)", ""},
    {"9, 3", "AveragePooling1D", "\"pool_size\": 2, \"padding\": \"same\"", "(5, 3)", ""},
    {"4, 5, 6, 2", "MaxPooling3D", "", "(2, 2, 3, 2)", ""},
    {"4, 5, 6, 2", "AveragePooling3D", "\"padding\": \"same\"", "(2, 3, 3, 2)", ""},
    {"9, 9, 3", "GlobalAveragePooling2D", "", "(3,)", ""},
    {"9, 9, 3", "GlobalMaxPooling2D", "\"keepdims\": true", "(1, 1, 3)", ""},
    {"9, 3", "GlobalMaxPooling1D", "\"keepdims\": false", "(3,)", ""},
    {"9, 3", "GlobalAveragePooling1D", "\"keepdims\": true", "(1, 3)", ""},
    {"4, 5, 6, 2", "GlobalAveragePooling3D", "", "(2,)", ""},
    {"4, 5, 6", "Flatten", "", "(120,)", ""},
    {"4, 6", "Reshape", "\"target_shape\": [3, -1, 2]", "(3, 4, 2)", ""},
    {"4, 6", "Reshape", "\"target_shape\": [24]", "(24,)", ""},
    {"4, 6", "Dropout", "\"rate\": 0.5, \"noise_shape\": [null, 1, 6], \"seed\": 3", "(4, 6)", ""},
    {"4, 6", "SpatialDropout1D", "\"rate\": 0.5", "(4, 6)", ""},
    {"4, 6, 3", "SpatialDropout2D", "\"rate\": 0.5, \"data_format\": \"channels_last\"", "(4, 6, 3)", ""},
    {"4, 6, 3", "BatchNormalization", "", "(4, 6, 3)", "(3,) (3,) (3,) (3,)"},
    {"4, 6, 3", "BatchNormalization", "\"axis\": [1], \"scale\": false", "(4, 6, 3)", "(4,) (4,) (4,)"},
    {"4, 6", "BatchNormalization", "\"axis\": 1, \"center\": false", "(4, 6)", "(4,) (4,) (4,)"},
    {"4, 6, 3", "Permute", "\"dims\": [3, 1, 2]", "(3, 4, 6)", ""},
    {"5", "RepeatVector", "\"n\": 4", "(4, 5)", ""},
    {"5, 3", "ZeroPadding1D", "\"padding\": [0, 2]", "(7, 3)", ""},
    {"5, 6, 3", "ZeroPadding2D", "\"padding\": [1, 2]", "(7, 10, 3)", ""},
    {"5, 6, 3", "ZeroPadding2D", "\"padding\": [[1, 0], [2, 3]]", "(6, 11, 3)", ""},
    {"2, 2, 2, 1", "ZeroPadding3D", "\"padding\": 1", "(4, 4, 4, 1)", ""},
    {"5, 3", "Cropping1D", "\"cropping\": 2", "(1, 3)", ""},
    {"5, 6, 3", "Cropping2D", "\"cropping\": [[1, 0], [2, 3]]", "(4, 1, 3)", ""},
    {"4, 4, 4, 1", "Cropping3D", "", "(2, 2, 2, 1)", ""},
    {"5, 3", "UpSampling1D", "\"size\": 3", "(15, 3)", ""},
    {"5, 6, 3", "UpSampling2D", "\"size\": [2, 3], \"interpolation\": \"bilinear\"", "(10, 18, 3)", ""},
    {"2, 3, 4, 1", "UpSampling3D", "\"size\": [1, 2, 3]", "(2, 6, 12, 1)", ""},
    {"4, 6", "LayerNormalization", "", "(4, 6)", "(6,) (6,)"},
    {"4, 6", "LayerNormalization", "\"axis\": [1, 2], \"scale\": false", "(4, 6)", "(4, 6)"},
    {"7", "Embedding", "\"input_dim\": 100, \"output_dim\": 8, \"input_length\": 7", "(7, 8)", "(100, 8)"},
    {"4, 6", "Activation", "\"activation\": \"softmax\"", "(4, 6)", ""},
    {"4, 6", "Softmax", "\"axis\": 1", "(4, 6)", ""},
    {"4", "ReLU", "\"max_value\": 6.0, \"negative_slope\": 0.1, \"threshold\": 0.5", "(4,)", ""},
    {"4", "LeakyReLU", "\"alpha\": 0.1", "(4,)", ""},
    {"4", "ELU", "\"alpha\": 2", "(4,)", ""},
    {"4, 6, 3", "PReLU", "\"shared_axes\": [1, 2]", "(4, 6, 3)", "(1, 1, 3)"},
    {"4, 6", "PReLU", "\"shared_axes\": null", "(4, 6)", "(4, 6)"},
    {"4", "GaussianNoise", "\"stddev\": 0.2, \"seed\": null", "(4,)", ""},
    {"4", "GaussianDropout", "\"rate\": 0.2", "(4,)", ""},
    {"4", "AlphaDropout", "\"rate\": 0.2, \"noise_shape\": null", "(4,)", ""},
    {"4, 6", "Maxout", "\"num_units\": 2", "(4, 2)", ""},
    {"4, 6", "Maxout", "\"num_units\": 2, \"axis\": 1", "(2, 6)", ""},
    {"4, 6", "ActivityRegularization", "\"l1\": 0.1", "(4, 6)", ""},
    {"4", "Dense", "\"units\": 3, \"activity_regularizer\": \"l2\"", "(3,)", "(4, 3) (3,)"},
    {"4, 4, 3", "Rescaling", "\"scale\": 0.0039, \"offset\": -1", "(4, 4, 3)", ""},
    {"4, 4, 3", "Rescaling", "\"scale\": [1, 2, 3], \"offset\": 0.0", "(4, 4, 3)", ""},
    {"4, 3", "Normalization", "\"axis\": [-1], \"mean\": null, \"variance\": null", "(4, 3)", "(3,) (3,) ()"},
    {"4, 3", "Normalization", "\"axis\": null", "(4, 3)", "() () ()"},
    {"4, 3", "Normalization", "\"axis\": [1, 2], \"invert\": true", "(4, 3)", "(4, 3) (4, 3) ()"},
    {"4, 3", "Normalization", "\"axis\": 1, \"mean\": [1, 2, 3, 4], \"variance\": 2", "(4, 3)", ""},
    {"3, 9, 8", "Conv2D", "\"filters\": 5, \"kernel_size\": [3, 2], \"data_format\": \"channels_first\"", "(5, 7, 7)",
     "(3, 2, 3, 5) (5,)"},
    {"3, 9, 8", "MaxPooling2D", "\"data_format\": \"channels_first\"", "(3, 4, 4)", ""},
    {"3, 9, 8", "ZeroPadding2D", "\"padding\": [1, 2], \"data_format\": \"channels_first\"", "(3, 11, 12)", ""},
    {"3, 9, 8", "GlobalMaxPooling2D", "\"data_format\": \"channels_first\"", "(3,)", ""},
    {"3, 9, 8", "GlobalMaxPooling2D", "\"data_format\": \"channels_first\", \"keepdims\": true", "(3, 1, 1)", ""},
    {"3, 9", "SeparableConv1D", "\"filters\": 4, \"kernel_size\": 2, \"data_format\": \"channels_first\"", "(4, 8)",
     "(2, 3, 1) (1, 3, 4) (4,)"},
    {"8, 9, 3", "RandomFlip", "\"mode\": \"horizontal\", \"seed\": null", "(8, 9, 3)", ""},
    {"8, 9, 3", "RandomTranslation", "\"height_factor\": [-0.1, 0.2], \"width_factor\": 0.1, \"fill_mode\": \"wrap\"",
     "(8, 9, 3)", ""},
    {"8, 9, 3", "RandomZoom", "\"height_factor\": 0.1, \"interpolation\": \"nearest\", \"fill_value\": 0.0",
     "(8, 9, 3)", ""},
    {"8, 9, 3", "RandomRotation", "\"factor\": 0.1, \"fill_mode\": \"constant\"", "(8, 9, 3)", ""},
    {"8, 9, 3", "RandomCrop", "\"height\": 5, \"width\": 4", "(5, 4, 3)", ""},
    {"8, 9, 3", "RandomCrop", "\"height\": 12, \"width\": 4", "(12, 4, 3)", ""},
    {"3, 8, 9", "RandomCrop", "\"height\": 5, \"width\": 4, \"data_format\": \"channels_first\"", "(3, 5, 4)", ""},
    {"8, 9, 3", "RandomContrast", "\"factor\": [0.1, 0.4]", "(8, 9, 3)", ""},
    {"8, 9, 3", "RandomBrightness", "\"factor\": 0.2, \"value_range\": [0, 1]", "(8, 9, 3)", ""},
    {"8, 9, 3", "CenterCrop", "\"height\": 5, \"width\": 4", "(5, 4, 3)", ""},
    {"8, 9, 3", "Resizing", "\"height\": 16, \"width\": 4, \"crop_to_aspect_ratio\": true", "(16, 4, 3)", ""},
    {"4", "ThresholdedReLU", "\"theta\": 0.7", "(4,)", ""},
};

static ls_model *single(const char *in, const char *class_name, const char *config) {
    char *layer = ls_xprintf("{\"class_name\": \"%s\", \"config\": {\"name\": \"layer\"%s%s}}", class_name,
                             config[0] ? ", " : "", config);
    ls_model *m = build_sequential(in, layer);
    free(layer);
    return m;
}

static void shapes_of_every_layer(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof shape_cases / sizeof shape_cases[0]; i++) {
        const shape_case *c = &shape_cases[i];
        ls_model *m = single(c->in, c->class_name, c->config);
        char out[96], weights[512] = "";
        for (int k = 0; k < m->n_weights; k++) {
            char one[96];
            snprintf(weights + strlen(weights), sizeof weights - strlen(weights), "%s%s", k ? " " : "",
                     ls_shape_text(&m->weights[k]->shape, false, one, sizeof one));
        }
        ls_shape_text(&m->outputs[0]->shape, false, out, sizeof out);
        if (strcmp(out, c->out) != 0 || strcmp(weights, c->weights) != 0) {
            fail_msg("%s {%s}: output %s, expected %s; weights %s, expected %s", c->class_name, c->config, out, c->out,
                     weights, c->weights);
        }
        ls_model_destroy(m);
    }
}

static void same_padding_follows_tensorflow(void **state) {
    (void)state;
    ls_model *m = single("6, 5, 1", "Conv2D",
                         "\"filters\": 1, \"kernel_size\": [4, 3], \"strides\": [2, 2], \"padding\": \"same\"");
    const ls_conv_attr *a = m->nodes[0]->attr;
    assert_int_equal(a->pad_before[0], 1); /* total (3-1)*2 + 4 - 6 = 2 */
    assert_int_equal(a->pad_after[0], 1);
    assert_int_equal(a->pad_before[1], 1); /* total (3-1)*2 + 3 - 5 = 2 */
    assert_int_equal(a->pad_after[1], 1);
    ls_model_destroy(m);
    m = single("6, 6, 1", "Conv2D",
               "\"filters\": 1, \"kernel_size\": 2, \"dilation_rate\": [1, 3], \"padding\": "
               "\"same\"");
    a = m->nodes[0]->attr;
    assert_int_equal(a->pad_before[0], 0); /* the odd cell goes behind */
    assert_int_equal(a->pad_after[0], 1);
    assert_int_equal(a->pad_before[1], 1);
    assert_int_equal(a->pad_after[1], 2);
    ls_model_destroy(m);
    m = single("6, 1", "Conv1D", "\"filters\": 1, \"kernel_size\": 3, \"dilation_rate\": 2, \"padding\": \"causal\"");
    a = m->nodes[0]->attr;
    assert_int_equal(a->pad_before[0], 4);
    assert_int_equal(a->pad_after[0], 0);
    ls_model_destroy(m);
    m = single("3, 3, 1", "Conv2DTranspose",
               "\"filters\": 1, \"kernel_size\": 4, \"strides\": 2, \"padding\": \"same\"");
    a = m->nodes[0]->attr;
    assert_true(a->transposed);
    assert_int_equal(a->pad_before[0], 1); /* of the convolution from 6 to 3: (3-1)*2 + 4 - 6 = 2 */
    assert_int_equal(a->pad_after[0], 1);
    ls_model_destroy(m);
}

static void batch_normalization_is_unbiased_where_tensorflow_fuses_it(void **state) {
    (void)state;
    static const struct {
        const char *in, *config;
        bool unbiased;
    } rows[] = {{"4", "", false},
                {"4, 4", "", false},
                {"4, 4, 2", "", true},
                {"3, 4, 4, 2", "", true},
                {"3, 4, 4, 2", "\"axis\": 2", false},
                {"4, 4, 2", "\"synchronized\": true", false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ls_model *m = single(rows[i].in, "BatchNormalization", rows[i].config);
        assert_int_equal(((const ls_batch_norm_attr *)m->nodes[0]->attr)->unbiased, rows[i].unbiased);
        ls_model_destroy(m);
    }
}

static void activations(void **state) {
    (void)state;
    ls_model *m = single("4", "ReLU", "\"max_value\": 6.0, \"negative_slope\": 0.25, \"threshold\": 0.5");
    const ls_act_attr *a = m->nodes[0]->attr;
    assert_int_equal(a->kind, LS_ACT_RELU);
    assert_true(a->max_value == 6 && a->alpha == 0.25f && a->threshold == 0.5f);
    ls_model_destroy(m);
    m = single("4", "ReLU", "\"max_value\": null");
    a = m->nodes[0]->attr;
    assert_true(isinf(a->max_value) && a->alpha == 0);
    ls_model_destroy(m);
    m = single("4", "LeakyReLU", "\"negative_slope\": 0.125");
    assert_true(((const ls_act_attr *)m->nodes[0]->attr)->alpha == 0.125f);
    ls_model_destroy(m);
    m = single("3, 4", "Softmax", "\"axis\": 1");
    assert_int_equal(((const ls_act_attr *)m->nodes[0]->attr)->axis, 0);
    ls_model_destroy(m);
    m = single("3, 4", "Dense",
               "\"units\": 2, \"activation\": {\"class_name\": \"LeakyReLU\", \"config\": {\"alpha\": 0.5}}");
    assert_ptr_equal(m->nodes[1]->op, &ls_op_activation);
    assert_true(((const ls_act_attr *)m->nodes[1]->attr)->alpha == 0.5f);
    ls_model_destroy(m);
    m = single("3, 4", "Dense", "\"units\": 2, \"activation\": null");
    assert_int_equal(m->n_nodes, 1); /* linear adds nothing */
    ls_model_destroy(m);
}

static void dropout_axes(void **state) {
    (void)state;
    ls_model *m = single("4, 6", "Dropout", "\"rate\": 0.5");
    assert_int_equal(((const ls_dropout_attr *)m->nodes[0]->attr)->keep_axes, 3);
    ls_model_destroy(m);
    m = single("4, 6", "Dropout", "\"rate\": 0.5, \"noise_shape\": [null, 1, null]");
    assert_int_equal(((const ls_dropout_attr *)m->nodes[0]->attr)->keep_axes, 2);
    ls_model_destroy(m);
    m = single("4, 6, 3", "SpatialDropout2D", "\"rate\": 0.25");
    assert_int_equal(((const ls_dropout_attr *)m->nodes[0]->attr)->keep_axes, 4);
    ls_model_destroy(m);
}

static ls_model *merged(const char *class_name, const char *config, const char *shape_a, const char *shape_b) {
    char *text = ls_xprintf(
        "{\"class_name\": \"Functional\", \"config\": {\"layers\": [{\"class_name\": \"InputLayer\", \"config\": "
        "{\"batch_input_shape\": [null, %s], \"name\": \"a\"}, \"inbound_nodes\": []}, {\"class_name\": "
        "\"InputLayer\", \"config\": {\"batch_input_shape\": [null, %s], \"name\": \"b\"}, \"inbound_nodes\": []}, "
        "{\"class_name\": \"%s\", \"config\": {\"name\": \"m\"%s}, \"inbound_nodes\": [[[\"a\", 0, 0, {}], [\"b\", 0, "
        "0, {}]]]}], \"input_layers\": [[\"a\", 0, 0], [\"b\", 0, 0]], \"output_layers\": [[\"m\", 0, 0]]}}",
        shape_a, shape_b, class_name, config);
    ls_model *m = build(text);
    free(text);
    return m;
}

static void merges(void **state) {
    (void)state;
    static const char *const classes[] = {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"};
    for (int kind = 0; kind < 6; kind++) {
        ls_model *m = merged(classes[kind], "", "3, 4", "3, 1");
        assert_int_equal(((const ls_merge_attr *)m->nodes[0]->attr)->kind, kind);
        assert_shape(&m->outputs[0]->shape, "(3, 4)");
        ls_model_destroy(m);
    }
    ls_model *m = merged("Add", "", "5, 3, 4", "4"); /* fewer axes: ones in front */
    assert_shape(&m->outputs[0]->shape, "(5, 3, 4)");
    assert_int_equal(m->n_nodes, 2);
    ls_model_destroy(m);
    m = merged("Concatenate", ", \"axis\": 1", "3, 4", "2, 4");
    assert_shape(&m->outputs[0]->shape, "(5, 4)");
    assert_int_equal(((const ls_concat_attr *)m->nodes[0]->attr)->axis, 0);
    ls_model_destroy(m);
    m = merged("Concatenate", "", "3, 4", "3, 2");
    assert_shape(&m->outputs[0]->shape, "(3, 6)");
    ls_model_destroy(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_of_every_layer),
        cmocka_unit_test(same_padding_follows_tensorflow),
        cmocka_unit_test(batch_normalization_is_unbiased_where_tensorflow_fuses_it),
        cmocka_unit_test(activations),
        cmocka_unit_test(dropout_axes),
        cmocka_unit_test(merges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
