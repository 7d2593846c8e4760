/* What is said about wrong models: the file, the layer, the key, what was expected. */
#include "tests/unit/worker/model_fixture.h"

static void refused(const char *in, const char *layers, const char *a, const char *b) {
    char *text = sequential(in, layers);
    assert_refused(text, a, b, NULL);
    free(text);
}

#define L(class_, config) "{\"class_name\": \"" class_ "\", \"config\": {\"name\": \"x\"" config "}}"

static void layers_and_keys(void **state) {
    (void)state;
    refused("4", L("Dens", ", \"units\": 3"), "config.layers[1].class_name: \"Dens\" is not a layer",
            "did you mean \"Dense\"?");
    refused("4", L("Dense", ", \"unit\": 3"), "unit: unknown key; did you mean \"units\"?", "(layer \"x\", Dense)");
    refused("4", L("Dense", ", \"units\": 0"), "config.layers[1].config.units: expected a whole number from 1",
            "found the number 0");
    refused("4", L("Dense", ""), "\"units\" is missing", "(layer \"x\", Dense)");
    refused("4", L("Dense", ", \"units\": 2, \"activation\": \"rleu\""), "\"rleu\" is not an activation",
            "did you mean \"relu\"?");
    refused("4", L("Dense", ", \"units\": 2, \"kernel_initializer\": \"glorot_unifrom\""), "glorot_uniform",
            "kernel_initializer");
    refused("4", L("Dense", ", \"units\": 2, \"kernel_regularizer\": \"l3\""), "\"l3\" is not a regularizer", "l1");
    refused("4",
            L("Dense",
              ", \"units\": 2, \"kernel_constraint\": {\"class_name\": \"MaxNorm\", \"config\": "
              "{\"axis\": 2}}"),
            "there is no axis 2", "(4, 2)");
    refused("4", L("Dense", ", \"units\": 2, \"activity_regularizer\": \"l3\""), "\"l3\" is not a regularizer",
            "layer \"x\"");
    refused("4", L("Dense", ", \"units\": 2, \"dtype\": \"float64\""), "expected one of \"float32\"", "float64");
    refused("4", L("Dropout", ", \"rate\": 1.5"), "expected a number from 0", "rate");
    refused("4", L("Dropout", ", \"rate\": 0.5, \"noise_shape\": [32, null]"),
            "noise_shape[0]: expected null, or 1 for draws that all samples share", "noise_shape");
    refused("4", "{\"class_name\": \"Dense\", \"config\": {\"name\": \"x\", \"units\": 2}, \"inbound_node\": []}",
            "unknown key", "did you mean \"inbound_nodes\"?");
}

