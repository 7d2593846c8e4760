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

/* The sums: this node's fragments, and all that an owner adds. */
static void compile_sums(ls_reducer *r, const ls_lane_schedule *schedules) {
    const ls_team *t = r->team;
    int n = 0, n_all = 0;
    const size_t n_lanes = (size_t)r->o.n_lanes;
    ls_branch *mine = ls_xcalloc(n_lanes, sizeof *mine), *all = ls_xcalloc(n_lanes, sizeof *all);
    r->raw = ls_xcalloc(n_lanes, sizeof *r->raw);
    for (int l = 0; l < t->n_local; l++) {
        for (int f = 0; f < schedules[l].n_fragments; f++) {
            mine[n] = schedules[l].fragments[f].node;
            r->raw[n++] = r->gradients[l] + (size_t)schedules[l].fragments[f].slot * r->stride;
        }
    }
    ls_sum_init(&r->node, r->o.n_lanes, mine, n);
    r->node_fragments = ls_xcalloc((size_t)t->n_nodes, sizeof *r->node_fragments);
    for (int m = 0; m < t->n_nodes; m++) {
        ls_branch nodes[LS_MAX_FRAGMENTS];
        int first = ls_lanes_first(r->o.n_lanes, t->size, t->node_first[m]);
        int last = ls_lanes_first(r->o.n_lanes, t->size, t->node_first[m + 1]);
        int k = ls_lanes_fragments(r->o.n_lanes, first, last, nodes);
        r->node_fragments[m] = k;
        if (m == t->node) {
            LS_ASSERT(k == r->node.n_out);
            memcpy(all + n_all, mine, (size_t)n * sizeof *all);
            n_all += n;
        } else {
            memcpy(all + n_all, nodes, (size_t)k * sizeof *all);
            n_all += k;
        }
    }
    ls_sum_init(&r->root, r->o.n_lanes, all, n_all);
    LS_ASSERT(r->root.n_out == 1);
    r->work = ls_xcalloc((size_t)r->o.n_threads, sizeof *r->work);
    for (int i = 0; i < r->o.n_threads; i++) {
        r->work[i].leaf = ls_xcalloc(n_lanes, sizeof *r->work[i].leaf);
        r->work[i].sum = ls_xcalloc(n_lanes, sizeof *r->work[i].sum);
        r->work[i].non_finite_at = SIZE_MAX;
    }
    free(mine);
    free(all);
}

/* Buffers of this rank alone; `first` makes the lists of pointers as well. */
static void lay_private(ls_reducer *r, layout *l) {
    const ls_team *t = r->team;
    size_t n_scratch = (size_t)(r->root.n_scratch > r->node.n_scratch ? r->root.n_scratch : r->node.n_scratch);
    for (int i = 0; i < r->o.n_threads; i++) {
        r->work[i].scratch = lay(l, n_scratch * LS_REDUCE_CHUNK, sizeof(float), 64);
    }
    for (int i = 0; i < r->n_own; i++) {
        ls_own *own = &r->own[i];
        for (int m = 0; m < t->n_nodes; m++) {
            own->received[m] = m == t->node ? NULL : lay(l, (size_t)r->node_fragments[m] * own->slice.n, 4, 64);
        }
        own->reduced = r->o.n_norms > 0 ? lay(l, own->slice.n, sizeof(float), 64) : NULL;
    }
    for (int i = 0; i < r->n_help; i++) {
        r->help[i].sending = lay(l, (size_t)r->node_fragments[t->node] * r->help[i].slice.n, sizeof(float), 64);
    }
}

/* A message of n floats. An empty one (of a node without lanes) still says that the node has done with the bucket. */
static size_t bytes_of(size_t n_floats) {
    return n_floats * sizeof(float);
}

/* Two messages a slice and a pair of nodes; the tag tells bucket and direction. */
static void describe_slices(ls_reducer *r) {
    const ls_team *t = r->team;
    r->slices = ls_exchange_create(r->team);
    for (int i = 0; i < r->n_own; i++) {
        ls_own *own = &r->own[i];
        int tag = 2 * own->slice.bucket;
        for (int m = 0; m < t->n_nodes; m++) {
            own->fragments[m] = own->params[m] = -1;
            if (m != t->node) {
                int helper = ls_reducer_helper(t, t->rank, m);
                own->fragments[m] = ls_exchange_receive(r->slices, helper, tag, own->received[m],
                                                        bytes_of((size_t)r->node_fragments[m] * own->slice.n));
                own->params[m] =
                    ls_exchange_send(r->slices, helper, tag + 1, r->params + own->slice.first, bytes_of(own->slice.n));
            }
        }
    }
    for (int i = 0; i < r->n_help; i++) {
        ls_help *help = &r->help[i];
        int tag = 2 * help->slice.bucket, owner = help->slice.owner;
        help->fragments = ls_exchange_send(r->slices, owner, tag, help->sending,
                                           bytes_of((size_t)r->node_fragments[t->node] * help->slice.n));
        help->params =
            ls_exchange_receive(r->slices, owner, tag + 1, r->params + help->slice.first, bytes_of(help->slice.n));
    }
}

