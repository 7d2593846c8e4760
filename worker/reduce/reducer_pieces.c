/* Adding: slices piece by piece, from this node's gradient slots and from what was received; steps c and d. */
#include <omp.h>
#include <string.h>

#include "common/clock.h"
#include "common/memory.h"
#include "common/trace.h"
#include "worker/reduce/reducer_private.h"

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

size_t ls_reducer_n_pieces(const ls_reducer *r, const ls_slice *s) {
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

/* Work on piece i of a slice, floats [first, first + n), by one thread. */
typedef void (*piece_work)(ls_reducer *r, ls_work *w, void *item, size_t i, size_t first, size_t n);

static void some_pieces(ls_reducer *r, ls_work *w, const ls_slice *s, void *item, piece_work one, size_t from,
                        size_t to) {
    for (size_t i = from; i < to; i++) {
        size_t n, first = piece(r, s, i, &n);
        one(r, w, item, i, first, n);
    }
}

/* Calls `one` for every piece of a slice, by all threads where it is worth while. Between operators of lanes that run
 * side by side the threads are busy: libgomp would give a region there one thread, and take its team from the heap. */
static void each_piece_now(ls_reducer *r, const ls_slice *s, void *item, piece_work one) {
    size_t pieces = ls_reducer_n_pieces(r, s), parts = (size_t)r->o.n_threads;
    if (parts == 1 || pieces < 2 * parts || omp_in_parallel()) {
        some_pieces(r, &r->work[0], s, item, one, 0, pieces);
        return;
    }
#pragma omp parallel for schedule(static, 1) num_threads(r->o.n_threads)
    for (size_t t = 0; t < parts; t++) {
        some_pieces(r, &r->work[t], s, item, one, pieces * t / parts, pieces * (t + 1) / parts);
    }
}

static void each_piece(ls_reducer *r, const ls_slice *s, void *item, piece_work one) {
    if (r->idle != NULL) {
        ls_wait_reset(r->idle); /* what follows is no waiting */
    }
    const int64_t start = ls_now_ns();
    each_piece_now(r, s, item, one);
    const int64_t end = ls_now_ns();
    r->times.work_ns += end - start;
    ls_trace_event("bucket", "slice of bucket", NULL, s->bucket, start, end);
}

/* ---- blocks of sparse slices ---- */

/* The next run of blocks in *blocks, which it leaves: floats [at, at + count) of a piece of n. */
static bool next_run(uint64_t *blocks, size_t n, size_t *at, size_t *count) {
    if (*blocks == 0) {
        return false;
    }
    int first = __builtin_ctzll(*blocks);
    uint64_t rest = ~(*blocks >> first);
    int length = rest == 0 ? 64 - first : __builtin_ctzll(rest);
    length = length > 64 - first ? 64 - first : length;
    *blocks = first + length >= 64 ? 0 : *blocks & (~(uint64_t)0 << (first + length));
    *at = (size_t)first * LS_REDUCE_BLOCK;
    *count = smaller((size_t)length * LS_REDUCE_BLOCK, n - smaller(*at, n));
    return true;
}

/* Where half of the blocks are used, leaving out the others is not worth the trouble. */
static bool worth_apart(uint64_t blocks) {
    return __builtin_popcountll(blocks) <= 32;
}

static uint64_t *marks_of(float *slot, const ls_sparse *sparse, size_t first) {
    return (uint64_t *)(void *)(slot + sparse->marks) + (first - sparse->first) / LS_REDUCE_CHUNK;
}

/* Blocks of the piece at `first` that any of this node's fragments has. */
static uint64_t blocks_here(const ls_reducer *r, const ls_sparse *sparse, size_t first) {
    uint64_t blocks = 0;
    for (int i = 0; i < r->n_raw; i++) {
        blocks |= *marks_of(r->raw[i], sparse, first);
    }
    return blocks;
}

static size_t index_of(const ls_slice *s, size_t first) {
    return (first - s->first) / LS_REDUCE_CHUNK;
}

/* Blocks of the piece at `first` that anything that the job adds has. */
static uint64_t blocks_of(const ls_reducer *r, const ls_job *job, size_t first) {
    const ls_sparse *sparse = &r->o.sparse[job->slice.sparse];
    uint64_t blocks = job->level == 0 ? blocks_here(r, sparse, first) : 0;
    for (int c = 0; c < job->n_children; c++) {
        blocks |= job->received[c] == NULL
                      ? blocks_here(r, sparse, first)
                      : ((const uint64_t *)(const void *)job->received[c])[index_of(&job->slice, first)];
    }
    return blocks;
}

/* starts[i]: how many blocks come before those of piece i; returns how many there are. */
static size_t count_blocks(const uint64_t *words, size_t n_pieces, uint32_t *starts) {
    size_t n = 0;
    for (size_t i = 0; i < n_pieces; i++) {
        starts[i] = (uint32_t)n;
        n += (size_t)__builtin_popcountll(words[i]);
    }
    return n;
}

/* ---- elements on the wire ---- */

static size_t wire_bytes(const ls_reducer *r, size_t n) {
    return n * (r->o.wire_bfloat16 ? sizeof(uint16_t) : sizeof(float));
}

static void put_wire(const ls_reducer *r, char *to, const float *from, size_t n) {
    if (r->o.wire_bfloat16) {
        ls_sum_pack((uint16_t *)(void *)to, from, n);
    } else {
        memcpy(to, from, n * sizeof(float));
    }
}

static void get_wire(const ls_reducer *r, float *to, const char *from, size_t n) {
    if (r->o.wire_bfloat16) {
        ls_sum_unpack(to, (const uint16_t *)(const void *)from, n);
    } else {
        memcpy(to, from, n * sizeof(float));
    }
}

static size_t head_bytes(const ls_reducer *r, const ls_slice *s) {
    return ls_align_up(ls_reducer_n_pieces(r, s) * sizeof(uint64_t), LS_EXCHANGE_UNIT);
}

size_t ls_reducer_fragments_bytes(const ls_reducer *r, const ls_slice *s, int n_fragments) {
    if (s->sparse < 0) {
        return ls_align_up(wire_bytes(r, (size_t)n_fragments * s->n), LS_EXCHANGE_UNIT);
    }
    return head_bytes(r, s) + wire_bytes(r, (size_t)n_fragments * ls_reducer_n_pieces(r, s) * LS_REDUCE_CHUNK);
}

/* Whether only blocks of the slice change. */
static bool skips(const ls_reducer *r, const ls_slice *s) {
    return s->sparse >= 0 && r->o.sparse[s->sparse].zero == LS_ZERO_IDLES;
}

bool ls_reducer_packs(const ls_reducer *r, const ls_slice *s) {
    return skips(r, s) && r->scheme->levels.n > 0;
}

size_t ls_reducer_params_bytes(const ls_reducer *r, const ls_slice *s) {
    return ls_reducer_packs(r, s) ? head_bytes(r, s) + ls_reducer_n_pieces(r, s) * LS_REDUCE_CHUNK * sizeof(float)
                                  : s->n * sizeof(float);
}

/* ---- adding ---- */

void ls_reducer_count_received(ls_reducer *r, ls_job *job) {
    const size_t n_pieces = ls_reducer_n_pieces(r, &job->slice);
    for (int c = 0; job->slice.sparse >= 0 && c < job->n_children; c++) {
        if (job->received[c] != NULL) {
            count_blocks((const uint64_t *)(const void *)job->received[c], n_pieces,
                         job->starts + (size_t)c * n_pieces);
        }
    }
}

/* Fragment f of a child of a sparse slice, unpacked: the blocks, and no others. */
static void unpack_blocks(const ls_reducer *r, const ls_job *job, int c, int f, size_t first, uint64_t blocks,
                          float *to) {
    const ls_slice *s = &job->slice;
    const size_t i = index_of(s, first), n_fragments = (size_t)r->scheme->stages[job->level].child_fragments[c];
    const char *received = job->received[c];
    const uint64_t there = ((const uint64_t *)(const void *)received)[i];
    const size_t start = job->starts[(size_t)c * ls_reducer_n_pieces(r, s) + i];
    for (uint64_t left = blocks; left != 0; left &= left - 1) {
        int b = __builtin_ctzll(left);
        float *block = to + (size_t)b * LS_REDUCE_BLOCK;
        if (there >> b & 1) {
            size_t before = start + (size_t)__builtin_popcountll(there & (((uint64_t)1 << b) - 1));
            size_t from = (before * n_fragments + (size_t)f) * LS_REDUCE_BLOCK;
            get_wire(r, block, received + head_bytes(r, s) + wire_bytes(r, from), LS_REDUCE_BLOCK);
        } else {
            memset(block, 0, LS_REDUCE_BLOCK * sizeof(float));
        }
    }
}

/* This node's fragments from `first` on: pointers into the neighbours' slots. Returns how many. */
static int point_at_raw(const ls_reducer *r, const float **leaf, size_t first) {
    for (int i = 0; i < r->n_raw; i++) {
        leaf[i] = r->raw[i] + first;
    }
    return r->n_raw;
}

/* What a job adds in a piece, into w->leaf: where it lies, or unpacked (of a sparse slice, just the blocks). */
static void point_at_leaves(const ls_reducer *r, ls_work *w, const ls_job *job, size_t first, size_t n,
                            uint64_t blocks) {
    const ls_stage *stage = &r->scheme->stages[job->level];
    const ls_slice *s = &job->slice;
    int k = job->level == 0 ? point_at_raw(r, w->leaf, first) : 0;
    for (int c = 0; c < job->n_children; c++) {
        if (job->received[c] == NULL) { /* this node */
            k += point_at_raw(r, w->leaf + k, first);
            continue;
        }
        for (int f = 0; f < stage->child_fragments[c]; f++) {
            size_t at = (size_t)f * s->n + (first - s->first);
            float *to = w->unpacked + (size_t)k * LS_REDUCE_CHUNK;
            if (s->sparse >= 0) {
                unpack_blocks(r, job, c, f, first, blocks, to);
            } else if (r->o.wire_bfloat16) {
                get_wire(r, to, job->received[c] + wire_bytes(r, at), n);
            } else {
                w->leaf[k++] = (const float *)(const void *)job->received[c] + at;
                continue;
            }
            w->leaf[k++] = to;
        }
    }
}

static void add(const ls_reducer *r, ls_work *w, const ls_job *job, size_t n) {
    ls_sum_run(&r->scheme->stages[job->level].sum, w->leaf, n, w->scratch, LS_REDUCE_CHUNK, w->sum);
}

static void note_non_finite(ls_work *w, const float *gradient, size_t first, size_t n) {
    if (!ls_sum_finite(gradient, n)) {
        size_t at = 0;
        while (ls_sum_finite(gradient + at, smaller(LS_REDUCE_GRAIN, n - at))) {
            at += LS_REDUCE_GRAIN;
        }
        w->non_finite_at = smaller(w->non_finite_at, first + at);
    }
}

/* Moves all leaves to the next run of blocks. */
static void move_leaves(const ls_reducer *r, ls_work *w, const ls_job *job, size_t by) {
    for (int i = 0; i < r->scheme->stages[job->level].sum.n_leaves; i++) {
        w->leaf[i] += by;
    }
}

/* Adds just the blocks to one sum, and makes the rest of it zero. */
static const float *add_blocks(const ls_reducer *r, ls_work *w, const ls_job *job, size_t n, uint64_t blocks) {
    const ls_sum *s = &r->scheme->stages[job->level].sum;
    float *sum = w->scratch + (size_t)(s->out[0] - s->n_leaves) * LS_REDUCE_CHUNK;
    uint64_t left = blocks, rest = ~blocks;
    size_t at, count, moved = 0;
    while (next_run(&left, n, &at, &count)) {
        move_leaves(r, w, job, at - moved);
        moved = at;
        ls_sum_run(s, w->leaf, count, w->scratch + at, LS_REDUCE_CHUNK, w->sum);
    }
    while (next_run(&rest, n, &at, &count)) {
        memset(sum + at, 0, count * sizeof(float));
    }
    return sum;
}

/* The reduced gradient of one piece of an own part; valid until the thread's next call. */
static const float *reduce_piece(ls_reducer *r, ls_work *w, const ls_job *job, size_t first, size_t n) {
    const ls_sum *sum = &r->scheme->stages[job->level].sum;
    uint64_t blocks = ~(uint64_t)0, marked = blocks;
    if (job->slice.sparse >= 0) {
        marked = job->words[index_of(&job->slice, first)] = blocks_of(r, job, first);
        if (marked == 0) {
            return r->zeros;
        }
        marked = worth_apart(marked) ? marked : ~(uint64_t)0;
        blocks = sum->n_ops == 0 ? ~(uint64_t)0 : marked; /* a lone fragment is taken as it is */
    }
    point_at_leaves(r, w, job, first, n, blocks);
    const float *gradient;
    if (blocks == ~(uint64_t)0) {
        add(r, w, job, n);
        gradient = w->sum[0];
    } else {
        gradient = add_blocks(r, w, job, n, blocks);
    }
    for (size_t at, count; next_run(&marked, n, &at, &count);) {
        note_non_finite(w, gradient + at, first + at, count);
    }
    return gradient;
}

static bool slots_are_zero(const ls_reducer *r, size_t first, size_t n) {
    for (int k = 0; k < r->o.n_slots; k++) {
        const uint32_t *bits = (const uint32_t *)(const void *)(r->slots[k] + first); /* -0 is not what a zero leaves */
        uint32_t any = 0;
        for (size_t i = 0; i < n; i++) {
            any |= bits[i];
        }
        if (any != 0) {
            return false;
        }
    }
    return true;
}

/* Blocks of a piece that a zero gradient would change too: those that have had another. */
static uint64_t blocks_awake(ls_reducer *r, const ls_job *job, size_t first, size_t n) {
    const ls_sparse *sparse = &r->o.sparse[job->slice.sparse];
    ls_blocks *b = &r->woken[(sparse->marks - r->o.n_reduced) / 2 + (first - sparse->first) / LS_REDUCE_CHUNK];
    b->awake |= job->words[index_of(&job->slice, first)];
    for (uint64_t left = ~(b->known | b->awake); left != 0; left &= left - 1) {
        size_t at = (size_t)__builtin_ctzll(left) * LS_REDUCE_BLOCK;
        if (at < n && !slots_are_zero(r, first + at, smaller(LS_REDUCE_BLOCK, n - at))) {
            b->awake |= left & -left;
        }
    }
    b->known = ~(uint64_t)0;
    return b->awake;
}

/* apply, on all of a piece or on those of its blocks that it changes. */
static void apply_to(ls_reducer *r, const ls_job *job, size_t first, size_t n, const float *gradient) {
    const ls_zero zero = job->slice.sparse < 0 ? LS_ZERO_MOVES : r->o.sparse[job->slice.sparse].zero;
    if (zero == LS_ZERO_MOVES) {
        r->o.apply(r->o.context, first, n, gradient);
        return;
    }
    uint64_t blocks = job->words[index_of(&job->slice, first)];
    size_t at, count;
    if (zero == LS_ZERO_RESTS) {
        uint64_t rest = blocks_awake(r, job, first, n);
        blocks = worth_apart(blocks) ? blocks : ~(uint64_t)0;
        rest &= ~blocks;
        while (next_run(&rest, n, &at, &count)) { /* its zeros, in memory, are not needed */
            r->o.apply(r->o.context, first + at, count, r->zeros);
        }
    }
    while (next_run(&blocks, n, &at, &count)) {
        r->o.apply(r->o.context, first + at, count, gradient + at);
    }
}

static void apply_piece(ls_reducer *r, ls_work *w, void *item, size_t i, size_t first, size_t n) {
    (void)i;
    apply_to(r, item, first, n, reduce_piece(r, w, item, first, n));
}

/* Step d, first of two phases. */
static void norm_piece(ls_reducer *r, ls_work *w, void *item, size_t i, size_t first, size_t n) {
    const ls_job *job = item;
    float *kept = job->reduced + (first - job->slice.first);
    memcpy(kept, reduce_piece(r, w, job, first, n), n * sizeof(float));
    r->o.norm(r->o.context, first, n, kept, r->chunk_norms + ((size_t)job->slice.chunk + i) * (size_t)r->o.n_norms);
}

/* Second of two phases. */
static void apply_kept_piece(ls_reducer *r, ls_work *w, void *item, size_t i, size_t first, size_t n) {
    (void)w, (void)i;
    const ls_job *job = item;
    apply_to(r, job, first, n, job->reduced + (first - job->slice.first));
}

void ls_reducer_apply(ls_reducer *r, ls_job *job) {
    each_piece(r, &job->slice, job, r->o.n_norms > 0 ? norm_piece : apply_piece);
}

void ls_reducer_apply_kept(ls_reducer *r, ls_job *job) {
    each_piece(r, &job->slice, job, apply_kept_piece);
}

/* ---- what goes up ---- */

/* Step c: the group's sums of a part that goes up. */
typedef struct {
    const ls_job *job;
    const ls_out *out;
} filling;

static void fill_piece(ls_reducer *r, ls_work *w, void *item, size_t i, size_t first, size_t n) {
    const filling *f = item;
    const ls_slice *s = &f->out->slice;
    (void)i;
    point_at_leaves(r, w, f->job, first, n, 0);
    add(r, w, f->job, n);
    for (int k = 0; k < r->scheme->stages[f->job->level].n_fragments; k++) {
        put_wire(r, f->out->sending + wire_bytes(r, (size_t)k * s->n + (first - s->first)), w->sum[k], n);
    }
}

/* The same of a sparse slice: its words are there. */
static void fill_blocks(ls_reducer *r, ls_work *w, void *item, size_t i, size_t first, size_t n) {
    const filling *f = item;
    const size_t n_fragments = (size_t)r->scheme->stages[f->job->level].n_fragments;
    uint64_t blocks = ((const uint64_t *)(const void *)f->out->sending)[i];
    char *to = f->out->sending + head_bytes(r, &f->out->slice);
    size_t block = f->out->starts[i], at, count, moved = 0;
    point_at_leaves(r, w, f->job, first, n, blocks);
    while (next_run(&blocks, n, &at, &count)) {
        move_leaves(r, w, f->job, at - moved);
        moved = at;
        add(r, w, f->job, count);
        for (size_t b = 0; b < count; b += LS_REDUCE_BLOCK, block++) {
            for (size_t k = 0; k < n_fragments; k++) {
                put_wire(r, to + wire_bytes(r, (block * n_fragments + k) * LS_REDUCE_BLOCK), w->sum[k] + b,
                         smaller(LS_REDUCE_BLOCK, count - b));
            }
        }
    }
}

/* Fills the message; returns its length. */
static size_t fill(ls_reducer *r, const ls_job *job, const ls_out *out) {
    const ls_slice *s = &out->slice;
    const int n_fragments = r->scheme->stages[job->level].n_fragments;
    filling f = {job, out};
    if (s->sparse < 0) {
        each_piece(r, s, &f, fill_piece);
        return ls_reducer_fragments_bytes(r, s, n_fragments);
    }
    uint64_t *words = (uint64_t *)(void *)out->sending;
    const size_t n_pieces = ls_reducer_n_pieces(r, s);
    for (size_t i = 0; i < n_pieces; i++) {
        words[i] = blocks_of(r, job, s->first + i * LS_REDUCE_CHUNK);
    }
    size_t blocks = count_blocks(words, n_pieces, out->starts);
    each_piece(r, s, &f, fill_blocks);
    return head_bytes(r, s) + wire_bytes(r, blocks * (size_t)n_fragments * LS_REDUCE_BLOCK);
}

void ls_reducer_send_up(ls_reducer *r, ls_job *job) {
    for (int i = 0; i < job->n_outs; i++) {
        const ls_out *out = &job->outs[i];
        size_t n_bytes = out->sending != NULL ? fill(r, job, out) : 0;
        if (out->job < 0 && out->slice.sparse >= 0) {
            ls_exchange_start_some(r->scheme->slices, out->fragments, n_bytes);
        } else if (out->job < 0) {
            ls_exchange_start(r->scheme->slices, out->fragments);
        }
        if (out->job < 0) {
            ls_exchange_start(r->scheme->slices, out->params);
        }
    }
}

/* ---- what comes down ---- */

/* Copies the blocks of `words` between a slice of the parameters and a message. Returns its length. */
static size_t copy_params(ls_reducer *r, const ls_slice *s, const uint64_t *words, char *message, bool out) {
    char *packed = message + head_bytes(r, s);
    for (size_t i = 0; i < ls_reducer_n_pieces(r, s); i++) {
        size_t n, first = piece(r, s, i, &n);
        for (uint64_t left = words[i]; left != 0; left &= left - 1) {
            size_t at = (size_t)__builtin_ctzll(left) * LS_REDUCE_BLOCK;
            void *params = r->params + first + at;
            memcpy(out ? packed : params, out ? params : packed, smaller(LS_REDUCE_BLOCK, n - at) * sizeof(float));
            packed += LS_REDUCE_BLOCK * sizeof(float);
        }
    }
    return (size_t)(packed - message);
}

void ls_reducer_send_down(ls_reducer *r, ls_job *job) {
    size_t n_bytes = 0;
    if (job->packed != NULL) {
        memcpy(job->packed, job->words, ls_reducer_n_pieces(r, &job->slice) * sizeof *job->words);
        n_bytes = copy_params(r, &job->slice, job->words, job->packed, true);
    }
    for (int c = 0; c < job->n_children; c++) {
        if (c != job->own_child && job->packed != NULL) {
            ls_exchange_start_some(r->scheme->slices, job->params[c], n_bytes);
        } else if (c != job->own_child) {
            ls_exchange_start(r->scheme->slices, job->params[c]);
        }
    }
}

void ls_reducer_unpack_params(ls_reducer *r, ls_job *job) {
    for (int i = 0; i < job->n_outs; i++) {
        const ls_out *out = &job->outs[i];
        const uint64_t *words = (const uint64_t *)(const void *)out->receiving;
        if (words != NULL) {
            copy_params(r, &out->slice, words, out->receiving, false);
        } else if (out->job >= 0) {
            words = r->scheme->stages[job->level + 1].jobs[out->job].words;
        }
        if (job->packed != NULL) { /* for its own children, of all outs together */
            LS_ASSERT(words != NULL);
            memcpy(job->words + index_of(&job->slice, out->slice.first), words,
                   ls_reducer_n_pieces(r, &out->slice) * sizeof *words);
        }
    }
}

/* ---- merging lanes ---- */

/* [begin, end) of a sparse range, counted from its start; begin is a multiple of LS_REDUCE_CHUNK. */
static void merge_sparse(ls_reducer *r, float *dst, float *src, const ls_sparse *sparse, size_t begin, size_t end) {
    for (size_t from = begin; from < end; from += LS_REDUCE_CHUNK) {
        uint64_t *into = marks_of(dst, sparse, sparse->first + from);
        uint64_t blocks = *into |= *marks_of(src, sparse, sparse->first + from);
        size_t n = smaller(LS_REDUCE_CHUNK, end - from), at, count;
        while (next_run(&blocks, n, &at, &count)) {
            ls_sum_merge(dst + sparse->first + from + at, src + sparse->first + from + at, count, r->o.wire_bfloat16);
        }
    }
}

void ls_reducer_merge(ls_reducer *r, ls_merge merge, size_t first, size_t n) {
    float *dst = ls_reducer_gradient(r, merge.dst), *src = ls_reducer_gradient(r, merge.src);
    size_t done = first, end = first + n;
    for (int k = 0; k < r->o.n_sparse && done < end; k++) {
        const ls_sparse *s = &r->o.sparse[k];
        const size_t s_end = s->first + s->n, last = smaller(s_end, end);
        if (s_end <= done || s->first >= end) {
            continue;
        }
        if (s->first > done) {
            ls_sum_merge(dst + done, src + done, s->first - done, r->o.wire_bfloat16);
            done = s->first;
        }
        merge_sparse(r, dst, src, s, done - s->first, last - s->first);
        done = last;
    }
    ls_sum_merge(dst + done, src + done, end - done, r->o.wire_bfloat16);
}
