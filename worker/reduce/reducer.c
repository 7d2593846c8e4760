/* Making a reducer, and the step: a to e of reducer.h. */
#include "worker/reduce/reducer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/memory.h"
#include "common/trace.h"
#include "worker/reduce/reducer_private.h"

/* ---- making ---- */

static void check_table(const size_t *at, int n, size_t end) {
    LS_ASSERT(n == 0 ? end == 0 : at[0] == 0 && at[n] == end);
    for (int i = 0; i < n; i++) {
        LS_ASSERT(at[i] % LS_REDUCE_GRAIN == 0 && at[i] <= at[i + 1]);
    }
    LS_ASSERT(end % LS_REDUCE_GRAIN == 0);
}

static uint64_t mix(uint64_t h, const void *bytes, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i++) { /* FNV-1a */
        h = (h ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    }
    return h;
}

/* What all ranks must agree on before they reduce anything. */
static ls_status check_same(ls_reducer *r, ls_err *err) {
    const ls_reducer_options *o = &r->o;
    const size_t counts[] = {(size_t)o->n_lanes,   o->n_params,           o->n_reduced,
                             (size_t)o->n_buckets, (size_t)o->n_slots,    (size_t)o->n_sums,
                             (size_t)o->n_norms,   (size_t)o->n_segments, (size_t)r->team->fan_in};
    uint64_t h = mix(0xcbf29ce484222325u, counts, sizeof counts);
    h = o->n_buckets > 0 ? mix(h, o->buckets, ((size_t)o->n_buckets + 1) * sizeof *o->buckets) : h;
    h = o->n_segments > 0 ? mix(h, o->segments, ((size_t)o->n_segments + 1) * sizeof *o->segments) : h;
    char words[160];
    snprintf(words, sizeof words, "%d lanes, %zu parameters, %zu of them reduced in %d buckets, fan-in %d", o->n_lanes,
             o->n_params, o->n_reduced, o->n_buckets, r->team->fan_in);
    return ls_team_check_same(r->team, "the bucket table", h, words, err);
}

static size_t *copy_table(const size_t *table, int n) {
    size_t n_bytes = ((size_t)n + 1) * sizeof *table;
    return n > 0 ? memcpy(ls_xrealloc(NULL, n_bytes), table, n_bytes) : NULL;
}

ls_status ls_reducer_create(ls_reducer **out, ls_team *team, const ls_reducer_options *options, ls_err *err) {
    const ls_reducer_options *o = options;
    LS_ASSERT(o->n_lanes >= 1 && o->lanes_at_once >= 1 && o->n_params >= o->n_reduced && o->n_sums >= 0);
    LS_ASSERT(o->n_norms >= 0 && o->n_norms <= LS_MAX_NORMS);
    check_table(o->buckets, o->n_buckets, o->n_reduced);
    if (o->n_norms > 0) {
        check_table(o->segments, o->n_segments, o->n_reduced);
    }
    ls_reducer *r = ls_xcalloc(1, sizeof *r);
    LS_ASSERT(o->n_slots >= 0 && (size_t)o->n_slots <= sizeof r->slots / sizeof r->slots[0]);
    r->team = team;
    r->o = *o;
    r->o.buckets = copy_table(o->buckets, o->n_buckets);
    r->o.segments = o->n_norms > 0 ? copy_table(o->segments, o->n_segments) : NULL;
    r->o.n_segments = o->n_norms > 0 ? o->n_segments : 0;
    r->o.n_threads = o->n_threads > 1 ? o->n_threads : 1;
    ls_status status = check_same(r, err);
    if (status == LS_OK) {
        ls_levels_init(&r->levels, team->n_nodes, team->node_first, team->fan_in);
        ls_reducer_cut(r);
        status = ls_reducer_allocate(r, err);
    }
    if (status != LS_OK) {
        ls_reducer_free(r);
        return status;
    }
    r->wait_mark = atomic_load(&team->progress->wait_ns);
    *out = r;
    return LS_OK;
}

