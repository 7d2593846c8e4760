/* Regularizers and constraints: every spelling, and the projections against Keras's formulas. */
#include <math.h>

#include "tests/unit/worker/model_fixture.h"
#include "worker/model/constraint.h"

static ls_json_doc doc;

static ls_json parsed(const char *json) {
    ls_err err = LS_ERR_INIT;
    char *text = ls_xprintf("{\"c\": %s}", json);
    ls_json_release(&doc);
    assert_int_equal(ls_json_parse(&doc, "test", text, &err), LS_OK);
    free(text);
    return ls_json_member(ls_json_root(&doc), "c");
}

static void regularizers(void **state) {
    (void)state;
    static const struct {
        const char *json;
        double l1, l2;
    } rows[] = {{"null", 0, 0},
                {"\"l1\"", 0.01, 0},
                {"\"l2\"", 0, 0.01},
                {"\"l1_l2\"", 0.01, 0.01},
                {"{\"class_name\": \"L2\", \"config\": {\"l2\": 0.001}}", 0, 0.001},
                {"{\"class_name\": \"L1\", \"config\": {\"l1\": 0.5}}", 0.5, 0},
                {"{\"class_name\": \"L1L2\", \"config\": {\"l1\": 0.0, \"l2\": 0.25}}", 0, 0.25},
                {"{\"class_name\": \"L1L2\", \"config\": {\"l1\": 0.125}}", 0.125, 0},
                {"{\"module\": \"keras.regularizers\", \"class_name\": \"L2\", \"config\": {\"l2\": 0.5}, "
                 "\"registered_name\": null}",
                 0, 0.5}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ls_regularizer r;
        ls_err err = LS_ERR_INIT;
        if (ls_regularizer_parse(parsed(rows[i].json), &r, &err) != LS_OK) {
            fail_msg("%s: %s", rows[i].json, err.text);
        }
        assert_true(r.l1 == rows[i].l1 && r.l2 == rows[i].l2);
    }
    ls_regularizer r;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_regularizer_parse(parsed("{\"class_name\": \"L2\", \"config\": {\"l2\": -1}}"), &r, &err),
                     LS_EINPUT);
    assert_non_null(strstr(err.text, "c.config.l2: expected a number of at least 0"));
}

static void apply(const char *json, ls_shape shape, float *values) {
    ls_weight w = {.name = "kernel", .shape = shape};
    ls_err err = LS_ERR_INIT;
    if (ls_constraint_parse(parsed(json), &shape, &w.constraint, &err) != LS_OK) {
        fail_msg("%s: %s", json, err.text);
    }
    ls_constraint_apply(&w, values);
}

static void assert_near(const float *values, const float *expected, int n) {
    for (int i = 0; i < n; i++) {
        if (fabsf(values[i] - expected[i]) > 1e-6f) {
            fail_msg("element %d is %g, expected %g", i, (double)values[i], (double)expected[i]);
        }
    }
}

static const ls_shape two_by_two = {.rank = 2, .dim = {2, 2}};

static void projections(void **state) {
    (void)state;
    float none[] = {3, -1, 4, 1};
    apply("null", two_by_two, none);
    assert_near(none, (float[]){3, -1, 4, 1}, 4);
    float positive[] = {3, -1, 4, -0.0f};
    apply("\"non_neg\"", two_by_two, positive);
    assert_near(positive, (float[]){3, 0, 4, 0}, 4);
    float limited[] = {3, 0.5f, 4, 1}; /* norms of the columns: 5, 1.118 */
    apply("{\"class_name\": \"MaxNorm\", \"config\": {\"max_value\": 2.5, \"axis\": 0}}", two_by_two, limited);
    assert_near(limited, (float[]){1.5f, 0.5f, 2, 1}, 4);
    float rows[] = {3, 4, 0.6f, 0.8f}; /* norms of the rows: 5, 1 */
    apply("{\"class_name\": \"MaxNorm\", \"config\": {\"max_value\": 2, \"axis\": [-1]}}", two_by_two, rows);
    assert_near(rows, (float[]){1.2f, 1.6f, 0.6f, 0.8f}, 4);
    float unit[] = {3, 0, 4, 0}; /* a column of zeros stays */
    apply("\"unit_norm\"", two_by_two, unit);
    assert_near(unit, (float[]){0.6f, 0, 0.8f, 0}, 4);
    float between[] = {3, 0.03f, 4, 0.04f}; /* norms 5 and 0.05 */
    apply("{\"class_name\": \"MinMaxNorm\", \"config\": {\"min_value\": 0.5, \"max_value\": 1, \"rate\": 0.5}}",
          two_by_two, between);
    assert_near(between, (float[]){1.8f, 0.165f, 2.4f, 0.22f}, 4); /* norms 3 and 0.275 */
}

/* Over three axes of a convolution's kernel: one norm a filter. */
static void several_axes(void **state) {
    (void)state;
    ls_shape kernel = {.rank = 4, .dim = {2, 1, 2, 3}};
    float w[12];
    for (int i = 0; i < 12; i++) {
        w[i] = (float)(i % 3 + 1);
    }
    apply("{\"class_name\": \"UnitNorm\", \"config\": {\"axis\": [0, 1, 2]}}", kernel, w);
    for (int i = 0; i < 12; i++) {
        assert_near(&w[i], (float[]){0.5f}, 1); /* four equal values a filter */
    }
}

static void wrong_constraints(void **state) {
    (void)state;
    ls_constraint c;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_constraint_parse(parsed("\"maxnorm\""), &two_by_two, &c, &err), LS_EINPUT);
    assert_non_null(strstr(err.text, "did you mean \"MaxNorm\"?"));
    assert_int_equal(
        ls_constraint_parse(parsed("{\"class_name\": \"NonNeg\", \"config\": {\"axis\": 0}}"), &two_by_two, &c, &err),
        LS_EINPUT);
    assert_non_null(strstr(err.text, "c.config.axis: unknown key"));
}

static int release(void **state) {
    (void)state;
    ls_json_release(&doc);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regularizers),
        cmocka_unit_test(projections),
        cmocka_unit_test(several_axes),
        cmocka_unit_test(wrong_constraints),
    };
    return cmocka_run_group_tests(tests, NULL, release);
}
