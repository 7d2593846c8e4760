/*
 * Sums of outer products for AVX-512, the body of one file for each type of factors (outer.h). The file that includes
 * this one has included vector.h and defines
 *   TALL               rows of dW in a block, at most; all heights from TALL / 2 on have code of their own
 *   SAMPLES            in a word of a factor
 *   MULTIPLY(a, x, d)  a + x d, x one word for all columns, d a vector of words
 *   words_at(m, n, n_cols, k, c)  word k of V columns from c on of the matrix m (n, n_cols); zero where there are none
 *   add_words(a, w)    a + the samples in w, one after the other
 */

INLINE size_t height_of(size_t n_rows) {
    return n_rows > TALL / 2 ? n_rows : TALL / 2;
}

enum { SOME_WORDS = 16 }; /* rows that are read side by side */

static void pack_x(const ls_outer *o, const void *x, uint32_t *to) {
    const size_t words = ls_outer_words(o), blocks = ls_outer_blocks(o);
    for (size_t first = 0, last; first < words; first = last) {
        last = first + SOME_WORDS < words ? first + SOME_WORDS : words;
        for (size_t b = 0; b < blocks; b++) {
            const size_t row = ls_outer_row(o, b), height = height_of(ls_outer_row(o, b + 1) - row);
            const __mmask16 mask = (__mmask16)((1u << height) - 1);
            for (size_t k = first; k < last; k++) {
                _mm512_mask_storeu_epi32(to + row * words + k * height, mask,
                                         (__m512i)words_at(x, o->n, o->in, k, row));
            }
        }
    }
}

static void pack_dz(const ls_outer *o, const void *dz, uint32_t *to, float *dbias) {
    const size_t words = ls_outer_words(o), panel = ls_outer_panel(o), n_cols = ls_outer_panels(o) * panel;
    for (size_t first = 0, last; first < words; first = last) {
        last = first + SOME_WORDS < words ? first + SOME_WORDS : words;
        for (size_t c = 0; c < n_cols; c += V) {
            const size_t some = c >= o->units ? 0 : o->units - c < V ? o->units - c : V;
            uint32_t *column = to + c / panel * words * panel + c % panel;
            vec total = {0};
            if (dbias != NULL && first > 0) {
                total = vec_load(dbias, c, some, false);
            }
            for (size_t k = first; k < last; k++) {
                const bits_vec w = words_at(dz, o->n, o->units, k, c);
                *(bits_vec *)(column + k * panel) = w;
                total = add_words(total, w);
            }
            if (dbias != NULL) {
                vec_store(dbias, c, some, false, total);
            }
        }
    }
}

/* A block of dW, or a tile of such while it grows. */
typedef struct tile {
    vec at[TALL][2];
} tile;

/* What a tile brings into the caches while it is computed: `step` bytes of each a word of samples. */
typedef struct coming {
    const char *dw; /* will be written: by the tiles of the block, each a part of it */
    ptrdiff_t near[LS_OUTER_NEAR];
    size_t step;
    size_t x; /* the next block's, words from this one's */
} coming;

/* acc = x^T dz of one lane. */
INLINE void product(int height, int n_vecs, size_t words, const uint32_t *x, size_t apart, const uint32_t *dz,
                    size_t panel, const coming *soon, vec acc[TALL][2]) {
    const char *dw = soon->dw;
    const size_t next = soon->x;
#pragma GCC unroll 14
    for (int i = 0; i < height; i++) {
        acc[i][0] = acc[i][1] = (vec){0};
    }
    for (size_t k = 0; k < words; k++, x += apart, dz += panel) {
        const bits_vec d0 = *(const bits_vec *)dz, d1 = n_vecs > 1 ? *(const bits_vec *)(dz + V) : d0;
        __builtin_prefetch(x + next, 0, 3);
        __builtin_prefetch(dw, 1, 3);
        __builtin_prefetch(dw + soon->near[0], 0, 2);
        __builtin_prefetch(dw + soon->near[1], 0, 2);
        __builtin_prefetch(dw + soon->near[2], 0, 2);
        dw += soon->step;
#pragma GCC unroll 14
        for (int i = 0; i < height; i++) {
            const bits_vec w = (bits_vec){0} + x[i];
            acc[i][0] = MULTIPLY(acc[i][0], w, d0);
            if (n_vecs > 1) {
                acc[i][1] = MULTIPLY(acc[i][1], w, d1);
            }
        }
    }
}

INLINE void add_tile(int height, int n_vecs, vec acc[TALL][2], const tile *left) {
#pragma GCC unroll 14
    for (int i = 0; i < height; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < n_vecs; v++) {
            acc[i][v] = left->at[i][v] + acc[i][v];
        }
    }
}

/* Where a block's products go: n_rows of it, the first at `dw`, and from there column c of the panel at c. */
typedef struct place {
    float *dw;
    size_t width, n_rows, n_cols;
    size_t panel; /* columns of the factors' panel */
} place;

