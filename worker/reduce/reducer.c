/* Making a reducer, and the step: a to e of reducer.h. */
#include "worker/reduce/reducer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    h = mix(h, &o->wire_bfloat16, sizeof o->wire_bfloat16);
    h = mix(h, &o->n_gradient, sizeof o->n_gradient);
    for (int k = 0; k < o->n_sparse; k++) {
        const size_t range[] = {o->sparse[k].first, o->sparse[k].n, o->sparse[k].marks, o->sparse[k].idle};
        h = mix(h, range, sizeof range);
    }
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
    r->o.n_gradient = o->n_gradient > 0 ? o->n_gradient : o->n_reduced;
    r->o.sparse = copy_sparse(o);
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
    ls_exchange_sent(r->slices, n_messages, n_bytes);
    ls_exchange_sent(r->mail, n_messages, n_bytes);
}
size_t ls_reducer_shared_bytes(const ls_reducer *r) {
    return r->shared.n_bytes;
}

ls_reducer_times ls_reducer_take_times(ls_reducer *r) {
    ls_reducer_times taken = r->times;
    r->times = (ls_reducer_times){0};
    return taken;
}

ls_reducer_times ls_reducer_see_times(const ls_reducer *r) {
    return r->times;
}

ls_status ls_reducer_recut(ls_reducer *r, int n_buckets, const size_t *buckets, ls_err *err) {
    LS_ASSERT(r->next_ready == 0);
    check_table(buckets, n_buckets, r->o.n_reduced);
    ls_reducer_gather_slots(r);
    ls_reducer_forget_cut(r);
    free((void *)r->o.buckets);
    r->o.n_buckets = n_buckets;
    r->o.buckets = copy_table(buckets, n_buckets);
    LS_TRY(check_same(r, err));
    ls_reducer_cut(r);
    LS_TRY(ls_reducer_allocate_cut(r, err));
    ls_reducer_scatter_slots(r);
    return LS_OK;
}

/* ---- the step ---- */

void ls_reducer_begin(ls_reducer *r, uint64_t step) {
    LS_ASSERT(r->next_ready == 0);
    ls_progress_phase(r->team->progress, LS_DOING_TRAIN, step);
    ls_progress_bucket(r->team->progress, r->o.n_buckets > 0 ? 0 : -1);
    r->steps++;
    r->base = r->begun;
    r->begun += (uint64_t)r->o.n_buckets;
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
    ls_reducer_count_received(r, job);
    if (!ls_reducer_is_top(r, job->level)) {
        ls_reducer_send_up(r, job);
    } else {
        ls_reducer_apply(r, job);
        r->applied += r->o.n_norms == 0;
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
            ls_job *job = &stage->jobs[stage->returned++];
            ls_reducer_unpack_params(r, job);
            ls_reducer_send_down(r, job);
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
    w->account = &r->times.network_ns;
    for (int s = 0; s <= r->levels.n; s++) {
        const ls_stage *stage = &r->stages[s];
        const ls_job *job = &stage->jobs[stage->collected];
        if (stage->collected == stage->n_jobs) {
            continue;
        }
        w->wanted = job->slice.bucket;
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
    LS_ASSERT(r->next_ready == r->o.n_buckets);
    if (r->o.n_norms > 0) {
        work_off(r, false);
        ls_reducer_share_norms(r);
        ls_stage *top = &r->stages[r->levels.n];
        while (r->applied < top->n_jobs) {
            ls_job *job = &top->jobs[r->applied];
            ls_reducer_apply_kept(r, job);
            r->applied++;
            get_on(r);
        }
    }
    work_off(r, true);
    r->next_ready = 0;
    ls_reducer_exchange(r, flags, status, verdict);
}
