/* Callbacks of plugins: their hooks on the chief, what they decide on all, their state in a checkpoint. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/fit/callback.h"
#include "worker/plugin/plugin.h"

/* What a rank says, saves, and is told. `wire` is where the chief's bytes go: the other rank takes them from there. */
typedef struct stage {
    char said[2000], saved[2000], wire[16384];
    size_t sent, taken;
    bool chief;
    struct stage *chief_stage;
} stage;

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

static void share(void *self, void *bytes, size_t n_bytes) {
    stage *s = self;
    if (s->chief) {
        assert_true(s->sent + n_bytes <= sizeof s->wire);
        memcpy(s->wire + s->sent, bytes, n_bytes);
        s->sent += n_bytes;
    } else {
        stage *from = s->chief_stage;
        assert_true(from->taken + n_bytes <= from->sent);
        memcpy(bytes, from->wire + from->taken, n_bytes);
        from->taken += n_bytes;
    }
}

/* Two ranks, one after the other. */
typedef struct {
    ls_json_doc list_doc, doc;
    ls_plugins plugins;
    stage stage[2];
    ls_callback_port port[2];
    ls_callbacks callbacks[2];
    ls_logs logs;
    ls_moment m[2];
} play;

static void begin(play *p, const char *callbacks) {
    ls_err err = LS_ERR_INIT;
    *p = (play){0};
    assert_int_equal(ls_json_parse(&p->list_doc, "job.json", "[\"best_f1.so\", \"scaled_tanh.so\"]", &err), LS_OK);
    assert_int_equal(ls_json_parse(&p->doc, "job.json", callbacks, &err), LS_OK);
    if (ls_plugins_load(ls_json_root(&p->list_doc), LS_PLUGIN_DIR, &p->plugins, &err) != LS_OK ||
        ls_callbacks_add_plugins(&p->plugins, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
    for (int r = 0; r < 2; r++) {
        p->stage[r].chief = r == 0;
        p->stage[r].chief_stage = &p->stage[0];
        p->port[r] = (ls_callback_port){
            .self = &p->stage[r], .n_elems = 1, .run_folder = "run", .save = save, .say = say, .share = share};
        p->m[r] = (ls_moment){.chief = r == 0, .learning_rate = 0.1, .logs = &p->logs, .port = &p->port[r]};
        if (ls_callbacks_parse(ls_json_root(&p->doc), 0.1, &p->callbacks[r], &err) != LS_OK) {
            fail_msg("%s", err.text);
        }
    }
}

static ls_status call(play *p, ls_callback_when when, ls_err *err) {
    ls_status status[2];
    ls_err other = LS_ERR_INIT;
    p->stage[0].sent = p->stage[0].taken = 0;
    status[0] = ls_callbacks_call(&p->callbacks[0], when, &p->m[0], err);
    status[1] = ls_callbacks_call(&p->callbacks[1], when, &p->m[1], &other);
    assert_int_equal(status[0], status[1]);
    assert_string_equal(err->text, other.text);
    assert_int_equal(p->stage[0].sent, p->stage[0].taken);
    assert_string_equal(p->stage[0].saved, p->stage[1].saved);
    assert_true(p->m[0].learning_rate == p->m[1].learning_rate && p->m[0].stop == p->m[1].stop);
    assert_string_equal(p->m[0].reason, p->m[1].reason);
    return status[0];
}

static void must(play *p, ls_callback_when when) {
    ls_err err = LS_ERR_INIT;
    if (call(p, when, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
}

static void end(play *p) {
    for (int r = 0; r < 2; r++) {
        ls_callbacks_release(&p->callbacks[r]);
    }
    ls_callbacks_drop_added();
    ls_plugins_release(&p->plugins);
    ls_json_release(&p->doc);
    ls_json_release(&p->list_doc);
}

static void epoch(play *p, int64_t number, double f1) {
    p->m[0].epoch = p->m[1].epoch = number;
    ls_logs_set(&p->logs, "val_f1_score", f1);
    must(p, LS_EPOCH_END);
}

static void best_f1_keeps_the_best_and_stops(void **state) {
    (void)state;
    play p;
    begin(&p, "[{\"class_name\": \"BestF1\", \"config\": {\"filepath\": \"top.h5\", \"patience\": 2}}]");
    assert_string_equal(p.callbacks[0].item[0]->class_->metrics, "f1_score");
    must(&p, LS_TRAIN_BEGIN);
    epoch(&p, 0, 0.5);
    epoch(&p, 1, 0.4);
    epoch(&p, 2, 0.6);
    assert_string_equal(p.stage[1].saved, "run/top.h5\nrun/top.h5\n");
    epoch(&p, 3, 0.6);
    assert_false(p.m[1].stop);
    epoch(&p, 4, 0.59);
    assert_true(p.m[1].stop);
    assert_string_equal(p.m[1].reason, "BestF1: f1 is not better than 0.6000 for 2 epochs");
    assert_string_equal(p.stage[0].said,
                        "epoch 1: f1 0.5000 is the best so far\nepoch 3: f1 0.6000 is the best so far\n");
    assert_string_equal(p.stage[1].said, "");
    end(&p);
}

static void best_f1_says_what_is_missing(void **state) {
    (void)state;
    play p;
    ls_err err = LS_ERR_INIT;
    begin(&p, "[\"BestF1\"]");
    must(&p, LS_TRAIN_BEGIN);
    assert_int_equal(call(&p, LS_EPOCH_END, &err), LS_ELIBRARY);
    assert_non_null(
        strstr(err.text, "BestF1: epoch_end, plugin " LS_PLUGIN_DIR "/best_f1.so: \"val_f1_score\" is not "));
    end(&p);
}

/* Every hook is called, and only on the chief; a decision counts on all. */
static void all_six_hooks(void **state) {
    (void)state;
    play p;
    begin(&p, "[{\"class_name\": \"HookCounter\", \"config\": {\"halve_at\": 0, \"stop_at\": 1, \"file\": \"w.h5\"}}]");
    must(&p, LS_TRAIN_BEGIN);
    for (int e = 0; e < 2; e++) {
        p.m[0].epoch = p.m[1].epoch = e;
        must(&p, LS_EPOCH_BEGIN);
        assert_true(p.m[1].learning_rate == 0.05);
        for (int b = 0; b < 3; b++) {
            ls_logs_set(&p.logs, "loss", 1.0 / (b + 1));
            must(&p, LS_BATCH_BEGIN);
            must(&p, LS_BATCH_END);
        }
        must(&p, LS_EPOCH_END);
        assert_int_equal(p.m[1].stop, e == 1);
    }
    assert_string_equal(p.m[1].reason, "HookCounter: told to stop");
    must(&p, LS_TRAIN_END);
    assert_string_equal(p.stage[0].said, "hooks 1 2 6 6 2 1, losses 3.6666666666666665\n");
    assert_string_equal(p.stage[1].saved, "run/w.h5 (weights)\n");
    end(&p);
}

static void a_hook_that_fails_fails_everywhere(void **state) {
    (void)state;
    play p;
    ls_err err = LS_ERR_INIT;
    begin(&p, "[{\"class_name\": \"HookCounter\", \"config\": {\"fail_at\": 4}}]");
    must(&p, LS_TRAIN_BEGIN);
    must(&p, LS_BATCH_BEGIN);
    p.m[0].step = p.m[1].step = 4;
    assert_int_equal(call(&p, LS_BATCH_BEGIN, &err), LS_ELIBRARY);
    assert_non_null(strstr(err.text, "HookCounter: batch_begin, plugin "));
    assert_non_null(strstr(err.text, "told to fail at step 4"));
    end(&p);
}

/* Saved in the middle and put into fresh callbacks, the run ends as if it had not been cut. */
static void state_is_exact_after_a_resume(void **state) {
    (void)state;
    char whole[200];
    for (int cut = 0; cut < 2; cut++) {
        play p;
        const char *job = "[{\"class_name\": \"HookCounter\"}, {\"class_name\": \"BestF1\"}]";
        begin(&p, job);
        must(&p, LS_TRAIN_BEGIN);
        for (int b = 0; b < 9; b++) {
            ls_logs_set(&p.logs, "loss", sqrt(b + 2.0) / 3);
            must(&p, LS_BATCH_END);
            if (b == 4) {
                epoch(&p, 0, 0.7);
            }
            if (cut && b == 5) {
                json_t *kept = ls_callbacks_save(&p.callbacks[0]);
                end(&p);
                begin(&p, job);
                must(&p, LS_TRAIN_BEGIN);
                ls_json_doc doc;
                ls_err err = LS_ERR_INIT;
                ls_json_wrap(&doc, "state", kept);
                for (int r = 0; r < 2; r++) {
                    assert_int_equal(ls_callbacks_restore(&p.callbacks[r], ls_json_root(&doc), &err), LS_OK);
                }
                ls_json_release(&doc);
                json_decref(kept);
            }
        }
        p.stage[0].saved[0] = p.stage[1].saved[0] = '\0';
        epoch(&p, 1, 0.65); /* not better than before the cut */
        assert_string_equal(p.stage[0].saved, "");
        p.stage[0].said[0] = '\0';
        must(&p, LS_TRAIN_END);
        if (cut) {
            assert_string_equal(p.stage[0].said, whole);
        } else {
            snprintf(whole, sizeof whole, "%.199s", p.stage[0].said);
        }
        end(&p);
    }
}

static void refuses_wrong_settings_state_and_names(void **state) {
    (void)state;
    play p;
    ls_json_doc doc;
    ls_callbacks none;
    ls_err err = LS_ERR_INIT;
    begin(&p, "[\"BestF1\"]");
    assert_int_equal(
        ls_json_parse(&doc, "job.json", "[{\"class_name\": \"BestF1\", \"config\": {\"patience\": -1}}]", &err), LS_OK);
    assert_int_equal(ls_callbacks_parse(ls_json_root(&doc), 0.1, &none, &err), LS_EINPUT);
    assert_non_null(strstr(err.text, "job.json:1: [0].config.patience"));
    ls_json_release(&doc);
    assert_int_equal(ls_json_parse(&doc, "job.json", "[\"BestF2\"]", &err), LS_OK);
    assert_int_equal(ls_callbacks_parse(ls_json_root(&doc), 0.1, &none, &err), LS_EINPUT);
    assert_non_null(strstr(err.text, "did you mean \"BestF1\"?"));
    ls_json_release(&doc);
    assert_int_equal(
        ls_json_parse(&doc, "c.h5", "[{\"class_name\": \"BestF1\", \"state\": {\"bytes\": \"00ff\"}}]", &err), LS_OK);
    assert_int_equal(ls_callbacks_restore(&p.callbacks[0], ls_json_root(&doc), &err), LS_EINPUT);
    assert_non_null(strstr(err.text, "holds 2 bytes of state for \"BestF1\""));
    ls_json_release(&doc);
    assert_int_equal(ls_callbacks_add_plugins(&p.plugins, &err), LS_EINPUT); /* a second time */
    assert_non_null(strstr(err.text, "its callback \"BestF1\" is already added by itself"));
    end(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_f1_keeps_the_best_and_stops),
        cmocka_unit_test(best_f1_says_what_is_missing),
        cmocka_unit_test(all_six_hooks),
        cmocka_unit_test(a_hook_that_fails_fails_everywhere),
        cmocka_unit_test(state_is_exact_after_a_resume),
        cmocka_unit_test(refuses_wrong_settings_state_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
