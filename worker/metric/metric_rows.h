/* The rows of the table of metrics; each lies in the file of its family. */
#ifndef LS_WORKER_METRIC_ROWS_H
#define LS_WORKER_METRIC_ROWS_H

#include "worker/metric/metric.h"

/* A weighted mean: sums are {sum of weight * value, sum of weights}. */
int ls_metric_mean_n_sums(const ls_metric *m);
double ls_metric_mean_result(const ls_metric *m, const double *sums);

extern const ls_metric_class ls_metric_binary_accuracy;
extern const ls_metric_class ls_metric_categorical_accuracy;
extern const ls_metric_class ls_metric_sparse_categorical_accuracy;
extern const ls_metric_class ls_metric_mean_absolute_error;
extern const ls_metric_class ls_metric_mean_squared_error;

#endif
