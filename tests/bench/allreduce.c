/*
 * The all-reduce with plain SGD inside, against MPI_Allreduce followed by the same SGD on every rank: 1 KiB to 64 MiB
 * of float32 gradients, taken in turn. Rank 0 prints one JSON line a size.
 *
 * usage: mpirun -np 2 bench_allreduce [repeats [largest KiB]]
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/reduce/reducer.h"

static float *params;

static void sgd(void *context, size_t first, size_t n, const float *restrict gradient) {
    (void)context;
    float *restrict w = params + first;
    for (size_t i = 0; i < n; i++) {
        w[i] -= 0.01f * gradient[i];
    }
}

static int ascending(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

typedef struct {
    ls_reducer *reducer;
    float *gradient, *w; /* MPI's */
    size_t n;
    int n_buckets;
    uint64_t step;
} bench;

static void one_lockstep(bench *b) {
    ls_reducer_verdict verdict;
    ls_reducer_begin(b->reducer, b->step++);
    for (int i = 0; i < b->n_buckets; i++) {
        ls_reducer_ready(b->reducer, i);
    }
    ls_reducer_finish(b->reducer, 0, LS_OK, &verdict);
}

static void one_mpi(bench *b) {
    MPI_Allreduce(MPI_IN_PLACE, b->gradient, (int)b->n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    for (size_t i = 0; i < b->n; i++) {
        b->w[i] -= 0.01f * b->gradient[i];
    }
}

/* Seconds of one step, on this rank; ranks start together. */
static double seconds(bench *b, void (*one)(bench *), int inner) {
    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime();
    for (int i = 0; i < inner; i++) {
        one(b);
    }
    return (MPI_Wtime() - start) / inner;
}

static void measure(ls_team *team, size_t n_bytes, int repeats) {
    bench b = {.n = n_bytes / sizeof(float)};
    size_t buckets[65] = {0}, bucket = (size_t)1 << 18; /* floats */
    while (buckets[b.n_buckets] < b.n) {
        size_t at = buckets[b.n_buckets++];
        buckets[b.n_buckets] = at + bucket < b.n && b.n_buckets < 64 ? at + bucket : b.n;
    }
    ls_reducer_options o = {.n_lanes = team->size,
                            .lanes_at_once = 1,
                            .n_params = b.n,
                            .n_reduced = b.n,
                            .cut = {.n_buckets = b.n_buckets, .buckets = buckets},
                            .n_sums = 2,
                            .apply = sgd};
    ls_err err = LS_ERR_INIT;
    if (ls_reducer_create(&b.reducer, team, &o, &err) != LS_OK) {
        ls_team_abort(team, err.status, err.text);
    }
    params = ls_reducer_params(b.reducer);
    b.gradient = ls_xcalloc(b.n, sizeof(float));
    b.w = ls_xcalloc(b.n, sizeof(float));
    float *mine = ls_reducer_gradient(b.reducer, 0);
    for (size_t i = 0; i < b.n; i++) {
        mine[i] = 1;
    }
    int inner = n_bytes < 1 << 20 ? 20 : 1;
    double *t[2] = {ls_xcalloc((size_t)repeats, sizeof(double)), ls_xcalloc((size_t)repeats, sizeof(double))};
    for (int r = -2; r < repeats; r++) { /* the first two warm up */
        double lockstep = seconds(&b, one_lockstep, inner), mpi = seconds(&b, one_mpi, inner);
        if (r >= 0) {
            t[0][r] = lockstep, t[1][r] = mpi;
        }
    }
    float expected = 0;
    for (uint64_t i = 0; i < b.step; i++) {
        expected -= 0.01f * (float)team->size;
    }
    int right = params[0] == expected && params[b.n - 1] == expected;
    qsort(t[0], (size_t)repeats, sizeof(double), ascending);
    qsort(t[1], (size_t)repeats, sizeof(double), ascending);
    if (team->rank == 0) {
        double ours = t[0][repeats / 2], theirs = t[1][repeats / 2];
        printf(
            "{\"bench\": \"allreduce+sgd\", \"ranks\": %d, \"nodes\": %d, \"bytes\": %zu, \"median_us\": %.1f, "
            "\"best_us\": %.1f, \"mpi_median_us\": %.1f, \"mpi_best_us\": %.1f, \"ratio\": %.2f, \"right\": %s}\n",
            team->size, team->n_nodes, n_bytes, 1e6 * ours, 1e6 * t[0][0], 1e6 * theirs, 1e6 * t[1][0], theirs / ours,
            right ? "true" : "false");
        fflush(stdout);
    }
    free(t[0]);
    free(t[1]);
    free(b.gradient);
    free(b.w);
    ls_reducer_destroy(b.reducer);
    if (!right) {
        ls_team_abort(team, LS_EINTERNAL, "the sum is wrong");
    }
}

int main(int argc, char **argv) {
    int repeats = argc > 1 ? atoi(argv[1]) : 31;
    size_t largest = (argc > 2 ? (size_t)atol(argv[2]) : 65536) << 10;
    ls_team *team;
    ls_err err = LS_ERR_INIT;
    if (repeats < 1 || ls_team_create(&team, &argc, &argv, &err) != LS_OK) {
        fprintf(stderr, "bench_allreduce: %s\n", repeats < 1 ? "repeats must be at least 1" : err.text);
        return 2;
    }
    for (size_t n_bytes = 1024; n_bytes <= largest; n_bytes *= 4) {
        measure(team, n_bytes, repeats);
    }
    ls_team_finish(team, LS_OK);
    return 0;
}
