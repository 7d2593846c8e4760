#include "tests/service/harness.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"

static const char *lockstepd, *lockstep, *fake;

/* Under the address sanitizer, lockstepd and lockstep are checked for leaks; the tests themselves, which end at once,
 * are not. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "detect_leaks=0";
}

void harness_init(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s LOCKSTEPD LOCKSTEP FAKE_JOB\n", argv[0]);
        exit(2);
    }
    lockstepd = argv[1];
    lockstep = argv[2];
    fake = argv[3];
    signal(SIGPIPE, SIG_IGN);
}

const char *path_of_lockstep(void) {
    return lockstep;
}

bool wait_more(int64_t *since, const char *what) {
    struct timespec moment = {0, 5000000};
    *since = *since == 0 ? ls_now_ns() : *since;
    const char *patience = getenv("LOCKSTEP_TEST_PATIENCE"); /* the factor of limits in a sanitized build */
    int64_t limit = 20 * (patience != NULL ? atoll(patience) : 1);
    if (ls_now_ns() - *since > limit * 1000000000) {
        fail_msg("it did not come to pass in %d s: %s", (int)limit, what);
    }
    nanosleep(&moment, NULL);
    return true;
}

/* ---- programs ---- */

static pid_t start(char **argv, const char *out, const char *err) {
    pid_t pid = fork();
    if (pid == 0) {
        int out_fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0666),
            err_fd = open(err, O_WRONLY | O_CREAT | O_APPEND, 0666);
        dup2(out_fd, 1);
        dup2(err_fd, 2);
        execv(argv[0], argv);
        _exit(127);
    }
    assert_true(pid > 0);
    return pid;
}

