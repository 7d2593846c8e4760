/* The whole chain on real digits: lockstepd starts the trainer through mpirun, stops it and goes on with it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "tests/service/harness.h"

static void digits_stop_and_go_on(void **state) {
    service *s = *state;
    const char *const extra[] = {"--lockstep", path_of_lockstep(), "--mpirun", "mpirun", NULL};
    assert_int_equal(daemon_end(s, SIGTERM), 0);
    daemon_start(s, extra);
    char *run = ls_path_join(s->folder, "run"), *reply = NULL;
    cli_expect(s, 0, "job 1 (digits) is starting on 2 ranks", NULL, "submit", LS_JOB_FILE, "-n", "2", "--run-dir", run,
               "--set", "fit.epochs=1000", "--set", "fit.callbacks=[]", NULL);
    wait_step(s, 1, 1);
    cli_expect(s, 0, "stopping", NULL, "stop", "1", NULL);
    cli_expect(s, 75, "is stopped", "stopped on request after step", "watch", "1", NULL);
    json_t *stopped = wait_state(s, 1, "stopped");
    assert_int_equal(number_of(stopped, "exit_code"), 75);
    assert_int_equal(http(s, "GET", "/api/v1/jobs/1/checkpoints", NULL, &reply), 200);
    assert_non_null(strstr(reply, ".h5\""));
    cli_expect(s, 0, "starting", NULL, "resume", "1", NULL);
    wait_step(s, 1, 1);
    json_t *again = wait_state(s, 1, "running");
    assert_int_equal(number_of(again, "restarts"), 1);
    cli_expect(s, 0, "stopping", NULL, "stop", "1", NULL);
    json_decref(wait_state(s, 1, "stopped"));
    outcome log = cli(s, "logs", "1", NULL);
    assert_null(strchr(log.out, '\r')); /* nobody looks on, so no bar is drawn */
    outcome_release(&log);
    json_decref(stopped);
    json_decref(again);
    free(reply);
    free(run);
}

static void digits_learn_to_the_end(void **state) {
    service *s = *state;
    const char *const extra[] = {"--lockstep", path_of_lockstep(), "--mpirun", "mpirun", NULL};
    assert_int_equal(daemon_end(s, SIGTERM), 0);
    daemon_start(s, extra);
    char *run = ls_path_join(s->folder, "run"), *reply = NULL;
    cli_expect(s, 0, NULL, NULL, "submit", LS_JOB_FILE, "-n", "2", "--run-dir", run, "--set", "fit.epochs=2", NULL);
    cli_expect(s, 0, "job 1 (digits) is done", NULL, "watch", "1", NULL);
    assert_int_equal(http(s, "GET", "/api/v1/jobs/1/history", NULL, &reply), 200);
    json_t *history = json_loads(reply, 0, NULL), *done = wait_state(s, 1, "done");
    assert_int_equal(json_array_size(json_object_get(history, "rows")), 2);
    assert_int_equal(number_of(json_object_get(done, "progress"), "epoch"), 2);
    json_decref(history);
    json_decref(done);
    free(reply);
    free(run);
}

int main(int argc, char **argv) {
    harness_init(argc, argv);
#define TEST(name) cmocka_unit_test_setup_teardown(name, service_set_up, service_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(digits_stop_and_go_on),
        TEST(digits_learn_to_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
