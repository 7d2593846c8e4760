/*
 * What model.compile() says in Keras: losses, loss weights, metrics and the optimizer, checked against the model.
 */
#ifndef LS_WORKER_COMPILE_H
#define LS_WORKER_COMPILE_H

#include "worker/loss/loss.h"
#include "worker/metric/metric.h"
#include "worker/model/model.h"
#include "worker/optimizer/optimizer.h"

typedef struct ls_compile {
    int n_outputs;
    ls_loss *losses;      /* (n_outputs); class_ NULL: no loss for that output */
    double *loss_weights; /* (n_outputs) */
    int n_metrics;
    ls_metric *metrics; /* (n_metrics); with several outputs the name is "<output>_<metric>" */
    int *metric_output; /* (n_metrics) which output each is for */
    ls_optimizer optimizer;
} ls_compile;

/*
 * Reads an object with "loss", "loss_weights", "metrics", "weighted_metrics" and "optimizer" (a job's compile section),
 * or with "optimizer_config" (the training_config of a Keras file). loss, loss_weights and metrics may be one value, a
 * list in the order of the outputs, or an object by output name, as in Keras. Unknown keys are errors. *out is released
 * by the caller with ls_compile_release, after a failure too.
 */
ls_status ls_compile_parse(ls_json config, const ls_model *model, ls_compile *out, ls_err *err) LS_MUST_CHECK;
void ls_compile_release(ls_compile *compile);

/* Adds a metric of an output unless one of that name is there. LS_EINPUT: `at`, whose value is the name or
 * object, is no metric, or takes other targets than the loss. */
ls_status ls_compile_want_metric(ls_compile *compile, const ls_model *model, int output, ls_json at,
                                 ls_err *err) LS_MUST_CHECK;

#endif