static int end_of(pid_t pid) {
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static char *file_text(const char *path) {
    char *text = NULL;
    ls_err err = LS_ERR_INIT;
    if (ls_file_read(path, &text, NULL, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
    return text;
}

static outcome run_to_end(service *s, char **argv) {
    static int n;
    outcome o;
    char *out = ls_xprintf("%s/out.%d", s->folder, n), *err = ls_xprintf("%s/err.%d", s->folder, n);
    n++;
    o.code = end_of(start(argv, out, err));
    o.out = file_text(out);
    o.err = file_text(err);
    free(out);
    free(err);
    return o;
}

void outcome_release(outcome *o) {
    free(o->out);
    free(o->err);
}

/* ---- the daemon ---- */

enum { MAX_WORDS = 32 };

static void daemon_words(service *s, const char *const *extra, char **argv) {
    const char *const usual[] = {lockstepd,    "--socket", s->socket,  "--state", s->state,
                                 "--lockstep", fake,       "--mpirun", fake};
    int n = 0;
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++) {
        argv[n++] = (char *)(uintptr_t)usual[i];
    }
    for (; extra != NULL && *extra != NULL && n < MAX_WORDS - 1; extra++) {
        argv[n++] = (char *)(uintptr_t)*extra;
    }
    argv[n] = NULL;
}

void daemon_start(service *s, const char *const *extra) {
    char *argv[MAX_WORDS], *log = ls_xprintf("%s/lockstepd.log", s->folder);
    daemon_words(s, extra, argv);
    s->daemon = start(argv, "/dev/null", log);
    free(log);
    int64_t since = 0;
    for (int fd; (fd = connect_to(s->push)) < 0;) { /* the socket that it opens last */
        assert_int_equal(waitpid(s->daemon, NULL, WNOHANG), 0);
        wait_more(&since, "lockstepd answers");
        (void)fd;
    }
    assert_int_equal(http(s, "GET", "/healthz", NULL, NULL), 200);
}

outcome daemon_refused(service *s, const char *const *extra) {
    char *argv[MAX_WORDS];
    daemon_words(s, extra, argv);
    return run_to_end(s, argv);
}

int daemon_end(service *s, int signal_number) {
    assert_int_equal(kill(s->daemon, signal_number), 0);
    int code = end_of(s->daemon);
    s->daemon = 0;
    return code;
}

int service_set_up(void **state) {
    service *s = ls_xcalloc(1, sizeof *s);
    snprintf(s->folder, sizeof s->folder, "/tmp/lockstep-service-XXXXXX");
    if (mkdtemp(s->folder) == NULL) {
        return -1;
    }
    snprintf(s->socket, sizeof s->socket, "%s/s", s->folder);
    snprintf(s->push, sizeof s->push, "%s/s.push", s->folder);
    snprintf(s->state, sizeof s->state, "%s/state", s->folder);
    static const char *const extra[] = {"--grace", "0.5", NULL};
    daemon_start(s, extra);
    *state = s;
    return 0;
}

/* Calls fn for each process of the test but the daemon and itself. */
static int each_process(const service *s, void (*fn)(pid_t pid)) {
    DIR *proc = opendir("/proc");
    int n = 0;
    for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
        char path[300], words[4096];
        pid_t pid = atoi(entry->d_name);
        if (!isdigit((unsigned char)entry->d_name[0]) || pid == s->daemon || pid == getpid()) {
            continue;
        }
        snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        int fd = open(path, O_RDONLY);
        ssize_t size = fd >= 0 ? read(fd, words, sizeof words) : 0;
        if (fd >= 0) {
            close(fd);
        }
        if (size > 0 && memmem(words, (size_t)size, s->folder, strlen(s->folder)) != NULL) {
            n++;
            if (fn != NULL) {
                fn(pid);
            }
        }
    }
    closedir(proc);
    return n;
}

int processes_of(const service *s) {
    return each_process(s, NULL);
}

void wait_no_processes(const service *s) {
    for (int64_t since = 0; processes_of(s) > 0;) {
        wait_more(&since, "no process is left");
    }
}

static void kill_it(pid_t pid) {
    kill(pid, SIGKILL);
}

int service_tear_down(void **state) {
    service *s = *state;
    int code = s->daemon > 0 ? daemon_end(s, SIGTERM) : 0, left = each_process(s, kill_it);
    if (left > 0 || code != 0) {
        print_error("%d processes of the test were left, and lockstepd ended with %d: see %s\n", left, code, s->folder);
    } else {
        char *command = ls_xprintf("rm -rf '%s'", s->folder);
        code = system(command);
        free(command);
    }
    free(s);
    return left > 0 || code != 0;
}

/* ---- the client ---- */

static outcome cli_list(service *s, va_list args) {
    char *argv[MAX_WORDS] = {(char *)(uintptr_t)lockstep};
    int n = 1;
    for (char *word; n < MAX_WORDS - 3 && (word = va_arg(args, char *)) != NULL;) {
        argv[n++] = word;
    }
    argv[n++] = (char *)(uintptr_t) "--socket";
    argv[n++] = s->socket;
    argv[n] = NULL;
    return run_to_end(s, argv);
}

outcome cli(service *s, ...) {
    va_list args;
    va_start(args, s);
    outcome o = cli_list(s, args);
    va_end(args);
    return o;
}

void cli_expect(service *s, int code, const char *in_out, const char *in_err, ...) {
    va_list args;
    va_start(args, in_err);
    outcome o = cli_list(s, args);
    va_end(args);
    if (o.code != code || (in_out != NULL && strstr(o.out, in_out) == NULL) ||
        (in_err != NULL && strstr(o.err, in_err) == NULL)) {
        fail_msg("expected code %d, \"%s\" and \"%s\"; got %d, out:\n%s\nerr:\n%s", code, in_out != NULL ? in_out : "",
                 in_err != NULL ? in_err : "", o.code, o.out, o.err);
    }
    outcome_release(&o);
}

/* ---- jobs ---- */

const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

int64_t number_of(const json_t *object, const char *key) {
    return (int64_t)json_number_value(json_object_get(object, key));
}

char *job_file(service *s, const char *name, const char *text) {
    ls_err err = LS_ERR_INIT;
    char *path = ls_path_join(s->folder, name);
    assert_int_equal(ls_file_write_atomic(path, text, strlen(text), &err), LS_OK);
    return path;
}

int64_t submit(service *s, const char *job, const char *ranks, const char *run_dir) {
    outcome o = cli(s, "submit", job, "-n", ranks, "--run-dir", run_dir, "--json", NULL);
    if (o.code != 0) {
        fail_msg("submit: %d, %s", o.code, o.err);
    }
    json_t *reply = json_loads(o.out, 0, NULL);
    int64_t id = number_of(reply, "id");
    assert_true(id > 0);
    json_decref(reply);
    outcome_release(&o);
    return id;
}

json_t *job_of(service *s, int64_t id) {
    char path[64], *reply = NULL;
    snprintf(path, sizeof path, "/api/v1/jobs/%" PRId64, id);
    json_t *job = http(s, "GET", path, NULL, &reply) == 200 ? json_loads(reply, 0, NULL) : NULL;
    free(reply);
    return job;
}

json_t *wait_state(service *s, int64_t id, const char *word) {
    for (int64_t since = 0;;) {
        json_t *job = job_of(s, id);
        if (strcmp(text_of(job, "state"), word) == 0) {
            return job;
        }
        char *what = ls_xprintf("job %" PRId64 " is %s (it is %s: %s)", id, word, text_of(job, "state"),
                                text_of(job, "message"));
        wait_more(&since, what);
        free(what);
        json_decref(job);
    }
}

void wait_step(service *s, int64_t id, int64_t step) {
    for (int64_t since = 0;;) {
        json_t *job = job_of(s, id);
        int64_t now = number_of(json_object_get(job, "progress"), "step");
        json_decref(job);
        if (now > step) {
            return;
        }
        wait_more(&since, "the run tells of its steps");
    }
}

void say(const char *run_dir, const char *word) {
    ls_err err = LS_ERR_INIT;
    char *path = ls_path_join(run_dir, "go");
    assert_int_equal(ls_file_write_atomic(path, word, strlen(word), &err), LS_OK);
    free(path);
}

pid_t run_by_hand(service *s, const char *job, const char *ranks, const char *run_dir) {
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_folder_create(run_dir, &err), LS_OK);
    char *argv[] = {(char *)(uintptr_t)fake,
                    (char *)(uintptr_t) "-n",
                    (char *)(uintptr_t)ranks,
                    (char *)(uintptr_t)fake,
                    (char *)(uintptr_t) "train",
                    (char *)(uintptr_t)job,
                    (char *)(uintptr_t) "--run-dir",
                    (char *)(uintptr_t)run_dir,
                    (char *)(uintptr_t) "--control",
                    s->socket,
                    NULL};
    return start(argv, "/dev/null", "/dev/null");
}

