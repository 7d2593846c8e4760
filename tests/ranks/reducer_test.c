/*
 * The all-reduce against a serial sum along the tree: equal bits for every number of lanes, bucket table and number of
 * ranks and nodes, in one phase and in two, over several steps, with a sparse range, and
 * rounded to bfloat16. Run as any number of ranks.
 */
#include <math.h>
#include <sched.h>

#include "check.h"
#include "worker/plan/bf16.h"
#include "worker/reduce/reducer.h"

enum { N_REDUCED = 5 * LS_REDUCE_CHUNK + 48 * 16, N_PARAMS = N_REDUCED + 64, N_SUMS = 3, MAX_LANES = 12 };

/* Of the setting that runs: which update, whether there is a sparse range, and how gradients are rounded. */
enum { DENSE, SPARSE, IDLE, RESTS, N_KINDS };
static int kind;
static bool wire;
enum { SPARSE_FIRST = 16, SPARSE_END = 9616 };

/* Whether the lane's gradient has the block of element i in this step: some chunks have none, some nearly all. */
static bool used(int lane, uint64_t step, size_t i) {
    size_t block = (i - SPARSE_FIRST) / LS_REDUCE_BLOCK, chunk = block / 64;
    uint32_t h = ((uint32_t)block * 31u + (uint32_t)lane * 7u + (uint32_t)step) * 2654435761u;
    return (chunk + step) % 3 == 0 ? (h >> 20) % 16 == 0 : (chunk + step) % 3 == 1 && (h >> 20) % 4 != 0;
}

static bool is_sparse(size_t i) {
    return kind != DENSE && i >= SPARSE_FIRST && i < SPARSE_END;
}

/* Any numbers whose sums depend on the order. */
static float value(uint32_t seed, int lane, uint64_t step, size_t i) {
    uint32_t h = seed * 0x9e3779b9u + (uint32_t)lane * 7919u + (uint32_t)step * 104729u + (uint32_t)i * 1299709u;
    h ^= h >> 15;
    h *= 0x2c1b3c6du;
    h ^= h >> 12;
    h *= 0x297a2d39u;
    h ^= h >> 15;
    return ((float)(h & 0xffffff) / 16777216.0f - 0.5f) * (float)(1 << (h >> 29));
}

static float gradient(uint32_t seed, int lane, uint64_t step, size_t i) {
    return is_sparse(i) && !used(lane, step, i) ? 0.0f : value(seed, lane, step, i);
}

static float rounded(float x) {
    return wire ? ls_bf16_to_f32(ls_bf16_from_f32(x)) : x;
}

static float tree(uint32_t seed, int first, int count, uint64_t step, size_t i) {
    if (count == 1) {
        return rounded(gradient(seed, first, step, i));
    }
    int p = 1;
    while (p * 2 < count) {
        p *= 2;
    }
    return rounded(tree(seed, first, p, step, i) + tree(seed, first + p, count - p, step, i));
}

static double tree_rows(const double *rows, int first, int count, int n, int k) {
    if (count == 1) {
        return rows[first * n + k];
    }
    int p = 1;
    while (p * 2 < count) {
        p *= 2;
    }
    return tree_rows(rows, first, p, n, k) + tree_rows(rows, first + p, count - p, n, k);
}

/* ---- the update: momentum, and with norms clipping by the whole norm and a rate by segment ---- */

typedef struct {
    const size_t *segments;
    int n_segments;
    float *w, *m;
    double segment[8], total;
    int n_norms_ready;
    _Atomic size_t n_applied; /* floats */
} update;

static void apply(void *context, size_t first, size_t n, const float *g) {
    update *u = context;
    float scale = 1;
    u->n_applied += n;
    for (int s = 0; s < u->n_segments; s++) {
        if (first >= u->segments[s] && first < u->segments[s + 1]) {
            scale = (float)(1 / (1 + sqrt(u->total)) + 1 / (1 + sqrt(u->segment[s])));
        }
    }
    for (size_t i = first; i < first + n; i++) {
        if (kind == IDLE) { /* as Adagrad: nothing changes where the gradient is zero */
            u->m[i] += g[i - first] * g[i - first];
            u->w[i] -= 0.01f * g[i - first] * scale;
            continue;
        }
        u->m[i] = 0.9f * u->m[i] + g[i - first] * scale;
        u->w[i] -= 0.01f * u->m[i];
    }
}

