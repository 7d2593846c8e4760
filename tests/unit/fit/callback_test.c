#include "trainer/fit/callback.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/file.h"
#include "common/memory.h"

/* A loop whose weights are one number that is set by the test. */
typedef struct {
    float weight;
    char said[4096], saved[4096];
} stage;

static ls_status get(void *self, float *out, ls_err *err) {
    (void)err;
    out[0] = ((stage *)self)->weight;
    return LS_OK;
}
static ls_status set(void *self, const float *in, ls_err *err) {
    (void)err;
    ((stage *)self)->weight = in[0];
    return LS_OK;
}
static ls_status save(void *self, const char *path, bool weights_only, ls_err *err) {
    (void)err;
    stage *s = self;
    size_t n = strlen(s->saved);
    snprintf(s->saved + n, sizeof s->saved - n, "%s%s\n", path, weights_only ? " (weights)" : "");
    return LS_OK;
}
static void say(void *self, bool warning, const char *text) {
    stage *s = self;
    size_t n = strlen(s->said);
    snprintf(s->said + n, sizeof s->said - n, "%s%s\n", warning ? "warning: " : "", text);
}

typedef struct {
    stage stage;
    ls_callback_port port;
    ls_callbacks callbacks;
    ls_json_doc doc;
    ls_logs logs;
    ls_moment m;
} play;

