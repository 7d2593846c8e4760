/*
 * The confusion matrix: how many rows of each class (the table's rows) were taken for each class (its columns). Its one
 * number, for logs, is the share of the diagonal.
 *
 * A prediction is the largest of several scores, as is a target that is not a class number; one score alone makes two
 * classes: 1 above the threshold, else 0. Counts are whole numbers (with sample weights: their sums), so that they are
 * exact in any order.
 */
#include "worker/metric/metric_rows.h"

enum { MAX_CLASSES = 256 }; /* the table rides along with every step's sums */

static int64_t side(const ls_metric *m) {
    return m->n_classes > 1 ? m->n_classes : 2;
}

static int n_sums(const ls_metric *m) {
    return (int)(side(m) * side(m));
}

static int64_t largest(const ls_metric *m, const float *p, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) {
        best = p[i] > p[best] ? i : best;
    }
    return n > 1 ? best : p[0] > m->threshold;
}

static void count(const ls_metric *m, int64_t truth, const float *p, int64_t n, double weight, double *sums) {
    int64_t guess = largest(m, p, n);
    if (truth >= 0 && truth < side(m)) {
        sums[truth * side(m) + guess] += weight;
    }
}

static void add(const ls_metric *m, const float *p, const void *y, const float *weight, int64_t n_rows, int64_t n,
                double *sums) {
    const float *target = y;
    for (int64_t r = 0; r < n_rows; r++) {
        int64_t truth = n > 1 ? largest(m, target + r * n, n) : target[r] > 0.5f;
        count(m, truth, p + r * n, n, weight != NULL ? weight[r] : 1.0, sums);
    }
}

static void add_sparse(const ls_metric *m, const float *p, const void *y, const float *weight, int64_t n_rows,
                       int64_t n, double *sums) {
    const int32_t *target = y;
    for (int64_t r = 0; r < n_rows; r++) {
        count(m, target[r], p + r * n, n, weight != NULL ? weight[r] : 1.0, sums);
    }
}

static double result(const ls_metric *m, const double *sums) {
    double hits = 0, all = 0;
    for (int64_t i = 0; i < side(m) * side(m); i++) {
        all += sums[i];
        hits += i % (side(m) + 1) == 0 ? sums[i] : 0;
    }
    return all > 0 ? hits / all : 0;
}

static ls_status configure(ls_metric *m, ls_json config, ls_err *err) {
    int64_t n_classes = side(m);
    LS_TRY(ls_json_get_int(config, "num_classes", 2, INT32_MAX, &n_classes, err));
    if (n_classes != side(m) || n_classes > MAX_CLASSES) {
        return ls_json_fail(config, err,
                            "a confusion matrix of %d classes, for an output of %d; expected those of the "
                            "output, and at most %d",
                            (int)n_classes, (int)side(m), MAX_CLASSES);
    }
    return ls_json_get_double(config, "threshold", 0, 1, &m->threshold, err);
}

#define ROW(symbol, name_, aliases_, sparse_, add_)                              \
    const ls_metric_class ls_metric_##symbol = {.name = name_,                   \
                                                .aliases = aliases_,             \
                                                .keys = "num_classes threshold", \
                                                .sparse = sparse_,               \
                                                .n_sums = n_sums,                \
                                                .add = add_,                     \
                                                .result = result,                \
                                                .table = side,                   \
                                                .configure = configure}

ROW(confusion_matrix, "confusion_matrix", "ConfusionMatrix", false, add);
ROW(sparse_confusion_matrix, "sparse_confusion_matrix", "SparseConfusionMatrix", true, add_sparse);
