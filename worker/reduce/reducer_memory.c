/* The reducer's memory: what the node shares, what is this rank's own, and the messages that go between them. */
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/reduce/reducer_private.h"

enum { PAGE = 4096, TAG_VERDICT = 1, TAG_NORMS = 2 };

/* Lays ranges one after the other: first with base NULL to add up sizes, then to hand out pointers. */
typedef struct {
    char *base;
    size_t used;
    bool overflow;
} layout;

static void *lay(layout *l, size_t n, size_t item_bytes, size_t align) {
    size_t n_bytes, at = ls_align_up(l->used, align);
    l->overflow |= __builtin_mul_overflow(n, item_bytes, &n_bytes) || __builtin_add_overflow(at, n_bytes, &l->used);
    return l->base != NULL ? l->base + at : NULL;
}

/* A rank's lane schedule; at_once of every rank is known. */
static ls_lane_schedule schedule_of(const ls_reducer *r, int rank, int at_once) {
    int size = r->team->size, n = r->o.n_lanes;
    ls_lane_schedule s;
    ls_lane_schedule_init(&s, n, ls_lanes_first(n, size, rank), ls_lanes_first(n, size, rank + 1), at_once);
    return s;
}

static void lay_shared(ls_reducer *r, layout *l, const ls_lane_schedule *schedules) {
    const ls_team *t = r->team;
    size_t n_lanes = (size_t)r->o.n_lanes, n_sums = (size_t)r->o.n_sums;
    r->head = lay(l, 1, sizeof *r->head, 64);
    r->lines = lay(l, (size_t)t->n_local, sizeof *r->lines, 64);
    r->node_says = lay(l, 2 * (size_t)t->n_nodes, sizeof *r->node_says, 64);
    r->lane_sums = lay(l, 2 * n_lanes * n_sums, sizeof(double), 64);
    r->chunk_norms = lay(l, (size_t)r->n_chunks * (size_t)r->o.n_norms, sizeof(double), 64);
    r->params = lay(l, r->o.n_params, sizeof(float), PAGE);
    for (int i = 0; i < r->o.n_slots; i++) {
        r->slots[i] = lay(l, r->o.n_reduced, sizeof(float), PAGE);
    }
    for (int i = 0; i < t->n_local; i++) {
        r->gradients[i] = lay(l, (size_t)schedules[i].n_slots * r->stride, sizeof(float), PAGE);
    }
}

/* What the ranks of this node have, in lane order. */
static int raw_branches(ls_reducer *r, const ls_lane_schedule *schedules, ls_branch *out) {
    int n = 0;
    for (int l = 0; l < r->team->n_local; l++) {
        for (int f = 0; f < schedules[l].n_fragments; f++) {
            out[n] = schedules[l].fragments[f].node;
            r->raw[n++] = r->gradients[l] + (size_t)schedules[l].fragments[f].slot * r->stride;
        }
    }
    return n;
}

/* The sum of each level: of what the children of this rank's group send, with this node's raw fragments in their place
 * on levels 0 and 1. */
static void compile_scheme(ls_reducer *r, const ls_branch *raw) {
    const ls_levels *l = &r->scheme->levels;
    ls_branch *all = ls_xcalloc((size_t)r->o.n_lanes, sizeof *all);
    for (int s = 0; s <= l->n; s++) {
        ls_stage *stage = &r->scheme->stages[s];
        int group = ls_levels_group(l, s, r->team->rank), first = l->first[s][group], n = 0;
        int n_children = s > 0 ? l->first[s][group + 1] - first : 0;
        stage->child_fragments = ls_xcalloc((size_t)n_children, sizeof(int));
        for (int c = first; c < first + n_children; c++) {
            ls_branch nodes[LS_MAX_FRAGMENTS];
            stage->child_fragments[c - first] = ls_reducer_fragments(r, s - 1, c, nodes);
            bool own = s == 1 && c == r->team->node;
            int k = own ? r->n_raw : stage->child_fragments[c - first];
            memcpy(all + n, own ? raw : nodes, (size_t)k * sizeof *all);
            n += k;
        }
        ls_sum_init(&stage->sum, r->o.n_lanes, s == 0 ? raw : all, s == 0 ? r->n_raw : n, r->o.wire_bfloat16);
        stage->n_fragments = ls_reducer_fragments(r, s, group, NULL);
        LS_ASSERT(stage->n_fragments == stage->sum.n_out);
    }
    free(all);
}

