/*
 * Metrics: one row each. A metric adds into `n_sums` doubles; sums of lanes, steps and epochs are added (in a fixed
 * order), and `result` turns them into the number that people read, so that a metric is exact over any split of the
 * data.
 *
 * Source: Keras 2 metrics.
 */
#ifndef LS_WORKER_METRIC_H
#define LS_WORKER_METRIC_H

#include "common/json.h"
#include "worker/loss/loss.h"
#include "worker/model/model.h"

typedef struct ls_metric ls_metric;

typedef struct ls_metric_class {
    const char *name;
    const char *aliases;
    const char *keys;
    bool sparse; /* takes class numbers (int32) as targets */
    int (*n_sums)(const ls_metric *m);
    /* p (n_rows, n) predictions, y (n_rows, n) f32 or (n_rows) int32 targets; weight NULL or (n_rows). Adds to sums. */
    void (*add)(const ls_metric *m, const float *p, const void *y, const float *weight, int64_t n_rows, int64_t n,
                double *sums);
    double (*result)(const ls_metric *m, const double *sums);
    /* n of the (n, n) table of counts that the sums are, rows true classes; NULL: they are no table. */
    int64_t (*table)(const ls_metric *m);
    /* Reads keys into m->settings (config may be absent); NULL: ls_metric_parse knows them. */
    ls_status (*configure)(ls_metric *m, ls_json config, ls_err *err);
} ls_metric_class;

struct ls_metric {
    const ls_metric_class *class_;
    char name[64]; /* as it appears in logs: "accuracy", "mae" */
    double threshold;
    int64_t k; /* top k; number of thresholds */
    int64_t n_classes;
    int64_t n_labels; /* AUC: curves, one a label, of which the mean is taken; 1: one over all */
    int64_t class_id; /* precision, recall: the one class that is looked at, plus 1; 0: all */
    bool only_top_k;  /* precision, recall: predictions below the k largest of a row do not count */
    bool weighted;    /* by the samples' weights ("weighted_metrics") */
    int mode;         /* F1: average; AUC: summation method */
    bool curve_is_pr;
    double *thresholds;                         /* AUC: (k - 2), ascending, without the ends; NULL: evenly apart */
    double *label_weights;                      /* AUC: (n_classes); NULL: all 1 */
    ls_loss loss;                               /* of a loss that is used as a metric */
    lockstep_value settings[LOCKSTEP_MAX_KEYS]; /* of a plugin's metric, in the order of its keys */
};

/* A name or {"class_name", "config"}. "accuracy"/"acc" becomes binary, categorical or sparse categorical accuracy from
 * the output's shape and whether the loss is sparse, as Keras does. After a success the caller releases *out. */
ls_status ls_metric_parse(ls_json at, const ls_shape *output, bool sparse_target, ls_metric *out,
                          ls_err *err) LS_MUST_CHECK;

void ls_metric_release(ls_metric *m);

/* Whether a class is a row of the table, no plugin's. */
bool ls_metric_built_in(const ls_metric_class *class_);

/* Adds a class that is found after the built-in ones (and losses, which are metrics too), until
 * ls_metric_class_drop_added. `owner` is the file that it comes from; both stay the caller's. LS_EINPUT: the name is
 * taken. */
ls_status ls_metric_class_add(const ls_metric_class *class_, const char *owner, ls_err *err) LS_MUST_CHECK;
void ls_metric_class_drop_added(void);

#endif
