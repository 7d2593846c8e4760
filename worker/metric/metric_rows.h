/* The rows of the table of metrics; each lies in the file of its family. Every loss is a metric too. */
#ifndef LS_WORKER_METRIC_ROWS_H
#define LS_WORKER_METRIC_ROWS_H

#include "worker/metric/metric.h"

#define LS_METRIC_LIST(X)                \
    X(binary_accuracy)                   \
    X(categorical_accuracy)              \
    X(sparse_categorical_accuracy)       \
    X(top_k_categorical_accuracy)        \
    X(sparse_top_k_categorical_accuracy) \
    X(root_mean_squared_error)           \
    X(cosine_similarity)                 \
    X(precision)                         \
    X(recall)                            \
    X(f1_score)                          \
    X(auc)                               \
    X(mean_iou)                          \
    X(confusion_matrix)                  \
    X(sparse_confusion_matrix)

#define X(name) extern const ls_metric_class ls_metric_##name;
LS_METRIC_LIST(X)
#undef X

/* The mean of the loss in m->loss. Two rows, for the two kinds of targets. */
extern const ls_metric_class ls_metric_loss, ls_metric_sparse_loss;

#endif
