/*
 * The exchange between nodes, in each of the ways that the reducer has (ls_cut), against the MPI's own: MPI_Allreduce,
 * and MPI_Ireduce_scatter_block with MPI_Iallgather. One bucket of 4 KiB to 64 MiB of float32 gradients, with plain SGD
 * inside (MPI's: after it, on every rank, or on each rank's share before the gather). All are taken in turn; medians.
 *
 * usage: bench_exchange [LARGEST_KIB [SECONDS [WAY]...]]
 *            SECONDS: about as much for a way and size; WAY: FAN_IN:LEAST_KIB:MOST_KIB
 *
 * A step of the reducer ends with a verdict, which says what all ranks have to say; "verdict" is what it costs alone.
 * Rank 0 prints a JSON line a size, in microseconds.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/reduce/reducer.h"

enum { MOST_WAYS = 12, MOST_REPEATS = 201, N_OTHERS = 3 };
static const char *const others[N_OTHERS] = {"verdict", "MPI_Allreduce", "MPI_Ireduce_scatter+Iallgather"};
static const char *const usual[] = {"16:16:1024", "1000000:0.0625:1048576", "16:16:256", "16:16:64", "2:16:1024"};

typedef struct {
    ls_team *team;
    ls_reducer *reducer;
    size_t n;
    uint64_t step, mpi_steps;
    float *params;
    float *gradient, *sum, *w; /* MPI's: (n) padded to a multiple of the ranks */
    size_t share;              /* floats of a rank */
    int n_ways, way;
    const char *const *ways;
} bench;

static void sgd(void *context, size_t first, size_t n, const float *restrict gradient) {
    float *restrict w = ((bench *)context)->params + first;
    for (size_t i = 0; i < n; i++) {
        w[i] -= 0.01f * gradient[i];
    }
}

static void reduce(bench *b) {
    ls_reducer_verdict verdict;
    ls_reducer_begin(b->reducer, b->step++);
    ls_reducer_ready(b->reducer, 0);
    ls_reducer_finish(b->reducer, 0, LS_OK, &verdict);
}

static void only_verdict(bench *b) {
    ls_reducer_verdict verdict;
    ls_reducer_exchange(b->reducer, 0, LS_OK, &verdict);
}

static void update(float *restrict w, const float *restrict g, size_t n) {
    for (size_t i = 0; i < n; i++) {
        w[i] -= 0.01f * g[i];
    }
}

