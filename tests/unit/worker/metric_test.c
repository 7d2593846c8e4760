/* Metrics against hand calculation, and that sums of any cut of the rows give the same result. */
#include "worker/metric/metric.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static ls_metric parse(const char *text, int64_t n, bool sparse) {
    ls_json_doc doc = {0};
    ls_err err = LS_ERR_INIT;
    ls_metric m;
    ls_shape output = {.rank = 1, .dim = {n}};
    char list[256];
    snprintf(list, sizeof list, "[%s]", text);
    assert_int_equal(ls_json_parse(&doc, "job.json", list, &err), LS_OK);
    if (ls_metric_parse(ls_json_element(ls_json_root(&doc), 0), &output, sparse, &m, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
    ls_json_release(&doc);
    return m;
}

/* The result over all rows at once; checks that two parts added give the same. */
static double result(const char *text, bool sparse, const float *p, const void *y, int64_t n_rows, int64_t n) {
    ls_metric m = parse(text, n, sparse);
    int n_sums = m.class_->n_sums(&m);
    double *whole = calloc((size_t)n_sums, sizeof *whole), *parts = calloc((size_t)n_sums, sizeof *parts);
    m.class_->add(&m, p, y, NULL, n_rows, n, whole);
    m.class_->add(&m, p, y, NULL, 1, n, parts);
    const char *rest = (const char *)y + (sparse ? sizeof(int32_t) : (size_t)n * sizeof(float));
    m.class_->add(&m, p + n, rest, NULL, n_rows - 1, n, parts);
    double value = m.class_->result(&m, whole);
    assert_float_equal(value, m.class_->result(&m, parts), 1e-12);
    free(whole);
    free(parts);
    ls_metric_release(&m);
    return value;
}

static void accuracies(void **state) {
    (void)state;
    const float p[9] = {0.1f, 0.7f, 0.2f, 0.4f, 0.3f, 0.3f, 0.2f, 0.2f, 0.6f};
    const float one_hot[9] = {0, 1, 0, 0, 1, 0, 0, 0, 1};
    const int32_t classes[3] = {1, 1, 2};
    assert_float_equal(result("\"accuracy\"", false, p, one_hot, 3, 3), 2.0 / 3, 1e-12);
    assert_float_equal(result("\"acc\"", true, p, classes, 3, 3), 2.0 / 3, 1e-12);
    /* row 2: class 1 has 0.3, one class above it: in the top 2 */
    assert_float_equal(
        result("{\"class_name\": \"SparseTopKCategoricalAccuracy\", \"config\": {\"k\": 2}}", true, p, classes, 3, 3),
        1.0, 1e-12);
    const float scores[4] = {0.2f, 0.8f, 0.6f, 0.5f}, truth[4] = {0, 1, 0, 1};
    assert_float_equal(result("\"accuracy\"", false, scores, truth, 4, 1), 0.5, 1e-12);
    assert_float_equal(
        result("{\"class_name\": \"BinaryAccuracy\", \"config\": {\"threshold\": 0.7}}", false, scores, truth, 4, 1),
        0.75, 1e-12);
}

static void counts(void **state) {
    (void)state;
    const float scores[6] = {0.9f, 0.8f, 0.6f, 0.4f, 0.3f, 0.1f}, truth[6] = {1, 0, 1, 1, 0, 0};
    assert_float_equal(result("\"precision\"", false, scores, truth, 6, 1), 2.0 / 3, 1e-12);
    assert_float_equal(result("\"recall\"", false, scores, truth, 6, 1), 2.0 / 3, 1e-12);
    /* pairs ordered rightly: 9 pairs, wrong: (0.6, 0.8), (0.4, 0.8) */
    assert_float_equal(result("\"AUC\"", false, scores, truth, 6, 1), 7.0 / 9, 1e-6);
    const float p[6] = {0.9f, 0.1f, 0.2f, 0.8f, 0.7f, 0.3f}, y[6] = {1, 0, 0, 1, 0, 1};
    /* class 0: tp 1, fp 1, fn 0: 2/3; class 1: tp 1, fp 0, fn 1: 2/3 */
    assert_float_equal(result("\"f1_score\"", false, p, y, 3, 2), 2.0 / 3, 1e-12);
    assert_float_equal(result("{\"class_name\": \"F1Score\", \"config\": {\"average\": \"micro\"}}", false, p, y, 3, 2),
                       2.0 / 3, 1e-12);
    assert_float_equal(result("\"mean_iou\"", false, p, y, 3, 2), 0.5, 1e-12);
}

/* Precision and recall of one class, and among the k largest; AUC label by label and of logits. */
static void selections(void **state) {
    (void)state;
    const float p[6] = {0.9f, 0.6f, 0.2f, 0.3f, 0.8f, 0.7f}, y[6] = {1, 0, 1, 0, 1, 1};
    /* class 1: predicted in both rows, true in the second */
    assert_float_equal(result("{\"class_name\": \"Precision\", \"config\": {\"class_id\": 1}}", false, p, y, 2, 3), 0.5,
                       1e-12);
    assert_float_equal(result("{\"class_name\": \"Recall\", \"config\": {\"class_id\": 2}}", false, p, y, 2, 3), 0.5,
                       1e-12);
    /* the largest of each row alone: 0.9 and 0.8 are right, of four that are true; a threshold still counts */
    assert_float_equal(result("{\"class_name\": \"Recall\", \"config\": {\"top_k\": 1}}", false, p, y, 2, 3), 0.5,
                       1e-12);
    assert_float_equal(result("{\"class_name\": \"Precision\", \"config\": {\"top_k\": 3}}", false, p, y, 2, 3),
                       4.0 / 6, 1e-12);
    assert_float_equal(
        result("{\"class_name\": \"Recall\", \"config\": {\"top_k\": 1, \"thresholds\": [0.85]}}", false, p, y, 2, 3),
        0.25, 1e-12);
    const float two[8] = {0.9f, 0.1f, 0.8f, 0.6f, 0.3f, 0.7f, 0.2f, 0.4f}, truth[8] = {1, 0, 0, 1, 1, 1, 0, 0};
    /* label 0: pairs (0.9, 0.3) over (0.8, 0.2), one of four wrong; label 1: all right */
    assert_float_equal(
        result("{\"class_name\": \"AUC\", \"config\": {\"multi_label\": true}}", false, two, truth, 4, 2),
        (0.75 + 1) / 2, 1e-6);
    const float logits[4] = {3, -2, 1, 0.5f}, binary[4] = {1, 0, 0, 1};
    assert_float_equal(
        result("{\"class_name\": \"AUC\", \"config\": {\"from_logits\": true}}", false, logits, binary, 4, 1), 0.75,
        1e-6);
}

#define AUC(config) "{\"class_name\": \"AUC\", \"config\": {" config "}}"
#define THRESHOLDS "\"thresholds\": [0.62, 0.33, 0.5, 0.1]"

/* Thresholds of one's own, rules, labels that weigh more: from the formulas in numpy. */
static void areas(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double area;
    } of[] = {
        {AUC(THRESHOLDS), 0.414285714286},
        {AUC(THRESHOLDS ", \"num_thresholds\": 6, \"summation_method\": \"minoring\""), 0.285714285714},
        {AUC(THRESHOLDS ", \"summation_method\": \"majoring\""), 0.542857142857},
        {AUC(THRESHOLDS ", \"curve\": \"PR\""), 0.529224078042},
        {AUC(THRESHOLDS ", \"curve\": \"PR\", \"summation_method\": \"minoring\""), 0.373015873016},
        {AUC(THRESHOLDS ", \"curve\": \"PR\", \"summation_method\": \"majoring\""), 0.539682539683},
        {AUC(THRESHOLDS ", \"label_weights\": [3, 0.5]"), 0.430681818182},
        {AUC(THRESHOLDS ", \"multi_label\": true, \"label_weights\": [3, 0.5]"), 0.443452380952},
        {AUC("\"multi_label\": true, \"label_weights\": [3, 0.5]"), 0.547619047619},
        {AUC("\"label_weights\": [3, 0.5]"), 0.486363636364},
        {AUC("\"curve\": \"PR\", \"summation_method\": \"majoring\""), 0.635858585859},
    };
    const float p[12] = {0.9f, 0.15f, 0.8f, 0.6f, 0.35f, 0.7f, 0.4f, 0.45f, 0.3f, 0.2f, 0.65f, 0.55f};
    const float y[12] = {1, 1, 0, 1, 1, 1, 1, 0, 0, 1, 0, 0};
    for (size_t i = 0; i < sizeof of / sizeof of[0]; i++) {
        double area = result(of[i].text, false, p, y, 6, 2);
        if (fabs(area - of[i].area) > 1e-9) {
            fail_msg("%s: %.12f, expected %.12f", of[i].text, area, of[i].area);
        }
    }
}

