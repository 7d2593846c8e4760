/*
 * stall MODE RANK LIMIT_S FILE: all ranks reduce without end; in step 20 (counted from 1) the rank given does what MODE
 * says, and makes FILE at that moment.
 *
 *   stop   stops itself by SIGSTOP, before its second bucket
 *   spin   loops for ever, before its second bucket
 *   leave  goes to the end politely
 *   kill   dies by SIGKILL
 *   abort  ends the job with a sentence
 *   none   nothing: goes on until it is killed from outside
 *
 * Prints "pid N" for every rank, so that a script can tell whether it is still there.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/reduce/reducer.h"
#include "worker/reduce/watchdog.h"

static void apply(void *context, size_t first, size_t n, const float *gradient) {
    float *w = *(float **)context;
    for (size_t i = 0; i < n; i++) {
        w[first + i] -= gradient[i];
    }
}

static void misbehave(ls_team *team, const char *mode, const char *file) {
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL, 0666);
    LS_ASSERT(fd >= 0);
    close(fd);
    if (strcmp(mode, "stop") == 0) {
        raise(SIGSTOP);
    } else if (strcmp(mode, "spin") == 0) {
        for (volatile unsigned i = 0;; i++) {
        }
    } else if (strcmp(mode, "leave") == 0) {
        ls_watchdog_stop(team);
        ls_team_finish(team, LS_OK);
        exit(0);
    } else if (strcmp(mode, "kill") == 0) {
        raise(SIGKILL);
    } else if (strcmp(mode, "abort") == 0) {
        ls_team_abort(team, LS_ENOMEM, "this rank gives up");
    }
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: stall MODE RANK LIMIT_S FILE\n");
        return 2;
    }
    ls_team *team;
    ls_err err = LS_ERR_INIT;
    ls_watchdog_options options;
    ls_watchdog_options_init(&options);
    for (int i = 0; i < LS_DOING_COUNT; i++) {
        options.limit_s[i] = atof(argv[3]);
    }
    const size_t buckets[] = {0, 4096, 8192, 65536};
    float *w;
    ls_reducer_options o = {.n_lanes = 4,
                            .lanes_at_once = 1,
                            .n_params = 65536,
                            .n_reduced = 65536,
                            .cut = {.n_buckets = 3, .buckets = buckets},
                            .n_sums = 1,
                            .apply = apply,
                            .context = &w};
    ls_reducer *r;
    if (ls_team_create(&team, NULL, NULL, &err) != LS_OK || ls_watchdog_start(team, &options, &err) != LS_OK ||
        ls_reducer_create(&r, team, &o, &err) != LS_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    w = ls_reducer_params(r);
    printf("pid %d\n", (int)getpid());
    fflush(stdout);
    for (uint64_t step = 0;; step++) {
        ls_reducer_verdict v;
        ls_reducer_begin(r, step);
        ls_reducer_ready(r, 0);
        if (step + 1 == 20 && team->rank == atoi(argv[2])) {
            misbehave(team, argv[1], argv[4]);
        }
        ls_reducer_ready(r, 1);
        ls_reducer_ready(r, 2);
        ls_reducer_finish(r, 0, LS_OK, &v);
    }
}
