/* Making a reducer, and the step: a to e of reducer.h. */
#include "worker/reduce/reducer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/memory.h"
#include "worker/reduce/reducer_private.h"

/* ---- making ---- */

static void check_table(const size_t *at, int n, size_t end) {
    LS_ASSERT(n == 0 ? end == 0 : at[0] == 0 && at[n] == end);
    for (int i = 0; i < n; i++) {
        LS_ASSERT(at[i] % LS_REDUCE_GRAIN == 0 && at[i] <= at[i + 1]);
    }
    LS_ASSERT(end % LS_REDUCE_GRAIN == 0);
}

static uint64_t mix(uint64_t h, const size_t *words, size_t n) {
    for (size_t i = 0; i < n; i++) { /* FNV-1a, a word at a time */
        h = (h ^ words[i]) * 0x100000001b3u;
    }
    return h;
}

static uint64_t mix_table(uint64_t h, const size_t *table, int n) {
    return n > 0 ? mix(h, table, (size_t)n + 1) : h;
}

static uint64_t mix_cut(uint64_t h, const ls_cut *c) {
    const size_t words[] = {(size_t)c->n_buckets, (size_t)c->fan_in, c->least_floats, c->most_floats};
    return mix_table(mix(h, words, 4), c->buckets, c->n_buckets);
}

/* What all ranks must agree on before they reduce anything. */
static ls_status check_same(ls_reducer *r, ls_err *err) {
    const ls_reducer_options *o = &r->o;
    const size_t counts[] = {(size_t)o->n_lanes,  o->n_params,       o->n_reduced,       (size_t)r->n_schemes,
                             (size_t)o->n_slots,  (size_t)o->n_sums, (size_t)o->n_norms, (size_t)o->n_segments,
                             (size_t)o->n_sparse, o->n_gradient,     o->wire_bfloat16};
    uint64_t h = mix(0xcbf29ce484222325u, counts, sizeof counts / sizeof counts[0]);
    for (int i = 0; i < r->n_schemes; i++) {
        h = mix_cut(h, &r->schemes[i].cut);
    }
    for (int k = 0; k < o->n_sparse; k++) {
        const size_t range[] = {o->sparse[k].first, o->sparse[k].n, o->sparse[k].marks, o->sparse[k].zero};
        h = mix(h, range, sizeof range / sizeof range[0]);
    }
    h = mix_table(h, o->segments, o->n_segments);
    char words[160];
    snprintf(words, sizeof words, "%d lanes, %zu parameters, %zu of them reduced in %d buckets, fan-in %d", o->n_lanes,
             o->n_params, o->n_reduced, o->cut.n_buckets, r->schemes[0].cut.fan_in);
    return ls_team_check_same(r->team, "the bucket table", h, words, err);
}

static size_t *copy_table(const size_t *table, int n) {
    size_t n_bytes = ((size_t)n + 1) * sizeof *table;
    return n > 0 ? memcpy(ls_xrealloc(NULL, n_bytes), table, n_bytes) : NULL;
}

static ls_sparse *copy_sparse(const ls_reducer_options *o) {
    size_t n_bytes = (size_t)o->n_sparse * sizeof *o->sparse, end = 0;
    for (int k = 0; k < o->n_sparse; k++) {
        const ls_sparse *s = &o->sparse[k];
        LS_ASSERT(s->first >= end && s->n > 0 && s->first + s->n <= o->n_reduced && s->marks % LS_REDUCE_GRAIN == 0);
        size_t n_words = (s->n + LS_REDUCE_CHUNK - 1) / LS_REDUCE_CHUNK;
        LS_ASSERT(s->marks >= o->n_reduced && s->marks + 2 * n_words <= o->n_gradient);
        end = s->first + s->n;
    }
    return o->n_sparse > 0 ? memcpy(ls_xrealloc(NULL, n_bytes), o->sparse, n_bytes) : NULL;
}

/* The caller's cut with everything said. */
static ls_cut complete_cut(const ls_team *team, const ls_reducer_options *o, const ls_cut *given) {
    ls_cut c = *given;
    check_table(c.buckets, c.n_buckets, o->n_reduced);
    c.buckets = copy_table(c.buckets, c.n_buckets);
    c.fan_in = c.fan_in > 0 ? c.fan_in : team->fan_in;
    c.least_floats = c.least_floats > 0 ? ls_align_up(c.least_floats, LS_REDUCE_GRAIN) : LS_REDUCE_PART;
    c.most_floats = c.most_floats > LS_REDUCE_CHUNK ? c.most_floats
                    : c.most_floats > 0             ? LS_REDUCE_CHUNK
                                                    : LS_REDUCE_MESSAGE;
    return c;
}

