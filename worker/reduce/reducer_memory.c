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
static void compile_sums(ls_reducer *r, const ls_lane_schedule *schedules) {
    const ls_levels *l = &r->levels;
    const size_t n_lanes = (size_t)r->o.n_lanes;
    ls_branch *raw = ls_xcalloc(n_lanes, sizeof *raw), *all = ls_xcalloc(n_lanes, sizeof *all);
    r->raw = ls_xcalloc(n_lanes, sizeof *r->raw);
    r->n_raw = raw_branches(r, schedules, raw);
    for (int s = 0; s <= l->n; s++) {
        ls_stage *stage = &r->stages[s];
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
    r->work = ls_xcalloc((size_t)r->o.n_threads, sizeof *r->work);
    for (int i = 0; i < r->o.n_threads; i++) {
        r->work[i].leaf = ls_xcalloc(n_lanes, sizeof *r->work[i].leaf);
        r->work[i].sum = ls_xcalloc(n_lanes, sizeof *r->work[i].sum);
        r->work[i].non_finite_at = SIZE_MAX;
    }
    free(raw);
    free(all);
}

/* Where a job's fragments come from and go to. */
static void lay_job(ls_reducer *r, layout *l, ls_job *job) {
    int s = job->level;
    for (int c = 0; c < job->n_children; c++) {
        size_t n_bytes = ls_reducer_fragments_bytes(r, &job->slice, r->stages[s].child_fragments[c]);
        job->received[c] = c == job->own_child ? NULL : lay(l, n_bytes, 1, 64);
    }
    const bool top = ls_reducer_is_top(r, s), packs = ls_reducer_packs(r, &job->slice);
    const size_t n_pieces = job->slice.sparse >= 0 ? ls_reducer_n_pieces(r, &job->slice) : 0;
    job->words = lay(l, top ? n_pieces : 0, sizeof *job->words, 64);
    job->starts = lay(l, n_pieces * (size_t)job->n_children, sizeof *job->starts, 64);
    job->packed = packs && job->n_children > 0 ? lay(l, ls_reducer_params_bytes(r, &job->slice), 1, 64) : NULL;
    for (int i = 0; i < job->n_outs; i++) {
        ls_out *out = &job->outs[i];
        bool in_place = s == 0 && out->job >= 0;
        size_t n_bytes = ls_reducer_fragments_bytes(r, &out->slice, r->stages[s].n_fragments);
        out->sending = in_place ? NULL : lay(l, n_bytes, 1, 64);
        out->starts = lay(l, out->slice.sparse >= 0 ? ls_reducer_n_pieces(r, &out->slice) : 0, sizeof(uint32_t), 64);
        out->receiving = packs && out->job < 0 ? lay(l, ls_reducer_params_bytes(r, &out->slice), 1, 64) : NULL;
        if (out->job >= 0) {
            ls_job *above = &r->stages[s + 1].jobs[out->job];
            above->received[above->own_child] = out->sending;
        }
    }
    job->reduced = top && r->o.n_norms > 0 ? lay(l, job->slice.n, sizeof(float), 64) : NULL;
}

/* Buffers of this rank alone: the highest level first, since a job's own fragments are laid out by the one below. */
static void lay_private(ls_reducer *r, layout *l) {
    int n_scratch = 0;
    size_t n_unpacked = 0;
    for (int s = r->levels.n; s >= 0; s--) {
        size_t n = r->o.wire_bfloat16 || r->o.n_sparse > 0 ? (size_t)r->stages[s].sum.n_leaves : 0;
        n_unpacked = s > 0 && n > n_unpacked ? n : n_unpacked;
        n_scratch = r->stages[s].sum.n_scratch > n_scratch ? r->stages[s].sum.n_scratch : n_scratch;
        for (int i = 0; i < r->stages[s].n_jobs; i++) {
            lay_job(r, l, &r->stages[s].jobs[i]);
        }
    }
    r->zeros = lay(l, LS_REDUCE_CHUNK, sizeof(float), 64);
    for (int i = 0; i < r->o.n_threads; i++) {
        r->work[i].scratch = lay(l, (size_t)n_scratch * LS_REDUCE_CHUNK, sizeof(float), 64);
        r->work[i].unpacked = lay(l, n_unpacked * LS_REDUCE_CHUNK, sizeof(float), 64);
    }
}

/* Two messages a part and a child: fragments up, new parameters down. An empty one (of a group without lanes) still
 * says that the group has done with the bucket. Two ranks meet on one level only, so that the tag needs to tell no more
 * than bucket and direction. */
static void describe_job(ls_reducer *r, ls_job *job) {
    int s = job->level, tag = 2 * job->slice.bucket;
    const ls_slice *from = &job->slice;
    for (int c = 0; c < job->n_children; c++) {
        job->fragments[c] = job->params[c] = -1;
        if (c != job->own_child) {
            size_t n_bytes = ls_reducer_fragments_bytes(r, from, r->stages[s].child_fragments[c]);
            job->fragments[c] = ls_exchange_receive(r->slices, job->agents[c], tag, job->received[c], n_bytes);
            job->params[c] = job->packed != NULL
                                 ? ls_exchange_send_some(r->slices, job->agents[c], tag + 1, job->packed)
                                 : ls_exchange_send(r->slices, job->agents[c], tag + 1, r->params + from->first,
                                                    ls_reducer_params_bytes(r, from));
        }
    }
    for (int i = 0; i < job->n_outs; i++) {
        ls_out *out = &job->outs[i];
        size_t n_bytes = ls_reducer_fragments_bytes(r, &out->slice, r->stages[s].n_fragments);
        void *to = out->receiving != NULL ? (void *)out->receiving : r->params + out->slice.first;
        out->fragments = out->params = -1;
        if (out->job < 0) {
            out->fragments = out->slice.sparse >= 0
                                 ? ls_exchange_send_some(r->slices, out->agent, tag, out->sending)
                                 : ls_exchange_send(r->slices, out->agent, tag, out->sending, n_bytes);
            out->params =
                ls_exchange_receive(r->slices, out->agent, tag + 1, to, ls_reducer_params_bytes(r, &out->slice));
        }
    }
}

static void describe_slices(ls_reducer *r) {
    r->slices = ls_exchange_create(r->team);
    for (int s = 0; s <= r->levels.n; s++) {
        for (int i = 0; i < r->stages[s].n_jobs; i++) {
            describe_job(r, &r->stages[s].jobs[i]);
        }
    }
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
    const ls_levels *l = &r->levels;
    r->norms_taken = ls_xcalloc((size_t)r->team->n_nodes, sizeof *r->norms_taken);
    for (int b = 0; b < r->o.n_buckets; b++) {
        for (size_t p = 0; p < l->n_parts[l->n]; p++) {
            int node = r->team->node_of[ls_levels_agent(l, l->n, 0, p, b)];
            r->norms_taken[node] +=
                (size_t)ls_reducer_slice(r, b, l->n, p).n_chunks * (size_t)r->o.n_norms * sizeof(double);
        }
    }
}

static size_t norms_bytes(const ls_reducer *r, int node) {
    return ls_align_up(r->norms_taken[node], LS_EXCHANGE_UNIT);
}

static void describe_mail(ls_reducer *r) {
    r->mail = ls_exchange_create(r->team);
    if (r->team->local == 0 && r->team->n_nodes > 1) {
        ls_news_describe(r, &r->verdicts, TAG_VERDICT, verdict_bytes);
        if (r->o.n_norms > 0) {
            count_norms(r);
            ls_news_describe(r, &r->norms, TAG_NORMS, norms_bytes);
        }
    }
}

static ls_status allocate_private(ls_reducer *r, ls_err *err) {
    size_t n_rows = (size_t)r->o.n_lanes * (size_t)r->o.n_sums;
    for (int s = 1; s <= r->levels.n; s++) {
        for (int i = 0; i < r->stages[s].n_jobs; i++) {
            ls_job *job = &r->stages[s].jobs[i];
            job->fragments = ls_xcalloc((size_t)job->n_children, sizeof *job->fragments);
            job->params = ls_xcalloc((size_t)job->n_children, sizeof *job->params);
            job->received = ls_xcalloc((size_t)job->n_children, sizeof *job->received);
        }
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

ls_status ls_reducer_allocate_cut(ls_reducer *r, ls_err *err) {
    LS_TRY(allocate_private(r, err));
    describe_slices(r);
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
        status = ls_reducer_allocate_cut(r, err);
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

void ls_reducer_forget_cut(ls_reducer *r) {
    ls_exchange_destroy(r->slices);
    ls_exchange_destroy(r->mail);
    r->slices = r->mail = NULL;
    ls_news_free(&r->verdicts);
    ls_news_free(&r->norms);
    r->verdicts = r->norms = (ls_news){0};
    for (int s = 0; s <= r->levels.n; s++) {
        free_jobs(&r->stages[s]);
    }
    void **const blocks[] = {(void **)&r->private_memory, (void **)&r->verdict_rows, (void **)&r->norm_rows,
                             (void **)&r->segment_norms,  (void **)&r->norms_taken,  (void **)&r->chunks,
                             (void **)&r->segment_chunks, (void **)&r->bucket_chunks};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        free(*blocks[i]);
        *blocks[i] = NULL;
    }
}

void ls_reducer_free(ls_reducer *r) {
    ls_exchange_destroy(r->slices);
    ls_exchange_destroy(r->mail);
    ls_exchange_destroy(r->moves);
    ls_news_free(&r->verdicts);
    ls_news_free(&r->norms);
    for (int s = 0; r->stages != NULL && s <= r->levels.n; s++) {
        free_stage(&r->stages[s]);
    }
    ls_levels_release(&r->levels);
    for (int i = 0; r->work != NULL && i < r->o.n_threads; i++) {
        free((void *)r->work[i].leaf);
        free((void *)r->work[i].sum);
    }
    ls_lane_schedule_release(&r->schedule);
    ls_shared_release(&r->shared);
    void *const blocks[] = {r->stages,
                            r->gradients,
                            r->raw,
                            r->work,
                            r->private_memory,
                            r->verdict_rows,
                            r->norm_rows,
                            r->segment_norms,
                            r->norms_taken,
                            r->chunks,
                            r->segment_chunks,
                            r->bucket_chunks,
                            (void *)r->o.buckets,
                            (void *)r->o.segments,
                            (void *)r->o.sparse};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        free(blocks[i]);
    }
    free(r);
}
