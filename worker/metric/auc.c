/*
 * The area under a curve: at each of k thresholds {true positives, false positives}; then positives and negatives; for
 * each label where they are looked at one by one.
 *
 * Thresholds are -1e-7, 1/(k-1), ..., (k-2)/(k-1), 1 + 1e-7, or -1e-7, those given, 1 + 1e-7. ROC: recall over the
 * false positive rate; PR: precision over recall; by the rule named, which for PR is the interpolation of Davis &
 * Goadrich, 2006. Labels that are weighed are so in the mean of their areas, or in the counts where there is one curve
 * over all.
 *
 * Source: keras/metrics/confusion_metrics.py (2.11-2.15), AUC.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/metric/metric_rows.h"

enum { RULE_INTERPOLATION, RULE_MINORING, RULE_MAJORING };

static double ratio(double a, double b) {
    return b > 0 ? a / b : 0;
}

static int n_sums(const ls_metric *m) {
    return (int)(m->n_labels * (2 * m->k + 2));
}

static double threshold(const ls_metric *m, int64_t t) {
    return t == 0                  ? -1e-7
           : t == m->k - 1         ? 1 + 1e-7
           : m->thresholds != NULL ? m->thresholds[t - 1]
                                   : (double)(float)((double)t / (double)(m->k - 1));
}

static void add(const ls_metric *m, const float *p, const void *target, const float *weight, int64_t n_rows, int64_t n,
                double *sums) {
    const float *y = target;
    const double *label_weight = m->n_labels == 1 ? m->label_weights : NULL;
    for (int64_t i = 0; i < n_rows * n; i++) {
        double *s = sums + (i % n % m->n_labels) * (2 * m->k + 2);
        double w = (weight != NULL ? weight[i / n] : 1.0) * (label_weight != NULL ? label_weight[i % n] : 1.0);
        double score = m->loss.from_logits ? (double)(float)(1 / (1 + exp(-(double)p[i]))) : p[i];
        int actual = y[i] > 0 ? 0 : 1;
        s[2 * m->k + actual] += w;
        for (int64_t t = 0; t < m->k && score > threshold(m, t); t++) {
            s[2 * t + actual] += w;
        }
    }
}

static double interpolate_precision(const ls_metric *m, const double *s) {
    double area = 0;
    const double positives = s[2 * m->k];
    for (int64_t t = 0; t + 1 < m->k; t++) {
        double tp = s[2 * t], next_tp = s[2 * t + 2], dtp = tp - next_tp;
        double p = tp + s[2 * t + 1], next_p = next_tp + s[2 * t + 3], dp = p - next_p;
        double slope = ratio(dtp, dp > 0 ? dp : 0), intercept = next_tp - slope * next_p;
        double relative = p > 0 && next_p > 0 ? p / next_p : 1;
        area += ratio(slope * (dtp + intercept * log(relative)), positives);
    }
    return area;
}

typedef struct {
    double x, y;
} point;

/* Of the curve, at threshold t. */
static point point_at(const ls_metric *m, const double *s, int64_t t) {
    const double tp = s[2 * t], fp = s[2 * t + 1], recall = ratio(tp, s[2 * m->k]);
    return m->curve_is_pr ? (point){recall, ratio(tp, tp + fp)} : (point){ratio(fp, s[2 * m->k + 1]), recall};
}

static double area_of_label(const ls_metric *m, const double *s) {
    double area = 0;
    if (m->curve_is_pr && m->mode == RULE_INTERPOLATION) {
        return interpolate_precision(m, s);
    }
    for (int64_t t = 0; t + 1 < m->k; t++) {
        const point a = point_at(m, s, t), b = point_at(m, s, t + 1);
        double height = m->mode == RULE_INTERPOLATION ? (a.y + b.y) / 2
                        : m->mode == RULE_MINORING    ? fmin(a.y, b.y)
                                                      : fmax(a.y, b.y);
        area += (a.x - b.x) * height;
    }
    return area;
}

