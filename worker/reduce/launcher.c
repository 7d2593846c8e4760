#include "worker/reduce/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

enum { DAEMON_S = 3 }; /* that a daemon has to tidy up */

/* NONE: something else. A daemon tidies up after its ranks when it is asked to end; mpirun, which is ending already,
 * crashes when it is asked again. */
typedef enum { NONE, MPIRUN, DAEMON } launcher_kind;

static const struct {
    const char *name;
    launcher_kind kind;
} launchers[] = {{"mpirun", MPIRUN}, {"mpiexec", MPIRUN}, {"orterun", MPIRUN},
                 {"orted", DAEMON},  {"prterun", MPIRUN}, {"prted", DAEMON}};

static launcher_kind kind_of(pid_t pid) {
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, name, sizeof name - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    name[n > 0 ? n : 0] = '\0';
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
        size_t length = strlen(launchers[i].name); /* mpirun.openmpi as well */
        if (strncmp(name, launchers[i].name, length) == 0 && (name[length] == '\n' || name[length] == '.')) {
            return launchers[i].kind;
        }
    }
    return NONE;
}

/* What the child needs, made before it is: it may only do what a signal handler may. */
typedef struct {
    launcher_kind kind;
    int pidfd, seconds;
    char its_stderr[64], text[160];
} guard;

static bool is_gone(int pidfd, int seconds) {
    struct pollfd gone = {.fd = pidfd, .events = POLLIN};
    return poll(&gone, 1, seconds * 1000) != 0;
}

static _Noreturn void wait_and_kill(const guard *g) {
    setsid(); /* the launcher kills the rank's process group */
    if (g->pidfd != 0) {
        dup2(g->pidfd, 0);
    }
    close_range(1, ~0U, 0); /* the launcher waits for the ends of the rank's pipes */
    if (is_gone(0, g->seconds)) {
        _exit(0);
    }
    int fd = pidfd_getfd(0, STDERR_FILENO, 0); /* with its position in a file, where that is permitted */
    fd = fd >= 0 ? fd : open(g->its_stderr, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY);
    ssize_t ignored = fd >= 0 ? write(fd, g->text, strlen(g->text)) : 0;
    (void)ignored;
    if (g->kind == DAEMON) {
        pidfd_send_signal(0, SIGTERM, NULL, 0);
        if (is_gone(0, DAEMON_S)) {
            _exit(0);
        }
    }
    pidfd_send_signal(0, SIGKILL, NULL, 0);
    _exit(0);
}

void ls_launcher_give_up_after(int seconds) {
    pid_t parent = getppid();
    guard g = {.kind = kind_of(parent), .pidfd = -1, .seconds = seconds};
    if (g.kind != NONE) {
        g.pidfd = pidfd_open(parent, 0);
    }
    if (g.pidfd < 0 || getppid() != parent) {
        return;
    }
    snprintf(g.its_stderr, sizeof g.its_stderr, "/proc/%d/fd/2", (int)parent);
    snprintf(g.text, sizeof g.text, "lockstep: the launcher still waited for a host %d s after the job's end: killed\n",
             seconds);
    if (_Fork() == 0) {
        wait_and_kill(&g);
    }
    close(g.pidfd);
}