static void norm(void *context, size_t first, size_t n, float *g, double *norms) {
    const update *u = context;
    norms[0] = norms[1] = 0;
    for (size_t i = 0; i < n; i++) {
        norms[0] += (double)g[i] * g[i];
        norms[1] += (double)u->w[first + i] * g[i];
    }
}

static void norms_ready(void *context, const double *segment, const double *total) {
    update *u = context;
    for (int s = 0; s < u->n_segments; s++) {
        u->segment[s] = segment[2 * s] + fabs(segment[2 * s + 1]);
    }
    u->total = total[0];
    u->n_norms_ready++;
}

/* The same step by one process that holds everything. */
static void serial_step(update *u, uint32_t seed, int n_lanes, uint64_t step) {
    static float g[N_REDUCED];
    for (size_t i = 0; i < N_REDUCED; i++) {
        g[i] = tree(seed, 0, n_lanes, step, i);
    }
    if (u->n_segments > 0) {
        double sums[16];
        for (int s = 0; s < u->n_segments; s++) {
            double chunks[2 * (N_REDUCED / LS_REDUCE_CHUNK + 8)];
            int n = 0;
            for (size_t at = u->segments[s]; at < u->segments[s + 1]; at += LS_REDUCE_CHUNK, n++) {
                size_t end = at + LS_REDUCE_CHUNK < u->segments[s + 1] ? at + LS_REDUCE_CHUNK : u->segments[s + 1];
                norm(u, at, end - at, g + at, chunks + 2 * n);
            }
            sums[2 * s] = tree_rows(chunks, 0, n, 2, 0);
            sums[2 * s + 1] = tree_rows(chunks, 0, n, 2, 1);
        }
        double total[2] = {tree_rows(sums, 0, u->n_segments, 2, 0), 0};
        norms_ready(u, sums, total);
    }
    for (int s = 0; s < (u->n_segments > 0 ? u->n_segments : 1); s++) {
        size_t first = u->n_segments > 0 ? u->segments[s] : 0, end = u->n_segments > 0 ? u->segments[s + 1] : N_REDUCED;
        apply(u, first, end - first, g + first);
    }
}

/* ---- the engine's part: lanes in order, buckets as they become ready ---- */

typedef struct {
    ls_team *team;
    int n_lanes, n_buckets;
    const size_t *buckets;
    uint32_t seed;
} setting;

static void write_lane(const setting *s, float *slot, int lane, uint64_t step, size_t first, size_t end) {
    uint64_t *words = (uint64_t *)(void *)(slot + N_REDUCED);
    for (size_t i = first; i < end; i++) {
        if (!is_sparse(i)) {
            slot[i] = value(s->seed, lane, step, i);
            continue;
        }
        size_t block = (i - SPARSE_FIRST) / LS_REDUCE_BLOCK, n = LS_REDUCE_BLOCK;
        n = SPARSE_END - i < n ? SPARSE_END - i : n;
        uint64_t *word = &words[block / 64], bit = (uint64_t)1 << block % 64;
        for (size_t k = i; (*word & bit) != 0 && k < i + n; k++) {
            slot[k] = 0;
        }
        *word &= ~bit;
        for (size_t k = i; used(lane, step, i) && k < i + n; k++) {
            slot[k] = value(s->seed, lane, step, k);
            *word |= bit;
        }
        i += n - 1;
    }
}

