/* Initial weights: the laws' bounds, means and deviations; orthogonality; independence of order. */
#include <math.h>

#include "tests/unit/worker/model_fixture.h"
#include "worker/model/initializer.h"

static ls_json_doc doc;

static ls_weight weight_of(const char *json, ls_shape shape) {
    static ls_layer layer = {.path = "layer", .name = "layer"};
    ls_weight w = {.name = "kernel", .layer = &layer, .shape = shape};
    ls_err err = LS_ERR_INIT;
    char *text = ls_xprintf("{\"i\": %s}", json);
    ls_json_release(&doc);
    assert_int_equal(ls_json_parse(&doc, "test", text, &err), LS_OK);
    free(text);
    if (ls_initializer_parse(ls_json_member(ls_json_root(&doc), "i"), "zeros", &w.init, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
    return w;
}

static float *filled(const ls_weight *w, uint64_t seed) {
    float *values = ls_xcalloc((size_t)ls_shape_elems(&w->shape), sizeof *values);
    ls_initializer_fill(w, seed, values);
    return values;
}

typedef struct {
    const char *json;
    ls_shape shape;
    double mean, stddev, low, high;
} law;

/* (3, 3, 16, 32): fan_in 144, fan_out 288. */
#define CONV                               \
    {                                      \
        .rank = 4, .dim = { 3, 3, 16, 32 } \
    }
#define MATRIX                         \
    {                                  \
        .rank = 2, .dim = { 100, 200 } \
    }

static void random_laws(void **state) {
    (void)state;
    const double cut = 0.87962566103423978;
    const law laws[] = {
        {"\"glorot_uniform\"", CONV, 0, sqrt(2.0 / 432), -sqrt(6.0 / 432), sqrt(6.0 / 432)},
        {"{\"class_name\": \"HeUniform\", \"config\": {\"seed\": null}}", CONV, 0, sqrt(2.0 / 144), -sqrt(6.0 / 144),
         sqrt(6.0 / 144)},
        {"\"lecun_uniform\"", MATRIX, 0, sqrt(1.0 / 100), -sqrt(3.0 / 100), sqrt(3.0 / 100)},
        {"\"glorot_normal\"", CONV, 0, sqrt(2.0 / 432), -2 * sqrt(2.0 / 432) / cut, 2 * sqrt(2.0 / 432) / cut},
        {"\"he_normal\"", MATRIX, 0, sqrt(2.0 / 100), -2 * sqrt(2.0 / 100) / cut, 2 * sqrt(2.0 / 100) / cut},
        {"\"LecunNormal\"", MATRIX, 0, 0.1, -0.2 / cut, 0.2 / cut},
        {"{\"class_name\": \"VarianceScaling\", \"config\": {\"scale\": 3.0, \"mode\": \"fan_out\", \"distribution\": "
         "\"untruncated_normal\"}}",
         MATRIX, 0, sqrt(3.0 / 200), -1, 1},
        {"{\"class_name\": \"VarianceScaling\", \"config\": {\"scale\": 1.0, \"mode\": \"fan_avg\", \"distribution\": "
         "\"uniform\", \"seed\": null}}",
         MATRIX, 0, sqrt(1.0 / 150), -sqrt(3.0 / 150), sqrt(3.0 / 150)},
        {"{\"class_name\": \"RandomNormal\", \"config\": {\"mean\": 1.0, \"stddev\": 0.5, \"seed\": 7}}", MATRIX, 1,
         0.5, -4, 6},
        {"\"random_normal\"", MATRIX, 0, 0.05, -1, 1},
        {"\"random_uniform\"", MATRIX, 0, 0.1 / sqrt(12), -0.05, 0.05},
        {"{\"class_name\": \"RandomUniform\", \"config\": {\"minval\": 2, \"maxval\": 3}}", MATRIX, 2.5, 1 / sqrt(12),
         2, 3},
        {"{\"class_name\": \"TruncatedNormal\", \"config\": {\"mean\": 1, \"stddev\": 2}}", MATRIX, 1, 2 * cut, -3, 5},
    };
    for (size_t k = 0; k < sizeof laws / sizeof laws[0]; k++) {
        const law *l = &laws[k];
        ls_weight w = weight_of(l->json, l->shape);
        float *x = filled(&w, 11);
        double n = (double)ls_shape_elems(&w.shape), sum = 0, squares = 0, low = INFINITY, high = -INFINITY;
        for (size_t i = 0; i < (size_t)n; i++) {
            sum += x[i];
            low = x[i] < low ? x[i] : low;
            high = x[i] > high ? x[i] : high;
        }
        double mean = sum / n;
        for (size_t i = 0; i < (size_t)n; i++) {
            squares += (x[i] - mean) * (x[i] - mean);
        }
        double stddev = sqrt(squares / n);
        if (fabs(mean - l->mean) > 4 * l->stddev / sqrt(n) || fabs(stddev - l->stddev) > 4 * l->stddev / sqrt(2 * n) ||
            low < l->low - 1e-6 || high > l->high + 1e-6) {
            fail_msg("%s: mean %g (expected %g), deviation %g (%g), range %g to %g", l->json, mean, l->mean, stddev,
                     l->stddev, low, high);
        }
        free(x);
    }
}

static void exact_values(void **state) {
    (void)state;
    static const struct {
        const char *json;
        float value;
    } rows[] = {{"\"zeros\"", 0},
                {"null", 0},
                {"{\"class_name\": \"Ones\", \"config\": {}}", 1},
                {"{\"module\": \"keras.initializers\", \"class_name\": \"Constant\", \"config\": {\"value\": 0.25}, "
                 "\"registered_name\": null}",
                 0.25f}};
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        ls_weight w = weight_of(rows[k].json, (ls_shape){.rank = 1, .dim = {5}});
        float *x = filled(&w, 1);
        for (int i = 0; i < 5; i++) {
            assert_true(x[i] == rows[k].value);
        }
        free(x);
    }
    ls_weight w =
        weight_of("{\"class_name\": \"Identity\", \"config\": {\"gain\": 2.0}}", (ls_shape){.rank = 2, .dim = {2, 3}});
    float *x = filled(&w, 1);
    const float expected[] = {2, 0, 0, 0, 2, 0};
    assert_memory_equal(x, expected, sizeof expected);
    free(x);
}

/* Columns (or rows, the smaller side) are orthonormal times the gain. */
static void orthogonal(void **state) {
    (void)state;
    const ls_shape shapes[] = {{.rank = 2, .dim = {30, 12}},
                               {.rank = 2, .dim = {12, 30}},
                               {.rank = 2, .dim = {16, 16}},
                               {.rank = 4, .dim = {3, 3, 4, 8}},
                               {.rank = 2, .dim = {1, 1}}};
    for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++) {
        ls_weight w =
            weight_of("{\"class_name\": \"Orthogonal\", \"config\": {\"gain\": 1.5, \"seed\": null}}", shapes[k]);
        float *x = filled(&w, 5);
        int64_t cols = shapes[k].dim[shapes[k].rank - 1], rows = ls_shape_elems(&shapes[k]) / cols;
        bool by_columns = rows >= cols;
        int64_t n = by_columns ? cols : rows, length = by_columns ? rows : cols;
        for (int64_t a = 0; a < n; a++) {
            for (int64_t b = 0; b <= a; b++) {
                double dot = 0;
                for (int64_t i = 0; i < length; i++) {
                    dot += by_columns ? (double)x[i * cols + a] * x[i * cols + b]
                                      : (double)x[a * cols + i] * x[b * cols + i];
                }
                assert_true(fabs(dot - (a == b ? 2.25 : 0)) < 1e-5);
            }
        }
        free(x);
    }
}