static void allreduce(bench *b) {
    MPI_Allreduce(b->gradient, b->sum, (int)b->n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    update(b->w, b->sum, b->n);
    b->mpi_steps++;
}

static void scatter_gather(bench *b) {
    MPI_Request request;
    float *mine = b->w + b->share * (size_t)b->team->rank;
    MPI_Ireduce_scatter_block(b->gradient, b->sum, (int)b->share, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    update(mine, b->sum, b->share);
    MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, b->w, (int)b->share, MPI_FLOAT, MPI_COMM_WORLD, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    b->mpi_steps++;
}

static int ascending(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

/* The time of one call from when all ranks are there until the last of them is done. */
static double seconds(bench *b, void (*one)(bench *)) {
    MPI_Barrier(MPI_COMM_WORLD);
    double start = MPI_Wtime(), took, most;
    one(b);
    took = MPI_Wtime() - start;
    MPI_Allreduce(&took, &most, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return most;
}

/* Row i of a table: the reducer's ways, then the others. */
static double one_of(bench *b, int i) {
    static void (*const functions[N_OTHERS])(bench *) = {only_verdict, allreduce, scatter_gather};
    if (i < b->n_ways) {
        ls_reducer_use(b->reducer, i, LS_ORDER_READY);
        return seconds(b, reduce);
    }
    return seconds(b, functions[i - b->n_ways]);
}

static void print(const bench *b, int repeats, double (*times)[MOST_REPEATS]) {
    printf("{\"bench\": \"exchange\", \"nodes\": %d, \"ranks\": %d, \"bytes\": %zu, \"repeats\": %d, \"us\": {",
           b->team->n_nodes, b->team->size, b->n * sizeof(float), repeats);
    for (int i = 0; i < b->n_ways + N_OTHERS; i++) {
        qsort(times[i], (size_t)repeats, sizeof(double), ascending);
        printf("%s\"%s\": %.1f", i > 0 ? ", " : "", i < b->n_ways ? b->ways[i] : others[i - b->n_ways],
               1e6 * times[i][repeats / 2]);
    }
    printf("}}\n");
    fflush(stdout);
}

/* After so many steps; sums of whole numbers are exact, in whichever order. */
static void check(const bench *b, const float *w, uint64_t steps) {
    float expected = 0;
    for (uint64_t i = 0; i < steps; i++) {
        expected -= 0.01f * (float)(b->team->size * (b->team->size + 1) / 2);
    }
    for (size_t i = 0; i < b->n; i++) {
        if (w[i] != expected) {
            ls_team_abort(b->team, LS_EINTERNAL, "the sum is wrong");
        }
    }
}

static void measure(bench *b, size_t n_bytes, const ls_cut *given, double budget_s) {
    static double times[MOST_WAYS + N_OTHERS][MOST_REPEATS];
    const size_t ranks = (size_t)b->team->size, buckets[] = {0, n_bytes / sizeof(float)};
    ls_cut cuts[MOST_WAYS];
    b->n = buckets[1];
    b->step = b->mpi_steps = 0;
    b->share = (b->n + ranks - 1) / ranks;
    for (int i = 0; i < b->n_ways; i++) {
        cuts[i] = given[i];
        cuts[i].n_buckets = 1;
        cuts[i].buckets = buckets;
    }
    ls_reducer_options o = {.n_lanes = b->team->size,
                            .lanes_at_once = 1,
                            .n_params = b->n,
                            .n_reduced = b->n,
                            .cut = cuts[0],
                            .n_more = b->n_ways - 1,
                            .more = cuts + 1,
                            .n_sums = 2,
                            .apply = sgd,
                            .context = b};
    ls_err err = LS_ERR_INIT;
    if (ls_reducer_create(&b->reducer, b->team, &o, &err) != LS_OK) {
        ls_team_abort(b->team, err.status, err.text);
    }
    b->params = ls_reducer_params(b->reducer);
    b->gradient = ls_xcalloc(b->share * ranks, sizeof(float));
    b->sum = ls_xcalloc(b->share * ranks, sizeof(float));
    b->w = ls_xcalloc(b->share * ranks, sizeof(float));
    for (size_t i = 0; i < b->n; i++) {
        ls_reducer_gradient(b->reducer, 0)[i] = b->gradient[i] = (float)(b->team->rank + 1);
    }
    double slowest = 0;
    for (int i = 0; i < b->n_ways + N_OTHERS; i++) {
        double once = one_of(b, i);
        slowest = once > slowest ? once : slowest;
    }
    int repeats = (int)(budget_s / (slowest + 1e-6));
    repeats = repeats < 3 ? 3 : repeats > MOST_REPEATS ? MOST_REPEATS : repeats;
    MPI_Bcast(&repeats, 1, MPI_INT, 0, MPI_COMM_WORLD);
    for (int r = 0; r < repeats; r++) {
        for (int i = 0; i < b->n_ways + N_OTHERS; i++) {
            times[i][r] = one_of(b, i);
        }
    }
    check(b, b->params, b->step);
    check(b, b->w, b->mpi_steps);
    if (b->team->rank == 0) {
        print(b, repeats, times);
    }
    free(b->gradient);
    free(b->sum);
    free(b->w);
    ls_reducer_destroy(b->reducer);
}

static bool read_way(const char *text, ls_cut *cut) {
    double least, most;
    if (sscanf(text, "%d:%lf:%lf", &cut->fan_in, &least, &most) != 3 || cut->fan_in < 2 || least <= 0 || most <= 0) {
        return false;
    }
    cut->least_floats = (size_t)(least * 256);
    cut->most_floats = (size_t)(most * 256);
    return true;
}

int main(int argc, char **argv) {
    size_t largest = (argc > 1 ? (size_t)atol(argv[1]) : 65536) << 10;
    double budget_s = argc > 2 ? atof(argv[2]) : 0.3;
    bench b = {.ways = argc > 3 ? (const char *const *)argv + 3 : usual,
               .n_ways = argc > 3 ? argc - 3 : (int)(sizeof usual / sizeof usual[0])};
    ls_cut cuts[MOST_WAYS] = {{0}};
    ls_err err = LS_ERR_INIT;
    bool right = largest >= 4096 && budget_s > 0 && b.n_ways <= MOST_WAYS;
    for (int i = 0; right && i < b.n_ways; i++) {
        right = read_way(b.ways[i], &cuts[i]);
    }
    if (!right || ls_team_create(&b.team, &argc, &argv, &err) != LS_OK) {
        fprintf(stderr, "bench_exchange: %s\n",
                right ? err.text : "usage: bench_exchange [LARGEST_KIB [SECONDS [FAN_IN:LEAST_KIB:MOST_KIB]...]]");
        return 2;
    }
    for (size_t n_bytes = 4096; n_bytes <= largest; n_bytes *= 4) {
        measure(&b, n_bytes, cuts, budget_s);
    }
    ls_team_finish(b.team, LS_OK);
    return 0;
}
