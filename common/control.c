#include "common/control.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/memory.h"
#include "common/process.h"

enum { BUFFER_BYTES = 128 * 1024, BACKOFF_FIRST_MS = 500, BACKOFF_MAX_MS = 30000 };

struct ls_control {
    char path[LS_CONTROL_PATH_MAX];
    int fd;               /* -1: not connected */
    int64_t next_connect; /* not before this, ns */
    int64_t backoff_ms;
    uint64_t dropped;
    char *hello; /* all of the first line but its end: see say_hello */
    /* What is to be sent begins at a line's start, always: the part of the first line that has left is `sent`, so that
     * a new connection can begin with the whole line. */
    size_t used, sent;
    char buffer[BUFFER_BYTES];
};

ls_status ls_control_push_socket(const char *socket_path, char out[LS_CONTROL_PATH_MAX], ls_err *err) {
    int n = snprintf(out, LS_CONTROL_PATH_MAX, "%s.push", socket_path);
    if (n < 0 || n >= LS_CONTROL_PATH_MAX) {
        return ls_fail(err, LS_EINPUT,
                       "the socket path %s is too long: at most %d characters; choose a shorter --socket", socket_path,
                       LS_CONTROL_PATH_MAX - 6);
    }
    return LS_OK;
}

ls_status ls_control_default_socket(char out[LS_CONTROL_PATH_MAX], ls_err *err) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char path[4096], push[LS_CONTROL_PATH_MAX];
    if (runtime != NULL && runtime[0] == '/') {
        snprintf(path, sizeof path, "%s/lockstepd.sock", runtime);
    } else {
        snprintf(path, sizeof path, "/tmp/lockstepd-%u/lockstepd.sock", (unsigned)getuid());
    }
    LS_TRY(ls_control_push_socket(path, push, err));
    memcpy(out, push, LS_CONTROL_PATH_MAX);
    out[strlen(push) - strlen(".push")] = '\0';
    return LS_OK;
}

static void disconnect(ls_control *control) {
    if (control->fd >= 0) {
        close(control->fd);
    }
    control->fd = -1;
    control->sent = 0;
    control->next_connect = ls_now_ns() + control->backoff_ms * 1000000;
    control->backoff_ms = control->backoff_ms * 2 < BACKOFF_MAX_MS ? control->backoff_ms * 2 : BACKOFF_MAX_MS;
}

/* The first line of a connection; a fresh socket's buffer takes it whole or the connection is of no use. */
static bool say_hello(ls_control *control) {
    char tail[96];
    int n = snprintf(tail, sizeof tail, ", \"dropped\": %llu, \"time\": %.6f}\n", (unsigned long long)control->dropped,
                     ls_wall_seconds());
    size_t head = strlen(control->hello);
    return send(control->fd, control->hello, head, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)head &&
           send(control->fd, tail, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n;
}

static void connect_now(ls_control *control) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, control->path, strlen(control->path) + 1);
    control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (control->fd < 0 || connect(control->fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        !say_hello(control)) {
        disconnect(control);
        return;
    }
    control->backoff_ms = BACKOFF_FIRST_MS;
}

/* After `sent` bytes left: forgets the whole lines among them. */
static void forget_sent(ls_control *control) {
    size_t whole = control->sent;
    while (whole > 0 && control->buffer[whole - 1] != '\n') {
        whole--;
    }
    memmove(control->buffer, control->buffer + whole, control->used - whole);
    control->used -= whole;
    control->sent -= whole;
}

void ls_control_poll(ls_control *control) {
    if (control->fd < 0 && ls_now_ns() >= control->next_connect) {
        connect_now(control);
    }
    while (control->fd >= 0 && control->sent < control->used) {
        ssize_t n = send(control->fd, control->buffer + control->sent, control->used - control->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            break;
        }
        if (n < 0) {
            forget_sent(control);
            disconnect(control);
            return;
        }
        control->sent += (size_t)n;
    }
    forget_sent(control);
}

void ls_control_push(ls_control *control, const char *line, size_t n_bytes) {
    if (n_bytes > LS_CONTROL_LINE_MAX || n_bytes + 1 > sizeof control->buffer - control->used) {
        control->dropped++;
    } else {
        memcpy(control->buffer + control->used, line, n_bytes);
        control->buffer[control->used + n_bytes] = '\n';
        control->used += n_bytes + 1;
    }
    ls_control_poll(control);
}

uint64_t ls_control_dropped(const ls_control *control) {
    return control->dropped;
}

ls_status ls_control_create(ls_control **out, const char *socket_path, const ls_control_run *run, ls_err *err) {
    char path[LS_CONTROL_PATH_MAX];
    LS_TRY(ls_control_push_socket(socket_path, path, err));
    ls_control *control = ls_xcalloc(1, sizeof *control);
    memcpy(control->path, path, sizeof path);
    control->fd = -1;
    control->backoff_ms = BACKOFF_FIRST_MS;
    json_t *hello =
        json_pack("{s:s, s:i, s:s, s:i, s:I, s:i, s:s, s:s*}", "event", "hello", "version", (int)LS_CONTROL_VERSION,
                  "run_dir", run->run_dir, "pid", (int)getpid(), "start_time",
                  (json_int_t)ls_process_of(getpid()).start, "ranks", run->ranks, "host", run->host, "job", run->job);
    control->hello = hello != NULL ? json_dumps(hello, JSON_COMPACT) : NULL;
    json_decref(hello);
    if (control->hello == NULL) {
        free(control);
        return ls_fail(err, LS_EINPUT, "the run folder %s has a name that is not UTF-8, so it cannot be reported",
                       run->run_dir);
    }
    control->hello[strlen(control->hello) - 1] = '\0'; /* its closing brace comes with say_hello's part */
    ls_control_poll(control);
    *out = control;
    return LS_OK;
}

void ls_control_destroy(ls_control *control, int linger_ms) {
    if (control == NULL) {
        return;
    }
    int64_t end = ls_now_ns() + (int64_t)linger_ms * 1000000;
    control->next_connect = control->used > 0 ? 0 : INT64_MAX; /* one last try */
    ls_control_poll(control);
    for (int64_t left; control->fd >= 0 && control->used > 0 && (left = end - ls_now_ns()) > 0;) {
        struct pollfd wait = {.fd = control->fd, .events = POLLOUT};
        (void)poll(&wait, 1, (int)(left / 1000000) + 1);
        ls_control_poll(control);
    }
    if (control->fd >= 0) {
        close(control->fd);
    }
    free(control->hello);
    free(control);
}
