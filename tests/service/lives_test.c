/* The daemon dies and comes back; runs that it did not start; its sockets and its state folder. */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"
#include "tests/service/harness.h"

static void jobs_outlive_the_daemon_and_are_adopted(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *run = ls_path_join(s->folder, "run");
    int64_t id = submit(s, job, "2", run);
    wait_step(s, id, 1);
    json_t *before = job_of(s, id);
    assert_int_equal(daemon_end(s, SIGKILL), 128 + SIGKILL);
    assert_int_equal(processes_of(s), 3); /* mpirun and two ranks */
    cli_expect(s, 2, NULL, "start one with \"lockstepd\"", "status", NULL);
    daemon_start(s, NULL); /* takes the dead one's sockets */
    json_t *after = wait_state(s, id, "running");
    assert_int_equal(number_of(after, "pid"), number_of(before, "pid"));
    assert_int_equal(number_of(after, "start_time"), number_of(before, "start_time"));
    wait_step(s, id, number_of(json_object_get(before, "progress"), "step"));
    say(run, "done");
    json_t *done = wait_state(s, id, "done");
    assert_int_equal(number_of(done, "exit_code"), 0);
    assert_int_equal(number_of(done, "restarts"), 0);
    json_decref(before);
    json_decref(after);
    json_decref(done);
    free(run);
    free(job);
}

static void an_adopted_job_can_be_stopped_and_killed(void **state) {
    service *s = *state;
    char *soft = job_file(s, "a.json", "{}"), *hard = job_file(s, "b.json", "{\"stubborn\": 1}");
    char *one = ls_path_join(s->folder, "one"), *two = ls_path_join(s->folder, "two");
    int64_t a = submit(s, soft, "2", one), b = submit(s, hard, "2", two);
    wait_step(s, a, 1);
    wait_step(s, b, 1);
    assert_int_equal(daemon_end(s, SIGKILL), 128 + SIGKILL);
    static const char *const extra[] = {"--grace", "0.5", NULL};
    daemon_start(s, extra);
    cli_expect(s, 0, "stopping", NULL, "stop", "1", NULL);
    cli_expect(s, 0, "stopping", NULL, "stop", "2", NULL);
    json_t *stopped = wait_state(s, a, "stopped"), *killed = wait_state(s, b, "stopped");
    assert_int_equal(number_of(stopped, "exit_code"), 75);
    assert_non_null(strstr(text_of(killed, "message"), "did not stop by itself"));
    assert_int_equal(processes_of(s), 0);
    json_decref(stopped);
    json_decref(killed);
    free(soft);
    free(hard);
    free(one);
    free(two);
}

/* How a job ended while no daemon was there is found in its run folder. */
static void ends_that_no_daemon_saw_are_found(void **state) {
    service *s = *state;
    static const char *const words[] = {"done", "fail", "vanish"}, *const ends[] = {"done", "failed", "lost"};
    char *job = job_file(s, "a.json", "{}"), *runs[3];
    for (int i = 0; i < 3; i++) {
        runs[i] = ls_path_join(s->folder, words[i]);
        wait_step(s, submit(s, job, "2", runs[i]), 1);
    }
    assert_int_equal(daemon_end(s, SIGKILL), 128 + SIGKILL);
    for (int i = 0; i < 3; i++) {
        say(runs[i], words[i]);
        free(runs[i]);
    }
    wait_no_processes(s);
    daemon_start(s, NULL);
    for (int i = 0; i < 3; i++) {
        json_decref(wait_state(s, i + 1, ends[i]));
    }
    cli_expect(s, 0, "the loss is not finite at step 7", NULL, "status", "2", NULL);
    cli_expect(s, 0, "left no word on how", NULL, "status", "3", NULL);
    cli_expect(s, 0, "starting", NULL, "resume", "3", NULL);
    json_decref(wait_state(s, 3, "done")); /* "vanish" is exit code 0, seen this time */
    free(job);
}

static void sigterm_ends_the_daemon_and_not_the_jobs(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *run = ls_path_join(s->folder, "run");
    int64_t id = submit(s, job, "2", run);
    wait_step(s, id, 1);
    int watcher = connect_to(s->socket);
    static const char ask[] = "GET /api/v1/jobs/1/events HTTP/1.1\r\nHost: x\r\n\r\n";
    char byte;
    assert_int_equal(write(watcher, ask, strlen(ask)), strlen(ask));
    assert_int_equal(read(watcher, &byte, 1), 1);
    assert_int_equal(daemon_end(s, SIGTERM), 0);
    struct stat st;
    assert_int_equal(stat(s->socket, &st), -1);
    assert_int_equal(stat(s->push, &st), -1);
    assert_int_equal(processes_of(s), 3);
    daemon_start(s, NULL);
    say(run, "done");
    json_decref(wait_state(s, id, "done"));
    close(watcher);
    free(run);
    free(job);
}

