/* The JSON texts of a checkpoint: where the run stood, and Keras's training_config. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"
#include "trainer/fit/fit_private.h"
#include "worker/dnn/dnn.h"

enum { STATE_VERSION = 1 };

static void put_hex(json_t *object, const char *key, uint64_t x) {
    char text[20];
    snprintf(text, sizeof text, "%016" PRIx64, x);
    json_object_set_new(object, key, json_string(text));
}

/* An object's text without its braces; takes the object over. */
static char *bare_text(json_t *object) {
    char *text = json_dumps(object, JSON_COMPACT);
    LS_ASSERT(text != NULL);
    json_decref(object);
    size_t n = strlen(text);
    memmove(text, text + 1, n - 2);
    text[n - 2] = '\0';
    return text;
}

static json_t *data_state(const ls_fit *f) {
    json_t *data = json_object();
    put_hex(data, "train", ls_source_fingerprint(f->train));
    json_object_set_new(data, "n_samples", json_integer((json_int_t)f->n_samples));
    if (f->validation != NULL) {
        put_hex(data, "validation", ls_source_fingerprint(f->validation));
    }
    return data;
}

/* What does not change in a run, without its braces. */
static char *constant_text(const ls_fit *f) {
    json_t *s = json_object();
    json_object_set_new(s, "version", json_integer(STATE_VERSION));
    json_object_set_new(s, "seed", json_integer(f->job.seed));
    json_object_set_new(s, "batch_size", json_integer(f->job.batch_size));
    json_object_set_new(s, "lanes", json_integer(f->job.lanes));
    json_object_set_new(s, "ranks", json_integer(f->team->size));
    json_object_set_new(s, "isa", json_string(ls_dnn_isa()));
    json_object_set_new(s, "onednn", json_string(ls_dnn_version()));
    json_object_set_new(s, "lockstep", json_string(LOCKSTEP_VERSION));
    json_object_set_new(s, "optimizer", json_string(f->compile.optimizer.class_->name));
    json_object_set_new(s, "data", data_state(f));
    json_object_set_new(s, "plugins", ls_plugins_record(&f->plugins));
    json_object_set_new(s, "job", json_loads(f->job_text, 0, NULL));
    return bare_text(s);
}

/* What changes between epochs, and in batches only where a callback looks at them. */
static char *epoch_text(const ls_fit *f) {
    json_t *s = json_object();
    json_object_set_new(s, "stop", json_boolean(f->moment.stop));
    json_object_set_new(s, "reason", json_string(f->moment.reason));
    json_object_set_new(s, "callbacks", ls_callbacks_save(&f->callbacks));
    json_object_set_new(s, "history", ls_history_save(&f->history));
    return bare_text(s);
}

/* Whether a serialized loss says anything that its name alone does not. */
static bool has_settings(const json_t *config, const ls_loss_class *class_) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)config, key, value) {
        if (ls_word_listed(class_->keys, key) && !json_is_null(value) && !json_is_false(value)) {
            return true;
        }
    }
    return false;
}

/* The class's name as Keras spells it, "CategoricalCrossentropy". */
static json_t *class_name(const ls_loss_class *class_) {
    for (const char *word = class_->aliases; word != NULL && *word != '\0';) {
        size_t n = strcspn(word, " ");
        if (word[0] >= 'A' && word[0] <= 'Z' && strcspn(word, "abcdefghijklmnopqrstuvwxyz") < n) {
            return json_stringn(word, n);
        }
        word += n + (word[n] == ' ');
    }
    return json_string(class_->name);
}

/* A loss in training_config is a name where it can be: Keras 3 refuses objects with reduction "auto". */
static json_t *keras_loss(const json_t *at, const ls_loss *loss) {
    const json_t *config = json_object_get(at, "config");
    if (loss->class_ == NULL) {
        return json_null();
    }
    if (!json_is_object(config) || !has_settings(config, loss->class_)) {
        return json_string(loss->class_->name);
    }
    json_t *copy = json_deep_copy(config);
    json_object_del(copy, "reduction");
    return json_pack("{s:o, s:o}", "class_name", class_name(loss->class_), "config", copy);
}