static void make_schemes(ls_reducer *r) {
    if (r->o.n_norms > 0) {
        ls_reducer_cut_chunks(r);
    }
    for (int i = 0; i < r->n_schemes; i++) {
        r->scheme = &r->schemes[i];
        ls_levels_init(&r->scheme->levels, r->team->n_nodes, r->team->node_first, r->scheme->cut.fan_in);
        ls_reducer_cut(r);
    }
    r->scheme = r->schemes;
}

ls_status ls_reducer_create(ls_reducer **out, ls_team *team, const ls_reducer_options *options, ls_err *err) {
    const ls_reducer_options *o = options;
    LS_ASSERT(o->n_lanes >= 1 && o->lanes_at_once >= 1 && o->n_params >= o->n_reduced && o->n_sums >= 0);
    LS_ASSERT(o->n_norms >= 0 && o->n_norms <= LS_MAX_NORMS);
    if (o->n_norms > 0) {
        check_table(o->segments, o->n_segments, o->n_reduced);
    }
    ls_reducer *r = ls_xcalloc(1, sizeof *r);
    LS_ASSERT(o->n_slots >= 0 && (size_t)o->n_slots <= sizeof r->slots / sizeof r->slots[0]);
    r->team = team;
    r->o = *o;
    r->o.segments = o->n_norms > 0 ? copy_table(o->segments, o->n_segments) : NULL;
    r->o.n_segments = o->n_norms > 0 ? o->n_segments : 0;
    r->o.n_gradient = o->n_gradient > 0 ? o->n_gradient : o->n_reduced;
    r->o.sparse = copy_sparse(o);
    r->o.n_threads = o->n_threads > 1 ? o->n_threads : 1;
    r->n_schemes = 1 + o->n_more;
    r->schemes = ls_xcalloc((size_t)r->n_schemes, sizeof *r->schemes);
    for (int i = 0; i < r->n_schemes; i++) {
        r->schemes[i].cut = complete_cut(team, o, i == 0 ? &o->cut : &o->more[i - 1]);
    }
    r->scheme = r->schemes;
    ls_status status = check_same(r, err);
    if (status == LS_OK) {
        make_schemes(r);
        status = ls_reducer_allocate(r, err);
    }
    if (status != LS_OK) {
        ls_reducer_free(r);
        return status;
    }
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
void ls_reducer_sent(const ls_reducer *r, uint64_t *n_messages, uint64_t *n_bytes) {
    *n_messages = *n_bytes = 0;
    for (int i = 0; i < r->n_schemes; i++) {
        if (r->schemes[i].slices != NULL) {
            ls_exchange_sent(r->schemes[i].slices, n_messages, n_bytes);
        }
    }
    ls_exchange_sent(r->mail, n_messages, n_bytes);
}

ls_reducer_times ls_reducer_take_times(ls_reducer *r) {
    ls_reducer_times taken = r->times;
    r->times = (ls_reducer_times){0};
    return taken;
}

ls_reducer_times ls_reducer_see_times(const ls_reducer *r) {
    return r->times;
}

void ls_reducer_settle(ls_reducer *r) {
    LS_ASSERT(r->next_ready == 0);
    for (int i = 0; i < r->n_schemes; i++) {
        if (&r->schemes[i] != r->scheme) {
            ls_reducer_free_scheme(&r->schemes[i]);
        }
    }
}

/* ---- the step ---- */

static void begin_stage(ls_reducer *r, ls_stage *stage) {
    stage->collected = stage->returned = 0;
    r->n_left += 2 * stage->n_jobs;
    for (int i = 0; i < stage->n_jobs; i++) {
        ls_job *job = &stage->jobs[i];
        job->collected = job->applied = job->returned = false;
        for (int c = 0; c < job->n_children; c++) {
            if (c != job->own_child) {
                ls_exchange_start(r->scheme->slices, job->fragments[c]);
            }
        }
    }
}

void ls_reducer_begin(ls_reducer *r, uint64_t step) {
    LS_ASSERT(r->next_ready == 0);
    ls_progress_phase(r->team->progress, LS_DOING_TRAIN, step);
    ls_progress_bucket(r->team->progress, r->scheme->n_buckets > 0 ? 0 : -1);
    r->steps++;
    r->base = r->begun;
    r->begun += (uint64_t)r->scheme->n_buckets;
    r->node_ready = r->n_left = 0;
    for (int s = 0; s <= r->scheme->levels.n; s++) {
        begin_stage(r, &r->scheme->stages[s]);
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
        if (c != job->own_child && !ls_exchange_done(r->scheme->slices, job->fragments[c])) {
            return c;
        }
    }
    return -1;
}

/* Whether a job has all that it adds. */
static bool is_complete(ls_reducer *r, const ls_job *job) {
    return !job->collected && job->slice.bucket < r->node_ready &&
           (job->level < 2 || r->scheme->stages[job->level - 1].jobs[job->own_job].collected) && lacking(r, job) < 0;
}

static void collect(ls_reducer *r, ls_job *job) {
    ls_reducer_count_received(r, job);
    if (!ls_reducer_is_top(r, job->level)) {
        ls_reducer_send_up(r, job);
    } else {
        ls_reducer_apply(r, job);
        job->applied = r->o.n_norms == 0;
    }
    job->collected = true;
    r->n_left--;
}

/* The part that went up and whose new parameters have not come back, or -1. */
static int without_params(ls_reducer *r, const ls_job *job) {
    for (int i = 0; i < job->n_outs; i++) {
        const ls_out *out = &job->outs[i];
        if (out->job >= 0 ? !r->scheme->stages[job->level + 1].jobs[out->job].returned
                          : !ls_exchange_done(r->scheme->slices, out->params)) {
            return i;
        }
    }
    return -1;
}

/* Whether a job can return: it has its new parameters. */
static bool is_new(ls_reducer *r, const ls_job *job) {
    return !job->returned &&
           (ls_reducer_is_top(r, job->level) ? job->applied : job->collected && without_params(r, job) < 0);
}

static void give_back(ls_reducer *r, ls_job *job) {
    ls_reducer_unpack_params(r, job);
    ls_reducer_send_down(r, job);
    job->returned = true;
    r->n_left--;
}

/* Of the jobs [from, to) the next one for which `can` holds, in the order chosen. Asks WINDOW of those that are not
 * `done` yet: each question may be one to MPI. */
static ls_job *next_job(ls_reducer *r, ls_job *jobs, int from, int to, bool (*can)(ls_reducer *, const ls_job *),
                        bool (*done)(const ls_job *)) {
    enum { WINDOW = 8 };
    for (int i = 0, asked = 0; i < to - from && asked < WINDOW; i++) {
        ls_job *job = &jobs[r->newest_first ? to - 1 - i : from + i];
        if (!done(job)) {
            if (can(r, job)) {
                return job;
            }
            asked++;
        }
    }
    return NULL;
}

static bool was_collected(const ls_job *job) {
    return job->collected;
}
static bool was_returned(const ls_job *job) {
    return job->returned;
}

/* A way through a stage: up, or back down. */
typedef struct {
    bool (*can)(ls_reducer *r, const ls_job *job);
    bool (*done)(const ls_job *job);
    void (*act)(ls_reducer *r, ls_job *job);
} passage;
static const passage up = {is_complete, was_collected, collect}, down = {is_new, was_returned, give_back};

/* Takes every job through that can go; *first, before which all have, moves on. */
static void pass_stage(ls_reducer *r, ls_stage *stage, int *first, const passage *way) {
    int end = *first;
    while (end < stage->n_jobs && stage->jobs[end].slice.bucket < r->node_ready) {
        end++;
    }
    ls_job *job;
    while ((job = next_job(r, stage->jobs, *first, end, way->can, way->done)) != NULL) {
        way->act(r, job);
        while (*first < end && way->done(&stage->jobs[*first])) {
            ++*first;
        }
    }
}

/* Everything that can be done now. Whether something was. Others wait for what this rank sends: the lower levels come
 * first on the way up. */
static bool get_on(ls_reducer *r) {
    const ls_scheme *c = r->scheme;
    int before = r->n_left;
    if (r->node_ready < c->n_buckets) {
        int late;
        r->node_ready = count_ready(r, &late);
    }
    for (int s = 0; s <= c->levels.n; s++) {
        pass_stage(r, &c->stages[s], &c->stages[s].collected, &up);
    }
    for (int s = c->levels.n; s >= 0; s--) {
        pass_stage(r, &c->stages[s], &c->stages[s].returned, &down);
    }
    return r->n_left < before;
}

void ls_reducer_poll(ls_reducer *r) {
    if (r->n_left == 0 || (r->team->n_nodes == 1 && r->next_ready == 0)) {
        return;
    }
    const int64_t start = ls_now_ns(), work_ns = r->times.work_ns;
    if (!get_on(r) && r->team->n_nodes > 1) {
        ls_exchange_poke(r->scheme->slices);
    }
    r->times.talk_ns += ls_now_ns() - start - (r->times.work_ns - work_ns);
}

void ls_reducer_ready(ls_reducer *r, int bucket) {
    const ls_cut *cut = &r->scheme->cut;
    LS_ASSERT(bucket == r->next_ready && bucket < cut->n_buckets);
    r->next_ready++;
    atomic_store_explicit(&ls_reducer_line(r)->ready, r->base + (uint64_t)r->scheme->given_end[r->next_ready],
                          memory_order_release);
    ls_progress_bucket(r->team->progress, r->next_ready < cut->n_buckets ? r->next_ready : -1);
    ls_reducer_poll(r);
}

/* Says whom the first thing that cannot be done waits for. */
static void name_whom(ls_reducer *r, ls_wait *w) {
    const ls_team *t = r->team;
    const ls_scheme *c = r->scheme;
    int late = 0, ready = count_ready(r, &late), m;
    w->wanted = -1;
    w->account = &r->times.network_ns;
    for (int s = 0; s <= c->levels.n; s++) {
        const ls_stage *stage = &c->stages[s];
        if (stage->collected == stage->n_jobs) {
            continue;
        }
        const ls_job *job = &stage->jobs[stage->collected];
        w->wanted = c->given[job->slice.bucket];
        if (job->slice.bucket >= ready) {
            w->account = &r->times.late_ns;
            ls_wait_for(w, t->node_first[t->node] + late, false);
            return;
        }
        if ((m = lacking(r, job)) >= 0) {
            ls_wait_for(w, job->agents[m], s > 1); /* above level 1 it may itself wait for others */
            return;
        }
    }
    for (int s = c->levels.n - 1; s >= 0; s--) {
        const ls_stage *stage = &c->stages[s];
        if (stage->returned == stage->n_jobs) {
            continue;
        }
        const ls_job *job = &stage->jobs[stage->returned];
        if (job->collected && (m = without_params(r, job)) >= 0 && job->outs[m].job < 0) {
            ls_wait_for(w, job->outs[m].agent, true);
            return;
        }
    }
    ls_wait_for(w, LS_ANYBODY, true);
}

/* Whether all that this rank sent in the step has left. */
static bool sent(ls_reducer *r) {
    ls_exchange *x = r->scheme->slices;
    for (int s = 0; s <= r->scheme->levels.n; s++) {
        for (int i = 0; i < r->scheme->stages[s].n_jobs; i++) {
            const ls_job *job = &r->scheme->stages[s].jobs[i];
            for (int c = 0; c < job->n_children; c++) {
                if (c != job->own_child && !ls_exchange_done(x, job->params[c])) {
                    return false;
                }
            }
            for (int o = 0; o < job->n_outs; o++) {
                if (job->outs[o].job < 0 && !ls_exchange_done(x, job->outs[o].fragments)) {
                    return false;
                }
            }
        }
    }
    return true;
}

static bool all_collected(const ls_reducer *r) {
    for (int s = 0; s <= r->scheme->levels.n; s++) {
        if (r->scheme->stages[s].collected < r->scheme->stages[s].n_jobs) {
            return false;
        }
    }
    return true;
}

/* Gets on until all parts are added (one phase: applied), and with `all`, until the rest is done as well. */
static void work_off(ls_reducer *r, bool all) {
    ls_wait w = ls_wait_begin(r->team->progress, r->team->oversubscribed);
    int idle = 0;
    r->idle = &w;
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
    r->idle = NULL;
    ls_wait_end(&w);
}

void ls_reducer_finish(ls_reducer *r, unsigned flags, ls_status status, ls_reducer_verdict *verdict) {
    LS_ASSERT(r->next_ready == r->scheme->cut.n_buckets);
    if (r->o.n_norms > 0) {
        work_off(r, false);
        ls_reducer_share_norms(r);
        ls_stage *top = &r->scheme->stages[r->scheme->levels.n];
        for (int i = 0; i < top->n_jobs; i++) {
            ls_reducer_apply_kept(r, &top->jobs[i]);
            top->jobs[i].applied = true;
            get_on(r);
        }
    }
    work_off(r, true);
    r->next_ready = 0;
    ls_reducer_exchange(r, flags, status, verdict);
}