static void begin(play *p, const char *callbacks, double rate) {
    ls_err err = LS_ERR_INIT;
    *p = (play){0};
    p->port = (ls_callback_port){&p->stage, 1, "run", get, set, save, say};
    p->m = (ls_moment){.chief = true, .learning_rate = rate, .logs = &p->logs, .port = &p->port};
    assert_int_equal(ls_json_parse(&p->doc, "job.json", callbacks, &err), LS_OK);
    if (ls_callbacks_parse(ls_json_root(&p->doc), rate, &p->callbacks, &err) != LS_OK ||
        ls_callbacks_call(&p->callbacks, LS_TRAIN_BEGIN, &p->m, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
}

static void epoch(play *p, int64_t number, const char *name, double value) {
    ls_err err = LS_ERR_INIT;
    p->m.epoch = number;
    p->stage.weight = (float)number + 100;
    assert_int_equal(ls_callbacks_call(&p->callbacks, LS_EPOCH_BEGIN, &p->m, &err), LS_OK);
    ls_logs_set(&p->logs, name, value);
    if (ls_callbacks_call(&p->callbacks, LS_EPOCH_END, &p->m, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
}

static void finish(play *p) {
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_callbacks_call(&p->callbacks, LS_TRAIN_END, &p->m, &err), LS_OK);
    ls_callbacks_release(&p->callbacks);
    ls_json_release(&p->doc);
}

/* The epoch (from 0) in which a run over these values stops, -1: never. */
static int stops_at(const char *config, const char *name, const double *values, int n) {
    play p;
    char *text = ls_xprintf("[{\"class_name\": \"EarlyStopping\", \"config\": %s}]", config);
    begin(&p, text, 0.1);
    int at = -1;
    for (int i = 0; i < n && at < 0; i++) {
        epoch(&p, i, name, values[i]);
        at = p.m.stop ? i : -1;
    }
    finish(&p);
    free(text);
    return at;
}

static void early_stopping_counts_as_keras(void **state) {
    (void)state;
    const double loss[] = {1.0, 0.9, 0.95, 0.91, 0.89, 0.9, 0.9, 0.9};
    assert_int_equal(stops_at("{}", "val_loss", loss, 8), 2); /* patience 0: the first that is not better */
    assert_int_equal(stops_at("{\"patience\": 2}", "val_loss", loss, 8), 3);
    assert_int_equal(stops_at("{\"patience\": 3}", "val_loss", loss, 8), 7);
    assert_int_equal(stops_at("{\"patience\": 3, \"min_delta\": 0.05}", "val_loss", loss, 8), 4);
    assert_int_equal(stops_at("{\"patience\": 3, \"min_delta\": -0.05}", "val_loss", loss, 8), 4);
    assert_int_equal(stops_at("{\"patience\": 2, \"start_from_epoch\": 3}", "val_loss", loss, 8), 6);
    /* never below the baseline: wait goes on through improvements, but only an epoch that does not improve stops */
    assert_int_equal(stops_at("{\"patience\": 2, \"baseline\": 0.5}", "val_loss", loss, 8), 2);
    const double one[] = {1.0};
    assert_int_equal(stops_at("{\"monitor\": \"val_accuracy\"}", "val_accuracy", one, 1), -1);
    const double acc[] = {0.5, 0.6, 0.6, 0.7, 0.65, 0.66};
    assert_int_equal(stops_at("{\"monitor\": \"val_accuracy\", \"patience\": 1}", "val_accuracy", acc, 6), 2);
    assert_int_equal(stops_at("{\"monitor\": \"val_accuracy\", \"patience\": 2}", "val_accuracy", acc, 6), 5);
    assert_int_equal(stops_at("{\"monitor\": \"val_auc\", \"patience\": 2}", "val_auc", acc, 6), 5);
    assert_int_equal(
        stops_at("{\"monitor\": \"val_accuracy\", \"mode\": \"min\", \"patience\": 2}", "val_accuracy", acc, 6), 2);
}

static void early_stopping_gives_best_weights_back(void **state) {
    (void)state;
    play p;
    begin(&p,
          "[{\"class_name\": \"EarlyStopping\", \"config\": {\"patience\": 2, \"restore_best_weights\": true, "
          "\"verbose\": 1}}]",
          0.1);
    const double loss[] = {1.0, 0.5, 0.7, 0.6};
    for (int i = 0; i < 4; i++) {
        epoch(&p, i, "val_loss", loss[i]);
    }
    assert_true(p.m.stop);
    assert_string_equal(p.m.reason, "val_loss has not improved for 2 epochs");
    finish(&p);
    assert_float_equal(p.stage.weight, 101, 0);
    assert_string_equal(p.stage.said, "epoch 4: early stopping\nthe weights of epoch 2, the best, are restored\n");
}

static void missing_quantity_is_named_with_those_there_are(void **state) {
    (void)state;
    play p;
    begin(&p, "[\"EarlyStopping\", {\"class_name\": \"ReduceLROnPlateau\"}]", 0.1);
    ls_logs_set(&p.logs, "loss", 1);
    epoch(&p, 0, "accuracy", 0.5);
    assert_string_equal(p.stage.said,
                        "warning: EarlyStopping watches \"val_loss\", which is not available; available are: loss, "
                        "accuracy\n"
                        "warning: ReduceLROnPlateau watches \"val_loss\", which is not available; available are: loss, "
                        "accuracy\n");
    finish(&p);
}

static void plateau_reduces_as_keras(void **state) {
    (void)state;
    play p;
    begin(&p,
          "[{\"class_name\": \"ReduceLROnPlateau\", \"config\": {\"factor\": 0.5, \"patience\": 2, \"cooldown\": 1, "
          "\"min_lr\": 0.02, \"min_delta\": 0.01}}]",
          0.1);
    /*                     best  =     wait1  cut    cool   wait1  cut    cool   wait1  cut(min) */
    const double loss[] = {1.00, 0.90, 0.895, 0.895, 0.895, 0.895, 0.895, 0.895, 0.895, 0.895, 0.895};
    const double rate[] = {0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.02, 0.02, 0.02, 0.02};
    for (int i = 0; i < 11; i++) {
        epoch(&p, i, "val_loss", loss[i]);
        if (fabs(p.m.learning_rate - rate[i]) > 1e-12) {
            fail_msg("epoch %d: %g, expected %g", i, p.m.learning_rate, rate[i]);
        }
    }
    finish(&p);
}

static void scheduler_sets_rates(void **state) {
    (void)state;
    play p;
    ls_err err = LS_ERR_INIT;
    begin(&p,
          "[{\"class_name\": \"LearningRateScheduler\", \"config\": {\"schedule\": {\"0\": 0.8, \"4\": 0.2}, "
          "\"warmup\": 2}}]",
          0.1);
    const double rate[] = {0.4, 0.8, 0.8, 0.8, 0.2};
    for (int i = 0; i < 5; i++) {
        epoch(&p, i, "loss", 1);
        assert_float_equal((float)p.m.learning_rate, (float)rate[i], 1e-7);
    }
    finish(&p);
    begin(&p,
          "[{\"class_name\": \"LearningRateScheduler\", \"config\": {\"per\": \"step\", \"schedule\": {\"class_name\": "
          "\"StepDecay\", \"config\": {\"every\": 2, \"drop\": 0.5}}}}]",
          0.1);
    const double steps[] = {0.1, 0.1, 0.05, 0.05, 0.025};
    for (int i = 0; i < 5; i++) {
        p.m.step = (uint64_t)i;
        assert_int_equal(ls_callbacks_call(&p.callbacks, LS_BATCH_BEGIN, &p.m, &err), LS_OK);
        assert_float_equal((float)p.m.learning_rate, (float)steps[i], 1e-7);
    }
    finish(&p);
}

static void model_checkpoint_saves_when_due(void **state) {
    (void)state;
    play p;
    begin(&p,
          "[{\"class_name\": \"ModelCheckpoint\", \"config\": {\"filepath\": \"{epoch:02d}-{val_loss:.2f}.h5\", "
          "\"save_best_only\": true}}, {\"class_name\": \"ModelCheckpoint\", \"config\": {\"filepath\": "
          "\"/abs/w.h5\", \"save_weights_only\": true, \"period\": 2}}]",
          0.1);
    const double loss[] = {1.0, 1.2, 0.5, 0.5};
    for (int i = 0; i < 4; i++) {
        epoch(&p, i, "val_loss", loss[i]);
    }
    assert_string_equal(p.stage.saved, "run/01-1.00.h5\n/abs/w.h5 (weights)\nrun/03-0.50.h5\n/abs/w.h5 (weights)\n");
    finish(&p);

    ls_err err = LS_ERR_INIT;
    begin(&p, "[{\"class_name\": \"ModelCheckpoint\", \"config\": {\"filepath\": \"b{batch}.h5\", \"save_freq\": 3}}]",
          0.1);
    for (int i = 0; i < 7; i++) {
        p.m.batch = i;
        assert_int_equal(ls_callbacks_call(&p.callbacks, LS_BATCH_END, &p.m, &err), LS_OK);
    }
    assert_string_equal(p.stage.saved, "run/b3.h5\nrun/b6.h5\n");
    finish(&p);

    begin(&p, "[{\"class_name\": \"ModelCheckpoint\", \"config\": {\"filepath\": \"{mape}.h5\"}}]", 0.1);
    ls_logs_set(&p.logs, "loss", 1);
    assert_int_equal(ls_callbacks_call(&p.callbacks, LS_EPOCH_END, &p.m, &err), LS_EINPUT);
    assert_string_equal(err.text,
                        "ModelCheckpoint: \"{mape}.h5\": there is no \"mape\" to put in; there are: epoch, loss");
    finish(&p);
}

static void terminate_on_nan_stops(void **state) {
    (void)state;
    play p;
    ls_err err = LS_ERR_INIT;
    begin(&p, "[\"TerminateOnNaN\"]", 0.1);
    ls_logs_set(&p.logs, "loss", 1);
    assert_int_equal(ls_callbacks_call(&p.callbacks, LS_BATCH_END, &p.m, &err), LS_OK);
    assert_false(p.m.stop);
    p.m.batch = 6;
    ls_logs_set(&p.logs, "loss", INFINITY);
    assert_int_equal(ls_callbacks_call(&p.callbacks, LS_BATCH_END, &p.m, &err), LS_OK);
    assert_true(p.m.stop);
    assert_string_equal(p.stage.said, "warning: batch 7: invalid loss (inf), terminating training\n");
    finish(&p);
}

static const char *const all =
    "[{\"class_name\": \"EarlyStopping\", \"config\": {\"patience\": 3, \"restore_best_weights\": true}},"
    " {\"class_name\": \"ReduceLROnPlateau\", \"config\": {\"patience\": 1, \"cooldown\": 2}},"
    " {\"class_name\": \"ModelCheckpoint\", \"config\": {\"filepath\": \"{epoch}.h5\", \"save_best_only\": true}},"
    " \"TerminateOnNaN\"]";

/* The same decisions whether a run is interrupted after any epoch and its state carried over, or not. */
static void state_survives_a_round_trip(void **state) {
    (void)state;
    const double loss[] = {1.0, 0.8, 0.9, 0.85, 0.7, 0.75, 0.9, 0.8};
    for (int cut = 0; cut < 8; cut++) {
        play whole, part;
        begin(&whole, all, 0.1);
        begin(&part, all, 0.1);
        for (int i = 0; i < 8; i++) {
            epoch(&whole, i, "val_loss", loss[i]);
            epoch(&part, i, "val_loss", loss[i]);
            if (i == cut) {
                json_t *states = ls_callbacks_save(&part.callbacks);
                char *text = json_dumps(states, 0);
                bool *has, *had;
                float kept = *part.callbacks.item[0]->class_->weights(part.callbacks.item[0], &had);
                stage before = part.stage;
                double rate = part.m.learning_rate;
                bool stop = part.m.stop;
                finish(&part);
                begin(&part, all, rate);
                part.stage = before;
                part.m.stop = stop; /* the loop's state, not a callback's */
                ls_json_doc doc;
                ls_err err = LS_ERR_INIT;
                assert_int_equal(ls_json_parse(&doc, "state", text, &err), LS_OK);
                if (ls_callbacks_restore(&part.callbacks, ls_json_root(&doc), &err) != LS_OK) {
                    fail_msg("%s", err.text);
                }
                *part.callbacks.item[0]->class_->weights(part.callbacks.item[0], &has) = kept;
                assert_true(*has);
                json_t *again = ls_callbacks_save(&part.callbacks);
                assert_true(json_equal(states, again));
                json_decref(again);
                json_decref(states);
                free(text);
                ls_json_release(&doc);
            }
            assert_int_equal(part.m.stop, whole.m.stop);
            assert_true(part.m.learning_rate == whole.m.learning_rate);
        }
        assert_string_equal(part.stage.saved, whole.stage.saved);
        finish(&whole);
        finish(&part);
        assert_float_equal(part.stage.weight, whole.stage.weight, 0);
    }
}

static void restore_refuses_other_callbacks(void **state) {
    (void)state;
    play p;
    ls_json_doc doc;
    ls_err err = LS_ERR_INIT;
    begin(&p, "[\"TerminateOnNaN\"]", 0.1);
    assert_int_equal(ls_json_parse(&doc, "ckpt.h5", "[]", &err), LS_OK);
    assert_int_equal(ls_callbacks_restore(&p.callbacks, ls_json_root(&doc), &err), LS_EINPUT);
    assert_non_null(strstr(err.text, "was written with 0 callbacks, the job has 1"));
    ls_json_release(&doc);
    assert_int_equal(ls_json_parse(&doc, "ckpt.h5", "[{\"class_name\": \"CSVLogger\", \"state\": {}}]", &err), LS_OK);
    assert_int_equal(ls_callbacks_restore(&p.callbacks, ls_json_root(&doc), &err), LS_EINPUT);
    assert_non_null(strstr(err.text, "the callback \"CSVLogger\" in this place, the job has \"TerminateOnNaN\""));
    ls_json_release(&doc);
    finish(&p);
}

static void csv_goes_on_where_the_checkpoint_left_it(void **state) {
    (void)state;
    char folder[] = "/tmp/lockstep-csv-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char *path = ls_path_join(folder, "log.csv"), *text;
    ls_err err = LS_ERR_INIT;
    play p;
    const char *config = "[{\"class_name\": \"CSVLogger\", \"config\": {\"filename\": \"log.csv\"}}]";
    begin(&p, config, 0.1);
    p.port.run_folder = folder;
    ls_logs_set(&p.logs, "loss", 0.1);
    epoch(&p, 0, "accuracy", 0.5);
    json_t *states = ls_callbacks_save(&p.callbacks);
    epoch(&p, 1, "accuracy", 0.75);
    finish(&p);
    assert_int_equal(ls_file_read(path, &text, NULL, &err), LS_OK);
    assert_string_equal(text, "epoch,accuracy,loss\n0,0.5,0.1\n1,0.75,0.1\n");
    free(text);

    begin(&p, config, 0.1);
    p.port.run_folder = folder;
    ls_json_doc doc;
    ls_json_wrap(&doc, "state", states);
    assert_int_equal(ls_callbacks_restore(&p.callbacks, ls_json_root(&doc), &err), LS_OK);
    ls_logs_set(&p.logs, "loss", 0.2);
    epoch(&p, 1, "accuracy", 0.8);
    finish(&p);
    assert_int_equal(ls_file_read(path, &text, NULL, &err), LS_OK);
    assert_string_equal(text, "epoch,accuracy,loss\n0,0.5,0.1\n1,0.8,0.2\n");
    free(text);
    ls_json_release(&doc);
    json_decref(states);
    unlink(path);
    rmdir(folder);
    free(path);
}

static void expect_error(const char *text, const char *message) {
    ls_json_doc doc;
    ls_callbacks callbacks;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_json_parse(&doc, "job.json", text, &err), LS_OK);
    assert_int_equal(ls_callbacks_parse(ls_json_root(&doc), 0.1, &callbacks, &err), LS_EINPUT);
    assert_string_equal(err.text, message);
    ls_json_release(&doc);
}

static void errors(void **state) {
    (void)state;
    expect_error("{}", "job.json:1: expected a list of callbacks, found an object");
    expect_error("[{\"class_name\": \"EarlyStoping\"}]",
                 "job.json:1: [0].class_name: \"EarlyStoping\" is not a callback that Lockstep knows; did you mean "
                 "\"EarlyStopping\"?");
    expect_error("[{\"config\": {}}]", "job.json:1: [0]: \"class_name\" is missing");
    expect_error("[{\"class_name\": \"EarlyStopping\",\n \"config\": {\"patiens\": 1}}]",
                 "job.json:2: [0].config.patiens: unknown key; did you mean \"patience\"?");
    expect_error("[{\"class_name\": \"EarlyStopping\", \"config\": {\"patience\": -1}}]",
                 "job.json:1: [0].config.patience: expected a whole number of at least 0, found the number -1");
    expect_error("[{\"class_name\": \"EarlyStopping\", \"config\": {\"mode\": \"best\"}}]",
                 "job.json:1: [0].config.mode: expected one of \"auto\", \"min\", \"max\", found the text \"best\"");
    expect_error("[{\"class_name\": \"ReduceLROnPlateau\", \"config\": {\"factor\": 1}}]",
                 "job.json:1: [0].config.factor: expected a factor below 1, found 1");
    expect_error("[\"ModelCheckpoint\"]",
                 "job.json:1: [0]: \"filepath\" is missing, for example \"best.h5\" or \"{epoch:02d}.h5\"");
    expect_error("[{\"class_name\": \"ModelCheckpoint\", \"config\": {\"filepath\": \"best.keras\"}}]",
                 "job.json:1: [0].config.filepath: expected a name that ends with .h5 or .hdf5, found \"best.keras\"; "
                 "Lockstep writes Keras's HDF5 format, which Keras 2 and 3 load");
    expect_error("[{\"class_name\": \"ModelCheckpoint\", \"config\": {\"filepath\": \"a.h5\", \"save_freq\": 0}}]",
                 "job.json:1: [0].config.save_freq: expected \"epoch\" or a number of batches, found the number 0");
    expect_error("[{\"class_name\": \"CSVLogger\", \"config\": {}}]",
                 "job.json:1: [0].config: \"filename\" is missing, for example \"log.csv\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(early_stopping_counts_as_keras),
        cmocka_unit_test(early_stopping_gives_best_weights_back),
        cmocka_unit_test(missing_quantity_is_named_with_those_there_are),
        cmocka_unit_test(plateau_reduces_as_keras),
        cmocka_unit_test(scheduler_sets_rates),
        cmocka_unit_test(model_checkpoint_saves_when_due),
        cmocka_unit_test(terminate_on_nan_stops),
        cmocka_unit_test(state_survives_a_round_trip),
        cmocka_unit_test(restore_refuses_other_callbacks),
        cmocka_unit_test(csv_goes_on_where_the_checkpoint_left_it),
        cmocka_unit_test(errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