static double result(const ls_metric *m, const double *s) {
    double sum = 0, weights = 0;
    for (int64_t label = 0; label < m->n_labels; label++) {
        double w = m->n_labels > 1 && m->label_weights != NULL ? m->label_weights[label] : 1;
        sum += w * area_of_label(m, s + label * (2 * m->k + 2));
        weights += w;
    }
    return ratio(sum, weights);
}

/* ---- configuration ---- */

/* A list of numbers, NULL where it is absent; n < 0: of any length, which n then is. Freed with the metric. */
static ls_status read_numbers(ls_json config, const char *key, double max, double **out, int64_t *n, ls_err *err) {
    ls_json list = ls_json_member(config, key);
    if (!ls_json_present(list)) {
        return LS_OK;
    }
    const int64_t length = (int64_t)ls_json_length(list);
    if (!json_is_array(list.value) || length == 0 || (*n >= 0 && length != *n)) {
        char wanted[48] = "one and more";
        if (*n >= 0) {
            snprintf(wanted, sizeof wanted, "%lld, one a label", (long long)*n);
        }
        return ls_json_fail(list, err, "expected a list of numbers, %s", wanted);
    }
    *n = length;
    *out = ls_xcalloc((size_t)length, sizeof **out);
    for (int64_t i = 0; i < length; i++) {
        ls_json at = ls_json_element(list, (size_t)i);
        double x = json_number_value(at.value);
        if (!json_is_number(at.value) || !(x >= 0 && x <= max)) {
            return max < INFINITY ? ls_json_fail(at, err, "expected a number from 0 to %g", max)
                                  : ls_json_fail(at, err, "expected a number of at least 0");
        }
        (*out)[i] = (double)(float)x;
    }
    return LS_OK;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Thresholds of one's own, in any order; num_thresholds is then what comes of them. */
static ls_status read_thresholds(ls_metric *m, ls_json config, ls_err *err) {
    int64_t n = -1;
    m->k = 200;
    LS_TRY(ls_json_get_int(config, "num_thresholds", 2, 100000, &m->k, err));
    LS_TRY(read_numbers(config, "thresholds", 1, &m->thresholds, &n, err));
    if (m->thresholds != NULL) {
        qsort(m->thresholds, (size_t)n, sizeof *m->thresholds, ascending);
        m->k = n + 2;
    }
    return LS_OK;
}

static ls_status configure(ls_metric *m, ls_json config, ls_err *err) {
    static const char *const curves[] = {"ROC", "PR"}, *const rules[] = {"interpolation", "minoring", "majoring"};
    bool each = false;
    int curve = 0;
    int64_t n_labels = m->n_classes;
    LS_TRY(read_thresholds(m, config, err));
    LS_TRY(ls_json_get_choice(config, "curve", curves, 2, &curve, err));
    LS_TRY(ls_json_get_choice(config, "summation_method", rules, 3, &m->mode, err));
    m->curve_is_pr = curve == 1;
    LS_TRY(ls_json_get_bool(config, "from_logits", &m->loss.from_logits, err));
    LS_TRY(ls_json_get_bool(config, "multi_label", &each, err));
    LS_TRY(ls_json_get_int(config, "num_labels", 1, INT32_MAX, &n_labels, err));
    if (n_labels != m->n_classes) {
        return ls_json_fail(ls_json_member(config, "num_labels"), err, "expected %d, as the output has",
                            (int)m->n_classes);
    }
    m->n_labels = each ? m->n_classes : 1;
    return read_numbers(config, "label_weights", INFINITY, &m->label_weights, &n_labels, err);
}

const ls_metric_class ls_metric_auc = {.name = "auc",
                                       .aliases = "AUC",
                                       .keys =
                                           "num_thresholds curve summation_method thresholds multi_label num_labels "
                                           "label_weights from_logits",
                                       .n_sums = n_sums,
                                       .add = add,
                                       .result = result,
                                       .configure = configure};