static void compile_sums(ls_reducer *r, const ls_lane_schedule *schedules) {
    const size_t n_lanes = (size_t)r->o.n_lanes;
    ls_branch *raw = ls_xcalloc(n_lanes, sizeof *raw);
    r->raw = ls_xcalloc(n_lanes, sizeof *r->raw);
    r->n_raw = raw_branches(r, schedules, raw);
    for (int i = 0; i < r->n_schemes; i++) {
        r->scheme = &r->schemes[i];
        compile_scheme(r, raw);
    }
    r->scheme = r->schemes;
    r->work = ls_xcalloc((size_t)r->o.n_threads, sizeof *r->work);
    for (int i = 0; i < r->o.n_threads; i++) {
        r->work[i].leaf = ls_xcalloc(n_lanes, sizeof *r->work[i].leaf);
        r->work[i].sum = ls_xcalloc(n_lanes, sizeof *r->work[i].sum);
        r->work[i].non_finite_at = SIZE_MAX;
    }
    free(raw);
}

/* Where a job's fragments come from and go to. */
static void lay_job(ls_reducer *r, layout *l, ls_job *job) {
    int s = job->level;
    for (int c = 0; c < job->n_children; c++) {
        size_t n_bytes = ls_reducer_fragments_bytes(r, &job->slice, r->scheme->stages[s].child_fragments[c]);
        job->received[c] = c == job->own_child ? NULL : lay(l, n_bytes, 1, 64);
    }
    const bool top = ls_reducer_is_top(r, s), packs = ls_reducer_packs(r, &job->slice);
    const size_t n_pieces = job->slice.sparse >= 0 ? ls_reducer_n_pieces(r, &job->slice) : 0;
    job->words = lay(l, top || packs ? n_pieces : 0, sizeof *job->words, 64);
    job->starts = lay(l, n_pieces * (size_t)job->n_children, sizeof *job->starts, 64);
    job->packed = packs && job->n_children > 0 ? lay(l, ls_reducer_params_bytes(r, &job->slice), 1, 64) : NULL;
    for (int i = 0; i < job->n_outs; i++) {
        ls_out *out = &job->outs[i];
        bool in_place = s == 0 && out->job >= 0;
        size_t n_bytes = ls_reducer_fragments_bytes(r, &out->slice, r->scheme->stages[s].n_fragments);
        out->sending = in_place ? NULL : lay(l, n_bytes, 1, 64);
        out->starts = lay(l, out->slice.sparse >= 0 ? ls_reducer_n_pieces(r, &out->slice) : 0, sizeof(uint32_t), 64);
        out->receiving = packs && out->job < 0 ? lay(l, ls_reducer_params_bytes(r, &out->slice), 1, 64) : NULL;
        if (out->job >= 0) {
            ls_job *above = &r->scheme->stages[s + 1].jobs[out->job];
            above->received[above->own_child] = out->sending;
        }
    }
    job->reduced = top && r->o.n_norms > 0 ? lay(l, job->slice.n, sizeof(float), 64) : NULL;
}

/* What threads add with, enough for each of the schemes. */
static void lay_work(ls_reducer *r, layout *l) {
    int n_scratch = 0;
    size_t n_unpacked = 0;
    for (int i = 0; i < r->n_schemes; i++) {
        const ls_scheme *c = &r->schemes[i];
        for (int s = 0; s <= c->levels.n; s++) {
            size_t n = r->o.wire_bfloat16 || r->o.n_sparse > 0 ? (size_t)c->stages[s].sum.n_leaves : 0;
            n_unpacked = s > 0 && n > n_unpacked ? n : n_unpacked;
            n_scratch = c->stages[s].sum.n_scratch > n_scratch ? c->stages[s].sum.n_scratch : n_scratch;
        }
    }
    r->zeros = lay(l, LS_REDUCE_CHUNK, sizeof(float), 64);
    r->woken = lay(l, (r->o.n_gradient - r->o.n_reduced) / 2, sizeof *r->woken, 64);
    for (int i = 0; i < r->o.n_threads; i++) {
        r->work[i].scratch = lay(l, (size_t)n_scratch * LS_REDUCE_CHUNK, sizeof(float), 64);
        r->work[i].unpacked = lay(l, n_unpacked * LS_REDUCE_CHUNK, sizeof(float), 64);
    }
}

