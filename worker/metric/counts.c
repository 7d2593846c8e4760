/*
 * Metrics from counts of hits and misses: precision, recall, F1, intersection over union.
 *
 * Source: keras/metrics/{confusion_metrics,f_score_metrics,iou_metrics}.py (2.11-2.15).
 */
#include <math.h>
#include <string.h>

#include "worker/metric/metric_rows.h"

static double ratio(double a, double b) {
    return b > 0 ? a / b : 0;
}

static double weight_of(const float *weight, int64_t r) {
    return weight != NULL ? weight[r] : 1.0;
}

/* ---- precision and recall: {true positives, false positives, false negatives} over all elements ---- */

static int three_sums(const ls_metric *m) {
    (void)m;
    return 3;
}

/* Whether p[i] is among the k largest of its row; of equal ones the first count. */
static bool in_top(const float *p, int64_t n, int64_t i, int64_t k) {
    int64_t before = 0;
    for (int64_t j = 0; j < n; j++) {
        before += p[j] > p[i] || (p[j] == p[i] && j < i);
    }
    return before < k;
}

static void add_counts(const ls_metric *m, const float *p, const void *target, const float *weight, int64_t n_rows,
                       int64_t n, double *sums) {
    const float *y = target;
    for (int64_t r = 0; r < n_rows; r++) {
        for (int64_t i = r * n; i < (r + 1) * n; i++) {
            if (m->class_id > 0 && i - r * n != m->class_id - 1) {
                continue;
            }
            bool top = !m->only_top_k || in_top(p + r * n, n, i - r * n, m->k);
            bool predicted = top && p[i] > m->threshold, actual = y[i] != 0;
            double w = weight_of(weight, r);
            sums[0] += predicted && actual ? w : 0;
            sums[1] += predicted && !actual ? w : 0;
            sums[2] += !predicted && actual ? w : 0;
        }
    }
}

static double precision(const ls_metric *m, const double *s) {
    (void)m;
    return ratio(s[0], s[0] + s[1]);
}

static double recall(const ls_metric *m, const double *s) {
    (void)m;
    return ratio(s[0], s[0] + s[2]);
}

const ls_metric_class ls_metric_precision = {.name = "precision",
                                             .aliases = "Precision",
                                             .keys = "thresholds top_k class_id",
                                             .n_sums = three_sums,
                                             .add = add_counts,
                                             .result = precision};
const ls_metric_class ls_metric_recall = {.name = "recall",
                                          .aliases = "Recall",
                                          .keys = "thresholds top_k class_id",
                                          .n_sums = three_sums,
                                          .add = add_counts,
                                          .result = recall};

/* ---- F1: the three counts a class; predictions are the largest class, or all above the threshold ---- */

enum { AVERAGE_MACRO, AVERAGE_MICRO, AVERAGE_WEIGHTED };

static int f1_sums(const ls_metric *m) {
    return (int)(3 * m->n_classes);
}

static void f1_add(const ls_metric *m, const float *p, const void *target, const float *weight, int64_t n_rows,
                   int64_t n, double *sums) {
    const float *y = target;
    for (int64_t r = 0; r < n_rows; r++, p += n, y += n) {
        int64_t best = 0;
        for (int64_t i = 1; i < n; i++) {
            best = p[i] > p[best] ? i : best;
        }
        for (int64_t i = 0; i < n; i++) {
            bool predicted = m->threshold < 0 ? i == best && p[i] != 0 : p[i] > m->threshold, actual = y[i] != 0;
            double w = weight_of(weight, r);
            sums[3 * i] += predicted && actual ? w : 0;
            sums[3 * i + 1] += predicted && !actual ? w : 0;
            sums[3 * i + 2] += !predicted && actual ? w : 0;
        }
    }
}

/* 2 tp / (2 tp + fp + fn) */
static double f1_of(const double *s) {
    return ratio(2 * s[0], 2 * s[0] + s[1] + s[2]);
}

static double f1_result(const ls_metric *m, const double *s) {
    double all[3] = {0}, sum = 0, support = 0;
    for (int64_t c = 0; c < m->n_classes; c++, s += 3) {
        double actual = m->mode == AVERAGE_WEIGHTED ? s[0] + s[2] : 1;
        sum += actual * f1_of(s);
        support += actual;
        for (int k = 0; k < 3; k++) {
            all[k] += s[k];
        }
    }
    return m->mode == AVERAGE_MICRO ? f1_of(all) : ratio(sum, support);
}

const ls_metric_class ls_metric_f1_score = {.name = "f1_score",
                                            .aliases = "F1Score f1",
                                            .keys = "average threshold",
                                            .n_sums = f1_sums,
                                            .add = f1_add,
                                            .result = f1_result};

/* ---- mean intersection over union of one-hot targets and class scores: the three counts a class ---- */

static double iou_result(const ls_metric *m, const double *s) {
    double sum = 0, seen = 0;
    for (int64_t c = 0; c < m->n_classes; c++, s += 3) {
        double united = s[0] + s[1] + s[2];
        sum += ratio(s[0], united);
        seen += united > 0;
    }
    return ratio(sum, seen);
}

const ls_metric_class ls_metric_mean_iou = {.name = "mean_iou",
                                            .aliases = "OneHotMeanIoU MeanIoU IoU",
                                            .keys = "num_classes",
                                            .n_sums = f1_sums,
                                            .add = f1_add,
                                            .result = iou_result};