static void one_step(const setting *s, ls_reducer *r, uint64_t step, unsigned flags, ls_status status,
                     ls_reducer_verdict *verdict) {
    const ls_lane_schedule *schedule = ls_reducer_schedule(r);
    ls_reducer_begin(r, step);
    for (int g = 0; g < schedule->n_groups; g++) {
        const ls_lane_group *group = &schedule->groups[g];
        for (int j = 0; j < group->count && g + 1 < schedule->n_groups; j++) {
            write_lane(s, ls_reducer_gradient(r, group->slot[j]), group->first + j, step, 0, N_REDUCED);
        }
        for (int m = 0; m < group->n_merges && g + 1 < schedule->n_groups; m++) {
            ls_reducer_merge(r, group->merges[m], 0, N_REDUCED);
        }
        ls_reducer_poll(r);
    }
    for (int b = 0; b < s->n_buckets; b++) {
        if (schedule->n_groups > 0) {
            const ls_lane_group *group = &schedule->groups[schedule->n_groups - 1];
            for (int j = 0; j < group->count; j++) {
                write_lane(s, ls_reducer_gradient(r, group->slot[j]), group->first + j, step, s->buckets[b],
                           s->buckets[b + 1]);
            }
            for (int m = 0; m < group->n_merges; m++) {
                ls_reducer_merge(r, group->merges[m], s->buckets[b], s->buckets[b + 1] - s->buckets[b]);
            }
        }
        if ((value(9, s->team->rank, step, (size_t)b)) > 0.2f) { /* ranks fall behind each other */
            sched_yield();
        }
        ls_reducer_ready(r, b);
        ls_reducer_poll(r);
    }
    for (int lane = schedule->first; lane < schedule->last; lane++) {
        double *sums = ls_reducer_lane_sums(r, lane);
        CHECK(sums[0] == 0 && sums[N_SUMS - 1] == 0, "sums of lane %d start at zero", lane);
        for (int k = 0; k < N_SUMS; k++) {
            sums[k] = value(77, lane, step, (size_t)k) / 3.0;
        }
    }
    ls_reducer_finish(r, flags, status, verdict);
}

static void check_verdict(const setting *s, const ls_reducer_verdict *v, uint64_t step) {
    double rows[MAX_LANES * N_SUMS];
    for (int i = 0; i < s->n_lanes * N_SUMS; i++) {
        rows[i] = value(77, i / N_SUMS, step, (size_t)(i % N_SUMS)) / 3.0;
    }
    for (int k = 0; k < N_SUMS; k++) {
        double expected = tree_rows(rows, 0, s->n_lanes, N_SUMS, k);
        CHECK(v->sums[k] == expected, "sum %d of step %d with %d lanes is %.17g, not %.17g", k, (int)step, s->n_lanes,
              v->sums[k], expected);
    }
    int last = s->team->size - 1;
    CHECK(v->flags == (1u << s->team->size) - 1, "flags %x", v->flags);
    CHECK(v->status == (step == 1 ? LS_EIO : LS_OK), "status %d", v->status);
    CHECK(v->status_rank == (step == 1 ? last : 0), "status of rank %d", v->status_rank);
    CHECK(v->non_finite_at == SIZE_MAX, "all is finite, not %zu", v->non_finite_at);
}

static void compare(const char *what, const float *got, const float *expected, size_t n, const setting *s, int step) {
    size_t i = 0;
    while (i < n && memcmp(&got[i], &expected[i], sizeof *got) == 0) {
        i++;
    }
    CHECK(i == n, "%s %zu of step %d is %.9g, not %.9g; %d lanes, %d buckets", what, i, step, (double)got[i],
          (double)expected[i], s->n_lanes, s->n_buckets);
}

/* State across nodes: gathered, replaced on rank 0, given out again. */
static void move_state(const setting *s, ls_reducer *r, update *serial) {
    ls_reducer_gather_slots(r);
    if (s->team->node == 0) {
        compare("gathered slot", ls_reducer_slot(r, 0), serial->m, N_REDUCED, s, -1);
    }
    ls_team_barrier(s->team);
    for (size_t i = 0; i < N_PARAMS; i++) {
        serial->w[i] = value(5, 0, 0, i);
        if (i < N_REDUCED) {
            serial->m[i] = value(6, 0, 0, i);
        }
    }
    if (s->team->rank == 0) {
        memcpy(ls_reducer_params(r), serial->w, N_PARAMS * sizeof(float));
        memcpy(ls_reducer_slot(r, 0), serial->m, N_REDUCED * sizeof(float));
    }
    ls_reducer_broadcast_params(r);
    ls_reducer_scatter_slots(r);
    compare("broadcast parameter", ls_reducer_params(r), serial->w, N_PARAMS, s, -1);
    ls_reducer_verdict v;
    one_step(s, r, 9, 1, LS_OK, &v);
    serial_step(serial, s->seed, s->n_lanes, 9);
    compare("parameter after a move", ls_reducer_params(r), serial->w, N_PARAMS, s, 9);
}

