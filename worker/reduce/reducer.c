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
    const size_t counts[] = {(size_t)o->n_lanes, o->n_params,       o->n_reduced,       (size_t)o->n_buckets,
                             (size_t)o->n_slots, (size_t)o->n_sums, (size_t)o->n_norms, (size_t)o->n_segments};
    uint64_t h = mix(0xcbf29ce484222325u, counts, sizeof counts);
    h = o->n_buckets > 0 ? mix(h, o->buckets, ((size_t)o->n_buckets + 1) * sizeof *o->buckets) : h;
    h = o->n_segments > 0 ? mix(h, o->segments, ((size_t)o->n_segments + 1) * sizeof *o->segments) : h;
    char words[160];
    snprintf(words, sizeof words, "%d lanes, %zu parameters, %zu of them reduced in %d buckets", o->n_lanes,
             o->n_params, o->n_reduced, o->n_buckets);
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
    for (int i = 0; i < r->node.n_leaves; i++) {
        leaf[i] = r->raw[i] + first;
    }
    return r->node.n_leaves;
}

/* The reduced gradient of one piece of an own slice; valid until the thread's next call. */
static const float *add_piece(ls_reducer *r, ls_work *w, const ls_own *own, size_t first, size_t n) {
    int k = 0;
    for (int m = 0; m < r->team->n_nodes; m++) {
        if (m == r->team->node) {
            k += point_at_raw(r, w->leaf + k, first);
            continue;
        }
        for (int f = 0; f < r->node_fragments[m]; f++) {
            w->leaf[k++] = own->received[m] + (size_t)f * own->slice.n + (first - own->slice.first);
        }
    }
    ls_sum_run(&r->root, w->leaf, n, w->scratch, LS_REDUCE_CHUNK, w->sum);
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

static void send_params(ls_reducer *r, const ls_own *own) {
    for (int m = 0; m < r->team->n_nodes; m++) {
        if (m != r->team->node) {
            ls_exchange_start(r->slices, own->params[m]);
        }
    }
}

/* Step c: this node's part of a slice that another node's rank owns. */
static void fill_piece(ls_reducer *r, ls_work *w, void *item, size_t first, size_t n) {
    const ls_help *help = item;
    const ls_slice *s = &help->slice;
    point_at_raw(r, w->leaf, first);
    ls_sum_run(&r->node, w->leaf, n, w->scratch, LS_REDUCE_CHUNK, w->sum);
    for (int f = 0; f < r->node.n_out; f++) {
        memcpy(help->sending + (size_t)f * s->n + (first - s->first), w->sum[f], n * sizeof(float));
    }
}

static void send_fragments(ls_reducer *r, ls_help *help) {
    each_piece(r, &help->slice, help, fill_piece);
    ls_exchange_start(r->slices, help->fragments);
    ls_exchange_start(r->slices, help->params);
}

/* Step d, one phase. */
static void apply_piece(ls_reducer *r, ls_work *w, void *item, size_t first, size_t n) {
    r->o.apply(r->o.context, first, n, add_piece(r, w, item, first, n));
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
    const ls_own *own = item;
    const ls_slice *s = &own->slice;
    float *kept = own->reduced + (first - s->first);
    size_t c = chunk_at(r, s, first);
    memcpy(kept, add_piece(r, w, own, first, n), n * sizeof(float));
    r->o.norm(r->o.context, first, n, kept, r->chunk_norms + c * (size_t)r->o.n_norms);
}

/* Second of two phases. */
static void apply_kept_piece(ls_reducer *r, ls_work *w, void *item, size_t first, size_t n) {
    (void)w;
    const ls_own *own = item;
    r->o.apply(r->o.context, first, n, own->reduced + (first - own->slice.first));
}

/* ---- the step ---- */

void ls_reducer_begin(ls_reducer *r, uint64_t step) {
    LS_ASSERT(r->next_ready == 0);
    ls_progress_phase(r->team->progress, LS_DOING_TRAIN, step);
    ls_progress_bucket(r->team->progress, r->o.n_buckets > 0 ? 0 : -1);
    r->base = r->steps++ * (uint64_t)r->o.n_buckets;
    r->node_ready = r->own_done = r->help_sent = r->help_done = 0;
    for (int i = 0; i < r->n_own; i++) {
        for (int m = 0; m < r->team->n_nodes; m++) {
            if (m != r->team->node) {
                ls_exchange_start(r->slices, r->own[i].fragments[m]);
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

/* The node whose fragments an own slice still lacks, or -1. */
static int lacking(ls_reducer *r, const ls_own *own) {
    for (int m = 0; m < r->team->n_nodes; m++) {
        if (m != r->team->node && !ls_exchange_done(r->slices, own->fragments[m])) {
            return m;
        }
    }
    return -1;
}

/* Everything that can be done now. Whether something was. */
static bool get_on(ls_reducer *r) {
    bool did = false;
    if (r->node_ready < r->o.n_buckets) {
        int late;
        r->node_ready = count_ready(r, &late);
    }
    /* Others wait for what this rank sends; its own slices come second. */
    while (r->help_sent < r->n_help && r->help[r->help_sent].slice.bucket < r->node_ready) {
        send_fragments(r, &r->help[r->help_sent++]);
        did = true;
    }
    while (r->own_done < r->n_own && r->own[r->own_done].slice.bucket < r->node_ready &&
           lacking(r, &r->own[r->own_done]) < 0) {
        ls_own *own = &r->own[r->own_done++];
        if (r->o.n_norms > 0) {
            each_piece(r, &own->slice, own, norm_piece);
        } else {
            each_piece(r, &own->slice, own, apply_piece);
            send_params(r, own);
        }
        did = true;
    }
    while (r->help_done < r->help_sent && ls_exchange_done(r->slices, r->help[r->help_done].params)) {
        r->help_done++;
        did = true;
    }
    return did;
}

void ls_reducer_poll(ls_reducer *r) {
    if ((r->own_done < r->n_own || r->help_done < r->n_help) && !get_on(r) && r->team->n_nodes > 1) {
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
    bool own = r->own_done < r->n_own, help = r->help_sent < r->n_help;
    w->wanted = own ? r->own[r->own_done].slice.bucket : help ? r->help[r->help_sent].slice.bucket : -1;
    if ((own && r->own[r->own_done].slice.bucket >= ready) || (help && r->help[r->help_sent].slice.bucket >= ready)) {
        ls_wait_for(w, t->node_first[t->node] + late, false);
    } else if (own && (m = lacking(r, &r->own[r->own_done])) >= 0) {
        ls_wait_for(w, ls_reducer_helper(t, t->rank, m), false);
    } else if (r->help_done < r->n_help) {
        ls_wait_for(w, r->help[r->help_done].slice.owner, true);
    } else {
        ls_wait_for(w, LS_ANYBODY, true);
    }
}

/* Whether all that this rank sent in the step has left. */
static bool sent(ls_reducer *r, bool params) {
    for (int i = 0; i < r->n_help; i++) {
        if (!ls_exchange_done(r->slices, r->help[i].fragments)) {
            return false;
        }
    }
    for (int i = 0; params && i < r->n_own; i++) {
        for (int m = 0; m < r->team->n_nodes; m++) {
            if (m != r->team->node && !ls_exchange_done(r->slices, r->own[i].params[m])) {
                return false;
            }
        }
    }
    return true;
}

/* Gets on until own slices are added (one phase: applied), and with `all`, until the rest is done as well. */
static void work_off(ls_reducer *r, bool all) {
    ls_wait w = ls_wait_begin(r->team->progress, r->team->oversubscribed);
    int idle = 0;
    while (r->own_done < r->n_own || r->help_sent < r->n_help ||
           (all && (r->help_done < r->n_help || !sent(r, true)))) {
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
        for (int i = 0; i < r->n_own; i++) {
            each_piece(r, &r->own[i].slice, &r->own[i], apply_kept_piece);
            send_params(r, &r->own[i]);
        }
    }
    work_off(r, true);
    r->next_ready = 0;
    ls_reducer_exchange(r, flags, status, verdict);
}
