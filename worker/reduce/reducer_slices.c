/* Who adds what. Pure: every rank computes the same. */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/reduce/reducer_private.h"

/* The sparse range that a bucket is of, or -1. */
static int sparse_of(const ls_reducer *r, int bucket) {
    for (int k = 0; k < r->o.n_sparse; k++) {
        const ls_sparse *s = &r->o.sparse[k];
        size_t first = r->o.buckets[bucket], last = r->o.buckets[bucket + 1], end = s->first + s->n;
        if (first < last && first < end && last > s->first) {
            LS_ASSERT(first >= s->first && last <= end && (first - s->first) % LS_REDUCE_CHUNK == 0);
            return k;
        }
    }
    return -1;
}

/* Cut at grains, or at chunks where chunks have norms or words. */
ls_slice ls_reducer_slice(const ls_reducer *r, int bucket, int level, size_t part) {
    size_t lo, hi;
    ls_slice s = {.bucket = bucket, .sparse = sparse_of(r, bucket)};
    if (r->o.n_norms > 0) {
        size_t from = (size_t)r->bucket_chunks[bucket], n = (size_t)r->bucket_chunks[bucket + 1] - from;
        ls_levels_cut(&r->levels, level, part, n, &lo, &hi);
        s.chunk = (int)(from + lo);
        s.n_chunks = (int)(hi - lo);
        s.first = r->chunks[from + lo];
        s.n = r->chunks[from + hi] - s.first;
    } else if (s.sparse >= 0) {
        size_t from = r->o.buckets[bucket], last = r->o.buckets[bucket + 1];
        ls_levels_cut(&r->levels, level, part, (last - from + LS_REDUCE_CHUNK - 1) / LS_REDUCE_CHUNK, &lo, &hi);
        s.first = from + lo * LS_REDUCE_CHUNK;
        s.n = hi == lo ? 0 : (from + hi * LS_REDUCE_CHUNK < last ? from + hi * LS_REDUCE_CHUNK : last) - s.first;
    } else {
        size_t from = r->o.buckets[bucket], n = (r->o.buckets[bucket + 1] - from) / LS_REDUCE_GRAIN;
        ls_levels_cut(&r->levels, level, part, n, &lo, &hi);
        s.first = from + lo * LS_REDUCE_GRAIN;
        s.n = (hi - lo) * LS_REDUCE_GRAIN;
    }
    return s;
}

int ls_reducer_fragments(const ls_reducer *r, int level, int group, ls_branch *out) {
    const ls_levels *l = &r->levels;
    ls_branch unused[LS_MAX_FRAGMENTS];
    int first = ls_lanes_first(r->o.n_lanes, l->n_ranks, ls_levels_first_rank(l, level, group));
    int last = ls_lanes_first(r->o.n_lanes, l->n_ranks, ls_levels_first_rank(l, level, group + 1));
    return ls_lanes_fragments(r->o.n_lanes, first, last, out != NULL ? out : unused);
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

/* The parts of the level above that a job's part is cut into. */
static void cut_outs(const ls_reducer *r, ls_job *job, size_t part) {
    const ls_levels *l = &r->levels;
    int up = job->level + 1, group = ls_levels_group(l, up, r->team->rank), cap = 0;
    for (int d = 0; d < l->width[up]; d++) {
        size_t q = part * (size_t)l->width[up] + (size_t)d;
        ls_out out = {.slice = ls_reducer_slice(r, job->slice.bucket, up, q), .job = -1};
        if (out.slice.n > 0) {
            out.agent = ls_levels_agent(l, up, group, q, job->slice.bucket);
            LS_PUSH(job->outs, job->n_outs, cap, out);
        }
    }
}

/* The agents of a job's children; the own child's part is an out of a job of the level below. */
static void cut_children(ls_reducer *r, ls_job *job, int index, size_t part) {
    const ls_levels *l = &r->levels;
    int group = ls_levels_group(l, job->level, r->team->rank), first = l->first[job->level][group];
    job->n_children = l->first[job->level][group + 1] - first;
    job->agents = ls_xcalloc((size_t)job->n_children, sizeof *job->agents);
    job->own_child = ls_levels_group(l, job->level - 1, r->team->rank) - first;
    for (int c = 0; c < job->n_children; c++) {
        job->agents[c] =
            ls_levels_agent(l, job->level - 1, first + c, part / (size_t)l->width[job->level], job->slice.bucket);
    }
    LS_ASSERT(job->agents[job->own_child] == r->team->rank);
    const ls_stage *below = &r->stages[job->level - 1];
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
    const ls_levels *l = &r->levels;
    if (r->o.n_norms > 0) {
        cut_chunks(r);
    }
    r->stages = r->stages != NULL ? r->stages : ls_xcalloc((size_t)l->n + 1, sizeof *r->stages);
    for (int s = 0; s <= l->n; s++) {
        ls_stage *stage = &r->stages[s];
        int group = ls_levels_group(l, s, t->rank), cap = 0;
        for (int b = 0; b < r->o.n_buckets; b++) {
            for (size_t p = 0; p < l->n_parts[s]; p++) {
                if (ls_levels_agent(l, s, group, p, b) != t->rank) {
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