static void runs_started_by_hand_report_by_themselves(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *run = ls_path_join(s->folder, "mnist-7");
    pid_t mpirun = run_by_hand(s, job, "3", run);
    for (int64_t since = 0; !ls_file_exists(ls_path_join(s->state, "jobs/1.json"));) {
        wait_more(&since, "the run is registered");
    }
    wait_step(s, 1, 1);
    cli_expect(s, 0, "mnist-7  running  3 ", NULL, "status", NULL);
    cli_expect(s, 0, "started by hand", NULL, "status", "1", NULL);
    cli_expect(s, 2, NULL, "its output is where mpirun was started", "logs", "1", NULL);
    /* it finds a new daemon by itself, and is the same job there */
    assert_int_equal(daemon_end(s, SIGKILL), 128 + SIGKILL);
    daemon_start(s, NULL);
    json_t *job_now = job_of(s, 1);
    wait_step(s, 1, number_of(json_object_get(job_now, "progress"), "step"));
    assert_null(job_of(s, 2));
    cli_expect(s, 0, "stopping", NULL, "stop", "1", NULL);
    json_decref(wait_state(s, 1, "stopped"));
    say(run, "done"); /* the other two ranks were not asked */
    assert_int_equal(waitpid(mpirun, NULL, 0), mpirun);
    /* the daemon can go on with it now */
    cli_expect(s, 0, "starting", NULL, "resume", "1", NULL);
    json_decref(wait_state(s, 1, "done"));
    json_decref(job_now);
    free(run);
    free(job);
}

/* What has ended by its own word is shown so at once, whatever its processes still have to do. */
static void a_run_by_hand_is_over_with_its_last_word(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *run = ls_path_join(s->folder, "run");
    char *events = ls_path_join(run, "events.jsonl"), *text = NULL;
    pid_t mpirun = run_by_hand(s, job, "1", run);
    for (int64_t since = 0; !ls_file_exists(ls_path_join(s->state, "jobs/1.json"));) {
        wait_more(&since, "the run is registered");
    }
    wait_step(s, 1, 1);
    say(run, "linger");
    for (int64_t since = 0; ls_file_read(events, &text, NULL, NULL) != LS_OK || strstr(text, "\"end\"") == NULL;) {
        free(text);
        text = NULL;
        wait_more(&since, "the run's last word");
    }
    json_t *over = job_of(s, 1);
    assert_string_equal(text_of(over, "state"), "done");
    json_decref(over);
    say(run, "leave");
    assert_int_equal(waitpid(mpirun, NULL, 0), mpirun);
    json_decref(wait_state(s, 1, "done"));
    free(text);
    free(events);
    free(run);
    free(job);
}

static void a_run_by_hand_that_vanishes_is_lost(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *run = ls_path_join(s->folder, "run");
    pid_t mpirun = run_by_hand(s, job, "1", run);
    for (int64_t since = 0; !ls_file_exists(ls_path_join(s->state, "jobs/1.json"));) {
        wait_more(&since, "the run is registered");
    }
    wait_step(s, 1, 1);
    say(run, "crash");
    assert_int_equal(waitpid(mpirun, NULL, 0), mpirun);
    json_t *lost = wait_state(s, 1, "lost");
    assert_string_equal(text_of(lost, "message"), "rank 0 ended and left no word on how; its log may tell");
    json_decref(lost);
    free(run);
    free(job);
}

