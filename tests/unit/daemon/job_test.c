#include "trainer/daemon/job.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void a_record_comes_back_as_it_was(void **state) {
    (void)state;
    ls_job *job = ls_job_create(), *back = NULL;
    job->id = 17;
    ls_job_set_text(&job->name, "digits");
    ls_job_set_text(&job->run_dir, "/runs/digits-17");
    ls_job_set_text(&job->message, "a \"quoted\" word");
    job->state = LS_JOB_STOPPING;
    job->external = true;
    job->ranks = 3;
    job->process = (ls_process){4711, 8812345};
    strcpy(job->boot, "abc");
    job->has_exit_code = true;
    job->exit_code = 137;
    job->stop_by = 1700000000.5;
    json_array_append_new(job->set, json_string("fit.epochs=3"));
    json_object_set_new(job->progress, "epoch", json_integer(2));
    json_t *json = ls_job_to_json(job);
    char *text = json_dumps(json, 0);
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_job_from_json(&back, "17.json", text, &err), LS_OK);
    json_t *again = ls_job_to_json(back);
    assert_true(json_equal(json, again));
    assert_int_equal(back->state, LS_JOB_STOPPING);
    assert_true(back->external && back->has_exit_code);
    assert_int_equal(back->process.start, 8812345);
    json_decref(json);
    json_decref(again);
    free(text);
    ls_job_destroy(job);
    ls_job_destroy(back);
}

static void damaged_records_are_named(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"{\"id\": 1, ", "1.json:1"},
        {"[]", "1.json:1"},
        {"{\"id\": 0, \"run_dir\": \"/a\"}", "id: expected a whole number"},
        {"{\"id\": 1, \"run_dir\": \"a\"}", "no absolute \"run_dir\""},
        {"{\"id\": 1, \"run_dir\": \"/a\", \"state\": \"happy\"}", "state: expected"},
        {"{\"id\": 1, \"run_dir\": \"/a\", \"pid\": \"x\"}", "pid: expected a whole number"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ls_job *job = NULL;
        ls_err err = LS_ERR_INIT;
        assert_int_equal(ls_job_from_json(&job, "1.json", bad[i][0], &err), LS_EINPUT);
        assert_non_null(strstr(err.text, bad[i][1]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_comes_back_as_it_was),
        cmocka_unit_test(damaged_records_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