static void shapes(void **state) {
    (void)state;
    refused("4", L("Conv2D", ", \"filters\": 3, \"kernel_size\": 3"),
            "layer \"x\" (Conv2D): expects an input of 4 axes (batch, rows, columns, channels)", "(None, 4)");
    refused("2, 2, 1", L("Conv2D", ", \"filters\": 3, \"kernel_size\": 3"), "the kernel does not fit",
            "(None, 2, 2, 1)");
    refused("4, 4, 1", L("Conv2D", ", \"filters\": 3, \"kernel_size\": [3, 3, 3]"), "kernel_size", "a list of 1 to 2");
    refused("4, 4, 3", L("Conv2D", ", \"filters\": 3, \"kernel_size\": 3, \"groups\": 2"), "groups (2) must divide",
            "channels (3)");
    refused("4, 4, 3", L("Conv2D", ", \"filters\": 3, \"kernel_size\": 3, \"data_format\": \"first\""),
            "expected one of \"channels_last\"", "data_format");
    refused("4, 4, 3", L("MaxPooling2D", ", \"pool_size\": 5"), "pool_size is larger", "(None, 4, 4, 3)");
    refused("4, 6", L("Reshape", ", \"target_shape\": [5, -1]"), "24 elements", "target_shape");
    refused("4", L("BatchNormalization", ", \"axis\": 3"), "there is no such axis", "(None, 4)");
    refused("4, 6", L("Permute", ", \"dims\": [1, 1]"), "each number from 1 to 2 once", "dims");
    refused("4, 6", L("Cropping1D", ", \"cropping\": [2, 2]"), "leaves nothing", "(None, 4, 6)");
    refused("4, 6, 1", L("ZeroPadding2D", ", \"padding\": [[1, 2]]"), "2 pairs of whole numbers", "padding");
    refused("4", L("Embedding", ", \"input_dim\": 9"), "\"output_dim\" is missing", "layer \"x\"");
    refused("4, 6", L("LayerNormalization", ", \"axis\": [1, -2]"), "expected different axes", "(None, 4, 6)");
    refused("4, 6", L("Normalization", ", \"mean\": 1"), "\"mean\" and \"variance\" go together", "layer \"x\"");
    refused("4, 6", L("Normalization", ", \"mean\": [1, 2], \"variance\": 1"), "expected one number or 6, found 2",
            "mean");
    refused("4, 6", L("PReLU", ", \"shared_axes\": [3]"), "there is no axis 3", "shared_axes");
    refused("4, 6", L("Maxout", ", \"num_units\": 4"), "divide the channels", "(None, 4, 6)");
    refused("4, 6", L("RandomFlip", ""), "expects images (height, width, channels)", "(None, 4, 6)");
    refused("4, 4, 3", L("RandomFlip", ", \"mode\": \"sideways\""), "horizontal_and_vertical", "mode");
    refused("4, 4, 3", L("RandomTranslation", ", \"height_factor\": 0.1"), "\"width_factor\" is missing",
            "layer \"x\"");
    refused("4, 4, 3", L("RandomZoom", ", \"height_factor\": [0.2, 0.1]"), "whose first is not above its second",
            "height_factor");
    refused("4, 4, 3", L("RandomRotation", ", \"factor\": \"much\""), "expected a number or a list of two numbers",
            "factor");
    refused("4, 4, 3", L("RandomCrop", ", \"height\": 2"), "\"width\" is missing", "layer \"x\"");
    refused("4, 4, 3", L("RandomContrast", ", \"factor\": 1.5"), "expected how far below and above 1", "factor");
    refused("4, 4, 3", L("RandomBrightness", ", \"factor\": 0.1, \"value_range\": 1"), "expected a list of two numbers",
            "value_range");
    refused("4, 4, 3", L("Resizing", ", \"height\": 2, \"width\": 2, \"interpolation\": \"bicubic\""), "bilinear",
            "interpolation");
    refused("4", L("GaussianNoise", ""), "\"stddev\" is missing", "layer \"x\"");
    refused("4", L("AlphaDropout", ", \"rate\": 1.0"), "expected a number from 0", "rate");
    refused("4", L("Lambda", ", \"function\": [\"4wEA\", null, null]"), "layer \"x\" (Lambda): holds Python code",
            "plugin");
    refused("4", L("TimeDistributed", ", \"layer\": " L("Dense", ", \"units\": 2")), "batch, time", "(None, 4)");
}

static void structure(void **state) {
    (void)state;
    assert_refused("{\"class_name\": \"Squential\", \"config\": {}}", "model.json:1",
                   "\"Sequential\" or \"Functional\"", NULL);
    assert_refused("{\"class_name\": \"Sequential\", \"config\": {\"layers\": []}}", "list of \"layers\"", NULL);
    assert_refused("[1]", "an object in braces", "a list of 1", NULL);
    assert_refused("{\"class_name\": \"Sequential\", \"config\": {\"layers\": [" L("Dense", ", \"units\": 2") "]}}",
                   "the shape of input \"x_input\" is not known", "batch_input_shape", NULL);
    refused("4", L("Dense", ", \"units\": 2") "," L("Dense", ", \"units\": 2"), "two layers named \"x\"", "layers[2]");
    refused("4", L("InputLayer", ""), "stands first", "InputLayer");
    refused("0", L("Dense", ", \"units\": 2"), "dimension of at least 1", "found the number 0");
}

#define F(nodes_a, nodes_b, outputs)                                                                                  \
    "{\"class_name\": \"Functional\", \"config\": {\"name\": \"m\", \"layers\": [\n{\"class_name\": \"InputLayer\", " \
    "\"config\": {\"batch_input_shape\": [null, 4], \"name\": \"in\"}, \"inbound_nodes\": []},\n{\"class_name\": "    \
    "\"Dense\", \"config\": {\"name\": \"first\", \"units\": 4}, \"inbound_nodes\": " nodes_a                         \
    "},\n{\"class_name\": \"Add\", \"config\": {\"name\": \"second\"}, \"inbound_nodes\": " nodes_b                   \
    "}], \"input_layers\": [[\"in\", 0, 0]], \"output_layers\": " outputs "}}"
#define IN "[[[\"in\", 0, 0, {}]]]"
#define BOTH "[[[\"in\", 0, 0, {}], [\"first\", 0, 0, {}]]]"