void ls_reducer_destroy(ls_reducer *r) {
    if (r != NULL) {
        ls_reducer_free(r);
    }
}

float *ls_reducer_params(ls_reducer *r) {
    return r->params;
}
float *ls_reducer_slot(ls_reducer *r, int slot) {
    LS_ASSERT(slot >= 0 && slot < r->o.n_slots);
    return r->slots[slot];
}
float *ls_reducer_gradient(ls_reducer *r, int i) {
    LS_ASSERT(i >= 0 && i < r->schedule.n_slots);
    return r->gradients[r->team->local] + (size_t)i * r->stride;
}
const ls_lane_schedule *ls_reducer_schedule(const ls_reducer *r) {
    return &r->schedule;
}
size_t ls_reducer_shared_bytes(const ls_reducer *r) {
    return r->shared.n_bytes;
}

int64_t ls_reducer_take_wait_ns(ls_reducer *r) {
    int64_t taken = r->wait_ns;
    r->wait_ns = 0;
    return taken;
}

/* ---- adding ---- */

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Pieces of a slice: chunks of LS_REDUCE_CHUNK floats from its start or, where chunks have norms, those. */
static size_t n_pieces(const ls_reducer *r, const ls_slice *s) {
    return r->o.n_norms > 0 ? (size_t)s->n_chunks : (s->n + LS_REDUCE_CHUNK - 1) / LS_REDUCE_CHUNK;
}

static size_t piece(const ls_reducer *r, const ls_slice *s, size_t i, size_t *n) {
    if (r->o.n_norms > 0) {
        size_t first = r->chunks[(size_t)s->chunk + i];
        *n = r->chunks[(size_t)s->chunk + i + 1] - first;
        return first;
    }
    *n = smaller(LS_REDUCE_CHUNK, s->n - i * LS_REDUCE_CHUNK);
    return s->first + i * LS_REDUCE_CHUNK;
}

typedef void (*piece_work)(ls_reducer *r, ls_work *w, void *item, size_t first, size_t n);

/* Pieces [from, to) of a slice, by one thread. */
static void some_pieces(ls_reducer *r, ls_work *w, const ls_slice *s, void *item, piece_work one, size_t from,
                        size_t to) {
    for (size_t i = from; i < to; i++) {
        size_t n, first = piece(r, s, i, &n);
        one(r, w, item, first, n);
    }
}

/* Calls `one` for every piece of a slice, by all threads where it is worth while. */
static void each_piece_now(ls_reducer *r, const ls_slice *s, void *item, piece_work one) {
    size_t pieces = n_pieces(r, s), parts = (size_t)r->o.n_threads;
    if (parts == 1 || pieces < 2 * parts) {
        some_pieces(r, &r->work[0], s, item, one, 0, pieces);
        return;
    }
#pragma omp parallel for schedule(static, 1) num_threads(r->o.n_threads)
    for (size_t t = 0; t < parts; t++) {
        some_pieces(r, &r->work[t], s, item, one, pieces * t / parts, pieces * (t + 1) / parts);
    }
}

static void each_piece(ls_reducer *r, const ls_slice *s, void *item, piece_work one) {
    const int64_t start = ls_trace_is_on ? ls_now_ns() : 0;
    each_piece_now(r, s, item, one);
    if (ls_trace_is_on) {
        ls_trace_event("bucket", "slice of bucket", NULL, s->bucket, start, ls_now_ns());
    }
}

/* This node's fragments from `first` on: pointers into the neighbours' slots. Returns how many. */
static int point_at_raw(const ls_reducer *r, const float **leaf, size_t first) {
    for (int i = 0; i < r->n_raw; i++) {
        leaf[i] = r->raw[i] + first;
    }
    return r->n_raw;
}