/* Buffers of this rank alone. Only one scheme is used at a time: they all have the same memory for messages. The
 * highest level first, since a job's own fragments are laid out by the one below. */
static void lay_private(ls_reducer *r, layout *l) {
    ls_scheme *used = r->scheme;
    lay_work(r, l);
    const size_t begin = l->used;
    size_t end = begin;
    for (int i = 0; i < r->n_schemes; i++) {
        r->scheme = &r->schemes[i];
        l->used = begin;
        for (int s = r->scheme->levels.n; s >= 0; s--) {
            for (int k = 0; k < r->scheme->stages[s].n_jobs; k++) {
                lay_job(r, l, &r->scheme->stages[s].jobs[k]);
            }
        }
        end = l->used > end ? l->used : end;
    }
    l->used = end;
    r->scheme = used;
}

/* A tag of its own for each part that two ranks have to do with each other for, since parts need not go in order: both
 * count those parts in the same order, and meet on one level only. (There are more parts than tags only where buckets
 * are tiny; such parts are thousands apart.) */
enum { N_TAGS = 16000 };
static int next_tag(int *n_with, int peer) {
    return 2 * (n_with[peer]++ % N_TAGS);
}

/* Two messages a part and a child: fragments up, new parameters down. An empty one (of a group without lanes) still
 * says that the group has done with the bucket. */
static void describe_children(ls_reducer *r, ls_job *job, int *n_with) {
    ls_exchange *x = r->scheme->slices;
    const ls_slice *from = &job->slice;
    for (int c = 0; c < job->n_children; c++) {
        job->fragments[c] = job->params[c] = -1;
        if (c != job->own_child) {
            int tag = next_tag(n_with, job->agents[c]);
            size_t n_bytes = ls_reducer_fragments_bytes(r, from, r->scheme->stages[job->level].child_fragments[c]);
            job->fragments[c] = ls_exchange_receive(x, job->agents[c], tag, job->received[c], n_bytes);
            job->params[c] = job->packed != NULL ? ls_exchange_send_some(x, job->agents[c], tag + 1, job->packed)
                                                 : ls_exchange_send(x, job->agents[c], tag + 1, r->params + from->first,
                                                                    ls_reducer_params_bytes(r, from));
        }
    }
}

static void describe_outs(ls_reducer *r, ls_job *job, int *n_with) {
    ls_exchange *x = r->scheme->slices;
    for (int i = 0; i < job->n_outs; i++) {
        ls_out *out = &job->outs[i];
        size_t n_bytes = ls_reducer_fragments_bytes(r, &out->slice, r->scheme->stages[job->level].n_fragments);
        void *to = out->receiving != NULL ? (void *)out->receiving : r->params + out->slice.first;
        out->fragments = out->params = -1;
        if (out->job < 0) {
            int tag = next_tag(n_with, out->agent);
            out->fragments = out->slice.sparse >= 0 ? ls_exchange_send_some(x, out->agent, tag, out->sending)
                                                    : ls_exchange_send(x, out->agent, tag, out->sending, n_bytes);
            out->params = ls_exchange_receive(x, out->agent, tag + 1, to, ls_reducer_params_bytes(r, &out->slice));
        }
    }
}

/* Counts apart what goes up from this rank and what comes up to it: two ranks may be each other's agents. */
static void describe_slices(ls_reducer *r) {
    const size_t size = (size_t)r->team->size;
    int *n_with = ls_xcalloc(2 * size, sizeof *n_with);
    r->scheme->slices = ls_exchange_create(r->team);
    for (int s = 0; s <= r->scheme->levels.n; s++) {
        for (int i = 0; i < r->scheme->stages[s].n_jobs; i++) {
            describe_children(r, &r->scheme->stages[s].jobs[i], n_with);
            describe_outs(r, &r->scheme->stages[s].jobs[i], n_with + size);
        }
    }
    free(n_with);
}

