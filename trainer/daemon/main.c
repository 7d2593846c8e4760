/* lockstepd: the daemon that starts, watches, stops and resumes training jobs. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/control.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "trainer/daemon/http.h"
#include "trainer/daemon/push.h"

typedef struct options {
    char *socket, *state, *lockstep, *mpirun; /* socket and state absolute */
    double grace_s;
    bool help, version;
} options;

static void print_help(FILE *to) {
    fprintf(to,
            "lockstepd %s: starts, watches, stops and resumes training jobs\n\n"
            "usage: lockstepd [OPTION ...]\n\n"
            "  --socket PATH    listen here (default $XDG_RUNTIME_DIR/lockstepd.sock, or\n"
            "                   /tmp/lockstepd-UID/lockstepd.sock); runs report to PATH.push\n"
            "  --state FOLDER   keep the list of jobs here (default $XDG_STATE_HOME/lockstep,\n"
            "                   or ~/.local/state/lockstep)\n"
            "  --lockstep PATH  the program that every rank runs (default: beside lockstepd)\n"
            "  --mpirun PATH    what starts the ranks (default: mpirun, searched for in PATH)\n"
            "  --grace SECONDS  how long a job that was asked to stop may take to write its\n"
            "                   checkpoint before it is killed (default 60)\n"
            "  --verbose        log more\n\n"
            "SIGTERM and SIGINT end the daemon; jobs run on and are found again by the next one.\n",
            LOCKSTEP_VERSION);
}

/* An absolute path of the same file; freed by the caller. */
static char *absolute(const char *path) {
    char folder[PATH_MAX];
    return getcwd(folder, sizeof folder) != NULL ? ls_path_join(folder, path) : ls_xstrdup(path);
}

static ls_status parse(int argc, char **argv, options *out, ls_err *err) {
    enum { SOCKET = 1000, STATE, LOCKSTEP, MPIRUN, GRACE, VERBOSE, VERSION };
    static const struct option known[] = {
        {"socket", required_argument, NULL, SOCKET},
        {"state", required_argument, NULL, STATE},
        {"lockstep", required_argument, NULL, LOCKSTEP},
        {"mpirun", required_argument, NULL, MPIRUN},
        {"grace", required_argument, NULL, GRACE},
        {"verbose", no_argument, NULL, VERBOSE},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, VERSION},
        {NULL, 0, NULL, 0},
    };
    char *end = NULL;
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, ":h", known, NULL)) != -1;) {
        switch (option) {
            case SOCKET:
                free(out->socket);
                out->socket = absolute(optarg);
                break;
            case STATE:
                free(out->state);
                out->state = absolute(optarg);
                break;
            case LOCKSTEP:
                free(out->lockstep);
                out->lockstep = absolute(optarg);
                break;
            case MPIRUN:
                free(out->mpirun);
                out->mpirun = strchr(optarg, '/') != NULL ? absolute(optarg) : ls_xstrdup(optarg);
                break;
            case GRACE:
                out->grace_s = strtod(optarg, &end);
                if (end == optarg || *end != '\0' || !(out->grace_s >= 0 && out->grace_s <= 1e6)) {
                    return ls_fail(err, LS_EINPUT, "--grace: expected a number of seconds, found \"%s\"", optarg);
                }
                break;
            case VERBOSE: ls_log_set_level(LS_LOG_DEBUG); break;
            case VERSION: out->version = true; break;
            case 'h': out->help = true; break;
            case ':':
                return ls_fail(err, LS_EINPUT, "%s needs a value; \"lockstepd --help\" tells more", argv[optind - 1]);
            default:
                return ls_fail(err, LS_EINPUT, "%s is not an option of lockstepd; \"lockstepd --help\" lists them",
                               argv[optind - 1]);
        }
    }
    if (optind < argc) {
        return ls_fail(err, LS_EINPUT,
                       "lockstepd takes options only, found \"%s\"; jobs are given to \"lockstep submit\"",
                       argv[optind]);
    }
    return LS_OK;
}

/* The folder in /tmp is in a place where everybody writes: it must be ours and closed to others. */
static ls_status own_folder(const char *socket_path, ls_err *err) {
    char *folder = ls_path_folder(socket_path);
    struct stat st;
    ls_status status = LS_OK;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        status = ls_fail(err, LS_EIO, "%s cannot be created: %s", folder, strerror(errno));
    } else if (lstat(folder, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
        status = ls_fail(err, LS_EINPUT, "%s is not a folder that only you can use; choose another place with --socket",
                         folder);
    }
    free(folder);
    return status;
}