/* Other ways to cut the same: with levels of two, parts that travel in pieces, parts of any size. */
static const size_t by_segment[] = {0, 16, 16 + LS_REDUCE_CHUNK, 9616, N_REDUCED};
static void other_cuts(const setting *s, ls_cut more[2]) {
    more[0] = (ls_cut){.n_buckets = 4, .buckets = by_segment, .fan_in = 2, .most_floats = LS_REDUCE_CHUNK};
    more[1] = (ls_cut){.n_buckets = s->n_buckets, .buckets = s->buckets, .fan_in = 3, .least_floats = LS_REDUCE_GRAIN};
}

static void run(const setting *s, const size_t *segments, int n_segments) {
    static float w[N_PARAMS], m[N_REDUCED], wrong_w[N_PARAMS], wrong_m[N_REDUCED];
    update mine = {.segments = segments, .n_segments = n_segments}, serial = mine, wrong = mine;
    serial.w = w, serial.m = m, wrong.w = wrong_w, wrong.m = wrong_m;
    const setting other = {s->team, s->n_lanes, 4, by_segment, s->seed};
    ls_cut more[2];
    other_cuts(s, more);
    ls_reducer_options o = {.n_lanes = s->n_lanes,
                            .lanes_at_once = 1 + s->team->rank % 3,
                            .n_threads = s->n_lanes % 3 == 0 ? 2 : 1,
                            .n_params = N_PARAMS,
                            .n_reduced = N_REDUCED,
                            .cut = {.n_buckets = s->n_buckets, .buckets = s->buckets},
                            .n_more = 2,
                            .more = more,
                            .n_slots = 1,
                            .n_sums = N_SUMS,
                            .apply = apply,
                            .context = &mine};
    const ls_sparse sparse = {SPARSE_FIRST, SPARSE_END - SPARSE_FIRST, N_REDUCED,
                              kind == IDLE    ? LS_ZERO_IDLES
                              : kind == RESTS ? LS_ZERO_RESTS /* momentum that has not begun */
                                              : LS_ZERO_MOVES};
    if (kind != DENSE) {
        o.n_sparse = 1, o.sparse = &sparse, o.n_gradient = N_REDUCED + LS_REDUCE_GRAIN;
    }
    o.wire_bfloat16 = wire;
    if (n_segments > 0) {
        o.n_norms = 2, o.n_segments = n_segments, o.segments = segments, o.norm = norm, o.norms_ready = norms_ready;
    }
    ls_err err = LS_ERR_INIT;
    ls_reducer *r = NULL;
    ls_status status = ls_reducer_create(&r, s->team, &o, &err);
    CHECK(status == LS_OK, "%s", err.text);
    if (status != LS_OK) {
        return;
    }
    mine.w = ls_reducer_params(r), mine.m = ls_reducer_slot(r, 0);
    memset(m, 0, sizeof m);
    memset(wrong_m, 0, sizeof wrong_m);
    for (size_t i = 0; i < N_PARAMS; i++) {
        wrong_w[i] = w[i] = value(3, 0, 0, i);
    }
    if (s->team->local == 0) {
        memcpy(mine.w, w, sizeof w);
    }
    ls_team_barrier(s->team);
    for (uint64_t step = 0; step < 3; step++) {
        ls_reducer_verdict v;
        if (step > 0) {
            ls_reducer_use(r, (int)step, step == 1 ? LS_ORDER_NEED : LS_ORDER_READY);
        }
        ls_status say = step == 1 && s->team->rank == s->team->size - 1 ? LS_EIO : LS_OK;
        one_step(step == 1 ? &other : s, r, step, 1u << s->team->rank, say, &v);
        check_verdict(s, &v, step);
        serial_step(&serial, s->seed, s->n_lanes, step);
        serial_step(&wrong, s->seed + 1, s->n_lanes, step);
        compare("parameter", mine.w, w, N_PARAMS, s, (int)step);
        CHECK(memcmp(mine.w, wrong_w, sizeof w) != 0, "another seed gives other parameters");
        CHECK(mine.n_norms_ready == serial.n_norms_ready, "norms are ready once a step");
        ls_team_barrier(s->team); /* nobody goes on to write what another still compares */
    }
    CHECK((kind != IDLE && kind != RESTS) || s->team->size > 1 || mine.n_applied < serial.n_applied,
          "%zu of %zu floats were updated, for all that most have a zero gradient", mine.n_applied, serial.n_applied);
    if (s->n_lanes % 2 == 0) {
        ls_reducer_settle(r);
    }
    move_state(s, r, &serial);
    ls_reducer_exchange(r, 0, LS_OK, &(ls_reducer_verdict){0});
    ls_reducer_destroy(r);
}

