#include "trainer/fit/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/memory.h"
#include "common/rng.h"

enum { POOL_BATCHES = 8, WINDOWS = 7, SHARED_STEPS = 256 };

/* ---- synthetic data ---- */

typedef struct {
    size_t row;       /* elements of a sample, four bytes each */
    int64_t n_values; /* whole numbers below it, or, when it is 0, standard normal values */
    uint64_t key;
    void *data; /* (n_samples, row) f32 or i32 */
} pool_array;

typedef struct {
    size_t n_samples;
    int n_arrays;
    pool_array *arrays;
} pool;

/* Class numbers or tokens that an integer input may hold: what the first weight behind it is indexed with. */
static int64_t vocabulary(const ls_tensor *t) {
    if (t->n_consumers > 0 && t->consumers[0] != NULL && t->consumers[0]->n_weights > 0) {
        return t->consumers[0]->weights[0]->shape.dim[0];
    }
    return 2;
}

static void add_array(pool_array *a, size_t n_samples, size_t row, int64_t n_values, uint64_t number) {
    *a = (pool_array){.row = row, .n_values = n_values, .key = ls_rng_key(1, LS_STREAM_SYNTHETIC, number)};
    a->data = ls_xcalloc(n_samples * row, 4);
}

/* Samples [first, last) of all arrays: the first batch is drawn before the first step, the others after it, so that
 * the time of the start is what training takes. */
static void draw(pool *p, size_t first, size_t last) {
    for (int k = 0; k < p->n_arrays; k++) {
        const pool_array *a = &p->arrays[k];
        for (size_t i = first * a->row; i < last * a->row; i++) {
            if (a->n_values > 0) {
                ((int32_t *)a->data)[i] = (int32_t)(ls_rng_uniform(a->key, i) * (double)a->n_values);
            } else {
                ((float *)a->data)[i] = (float)ls_rng_normal(a->key, i);
            }
        }
    }
}

static void pool_init(pool *p, const ls_model *m, const ls_compile *compile, int64_t batch) {
    p->n_samples = (size_t)batch * POOL_BATCHES;
    p->n_arrays = m->n_inputs + m->n_outputs;
    p->arrays = ls_xcalloc((size_t)p->n_arrays, sizeof *p->arrays);
    for (int i = 0; i < m->n_inputs; i++) {
        const ls_tensor *t = m->inputs[i];
        add_array(&p->arrays[i], p->n_samples, (size_t)ls_shape_elems(&t->shape),
                  t->dtype == LS_I32 ? vocabulary(t) : 0, (uint64_t)i);
    }
    for (int o = 0; o < m->n_outputs; o++) {
        const ls_tensor *t = m->outputs[o];
        int64_t n = t->rows * ls_shape_elems(&t->shape), last = t->shape.dim[t->shape.rank - 1];
        bool sparse = compile->losses[o].class_ != NULL && compile->losses[o].class_->sparse;
        add_array(&p->arrays[m->n_inputs + o], p->n_samples, (size_t)(sparse ? n / last : n), sparse ? last : 0,
                  100 + (uint64_t)o);
    }
    draw(p, 0, (size_t)batch);
}

static void pool_release(pool *p) {
    for (int i = 0; i < p->n_arrays; i++) {
        free(p->arrays[i].data);
    }
    free(p->arrays);
}

static ls_status fill(void *self, int array, ls_dtype want, const uint32_t *index, size_t n, void *out, ls_err *err) {
    const pool_array *a = &((pool *)self)->arrays[array];
    (void)want, (void)err;
    for (size_t i = 0; i < n; i++) {
        memcpy((char *)out + i * a->row * 4, (const char *)a->data + index[i] * a->row * 4, a->row * 4);
    }
    return LS_OK;
}

/* ---- measuring ---- */

/* Seconds since the launch of this process. */
static double process_age(void) {
    char text[1024];
    FILE *f = fopen("/proc/self/stat", "r");
    unsigned long long start = 0;
    if (f == NULL) {
        return NAN;
    }
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *p = strrchr(text, ')'); /* the name may hold spaces; the start time is the 20th field after it */
    for (int i = 0; p != NULL && i < 20; i++) {
        p = strchr(p + 1, ' ');
    }
    if (p == NULL || sscanf(p, "%llu", &start) != 1) {
        return NAN;
    }
    struct timespec boot;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    return (double)boot.tv_sec + 1e-9 * (double)boot.tv_nsec - (double)start / (double)sysconf(_SC_CLK_TCK);
}

