#include "trainer/daemon/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "common/memory.h"

struct ls_listener {
    int fd, spare_fd;
    struct sockaddr_un address;
    ls_loop_watch *watch;
    ls_listener_fn fn;
    void *context;
};

/* 0: nobody answers there; else the process that does (or -1 where it is not told). */
static int who_listens(const struct sockaddr_un *address) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    int found = 0;
    /* EAGAIN: somebody listens and is too busy to take one more. */
    if (fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN)) {
        found = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0 ? peer.pid : -1;
    }
    if (fd >= 0) {
        close(fd);
    }
    return found;
}

static ls_status clear_path(const struct sockaddr_un *address, ls_err *err) {
    const char *path = address->sun_path;
    struct stat st;
    if (lstat(path, &st) != 0) {
        return LS_OK;
    }
    if (!S_ISSOCK(st.st_mode)) {
        return ls_fail(err, LS_EINPUT, "%s exists and is not a socket; move it away or choose another --socket", path);
    }
    int pid = who_listens(address);
    if (pid != 0) {
        char process[48] = "";
        if (pid > 0) {
            snprintf(process, sizeof process, " (process %d)", pid);
        }
        return ls_fail(err, LS_EINPUT,
                       "a lockstepd%s already listens on %s; use that one, stop it, or choose another --socket",
                       process, path);
    }
    if (unlink(path) != 0) {
        return ls_fail(err, LS_EIO, "%s: the socket of a daemon that is gone cannot be removed: %s", path,
                       strerror(errno));
    }
    return LS_OK;
}

static void on_caller(void *context) {
    ls_listener *listener = context;
    for (int i = 0; i < 64; i++) { /* then let others have the loop */
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            listener->fn(listener->context, fd);
            continue;
        }
        if ((errno == EMFILE || errno == ENFILE) && listener->spare_fd >= 0) {
            close(listener->spare_fd);
            fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0) {
                close(fd);
            }
            listener->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
            ls_warn("a caller on %s was turned away: no descriptor is left", listener->address.sun_path);
            continue;
        }
        if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

ls_status ls_listener_create(ls_listener **out, ls_loop *loop, const char *path, ls_listener_fn fn, void *context,
                             ls_err *err) {
    ls_listener *listener = ls_xcalloc(1, sizeof *listener);
    *listener = (ls_listener){.fd = -1, .spare_fd = -1, .fn = fn, .context = context};
    listener->address.sun_family = AF_UNIX;
    const size_t n = strlen(path);
    LS_ASSERT(n < sizeof listener->address.sun_path);
    memcpy(listener->address.sun_path, path, n + 1);
    ls_status status = clear_path(&listener->address, err);
    if (status != LS_OK) {
        free(listener);
        return status;
    }
    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    listener->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    mode_t mask = umask(0177); /* the socket is born closed to others */
    bool bound =
        listener->fd >= 0 && bind(listener->fd, (struct sockaddr *)&listener->address, sizeof listener->address) == 0;
    umask(mask);
    if (!bound || listen(listener->fd, 128) != 0 ||
        (listener->watch = ls_loop_watch_fd(loop, listener->fd, on_caller, listener)) == NULL) {
        status = ls_fail(err, LS_EINPUT, "lockstepd cannot listen on %s: %s", path, strerror(errno));
        if (!bound) {
            listener->address.sun_path[0] = '\0'; /* not ours to remove */
        }
        ls_listener_destroy(listener);
        return status;
    }
    *out = listener;
    return LS_OK;
}

void ls_listener_destroy(ls_listener *listener) {
    if (listener == NULL) {
        return;
    }
    ls_loop_unwatch(listener->watch);
    if (listener->address.sun_path[0] != '\0') {
        unlink(listener->address.sun_path);
    }
    if (listener->fd >= 0) {
        close(listener->fd);
    }
    if (listener->spare_fd >= 0) {
        close(listener->spare_fd);
    }
    free(listener);
}
