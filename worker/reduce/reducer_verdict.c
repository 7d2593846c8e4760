/* What all ranks must know of all: verdicts and norms. Inside a node through shared memory, between nodes as news of
 * their first ranks. */
#include <string.h>

#include "common/memory.h"
#include "worker/reduce/reducer_private.h"

/* While this rank waits in shared memory, what it has sent to other nodes must still leave. */
static void pause_and_poke(ls_reducer *r, ls_wait *w) {
    if (r->team->n_nodes > 1) {
        ls_exchange_poke(r->scheme->slices);
    }
    ls_wait_pause(w);
}

static void wait_lines(ls_reducer *r, size_t offset, uint64_t goal) {
    const ls_team *t = r->team;
    ls_wait w = ls_wait_begin(t->progress, t->oversubscribed);
    w.account = &r->times.late_ns;
    for (int l = 0; l < t->n_local; l++) {
        const _Atomic uint64_t *counter = (const void *)((const char *)&r->lines[l] + offset);
        ls_wait_for(&w, t->node_first[t->node] + l, false);
        while (atomic_load_explicit(counter, memory_order_acquire) < goal) {
            pause_and_poke(r, &w);
        }
    }
    ls_wait_end(&w);
}

static void wait_head(ls_reducer *r, _Atomic uint64_t *counter, uint64_t goal) {
    ls_wait w = ls_wait_begin(r->team->progress, r->team->oversubscribed);
    w.account = &r->times.network_ns;
    ls_wait_for(&w, r->team->node_first[r->team->node], true);
    while (atomic_load_explicit(counter, memory_order_acquire) < goal) {
        pause_and_poke(r, &w);
    }
    ls_wait_end(&w);
}

/* ---- verdicts ---- */

static double *rows(ls_reducer *r, int parity, int lane) {
    return r->lane_sums + ((size_t)parity * (size_t)r->o.n_lanes + (size_t)lane) * (size_t)r->o.n_sums;
}

double *ls_reducer_lane_sums(ls_reducer *r, int lane) {
    LS_ASSERT(lane >= r->schedule.first && lane < r->schedule.last);
    return rows(r, (int)((r->verdicts_done + 1) & 1), lane);
}

/* Two groups of ranks: the digest of the lowest rank of both, and the lowest that differs from that. */
static void combine_digests(ls_say *into, const ls_say *say) {
    const ls_say first = into->digest_rank < say->digest_rank ? *into : *say;
    const ls_say second = into->digest_rank < say->digest_rank ? *say : *into;
    int32_t odd =
        second.digest_rank == INT32_MAX || second.digest == first.digest ? second.odd_rank : second.digest_rank;
    into->digest = first.digest;
    into->digest_rank = first.digest_rank;
    into->odd_rank = first.odd_rank < odd ? first.odd_rank : odd;
}

static void combine(ls_say *into, const ls_say *say) {
    combine_digests(into, say);
    into->flags |= say->flags;
    if (say->non_finite_at < into->non_finite_at) {
        into->non_finite_at = say->non_finite_at;
    }
    if (say->status > into->status || (say->status == into->status && say->status_rank < into->status_rank)) {
        into->status = say->status;
        into->status_rank = say->status_rank;
    }
}

static const ls_say nothing_said = {
    .non_finite_at = UINT64_MAX, .status = LS_OK, .digest_rank = INT32_MAX, .odd_rank = INT32_MAX};

static ls_say combine_node(const ls_reducer *r, int parity) {
    ls_say all = nothing_said;
    for (int l = 0; l < r->team->n_local; l++) {
        combine(&all, &r->lines[l].say[parity]);
    }
    return all;
}

/* A node's lanes in the table of a verdict, and how many bytes their sums are. */
static double *node_rows(ls_reducer *r, int parity, int node, size_t *n_bytes) {
    const ls_team *t = r->team;
    int first = ls_lanes_first(r->o.n_lanes, t->size, t->node_first[node]);
    int last = ls_lanes_first(r->o.n_lanes, t->size, t->node_first[node + 1]);
    *n_bytes = (size_t)(last - first) * (size_t)r->o.n_sums * sizeof(double);
    return rows(r, parity, first);
}

/* The first rank's part: tells the other nodes what this one says, and this one what they say. */
static void hear_nodes(ls_reducer *r, int parity) {
    const ls_team *t = r->team;
    size_t n_bytes;
    ls_say say = combine_node(r, parity);
    const double *mine = node_rows(r, parity, t->node, &n_bytes);
    char *out = r->verdicts.table + r->verdicts.at[t->node];
    memcpy(out, &say, sizeof say);
    memcpy(out + sizeof say, mine, n_bytes);
    ls_news_swap(r, &r->verdicts);
    for (int m = 0; m < t->n_nodes; m++) {
        if (m != t->node) {
            const char *in = r->verdicts.table + r->verdicts.at[m];
            double *theirs = node_rows(r, parity, m, &n_bytes);
            memcpy(&r->node_says[parity * t->n_nodes + m], in, sizeof(ls_say));
            memcpy(theirs, in + sizeof(ls_say), n_bytes);
        }
    }
}

void ls_reducer_say_digest(ls_reducer *r, uint64_t digest) {
    r->digest = digest;
}