/* Rows of a class that a loss ignores do not count, be it one of the output's or none. */
static void ignored_rows(void **state) {
    (void)state;
    const float p[12] = {0.1f, 0.7f, 0.2f, 0.4f, 0.3f, 0.3f, 0.2f, 0.2f, 0.6f, 0.25f, 0.25f, 0.5f};
    const int32_t outside[4] = {1, 255, 2, 255}, one[4] = {1, 0, 2, 0};
    const double mean = -(log(0.7) + log(0.6)) / 2;
    const char *text = "{\"class_name\": \"SparseCategoricalCrossentropy\", \"config\": {\"ignore_class\": %d}}";
    char ignores[128];
    snprintf(ignores, sizeof ignores, text, 255);
    assert_float_equal(result(ignores, true, p, outside, 4, 3), mean, 1e-7);
    snprintf(ignores, sizeof ignores, text, 0);
    assert_float_equal(result(ignores, true, p, one, 4, 3), mean, 1e-7);
    /* to others a class that is none of the output's is a miss */
    assert_float_equal(result("\"accuracy\"", true, p, outside, 4, 3), 0.5, 0);
    assert_float_equal(
        result("{\"class_name\": \"SparseTopKCategoricalAccuracy\", \"config\": {\"k\": 3}}", true, p, outside, 4, 3),
        0.5, 0);
}

