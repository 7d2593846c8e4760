/* Who adds what. Pure: every rank computes the same. */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/reduce/reducer_private.h"

/* The sparse range that a bucket is of, or -1. */
static int sparse_of(const ls_reducer *r, int bucket) {
    for (int k = 0; k < r->o.n_sparse; k++) {
        const ls_sparse *s = &r->o.sparse[k];
        size_t first = r->scheme->buckets[bucket], last = r->scheme->buckets[bucket + 1], end = s->first + s->n;
        if (first < last && first < end && last > s->first) {
            LS_ASSERT(first >= s->first && last <= end && (first - s->first) % LS_REDUCE_CHUNK == 0);
            return k;
        }
    }
    return -1;
}

/* Parts of a bucket without norms begin at multiples of so many floats from its start. */
static size_t item_floats(const ls_reducer *r, int sparse, size_t n) {
    const ls_levels *l = &r->scheme->levels;
    const size_t least = r->scheme->cut.least_floats;
    if (sparse >= 0) {
        return LS_REDUCE_CHUNK;
    }
    if (l->n == 0 || n >= l->n_parts[l->n] * least) {
        return LS_REDUCE_GRAIN;
    }
    size_t count = n / least > 0 ? n / least : 1, item = ls_align_up((n + count - 1) / count, LS_REDUCE_GRAIN);
    return item > 0 ? item : LS_REDUCE_GRAIN;
}

static size_t n_items(const ls_reducer *r, int bucket) {
    const ls_scheme *c = r->scheme;
    if (r->o.n_norms > 0) {
        return (size_t)(c->bucket_chunks[bucket + 1] - c->bucket_chunks[bucket]);
    }
    size_t n = c->buckets[bucket + 1] - c->buckets[bucket], item = item_floats(r, sparse_of(r, bucket), n);
    return (n + item - 1) / item;
}

ls_slice ls_reducer_slice(const ls_reducer *r, int bucket, int level, size_t part) {
    const ls_scheme *c = r->scheme;
    size_t lo, hi;
    ls_slice s = {.bucket = bucket, .sparse = sparse_of(r, bucket)};
    ls_levels_cut(&c->levels, level, part, n_items(r, bucket), &lo, &hi);
    if (r->o.n_norms > 0) {
        size_t from = (size_t)c->bucket_chunks[bucket];
        s.chunk = (int)(from + lo);
        s.n_chunks = (int)(hi - lo);
        s.first = r->chunks[from + lo];
        s.n = r->chunks[from + hi] - s.first;
    } else {
        size_t from = c->buckets[bucket], n = c->buckets[bucket + 1] - from, item = item_floats(r, s.sparse, n);
        s.first = from + lo * item;
        s.n = hi == lo ? 0 : (hi * item < n ? hi * item : n) - lo * item;
    }
    return s;
}

int ls_reducer_agent(const ls_reducer *r, int bucket, int level, int group, size_t part) {
    const ls_levels *l = &r->scheme->levels;
    return ls_levels_agent(l, level, group, part, bucket, n_items(r, bucket) < l->n_parts[l->n]);
}

int ls_reducer_fragments(const ls_reducer *r, int level, int group, ls_branch *out) {
    const ls_levels *l = &r->scheme->levels;
    ls_branch unused[LS_MAX_FRAGMENTS];
    int first = ls_lanes_first(r->o.n_lanes, l->n_ranks, ls_levels_first_rank(l, level, group));
    int last = ls_lanes_first(r->o.n_lanes, l->n_ranks, ls_levels_first_rank(l, level, group + 1));
    return ls_lanes_fragments(r->o.n_lanes, first, last, out != NULL ? out : unused);
}

/* Chunks of at most LS_REDUCE_CHUNK floats from the start of each segment, whatever the ranks and buckets are. */
void ls_reducer_cut_chunks(ls_reducer *r) {
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
}

/* The chunk that begins at `at`, from chunk c on. */
static int chunk_at(const ls_reducer *r, int c, size_t at) {
    while (c < r->n_chunks && r->chunks[c] < at) {
        c++;
    }
    LS_ASSERT(r->chunks[c] == at);
    return c;
}

/* Where piece i of k of one of the caller's buckets begins. */
static size_t piece_begin(const ls_reducer *r, size_t from, size_t n, int *chunk, size_t i, size_t k) {
    if (r->o.n_norms > 0) {
        int first = *chunk = chunk_at(r, *chunk, from), last = chunk_at(r, first, from + n);
        return r->chunks[(size_t)first + (size_t)(last - first) * i / k];
    }
    return i == k ? from + n : from + n / LS_REDUCE_CHUNK * i / k * LS_REDUCE_CHUNK;
}

