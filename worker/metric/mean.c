/* Metrics that are the weighted mean of one value a row: sums are {sum of weight * value, sum of weights}. */
#include <math.h>

#include "worker/loss/loss.h"
#include "worker/metric/metric_rows.h"

static int two_sums(const ls_metric *m) {
    (void)m;
    return 2;
}

static double mean(const ls_metric *m, const double *sums) {
    (void)m;
    return sums[1] != 0 ? sums[0] / sums[1] : 0;
}

static double root_of_mean(const ls_metric *m, const double *sums) {
    return sqrt(mean(m, sums));
}

/* The first of the largest, as numpy's argmax. */
static int64_t argmax(const float *p, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        best = p[i] > p[best] ? i : best;
    }
    return best;
}

/* Whether fewer than k classes score above class c (TF's in_top_k: ties count as hits). One that the loss ignores may
 * be none of them: a miss. */
static double in_top_k(const float *p, int64_t n, int64_t c, int64_t k) {
    int64_t above = c >= 0 && c < n ? 0 : k;
    c = above == 0 ? c : 0;
    for (int64_t i = 0; i < n; i++) {
        above += p[i] > p[c];
    }
    return above < k;
}

/* ---- the value of a row; y is n floats, or one class number for the sparse ones ---- */

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

static double top_k_hit(const ls_metric *m, const float *p, const float *y, int64_t n) {
    return in_top_k(p, n, argmax(y, n), m->k);
}

static double sparse_hit(const ls_metric *m, const float *p, const int32_t *y, int64_t n) {
    (void)m;
    return argmax(p, n) == *y;
}

static double sparse_top_k_hit(const ls_metric *m, const float *p, const int32_t *y, int64_t n) {
    return in_top_k(p, n, *y, m->k);
}

static double squared_error(const ls_metric *m, const float *p, const float *y, int64_t n) {
    (void)m;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += ((double)p[i] - y[i]) * ((double)p[i] - y[i]);
    }
    return sum / (double)n;
}

static double cosine(const ls_metric *m, const float *p, const float *y, int64_t n) {
    (void)m;
    double pp = 0, yy = 0, py = 0;
    for (int64_t i = 0; i < n; i++) {
        pp += (double)p[i] * p[i];
        yy += (double)y[i] * y[i];
        py += (double)p[i] * y[i];
    }
    return py / sqrt(fmax(pp, 1e-12)) / sqrt(fmax(yy, 1e-12));
}

static double loss_value(const ls_metric *m, const float *p, const void *y, int64_t n) {
    return (m->loss.from_logits ? m->loss.class_->row_logits : m->loss.class_->row)(&m->loss, p, y, n, NULL, 0);
}

static double dense_loss(const ls_metric *m, const float *p, const float *y, int64_t n) {
    return loss_value(m, p, y, n);
}
static double sparse_loss(const ls_metric *m, const float *p, const int32_t *y, int64_t n) {
    return loss_value(m, p, y, n);
}

/* A row of the table from the value of a row of predictions; `step` is how many targets belong to one. */
#define MEAN_METRIC(symbol, value, type, step, sparse_, result_, name_, aliases_, keys_)                             \
    static void symbol##_add(const ls_metric *m, const float *p, const void *y, const float *weight, int64_t n_rows, \
                             int64_t n, double *sums) {                                                              \
        for (int64_t r = 0; r < n_rows; r++) {                                                                       \
            const type *target = (const type *)y + r * (step);                                                       \
            double w = ls_loss_ignores(&m->loss, target) ? 0 : weight != NULL ? weight[r] : 1.0;                     \
            sums[0] += w * value(m, p + r * n, target, n);                                                           \
            sums[1] += w;                                                                                            \
        }                                                                                                            \
    }                                                                                                                \
    const ls_metric_class ls_metric_##symbol = {.name = name_,                                                       \
                                                .aliases = aliases_,                                                 \
                                                .keys = keys_,                                                       \
                                                .sparse = sparse_,                                                   \
                                                .n_sums = two_sums,                                                  \
                                                .add = symbol##_add,                                                 \
                                                .result = result_}

MEAN_METRIC(binary_accuracy, binary_hit, float, n, false, mean, "binary_accuracy", "BinaryAccuracy", "threshold");
MEAN_METRIC(categorical_accuracy, categorical_hit, float, n, false, mean, "categorical_accuracy", "CategoricalAccuracy",
            "");
MEAN_METRIC(sparse_categorical_accuracy, sparse_hit, int32_t, 1, true, mean, "sparse_categorical_accuracy",
            "SparseCategoricalAccuracy", "");
MEAN_METRIC(top_k_categorical_accuracy, top_k_hit, float, n, false, mean, "top_k_categorical_accuracy",
            "TopKCategoricalAccuracy", "k");
MEAN_METRIC(sparse_top_k_categorical_accuracy, sparse_top_k_hit, int32_t, 1, true, mean,
            "sparse_top_k_categorical_accuracy", "SparseTopKCategoricalAccuracy", "k");
MEAN_METRIC(root_mean_squared_error, squared_error, float, n, false, root_of_mean, "root_mean_squared_error",
            "RootMeanSquaredError rmse RMSE", "");
MEAN_METRIC(cosine_similarity, cosine, float, n, false, mean, "cosine_similarity", "CosineSimilarity cosine_proximity",
            "axis");
MEAN_METRIC(loss, dense_loss, float, n, false, mean, "loss", NULL, "");
MEAN_METRIC(sparse_loss, sparse_loss, int32_t, 1, true, mean, "loss", NULL, "");