/* Adds one piece of a job along the tree; w->sum has the sums, valid until the thread's next call. */
static void add_piece(ls_reducer *r, ls_work *w, const ls_job *job, size_t first, size_t n) {
    const ls_stage *stage = &r->stages[job->level];
    int k = job->level == 0 ? point_at_raw(r, w->leaf, first) : 0;
    for (int c = 0; c < job->n_children; c++) {
        if (job->received[c] == NULL) { /* this node */
            k += point_at_raw(r, w->leaf + k, first);
            continue;
        }
        for (int f = 0; f < stage->child_fragments[c]; f++) {
            w->leaf[k++] = job->received[c] + (size_t)f * job->slice.n + (first - job->slice.first);
        }
    }
    ls_sum_run(&stage->sum, w->leaf, n, w->scratch, LS_REDUCE_CHUNK, w->sum);
}

/* The reduced gradient of one piece of an own part. */
static const float *reduce_piece(ls_reducer *r, ls_work *w, const ls_job *job, size_t first, size_t n) {
    add_piece(r, w, job, first, n);
    const float *gradient = w->sum[0];
    if (!ls_sum_finite(gradient, n)) {
        size_t at = 0;
        while (ls_sum_finite(gradient + at, smaller(LS_REDUCE_GRAIN, n - at))) {
            at += LS_REDUCE_GRAIN;
        }
        w->non_finite_at = smaller(w->non_finite_at, first + at);
    }
    return gradient;
}

/* Step c: the group's sums of a part that goes up. */
typedef struct {
    const ls_job *job;
    const ls_out *out;
} filling;

static void fill_piece(ls_reducer *r, ls_work *w, void *item, size_t first, size_t n) {
    const filling *f = item;
    const ls_slice *s = &f->out->slice;
    add_piece(r, w, f->job, first, n);
    for (int i = 0; i < r->stages[f->job->level].n_fragments; i++) {
        memcpy(f->out->sending + (size_t)i * s->n + (first - s->first), w->sum[i], n * sizeof(float));
    }
}

static void send_up(ls_reducer *r, const ls_job *job) {
    for (int i = 0; i < job->n_outs; i++) {
        filling f = {job, &job->outs[i]};
        if (f.out->sending != NULL) {
            each_piece(r, &f.out->slice, &f, fill_piece);
        }
        if (f.out->job < 0) {
            ls_exchange_start(r->slices, f.out->fragments);
            ls_exchange_start(r->slices, f.out->params);
        }
    }
}

static void send_down(ls_reducer *r, const ls_job *job) {
    for (int c = 0; c < job->n_children; c++) {
        if (c != job->own_child) {
            ls_exchange_start(r->slices, job->params[c]);
        }
    }
}

/* Step d, one phase. */
static void apply_piece(ls_reducer *r, ls_work *w, void *item, size_t first, size_t n) {
    r->o.apply(r->o.context, first, n, reduce_piece(r, w, item, first, n));
}