/* The caller's buckets, those cut that are long. */
static void cut_buckets(ls_reducer *r) {
    ls_scheme *c = r->scheme;
    const size_t parts = c->levels.n_parts[c->levels.n];
    int cap = 0, cap_given = 0, n = 0, chunk = 0;
    c->given_end = ls_xcalloc((size_t)c->cut.n_buckets + 1, sizeof *c->given_end);
    for (int g = 0; g < c->cut.n_buckets; g++) {
        size_t from = c->cut.buckets[g], floats = c->cut.buckets[g + 1] - from, k = 1;
        if (c->levels.n > 0 && floats > parts * c->cut.most_floats) {
            k = (floats + parts * c->cut.most_floats - 1) / (parts * c->cut.most_floats);
        }
        for (size_t i = 0; i < k; i++) {
            LS_PUSH(c->buckets, n, cap, piece_begin(r, from, floats, &chunk, i, k));
            LS_PUSH(c->given, c->n_buckets, cap_given, g);
        }
        c->given_end[g + 1] = c->n_buckets;
    }
    LS_PUSH(c->buckets, n, cap, r->o.n_reduced);
    c->bucket_chunks = ls_xcalloc((size_t)c->n_buckets + 1, sizeof *c->bucket_chunks);
    chunk = 0;
    for (int b = 0; r->o.n_norms > 0 && b <= c->n_buckets; b++) {
        c->bucket_chunks[b] = chunk = chunk_at(r, chunk, c->buckets[b]);
    }
}

/* The parts of the level above that a job's part is cut into. */
static void cut_outs(const ls_reducer *r, ls_job *job, size_t part) {
    const ls_levels *l = &r->scheme->levels;
    int up = job->level + 1, group = ls_levels_group(l, up, r->team->rank), cap = 0;
    for (int d = 0; d < l->width[up]; d++) {
        size_t q = part * (size_t)l->width[up] + (size_t)d;
        ls_out out = {.slice = ls_reducer_slice(r, job->slice.bucket, up, q), .job = -1};
        if (out.slice.n > 0) {
            out.agent = ls_reducer_agent(r, job->slice.bucket, up, group, q);
            LS_PUSH(job->outs, job->n_outs, cap, out);
        }
    }
}

/* The agents of a job's children; the own child's part is an out of a job of the level below. */
static void cut_children(ls_reducer *r, ls_job *job, int index, size_t part) {
    const ls_levels *l = &r->scheme->levels;
    int group = ls_levels_group(l, job->level, r->team->rank), first = l->first[job->level][group];
    job->n_children = l->first[job->level][group + 1] - first;
    job->agents = ls_xcalloc((size_t)job->n_children, sizeof *job->agents);
    job->own_child = ls_levels_group(l, job->level - 1, r->team->rank) - first;
    for (int c = 0; c < job->n_children; c++) {
        job->agents[c] =
            ls_reducer_agent(r, job->slice.bucket, job->level - 1, first + c, part / (size_t)l->width[job->level]);
    }
    LS_ASSERT(job->agents[job->own_child] == r->team->rank);
    const ls_stage *below = &r->scheme->stages[job->level - 1];
    for (int j = 0; j < below->n_jobs; j++) {
        for (int o = 0; below->jobs[j].slice.bucket == job->slice.bucket && o < below->jobs[j].n_outs; o++) {
            ls_out *out = &below->jobs[j].outs[o];
            if (out->agent == r->team->rank && out->slice.first == job->slice.first) {
                job->own_job = j;
                out->job = index;
            }
        }
    }
    LS_ASSERT(job->own_job >= 0);
}

void ls_reducer_cut(ls_reducer *r) {
    const ls_team *t = r->team;
    const ls_levels *l = &r->scheme->levels;
    cut_buckets(r);
    r->scheme->stages = ls_xcalloc((size_t)l->n + 1, sizeof *r->scheme->stages);
    for (int s = 0; s <= l->n; s++) {
        ls_stage *stage = &r->scheme->stages[s];
        int group = ls_levels_group(l, s, t->rank), cap = 0;
        for (int b = 0; b < r->scheme->n_buckets; b++) {
            for (size_t p = 0; p < l->n_parts[s]; p++) {
                if (ls_reducer_agent(r, b, s, group, p) != t->rank) {
                    continue;
                }
                ls_job job = {.slice = ls_reducer_slice(r, b, s, p), .level = s, .own_job = -1};
                if (job.slice.n == 0) {
                    continue;
                }
                if (s > 0) {
                    cut_children(r, &job, stage->n_jobs, p);
                }
                if (!ls_reducer_is_top(r, s)) {
                    cut_outs(r, &job, p);
                }
                LS_PUSH(stage->jobs, stage->n_jobs, cap, job);
            }
        }
    }
}
