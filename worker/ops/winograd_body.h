/*
 * The kernels of winograd_kernels.h for vectors of V floats; included by one file an instruction set, which defines V,
 * ROWS (of `product`), ROWS_T (of `product_t`), NAME and, for half ones, HALF (AVX512-BF16, V = 16). Those files are
 * compiled with contraction: every element is computed by vector code, and a tail by the same code.
 */
#include "worker/ops/vector.h"
#include "worker/ops/winograd_kernels.h"

/* ---- transformed values, in words ---- */

/* to[at] = v, of half kernels as bf16; with `first`, the first tile's value, as words of both. */
INLINE void put(float *to, size_t at, vec v, const vec *first) {
#ifdef HALF
    if (first != NULL) {
        const __m512i alternate = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                                                   22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
        __m512bh both = _mm512_cvtne2ps_pbh((__m512)v, (__m512)*first);
        _mm512_storeu_si512(to + at, _mm512_permutexvar_epi16(alternate, (__m512i)both));
        return;
    }
    _mm256_storeu_si256((__m256i_u *)(to + at), (__m256i)_mm512_cvtneps_pbh((__m512)v));
#else
    (void)first;
    *(vec *)(to + at) = v;
#endif
}

/* acc + x * b, where x is a word for all of b's. */
INLINE vec multiply_add(vec acc, const float *x, vec b) {
#ifdef HALF
    uint32_t word;
    memcpy(&word, x, sizeof word);
    return (vec)_mm512_dpbf16_ps((__m512)acc, (__m512bh)b, (__m512bh)_mm512_set1_epi32((int)word));
#else
    return acc + *x * b;
#endif
}

#ifdef HALF
enum { CHANNELS_A_WORD = 2 };
#else
enum { CHANNELS_A_WORD = 1 };
#endif

/* ---- transforms of one axis ---- */

#define P 0.625f
#define Q 1.5f
#define P2 (P * P)
#define Q2 (Q * Q)

/* B^T: the row of a point is the product of (x - other point) over the other finite points. */
INLINE void patch_axis(const vec d[6], vec to[6]) {
    vec even_p = d[4] - Q2 * d[2], odd_p = d[3] - Q2 * d[1];
    vec even_q = d[4] - P2 * d[2], odd_q = d[3] - P2 * d[1];
    to[0] = d[0] * (P2 * Q2) + (d[4] - (P2 + Q2) * d[2]);
    to[1] = even_p + P * odd_p;
    to[2] = even_p - P * odd_p;
    to[3] = even_q + Q * odd_q;
    to[4] = even_q - Q * odd_q;
    to[5] = d[1] * (P2 * Q2) + (d[5] - (P2 + Q2) * d[3]);
}

/* A^T: powers of the points. */
INLINE void tile_axis(const vec m[6], vec to[4]) {
    vec sum_p = m[1] + m[2], diff_p = m[1] - m[2], sum_q = m[3] + m[4], diff_q = m[3] - m[4];
    to[0] = m[0] + sum_p + sum_q;
    to[1] = P * diff_p + Q * diff_q;
    to[2] = P2 * sum_p + Q2 * sum_q;
    to[3] = m[5] + (P2 * P) * diff_p + (Q2 * Q) * diff_q;
}

/* A */
INLINE void gradient_axis(const vec y[4], vec to[6]) {
    vec even_p = y[0] + P2 * y[2], odd_p = y[1] + P2 * y[3];
    vec even_q = y[0] + Q2 * y[2], odd_q = y[1] + Q2 * y[3];
    to[0] = y[0];
    to[1] = even_p + P * odd_p;
    to[2] = even_p - P * odd_p;
    to[3] = even_q + Q * odd_q;
    to[4] = even_q - Q * odd_q;
    to[5] = y[3];
}

#define G0 (1.0f / (P2 * Q2))
#define GP (1.0f / (2 * P2 * (P2 - Q2)))
#define GQ (1.0f / (2 * Q2 * (Q2 - P2)))