static json_t *loss_config(const ls_fit *f) {
    const json_t *at = f->job.loss.value;
    if (f->model->n_outputs == 1) {
        if (json_is_array(at)) {
            at = json_array_get(at, 0);
        } else if (json_is_object(at) && json_object_get(at, "class_name") == NULL) {
            at = json_object_get(at, f->model->output_names[0]);
        }
        return keras_loss(at, &f->compile.losses[0]);
    }
    json_t *all = json_object();
    for (int i = 0; i < f->model->n_outputs; i++) {
        const json_t *of = json_is_array(at) ? json_array_get(at, (size_t)i)
                           : json_object_get(at, "class_name") == NULL && json_is_object(at)
                               ? json_object_get(at, f->model->output_names[i])
                               : at;
        if (f->compile.losses[i].class_ != NULL) {
            json_object_set_new(all, f->model->output_names[i], keras_loss(of, &f->compile.losses[i]));
        }
    }
    return all;
}

/* Metrics as the job has them, but for those that Keras has not: it would refuse the whole file. */
static json_t *keras_metrics(const json_t *at) {
    const char *name = json_string_value(json_is_object(at) ? json_object_get(at, "class_name") : at);
    if (name != NULL) {
        return ls_word_listed("confusion_matrix ConfusionMatrix sparse_confusion_matrix SparseConfusionMatrix", name)
                   ? NULL
                   : json_deep_copy(at);
    }
    if (!json_is_array(at) && !json_is_object(at)) {
        return json_null();
    }
    json_t *all = json_is_array(at) ? json_array() : json_object(), *value;
    const char *key;
    size_t i;
    json_array_foreach(at, i, value) {
        json_t *of = keras_metrics(value);
        if (of != NULL) {
            json_array_append_new(all, of);
        }
    }
    json_object_foreach((json_t *)at, key, value) {
        json_t *of = keras_metrics(value);
        json_object_set_new(all, key, of != NULL ? of : json_array());
    }
    return all;
}

char *ls_fit_training_config(const ls_fit *f) {
    static const char *const refused[] = {"jit_compile", "is_legacy_optimizer", "lr"};
    json_t *config = json_deep_copy(json_object_get(f->job.optimizer.value, "config"));
    if (!json_is_object(config)) {
        config = json_object();
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        json_object_del(config, refused[i]);
    }
    json_object_set_new(config, "name", json_string(f->compile.optimizer.class_->name));
    json_object_set_new(config, "learning_rate", json_real(f->moment.learning_rate));
    json_t *metrics = keras_metrics(f->job.metrics.value), *weighted = keras_metrics(f->job.weighted_metrics.value);
    json_t *weights = ls_json_present(f->job.loss_weights) ? json_deep_copy(f->job.loss_weights.value) : json_null();
    json_t *t = json_pack("{s:o, s:o, s:o, s:o, s:{s:s, s:o}}", "loss", loss_config(f), "metrics",
                          metrics != NULL ? metrics : json_null(), "weighted_metrics",
                          weighted != NULL ? weighted : json_null(), "loss_weights", weights, "optimizer_config",
                          "class_name", f->compile.optimizer.class_->name, "config", config);
    char *text = json_dumps(t, JSON_COMPACT);
    json_decref(t);
    LS_ASSERT(text != NULL);
    return text;
}

void ls_fit_state_settle(ls_fit *f) {
    if (f->constant_state == NULL) {
        f->constant_state = constant_text(f);
    }
    free(f->epoch_state);
    f->epoch_state = epoch_text(f);
    if (f->training_config == NULL || f->config_rate != f->moment.learning_rate) {
        free(f->training_config);
        f->training_config = ls_fit_training_config(f);
        f->config_rate = f->moment.learning_rate;
    }
}

void ls_fit_state_text(const ls_fit *f, ls_checkpoint *c) {
    enum { NUMBERS_BYTES = 512 };
    size_t room = strlen(f->constant_state) + strlen(f->epoch_state) + NUMBERS_BYTES;
    char *text = ls_checkpoint_state_room(c, room);
    snprintf(text, room,
             "{\"epoch\":%" PRId64 ",\"batch\":%" PRId64 ",\"step\":%" PRIu64 ",\"iterations\":%" PRIu64
             ",\"learning_rate\":%.17g,%s,%s}",
             f->epoch, f->batch, f->step, ls_engine_iterations(f->engine), f->moment.learning_rate, f->epoch_state,
             f->constant_state);
}