static void check_table(const char *text, bool sparse, const float *p, const void *y, int64_t n_rows, int64_t n,
                        const float *weight, const double *want, int64_t side) {
    ls_metric m = parse(text, n, sparse);
    assert_true(m.class_->table != NULL);
    assert_int_equal(m.class_->table(&m), side);
    assert_int_equal(m.class_->n_sums(&m), side * side);
    double *sums = calloc((size_t)(side * side), sizeof *sums);
    m.class_->add(&m, p, y, weight, n_rows, n, sums);
    for (int64_t i = 0; i < side * side; i++) {
        assert_float_equal(sums[i], want[i], 0);
    }
    free(sums);
    ls_metric_release(&m);
}

static void confusion(void **state) {
    (void)state;
    const float p[12] = {0.1f, 0.7f, 0.2f, 0.4f, 0.3f, 0.3f, 0.2f, 0.2f, 0.6f, 0.1f, 0.2f, 0.7f};
    const float one_hot[12] = {0, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0}, weight[4] = {1, 2, 1, 0.5f};
    const int32_t classes[4] = {1, 1, 2, 0};
    const double want[9] = {0, 0, 1, 1, 1, 0, 0, 0, 1}, weighted[9] = {0, 0, 0.5, 2, 1, 0, 0, 0, 1};
    check_table("\"confusion_matrix\"", false, p, one_hot, 4, 3, NULL, want, 3);
    check_table("\"confusion_matrix\"", true, p, classes, 4, 3, NULL, want, 3);
    check_table("\"ConfusionMatrix\"", true, p, classes, 4, 3, weight, weighted, 3);
    assert_float_equal(result("\"confusion_matrix\"", true, p, classes, 4, 3), 0.5, 1e-12);
    const float scores[4] = {0.2f, 0.8f, 0.6f, 0.5f}, truth[4] = {0, 1, 0, 1};
    const double binary[4] = {1, 1, 1, 1}, strict[4] = {2, 0, 1, 1};
    check_table("\"confusion_matrix\"", false, scores, truth, 4, 1, NULL, binary, 2);
    check_table("{\"class_name\": \"ConfusionMatrix\", \"config\": {\"threshold\": 0.7}}", false, scores, truth, 4, 1,
                NULL, strict, 2);
}