typedef struct {
    ls_engine *engine;
    ls_team *team;
    bool apart;
    pool *pool;
    const ls_feed *feed;
    uint32_t *index; /* (POOL_BATCHES, batch) */
    size_t batch;
    double learning_rate;
    uint64_t step;
    ls_verdict verdict;
} bench;

static ls_status one_step(bench *b, ls_err *err) {
    const uint32_t *index = b->index + b->step % POOL_BATCHES * b->batch;
    LS_TRY(ls_engine_train_step(b->engine, b->feed, index, b->batch, b->step, b->learning_rate, 0, &b->verdict, err));
    b->step++;
    return LS_OK;
}

/* A step, in milliseconds: all of it; of that waiting for ranks of this node and for other nodes, sending, and adding
 * gradients with the update. */
typedef struct {
    double ms, late_ms, network_ms, send_ms, reduce_ms;
} step_times;

/* n steps, their times into steps (n); the wall time of the window into *seconds. */
static ls_status window(bench *b, size_t n, step_times *steps, double *seconds, ls_err *err) {
    ls_team_barrier(b->team);
    int64_t start = ls_now_ns(), last = start;
    (void)ls_engine_take_times(b->engine);
    for (size_t i = 0; i < n; i++) {
        int64_t apart_ns = 0;
        if (b->apart) {
            ls_team_barrier(b->team);
            apart_ns = ls_now_ns() - last;
        }
        LS_TRY(one_step(b, err));
        const ls_engine_times t = ls_engine_take_times(b->engine);
        int64_t now = ls_now_ns();
        steps[i] = (step_times){(double)(now - last) / 1e6, (double)(t.late_ns + apart_ns) / 1e6,
                                (double)t.network_ns / 1e6, (double)t.talk_ns / 1e6, (double)t.work_ns / 1e6};
        last = now;
    }
    ls_team_barrier(b->team);
    *seconds = (double)(ls_now_ns() - start) / 1e9;
    return LS_OK;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b; /* of a step_times the first is compared */
    return (x > y) - (x < y);
}

/* How many steps fill the seconds, by rank 0's measure. */
static ls_status agree_steps(bench *b, double seconds, size_t *n, ls_err *err) {
    step_times steps[5];
    double wall;
    LS_TRY(window(b, 5, steps, &wall, err));
    qsort(steps, 5, sizeof *steps, ascending);
    uint64_t count = (uint64_t)(seconds / (steps[2].ms / 1e3) + 0.5);
    count = count < 3 ? 3 : count;
    ls_team_bcast(b->team, 0, &count, sizeof count);
    *n = (size_t)count;
    return LS_OK;
}

/* What each rank did by itself in each step. Collective. */
static void compare_ranks(const bench *b, const step_times *steps, size_t n, ls_bench_result *r) {
    const size_t size = (size_t)b->team->size;
    double mine[SHARED_STEPS], *all = ls_xcalloc(size * SHARED_STEPS, sizeof *all), sum = 0, slowest = 0;
    size_t *times = ls_xcalloc(size, sizeof *times); /* [rank] slowest in so many steps */
    for (size_t first = 0; first < n; first += SHARED_STEPS) {
        const size_t m = n - first < SHARED_STEPS ? n - first : SHARED_STEPS;
        for (size_t i = 0; i < m; i++) {
            const step_times *t = &steps[first + i];
            mine[i] = t->ms - t->late_ms - t->network_ms;
        }
        ls_team_gather(b->team, 0, mine, m * sizeof *mine, all);
        for (size_t i = 0; i < m; i++) {
            size_t last = 0;
            for (size_t rank = 0; rank < size; rank++) {
                sum += all[rank * m + i];
                last = all[rank * m + i] > all[last * m + i] ? rank : last;
            }
            slowest += all[last * m + i];
            times[last]++;
        }
    }
    r->compute_ms = sum / (double)(n * size);
    r->slowest_ms = slowest / (double)n;
    for (size_t rank = 0; rank < size; rank++) {
        r->slowest_rank = times[rank] > times[r->slowest_rank] ? (int)rank : r->slowest_rank;
    }
    r->slowest_share = (double)times[r->slowest_rank] / (double)n;
    free(times);
    free(all);
}

/* The q-quantile of n sorted steps' times, nearest rank. */
static double quantile(const step_times *sorted, size_t n, double q) {
    return sorted[(size_t)(q * (double)(n - 1) + 0.5)].ms;
}