/* The chunk of a slice that begins at `first`. */
static size_t chunk_at(const ls_reducer *r, const ls_slice *s, size_t first) {
    size_t low = (size_t)s->chunk, high = low + (size_t)s->n_chunks - 1;
    while (low < high) {
        size_t middle = (low + high + 1) / 2;
        if (r->chunks[middle] <= first) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/* Step d, first of two phases. */
static void norm_piece(ls_reducer *r, ls_work *w, void *item, size_t first, size_t n) {
    const ls_job *job = item;
    const ls_slice *s = &job->slice;
    float *kept = job->reduced + (first - s->first);
    size_t c = chunk_at(r, s, first);
    memcpy(kept, reduce_piece(r, w, job, first, n), n * sizeof(float));
    r->o.norm(r->o.context, first, n, kept, r->chunk_norms + c * (size_t)r->o.n_norms);
}

/* Second of two phases. */
static void apply_kept_piece(ls_reducer *r, ls_work *w, void *item, size_t first, size_t n) {
    (void)w;
    const ls_job *job = item;
    r->o.apply(r->o.context, first, n, job->reduced + (first - job->slice.first));
}

/* ---- the step ---- */

void ls_reducer_begin(ls_reducer *r, uint64_t step) {
    LS_ASSERT(r->next_ready == 0);
    ls_progress_phase(r->team->progress, LS_DOING_TRAIN, step);
    ls_progress_bucket(r->team->progress, r->o.n_buckets > 0 ? 0 : -1);
    r->base = r->steps++ * (uint64_t)r->o.n_buckets;
    r->node_ready = r->applied = r->n_left = 0;
    for (int s = 0; s <= r->levels.n; s++) {
        ls_stage *stage = &r->stages[s];
        stage->collected = stage->returned = 0;
        r->n_left += 2 * stage->n_jobs;
        for (int i = 0; i < stage->n_jobs; i++) {
            for (int c = 0; c < stage->jobs[i].n_children; c++) {
                if (c != stage->jobs[i].own_child) {
                    ls_exchange_start(r->slices, stage->jobs[i].fragments[c]);
                }
            }
        }
    }
}

/* How many buckets all ranks of the node have made ready in this step; *late is the rank that has the fewest. */
static int count_ready(const ls_reducer *r, int *late) {
    uint64_t least = UINT64_MAX;
    for (int l = 0; l < r->team->n_local; l++) {
        uint64_t ready = atomic_load_explicit(&r->lines[l].ready, memory_order_acquire);
        if (ready < least) {
            least = ready;
            *late = l;
        }
    }
    return least > r->base ? (int)(least - r->base) : 0;
}

/* The child whose fragments a job still lacks, or -1. */
static int lacking(ls_reducer *r, const ls_job *job) {
    for (int c = 0; c < job->n_children; c++) {
        if (c != job->own_child && !ls_exchange_done(r->slices, job->fragments[c])) {
            return c;
        }
    }
    return -1;
}

/* Whether a job has all that it adds. */
static bool is_complete(ls_reducer *r, const ls_job *job) {
    return job->slice.bucket < r->node_ready &&
           (job->level < 2 || job->own_job < r->stages[job->level - 1].collected) && lacking(r, job) < 0;
}

static void collect(ls_reducer *r, ls_job *job) {
    if (!ls_reducer_is_top(r, job->level)) {
        send_up(r, job);
    } else if (r->o.n_norms > 0) {
        each_piece(r, &job->slice, job, norm_piece);
    } else {
        each_piece(r, &job->slice, job, apply_piece);
        r->applied++;
    }
}

/* The part that went up and whose new parameters have not come back, or -1. */
static int without_params(ls_reducer *r, const ls_job *job) {
    for (int i = 0; i < job->n_outs; i++) {
        const ls_out *out = &job->outs[i];
        if (out->job >= 0 ? out->job >= r->stages[job->level + 1].returned
                          : !ls_exchange_done(r->slices, out->params)) {
            return i;
        }
    }
    return -1;
}

/* Whether the next job of a level to return has its new parameters. */
static bool is_new(ls_reducer *r, const ls_stage *stage) {
    const ls_job *job = &stage->jobs[stage->returned];
    return ls_reducer_is_top(r, job->level) ? stage->returned < r->applied
                                            : stage->returned < stage->collected && without_params(r, job) < 0;
}

/* Everything that can be done now. Whether something was. Others wait for what this rank sends: the lower levels come
 * first on the way up. */
static bool get_on(ls_reducer *r) {
    int before = r->n_left;
    if (r->node_ready < r->o.n_buckets) {
        int late;
        r->node_ready = count_ready(r, &late);
    }
    for (int s = 0; s <= r->levels.n; s++) {
        ls_stage *stage = &r->stages[s];
        while (stage->collected < stage->n_jobs && is_complete(r, &stage->jobs[stage->collected])) {
            collect(r, &stage->jobs[stage->collected++]);
            r->n_left--;
        }
    }
    for (int s = r->levels.n; s >= 0; s--) {
        ls_stage *stage = &r->stages[s];
        while (stage->returned < stage->n_jobs && is_new(r, stage)) {
            send_down(r, &stage->jobs[stage->returned++]);
            r->n_left--;
        }
    }
    return r->n_left < before;
}

void ls_reducer_poll(ls_reducer *r) {
    if (r->n_left > 0 && !get_on(r) && r->team->n_nodes > 1) {
        ls_exchange_poke(r->slices);
    }
}

void ls_reducer_ready(ls_reducer *r, int bucket) {
    LS_ASSERT(bucket == r->next_ready && bucket < r->o.n_buckets);
    r->next_ready++;
    atomic_store_explicit(&ls_reducer_line(r)->ready, r->base + (uint64_t)r->next_ready, memory_order_release);
    ls_progress_bucket(r->team->progress, r->next_ready < r->o.n_buckets ? r->next_ready : -1);
    ls_reducer_poll(r);
}

/* Says whom the first thing that cannot be done waits for. */
static void name_whom(ls_reducer *r, ls_wait *w) {
    const ls_team *t = r->team;
    int late = 0, ready = count_ready(r, &late), m;
    w->wanted = -1;
    for (int s = 0; s <= r->levels.n; s++) {
        const ls_stage *stage = &r->stages[s];
        const ls_job *job = &stage->jobs[stage->collected];
        if (stage->collected == stage->n_jobs) {
            continue;
        }
        w->wanted = job->slice.bucket;
        if (job->slice.bucket >= ready) {
            ls_wait_for(w, t->node_first[t->node] + late, false);
            return;
        }
        if ((m = lacking(r, job)) >= 0) {
            ls_wait_for(w, job->agents[m], s > 1); /* above level 1 it may itself wait for others */
            return;
        }
    }
    for (int s = r->levels.n - 1; s >= 0; s--) {
        const ls_stage *stage = &r->stages[s];
        const ls_job *job = &stage->jobs[stage->returned];
        if (stage->returned < stage->collected && (m = without_params(r, job)) >= 0 && job->outs[m].job < 0) {
            ls_wait_for(w, job->outs[m].agent, true);
            return;
        }
    }
    ls_wait_for(w, LS_ANYBODY, true);
}

/* Whether all that this rank sent in the step has left. */
static bool sent(ls_reducer *r) {
    for (int s = 0; s <= r->levels.n; s++) {
        for (int i = 0; i < r->stages[s].n_jobs; i++) {
            const ls_job *job = &r->stages[s].jobs[i];
            for (int c = 0; c < job->n_children; c++) {
                if (c != job->own_child && !ls_exchange_done(r->slices, job->params[c])) {
                    return false;
                }
            }
            for (int o = 0; o < job->n_outs; o++) {
                if (job->outs[o].job < 0 && !ls_exchange_done(r->slices, job->outs[o].fragments)) {
                    return false;
                }
            }
        }
    }
    return true;
}

static bool all_collected(const ls_reducer *r) {
    for (int s = 0; s <= r->levels.n; s++) {
        if (r->stages[s].collected < r->stages[s].n_jobs) {
            return false;
        }
    }
    return true;
}

/* Gets on until all parts are added (one phase: applied), and with `all`, until the rest is done as well. */
static void work_off(ls_reducer *r, bool all) {
    ls_wait w = ls_wait_begin(r->team->progress, r->team->oversubscribed);
    int idle = 0;
    while (all ? r->n_left > 0 || !sent(r) : !all_collected(r)) {
        if (get_on(r)) {
            ls_wait_reset(&w);
            idle = 0;
            continue;
        }
        if (idle++ % 64 == 0) {
            name_whom(r, &w);
        }
        ls_wait_pause(&w);
    }
    ls_wait_end(&w);
}

void ls_reducer_finish(ls_reducer *r, unsigned flags, ls_status status, ls_reducer_verdict *verdict) {
    LS_ASSERT(r->next_ready == r->o.n_buckets);
    if (r->o.n_norms > 0) {
        work_off(r, false);
        ls_reducer_share_norms(r);
        ls_stage *top = &r->stages[r->levels.n];
        while (r->applied < top->n_jobs) {
            ls_job *job = &top->jobs[r->applied];
            each_piece(r, &job->slice, job, apply_kept_piece);
            r->applied++;
            get_on(r);
        }
    }
    work_off(r, true);
    r->next_ready = 0;
    ls_reducer_exchange(r, flags, status, verdict);
}
