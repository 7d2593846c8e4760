/* Jobs from submission to their end, and everything that is asked about them on the way. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"
#include "tests/service/harness.h"

static void a_job_runs_to_its_end(void **state) {
    service *s = *state;
    char *job = job_file(s, "digits.json", "{}"), *run = ls_path_join(s->folder, "run");
    int64_t id = submit(s, job, "3", run);
    wait_step(s, id, 2);
    cli_expect(s, 0, "digits  running  3      1/3    ", NULL, "status", NULL);
    cli_expect(s, 0, "0.5000  900        1 min 01 s", NULL, "status", NULL);
    cli_expect(s, 0, run, NULL, "list", NULL);
    cli_expect(s, 0, "\"state\":\"running\"", NULL, "status", "1", "--json", NULL);
    cli_expect(s, 0, "ranks        3 on ", NULL, "status", "1", NULL);
    say(run, "done");
    cli_expect(s, 0, "is done\n", NULL, "watch", "1", NULL);
    json_t *ended = wait_state(s, id, "done");
    assert_int_equal(number_of(ended, "exit_code"), 0);
    assert_string_equal(text_of(ended, "message"), "");
    assert_true(number_of(ended, "ended") > 0);
    char *checkpoint = ls_xprintf("%s/checkpoints/epoch-1.h5", run), *reply = NULL;
    assert_string_equal(text_of(json_object_get(ended, "progress"), "last_checkpoint"), checkpoint);
    assert_int_equal(http(s, "GET", "/api/v1/jobs/1/checkpoints", NULL, &reply), 200);
    assert_non_null(strstr(reply, checkpoint));
    assert_non_null(strstr(reply, "\"bytes\":7"));
    free(reply);
    assert_int_equal(http(s, "GET", "/api/v1/jobs/1/history", NULL, &reply), 200);
    assert_string_equal(reply, "{\"columns\":[\"epoch\",\"loss\",\"val_loss\"],\"rows\":[[1.0,0.25,0.5]]}\n");
    free(reply);
    cli_expect(s, 0, "rank 2 of 3 begins\n", NULL, "logs", "1", NULL);
    cli_expect(s, 0, " train ", NULL, "logs", "1", NULL); /* the command line is in it */
    cli_expect(s, 0, "off the list", NULL, "remove", "1", NULL);
    cli_expect(s, 2, NULL, "there is no job 1", "status", "1", NULL);
    assert_true(ls_file_exists(checkpoint));
    assert_int_equal(submit(s, job, "1", ls_path_join(s->folder, "other")), 2); /* a number is not given twice */
    say(ls_path_join(s->folder, "other"), "done");
    json_decref(wait_state(s, 2, "done"));
    json_decref(ended);
    free(checkpoint);
    free(run);
    free(job);
}

static void submit_says_what_it_did_and_makes_the_folder(void **state) {
    service *s = *state;
    char *job = job_file(s, "digits.json", "{}");
    char *body = ls_xprintf(
        "{\"job\": \"%s\", \"ranks\": 1, \"name\": \"my run\", \"set\": [\"fit.epochs=3\", \"a=b c;d\"]}", job);
    char *reply = NULL, *run = ls_xprintf("%s/runs/my run-1", s->folder);
    assert_int_equal(http(s, "POST", "/api/v1/jobs", body, &reply), 201);
    json_t *made = json_loads(reply, 0, NULL);
    assert_string_equal(text_of(made, "run_dir"), run);
    char *command = json_dumps(json_object_get(made, "command"), JSON_COMPACT);
    assert_non_null(strstr(command, "\"--set\",\"fit.epochs=3\",\"--set\",\"a=b c;d\"]"));
    json_decref(wait_state(s, 1, "running"));
    say(run, "done");
    json_decref(wait_state(s, 1, "done"));
    char *second = ls_path_join(s->folder, "second");
    cli_expect(s, 0, "job 2 (digits) is starting on 2 ranks; run folder ", NULL, "submit", job, "-n", "2", "--run-dir",
               second, NULL);
    json_decref(wait_state(s, 2, "running"));
    say(second, "done");
    json_decref(wait_state(s, 2, "done"));
    free(second);
    free(command);
    json_decref(made);
    free(reply);
    free(run);
    free(body);
    free(job);
}

