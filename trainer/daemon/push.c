#include "trainer/daemon/push.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/control.h"
#include "common/json.h"
#include "common/log.h"
#include "common/memory.h"
#include "trainer/daemon/listener.h"

enum { MAX_TALKERS = 256, HELLO_S = 10, READS_A_WAKE = 16 };

typedef struct talker {
    struct talker *next;
    ls_push *push;
    int fd;
    ls_loop_watch *watch;
    int64_t job_id; /* 0: has not introduced itself */
    int64_t since;  /* ns */
    size_t used;
    char buffer[2 * LS_CONTROL_LINE_MAX];
} talker;

struct ls_push {
    ls_loop *loop;
    ls_supervisor *supervisor;
    ls_listener *listener;
    ls_loop_watch *timer;
    talker *talkers;
    int n_talkers;
};

static void hang_up(talker *who, const char *why) {
    ls_push *push = who->push;
    if (why != NULL) {
        ls_warn("a connection to the push socket was closed: %s", why);
    }
    talker **link = &push->talkers;
    while (*link != who) {
        link = &(*link)->next;
    }
    *link = who->next;
    push->n_talkers--;
    ls_loop_unwatch(who->watch);
    close(who->fd);
    free(who);
}

/* The kernel knows who is at the other end, whatever the line says: its word goes first, so that a wrong line cannot
 * make the daemon signal a stranger. */
static ls_process peer_of(int fd) {
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid <= 1) {
        return (ls_process){0, 0};
    }
    return ls_process_of(peer.pid);
}

static ls_status read_hello(talker *who, const char *line, ls_err *err) {
    ls_json_doc doc;
    const char *event = "", *run_dir = "", *job = "", *host = "";
    int64_t ranks = 0, version = 0;
    LS_TRY(ls_json_parse(&doc, "its first line", line, err));
    ls_json at = ls_json_root(&doc);
    ls_status status = ls_json_expect_object(at, err);
    status = status == LS_OK ? ls_json_get_string(at, "event", &event, err) : status;
    status = status == LS_OK ? ls_json_get_int(at, "version", 1, INT32_MAX, &version, err) : status;
    status = status == LS_OK ? ls_json_get_string(at, "run_dir", &run_dir, err) : status;
    status = status == LS_OK ? ls_json_get_string(at, "job", &job, err) : status;
    status = status == LS_OK ? ls_json_get_string(at, "host", &host, err) : status;
    status = status == LS_OK ? ls_json_get_int(at, "ranks", 1, INT32_MAX, &ranks, err) : status;
    ls_process peer = peer_of(who->fd);
    if (status == LS_OK && (strcmp(event, "hello") != 0 || run_dir[0] != '/' || ranks == 0)) {
        status = ls_json_fail(at, err, "expected a hello with an absolute run_dir and ranks");
    } else if (status == LS_OK && version != LS_CONTROL_VERSION) {
        status = ls_json_fail(at, err, "the run speaks version %d of the protocol, this lockstepd version %d",
                              (int)version, (int)LS_CONTROL_VERSION);
    } else if (status == LS_OK && peer.start == 0) {
        status = ls_fail(err, LS_EINPUT, "the process at its other end is gone");
    }
    if (status == LS_OK) {
        ls_job *found = ls_supervisor_hello(who->push->supervisor, run_dir, job, host, (int)ranks, peer);
        who->job_id = found != NULL ? found->id : 0;
        status = found != NULL ? LS_OK : ls_fail(err, LS_EIO, "its run in %s could not be recorded", run_dir);
    }
    ls_json_release(&doc);
    return status;
}

/* false: the connection was closed. */
static bool take_line(talker *who, char *line, size_t n) {
    if (who->job_id == 0) {
        ls_err err = LS_ERR_INIT;
        line[n] = '\0';
        if (read_hello(who, line, &err) != LS_OK) {
            hang_up(who, err.text);
            return false;
        }
        return true;
    }
    ls_job *job = ls_registry_find(who->push->supervisor->registry, who->job_id);
    if (job == NULL) {
        hang_up(who, "its job was removed");
        return false;
    }
    ls_supervisor_event(who->push->supervisor, job, line, n);
    return true;
}

static bool take_lines(talker *who) {
    size_t at = 0;
    for (char *end; (end = memchr(who->buffer + at, '\n', who->used - at)) != NULL;) {
        size_t n = (size_t)(end - who->buffer) - at;
        if (!take_line(who, who->buffer + at, n)) {
            return false;
        }
        at += n + 1;
    }
    memmove(who->buffer, who->buffer + at, who->used - at);
    who->used -= at;
    if (who->used == sizeof who->buffer) {
        hang_up(who, "it sent a line that does not end");
        return false;
    }
    return true;
}

static void on_readable(void *context) {
    talker *who = context;
    for (int i = 0; i < READS_A_WAKE; i++) { /* then let others have the loop */
        ssize_t n = recv(who->fd, who->buffer + who->used, sizeof who->buffer - who->used, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
            return;
        }
        if (n <= 0) {
            hang_up(who, NULL); /* whether the run is over is told by its process */
            return;
        }
        who->used += (size_t)n;
        if (!take_lines(who)) {
            return;
        }
    }
}

static void on_caller(void *context, int fd) {
    ls_push *push = context;
    talker *who = ls_xcalloc(1, sizeof *who);
    who->push = push;
    who->fd = fd;
    who->since = ls_now_ns();
    if (push->n_talkers >= MAX_TALKERS || (who->watch = ls_loop_watch_fd(push->loop, fd, on_readable, who)) == NULL) {
        ls_warn("a connection to the push socket was turned away: there are %d already", push->n_talkers);
        close(fd);
        free(who);
        return;
    }
    who->next = push->talkers;
    push->talkers = who;
    push->n_talkers++;
}

/* A connection that does not say who it is takes a place from one that would. */
static void on_second(void *context) {
    ls_push *push = context;
    int64_t limit = ls_now_ns() - (int64_t)HELLO_S * 1000000000;
    for (talker *who = push->talkers, *next; who != NULL; who = next) {
        next = who->next;
        if (who->job_id == 0 && who->since < limit) {
            hang_up(who, "it did not say which run it is");
        }
    }
}

ls_status ls_push_create(ls_push **out, ls_loop *loop, ls_supervisor *supervisor, const char *path, ls_err *err) {
    ls_push *push = ls_xcalloc(1, sizeof *push);
    push->loop = loop;
    push->supervisor = supervisor;
    ls_status status = ls_listener_create(&push->listener, loop, path, on_caller, push, err);
    if (status != LS_OK) {
        free(push);
        return status;
    }
    push->timer = ls_loop_every(loop, 1000, on_second, push);
    *out = push;
    return LS_OK;
}

void ls_push_destroy(ls_push *push) {
    if (push == NULL) {
        return;
    }
    for (talker *who = push->talkers, *next; who != NULL; who = next) {
        next = who->next;
        hang_up(who, NULL);
    }
    ls_loop_unwatch(push->timer);
    ls_listener_destroy(push->listener);
    free(push);
}