/* G: powers of the points, divided by the product of (point - other point). */
INLINE void weights_axis(const vec g[3], vec to[6]) {
    vec even_p = GP * g[0] + (GP * P2) * g[2], odd_p = (GP * P) * g[1];
    vec even_q = GQ * g[0] + (GQ * Q2) * g[2], odd_q = (GQ * Q) * g[1];
    to[0] = G0 * g[0];
    to[1] = even_p + odd_p;
    to[2] = even_p - odd_p;
    to[3] = even_q + odd_q;
    to[4] = even_q - odd_q;
    to[5] = g[2];
}

/* G^T */
INLINE void dweights_axis(const vec m[6], vec to[3]) {
    vec sum_p = m[1] + m[2], diff_p = m[1] - m[2], sum_q = m[3] + m[4], diff_q = m[3] - m[4];
    to[0] = G0 * m[0] + GP * sum_p + GQ * sum_q;
    to[1] = (GP * P) * diff_p + (GQ * Q) * diff_q;
    to[2] = m[5] + (GP * P2) * sum_p + (GQ * Q2) * sum_q;
}

/* ---- transforms of both axes ---- */

/* f(n, bf16, ...) for n <= V channels of a type: code of its own for whole vectors and for each type. */
#define SPECIALIZED(f, n, dtype, ...)                                                    \
    ((dtype) == LS_BF16 ? (n) == V ? f(V, true, __VA_ARGS__) : f((n), true, __VA_ARGS__) \
     : (n) == V ? f(V, false, __VA_ARGS__)                                               \
                        : f((n), false, __VA_ARGS__))

/* all[place] = the transformed patch. */
INLINE void patch_vec(const void *const *src, size_t c, size_t n, bool bf16, vec all[36]) {
    vec half[6][6];
    for (int i = 0; i < 6; i++) {
        vec d[6];
        for (int j = 0; j < 6; j++) {
            d[j] = vec_load(src[i * 6 + j], c, n, bf16);
        }
        patch_axis(d, half[i]);
    }
    for (int j = 0; j < 6; j++) {
        vec d[6], r[6];
        for (int i = 0; i < 6; i++) {
            d[i] = half[i][j];
        }
        patch_axis(d, r);
        for (int i = 0; i < 6; i++) {
            all[i * 6 + j] = r[i];
        }
    }
}

INLINE void patch_some(size_t n, bool bf16, const void *const *src, const void *const *src_2, size_t c, float *to,
                       size_t step) {
    vec all[36], all_2[36];
    patch_vec(src, c, n, bf16, all);
    if (src_2 != NULL) {
        patch_vec(src_2, c, n, bf16, all_2);
    }
    for (size_t place = 0; place < 36; place++) {
        put(to, place * step, src_2 != NULL ? all_2[place] : all[place], src_2 != NULL ? &all[place] : NULL);
    }
}

INLINE void patch_all(const void *const *src, const void *const *src_2, ls_dtype dtype, size_t c, size_t n, float *to,
                      size_t step) {
    size_t each = src_2 != NULL ? 1 : CHANNELS_A_WORD;
    for (size_t i = 0; i < n; i += V) {
        size_t some = n - i < V ? n - i : V;
        SPECIALIZED(patch_some, some, dtype, src, src_2, c + i, to + i / each, step);
    }
}

static void patch(const void *const *src, ls_dtype dtype, size_t c, size_t n, float *to, size_t step) {
    patch_all(src, NULL, dtype, c, n, to, step);
}

#ifdef HALF
static void patch_pair(const void *const *src, const void *const *src_2, ls_dtype dtype, size_t c, size_t n, float *to,
                       size_t step) {
    patch_all(src, src_2, dtype, c, n, to, step);
}
#endif