/* ---- back ---- */

static ls_status check_same_int(ls_json state, const char *key, int64_t mine, const char *what, ls_err *err) {
    int64_t theirs = mine;
    LS_TRY(ls_json_get_int(state, key, 0, INT64_MAX, &theirs, err));
    if (theirs != mine) {
        return ls_fail(err, LS_EINPUT,
                       "%s: was written with %s %lld, the job has %lld; resume with the same, or start a new run",
                       state.doc->name, what, (long long)theirs, (long long)mine);
    }
    return LS_OK;
}

static ls_status check_data(const ls_fit *f, ls_json state, ls_err *err) {
    char mine[20];
    const char *theirs = NULL;
    ls_json data = ls_json_member(state, "data");
    snprintf(mine, sizeof mine, "%016" PRIx64, ls_source_fingerprint(f->train));
    LS_TRY(ls_json_get_string(data, "train", &theirs, err));
    if (theirs != NULL && strcmp(theirs, mine) != 0) {
        return ls_fail(
            err, LS_EINPUT,
            "%s: was trained on other data than %s holds now (fingerprint %s, now %s); put the data back, or "
            "start a new run",
            state.doc->name, ls_source_name(f->train), theirs, mine);
    }
    return check_same_int(data, "n_samples", (int64_t)f->n_samples, "a number of training samples of", err);
}

static ls_status check_same_run(ls_fit *f, ls_json state, ls_err *err) {
    int64_t version = 0;
    LS_TRY(ls_json_get_int(state, "version", 0, INT64_MAX, &version, err));
    if (version != STATE_VERSION) {
        return ls_fail(err, LS_EINPUT, "%s: has a state of version %lld, this Lockstep reads version %d",
                       state.doc->name, (long long)version, STATE_VERSION);
    }
    LS_TRY(check_data(f, state, err));
    LS_TRY(check_same_int(state, "lanes", f->job.lanes, "distribute.lanes", err));
    LS_TRY(check_same_int(state, "batch_size", f->job.batch_size, "fit.batch_size", err));
    LS_TRY(check_same_int(state, "seed", f->job.seed, "fit.seed", err));
    const char *optimizer = f->compile.optimizer.class_->name;
    LS_TRY(ls_json_get_string(state, "optimizer", &optimizer, err));
    if (strcmp(optimizer, f->compile.optimizer.class_->name) != 0) {
        return ls_fail(err, LS_EINPUT,
                       "%s: was trained with the optimizer %s, the job has %s; resume with the same, or start a new "
                       "run with this file as its \"weights\"",
                       state.doc->name, optimizer, f->compile.optimizer.class_->name);
    }
    return LS_OK;
}

static void tell_difference(ls_fit *f, const char *path, const json_t *was, const json_t *is) {
    enum { AS_WRITTEN = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6) };
    char *texts[] = {json_dumps(was, AS_WRITTEN), json_dumps(is, AS_WRITTEN)};
    const char *dot = strrchr(path, '.');
    bool rate = strcmp(dot, ".learning_rate") == 0 && json_is_number(was);
    char text[512];
    snprintf(text, sizeof text, "the checkpoint was written with %.120s %.60s, the job has %.60s: %s", path,
             texts[0] != NULL ? texts[0] : "not set", texts[1] != NULL ? texts[1] : "not set",
             rate ? "the rate that the checkpoint was written at goes on; for another, start a new run with its weights"
                  : "training goes on, but the bits will not be those of an uninterrupted run");
    ls_report_warning(f->report, text);
    free(texts[0]);
    free(texts[1]);
}

