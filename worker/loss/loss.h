/*
 * Losses: one row and one function each.
 *
 * A loss is evaluated along the last axis: `row` gives the loss of one row of predictions against its target, and
 * writes the gradient of scale * loss with respect to the predictions. The mean over all rows (and over the batch) is
 * the caller's business: scale holds 1 / (global batch * rows a sample) and the sample's weight.
 *
 * Source: Keras 2 losses; cross-entropies clip probabilities to [1e-7, 1 - 1e-7].
 */
#ifndef LS_WORKER_LOSS_H
#define LS_WORKER_LOSS_H

#include "common/json.h"
#include "worker/model/model.h"

typedef struct ls_loss ls_loss;

typedef struct ls_loss_class {
    const char *name;    /* "mean_squared_error" */
    const char *aliases; /* other spellings, separated by spaces: "mse MSE MeanSquaredError" */
    const char *keys;    /* config keys besides name and reduction */
    bool sparse;         /* targets are class numbers (int32, one a row) */
    /* p (n) predictions, y (n) f32 targets or one int32, dp (n) gradient or NULL; returns the loss, unscaled. */
    double (*row)(const ls_loss *loss, const float *p, const void *y, int64_t n, float *dp, float scale);
    /* The same from logits: computed when the config says from_logits, or when p would come out of `activation`, which
     * is then not differentiated by itself. NULL: not possible. dp is the gradient of the logits. */
    double (*row_logits)(const ls_loss *loss, const float *logits, const void *y, int64_t n, float *dp, float scale);
    const char *activation; /* that row_logits takes over: "softmax", "sigmoid"; NULL: none */
} ls_loss_class;

struct ls_loss {
    const ls_loss_class *class_;
    bool from_logits;
    double label_smoothing;
    double a, b; /* class-specific: Huber's delta, costs of the asymmetric loss */
};

/* A name, or {"class_name", "config"}. Unknown names: the nearest known one is named. */
ls_status ls_loss_parse(ls_json at, ls_loss *out, ls_err *err) LS_MUST_CHECK;
const ls_loss_class *const *ls_loss_classes(void); /* NULL-terminated */

#endif