INLINE void tile_vec(size_t n, bool bf16, const float *from, size_t step, vec bias, bool relu, void *const *dst,
                     size_t c) {
    vec half[6][4];
    for (int i = 0; i < 6; i++) {
        vec m[6];
        for (int j = 0; j < 6; j++) {
            m[j] = *(const vec *)(from + (size_t)(i * 6 + j) * step);
        }
        tile_axis(m, half[i]);
    }
    for (int j = 0; j < 4; j++) {
        vec m[6], y[4];
        for (int i = 0; i < 6; i++) {
            m[i] = half[i][j];
        }
        tile_axis(m, y);
        for (int i = 0; i < 4; i++) {
            vec v = y[i] + bias;
            if (relu) { /* NaN stays NaN */
                v = (vec)((bits_vec)v & ~(bits_vec)(v < 0.0f));
            }
            vec_store(dst[i * 4 + j], c, n, bf16, v);
        }
    }
}

static void tile(const float *from, size_t step, const float *bias, bool relu, void *const *dst, ls_dtype dtype,
                 size_t c, size_t n) {
    for (size_t i = 0; i < n; i += V) {
        size_t some = n - i < V ? n - i : V;
        vec b = {0};
        if (bias != NULL) {
            b = vec_load(bias, c + i, some, false);
        }
        SPECIALIZED(tile_vec, some, dtype, from + i, step, b, relu, dst, c + i);
    }
}

INLINE void gradient_vec(const void *const *src, size_t c, size_t n, bool bf16, vec *total, vec all[36]) {
    vec half[6][4];
    for (int j = 0; j < 4; j++) {
        vec y[4], r[6];
        for (int i = 0; i < 4; i++) {
            y[i] = vec_load(src[i * 4 + j], c, n, bf16);
        }
        *total += (y[0] + y[1]) + (y[2] + y[3]);
        gradient_axis(y, r);
        for (int i = 0; i < 6; i++) {
            half[i][j] = r[i];
        }
    }
    for (int i = 0; i < 6; i++) {
        gradient_axis(half[i], all + (size_t)i * 6);
    }
}

INLINE void gradient_some(size_t n, bool bf16, const void *const *src, const void *const *src_2, size_t c, float *to,
                          size_t step, float *sum) {
    vec all[36], total = vec_load(sum, 0, V, false);
    gradient_vec(src, c, n, bf16, &total, all);
#ifdef HALF
    vec all_2[36];
    gradient_vec(src_2, c, n, bf16, &total, all_2);
#endif
    vec_store(sum, 0, V, false, total);
    for (size_t place = 0; place < 36; place++) {
#ifdef HALF
        put(to, place * step, all_2[place], &all[place]);
#else
        (void)src_2;
        put(to, place * step, all[place], NULL);
#endif
    }
}

static void gradient(const void *const *src, const void *const *src_2, ls_dtype dtype, size_t c, size_t n, float *to,
                     size_t step, float *sum) {
    for (size_t i = 0; i < n; i += V) {
        size_t some = n - i < V ? n - i : V;
        SPECIALIZED(gradient_some, some, dtype, src, src_2, c + i, to + i, step, sum + i);
    }
}

INLINE void weights_vec(const float *from, size_t stride, size_t n, vec all[36]) {
    vec half[6][3];
    for (int j = 0; j < 3; j++) {
        vec g[3], r[6];
        for (int i = 0; i < 3; i++) {
            g[i] = vec_load(from + (size_t)(i * 3 + j) * stride, 0, n, false);
        }
        weights_axis(g, r);
        for (int i = 0; i < 6; i++) {
            half[i][j] = r[i];
        }
    }
    for (int i = 0; i < 6; i++) {
        weights_axis(half[i], all + (size_t)i * 6);
    }
}

static void weights(const float *from, const float *from_2, size_t stride, size_t n, float *to, size_t step) {
    vec all[36];
    weights_vec(from, stride, n, all);
#ifdef HALF
    vec all_2[36] = {0};
    if (from_2 != NULL) {
        weights_vec(from_2, stride, n, all_2);
    }
#endif
    for (size_t place = 0; place < 36; place++) {
#ifdef HALF
        put(to, place * step, all_2[place], &all[place]);
#else
        (void)from_2;
        put(to, place * step, all[place], NULL);
#endif
    }
}