static void stop_writes_a_checkpoint_and_resume_goes_on(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *run = ls_path_join(s->folder, "run");
    int64_t id = submit(s, job, "2", run);
    cli_expect(s, 2, NULL, "only a job that has ended can be resumed", "resume", "1", NULL);
    wait_step(s, id, 1);
    cli_expect(s, 2, NULL, "stop it before it is removed", "remove", "1", NULL);
    cli_expect(s, 0, "job 1 (a) is stopping", NULL, "stop", "1", NULL);
    cli_expect(s, 75, "is stopped", "lockstep resume 1", "watch", NULL);
    json_t *stopped = wait_state(s, id, "stopped");
    assert_int_equal(number_of(stopped, "exit_code"), 75);
    assert_string_equal(text_of(stopped, "message"), "");
    wait_no_processes(s);
    cli_expect(s, 2, NULL, "job 1 is stopped already", "stop", "1", NULL);
    cli_expect(s, 0, "job 1 (a) is starting", NULL, "resume", "1", NULL);
    wait_step(s, id, 1);
    say(run, "done");
    json_t *done = wait_state(s, id, "done");
    assert_int_equal(number_of(done, "restarts"), 1);
    assert_int_equal(number_of(done, "exit_code"), 0);
    cli_expect(s, 0, "rank 1 of 2 goes on\n", NULL, "logs", "1", NULL);
    cli_expect(s, 2, NULL, "job 1 is done; there is nothing to resume", "resume", "1", NULL);
    json_decref(stopped);
    json_decref(done);
    free(run);
    free(job);
}

static void what_does_not_stop_is_killed(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{\"stubborn\": 1}"), *run = ls_path_join(s->folder, "run");
    int64_t id = submit(s, job, "3", run);
    wait_step(s, id, 1);
    cli_expect(s, 0, "stopping", NULL, "stop", "1", NULL); /* grace is 0.5 s here */
    json_t *stopped = wait_state(s, id, "stopped");
    assert_non_null(strstr(text_of(stopped, "message"), "did not stop by itself"));
    assert_int_equal(number_of(stopped, "exit_code"), 137);
    assert_int_equal(processes_of(s), 0); /* over means that nothing is left */
    cli_expect(s, 0, NULL, NULL, "resume", "1", NULL);
    wait_step(s, id, 1);
    cli_expect(s, 0, "stopping", NULL, "stop", "1", "--now", NULL);
    json_t *killed = wait_state(s, id, "stopped");
    assert_non_null(strstr(text_of(killed, "message"), "ended at once, as asked"));
    assert_int_equal(processes_of(s), 0);
    json_decref(stopped);
    json_decref(killed);
    free(run);
    free(job);
}

static void a_failure_says_why(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *one = ls_path_join(s->folder, "one"),
         *two = ls_path_join(s->folder, "two");
    int64_t a = submit(s, job, "2", one), b = submit(s, job, "2", two);
    wait_step(s, a, 1);
    wait_step(s, b, 1);
    say(one, "fail");
    say(two, "crash");
    cli_expect(s, 1, "is failed", "job 1 is failed: the loss is not finite at step 7", "watch", "1", NULL);
    json_t *failed = wait_state(s, a, "failed"), *crashed = wait_state(s, b, "failed");
    assert_int_equal(number_of(failed, "exit_code"), 1);
    assert_int_equal(number_of(crashed, "exit_code"), 128 + SIGKILL);
    assert_string_equal(text_of(crashed, "message"), "mpirun ended with exit code 137; \"lockstep logs 2\" tells more");
    assert_int_equal(processes_of(s), 0);
    json_decref(failed);
    json_decref(crashed);
    free(one);
    free(two);
    free(job);
}

static void ranks_that_outlive_mpirun_are_cleared_away(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{\"stubborn\": 1}"), *run = ls_path_join(s->folder, "run");
    int64_t id = submit(s, job, "3", run);
    wait_step(s, id, 1);
    json_t *running = job_of(s, id);
    assert_int_equal(kill((pid_t)number_of(running, "pid"), SIGKILL), 0);
    json_t *failed = wait_state(s, id, "failed");
    assert_string_equal(text_of(failed, "message"), "mpirun was killed by signal 9 (Killed)");
    assert_int_equal(processes_of(s), 0);
    json_decref(running);
    json_decref(failed);
    free(run);
    free(job);
}

