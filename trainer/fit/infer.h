/*
 * Using a trained model: evaluation and prediction over all ranks.
 *
 * The model, its losses and metrics come from the checkpoint itself (model_config, training_config), so that any Keras
 * HDF5 file will do; of a Lockstep checkpoint the job's own losses and metrics, and its scale and offset of the inputs,
 * are used, since Keras's training_config cannot say all of them.
 */
#ifndef LS_FIT_INFER_H
#define LS_FIT_INFER_H

#include <stdint.h>

#include "common/status.h"
#include "trainer/fit/table.h"

struct ls_team;

typedef struct ls_infer_request {
    const char *checkpoint; /* a file, or a run folder: its final.h5, else its newest checkpoint */
    const char *data;       /* FILE.h5:/SPLIT */
    int64_t batch;          /* global */
    char *const *metrics;   /* [n_metrics] of --metric: wanted besides those that the checkpoint names */
    size_t n_metrics;
    char *const *plugins; /* [n_plugins] of --plugin: files that the model or its losses need */
    size_t n_plugins;
} ls_infer_request;

/* Collective. Loss and metrics over every sample of the data exactly once, the same on all ranks; the tables of those
 * that are tables too. *tables is released by the caller, after a failure as well. */
ls_status ls_infer_evaluate(struct ls_team *team, const ls_infer_request *request, ls_logs *logs, ls_tables *tables,
                            size_t *n_samples, ls_err *err) LS_MUST_CHECK;

/* Collective. Writes an HDF5 file with one array an output, (samples, shape of the output) f32, named as the output; it
 * appears under its name when it is whole. */
ls_status ls_infer_predict(struct ls_team *team, const ls_infer_request *request, const char *out,
                           ls_err *err) LS_MUST_CHECK;

#endif