static void dweights(const float *from, size_t step, size_t n, float *to, size_t stride) {
    vec half[6][3];
    for (int i = 0; i < 6; i++) {
        vec m[6];
        for (int j = 0; j < 6; j++) {
            m[j] = *(const vec *)(from + (size_t)(i * 6 + j) * step);
        }
        dweights_axis(m, half[i]);
    }
    for (int j = 0; j < 3; j++) {
        vec m[6], g[3];
        for (int i = 0; i < 6; i++) {
            m[i] = half[i][j];
        }
        dweights_axis(m, g);
        for (int i = 0; i < 3; i++) {
            vec_store(to + (size_t)(i * 3 + j) * stride, 0, n, false, g[i]);
        }
    }
}

/* ---- products ---- */

/* c (rows, n_vecs V) = or += sum over k of a[row * ar + k * ak] b[k]. Rows are addressed by threes from a few pointers,
 * or the compiler would run out of registers for addresses. */
INLINE void block(int rows, int n_vecs, size_t k_n, const float *a, size_t ar, size_t ak, const float *b, float *c,
                  bool add) {
    vec acc[ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < n_vecs; v++) {
            acc[i][v] = add ? *(const vec *)(c + (i * n_vecs + v) * V) : (vec){0};
        }
    }
    const float *group[4] = {a, a + 3 * ar, a + (rows > 6 ? 6 : 0) * ar, a + (rows > 9 ? 9 : 0) * ar};
    for (size_t k = 0; k < k_n; k++) {
        vec b0 = *(const vec *)b, b1 = n_vecs > 1 ? *(const vec *)(b + V) : b0;
        b += n_vecs * V;
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            const float *x = &group[i / 3][(size_t)(i % 3) * ar];
            acc[i][0] = multiply_add(acc[i][0], x, b0);
            if (n_vecs > 1) {
                acc[i][1] = multiply_add(acc[i][1], x, b1);
            }
        }
        group[0] += ak;
        group[1] += ak;
        group[2] += ak;
        group[3] += ak;
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
        for (int v = 0; v < n_vecs; v++) {
            *(vec *)(c + (i * n_vecs + v) * V) = acc[i][v];
        }
    }
}

INLINE void all_blocks(int n_vecs, size_t m, size_t k, const float *a, size_t lda, const float *b, float *c) {
    for (; m >= ROWS; m -= ROWS, a += ROWS * lda, c += ROWS * n_vecs * V) {
        block(ROWS, n_vecs, k, a, lda, 1, b, c, false);
    }
    for (; m > 0; m -= 4, a += 4 * lda, c += 4 * n_vecs * V) {
        block(4, n_vecs, k, a, lda, 1, b, c, false);
    }
}

static void product(size_t m, size_t k, size_t n, const float *a, size_t lda, const float *b, float *c) {
    if (n > V) {
        all_blocks(2, m, k, a, lda, b, c);
    } else {
        all_blocks(1, m, k, a, lda, b, c);
    }
}

static void product_t(size_t m, size_t k, size_t n, const float *a, size_t lda, const float *b, float *c, bool add) {
    if (n > V) {
        for (; m > 0; m -= ROWS_T, a += ROWS_T, c += ROWS_T * 2 * V) {
            block(ROWS_T, 2, k, a, 1, lda, b, c, add);
        }
        return;
    }
    for (; m > 0; m -= ROWS_T, a += ROWS_T, c += ROWS_T * V) {
        block(ROWS_T, 1, k, a, 1, lda, b, c, add);
    }
}

static const ls_wino_kernels kernels = {
    .width = V,
    .rows = ROWS,
#ifdef HALF
    .half = true,
    .patch_pair = patch_pair,
#endif
    .patch = patch,
    .tile = tile,
    .gradient = gradient,
    .weights = weights,
    .dweights = dweights,
    .product = product,
    .product_t = product_t,
};
const ls_wino_kernels *const NAME = &kernels;