static void sockets_are_private_and_not_shared(void **state) {
    service *s = *state;
    struct stat st;
    assert_int_equal(stat(s->socket, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(s->push, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    char *other = ls_path_join(s->folder, "other"), *file = job_file(s, "file", "x"),
         *who = ls_xprintf("(process %d)", (int)s->daemon);
    const char *own_state[] = {"--state", other, NULL}, *own_socket[] = {"--socket", other, NULL};
    const char *no_socket[] = {"--state", other, "--socket", file, NULL};
    outcome o = daemon_refused(s, own_state);
    assert_int_equal(o.code, 2);
    assert_non_null(strstr(o.err, "already listens on"));
    assert_non_null(strstr(o.err, who));
    outcome_release(&o);
    o = daemon_refused(s, own_socket);
    assert_int_equal(o.code, 2);
    assert_non_null(strstr(o.err, "already uses the state folder"));
    assert_non_null(strstr(o.err, who));
    outcome_release(&o);
    o = daemon_refused(s, no_socket);
    assert_int_equal(o.code, 2);
    assert_non_null(strstr(o.err, "exists and is not a socket"));
    outcome_release(&o);
    assert_true(ls_file_exists(file));
    assert_int_equal(http(s, "GET", "/healthz", NULL, NULL), 200); /* the first one was not disturbed */
    free(other);
    free(file);
    free(who);
}

static void wrong_options_are_refused(void **state) {
    service *s = *state;
    static const struct {
        const char *words[4], *says;
    } rows[] = {
        {{"--grace", "soon", NULL}, "--grace: expected a number of seconds, found \"soon\""},
        {{"--sockt", "x", NULL}, "--sockt is not an option"},
        {{"--grace", NULL}, "--grace needs a value"},
        {{"job.json", NULL}, "options only, found \"job.json\""},
        {{"--lockstep", "/no/such/lockstep", NULL}, "there is no program /no/such/lockstep"},
        {{"--socket",
          "/tmp/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/"
          "0123456789",
          NULL},
         "at most 102 characters"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        outcome o = daemon_refused(s, rows[i].words);
        assert_int_equal(o.code, 2);
        if (strstr(o.err, rows[i].says) == NULL) {
            fail_msg("expected \"%s\", got %s", rows[i].says, o.err);
        }
        outcome_release(&o);
    }
}

static void a_damaged_record_harms_no_other(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *run = ls_path_join(s->folder, "run");
    int64_t id = submit(s, job, "1", run);
    wait_step(s, id, 1);
    assert_int_equal(daemon_end(s, SIGKILL), 128 + SIGKILL);
    char *bad = job_file(s, "state/jobs/9.json", "{\"id\": 9, \"run_di");
    daemon_start(s, NULL);
    json_decref(wait_state(s, id, "running"));
    assert_null(job_of(s, 9));
    char *log = ls_path_join(s->folder, "lockstepd.log"), *text = NULL;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_file_read(log, &text, NULL, &err), LS_OK);
    assert_non_null(strstr(text, "9.json:1"));
    say(run, "done");
    json_decref(wait_state(s, id, "done"));
    free(text);
    free(log);
    free(bad);
    free(run);
    free(job);
}

/* Another process has the number of a job's mpirun: it is not touched, and the job is not taken for running. */
static void a_number_given_again_is_not_mistaken(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *run = ls_path_join(s->folder, "run");
    int64_t id = submit(s, job, "1", run);
    wait_step(s, id, 1);
    say(run, "vanish");
    json_decref(wait_state(s, id, "done"));
    assert_int_equal(daemon_end(s, SIGTERM), 0);
    pid_t stranger = fork();
    if (stranger == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setsid();
        for (;;) {
            pause();
        }
    }
    char *record = ls_path_join(s->state, "jobs/1.json");
    ls_err err = LS_ERR_INIT;
    ls_json_doc doc;
    assert_int_equal(ls_json_load(&doc, record, &err), LS_OK);
    json_object_set_new(doc.root, "pid", json_integer(stranger));
    json_object_set_new(doc.root, "state", json_string("running"));
    char *text = json_dumps(doc.root, 0);
    assert_int_equal(ls_file_write_atomic(record, text, strlen(text), &err), LS_OK);
    daemon_start(s, NULL);
    json_decref(wait_state(s, id, "lost"));
    assert_int_equal(waitpid(stranger, NULL, WNOHANG), 0); /* lives */
    kill(stranger, SIGKILL);
    waitpid(stranger, NULL, 0);
    ls_json_release(&doc);
    free(text);
    free(record);
    free(run);
    free(job);
}

int main(int argc, char **argv) {
    harness_init(argc, argv);
#define TEST(name) cmocka_unit_test_setup_teardown(name, service_set_up, service_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(jobs_outlive_the_daemon_and_are_adopted),   TEST(an_adopted_job_can_be_stopped_and_killed),
        TEST(ends_that_no_daemon_saw_are_found),         TEST(sigterm_ends_the_daemon_and_not_the_jobs),
        TEST(runs_started_by_hand_report_by_themselves), TEST(a_run_by_hand_is_over_with_its_last_word),
        TEST(runs_started_by_hand_report_by_themselves), TEST(a_run_by_hand_that_vanishes_is_lost),
        TEST(sockets_are_private_and_not_shared),        TEST(wrong_options_are_refused),
        TEST(a_damaged_record_harms_no_other),           TEST(a_number_given_again_is_not_mistaken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
