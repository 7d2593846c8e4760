/* Losses: every gradient against central differences, values against hand calculation, and the texts of complaints. */
#include "worker/loss/loss.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 5 };

typedef double (*row_function)(const ls_loss *loss, const float *p, const void *y, int64_t n, float *dp, float scale);

/* d loss / d p_i by central differences; the row functions add up in double, so the step may be small for a float. */
static void check_gradient(const ls_loss *loss, row_function row, const float *p, const void *y) {
    float gradient[N], moved[N];
    const float scale = 0.5f;
    row(loss, p, y, N, gradient, scale);
    for (int i = 0; i < N; i++) {
        const float h = 1e-3f;
        memcpy(moved, p, sizeof moved);
        moved[i] = p[i] + h;
        double above = row(loss, moved, y, N, NULL, 0), up = moved[i];
        moved[i] = p[i] - h;
        double below = row(loss, moved, y, N, NULL, 0), down = moved[i];
        double expected = scale * (above - below) / (up - down);
        if (fabs(expected - gradient[i]) > 2e-4 * fmax(1, fabs(expected))) {
            fail_msg("%s, element %d: gradient %g, central difference %g", loss->class_->name, i, gradient[i],
                     expected);
        }
    }
}

static void gradients_of_all_losses(void **state) {
    (void)state;
    const float p[N] = {0.12f, 0.31f, 0.23f, 0.14f, 0.2f}, logits[N] = {0.4f, -1.2f, 2.1f, 0.05f, -0.3f};
    const float real[N] = {0.3f, 0.1f, 0.9f, 0.4f, 0.05f}, one_hot[N] = {0, 0, 1, 0, 0};
    const int32_t class_ = 3;
    for (const ls_loss_class *const *c = ls_loss_classes(); *c != NULL; c++) {
        ls_loss loss = {.class_ = *c, .a = 0.15, .b = 0.7};
        for (int smooth = 0; smooth < 2; smooth++) {
            loss.label_smoothing = 0.1 * smooth;
            const void *y = (*c)->sparse ? (const void *)&class_ : strstr((*c)->name, "categorical") ? one_hot : real;
            check_gradient(&loss, (*c)->row, p, y);
            if ((*c)->row_logits != NULL) {
                check_gradient(&loss, (*c)->row_logits, logits, y);
            }
        }
    }
}

