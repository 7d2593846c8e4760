/* Wrong requests of every kind, and callers that behave badly. */
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"
#include "tests/service/harness.h"

/* The reply is an error of this status, JSON, whose sentence holds this text. */
static void refused(service *s, const char *method, const char *path, const char *body, int status, const char *says) {
    char *reply = NULL;
    int got = http(s, method, path, body, &reply);
    json_t *json = json_loads(reply, 0, NULL);
    if (got != status || strstr(text_of(json, "error"), says) == NULL) {
        fail_msg("%s %s %s: expected %d and \"%s\", got %d and %s", method, path, body != NULL ? body : "", status,
                 says, got, reply);
    }
    json_decref(json);
    free(reply);
}

static void wrong_requests_are_answered(void **state) {
    service *s = *state;
    static const char jobs[] = "/api/v1/jobs";
    refused(s, "GET", "/", NULL, 404, "there is nothing at /");
    refused(s, "GET", "/api/v1/job", NULL, 404, "jobs are at /api/v1/jobs");
    refused(s, "GET", "/api/v1/jobs/1", NULL, 404, "there is no job 1");
    refused(s, "POST", "/api/v1/jobs/7/stop", NULL, 404, "there is no job 7");
    refused(s, "GET", "/api/v1/jobs/one", NULL, 404, "there is nothing at");
    refused(s, "PUT", jobs, "{}", 405, "PUT is not possible at /api/v1/jobs");
    refused(s, "DELETE", "/healthz", NULL, 405, "DELETE is not possible");
    refused(s, "POST", jobs, NULL, 400, "not valid JSON");
    refused(s, "POST", jobs, "{\"job\": ", 400, "the request:1");
    refused(s, "POST", jobs, "\xff\xfe{}", 400, "not valid JSON");
    refused(s, "POST", jobs, "[1]", 400, "expected an object");
    refused(s, "POST", jobs, "{}", 400, "the key \"job\" is missing");
    refused(s, "POST", jobs, "{\"job\": \"/a.json\"}", 400, "the key \"ranks\" is missing");
    refused(s, "POST", jobs, "{\"job\": \"/no/such.json\", \"ranks\": 2}", 400,
            "job: there is no readable file /no/such.json");
    refused(s, "POST", jobs, "{\"job\": \"a.json\", \"ranks\": 2}", 400, "job: expected an absolute path");
    refused(s, "POST", jobs, "{\"job\": \"/a.json\", \"ranks\": 0}", 400, "ranks: expected a whole number from 1");
    refused(s, "POST", jobs, "{\"job\": \"/a.json\", \"ranks\": \"2\"}", 400, "ranks: expected a whole number");
    refused(s, "POST", jobs, "{\"job\": \"/a.json\", \"rank\": 2}", 400, "rank: unknown key; did you mean \"ranks\"?");
    refused(s, "POST", jobs, "{\"job\": \"/a.json\", \"ranks\": 2, \"resume\": 1}", 400, "resume: expected");
    refused(s, "POST", jobs, "{\"job\": \"/a.json\", \"ranks\": 2, \"set\": \"a=b\"}", 400, "set: expected a list");
    refused(s, "POST", jobs, "{\"job\": \"/a.json\", \"ranks\": 2, \"set\": [\"ab\"]}", 400,
            "set[0]: expected a text like");
    refused(s, "POST", jobs, "{\"job\": \"/a.json\", \"ranks\": 2, \"run_dir\": \"x\"}", 400,
            "run_dir: expected an absolute path");
    refused(s, "POST", jobs, "{\"job\": \"/etc/passwd\", \"ranks\": 2, \"name\": \"a/b\"}", 400, "name: expected");
    refused(s, "POST", jobs, "{\"job\": \"/etc/passwd\", \"ranks\": 2, \"folder\": \"/no/such\"}", 400,
            "folder: there is no folder");
    assert_int_equal(http(s, "GET", jobs, NULL, NULL), 200);
    cli_expect(s, 0, "ID  NAME  STATE", NULL, "list", NULL); /* none of them became a job */
    assert_false(ls_file_exists("/a.json"));
}

static void a_run_folder_in_use_is_refused(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *run = ls_path_join(s->folder, "run");
    int64_t id = submit(s, job, "1", run);
    wait_step(s, id, 1);
    cli_expect(s, 2, NULL, "belongs to job 1, which is running", "submit", job, "-n", "1", "--run-dir", run, NULL);
    refused(s, "GET", "/api/v1/jobs/1/log?offset=x", NULL, 400, "offset: expected a number of bytes");
    refused(s, "POST", "/api/v1/jobs/1/stop", "{\"nwo\": true}", 400, "did you mean \"now\"?");
    say(run, "done");
    json_decref(wait_state(s, id, "done"));
    cli_expect(s, 2, NULL, "already holds a run; ask to resume it", "submit", job, "-n", "1", "--run-dir", run, NULL);
    char *blocked = ls_path_join(job, "run"); /* a folder in a file cannot be */
    cli_expect(s, 2, NULL, "a.json/run: cannot be created: Not a directory", "submit", job, "-n", "1", "--run-dir",
               blocked, NULL);
    cli_expect(s, 2, NULL, "there is no job 2", "status", "2", NULL); /* it has not become one */
    free(blocked);
    free(run);
    free(job);
}