/* Each value below path that the two jobs do not share; objects are compared by their members. */
static void tell_differences_below(ls_fit *f, const char *path, json_t *was, json_t *is) {
    if (was == is || json_equal(was, is)) {
        return;
    }
    if (!json_is_object(was) || !json_is_object(is)) {
        tell_difference(f, path, was, is);
        return;
    }
    const char *key;
    json_t *value, *both = json_copy(was);
    json_object_update(both, is);
    json_object_foreach(both, key, value) {
        char *inner = ls_xprintf("%s.%s", path, key);
        tell_differences_below(f, inner, json_object_get(was, key), json_object_get(is, key));
        free(inner);
    }
    json_decref(both);
}

static json_t *job_value(const json_t *job, const char *section, const char *key) {
    json_t *value = json_object_get(json_object_get(job, section), key);
    return json_is_null(value) ? NULL : value;
}

/* What of the job decides the bits, besides what check_same_run insists on. */
static void tell_job_differences(ls_fit *f, const json_t *was) {
    static const char *const keys[][2] = {
        {"compile", "loss"},     {"compile", "loss_weights"}, {"compile", "optimizer"},         {"fit", "shuffle"},
        {"fit", "class_weight"}, {"distribute", "precision"}, {"distribute", "convolution"},    {"distribute", "wire"},
        {"data", "scale"},       {"data", "offset"},          {"distribute", "sync_batch_norm"}};
    json_t *is = json_loads(f->job_text, 0, NULL);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char *path = ls_xprintf("%s.%s", keys[i][0], keys[i][1]);
        tell_differences_below(f, path, job_value(was, keys[i][0], keys[i][1]), job_value(is, keys[i][0], keys[i][1]));
        free(path);
    }
    json_decref(is);
}

/* What may differ, but not without a word. */
static ls_status tell_differences(ls_fit *f, ls_json state, ls_err *err) {
    const char *isa = ls_dnn_isa();
    int64_t ranks = f->team->size;
    LS_TRY(ls_json_get_string(state, "isa", &isa, err));
    LS_TRY(ls_json_get_int(state, "ranks", 1, INT64_MAX, &ranks, err));
    char text[400];
    if (f->chief && strcmp(isa, ls_dnn_isa()) != 0) {
        snprintf(text, sizeof text,
                 "the checkpoint was written on a processor with %.60s, this one has %.60s: training goes on, but the "
                 "bits will not be those of an uninterrupted run",
                 isa, ls_dnn_isa());
        ls_report_warning(f->report, text);
    }
    if (f->chief && json_is_object(ls_json_member(state, "job").value)) {
        tell_job_differences(f, ls_json_member(state, "job").value);
    }
    if (f->chief && f->job.lanes == 0 && ranks != f->team->size) {
        snprintf(
            text, sizeof text,
            "resuming on %d ranks what ran on %lld: without distribute.lanes the bits depend on the number of ranks",
            f->team->size, (long long)ranks);
        ls_report_warning(f->report, text);
    }
    return LS_OK;
}

ls_status ls_fit_state_restore(ls_fit *f, ls_json state, ls_err *err) {
    LS_TRY(check_same_run(f, state, err));
    LS_TRY(tell_differences(f, state, err));
    int64_t step = 0, iterations = 0;
    LS_TRY(ls_json_get_int(state, "epoch", 0, INT64_MAX, &f->epoch, err));
    LS_TRY(ls_json_get_int(state, "batch", 0, f->steps, &f->batch, err));
    LS_TRY(ls_json_get_int(state, "step", 0, INT64_MAX, &step, err));
    LS_TRY(ls_json_get_int(state, "iterations", 0, INT64_MAX, &iterations, err));
    LS_TRY(ls_json_get_double(state, "learning_rate", 0, 1e300, &f->moment.learning_rate, err));
    LS_TRY(ls_json_get_bool(state, "stop", &f->moment.stop, err));
    const char *reason = "";
    LS_TRY(ls_json_get_string(state, "reason", &reason, err));
    snprintf(f->moment.reason, sizeof f->moment.reason, "%s", reason);
    f->step = (uint64_t)step;
    ls_engine_set_iterations(f->engine, (uint64_t)iterations);
    LS_TRY(ls_callbacks_restore(&f->callbacks, ls_json_member(state, "callbacks"), err));
    return ls_history_restore(&f->history, ls_json_member(state, "history"), err);
}
