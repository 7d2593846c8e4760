/*
 * mpirun and `lockstep train` for tests of the daemon, in one program.
 *
 *   fake_job -n N ... PROGRAM train JOB ...    as mpirun: starts N ranks, each in a process group of its own, passes
 *       SIGUSR1 on, kills them at SIGTERM, ends them when one dies, and exits with the first code that is not 0
 *   fake_job train JOB --run-dir DIR ...       as a rank (FAKE_RANK of FAKE_RANKS): rank 0 writes events, and tells
 *       them with --control; all wait for a word in the file DIR/go and do what it says:
 *         done    end well                      fail    end with a message and exit code 1
 *         crash   rank 0 dies by SIGKILL        vanish  exit with 0 and say nothing
 *       At SIGUSR1 and SIGTERM they "write a checkpoint" and exit with 75, unless JOB holds the word stubborn.
 *       Nothing is told of steps before all ranks have begun, which they say by files in DIR: whoever has seen a step
 * can rely on all of them.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/control.h"
#include "common/file.h"
#include "common/memory.h"

static volatile sig_atomic_t asked;

static void on_signal(int number) {
    asked = number;
}

/* ---- mpirun ---- */

static pid_t ranks[64];
static int n_ranks;

static void to_ranks(int number) {
    for (int i = 0; i < n_ranks; i++) {
        if (ranks[i] > 0) {
            kill(ranks[i], number);
        }
    }
}

static void pass_on(int number) {
    to_ranks(number == SIGTERM ? SIGKILL : number);
}

static int play_mpirun(int argc, char **argv) {
    int at = 1, code = 0;
    while (at < argc && argv[at][0] == '-') { /* options with a value: -n, --map-by, --bind-to */
        n_ranks = strcmp(argv[at], "-n") == 0 ? atoi(argv[at + 1]) : n_ranks;
        at += strcmp(argv[at], "-n") == 0 || strcmp(argv[at], "--map-by") == 0 || strcmp(argv[at], "--bind-to") == 0
                  ? 2
                  : 1;
    }
    signal(SIGUSR1, pass_on);
    signal(SIGTERM, pass_on);
    setenv("FAKE_RANKS", argv[2], 1);
    for (int i = 0; i < n_ranks; i++) {
        char rank[16];
        snprintf(rank, sizeof rank, "%d", i);
        ranks[i] = fork();
        if (ranks[i] == 0) {
            setpgid(0, 0);
            setenv("FAKE_RANK", rank, 1);
            execv(argv[at], argv + at);
            _exit(127);
        }
    }
    for (int left = n_ranks; left > 0;) {
        int status;
        pid_t pid = wait(&status);
        if (pid < 0) {
            continue;
        }
        left--;
        for (int i = 0; i < n_ranks; i++) {
            ranks[i] = ranks[i] == pid ? 0 : ranks[i];
        }
        int own = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        code = code == 0 ? own : code;
        if (WIFSIGNALED(status)) {
            to_ranks(SIGKILL);
        }
    }
    return code;
}

/* ---- a rank ---- */

typedef struct {
    const char *run_dir, *job;
    int rank;
    FILE *events;
    ls_control *control;
} run;

