#include "trainer/daemon/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static bool apply(ls_job *job, const char *line) {
    return ls_events_apply(job, line, strlen(line), NULL, NULL);
}

static double progress(const ls_job *job, const char *key) {
    return json_number_value(json_object_get(job->progress, key));
}

static void events_make_the_progress(void **state) {
    (void)state;
    ls_job *job = ls_job_create();
    job->state = LS_JOB_STARTING;
    assert_true(apply(job, "{\"event\": \"start\", \"time\": 10, \"epochs\": 12, \"ranks\": 2}"));
    assert_int_equal(job->state, LS_JOB_RUNNING);
    assert_true(apply(job,
                      "{\"event\": \"progress\", \"time\": 12, \"epoch\": 1, \"step\": 40, \"steps\": 100, \"loss\": "
                      "0.5, \"samples_per_s\": 900, \"eta_s\": 7, \"metrics\": {\"accuracy\": 0.9}}"));
    assert_int_equal(progress(job, "epochs"), 12);
    assert_int_equal(progress(job, "step"), 40);
    /* what the slower way brings late does not turn time back, and a wrong type is left alone */
    assert_true(apply(job, "{\"event\": \"progress\", \"time\": 11, \"epoch\": 1, \"step\": 20, \"loss\": 0.7}"));
    assert_true(apply(job, "{\"event\": \"progress\", \"time\": 13, \"epoch\": 1, \"step\": \"x\", \"loss\": null}"));
    assert_int_equal(progress(job, "step"), 40);
    assert_true(progress(job, "loss") == 0.5);
    assert_true(apply(job, "{\"event\": \"epoch\", \"time\": 20, \"epoch\": 1, \"metrics\": {\"loss\": 0.25}}"));
    assert_true(progress(job, "loss") == 0.25);
    assert_true(
        apply(job, "{\"event\": \"end\", \"time\": 30, \"status\": \"failed\", \"exit_code\": 1, \"message\": \"m\"}"));
    assert_string_equal(job->end_status, "failed");
    assert_string_equal(job->end_message, "m");
    assert_int_equal(job->exit_code, 1);
    ls_job_destroy(job);
}

static void twice_counts_once_and_garbage_not_at_all(void **state) {
    (void)state;
    static const char *const garbage[] = {"",          "x",       "[]", "{\"event\": 3}", "{\"no\": \"event\"}",
                                          "\"event\"", "\xff\xfe"};
    ls_job *job = ls_job_create();
    const char *line = "{\"event\": \"warning\", \"time\": 1, \"message\": \"w\"}";
    assert_true(apply(job, line));
    assert_false(apply(job, line));
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        assert_false(apply(job, garbage[i]));
    }
    ls_job_destroy(job);
}

static void an_external_run_leaves_older_events_alone(void **state) {
    (void)state;
    ls_job *job = ls_job_create();
    job->external = true;
    job->started = 1000;
    assert_false(apply(job, "{\"event\": \"end\", \"time\": 900, \"status\": \"done\"}"));
    assert_null(job->end_status);
    assert_true(apply(job, "{\"event\": \"end\", \"time\": 1001, \"status\": \"done\"}"));
    assert_string_equal(job->end_status, "done");
    ls_job_destroy(job);
}

static void add_text(const char *path, const char *text) {
    FILE *file = fopen(path, "a");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void a_file_is_read_as_it_grows(void **state) {
    (void)state;
    char folder[] = "/tmp/lockstep-events-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/events.jsonl", folder);
    ls_job *job = ls_job_create();
    ls_job_set_text(&job->run_dir, "%s", folder);
    assert_int_equal(ls_events_read(job, NULL, NULL), 0); /* no file yet */
    add_text(path, "{\"event\": \"end\", \"status\": \"done\", \"time\": 1}\n");
    ls_events_restart(job); /* that was the run before this one */
    assert_int_equal(ls_events_read(job, NULL, NULL), 0);
    add_text(path, "{\"event\": \"progress\", \"time\": 2, \"step\": 1}\n{\"event\": \"progress\", \"time\": 3,");
    assert_int_equal(ls_events_read(job, NULL, NULL), 1);
    assert_int_equal(progress(job, "step"), 1);
    add_text(path, " \"step\": 2}\n");
    assert_int_equal(ls_events_read(job, NULL, NULL), 1);
    assert_int_equal(progress(job, "step"), 2);
    assert_null(job->end_status);
    for (int i = 0; i < 40000; i++) { /* far behind: the newest are what counts */
        add_text(path, "{\"event\": \"progress\", \"time\": 4, \"step\": 3, \"n\": \"................\"}\n");
    }
    add_text(path, "{\"event\": \"progress\", \"time\": 5, \"step\": 4}\n");
    assert_int_equal(ls_events_read(job, NULL, NULL), 2);
    assert_int_equal(progress(job, "step"), 4);
    ls_job_destroy(job);
    unlink(path);
    rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_make_the_progress),
        cmocka_unit_test(twice_counts_once_and_garbage_not_at_all),
        cmocka_unit_test(an_external_run_leaves_older_events_alone),
        cmocka_unit_test(a_file_is_read_as_it_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