/* All lanes of a block: a binary counter of sums, as the tree of lanes wants them. */
INLINE void block(int height, int n_vecs, size_t words, size_t n_lanes, const uint32_t *x, size_t apart, size_t x_step,
                  const uint32_t *dz, size_t dz_step, const coming *soon, const place *to) {
    tile sums[LS_OUTER_LEVELS];
    vec acc[TALL][2];
    size_t n_sums = 0;
    for (size_t lane = 0;; lane++, x += x_step, dz += dz_step) {
        product(height, n_vecs, words, x, apart, dz, to->panel, soon, acc);
        if (lane + 1 >= n_lanes) {
            break;
        }
        for (size_t done = lane; done & 1; done >>= 1) {
            add_tile(height, n_vecs, acc, &sums[--n_sums]);
        }
        tile *t = &sums[n_sums++];
#pragma GCC unroll 14
        for (int i = 0; i < height; i++) {
#pragma GCC unroll 2
            for (int v = 0; v < n_vecs; v++) {
                t->at[i][v] = acc[i][v];
            }
        }
    }
    while (n_sums > 0) {
        add_tile(height, n_vecs, acc, &sums[--n_sums]);
    }
#pragma GCC unroll 14
    for (size_t i = 0; i < (size_t)height; i++) {
#pragma GCC unroll 2
        for (size_t v = 0; v < (size_t)n_vecs; v++) {
            if (i < to->n_rows && v * V < to->n_cols) {
                const size_t some = to->n_cols - v * V;
                vec_store(to->dw + i * to->width, v * V, some < V ? some : V, false, acc[i][v]);
            }
        }
    }
}

/* One copy of the code for each height and number of vectors. */
typedef void block_fn(size_t words, size_t n_lanes, const uint32_t *x, size_t apart, size_t x_step, const uint32_t *dz,
                      size_t dz_step, const coming *soon, const place *to);
#define BLOCK(height, n_vecs)                                                                                    \
    static void block_##height##_##n_vecs(size_t words, size_t n_lanes, const uint32_t *x, size_t apart,         \
                                          size_t x_step, const uint32_t *dz, size_t dz_step, const coming *soon, \
                                          const place *to) {                                                     \
        block(height, n_vecs, words, n_lanes, x, apart, x_step, dz, dz_step, soon, to);                          \
    }
#define BLOCKS(height) BLOCK(height, 1) BLOCK(height, 2)
#if TALL == 14
BLOCKS(7)
BLOCKS(8)
BLOCKS(9)
BLOCKS(10) BLOCKS(11) BLOCKS(12) BLOCKS(13) BLOCKS(14)
#define ROW(height) \
    { block_##height##_1, block_##height##_2 }
    static block_fn *const block_of[TALL - TALL / 2 + 1][2] = {ROW(7),  ROW(8),  ROW(9),  ROW(10),
                                                               ROW(11), ROW(12), ROW(13), ROW(14)};
#else
BLOCKS(4)
BLOCKS(5)
BLOCKS(6)
BLOCKS(7) BLOCKS(8)
#define ROW(height) \
    { block_##height##_1, block_##height##_2 }
    static block_fn *const block_of[TALL - TALL / 2 + 1][2] = {ROW(4), ROW(5), ROW(6), ROW(7), ROW(8)};
#endif

/* What `sum` is given. */
typedef struct factors {
    size_t n_lanes;
    const uint32_t *x, *dz;
    size_t x_step, dz_step;
    float *dw;
    const ptrdiff_t *near;
} factors;

/* Block b of a strip, columns [c, c + panel) of it. */
static void make_block(const ls_outer *o, const factors *f, size_t strip, size_t c, size_t b) {
    const size_t words = ls_outer_words(o), panel = ls_outer_panel(o), col = strip * o->width + c;
    const size_t row = ls_outer_row(o, b), n_rows = ls_outer_row(o, b + 1) - row, height = height_of(n_rows);
    const size_t n_cols = o->width - c < panel ? o->width - c : panel;
    const size_t used = col >= o->units ? 0 : o->units - col < n_cols ? o->units - col : n_cols;
    const size_t n_vecs = (used + V - 1) / V, made = n_vecs * V < n_cols ? n_vecs * V : n_cols;
    float *rows = f->dw + (strip * o->rows + row) * o->width;
    for (size_t i = 0; made < n_cols && i < n_rows; i++) {
        memset(rows + i * o->width + c + made, 0, (n_cols - made) * sizeof *rows);
    }
    if (made == 0) {
        return;
    }
    const place to = {rows + c, o->width, n_rows, made, panel};
    coming soon = {.dw = (const char *)(rows + c * n_rows),
                   .step = n_cols * n_rows * sizeof *rows / words,
                   .x = o->apart > 0 ? 2 * height - 1 : height * words};
    for (int i = 0; i < LS_OUTER_NEAR; i++) {
        soon.near[i] = f->near[i] * (ptrdiff_t)sizeof *rows;
    }
    block_of[height - TALL / 2][n_vecs - 1](words, f->n_lanes, f->x + row * (o->apart > 0 ? 1 : words),
                                            o->apart > 0 ? o->apart : height, f->x_step, f->dz + col * words,
                                            f->dz_step, &soon, &to);
}

static void sum(const ls_outer *o, size_t n_lanes, const uint32_t *x, size_t x_step, const uint32_t *dz, size_t dz_step,
                size_t begin, size_t end, float *dw, const ptrdiff_t near[LS_OUTER_NEAR]) {
    const size_t panel = ls_outer_panel(o), blocks = ls_outer_blocks(o);
    const factors f = {n_lanes, x, dz, x_step, dz_step, dw, near};
    for (size_t at = begin, last; at < end; at = last) { /* strip by strip */
        const size_t strip = at / blocks;
        last = (strip + 1) * blocks < end ? (strip + 1) * blocks : end;
        for (size_t c = 0; c < o->width; c += panel) {
            for (size_t b = at % blocks; b < at % blocks + last - at; b++) {
                make_block(o, &f, strip, c, b);
            }
        }
    }
}

static const ls_outer_kernels kernels = {SAMPLES, TALL, pack_x, pack_dz, sum};
