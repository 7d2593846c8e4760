#include "trainer/fit/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static ls_schedule made(const char *text) {
    ls_json_doc doc;
    ls_schedule s;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_json_parse(&doc, "s.json", text, &err), LS_OK);
    if (ls_schedule_parse(ls_json_root(&doc), 0.5, &s, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
    ls_json_release(&doc);
    return s;
}

static void expect_rates(const char *text, const double *pairs, int n) {
    ls_schedule s = made(text);
    for (int i = 0; i < n; i++) {
        double rate = ls_schedule_rate(&s, pairs[2 * i]);
        if (fabs(rate - pairs[2 * i + 1]) > 1e-12) {
            fail_msg("%s at %g: %.17g, expected %.17g", text, pairs[2 * i], rate, pairs[2 * i + 1]);
        }
    }
    ls_schedule_release(&s);
}
#define EXPECT(text, ...)                                                      \
    do {                                                                       \
        const double pairs_[] = {__VA_ARGS__};                                 \
        expect_rates(text, pairs_, (int)(sizeof pairs_ / sizeof(double) / 2)); \
    } while (0)

static void keras_schedules(void **state) {
    (void)state;
    EXPECT(
        "{\"class_name\":\"ExponentialDecay\",\"config\":{\"initial_learning_rate\":0.1,\"decay_steps\":10,"
        "\"decay_rate\":0.5}}",
        0, 0.1, 10, 0.05, 20, 0.025, 5, 0.1 * sqrt(0.5));
    EXPECT(
        "{\"class_name\":\"ExponentialDecay\",\"config\":{\"initial_learning_rate\":0.1,\"decay_steps\":10,"
        "\"decay_rate\":0.5,\"staircase\":true}}",
        0, 0.1, 9, 0.1, 10, 0.05, 19, 0.05);
    EXPECT("{\"class_name\":\"PiecewiseConstantDecay\",\"config\":{\"boundaries\":[100,200],\"values\":[1,0.5,0.1]}}",
           0, 1, 100, 1, 101, 0.5, 200, 0.5, 201, 0.1);
    EXPECT(
        "{\"class_name\":\"PolynomialDecay\",\"config\":{\"initial_learning_rate\":1,\"decay_steps\":100,"
        "\"end_learning_rate\":0.2,\"power\":2}}",
        0, 1, 50, 0.4, 100, 0.2, 1000, 0.2);
    EXPECT(
        "{\"class_name\":\"PolynomialDecay\",\"config\":{\"initial_learning_rate\":1,\"decay_steps\":100,"
        "\"end_learning_rate\":0,\"cycle\":true}}",
        0, 1, 50, 0.5, 150, 0.25);
    EXPECT(
        "{\"class_name\":\"InverseTimeDecay\",\"config\":{\"initial_learning_rate\":1,\"decay_steps\":2,"
        "\"decay_rate\":0.5}}",
        0, 1, 2, 1 / 1.5, 4, 0.5);
    EXPECT(
        "{\"class_name\":\"CosineDecay\",\"config\":{\"initial_learning_rate\":1,\"decay_steps\":100,\"alpha\":0.1}}",
        0, 1, 50, 0.55, 100, 0.1, 300, 0.1);
    EXPECT(
        "{\"class_name\":\"CosineDecay\",\"config\":{\"initial_learning_rate\":0,\"decay_steps\":100,"
        "\"warmup_target\":1,\"warmup_steps\":10}}",
        0, 0, 5, 0.5, 10, 1, 60, 0.5, 110, 0);
    EXPECT(
        "{\"class_name\":\"CosineDecayRestarts\",\"config\":{\"initial_learning_rate\":1,\"first_decay_steps\":10,"
        "\"m_mul\":0.5}}",
        0, 1, 5, 0.5, 10, 0.5, 20, 0.25);
}

static void lockstep_schedules(void **state) {
    (void)state;
    EXPECT("{\"0\": 0.1, \"20\": 0.001, \"10\": 0.01}", 0, 0.1, 9, 0.1, 10, 0.01, 19, 0.01, 20, 0.001, 99, 0.001);
    EXPECT("{\"3\": 0.1}", 0, 0.5, 2, 0.5, 3, 0.1);
    EXPECT("{\"class_name\":\"StepDecay\",\"config\":{\"every\":3,\"drop\":0.1}}", 0, 0.5, 2, 0.5, 3, 0.05, 6, 0.005);
    EXPECT("{\"class_name\":\"InverseTimeDecay\",\"config\":{\"decay_rate\":0.25}}", 0, 0.5, 4, 0.25);
}

/* The recipe of large batches: batch 2048, so 8 times the rate, over 5 epochs of 10 steps, then drops at 30 and 60. */
static void warm_up(void **state) {
    (void)state;
    ls_schedule s = made(
        "{\"class_name\":\"WarmUp\",\"config\":{\"reference_batch_size\":256,\"warmup\":5,\"per\":\"epoch\","
        "\"schedule\":{\"class_name\":\"StepDecay\",\"config\":{\"initial_learning_rate\":0.1,\"every\":30,"
        "\"drop\":0.1}}}}");
    assert_true(ls_schedule_needs_run(&s));
    ls_schedule_set_run(&s, 2048, 10);
    static const double rates[][2] = {{0, 0.1},   {25, 0.45},  {49, 0.786}, {50, 0.8},
                                      {299, 0.8}, {300, 0.08}, {599, 0.08}, {600, 0.008}};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        assert_true(fabs(ls_schedule_rate(&s, rates[i][0]) - rates[i][1]) < 1e-12);
    }
    ls_schedule_release(&s);
    s = made(
        "{\"class_name\":\"WarmUp\",\"config\":{\"warmup\":4,\"reference_batch_size\":32,\"warmup_start\":0.2,"
        "\"schedule\":{\"class_name\":\"CosineDecay\",\"config\":{\"decay_steps\":8}}}}"); /* of 0.5 */
    ls_schedule_set_run(&s, 64, 1000);
    assert_true(fabs(ls_schedule_rate(&s, 0) - 0.2) < 1e-12);
    assert_true(fabs(ls_schedule_rate(&s, 2) - 0.35) < 1e-12); /* towards the cosine at 4 */
    assert_true(fabs(ls_schedule_rate(&s, 4) - 0.5) < 1e-12);
    assert_true(fabs(ls_schedule_rate(&s, 8)) < 1e-12);
    ls_schedule_release(&s);
    EXPECT("{\"class_name\":\"WarmUp\",\"config\":{\"warmup\":4}}", 0, 0, 1, 0.125, 4, 0.5, 9, 0.5);
    EXPECT("{\"class_name\":\"WarmUp\",\"config\":{\"warmup\":0,\"initial_learning_rate\":2}}", 0, 2, 1, 2);
    s = made("{\"class_name\":\"StepDecay\",\"config\":{\"every\":3,\"drop\":0.1}}");
    assert_false(ls_schedule_needs_run(&s));
    ls_schedule_release(&s);
}