static void graphs(void **state) {
    (void)state;
    ls_model_destroy(build(F(IN, BOTH, "[[\"second\", 0, 0]]")));
    assert_refused(F(IN, "[[[\"in\", 0, 0], [\"frist\", 0, 0]]]", "[[\"second\", 0, 0]]"), "model.json:4",
                   "no layer \"frist\"", "did you mean \"first\"?", NULL);
    assert_refused(F(IN, "[[[\"in\", 0, 0], [\"first\", 1, 0]]]", "[[\"second\", 0, 0]]"),
                   "layer \"first\" has 1 call, counted from 0: there is no node 1", NULL);
    assert_refused(F(IN, "[[[\"in\", 0, 0], [\"first\", 0, 1]]]", "[[\"second\", 0, 0]]"),
                   "layer \"first\" has 1 output: there is no tensor 1", NULL);
    assert_refused(F("[[[\"second\", 0, 0]]]", BOTH, "[[\"second\", 0, 0]]"), "form a cycle", "depends on its own",
                   NULL);
    assert_refused(F("[[[\"in\", 0, 0], [\"in\", 0, 0]]]", BOTH, "[[\"second\", 0, 0]]"),
                   "layer \"first\" (Dense): takes 1 input, is given 2", NULL);
    assert_refused(F(IN, "[[[\"in\", 0, 0]]]", "[[\"second\", 0, 0]]"),
                   "layer \"second\" (Add): needs at least 2 inputs", NULL);
    assert_refused(F(IN, BOTH, "[[\"third\", 0, 0]]"), "no layer \"third\"", NULL);
    assert_refused(F(IN, BOTH, "[]"), "at least one of \"output_layers\"", NULL);
    assert_refused(F(IN, BOTH, "[[\"in\", 0, 0]]"), "nothing to compute", NULL);
    assert_refused(F("[[[\"in\", 0, 0, {\"training\": true}]]]", BOTH, "[[\"second\", 0, 0]]"), "stay in training mode",
                   "layer \"first\"", NULL);
    assert_refused(F("[[[\"in\", 0]]]", BOTH, "[[\"second\", 0, 0]]"), "expected [\"layer\", node, tensor]", NULL);
    assert_refused(F("[[[\"_CONSTANT_VALUE\", -1, 3, {}]]]", BOTH, "[[\"second\", 0, 0]]"), "constants", NULL);
    assert_refused(F("[[]]", BOTH, "[[\"second\", 0, 0]]"), "has no input", NULL);
}

static void merges(void **state) {
    (void)state;
    static const char *const text =
        "{\"class_name\": \"Functional\", \"config\": {\"layers\": [{\"class_name\": \"InputLayer\", \"config\": "
        "{\"batch_input_shape\": [null, 3, 4], \"name\": \"a\"}, \"inbound_nodes\": []}, {\"class_name\": "
        "\"InputLayer\", \"config\": {\"batch_input_shape\": [null, 3, 5], \"name\": \"b\"}, \"inbound_nodes\": []}, "
        "{\"class_name\": \"%s\", \"config\": {\"name\": \"m\"}, \"inbound_nodes\": [[[\"a\", 0, 0, {}], [\"b\", 0, 0, "
        "{}]]]}], \"input_layers\": [[\"a\", 0, 0]%s], \"output_layers\": [[\"m\", 0, 0]]}}";
    char *add = ls_xprintf(text, "Add", ", [\"b\", 0, 0]"), *missing = ls_xprintf(text, "Concatenate", "");
    assert_refused(add, "layer \"m\" (Add)", "(None, 3, 4) and (None, 3, 5) do not go together", NULL);
    assert_refused(missing, "the InputLayer \"b\" is used but is not among \"input_layers\"", NULL);
    char *dot = ls_xprintf(text, "Dot", ", [\"b\", 0, 0]");
    assert_refused(dot, "\"axes\" is missing", "layer \"m\"", NULL);
    free(add);
    free(missing);
    free(dot);
}

/* Models within models are cut off before they can exhaust the stack. */
static void nesting(void **state) {
    (void)state;
    char *inner = ls_xstrdup(L("Flatten", ""));
    for (int i = 0; i < 40; i++) {
        char *outer =
            ls_xprintf("{\"class_name\": \"Sequential\", \"config\": {\"name\": \"s%d\", \"layers\": [%s]}}", i, inner);
        free(inner);
        inner = outer;
    }
    refused("4", inner, "nested more than 32 deep", "Sequential");
    free(inner);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_and_keys), cmocka_unit_test(shapes), cmocka_unit_test(structure),
        cmocka_unit_test(graphs),          cmocka_unit_test(merges), cmocka_unit_test(nesting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