/* ---- sockets ---- */

int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

char *talk(const char *path, const char *bytes, size_t n_bytes) {
    int fd = connect_to(path);
    assert_true(fd >= 0);
    size_t used = 0, size = 4096, sent = 0;
    char *text = ls_xrealloc(NULL, size);
    for (bool open = true; open;) {
        struct pollfd wait = {.fd = fd, .events = (short)(POLLIN | (sent < n_bytes ? POLLOUT : 0))};
        assert_int_equal(poll(&wait, 1, 10000), 1);
        if (wait.revents & POLLOUT && sent < n_bytes) {
            ssize_t n = send(fd, bytes + sent, n_bytes - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            sent = n < 0 && errno != EAGAIN ? n_bytes : sent + (n > 0 ? (size_t)n : 0);
        }
        if (wait.revents & (POLLIN | POLLHUP)) {
            size = size - used < 2 ? 2 * size : size;
            text = ls_xrealloc(text, size);
            ssize_t n = recv(fd, text + used, size - used - 1, MSG_DONTWAIT);
            used += n > 0 ? (size_t)n : 0;
            open = n > 0 || (n < 0 && errno == EAGAIN);
        }
    }
    text[used] = '\0';
    close(fd);
    return text;
}

int http(service *s, const char *method, const char *path, const char *body, char **reply) {
    size_t n = body != NULL ? strlen(body) : 0;
    char *request = ls_xprintf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                               method, path, n, body != NULL ? body : "");
    int fd = connect_to(s->socket);
    assert_true(fd >= 0);
    close(fd);
    char *text = talk(s->socket, request, strlen(request));
    int status = 0;
    char *after = strstr(text, "\r\n\r\n");
    if (sscanf(text, "HTTP/1.1 %d", &status) != 1 || after == NULL) {
        fail_msg("%s %s: no HTTP reply but \"%s\"", method, path, text);
    }
    if (reply != NULL) {
        *reply = ls_xstrdup(after + 4);
    }
    free(request);
    free(text);
    return status;
}