static void a_function_of_seed_and_path(void **state) {
    (void)state;
    ls_shape shape = {.rank = 2, .dim = {8, 8}};
    ls_weight w = weight_of("\"glorot_uniform\"", shape);
    float *a = filled(&w, 1), *again = filled(&w, 1), *other_seed = filled(&w, 2);
    assert_memory_equal(a, again, 64 * sizeof *a);
    assert_memory_not_equal(a, other_seed, 64 * sizeof *a);
    ls_layer elsewhere = {.path = "other"};
    w.layer = &elsewhere;
    float *other_path = filled(&w, 1);
    assert_memory_not_equal(a, other_path, 64 * sizeof *a);
    w.name = "recurrent_kernel";
    float *other_name = filled(&w, 1);
    assert_memory_not_equal(other_path, other_name, 64 * sizeof *a);
    free(a);
    free(again);
    free(other_seed);
    free(other_path);
    free(other_name);
}

static void wrong_initializers(void **state) {
    (void)state;
    static const struct {
        const char *json, *says;
    } rows[] = {
        {"\"glorot\"", "\"glorot\" is not an initializer"},
        {"{\"class_name\": \"RandomNormal\", \"config\": {\"stdev\": 1}}",
         "i.config.stdev: unknown key; did you mean \"stddev\"?"},
        {"{\"class_name\": \"RandomNormal\", \"config\": {\"stddev\": -1}}",
         "i.config.stddev: expected a number of at least 0"},
        {"{\"class_name\": \"VarianceScaling\", \"config\": {\"mode\": \"fan\"}}",
         "expected one of \"fan_in\", \"fan_out\", \"fan_avg\""},
        {"{\"config\": {}}", "expected a \"class_name\""},
        {"3", "expected an object"},
    };
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        ls_initializer init;
        ls_err err = LS_ERR_INIT;
        char *text = ls_xprintf("{\"i\": %s}", rows[k].json);
        ls_json_release(&doc);
        assert_int_equal(ls_json_parse(&doc, "test", text, &err), LS_OK);
        free(text);
        assert_int_equal(ls_initializer_parse(ls_json_member(ls_json_root(&doc), "i"), "zeros", &init, &err),
                         LS_EINPUT);
        if (strstr(err.text, rows[k].says) == NULL) {
            fail_msg("%s: %s", rows[k].json, err.text);
        }
    }
    ls_weight w = weight_of("\"identity\"", (ls_shape){.rank = 1, .dim = {4}});
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_initializer_check(ls_json_root(&doc), &w.init, &w.shape, &err), LS_EINPUT);
    assert_non_null(strstr(err.text, "fills matrices, not a weight of shape (4,)"));
}

static int release(void **state) {
    (void)state;
    ls_json_release(&doc);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_laws),        cmocka_unit_test(exact_values),
        cmocka_unit_test(orthogonal),         cmocka_unit_test(a_function_of_seed_and_path),
        cmocka_unit_test(wrong_initializers),
    };
    return cmocka_run_group_tests(tests, NULL, release);
}