static size_t take_non_finite(ls_reducer *r) {
    size_t least = SIZE_MAX;
    for (int i = 0; i < r->o.n_threads; i++) {
        least = r->work[i].non_finite_at < least ? r->work[i].non_finite_at : least;
        r->work[i].non_finite_at = SIZE_MAX;
    }
    return least;
}

void ls_reducer_exchange(ls_reducer *r, unsigned flags, ls_status status, ls_reducer_verdict *verdict) {
    const ls_team *t = r->team;
    uint64_t number = ++r->verdicts_done;
    int parity = (int)(number & 1);
    ls_line *line = ls_reducer_line(r);
    line->say[parity] = (ls_say){.flags = flags,
                                 .non_finite_at = take_non_finite(r),
                                 .digest = r->digest,
                                 .status = (int32_t)status,
                                 .status_rank = t->rank,
                                 .digest_rank = t->rank,
                                 .odd_rank = INT32_MAX};
    r->digest = 0;
    atomic_store_explicit(&line->posted, number, memory_order_release);
    wait_lines(r, offsetof(ls_line, posted), number);

    ls_say all = combine_node(r, parity);
    if (t->n_nodes > 1) {
        if (t->local == 0) {
            hear_nodes(r, parity);
            atomic_store_explicit(&r->head->heard, number, memory_order_release);
        }
        wait_head(r, &r->head->heard, number);
        for (int m = 0; m < t->n_nodes; m++) {
            if (m != t->node) {
                combine(&all, &r->node_says[parity * t->n_nodes + m]);
            }
        }
    }
    size_t n_bytes = (size_t)r->o.n_sums * sizeof(double);
    if (n_bytes > 0) {
        memcpy(r->verdict_rows, rows(r, parity, 0), (size_t)r->o.n_lanes * n_bytes);
        ls_lanes_sum_rows(r->verdict_rows, r->o.n_lanes, r->o.n_sums);
    }
    /* Nobody reads the other parity any more: all have come to this verdict. */
    if (r->schedule.last > r->schedule.first) {
        memset(rows(r, 1 - parity, r->schedule.first), 0, (size_t)(r->schedule.last - r->schedule.first) * n_bytes);
    }
    *verdict = (ls_reducer_verdict){.status = (ls_status)all.status,
                                    .status_rank = all.status_rank,
                                    .flags = (unsigned)all.flags,
                                    .odd_rank = all.odd_rank == INT32_MAX ? -1 : all.odd_rank,
                                    .non_finite_at = (size_t)all.non_finite_at,
                                    .sums = r->verdict_rows};
    ls_progress_alive(t->progress);
}

/* ---- norms ---- */

/* Copies the norms of all nodes' chunks but this one's from their messages into the table; or with `out`, this one's
 * from the table into its message. A node's message has the parts that its ranks own, bucket by bucket. */
static void copy_norms(ls_reducer *r, bool out) {
    const ls_team *t = r->team;
    const ls_levels *l = &r->scheme->levels;
    size_t chunk_bytes = (size_t)r->o.n_norms * sizeof(double);
    memset(r->scheme->norms_taken, 0, (size_t)t->n_nodes * sizeof *r->scheme->norms_taken);
    for (int b = 0; b < r->scheme->n_buckets; b++) {
        for (size_t p = 0; p < l->n_parts[l->n]; p++) {
            int node = t->node_of[ls_reducer_agent(r, b, l->n, 0, p)];
            if ((node == t->node) != out) {
                continue;
            }
            ls_slice s = ls_reducer_slice(r, b, l->n, p);
            char *message = r->scheme->norms.table + r->scheme->norms.at[node] + r->scheme->norms_taken[node];
            char *at = (char *)(r->chunk_norms + (size_t)s.chunk * (size_t)r->o.n_norms);
            size_t n_bytes = (size_t)s.n_chunks * chunk_bytes;
            memcpy(out ? message : at, out ? at : message, n_bytes);
            r->scheme->norms_taken[node] += n_bytes;
        }
    }
}

void ls_reducer_share_norms(ls_reducer *r) {
    const ls_team *t = r->team;
    int k = r->o.n_norms;
    atomic_store_explicit(&ls_reducer_line(r)->summed, r->steps, memory_order_release);
    wait_lines(r, offsetof(ls_line, summed), r->steps);
    if (t->n_nodes > 1) {
        if (t->local == 0) {
            copy_norms(r, true);
            ls_news_swap(r, &r->scheme->norms);
            copy_norms(r, false);
            atomic_store_explicit(&r->head->norms, r->steps, memory_order_release);
        }
        wait_head(r, &r->head->norms, r->steps);
    }
    memcpy(r->norm_rows, r->chunk_norms, (size_t)r->n_chunks * (size_t)k * sizeof(double));
    double *segment = r->segment_norms, *total = segment + (size_t)(r->o.n_segments + 1) * (size_t)k;
    for (int s = 0; s < r->o.n_segments; s++) {
        double *first = r->norm_rows + (size_t)r->segment_chunks[s] * (size_t)k;
        int n = r->segment_chunks[s + 1] - r->segment_chunks[s];
        ls_lanes_sum_rows(first, n, k);
        for (int i = 0; i < k; i++) {
            segment[s * k + i] = n > 0 ? first[i] : 0;
        }
    }
    memcpy(total, segment, (size_t)r->o.n_segments * (size_t)k * sizeof(double));
    ls_lanes_sum_rows(total, r->o.n_segments, k);
    r->o.norms_ready(r->o.context, segment, total);
}
