/*
 * EarlyStopping and TerminateOnNaN.
 *
 * As in tf_keras 2.14 and later, and in Keras 3, restore_best_weights gives the best weights back at the end of
 * training whether it ended early or not.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "trainer/fit/callback_private.h"

typedef struct {
    ls_callback base;
    ls_monitor monitor;
    double min_delta; /* signed: what must be taken from a value before it is compared */
    double baseline;  /* NAN: none */
    int64_t patience, start_from_epoch, verbose;
    bool restore_best;
    /* state */
    int64_t wait, stopped_epoch, best_epoch;
    double best;
    bool has_weights;
    float *weights; /* the chief's: all weights of the best epoch */
} early_stopping;

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static ls_status early_parse(ls_callback *base, ls_json config, double learning_rate, ls_err *err) {
    (void)learning_rate;
    early_stopping *cb = (early_stopping *)base;
    ls_mode mode;
    cb->baseline = NAN;
    LS_TRY(ls_monitor_parse(config, &cb->monitor, &mode, err));
    LS_TRY(ls_json_get_double(config, "min_delta", -1e300, 1e300, &cb->min_delta, err));
    LS_TRY(ls_json_get_double(config, "baseline", -1e300, 1e300, &cb->baseline, err));
    LS_TRY(ls_json_get_int(config, "patience", 0, INT64_MAX, &cb->patience, err));
    LS_TRY(ls_json_get_int(config, "start_from_epoch", 0, INT64_MAX, &cb->start_from_epoch, err));
    LS_TRY(ls_json_get_bool(config, "restore_best_weights", &cb->restore_best, err));
    LS_TRY(ls_verbose_parse(config, &cb->verbose, err));
    const char *name = cb->monitor.name;
    cb->monitor.greater =
        mode == LS_MODE_MAX ||
        (mode == LS_MODE_AUTO && (ends_with(name, "acc") || ends_with(name, "accuracy") || ends_with(name, "auc")));
    cb->min_delta = cb->monitor.greater ? fabs(cb->min_delta) : -fabs(cb->min_delta);
    return LS_OK;
}

static ls_status early_begin(ls_callback *base, ls_moment *m, ls_err *err) {
    early_stopping *cb = (early_stopping *)base;
    cb->wait = cb->stopped_epoch = cb->best_epoch = 0;
    cb->best = ls_monitor_worst(&cb->monitor);
    cb->has_weights = false;
    if (cb->restore_best && m->chief && cb->weights == NULL) {
        cb->weights = ls_calloc(m->port->n_elems + 1, sizeof *cb->weights);
        if (cb->weights == NULL) {
            return ls_fail(err, LS_ENOMEM, "out of memory for the best weights (%zu numbers)", m->port->n_elems);
        }
    }
    return LS_OK;
}

static bool improves(const early_stopping *cb, double value, double reference) {
    value -= cb->min_delta;
    return cb->monitor.greater ? value > reference : value < reference;
}

static ls_status keep_weights(early_stopping *cb, const ls_moment *m, ls_err *err) {
    cb->best_epoch = m->epoch;
    if (cb->restore_best) {
        LS_TRY(m->port->get(m->port->self, cb->weights, err));
        cb->has_weights = true;
    }
    return LS_OK;
}

static ls_status early_epoch_end(ls_callback *base, ls_moment *m, ls_err *err) {
    early_stopping *cb = (early_stopping *)base;
    const double *current = ls_monitor_value(&cb->monitor, base, m);
    if (current == NULL || m->epoch < cb->start_from_epoch) {
        return LS_OK;
    }
    cb->wait++;
    if (improves(cb, *current, cb->best)) {
        cb->best = *current;
        LS_TRY(keep_weights(cb, m, err));
        if (isnan(cb->baseline) || improves(cb, *current, cb->baseline)) {
            cb->wait = 0;
        }
        return LS_OK;
    }
    if (cb->restore_best && !cb->has_weights) {
        LS_TRY(keep_weights(cb, m, err)); /* of the first epoch, in case none is ever better */
    }
    if (cb->wait >= cb->patience && m->epoch > 0) {
        cb->stopped_epoch = m->epoch;
        m->stop = true;
        snprintf(m->reason, sizeof m->reason, "%.80s has not improved for %lld epochs", cb->monitor.name,
                 (long long)cb->wait);
    }
    return LS_OK;
}