/* Sorts the n steps. */
static void sum_up(step_times *steps, size_t n, ls_bench_result *r) {
    for (size_t i = 0; i < n; i++) {
        r->late_ms += steps[i].late_ms / (double)n;
        r->network_ms += steps[i].network_ms / (double)n;
        r->send_ms += steps[i].send_ms / (double)n;
        r->reduce_ms += steps[i].reduce_ms / (double)n;
    }
    r->exposed_communication_ms = r->late_ms + r->network_ms;
    qsort(steps, n, sizeof *steps, ascending);
    r->step_ms = quantile(steps, n, 0.5);
    r->step_ms_p10 = quantile(steps, n, 0.1);
    r->step_ms_p90 = quantile(steps, n, 0.9);
}

/* A window of so many seconds that is not measured. */
static ls_status warm_up(bench *b, double seconds, ls_err *err) {
    size_t n;
    double wall;
    LS_TRY(agree_steps(b, seconds, &n, err));
    step_times *steps = ls_xcalloc(n, sizeof *steps);
    ls_status s = window(b, n, steps, &wall, err);
    free(steps);
    return s;
}

static ls_status measure(bench *b, double seconds, bool profile, ls_bench_result *r, ls_err *err) {
    size_t n;
    double rates[WINDOWS], wall;
    LS_TRY(one_step(b, err));
    r->startup_s = process_age();
    r->first_loss = ls_engine_loss(b->engine, b->verdict.sums);
    draw(b->pool, b->batch, b->pool->n_samples);
    while (ls_engine_is_tuning(b->engine)) { /* its steps are not those of a long run */
        LS_TRY(one_step(b, err));
    }
    LS_TRY(warm_up(b, seconds < 1 ? seconds : 1.0, err));
    LS_TRY(agree_steps(b, seconds / WINDOWS, &n, err));
    step_times *steps = ls_xcalloc(n * WINDOWS, sizeof *steps);
    ls_status s = LS_OK;
    for (int w = 0; w < WINDOWS && s == LS_OK; w++) {
        s = window(b, n, steps + (size_t)w * n, &wall, err);
        rates[w] = (double)(n * b->batch * (size_t)(b->apart ? b->team->size : 1)) / wall;
    }
    if (s == LS_OK) {
        compare_ranks(b, steps, n * WINDOWS, r);
        sum_up(steps, n * WINDOWS, r);
        qsort(rates, WINDOWS, sizeof *rates, ascending);
        r->samples_per_s = rates[WINDOWS / 2];
        r->low = rates[0];
        r->high = rates[WINDOWS - 1];
        r->last_loss = ls_engine_loss(b->engine, b->verdict.sums);
        r->n_steps = b->step;
    }
    if (profile && s == LS_OK) {
        ls_engine_profile(b->engine, true);
        s = window(b, n, steps, &wall, err);
        s = s == LS_OK ? ls_profile_measure_peaks(b->engine, b->team, &r->peaks, err) : s;
    }
    free(steps);
    return s;
}

static double largest_rss_mb(ls_team *team) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double mine = (double)usage.ru_maxrss / 1024, *all = ls_xcalloc((size_t)team->size, sizeof *all), most = 0;
    ls_team_gather(team, 0, &mine, sizeof mine, all);
    for (int i = 0; i < team->size; i++) {
        most = all[i] > most ? all[i] : most;
    }
    free(all);
    return most;
}

ls_status ls_bench_run(ls_engine *engine, ls_team *team, bool apart, const ls_model *model, const ls_compile *compile,
                       int64_t batch, double seconds, bool profile, ls_bench_result *result, ls_err *err) {
    pool p = {0};
    pool_init(&p, model, compile, batch);
    ls_feed feed = {.self = &p, .n_samples = p.n_samples, .fill = fill};
    bench b = {.engine = engine,
               .team = team,
               .apart = apart,
               .pool = &p,
               .feed = &feed,
               .batch = (size_t)batch,
               .learning_rate = compile->optimizer.learning_rate};
    b.index = ls_xcalloc(p.n_samples, sizeof *b.index);
    b.verdict.sums = ls_xcalloc((size_t)ls_engine_n_sums(engine), sizeof *b.verdict.sums);
    for (size_t i = 0; i < p.n_samples; i++) {
        b.index[i] = (uint32_t)i;
    }
    *result = (ls_bench_result){0};
    ls_status s = measure(&b, seconds, profile, result, err);
    result->rss_mb = s == LS_OK ? largest_rss_mb(team) : 0;
    free(b.index);
    free(b.verdict.sums);
    pool_release(&p);
    return s;
}
