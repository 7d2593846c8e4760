/*
 * A training step's communication without its arithmetic: the reducer itself, with buckets that become ready when a
 * schedule (schedule.h) says. Calculation is sleep, so that more ranks than cores do not disturb each other. Built
 * twice: with the MPI of Lockstep, for real networks, and with SimGrid's, for ones that are described (simulate).
 *
 * usage: scale_replay SCHEDULE STEPS SPEED [SHARE [LEAST]]
 *            SHARE: of each bucket's floats, 1 in so many; LEAST: floats that a bucket has before, or it joins the next
 *        scale_replay calibrate
 *            two ranks: latency, overhead and bandwidth of this MPI
 *
 * Rank 0 prints a JSON line: the median step; messages and bytes that all ranks sent in a step, and the processor time
 * that all of them together took for it (calculation takes none).
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/memory.h"
#include "tests/bench/scale/schedule.h"
#include "worker/reduce/reducer.h"
#ifdef LS_SIMULATED
#include "tests/bench/scale/simulated.h"
#endif

typedef struct {
    float *params;
} update;

static void sgd(void *context, size_t first, size_t n, const float *restrict gradient) {
    float *restrict w = ((update *)context)->params + first;
    for (size_t i = 0; i < n; i++) {
        w[i] -= 0.01f * gradient[i];
    }
}

/* Sleeps until `when` of MPI's clock. */
static void calculate_until(double when) {
    double left;
    while ((left = when - MPI_Wtime()) > 1e-7) {
        struct timespec rest = {.tv_sec = (time_t)left};
        rest.tv_nsec = (long)((left - (double)rest.tv_sec) * 1e9);
        nanosleep(&rest, NULL);
    }
}

static double one_step(ls_reducer *r, const schedule *s, double speed, uint64_t step) {
    ls_reducer_verdict verdict;
    double start = MPI_Wtime(), at = start + s->forward_s / speed;
    ls_reducer_begin(r, step);
    calculate_until(at);
    for (int i = 0, b = 0; i <= s->n_calls; i++) {
        if (i > 0) {
            at += s->call_s[i - 1] / speed;
            calculate_until(at);
        }
        double before = MPI_Wtime();
        for (; b < s->n_buckets && s->after[b] <= i; b++) {
            ls_reducer_ready(r, b);
        }
        ls_reducer_poll(r);
        at += MPI_Wtime() - before; /* what it takes delays the rest */
    }
    ls_reducer_finish(r, 0, LS_OK, &verdict);
    return MPI_Wtime() - start;
}

static double processor_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