static void tell(run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(run *r, const char *format, ...) {
    char fields[1024], line[1200];
    va_list args;
    if (r->rank != 0) {
        return;
    }
    va_start(args, format);
    vsnprintf(fields, sizeof fields, format, args);
    va_end(args);
    int n = snprintf(line, sizeof line, "{%s, \"time\": %.6f}", fields, ls_wall_seconds());
    fprintf(r->events, "%s\n", line);
    fflush(r->events);
    if (r->control != NULL) {
        ls_control_push(r->control, line, (size_t)n);
    }
}

static char *word_of(const char *run_dir) {
    char *path = ls_path_join(run_dir, "go"), *word = NULL;
    if (!ls_file_exists(path) || ls_file_read(path, &word, NULL, NULL) != LS_OK) {
        word = NULL;
    }
    free(path);
    return word;
}

static void put_file(const char *folder, const char *name, const char *text) {
    ls_err err = LS_ERR_INIT;
    char *path = ls_path_join(folder, name), *parent = ls_path_folder(path);
    if (ls_folder_create(parent, &err) != LS_OK || ls_file_write_atomic(path, text, strlen(text), &err) != LS_OK) {
        fprintf(stderr, "fake_job: %s\n", err.text);
        exit(1);
    }
    free(parent);
    free(path);
}

/* Waits until all n ranks that this mpirun has started can take signals. */
static void meet(const run *r, int n) {
    char name[64];
    snprintf(name, sizeof name, "begun/%d-%d", (int)getppid(), r->rank);
    put_file(r->run_dir, name, "");
    for (int i = 0; r->rank == 0 && i < n; i++) {
        snprintf(name, sizeof name, "begun/%d-%d", (int)getppid(), i);
        char *path = ls_path_join(r->run_dir, name);
        while (!ls_file_exists(path)) {
            struct timespec pace = {0, 1000000};
            nanosleep(&pace, NULL);
        }
        free(path);
    }
}

static void checkpoint(run *r) {
    if (r->rank == 0) {
        put_file(r->run_dir, "checkpoints/epoch-1.h5", "weights");
        tell(r, "\"event\": \"checkpoint\", \"path\": \"%s/checkpoints/epoch-1.h5\", \"epoch\": 1, \"step\": 5",
             r->run_dir);
    }
}

static int end(run *r, const char *status, int code, const char *message) {
    tell(r, "\"event\": \"end\", \"status\": \"%s\", \"exit_code\": %d, \"message\": \"%s\"", status, code, message);
    return code;
}

static int obey(run *r, const char *word) {
    if (strcmp(word, "done") == 0) {
        checkpoint(r);
        tell(r,
             "\"event\": \"epoch\", \"epoch\": 1, \"seconds\": 1.5, \"metrics\": {\"loss\": 0.25, \"val_loss\": 0.5}");
        if (r->rank == 0) {
            put_file(r->run_dir, "history.csv", "epoch,loss,val_loss\n1,0.25,0.5\n");
        }
        return end(r, "done", 0, "");
    }
    if (strcmp(word, "fail") == 0) {
        return end(r, "failed", 1, "the loss is not finite at step 7");
    }
    if (strcmp(word, "linger") == 0) { /* said all, and takes its time to leave */
        (void)end(r, "done", 0, "");
        for (char *now = NULL; now == NULL || strcmp(now, "leave") != 0;) {
            struct timespec pace = {0, 10000000};
            nanosleep(&pace, NULL);
            free(now);
            now = word_of(r->run_dir);
        }
        return 0;
    }
    if (strcmp(word, "crash") == 0 && r->rank == 0) {
        raise(SIGKILL);
    }
    while (strcmp(word, "crash") == 0) {
        pause();
    }
    return 0;
}

static int train(run *r, int n) {
    char *job = NULL;
    bool stubborn = ls_file_read(r->job, &job, NULL, NULL) == LS_OK && strstr(job, "stubborn") != NULL;
    free(job);
    tell(r,
         "\"event\": \"start\", \"run_dir\": \"%s\", \"pid\": %d, \"ranks\": %d, \"host\": \"here\", \"epochs\": 3, "
         "\"steps_per_epoch\": 1000",
         r->run_dir, (int)getpid(), n);
    meet(r, n);
    for (int step = 1;; step++) {
        tell(r,
             "\"event\": \"progress\", \"epoch\": 1, \"step\": %d, \"steps\": 1000, \"samples_per_s\": 900.0, "
             "\"eta_s\": "
             "61.0, \"loss\": 0.5, \"metrics\": {\"accuracy\": 0.75}",
             step);
        char *word = word_of(r->run_dir);
        if (word != NULL) {
            int code = obey(r, word);
            free(word);
            return code;
        }
        if (asked != 0 && !stubborn) {
            checkpoint(r);
            return end(r, "stopped", 75, "");
        }
        struct timespec pace = {0, 10000000};
        nanosleep(&pace, NULL);
    }
}

/* A variable of our own mpirun, or else of the real one. */
static const char *told(const char *ours, const char *theirs) {
    const char *value = getenv(ours);
    return value != NULL ? value : getenv(theirs);
}

static int play_rank(int argc, char **argv) {
    const char *rank = told("FAKE_RANK", "OMPI_COMM_WORLD_RANK"), *n = told("FAKE_RANKS", "OMPI_COMM_WORLD_SIZE"),
               *socket = NULL;
    run r = {.job = argv[2], .rank = rank != NULL ? atoi(rank) : 0};
    bool resume = false;
    for (int i = 3; i < argc; i++) {
        r.run_dir = strcmp(argv[i], "--run-dir") == 0 ? argv[i + 1] : r.run_dir;
        socket = strcmp(argv[i], "--control") == 0 ? argv[i + 1] : socket;
        resume = resume || strcmp(argv[i], "--resume") == 0;
    }
    signal(SIGUSR1, on_signal);
    signal(SIGTERM, on_signal);
    printf("rank %d of %s %s\n", r.rank, n != NULL ? n : "1", resume ? "goes on" : "begins");
    fflush(stdout);
    if (r.rank == 0) {
        ls_control_run who = {.run_dir = r.run_dir, .job = r.job, .host = "here", .ranks = n != NULL ? atoi(n) : 1};
        ls_err err = LS_ERR_INIT;
        char *path = ls_path_join(r.run_dir, "events.jsonl");
        r.events = fopen(path, "a");
        free(path);
        if (r.events == NULL || (socket != NULL && ls_control_create(&r.control, socket, &who, &err) != LS_OK)) {
            fprintf(stderr, "fake_job: %s: %s %s\n", r.run_dir, strerror(errno), err.text);
            return 1;
        }
    }
    int code = train(&r, n != NULL ? atoi(n) : 1);
    ls_control_destroy(r.control, 1000);
    if (r.events != NULL) {
        fclose(r.events);
    }
    return code;
}

int main(int argc, char **argv) {
    if (argc > 3 && strcmp(argv[1], "-n") == 0) {
        return play_mpirun(argc, argv);
    }
    if (argc > 2 && strcmp(argv[1], "train") == 0) {
        return play_rank(argc, argv);
    }
    fprintf(stderr, "fake_job: it plays mpirun (-n N ...) or a rank (train JOB ...)\n");
    return 2;
}