static void the_client_says_what_is_wrong(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}");
    cli_expect(s, 2, NULL, "say on how many ranks", "submit", job, NULL);
    cli_expect(s, 2, NULL, "say which job file", "submit", NULL);
    cli_expect(s, 2, NULL, "-n: expected a whole number from 1, found \"two\"", "submit", job, "-n", "two", NULL);
    cli_expect(s, 2, NULL, "job: there is no readable file", "submit", "/no/such.json", "-n", "2", NULL);
    cli_expect(s, 2, NULL, "set[0]: expected a text like \"fit.epochs=3\"", "submit", job, "-n", "2", "--set", "x",
               NULL);
    cli_expect(s, 2, NULL, "submit: --rundir is not one of its options; did you mean \"--run-dir\"?", "submit", job,
               "-n", "2", "--rundir", "x", NULL);
    cli_expect(s, 2, NULL, "there is no job 3", "watch", "3", NULL);
    cli_expect(s, 2, NULL, "there is no job 3", "logs", "3", "-f", NULL);
    cli_expect(s, 2, NULL, "say which job", "stop", NULL);
    cli_expect(s, 2, NULL, "expected a whole number from 1, found \"x\"", "resume", "x", NULL);
    assert_int_equal(daemon_end(s, SIGTERM), 0);
    static const char *const missing[] = {"--mpirun", "/no/such/mpirun", NULL};
    daemon_start(s, missing);
    cli_expect(s, 1, NULL, "job 1 could not be started: /no/such/mpirun cannot be started in", "submit", job, "-n", "2",
               NULL);
    free(job);
}

/* A body that is too large is refused before it is read. */
static void large_bodies_are_refused(void **state) {
    service *s = *state;
    size_t n = 2 << 20;
    char *body = malloc(n + 1), *reply = NULL;
    memset(body, ' ', n);
    body[n] = '\0';
    assert_int_equal(http(s, "POST", "/api/v1/jobs", body, &reply), 413);
    assert_non_null(strstr(reply, "at most 1 MiB"));
    free(reply);
    body[1 << 20] = '\0';
    refused(s, "POST", "/api/v1/jobs", body, 400, "not valid JSON"); /* the largest that is read */
    static const char chunked[] =
        "POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    reply = talk(s->socket, chunked, strlen(chunked));
    assert_non_null(strstr(reply, "HTTP/1.1 411"));
    free(reply);
    free(body);
}

/* The daemon answers others while this many hang on it. */
static void still_answers(service *s) {
    assert_int_equal(http(s, "GET", "/healthz", NULL, NULL), 200);
}

static void garbage_does_no_harm(void **state) {
    service *s = *state;
    static const char *const texts[] = {
        "\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\x01\x01\xfc\x03\x03",
        "POST /api/v1/jobs HTTP/1.1\r\nContent-Length: -5\r\n\r\n{}",
        "POST /api/v1/jobs HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        "GET /api/v1/jobs/%00%ff/../../.. HTTP/1.1\r\nHost: x\r\n\r\n",
        "{\"event\": \"hello\"}\n",
        "{\"event\": \"hello\", \"version\": 9, \"run_dir\": \"/a\", \"ranks\": 1}\n",
        "{\"event\": \"hello\", \"version\": 1, \"run_dir\": \"a\", \"ranks\": 1}\n",
        "{\"event\": \"hello\", \"version\": 1, \"run_dir\": 3, \"ranks\": 1}\n",
        "[[[[[[[[[[[[[[[[\n",
    };
    uint32_t seed = 12345;
    for (int i = 0; i < 300; i++) {
        char noise[512];
        size_t n = 1 + (size_t)i % sizeof noise;
        for (size_t k = 0; k < n; k++) {
            seed = seed * 1664525 + 1013904223;
            noise[k] = (char)(seed >> 24);
        }
        const char *path = i % 2 ? s->socket : s->push;
        int fd = connect_to(path);
        assert_true(fd >= 0);
        const char *text = texts[(size_t)i / 2 % (sizeof texts / sizeof texts[0])];
        (void)!send(fd, i % 4 < 2 ? noise : text, i % 4 < 2 ? n : strlen(text), MSG_NOSIGNAL);
        close(fd);
    }
    still_answers(s);
    cli_expect(s, 0, "ID  NAME  STATE", NULL, "list", NULL);
    char *line = malloc(200000); /* a line without an end */
    memset(line, 'x', 200000);
    char *reply = talk(s->push, line, 200000);
    assert_string_equal(reply, "");
    free(reply);
    free(line);
    still_answers(s);
}