static ls_status default_socket(options *out, ls_err *err) {
    char path[LS_CONTROL_PATH_MAX];
    LS_TRY(ls_control_default_socket(path, err));
    out->socket = ls_xstrdup(path);
    return strncmp(path, "/tmp/", 5) == 0 ? own_folder(path, err) : LS_OK;
}

static ls_status default_state(options *out, ls_err *err) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (state != NULL && state[0] == '/') {
        out->state = ls_xprintf("%s/lockstep", state);
    } else if (home != NULL && home[0] == '/') {
        out->state = ls_xprintf("%s/.local/state/lockstep", home);
    } else {
        return ls_fail(err, LS_EINPUT,
                       "neither HOME nor XDG_STATE_HOME is set; say with --state where to keep the jobs");
    }
    return LS_OK;
}

/* `lockstep` lies beside this program. */
static ls_status default_lockstep(options *out, ls_err *err) {
    char own[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    if (n <= 0) {
        return ls_fail(err, LS_EIO, "lockstepd cannot find its own place: %s; say with --lockstep where lockstep is",
                       strerror(errno));
    }
    own[n] = '\0';
    char *folder = ls_path_folder(own);
    out->lockstep = ls_path_join(folder, "lockstep");
    free(folder);
    return LS_OK;
}

static ls_status complete(options *out, ls_err *err) {
    char push[LS_CONTROL_PATH_MAX];
    if (out->socket == NULL) {
        LS_TRY(default_socket(out, err));
    }
    if (out->state == NULL) {
        LS_TRY(default_state(out, err));
    }
    if (out->lockstep == NULL) {
        LS_TRY(default_lockstep(out, err));
    }
    if (out->mpirun == NULL) {
        out->mpirun = ls_xstrdup("mpirun");
    }
    if (access(out->lockstep, X_OK) != 0) {
        return ls_fail(err, LS_EINPUT, "there is no program %s; say with --lockstep where lockstep is", out->lockstep);
    }
    return ls_control_push_socket(out->socket, push, err);
}

static void on_signal(void *loop, int signal_number) {
    ls_info("lockstepd ends (signal %d); jobs run on", signal_number);
    ls_loop_stop(loop);
}

static ls_status serve(const options *chosen, ls_err *err) {
    char push_path[LS_CONTROL_PATH_MAX];
    ls_registry registry;
    ls_http *http = NULL;
    ls_push *push = NULL;
    LS_TRY(ls_control_push_socket(chosen->socket, push_path, err));
    LS_TRY(ls_registry_init(&registry, chosen->state, err));
    ls_loop *loop = ls_loop_create();
    ls_supervisor supervisor = {
        .registry = &registry,
        .loop = loop,
        .launcher = {.mpirun = chosen->mpirun,
                     .lockstep = chosen->lockstep,
                     .control = chosen->socket,
                     .n_cores = ls_launch_cores(),
                     .root = geteuid() == 0},
        .grace_s = chosen->grace_s,
        .notify = ls_http_notify,
    };
    ls_status status = ls_http_create(&http, loop, &supervisor, chosen->socket, err);
    supervisor.notify_context = http;
    if (status == LS_OK) {
        status = ls_push_create(&push, loop, &supervisor, push_path, err);
    }
    if (status == LS_OK) {
        ls_supervisor_start(&supervisor);
        ls_loop_on_signal(loop, SIGTERM, on_signal, loop);
        ls_loop_on_signal(loop, SIGINT, on_signal, loop);
        ls_info("lockstepd %s listens on %s", LOCKSTEP_VERSION, chosen->socket);
        ls_loop_run(loop);
    }
    supervisor.notify = NULL; /* the loop turns a little more while the connections close */
    ls_push_destroy(push);
    ls_http_destroy(http);
    ls_loop_destroy(loop);
    ls_registry_release(&registry);
    return status;
}

int main(int argc, char **argv) {
    options chosen = {.grace_s = 60};
    ls_err err = LS_ERR_INIT;
    signal(SIGPIPE, SIG_IGN);
    ls_status status = parse(argc, argv, &chosen, &err);
    if (status == LS_OK && chosen.help) {
        print_help(stdout);
    } else if (status == LS_OK && chosen.version) {
        printf("lockstepd %s\n", LOCKSTEP_VERSION);
    } else {
        status = status == LS_OK ? complete(&chosen, &err) : status;
        status = status == LS_OK ? serve(&chosen, &err) : status;
    }
    if (status != LS_OK) {
        ls_error("%s", err.text);
    }
    free(chosen.socket);
    free(chosen.state);
    free(chosen.lockstep);
    free(chosen.mpirun);
    return ls_status_exit_code(status);
}