static ls_status early_train_end(ls_callback *base, ls_moment *m, ls_err *err) {
    early_stopping *cb = (early_stopping *)base;
    if (cb->stopped_epoch > 0 && cb->verbose > 0) {
        ls_callback_say(m, false, "epoch %lld: early stopping", (long long)cb->stopped_epoch + 1);
    }
    if (cb->restore_best && cb->has_weights) {
        if (cb->verbose > 0) {
            ls_callback_say(m, false, "the weights of epoch %lld, the best, are restored",
                            (long long)cb->best_epoch + 1);
        }
        return m->port->set(m->port->self, cb->weights, err);
    }
    return LS_OK;
}

static json_t *early_save(const ls_callback *base) {
    const early_stopping *cb = (const early_stopping *)base;
    return json_pack("{s:I, s:I, s:I, s:o, s:b}", "wait", (json_int_t)cb->wait, "stopped_epoch",
                     (json_int_t)cb->stopped_epoch, "best_epoch", (json_int_t)cb->best_epoch, "best",
                     ls_state_number(cb->best), "has_weights", cb->has_weights);
}

static ls_status early_restore(ls_callback *base, ls_json state, ls_err *err) {
    early_stopping *cb = (early_stopping *)base;
    LS_TRY(ls_json_get_int(state, "wait", 0, INT64_MAX, &cb->wait, err));
    LS_TRY(ls_json_get_int(state, "stopped_epoch", 0, INT64_MAX, &cb->stopped_epoch, err));
    LS_TRY(ls_json_get_int(state, "best_epoch", 0, INT64_MAX, &cb->best_epoch, err));
    LS_TRY(ls_json_get_bool(state, "has_weights", &cb->has_weights, err));
    return ls_state_get(state, "best", ls_monitor_worst(&cb->monitor), &cb->best, err);
}

static float *early_weights(ls_callback *base, bool **present) {
    early_stopping *cb = (early_stopping *)base;
    *present = &cb->has_weights;
    return cb->weights;
}

static void early_release(ls_callback *base) {
    free(((early_stopping *)base)->weights);
}

static const char *const early_keys[] = {
    "monitor",          "min_delta", "patience", "verbose", "mode", "baseline", "restore_best_weights",
    "start_from_epoch", NULL};

const ls_callback_class ls_callback_early_stopping = {
    .name = "EarlyStopping",
    .keys = early_keys,
    .n_bytes = sizeof(early_stopping),
    .parse = early_parse,
    .train_begin = early_begin,
    .epoch_end = early_epoch_end,
    .train_end = early_train_end,
    .save = early_save,
    .restore = early_restore,
    .weights = early_weights,
    .release = early_release,
};

static ls_status nan_parse(ls_callback *base, ls_json config, double learning_rate, ls_err *err) {
    (void)base, (void)config, (void)learning_rate, (void)err;
    return LS_OK;
}

static ls_status nan_batch_end(ls_callback *base, ls_moment *m, ls_err *err) {
    (void)base, (void)err;
    const double *loss = ls_logs_find(m->logs, "loss");
    if (loss != NULL && !isfinite(*loss)) {
        m->stop = true;
        snprintf(m->reason, sizeof m->reason, "batch %lld: invalid loss (%g), terminating training",
                 (long long)m->batch + 1, *loss);
        ls_callback_say(m, true, "%s", m->reason);
    }
    return LS_OK;
}

static const char *const no_keys[] = {NULL};

const ls_callback_class ls_callback_terminate_on_nan = {
    .name = "TerminateOnNaN",
    .keys = no_keys,
    .n_bytes = sizeof(ls_callback),
    .parse = nan_parse,
    .batch_end = nan_batch_end,
};