static void not_a_number(ls_team *team) {
    const size_t buckets[] = {0, 1600, N_REDUCED};
    static float unused[N_PARAMS];
    update mine = {.w = unused, .m = unused};
    ls_reducer_options o = {.n_lanes = 4,
                            .lanes_at_once = 2,
                            .n_params = N_PARAMS,
                            .n_reduced = N_REDUCED,
                            .cut = {.n_buckets = 2, .buckets = buckets},
                            .apply = apply,
                            .context = &mine};
    ls_err err = LS_ERR_INIT;
    ls_reducer *r;
    CHECK(ls_reducer_create(&r, team, &o, &err) == LS_OK, "%s", err.text);
    for (int bad = 0; bad < 3; bad++) {
        ls_reducer_verdict v;
        ls_reducer_begin(r, 0);
        const ls_lane_schedule *s = ls_reducer_schedule(r);
        size_t at = bad == 0 ? 16 * 1000 : 16 * 3;
        if (s->n_slots > 0) {
            float *g = ls_reducer_gradient(r, s->n_slots - 1);
            g[at + 5] = bad == 2 ? 0 : (bad == 0 ? NAN : INFINITY);
            g[16 * 1000 + 5] = bad == 2 ? 0 : g[16 * 1000 + 5];
        }
        ls_reducer_ready(r, 0);
        ls_reducer_ready(r, 1);
        ls_reducer_finish(r, 0, LS_OK, &v);
        CHECK(v.non_finite_at == (bad == 2 ? SIZE_MAX : at), "not finite at %zu, found %zu", at, v.non_finite_at);
    }
    ls_reducer_destroy(r);
}

static void tables_must_agree(ls_team *team) {
    size_t buckets[] = {0, (size_t)(team->rank == team->size - 1 && team->size > 1 ? 32 : 16), 64};
    ls_reducer_options o = {.n_lanes = 4,
                            .lanes_at_once = 1,
                            .n_params = 64,
                            .n_reduced = 64,
                            .cut = {.n_buckets = 2, .buckets = buckets},
                            .apply = apply};
    ls_err err = LS_ERR_INIT;
    ls_reducer *r = NULL;
    ls_status status = ls_reducer_create(&r, team, &o, &err);
    CHECK(status == (team->size > 1 ? LS_EINPUT : LS_OK), "bucket tables differ, status %d", status);
    CHECK(team->size == 1 || strstr(err.text, "bucket table") != NULL, "\"%s\"", err.text);
    ls_reducer_destroy(r);
}

int main(int argc, char **argv) {
    ls_team *team = ranks_begin(argc, argv);
    static const size_t one[] = {0, N_REDUCED};
    static const size_t few[] = {0, 16, 16, 4096 + 16, 9600, N_REDUCED};
    static const size_t many[] = {0, 64, 128, 176, 256, 2048, 4096, 8192, 12288, 12304, 20480, 20496, N_REDUCED};
    static const size_t segments[] = {0, 16, 9616, 9648, N_REDUCED};
    for (int n_lanes = 1; n_lanes <= MAX_LANES; n_lanes += n_lanes == 8 ? 4 : 1) {
        run(&(setting){team, n_lanes, 1, one, 1}, NULL, 0);
        run(&(setting){team, n_lanes, 5, few, 2}, NULL, 0);
        run(&(setting){team, n_lanes, 12, many, 3}, NULL, 0);
        run(&(setting){team, n_lanes, 1, one, 4}, segments, 4);
        run(&(setting){team, n_lanes, 4, by_segment, 5}, segments, 4);
    }
    for (int round = 1; round < 2 * N_KINDS; round++) {
        kind = round % N_KINDS, wire = round >= N_KINDS;
        for (int n_lanes = 1; n_lanes <= 8; n_lanes += n_lanes < 2 ? 1 : 3) {
            run(&(setting){team, n_lanes, 4, by_segment, 6}, NULL, 0);
            run(&(setting){team, n_lanes, 4, by_segment, 7}, segments, 4);
        }
    }
    kind = DENSE, wire = false;
    not_a_number(team);
    tables_must_agree(team);
    return ranks_end(team);
}