static void means(void **state) {
    (void)state;
    const float p[4] = {1, 3, 0, 4}, y[4] = {2, 1, 0, 3};
    assert_float_equal(result("\"mae\"", false, p, y, 2, 2), (1.5 + 0.5) / 2, 1e-12);
    assert_float_equal(result("\"mse\"", false, p, y, 2, 2), (2.5 + 0.5) / 2, 1e-12);
    assert_float_equal(result("\"RootMeanSquaredError\"", false, p, y, 2, 2), sqrt(1.5), 1e-12);
    assert_float_equal(result("\"cosine_similarity\"", false, p, y, 2, 2), (5 / sqrt(50) + 1) / 2, 1e-6);
    /* a loss as a metric, with its settings: 0.5 (1 - 0.25) and 0.5 (2 - 0.25); 0.5 * 0 and 0.5 (1 - 0.25) */
    assert_float_equal(result("{\"class_name\": \"Huber\", \"config\": {\"delta\": 0.5}}", false, p, y, 2, 2),
                       ((0.375 + 0.875) / 2 + 0.375 / 2) / 2, 1e-12);
    const float share[2] = {0.2f, 0.8f}, truth[2] = {0, 1};
    assert_float_equal(result("\"dice\"", false, share, truth, 1, 2), 0.2, 1e-6);
    assert_string_equal(parse("\"mae\"", 2, false).name, "mae");
    assert_string_equal(parse("{\"class_name\": \"AUC\", \"config\": {\"name\": \"area\"}}", 1, false).name, "area");
}

static void complaints(void **state) {
    (void)state;
    ls_json_doc doc = {0};
    ls_err err = LS_ERR_INIT;
    ls_metric m;
    ls_shape output = {.rank = 1, .dim = {3}};
    assert_int_equal(
        ls_json_parse(
            &doc, "job.json",
            "[\"acuracy\", {\"class_name\": \"Precision\", \"config\": {\"top_k\": 4}},"
            " {\"class_name\": \"ConfusionMatrix\", \"config\": {\"num_classes\": 4}}, " AUC("\n\"thresholds\": [0.5, "
                                                                                             "1.5]") ", " AUC(
                "\"label_weights\": [1, 2]") ", " AUC("\"label_weights\": [1, 2, -1]") ", " AUC("\"thresholds\": 0.5") "]",
            &err),
        LS_OK);
    ls_json root = ls_json_root(&doc);
    assert_int_equal(ls_metric_parse(ls_json_element(root, 0), &output, false, &m, &err), LS_EINPUT);
    assert_string_equal(err.text,
                        "job.json:1: [0]: \"acuracy\" is not a metric that Lockstep knows; did you mean \"accuracy\"?");
    assert_int_equal(ls_metric_parse(ls_json_element(root, 1), &output, false, &m, &err), LS_EINPUT);
    assert_string_equal(err.text,
                        "job.json:1: [1].config.top_k: expected a whole number from 1 to 3, found the number 4");
    assert_int_equal(ls_metric_parse(ls_json_element(root, 2), &output, false, &m, &err), LS_EINPUT);
    assert_string_equal(
        err.text,
        "job.json:1: [2].config: a confusion matrix of 4 classes, for an output of 3; expected those of "
        "the output, and at most 256");
    static const char *const areas[] = {
        "job.json:2: [3].config.thresholds[1]: expected a number from 0 to 1",
        "job.json:2: [4].config.label_weights: expected a list of numbers, 3, one a label",
        "job.json:2: [5].config.label_weights[2]: expected a number of at least 0",
        "job.json:2: [6].config.thresholds: expected a list of numbers, one and more"};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(ls_metric_parse(ls_json_element(root, 3 + i), &output, false, &m, &err), LS_EINPUT);
        assert_string_equal(err.text, areas[i]);
    }
    ls_json_release(&doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(accuracies),   cmocka_unit_test(counts),
                                       cmocka_unit_test(means),        cmocka_unit_test(selections),
                                       cmocka_unit_test(confusion),    cmocka_unit_test(areas),
                                       cmocka_unit_test(ignored_rows), cmocka_unit_test(complaints)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
