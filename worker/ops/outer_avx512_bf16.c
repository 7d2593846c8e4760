/* Sums of outer products for AVX-512 with products of bf16; see outer.h. */
#include "worker/ops/outer.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512BF16__)
#include <immintrin.h>
#define V 16
#include "worker/ops/vector.h"

#define TALL 8
#define SAMPLES 2
#define MULTIPLY(a, x, d) ((vec)_mm512_dpbf16_ps((__m512)(a), (__m512bh)(d), (__m512bh)(x)))

/* Of samples 2 k and 2 k + 1, in the low and the high half of a word. */
INLINE bits_vec words_at(const void *m, size_t n, size_t n_cols, size_t k, size_t c) {
    if (c >= n_cols) {
        return (bits_vec){0};
    }
    const size_t some = n_cols - c < V ? n_cols - c : V;
    const uint16_t *first = (const uint16_t *)m + 2 * k * n_cols;
    bits_vec high = {0}, low = (bits_vec)vec_load(first, c, some, true) >> 16;
    if (2 * k + 1 < n) {
        high = (bits_vec)vec_load(first + n_cols, c, some, true);
    }
    return low | high;
}

INLINE vec add_words(vec total, bits_vec w) {
    total += (vec)(w << 16);
    return total + (vec)(w & 0xFFFF0000u);
}

#include "worker/ops/outer_body.h"
const ls_outer_kernels *const ls_outer_avx512_bf16 = &kernels;
#else
const ls_outer_kernels *const ls_outer_avx512_bf16 = NULL;
#endif