static void crowds_and_half_requests_do_not_stop_others(void **state) {
    service *s = *state;
    char *job = job_file(s, "a.json", "{}"), *run = ls_path_join(s->folder, "run");
    int64_t id = submit(s, job, "1", run);
    wait_step(s, id, 1);
    static const char half[] = "POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Le";
    static const char half_body[] = "POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
    static const char stream[] = "GET /api/v1/jobs/1/events HTTP/1.1\r\nHost: x\r\n\r\n";
    static const char *const starts[] = {half, half_body, stream, ""};
    int fds[200];
    for (int i = 0; i < 200; i++) {
        fds[i] = connect_to(i % 5 == 4 ? s->push : s->socket);
        assert_true(fds[i] >= 0);
        (void)!send(fds[i], starts[i % 4], strlen(starts[i % 4]), MSG_NOSIGNAL);
    }
    still_answers(s);
    wait_step(s, id, 100); /* and the run goes on being told to those who read and those who do not */
    say(run, "done");
    json_decref(wait_state(s, id, "done"));
    for (int i = 0; i < 200; i++) {
        close(fds[i]);
    }
    still_answers(s);
    free(run);
    free(job);
}

/* More callers than the daemon takes or has descriptors for are turned away; when they go, there is room again. */
static void too_many_callers_are_turned_away(void **state) {
    service *s = *state;
    struct rlimit was, low;
    assert_int_equal(daemon_end(s, SIGTERM), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
    low = (struct rlimit){48, was.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    daemon_start(s, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
    int fds[300], n_turned_away = 0;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 150; i++) {
            fds[i] = connect_to(round ? s->push : s->socket);
            assert_true(fds[i] >= 0);
        }
        struct pollfd wait = {.fd = fds[149], .events = POLLIN};
        assert_int_equal(poll(&wait, 1, 10000), 1); /* told or closed at once */
        for (int i = 0; i < 150; i++) {
            char text[512];
            n_turned_away += recv(fds[i], text, sizeof text, MSG_DONTWAIT) >= 0;
            close(fds[i]);
        }
    }
    assert_true(n_turned_away >= 200);
    char *request = ls_xprintf("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), *reply = NULL;
    for (int64_t since = 0;;) {
        reply = talk(s->socket, request, strlen(request));
        bool answered = strstr(reply, "HTTP/1.1 200") == reply;
        free(reply);
        if (answered) {
            break;
        }
        wait_more(&since, "there is room again");
    }
    free(request);
}

/* One caller more than the daemon takes is told so, in a whole reply. */
static void one_too_many_is_told(void **state) {
    service *s = *state;
    static const char length[] = "Content-Length: ";
    int fds[300];
    for (int i = 0; i < 300; i++) {
        fds[i] = connect_to(s->socket);
        assert_true(fds[i] >= 0);
    }
    char text[1024] = "";
    size_t used = 0;
    for (ssize_t n; (n = recv(fds[299], text + used, sizeof text - 1 - used, 0)) > 0;) {
        used += (size_t)n;
    }
    assert_ptr_equal(strstr(text, "HTTP/1.1 503"), text);
    const char *body = strstr(text, "\r\n\r\n"), *at = strstr(text, length);
    assert_true(body != NULL && at != NULL && at < body);
    assert_non_null(strstr(body, "\"lockstepd has too many callers; try again\""));
    assert_int_equal(atoi(at + strlen(length)), strlen(body + 4));
    for (int i = 0; i < 300; i++) {
        close(fds[i]);
    }
}

/* Several requests on one connection, as HTTP/1.1 has it. */
static void a_connection_is_used_again(void **state) {
    service *s = *state;
    static const char ask[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    static const char last[] = "POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    int fd = connect_to(s->socket);
    for (int i = 0; i < 3; i++) {
        char text[2048] = "";
        const char *request = i < 2 ? ask : last;
        assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
        for (size_t used = 0; strstr(text, "}\n") == NULL;) {
            ssize_t n = recv(fd, text + used, sizeof text - 1 - used, 0);
            assert_true(n > 0);
            used += (size_t)n;
        }
        assert_ptr_equal(strstr(text, i < 2 ? "HTTP/1.1 200" : "HTTP/1.1 400"), text);
    }
    close(fd);
}

int main(int argc, char **argv) {
    harness_init(argc, argv);
#define TEST(name) cmocka_unit_test_setup_teardown(name, service_set_up, service_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(wrong_requests_are_answered),
        TEST(a_run_folder_in_use_is_refused),
        TEST(the_client_says_what_is_wrong),
        TEST(large_bodies_are_refused),
        TEST(garbage_does_no_harm),
        TEST(crowds_and_half_requests_do_not_stop_others),
        TEST(too_many_callers_are_turned_away),
        TEST(one_too_many_is_told),
        TEST(a_connection_is_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