static void replay(ls_team *team, const schedule *s, int steps, double speed) {
    update u;
    size_t *at = ls_xcalloc((size_t)s->n_buckets + 1, sizeof *at);
    double *seconds = ls_xcalloc((size_t)steps, sizeof *seconds);
    for (int b = 0; b < s->n_buckets; b++) {
        at[b + 1] = at[b] + ls_align_up(s->floats[b], LS_REDUCE_GRAIN);
    }
    size_t n = at[s->n_buckets];
    ls_reducer_options o = {.n_lanes = team->size,
                            .lanes_at_once = 1,
                            .n_params = n,
                            .n_reduced = n,
                            .cut = {.n_buckets = s->n_buckets, .buckets = at},
                            .n_sums = 2,
                            .apply = sgd,
                            .context = &u};
    ls_err err = LS_ERR_INIT;
    ls_reducer *r;
    if (ls_reducer_create(&r, team, &o, &err) != LS_OK) {
        ls_team_abort(team, err.status, err.text);
    }
    u.params = ls_reducer_params(r);
    uint64_t sent[2], before[2], all[2] = {0};
    ls_reducer_sent(r, &before[0], &before[1]);
    double busy = processor_s(), all_busy = 0;
    for (int i = 0; i < steps; i++) {
        ls_team_barrier(team);
        seconds[i] = one_step(r, s, speed, (uint64_t)i);
    }
    ls_reducer_sent(r, &sent[0], &sent[1]);
    for (int i = 0; i < 2; i++) {
        sent[i] = (sent[i] - before[i]) / (uint64_t)steps;
    }
    busy = (processor_s() - busy) / steps;
    MPI_Reduce(&busy, &all_busy, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
    MPI_Reduce(sent, all, 2, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
    qsort(seconds, (size_t)steps, sizeof *seconds, ascending);
    if (team->rank == 0) {
        double alone = (s->forward_s + s->backward_s) / speed;
        printf(
            "{\"model\": \"%s\", \"ranks\": %d, \"nodes\": %d, \"fan_in\": %d, \"calculation_ms\": %.3f, "
            "\"step_ms\": %.3f, \"exposed_ms\": %.3f, \"messages\": %llu, \"bytes\": %llu, \"processor_ms\": %.1f}\n",
            s->model, team->size, team->n_nodes, team->fan_in, 1e3 * alone, 1e3 * seconds[steps / 2],
            1e3 * (seconds[steps / 2] - alone), (unsigned long long)all[0], (unsigned long long)all[1], 1e3 * all_busy);
        fflush(stdout);
    }
#ifndef LS_SIMULATED /* whose memory cannot be freed */
    ls_reducer_destroy(r);
#endif
    free(seconds);
    free(at);
}

/* ---- LogGP's parameters, between ranks 0 and 1 ---- */

enum { SMALL = 64, LARGE = 4 << 20, REPEATS = 200, BURST = 512 };

/* Half a round trip of n_bytes. */
static double half_trip(int rank, char *bytes, int n_bytes, int repeats) {
    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime();
    for (int i = 0; i < repeats; i++) {
        if (rank == 0) {
            MPI_Send(bytes, n_bytes, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
            MPI_Recv(bytes, n_bytes, MPI_BYTE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else {
            MPI_Recv(bytes, n_bytes, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(bytes, n_bytes, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
        }
    }
    return (MPI_Wtime() - start) / repeats / 2;
}

/* Processor time of a message of n_bytes that goes and one that comes, half of it. */
static double overhead(char *bytes, int n_bytes, int n, int other) {
    static MPI_Request requests[2 * BURST];
    MPI_Barrier(MPI_COMM_WORLD);
    const double start = processor_s();
    for (int i = 0; i < n; i++) {
        MPI_Irecv(bytes + (size_t)(n + i) * (size_t)n_bytes, n_bytes, MPI_BYTE, other, 1, MPI_COMM_WORLD,
                  &requests[2 * i]);
        MPI_Isend(bytes + (size_t)i * (size_t)n_bytes, n_bytes, MPI_BYTE, other, 1, MPI_COMM_WORLD,
                  &requests[2 * i + 1]);
    }
    int done = 0;
    while (!done) { /* asks now and then, so that waiting does not count */
        MPI_Testall(2 * n, requests, &done, MPI_STATUSES_IGNORE);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return (processor_s() - start) / n / 2;
}

static void calibrate(void) {
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    char *bytes = ls_xcalloc(2 * LARGE, 1);
    if (rank < 2) {
        half_trip(rank, bytes, SMALL, 10);
    }
    double small = half_trip(rank, bytes, SMALL, REPEATS), large = half_trip(rank, bytes, LARGE, 5);
    double o = overhead(bytes, SMALL, BURST, 1 - rank), o_large = overhead(bytes, 32768, 32, 1 - rank);
    if (rank == 0) {
        printf("{\"half_trip_us\": %.2f, \"overhead_us\": %.2f, \"cpu_ns_a_byte\": %.4f, \"gbit_s\": %.3f}\n",
               1e6 * small, 1e6 * o, 1e9 * (o_large - o) / (32768 - SMALL), 8e-9 * LARGE / (large - small));
        fflush(stdout);
    }
    free(bytes);
}

int main(int argc, char **argv) {
    ls_team *team;
    ls_err err = LS_ERR_INIT;
#ifdef LS_SIMULATED
    MPI_Init(&argc, &argv);
#endif
    if (ls_team_create(&team, &argc, &argv, &err) != LS_OK) {
        fprintf(stderr, "scale_replay: %s\n", err.text);
        return 2;
    }
    team->oversubscribed = true; /* waits sleep soon: their many questions are what a simulation spends its time on */
    bool wants_calibration = argc == 2 && strcmp(argv[1], "calibrate") == 0 && team->size == 2;
    if (!wants_calibration && (argc < 4 || atoi(argv[2]) < 1 || atof(argv[3]) <= 0)) {
        ls_team_abort(team, LS_EINPUT,
                      "usage: scale_replay SCHEDULE STEPS SPEED [SHARE [LEAST]] | calibrate (two ranks)");
    }
    if (wants_calibration) {
        calibrate();
    } else {
        schedule s;
        schedule_read(&s, argv[1], argc > 5 ? (size_t)atol(argv[5]) : 0);
        int share = argc > 4 ? atoi(argv[4]) : 1;
        for (int b = 0; b < s.n_buckets && share > 1; b++) {
            s.floats[b] = s.floats[b] / (size_t)share + LS_REDUCE_GRAIN;
        }
        replay(team, &s, atoi(argv[2]), atof(argv[3]));
        schedule_release(&s);
    }
    ls_team_finish(team, LS_OK);
    return 0;
}