/* News between the first ranks of nodes: n_bytes(m) from node m. */
static void describe_news(ls_reducer *r, ls_news *news, int tag, size_t (*n_bytes)(const ls_reducer *r, int node)) {
    const ls_team *t = r->team;
    size_t n = (size_t)t->n_nodes;
    news->send = ls_xcalloc(n, sizeof *news->send);
    news->receive = ls_xcalloc(n, sizeof *news->receive);
    news->in = ls_xcalloc(n, sizeof *news->in);
    news->out = ls_xcalloc(1, n_bytes(r, t->node));
    for (int m = 0; m < t->n_nodes; m++) {
        if (m != t->node) {
            news->in[m] = ls_xcalloc(1, n_bytes(r, m));
            news->send[m] = ls_exchange_send(r->mail, t->node_first[m], tag, news->out, n_bytes(r, t->node));
            news->receive[m] = ls_exchange_receive(r->mail, t->node_first[m], tag, news->in[m], n_bytes(r, m));
        }
    }
}

static void free_news(const ls_reducer *r, ls_news *news) {
    for (int m = 0; news->in != NULL && m < r->team->n_nodes; m++) {
        free(news->in[m]);
    }
    free(news->send);
    free(news->receive);
    free(news->out);
    free(news->in);
}

static size_t verdict_bytes(const ls_reducer *r, int node) {
    const ls_team *t = r->team;
    int first = ls_lanes_first(r->o.n_lanes, t->size, t->node_first[node]);
    int last = ls_lanes_first(r->o.n_lanes, t->size, t->node_first[node + 1]);
    return sizeof(ls_say) +
           ls_align_up((size_t)(last - first) * (size_t)r->o.n_sums * sizeof(double), LS_EXCHANGE_UNIT);
}

static size_t norms_bytes(const ls_reducer *r, int node) {
    size_t n_chunks = 0;
    for (int b = 0; b < r->o.n_buckets; b++) {
        for (int owner = r->team->node_first[node]; owner < r->team->node_first[node + 1]; owner++) {
            n_chunks += (size_t)ls_reducer_slice(r, b, owner).n_chunks;
        }
    }
    return ls_align_up(n_chunks * (size_t)r->o.n_norms * sizeof(double), LS_EXCHANGE_UNIT);
}

static void describe_mail(ls_reducer *r) {
    r->mail = ls_exchange_create(r->team);
    if (r->team->local == 0 && r->team->n_nodes > 1) {
        describe_news(r, &r->verdicts, TAG_VERDICT, verdict_bytes);
        if (r->o.n_norms > 0) {
            describe_news(r, &r->norms, TAG_NORMS, norms_bytes);
        }
    }
}

static ls_status allocate_private(ls_reducer *r, ls_err *err) {
    size_t n_nodes = (size_t)r->team->n_nodes, n_rows = (size_t)r->o.n_lanes * (size_t)r->o.n_sums;
    for (int i = 0; i < r->n_own; i++) {
        r->own[i].fragments = ls_xcalloc(n_nodes, sizeof(int));
        r->own[i].params = ls_xcalloc(n_nodes, sizeof(int));
        r->own[i].received = ls_xcalloc(n_nodes, sizeof(float *));
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
    r->stride = ls_align_up(r->o.n_reduced, LS_REDUCE_GRAIN) + 5 * LS_REDUCE_GRAIN;

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
        status = allocate_private(r, err);
    }
    if (status == LS_OK) {
        describe_slices(r);
        describe_mail(r);
        r->moves = ls_exchange_create(r->team);
    }
    for (int i = 0; i < t->n_local; i++) {
        ls_lane_schedule_release(&schedules[i]);
    }
    free(schedules);
    free(at_once);
    return status;
}

void ls_reducer_free(ls_reducer *r) {
    ls_exchange_destroy(r->slices);
    ls_exchange_destroy(r->mail);
    ls_exchange_destroy(r->moves);
    free_news(r, &r->verdicts);
    free_news(r, &r->norms);
    for (int i = 0; i < r->n_own; i++) {
        free(r->own[i].fragments);
        free(r->own[i].params);
        free(r->own[i].received);
    }
    for (int i = 0; r->work != NULL && i < r->o.n_threads; i++) {
        free((void *)r->work[i].leaf);
        free((void *)r->work[i].sum);
    }
    ls_sum_release(&r->root);
    ls_sum_release(&r->node);
    ls_lane_schedule_release(&r->schedule);
    ls_shared_release(&r->shared);
    void *const blocks[] = {
        r->own,    r->help,           r->node_fragments, r->gradients,         (void *)r->raw,
        r->work,   r->private_memory, r->verdict_rows,   r->norm_rows,         r->segment_norms,
        r->chunks, r->segment_chunks, r->bucket_chunks,  (void *)r->o.buckets, (void *)r->o.segments};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        free(blocks[i]);
    }
    free(r);
}