static void expect_error(const char *text, double initial, const char *message) {
    ls_json_doc doc;
    ls_schedule s;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_json_parse(&doc, "s.json", text, &err), LS_OK);
    assert_int_equal(ls_schedule_parse(ls_json_root(&doc), initial, &s, &err), LS_EINPUT);
    assert_string_equal(err.text, message);
    ls_json_release(&doc);
}

static void errors(void **state) {
    (void)state;
    expect_error(
        "{\"class_name\":\"CosinDecay\",\"config\":{}}", 1,
        "s.json:1: class_name: \"CosinDecay\" is not a learning rate schedule that Lockstep knows; did you mean "
        "\"CosineDecay\"?");
    expect_error("{\"class_name\":\"CosineDecay\",\"config\":{}}", 1, "s.json:1: config: \"decay_steps\" is missing");
    expect_error("{\"class_name\":\"CosineDecay\",\"config\":{\"decay_steps\":1}}", NAN,
                 "s.json:1: config: \"initial_learning_rate\" is missing");
    expect_error("{\"class_name\":\"StepDecay\",\"config\":{\"evry\":1}}", 1,
                 "s.json:1: config.evry: unknown key; did you mean \"every\"?");
    expect_error("{\"class_name\":\"WarmUp\",\"config\":{}}", 1, "s.json:1: config: \"warmup\" is missing");
    expect_error("{\"class_name\":\"WarmUp\",\"config\":{\"warmup\":1}}", NAN,
                 "s.json:1: config: \"initial_learning_rate\" is missing, or a \"schedule\" that has it");
    expect_error(
        "{\"class_name\":\"WarmUp\",\"config\":{\"warmup\":1,\"schedule\":{\"class_name\":\"WarmUp\",\"config\":"
        "{\"warmup\":2}}}}",
        1, "s.json:1: config.schedule: a WarmUp inside another says nothing; leave one of them out");
    expect_error("{\"1.5\": 0.1}", 1,
                 "s.json:1: 1.5: expected a table such as {\"0\": 0.1, \"10\": 0.01}, or an object with class_name; "
                 "\"1.5\" is not a whole number from 0");
    expect_error("{\"class_name\":\"PiecewiseConstantDecay\",\"config\":{\"boundaries\":[2,1],\"values\":[1,2,3]}}", 1,
                 "s.json:1: config.boundaries[1]: boundaries must increase");
    expect_error("[]", 1, "s.json:1: expected an object in braces, found a list of 0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_up),
        cmocka_unit_test(keras_schedules),
        cmocka_unit_test(lockstep_schedules),
        cmocka_unit_test(errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
