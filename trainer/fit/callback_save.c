/*
 * ModelCheckpoint. File names count from the run folder; the file is Keras HDF5, whole or not there at all.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "trainer/fit/callback_private.h"
#include "trainer/fit/pattern.h"

typedef struct {
    ls_callback base;
    ls_monitor monitor;
    const char *pattern;
    bool best_only, weights_only;
    int64_t every_batches; /* 0: every epoch */
    int64_t period;        /* epochs between two files (Keras's old key) */
    int64_t verbose;
    double threshold; /* initial_value_threshold; NAN: none */
    /* state */
    double best;
    int64_t batches_since, epochs_since;
} saver;

static ls_status parse_freq(saver *cb, ls_json config, ls_err *err) {
    ls_json freq = ls_json_member(config, "save_freq");
    if (!ls_json_present(freq) || (json_is_string(freq.value) && strcmp(json_string_value(freq.value), "epoch") == 0)) {
        return LS_OK;
    }
    if (!json_is_integer(freq.value) || json_integer_value(freq.value) < 1) {
        char found[96];
        return ls_json_fail(freq, err, "expected \"epoch\" or a number of batches, found %s",
                            ls_json_describe(freq.value, found, sizeof found));
    }
    cb->every_batches = json_integer_value(freq.value);
    return LS_OK;
}

static ls_status saver_parse(ls_callback *base, ls_json config, double learning_rate, ls_err *err) {
    (void)learning_rate;
    saver *cb = (saver *)base;
    ls_mode mode;
    cb->threshold = NAN;
    cb->period = 1;
    LS_TRY(ls_json_get_string(config, "filepath", &cb->pattern, err));
    if (cb->pattern == NULL) {
        return ls_json_fail(config, err, "\"filepath\" is missing, for example \"best.h5\" or \"{epoch:02d}.h5\"");
    }
    size_t n = strlen(cb->pattern);
    if (!(n > 3 && strcmp(cb->pattern + n - 3, ".h5") == 0) && !(n > 5 && strcmp(cb->pattern + n - 5, ".hdf5") == 0)) {
        return ls_json_fail(ls_json_member(config, "filepath"), err,
                            "expected a name that ends with .h5 or .hdf5, found \"%s\"; Lockstep writes Keras's HDF5 "
                            "format, which Keras 2 and 3 load",
                            cb->pattern);
    }
    LS_TRY(ls_monitor_parse(config, &cb->monitor, &mode, err));
    cb->monitor.greater = mode == LS_MODE_MAX ||
                          (mode == LS_MODE_AUTO &&
                           (strstr(cb->monitor.name, "acc") != NULL || strncmp(cb->monitor.name, "fmeasure", 8) == 0));
    LS_TRY(ls_json_get_bool(config, "save_best_only", &cb->best_only, err));
    LS_TRY(ls_json_get_bool(config, "save_weights_only", &cb->weights_only, err));
    LS_TRY(ls_json_get_double(config, "initial_value_threshold", -1e300, 1e300, &cb->threshold, err));
    LS_TRY(ls_json_get_int(config, "period", 1, INT64_MAX, &cb->period, err));
    LS_TRY(ls_verbose_parse(config, &cb->verbose, err));
    return parse_freq(cb, config, err);
}

static ls_status saver_begin(ls_callback *base, ls_moment *m, ls_err *err) {
    (void)m, (void)err;
    saver *cb = (saver *)base;
    cb->best = isnan(cb->threshold) ? ls_monitor_worst(&cb->monitor) : cb->threshold;
    cb->batches_since = cb->epochs_since = 0;
    return LS_OK;
}

static ls_status write_file(saver *cb, ls_moment *m, bool with_batch, ls_err *err) {
    char name[1024];
    LS_TRY(ls_pattern_fill(cb->pattern, m->epoch + 1, with_batch ? m->batch + 1 : 0, m->logs, name, sizeof name, err));
    char *path = ls_path_join(m->port->run_folder, name);
    ls_status status = m->port->save(m->port->self, path, cb->weights_only, err);
    if (status == LS_OK && cb->verbose > 0) {
        ls_callback_say(m, false, "epoch %lld: model saved to %s", (long long)m->epoch + 1, path);
    }
    free(path);
    return status;
}

static ls_status save_if_due(saver *cb, ls_moment *m, bool with_batch, ls_err *err) {
    if (!cb->best_only) {
        return write_file(cb, m, with_batch, err);
    }
    const double *current = ls_monitor_value(&cb->monitor, &cb->base, m);
    if (current == NULL) {
        return LS_OK;
    }
    if (cb->monitor.greater ? *current > cb->best : *current < cb->best) {
        cb->best = *current;
        return write_file(cb, m, with_batch, err);
    }
    if (cb->verbose > 0) {
        ls_callback_say(m, false, "epoch %lld: %s did not improve from %.5f", (long long)m->epoch + 1, cb->monitor.name,
                        cb->best);
    }
    return LS_OK;
}

static ls_status saver_batch_end(ls_callback *base, ls_moment *m, ls_err *err) {
    saver *cb = (saver *)base;
    if (cb->every_batches == 0 || ++cb->batches_since < cb->every_batches) {
        return LS_OK;
    }
    cb->batches_since = 0;
    return save_if_due(cb, m, true, err);
}

static ls_status saver_epoch_end(ls_callback *base, ls_moment *m, ls_err *err) {
    saver *cb = (saver *)base;
    if (cb->every_batches != 0 || ++cb->epochs_since < cb->period) {
        return LS_OK;
    }
    cb->epochs_since = 0;
    return save_if_due(cb, m, false, err);
}

static json_t *saver_save(const ls_callback *base) {
    const saver *cb = (const saver *)base;
    return json_pack("{s:o, s:I, s:I}", "best", ls_state_number(cb->best), "batches_since",
                     (json_int_t)cb->batches_since, "epochs_since", (json_int_t)cb->epochs_since);
}

static ls_status saver_restore(ls_callback *base, ls_json state, ls_err *err) {
    saver *cb = (saver *)base;
    LS_TRY(ls_json_get_int(state, "batches_since", 0, INT64_MAX, &cb->batches_since, err));
    LS_TRY(ls_json_get_int(state, "epochs_since", 0, INT64_MAX, &cb->epochs_since, err));
    return ls_state_get(state, "best", ls_monitor_worst(&cb->monitor), &cb->best, err);
}

static const char *const saver_keys[] = {
    "filepath", "monitor",   "verbose", "save_best_only",          "save_weights_only",
    "mode",     "save_freq", "period",  "initial_value_threshold", NULL};

const ls_callback_class ls_callback_model_checkpoint = {
    .name = "ModelCheckpoint",
    .keys = saver_keys,
    .n_bytes = sizeof(saver),
    .parse = saver_parse,
    .train_begin = saver_begin,
    .batch_end = saver_batch_end,
    .epoch_end = saver_epoch_end,
    .save = saver_save,
    .restore = saver_restore,
};
