/* Sums of outer products for AVX-512 with products of f32; see outer.h. */
#include "worker/ops/outer.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#define V 16
#include "worker/ops/vector.h"

#define TALL 14
#define SAMPLES 1
#define MULTIPLY(a, x, d) ((a) + (vec)(x) * (vec)(d))

INLINE bits_vec words_at(const void *m, size_t n, size_t n_cols, size_t k, size_t c) {
    (void)n;
    if (c >= n_cols) {
        return (bits_vec){0};
    }
    return (bits_vec)vec_load((const float *)m + k * n_cols, c, n_cols - c < V ? n_cols - c : V, false);
}

INLINE vec add_words(vec total, bits_vec w) {
    return total + (vec)w;
}

#include "worker/ops/outer_body.h"
const ls_outer_kernels *const ls_outer_avx512 = &kernels;
#else
const ls_outer_kernels *const ls_outer_avx512 = NULL;
#endif
