/* Sums of outer products for AVX-512 with products of bf16; see outer.h. */
#include "worker/ops/outer.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512BF16__)
#define V 16
#include "worker/ops/vector.h"

/* The words of V columns from c on of samples 2 k and 2 k + 1; n_cols of the matrix (n, n_cols). */
INLINE bits_vec words_at(const uint16_t *m, size_t n, size_t n_cols, size_t k, size_t c) {
    if (c >= n_cols) {
        return (bits_vec){0};
    }
    const size_t some = n_cols - c < V ? n_cols - c : V;
    const uint16_t *first = m + 2 * k * n_cols;
    bits_vec high = {0}, low = (bits_vec)vec_load(first, c, some, true) >> 16;
    if (2 * k + 1 < n) {
        high = (bits_vec)vec_load(first + n_cols, c, some, true);
    }
    return low | high;
}

static void pack_x(const ls_outer *o, const uint16_t *x, uint32_t *to) {
    enum { ROWS = LS_OUTER_ROWS };
    const size_t pairs = ls_outer_pairs(o), blocks = ls_outer_blocks(o);
    for (size_t b = 0; b < blocks; b += V / ROWS) {
        for (size_t k = 0; k < pairs; k++) {
            uint32_t words[V];
            *(bits_vec *)words = words_at(x, o->n, o->in, k, b * ROWS);
            for (size_t i = 0; i < V / ROWS && b + i < blocks; i++) {
                memcpy(to + ((b + i) * pairs + k) * ROWS, words + i * ROWS, ROWS * sizeof *to);
            }
        }
    }
}

static void pack_dz(const ls_outer *o, const uint16_t *dz, uint32_t *to, float *dbias) {
    const size_t pairs = ls_outer_pairs(o), panel = ls_outer_panel(o), n_cols = ls_outer_panels(o) * panel;
    for (size_t c = 0; c < n_cols; c += V) {
        uint32_t *column = to + c / panel * pairs * panel + c % panel;
        vec total = {0};
        for (size_t k = 0; k < pairs; k++) {
            const bits_vec w = words_at(dz, o->n, o->units, k, c);
            *(bits_vec *)(column + k * panel) = w;
            total += (vec)(w << 16);
            total += (vec)(w & 0xFFFF0000u);
        }
        if (dbias != NULL && c < o->units) {
            vec_store(dbias, c, o->units - c < V ? o->units - c : V, false, total);
        }
    }
}

/* A block of dW, or a tile of such while it grows. */
typedef struct tile {
    vec at[LS_OUTER_ROWS][2];
} tile;

/* acc = x^T dz of one lane. */
INLINE void product(int n_vecs, size_t pairs, const uint32_t *x, const uint32_t *dz, vec acc[LS_OUTER_ROWS][2]) {
#pragma GCC unroll 8
    for (int i = 0; i < LS_OUTER_ROWS; i++) {
        acc[i][0] = acc[i][1] = (vec){0};
    }
    for (size_t k = 0; k < pairs; k++, x += LS_OUTER_ROWS, dz += n_vecs * V) {
        const __m512bh d0 = (__m512bh)_mm512_loadu_si512(dz);
        const __m512bh d1 = n_vecs > 1 ? (__m512bh)_mm512_loadu_si512(dz + V) : d0;
#pragma GCC unroll 8
        for (int i = 0; i < LS_OUTER_ROWS; i++) {
            const __m512bh w = (__m512bh)_mm512_set1_epi32((int)x[i]);
            acc[i][0] = (vec)_mm512_dpbf16_ps((__m512)acc[i][0], d0, w);
            if (n_vecs > 1) {
                acc[i][1] = (vec)_mm512_dpbf16_ps((__m512)acc[i][1], d1, w);
            }
        }
    }
}

INLINE void add_tile(int n_vecs, vec acc[LS_OUTER_ROWS][2], const tile *left) {
#pragma GCC unroll 8
    for (int i = 0; i < LS_OUTER_ROWS; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < n_vecs; v++) {
            acc[i][v] = left->at[i][v] + acc[i][v];
        }
    }
}

/* All lanes of a block: a binary counter of sums, as the tree of lanes wants them. */
INLINE void block(int n_vecs, const ls_outer *o, size_t n_lanes, const uint32_t *x, size_t x_step, const uint32_t *dz,
                  size_t dz_step, size_t row, size_t col, float *dw) {
    tile sums[LS_OUTER_LEVELS];
    vec acc[LS_OUTER_ROWS][2];
    size_t n_sums = 0;
    for (size_t lane = 0;; lane++, x += x_step, dz += dz_step) {
        product(n_vecs, ls_outer_pairs(o), x, dz, acc);
        if (lane + 1 >= n_lanes) {
            break;
        }
        for (size_t done = lane; done & 1; done >>= 1) {
            add_tile(n_vecs, acc, &sums[--n_sums]);
        }
        tile *t = &sums[n_sums++];
#pragma GCC unroll 8
        for (int i = 0; i < LS_OUTER_ROWS; i++) {
#pragma GCC unroll 2
            for (int v = 0; v < n_vecs; v++) {
                t->at[i][v] = acc[i][v];
            }
        }
    }
    while (n_sums > 0) {
        add_tile(n_vecs, acc, &sums[--n_sums]);
    }
    const size_t n_rows = o->rows - row < LS_OUTER_ROWS ? o->rows - row : LS_OUTER_ROWS;
#pragma GCC unroll 8
    for (size_t i = 0; i < LS_OUTER_ROWS; i++) {
#pragma GCC unroll 2
        for (size_t v = 0; v < (size_t)n_vecs; v++) {
            const size_t at = col + v * V;
            if (i < n_rows && at < o->cols) {
                float *to = dw + at / o->width * o->width * o->rows + (row + i) * o->width;
                vec_store(to, at % o->width, o->cols - at < V ? o->cols - at : V, false, acc[i][v]);
            }
        }
    }
}

static void sum(const ls_outer *o, size_t n_lanes, const uint32_t *x, size_t x_step, const uint32_t *dz, size_t dz_step,
                size_t begin, size_t end, float *dw) {
    const size_t pairs = ls_outer_pairs(o), panel = ls_outer_panel(o), panels = ls_outer_panels(o);
    for (size_t b = begin; b < end; b++) {
        const uint32_t *rows = x + b * pairs * LS_OUTER_ROWS;
        for (size_t p = 0; p < panels; p++) {
            const uint32_t *cols = dz + p * pairs * panel;
            if (panel > V) {
                block(2, o, n_lanes, rows, x_step, cols, dz_step, b * LS_OUTER_ROWS, p * panel, dw);
            } else {
                block(1, o, n_lanes, rows, x_step, cols, dz_step, b * LS_OUTER_ROWS, p * panel, dw);
            }
        }
    }
}

static const ls_outer_kernels kernels = {pack_x, pack_dz, sum};
const ls_outer_kernels *const ls_outer_avx512_bf16 = &kernels;
#else
const ls_outer_kernels *const ls_outer_avx512_bf16 = NULL;
#endif