static ls_loss parsed(const char *text) {
    ls_json_doc doc = {0};
    ls_err err = LS_ERR_INIT;
    ls_loss loss;
    assert_int_equal(ls_json_parse(&doc, "test", text, &err), LS_OK);
    if (ls_loss_parse(ls_json_root(&doc), &loss, &err) != LS_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    ls_json_release(&doc);
    return loss;
}

/* Every key of every row changes the loss, and its gradient is that of the loss so changed. */
static void settings_change_the_loss(void **state) {
    (void)state;
    const float p[N] = {0.12f, 0.31f, 0.23f, 0.14f, 0.2f}, real[N] = {2.3f, 0.1f, 0.9f, -1.4f, 0.05f};
    const float one_hot[N] = {0, 0, 1, 0, 0};
    const int32_t class_ = 3;
    for (const ls_loss_class *const *c = ls_loss_classes(); *c != NULL; c++) {
        const void *y = (*c)->sparse                                 ? (const void *)&class_
                        : strstr((*c)->name, "crossentropy") != NULL ? (const void *)one_hot
                                                                     : real;
        ls_loss plain = {.class_ = *c, .a = (*c)->a != 0 ? (*c)->a : 1, .b = 1};
        for (const char *key = (*c)->keys; *key != '\0'; key += strcspn(key, " "), key += *key == ' ') {
            char text[200];
            const int n = (int)strcspn(key, " ");
            const bool logits = strncmp(key, "from_logits", (size_t)n) == 0;
            const char *value = logits ? "true" : strncmp(key, "ignore_class", (size_t)n) == 0 ? "3" : "0.25";
            snprintf(text, sizeof text, "{\"class_name\": \"%s\", \"config\": {\"%.*s\": %s}}", (*c)->name, n, key,
                     value);
            ls_loss changed = parsed(text);
            row_function row = changed.from_logits ? (*c)->row_logits : (*c)->row;
            double before = (*c)->row(&plain, p, y, N, NULL, 0), after = row(&changed, p, y, N, NULL, 0);
            if (fabs(before - after) < 1e-3) {
                fail_msg("%s: the loss is %g with it and without", text, before);
            }
            check_gradient(&changed, row, p, y);
        }
    }
}

/* From logits and from probabilities the same loss comes out. */
static void logits_agree_with_probabilities(void **state) {
    (void)state;
    const float x[N] = {0.4f, -1.2f, 2.1f, 0.05f, -0.3f}, y[N] = {0.2f, 0.1f, 0.4f, 0.2f, 0.1f};
    const int32_t class_ = 1;
    float soft[N], sig[N];
    double sum = 0;
    for (int i = 0; i < N; i++) {
        sum += exp(x[i]);
    }
    for (int i = 0; i < N; i++) {
        soft[i] = (float)(exp(x[i]) / sum);
        sig[i] = (float)(1 / (1 + exp(-x[i])));
    }
    for (const ls_loss_class *const *c = ls_loss_classes(); *c != NULL; c++) {
        if ((*c)->row_logits == NULL) {
            continue;
        }
        ls_loss loss = {.class_ = *c};
        const float *p = strcmp((*c)->activation, "softmax") == 0 ? soft : sig;
        const void *target = (*c)->sparse ? (const void *)&class_ : y;
        double a = (*c)->row(&loss, p, target, N, NULL, 0), b = (*c)->row_logits(&loss, x, target, N, NULL, 0);
        assert_true(fabs(a - b) < 2e-6);
    }
}

static void logits_do_not_overflow(void **state) {
    (void)state;
    const float x[N] = {1000, -1000, 0, 500, -500}, one_hot[N] = {0, 1, 0, 0, 0};
    for (const ls_loss_class *const *c = ls_loss_classes(); *c != NULL; c++) {
        if ((*c)->row_logits != NULL && !(*c)->sparse) {
            ls_loss loss = {.class_ = *c};
            float dx[N];
            assert_true(isfinite((*c)->row_logits(&loss, x, one_hot, N, dx, 1)));
            for (int i = 0; i < N; i++) {
                assert_true(isfinite(dx[i]));
            }
        }
    }
}

static double value_of(const char *name, const float *p, const float *y, int64_t n, double a, double b) {
    ls_json_doc doc = {0};
    ls_err err = LS_ERR_INIT;
    char text[64];
    snprintf(text, sizeof text, "[\"%s\"]", name);
    assert_int_equal(ls_json_parse(&doc, "test", text, &err), LS_OK);
    ls_loss loss;
    assert_int_equal(ls_loss_parse(ls_json_element(ls_json_root(&doc), 0), &loss, &err), LS_OK);
    ls_json_release(&doc);
    loss.a = a;
    loss.b = b;
    return loss.class_->row(&loss, p, y, n, NULL, 0);
}

static void defaults_as_keras_writes_them(void **state) {
    (void)state;
    assert_true(parsed("{\"class_name\": \"SparseCategoricalCrossentropy\", \"config\": {\"reduction\": \"auto\", "
                       "\"name\": \"x\", \"from_logits\": true, \"ignore_class\": null}}")
                    .from_logits);
    assert_float_equal(parsed("{\"class_name\": \"CategoricalCrossentropy\", \"config\": {\"reduction\": "
                              "\"sum_over_batch_size\", \"axis\": -1, \"label_smoothing\": 0.5}}")
                           .label_smoothing,
                       0.5, 0);
}

static void values_by_hand(void **state) {
    (void)state;
    const float p[2] = {1, 3}, y[2] = {2, 1};
    const float zero_one[2] = {0, 1}, scores[2] = {0.5f, -0.5f};
    assert_float_equal(value_of("mse", p, y, 2, 1, 1), 2.5, 1e-9);
    assert_float_equal(value_of("MAE", p, y, 2, 1, 1), 1.5, 1e-9);
    assert_float_equal(value_of("mape", p, y, 2, 1, 1), 125, 1e-6);
    assert_float_equal(value_of("huber", p, y, 2, 1, 1), (0.5 + 1.5) / 2, 1e-9);
    assert_float_equal(value_of("asymmetric_linear", p, y, 2, 3, 0.5), (3 * 1 + 0.5 * 2) / 2, 1e-9);
    /* labels 0, 1 become -1, 1: max(0, 1 + 0.5), max(0, 1 + 0.5) */
    assert_float_equal(value_of("hinge", scores, zero_one, 2, 1, 1), 1.5, 1e-6);
    assert_float_equal(value_of("squared_hinge", scores, zero_one, 2, 1, 1), 2.25, 1e-6);
    /* neg 0.5, pos -0.5 */
    assert_float_equal(value_of("categorical_hinge", scores, zero_one, 2, 1, 1), 2.0, 1e-6);
    const float share[2] = {0.2f, 0.8f};
    assert_float_equal(value_of("dice", share, zero_one, 2, 0, 0), 0.2, 1e-6);
    assert_float_equal(value_of("cosine_similarity", p, y, 2, 1, 1), -5 / sqrt(50), 1e-6);
}

static void complaint(const char *text, const char *expected) {
    ls_json_doc doc = {0};
    ls_err err = LS_ERR_INIT;
    ls_loss loss;
    assert_int_equal(ls_json_parse(&doc, "job.json", text, &err), LS_OK);
    assert_int_equal(ls_loss_parse(ls_json_member(ls_json_root(&doc), "loss"), &loss, &err), LS_EINPUT);
    assert_string_equal(err.text, expected);
    ls_json_release(&doc);
}

static void complaints(void **state) {
    (void)state;
    complaint("{\"loss\": \"categorical_crosentropy\"}",
              "job.json:1: loss: \"categorical_crosentropy\" is not a loss that Lockstep knows; did you mean "
              "\"categorical_crossentropy\"?");
    complaint("{\"loss\": {\"class_name\": \"Huber\", \"config\": {\n\"dleta\": 2}}}",
              "job.json:2: loss.config.dleta: unknown key of loss huber; did you mean \"delta\"?");
    complaint("{\"loss\": {\"class_name\": \"Huber\", \"config\": {\"delta\": \"two\"}}}",
              "job.json:1: loss.config.delta: expected a number of at least 0, found the text \"two\"");
    complaint("{\"loss\": {\"class_name\": \"MeanSquaredError\", \"config\": {\"reduction\": \"sum\"}}}",
              "job.json:1: loss.config.reduction: a loss is the mean over the batch (\"sum_over_batch_size\"), and "
              "nothing else; leave it out, and scale it by loss_weights");
    complaint("{\"loss\": {\"class_name\": \"CosineSimilarity\", \"config\": {\"axis\": 1}}}",
              "job.json:1: loss.config.axis: losses work along the last axis (-1) alone; put a Permute before the "
              "output");
    complaint("{\"loss\": {\"class_name\": \"SparseCategoricalCrossentropy\", \"config\": {\"ignore_class\": 0.5}}}",
              "job.json:1: loss.config.ignore_class: expected a whole number from -2147483648 to 2147483647, found the "
              "number 0.5");
    complaint("{\"loss\": {\"class_name\": \"CategoricalCrossentropy\", \"config\": {\"ignore_class\": 0}}}",
              "job.json:1: loss.config.ignore_class: unknown key of loss categorical_crossentropy; known are "
              "\"from_logits\", \"label_smoothing\", \"name\", \"reduction\", \"fn\", \"axis\", \"dtype\"");
    complaint("{\"loss\": 3}", "job.json:1: loss: expected an object in braces, found the number 3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_of_all_losses),
        cmocka_unit_test(settings_change_the_loss),
        cmocka_unit_test(logits_agree_with_probabilities),
        cmocka_unit_test(logits_do_not_overflow),
        cmocka_unit_test(defaults_as_keras_writes_them),
        cmocka_unit_test(values_by_hand),
        cmocka_unit_test(complaints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
