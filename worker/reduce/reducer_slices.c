/* Who owns what. Pure: every rank computes the same. */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/reduce/reducer_private.h"

int ls_reducer_helper(const ls_team *t, int owner, int node) {
    int local = owner - t->node_first[t->node_of[owner]];
    return t->node_first[node] + local % (t->node_first[node + 1] - t->node_first[node]);
}

/* Cut into one piece a rank: at grains, or at chunks where chunks have norms. */
ls_slice ls_reducer_slice(const ls_reducer *r, int bucket, int owner) {
    size_t size = (size_t)r->team->size, lo = (size_t)owner, hi = lo + 1;
    ls_slice s = {.bucket = bucket, .owner = owner};
    if (r->o.n_norms > 0) {
        size_t from = (size_t)r->bucket_chunks[bucket], n = (size_t)r->bucket_chunks[bucket + 1] - from;
        s.chunk = (int)(from + n * lo / size);
        s.n_chunks = (int)(from + n * hi / size) - s.chunk;
        s.first = r->chunks[s.chunk];
        s.n = r->chunks[s.chunk + s.n_chunks] - s.first;
    } else {
        size_t from = r->o.buckets[bucket], n = (r->o.buckets[bucket + 1] - from) / LS_REDUCE_GRAIN;
        s.first = from + n * lo / size * LS_REDUCE_GRAIN;
        s.n = from + n * hi / size * LS_REDUCE_GRAIN - s.first;
    }
    return s;
}

/* Chunks of at most LS_REDUCE_CHUNK floats from the start of each segment, whatever the ranks and buckets are. */
static void cut_chunks(ls_reducer *r) {
    int cap = 0, n = 0;
    r->segment_chunks = ls_xcalloc((size_t)r->o.n_segments + 1, sizeof *r->segment_chunks);
    for (int s = 0; s < r->o.n_segments; s++) {
        r->segment_chunks[s] = n;
        for (size_t at = r->o.segments[s]; at < r->o.segments[s + 1]; at += LS_REDUCE_CHUNK) {
            LS_PUSH(r->chunks, n, cap, at);
        }
    }
    r->n_chunks = r->segment_chunks[r->o.n_segments] = n;
    LS_PUSH(r->chunks, n, cap, r->o.n_reduced);
    r->bucket_chunks = ls_xcalloc((size_t)r->o.n_buckets + 1, sizeof *r->bucket_chunks);
    for (int b = 0, c = 0; b <= r->o.n_buckets; b++) {
        while (c < r->n_chunks && r->chunks[c] < r->o.buckets[b]) {
            c++;
        }
        LS_ASSERT(r->chunks[c] == r->o.buckets[b]);
        r->bucket_chunks[b] = c;
    }
}

void ls_reducer_cut(ls_reducer *r) {
    const ls_team *t = r->team;
    int cap_own = 0, cap_help = 0;
    if (r->o.n_norms > 0) {
        cut_chunks(r);
    }
    for (int b = 0; b < r->o.n_buckets; b++) {
        for (int owner = 0; owner < t->size; owner++) {
            ls_slice s = ls_reducer_slice(r, b, owner);
            if (s.n == 0) {
                continue;
            }
            if (owner == t->rank) {
                ls_own own = {.slice = s};
                LS_PUSH(r->own, r->n_own, cap_own, own);
            } else if (t->node_of[owner] != t->node && ls_reducer_helper(t, owner, t->node) == t->rank) {
                ls_help help = {.slice = s};
                LS_PUSH(r->help, r->n_help, cap_help, help);
            }
        }
    }
}