/* Watching and following begin before there is anything to see and end with the job. */
static void streams_end_with_the_job(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *run = ls_path_join(s->folder, "run");
    int64_t id = submit(s, job, "2", run);
    wait_step(s, id, 1);
    int events = connect_to(s->socket), log = connect_to(s->socket);
    static const char ask_events[] = "GET /api/v1/jobs/1/events HTTP/1.1\r\nHost: x\r\n\r\n";
    static const char ask_log[] = "GET /api/v1/jobs/1/log?follow=1&offset=10 HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_int_equal(write(events, ask_events, strlen(ask_events)), strlen(ask_events));
    assert_int_equal(write(log, ask_log, strlen(ask_log)), strlen(ask_log));
    char *text = calloc(1, 1 << 20);
    size_t used = 0;
    while (strstr(text, "event: progress\n") == NULL) { /* it is live */
        ssize_t n = read(events, text + used, (1 << 20) - 1 - used);
        assert_true(n > 0);
        used += (size_t)n;
    }
    say(run, "done");
    for (ssize_t n; (n = read(events, text + used, (1 << 20) - 1 - used)) > 0;) {
        used += (size_t)n;
    }
    assert_non_null(strstr(text, "content-type: text/event-stream"));
    assert_non_null(strstr(text, "event: epoch\ndata: {"));
    assert_non_null(strstr(text, "\"state\":\"done\""));
    int n_ends = 0; /* told over the socket and in the file, it counts once */
    for (const char *p = text; (p = strstr(p, "event: end\n")) != NULL; p++) {
        n_ends++;
    }
    assert_int_equal(n_ends, 1);
    memset(text, 0, used);
    for (used = 0; (used < 1 << 19);) {
        ssize_t n = read(log, text + used, (1 << 20) - 1 - used);
        if (n <= 0) {
            break;
        }
        used += (size_t)n;
    }
    assert_non_null(strstr(text, "rank 1 of 2 begins\n"));
    assert_non_null(strstr(text, "\r\n\r\n 2")); /* the tenth byte: "lockstepd:" is left out */
    close(events);
    close(log);
    free(text);
    json_decref(wait_state(s, id, "done"));
    free(run);
    free(job);
}

static void watch_without_a_terminal_prints_lines(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *run = ls_path_join(s->folder, "run");
    cli_expect(s, 2, NULL, "there is no job to watch", "watch", NULL);
    int64_t id = submit(s, job, "1", run);
    wait_step(s, id, 1);
    say(run, "done");
    outcome o = cli(s, "watch", NULL);
    assert_int_equal(o.code, 0);
    assert_null(strchr(o.out, '\r'));
    assert_non_null(strstr(o.out, "job 1 (a) is done\n"));
    outcome_release(&o);
    free(run);
    free(job);
}

/* What the daemon relies on of Open MPI: SIGUSR1 reaches the ranks, exit code 75 comes through, and all of a job on
 * this machine is in the session of its mpirun. */
static void the_real_mpirun_does_as_the_fake_one(void **state) {
    service *s = *state;
    static const char *const extra[] = {"--grace", "20", "--mpirun", "mpirun", NULL};
    assert_int_equal(daemon_end(s, SIGTERM), 0);
    daemon_start(s, extra);
    char *job = job_file(s, "a.json", "{}"), *hard = job_file(s, "b.json", "{\"stubborn\": 1}");
    char *run = ls_path_join(s->folder, "run"), *other = ls_path_join(s->folder, "other");
    int64_t id = submit(s, job, "3", run);
    wait_step(s, id, 1);
    cli_expect(s, 0, "stopping", NULL, "stop", "1", NULL);
    json_t *stopped = wait_state(s, id, "stopped");
    assert_int_equal(number_of(stopped, "exit_code"), 75);
    id = submit(s, hard, "2", other);
    wait_step(s, id, 1);
    cli_expect(s, 0, "stopping", NULL, "stop", "2", "--now", NULL);
    json_decref(wait_state(s, id, "stopped"));
    assert_int_equal(processes_of(s), 0);
    cli_expect(s, 0, NULL, NULL, "resume", "2", NULL);
    wait_step(s, id, 1);
    json_t *again = job_of(s, id);
    assert_int_equal(kill((pid_t)number_of(again, "pid"), SIGKILL), 0);
    json_decref(wait_state(s, id, "failed"));
    assert_int_equal(processes_of(s), 0);
    json_decref(stopped);
    json_decref(again);
    free(job);
    free(hard);
    free(run);
    free(other);
}

int main(int argc, char **argv) {
    harness_init(argc, argv);
#define TEST(name) cmocka_unit_test_setup_teardown(name, service_set_up, service_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_job_runs_to_its_end),
        TEST(submit_says_what_it_did_and_makes_the_folder),
        TEST(stop_writes_a_checkpoint_and_resume_goes_on),
        TEST(what_does_not_stop_is_killed),
        TEST(a_failure_says_why),
        TEST(ranks_that_outlive_mpirun_are_cleared_away),
        TEST(streams_end_with_the_job),
        TEST(watch_without_a_terminal_prints_lines),
        TEST(the_real_mpirun_does_as_the_fake_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