static size_t verdict_bytes(const ls_reducer *r, int node) {
    const ls_team *t = r->team;
    int first = ls_lanes_first(r->o.n_lanes, t->size, t->node_first[node]);
    int last = ls_lanes_first(r->o.n_lanes, t->size, t->node_first[node + 1]);
    return sizeof(ls_say) +
           ls_align_up((size_t)(last - first) * (size_t)r->o.n_sums * sizeof(double), LS_EXCHANGE_UNIT);
}

/* (n_nodes) bytes, for norms_bytes. */
static void count_norms(ls_reducer *r) {
    const ls_levels *l = &r->scheme->levels;
    r->scheme->norms_taken = ls_xcalloc((size_t)r->team->n_nodes, sizeof *r->scheme->norms_taken);
    for (int b = 0; b < r->scheme->n_buckets; b++) {
        for (size_t p = 0; p < l->n_parts[l->n]; p++) {
            int node = r->team->node_of[ls_reducer_agent(r, b, l->n, 0, p)];
            r->scheme->norms_taken[node] +=
                (size_t)ls_reducer_slice(r, b, l->n, p).n_chunks * (size_t)r->o.n_norms * sizeof(double);
        }
    }
}

static size_t norms_bytes(const ls_reducer *r, int node) {
    return ls_align_up(r->scheme->norms_taken[node], LS_EXCHANGE_UNIT);
}

static void describe_mail(ls_reducer *r) {
    r->mail = ls_exchange_create(r->team);
    if (r->team->local == 0 && r->team->n_nodes > 1) {
        ls_news_describe(r, &r->verdicts, TAG_VERDICT, verdict_bytes);
        for (int i = 0; r->o.n_norms > 0 && i < r->n_schemes; i++) {
            r->scheme = &r->schemes[i];
            count_norms(r);
            ls_news_describe(r, &r->scheme->norms, TAG_NORMS, norms_bytes);
        }
        r->scheme = r->schemes;
    }
}

static void allocate_tables(ls_scheme *c) {
    for (int s = 1; s <= c->levels.n; s++) {
        for (int i = 0; i < c->stages[s].n_jobs; i++) {
            ls_job *job = &c->stages[s].jobs[i];
            job->fragments = ls_xcalloc((size_t)job->n_children, sizeof *job->fragments);
            job->params = ls_xcalloc((size_t)job->n_children, sizeof *job->params);
            job->received = ls_xcalloc((size_t)job->n_children, sizeof *job->received);
        }
    }
}

static ls_status allocate_private(ls_reducer *r, ls_err *err) {
    size_t n_rows = (size_t)r->o.n_lanes * (size_t)r->o.n_sums;
    for (int i = 0; i < r->n_schemes; i++) {
        allocate_tables(&r->schemes[i]);
    }
    r->verdict_rows = ls_xcalloc(n_rows, sizeof(double));
    r->norm_rows = ls_xcalloc((size_t)r->n_chunks * (size_t)r->o.n_norms, sizeof(double));
    r->segment_norms = ls_xcalloc(2 * ((size_t)r->o.n_segments + 1) * (size_t)r->o.n_norms, sizeof(double));
    layout l = {NULL, 0, false};
    lay_private(r, &l);
    r->private_memory = l.overflow ? NULL : ls_calloc(1, l.used);
    ls_status status = LS_OK;
    if (r->private_memory == NULL) {
        status = ls_fail(err, LS_ENOMEM, "%zu bytes of message buffers cannot be had; use fewer ranks a node or nodes",
                         l.used);
    }
    LS_TRY(ls_team_agree(r->team, status, err));
    l = (layout){r->private_memory, 0, false};
    lay_private(r, &l);
    return LS_OK;
}

