/* Metrics that are the mean of one value a row. */
#include <math.h>

#include "worker/metric/metric_rows.h"

int ls_metric_mean_n_sums(const ls_metric *m) {
    (void)m;
    return 2;
}

double ls_metric_mean_result(const ls_metric *m, const double *sums) {
    (void)m;
    return sums[1] != 0 ? sums[0] / sums[1] : 0;
}

/* The first of the largest, as numpy's argmax. */
static int64_t argmax(const float *p, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        best = p[i] > p[best] ? i : best;
    }
    return best;
}

static double binary_hit(const ls_metric *m, const float *p, const float *y, int64_t n) {
    double hits = 0;
    for (int64_t i = 0; i < n; i++) {
        hits += (p[i] > m->threshold) == (y[i] != 0);
    }
    return hits / (double)n;
}

static double categorical_hit(const ls_metric *m, const float *p, const float *y, int64_t n) {
    (void)m;
    return argmax(p, n) == argmax(y, n);
}

static double absolute_error(const ls_metric *m, const float *p, const float *y, int64_t n) {
    (void)m;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += fabs((double)p[i] - y[i]);
    }
    return sum / (double)n;
}

static double squared_error(const ls_metric *m, const float *p, const float *y, int64_t n) {
    (void)m;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += ((double)p[i] - y[i]) * ((double)p[i] - y[i]);
    }
    return sum / (double)n;
}

/* A row of the table from a function of one row. */
#define MEAN_METRIC(symbol, value, name_, aliases_, keys_)                                                           \
    static void symbol##_add(const ls_metric *m, const float *p, const void *y, const float *weight, int64_t n_rows, \
                             int64_t n, double *sums) {                                                              \
        for (int64_t r = 0; r < n_rows; r++) {                                                                       \
            double w = weight != NULL ? weight[r] : 1.0;                                                             \
            sums[0] += w * value(m, p + r * n, (const float *)y + r * n, n);                                         \
            sums[1] += w;                                                                                            \
        }                                                                                                            \
    }                                                                                                                \
    const ls_metric_class ls_metric_##symbol = {.name = name_,                                                       \
                                                .aliases = aliases_,                                                 \
                                                .keys = keys_,                                                       \
                                                .n_sums = ls_metric_mean_n_sums,                                     \
                                                .add = symbol##_add,                                                 \
                                                .result = ls_metric_mean_result}

MEAN_METRIC(binary_accuracy, binary_hit, "binary_accuracy", "BinaryAccuracy", "threshold");
MEAN_METRIC(categorical_accuracy, categorical_hit, "categorical_accuracy", "CategoricalAccuracy", "");
MEAN_METRIC(mean_absolute_error, absolute_error, "mean_absolute_error", "mae MAE MeanAbsoluteError", "");
MEAN_METRIC(mean_squared_error, squared_error, "mean_squared_error", "mse MSE MeanSquaredError", "");

static void sparse_add(const ls_metric *m, const float *p, const void *target, const float *weight, int64_t n_rows,
                       int64_t n, double *sums) {
    const int32_t *y = target;
    (void)m;
    for (int64_t r = 0; r < n_rows; r++) {
        double w = weight != NULL ? weight[r] : 1.0;
        sums[0] += argmax(p + r * n, n) == y[r] ? w : 0;
        sums[1] += w;
    }
}

const ls_metric_class ls_metric_sparse_categorical_accuracy = {.name = "sparse_categorical_accuracy",
                                                               .aliases = "SparseCategoricalAccuracy",
                                                               .keys = "",
                                                               .sparse = true,
                                                               .n_sums = ls_metric_mean_n_sums,
                                                               .add = sparse_add,
                                                               .result = ls_metric_mean_result};
