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
#include "common/lockstep_plugin.h"
#include "worker/model/model.h"

typedef struct ls_loss ls_loss;

typedef struct ls_loss_class {
    const char *name;    /* "mean_squared_error" */
    const char *aliases; /* other spellings, separated by spaces: "mse MSE MeanSquaredError" */
    const char *keys;    /* config keys besides name and reduction */
    double a;            /* default of ls_loss's; 0 stands for 1 */
    bool whole_sample;   /* a row is a whole sample, not its last axis */
    bool sparse;         /* targets are class numbers (int32, one a row) */
    /* p (n) predictions, y (n) f32 targets or one int32, dp (n) gradient or NULL; returns the loss, unscaled. */
    double (*row)(const ls_loss *loss, const float *p, const void *y, int64_t n, float *dp, float scale);
    /* The same from logits: computed when the config says from_logits, or when p would come out of `activation`, which
     * is then not differentiated by itself. NULL: not possible. dp is the gradient of the logits. */
    double (*row_logits)(const ls_loss *loss, const float *logits, const void *y, int64_t n, float *dp, float scale);
    const char *activation; /* that row_logits takes over: "softmax", "sigmoid"; NULL: none */
    /* Reads keys into loss->settings (config may be absent); NULL: ls_loss_parse knows them. */
    ls_status (*configure)(ls_loss *loss, ls_json config, ls_err *err);
} ls_loss_class;

struct ls_loss {
    const ls_loss_class *class_;
    bool from_logits;
    double label_smoothing;
    double a, b;                                /* class-specific: Huber's delta, costs of the asymmetric loss */
    bool ignores;                               /* rows of the class `ignored` do not count; sparse losses alone */
    int32_t ignored;                            /* it need be none of the output's */
    lockstep_value settings[LOCKSTEP_MAX_KEYS]; /* of a plugin's loss, in the order of its keys */
};

/* Whether a row of that target does not count: then its loss and gradient are 0, and the mean is over the others. */
static inline bool ls_loss_ignores(const ls_loss *loss, const void *y) {
    return loss->ignores && *(const int32_t *)y == loss->ignored;
}

/* A name, or {"class_name", "config"}. Unknown names: the nearest known one is named. */
ls_status ls_loss_parse(ls_json at, ls_loss *out, ls_err *err) LS_MUST_CHECK;
/* Reads the keys of loss->class_ alone, from a metric's config, say. config may be absent. */
ls_status ls_loss_configure(ls_loss *loss, ls_json config, ls_err *err) LS_MUST_CHECK;
/* The built-in ones, NULL-terminated. */
const ls_loss_class *const *ls_loss_classes(void);
bool ls_loss_built_in(const char *name);
/* Of a name or an alias, added ones last; NULL: none. */
const ls_loss_class *ls_loss_class_find(const char *name);

/* Adds a class that is found after the built-in ones, until ls_loss_class_drop_added. `owner` is the file that it comes
 * from; both stay the caller's. LS_EINPUT: the name is taken. */
ls_status ls_loss_class_add(const ls_loss_class *class_, const char *owner, ls_err *err) LS_MUST_CHECK;
void ls_loss_class_drop_added(void);
/* Appends the names of added classes to a list of n words with room for max; returns how many there are then. */
size_t ls_loss_class_added_names(const char **names, size_t n, size_t max);

#endif