static ls_status allocate_schemes(ls_reducer *r, ls_err *err) {
    LS_TRY(allocate_private(r, err));
    for (int i = 0; i < r->n_schemes; i++) {
        r->scheme = &r->schemes[i];
        describe_slices(r);
    }
    r->scheme = r->schemes;
    describe_mail(r);
    return LS_OK;
}

ls_status ls_reducer_allocate(ls_reducer *r, ls_err *err) {
    ls_team *t = r->team;
    int *at_once = ls_xcalloc((size_t)t->size, sizeof *at_once);
    ls_lane_schedule *schedules = ls_xcalloc((size_t)t->n_local, sizeof *schedules);
    ls_team_allgather(t, &r->o.lanes_at_once, sizeof *at_once, at_once);
    for (int i = 0; i < t->n_local; i++) {
        int rank = t->node_first[t->node] + i;
        schedules[i] = schedule_of(r, rank, at_once[rank]);
    }
    r->schedule = schedule_of(r, t->rank, r->o.lanes_at_once);
    r->gradients = ls_xcalloc((size_t)t->n_local, sizeof *r->gradients);
    /* Not a multiple of a page, so that the same element of several slots does not fall on one cache set. */
    r->stride = ls_align_up(r->o.n_gradient, LS_REDUCE_GRAIN) + 5 * LS_REDUCE_GRAIN;

    layout l = {NULL, 0, false};
    lay_shared(r, &l, schedules);
    ls_status status =
        l.overflow ? ls_fail(err, LS_ENOMEM, "the model is too large for this machine's addresses") : LS_OK;
    status = ls_team_agree(t, status, err);
    if (status == LS_OK) {
        status = ls_shared_create(&r->shared, t, l.used, LS_SHARED_BEST, err);
    }
    if (status == LS_OK) {
        l = (layout){r->shared.base, 0, false};
        lay_shared(r, &l, schedules);
        compile_sums(r, schedules);
        r->moves = ls_exchange_create(r->team);
        status = allocate_schemes(r, err);
    }
    for (int i = 0; i < t->n_local; i++) {
        ls_lane_schedule_release(&schedules[i]);
    }
    free(schedules);
    free(at_once);
    return status;
}

static void free_jobs(ls_stage *stage) {
    for (int i = 0; i < stage->n_jobs; i++) {
        ls_job *job = &stage->jobs[i];
        free(job->agents);
        free(job->fragments);
        free(job->params);
        free(job->received);
        free(job->outs);
    }
    free(stage->jobs);
    stage->jobs = NULL;
    stage->n_jobs = 0;
}

static void free_stage(ls_stage *stage) {
    free_jobs(stage);
    free(stage->child_fragments);
    ls_sum_release(&stage->sum);
}

void ls_reducer_free_scheme(ls_scheme *c) {
    ls_exchange_destroy(c->slices);
    ls_news_free(&c->norms);
    for (int s = 0; c->stages != NULL && s <= c->levels.n; s++) {
        free_stage(&c->stages[s]);
    }
    ls_levels_release(&c->levels);
    void *const blocks[] = {(void *)c->cut.buckets, c->buckets,     c->given, c->given_end,
                            c->bucket_chunks,       c->norms_taken, c->stages};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        free(blocks[i]);
    }
    *c = (ls_scheme){0};
}

void ls_reducer_free(ls_reducer *r) {
    for (int i = 0; i < r->n_schemes; i++) {
        ls_reducer_free_scheme(&r->schemes[i]);
    }
    ls_exchange_destroy(r->mail);
    ls_exchange_destroy(r->moves);
    ls_news_free(&r->verdicts);
    for (int i = 0; r->work != NULL && i < r->o.n_threads; i++) {
        free((void *)r->work[i].leaf);
        free((void *)r->work[i].sum);
    }
    ls_lane_schedule_release(&r->schedule);
    ls_shared_release(&r->shared);
    void *const blocks[] = {
        r->schemes,         r->gradients, r->raw,           r->work,   r->private_memory, r->peers,
        r->verdict_rows,    r->norm_rows, r->segment_norms, r->chunks, r->segment_chunks, (void *)r->o.segments,
        (void *)r->o.sparse};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        free(blocks[i]);
    }
    free(r);
}
