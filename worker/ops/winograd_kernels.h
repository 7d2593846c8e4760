/*
 * What ls_wino asks of a processor: transforms of one tile and products of small matrices.
 *
 * V floats are worked on at once. A panel is 2 V columns of a matrix (V, where the matrix has no more), row after row.
 *
 * Transformed values are kept as words of 32 bits, which are what `step`, leading dimensions and the inner dimension of
 * products count: a float; or, of kernels that are `half`, two bf16, the factors of neighbours along the inner
 * dimension, whose products go to an f32 sum both at once (round to nearest, denormals are zero).
 */
#ifndef LS_WORKER_OPS_WINOGRAD_KERNELS_H
#define LS_WORKER_OPS_WINOGRAD_KERNELS_H

#include "worker/ops/winograd.h"

/* src, dst: the address of channel 0 of each pixel, in rows; those outside of the image point at zeros, or at memory
 * that nobody reads. Channels from c on, n of them. */
typedef struct ls_wino_kernels {
    int width; /* V */
    int rows;  /* of a that `product` likes best; it takes multiples of 4 */
    bool half;

    /* patch (6 x 6 pixels) -> to[place * step], n rounded up to V values each; half: words of two channels */
    void (*patch)(const void *const *src, ls_dtype dtype, size_t c, size_t n, float *to, size_t step);
    /* Two patches -> words of a value of each; half alone. */
    void (*patch_pair)(const void *const *src, const void *const *src_2, ls_dtype dtype, size_t c, size_t n, float *to,
                       size_t step);
    /* from[place * step] (floats) -> tile (4 x 4 pixels); n <= 2 V */
    void (*tile)(const float *from, size_t step, const float *bias, bool relu, void *const *dst, ls_dtype dtype,
                 size_t c, size_t n);
    /* gradient of a tile (4 x 4 pixels), half: of two -> to[place * step], n <= 2 V rounded up to V; adds its pixels to
     * sum[n]. Not half: src_2 is not used. */
    void (*gradient)(const void *const *src, const void *const *src_2, ls_dtype dtype, size_t c, size_t n, float *to,
                     size_t step, float *sum);

    /* kernels (3 x 3, each `from[pixel * stride + i]`, i < n <= V) of one input channel, half: of it and the next
     * (NULL: zeros) -> to[place * step + i], up to V */
    void (*weights)(const float *from, const float *from_2, size_t stride, size_t n, float *to, size_t step);
    /* from[place * step + i] (floats) -> to[pixel * stride + i], i < n <= V */
    void (*dweights)(const float *from, size_t step, size_t n, float *to, size_t stride);

    /* c (m, n) = a (m, k) b (k, n), n = V or 2V; a's rows lie lda apart; m is a multiple of 4 */
    void (*product)(size_t m, size_t k, size_t n, const float *a, size_t lda, const float *b, float *c);
    /* c (m, n) = or, with add, += a^T b, a (k, m) with rows lda apart, b (k, n); m is a multiple of V */
    void (*product_t)(size_t m, size_t k, size_t n, const float *a, size_t lda, const float *b, float *c, bool add);
} ls_wino_kernels;

/* NULL where the compiler cannot make them. Results become bf16, whichever way, rounded to nearest and ties to even;
 * those of AVX512-BF16 take denormals for zero, which an engine's threads never make. */
extern const ls_wino_kernels *const ls_wino_avx512, *const ls_wino_avx2, *const ls_wino_avx512_bf16,
                                                                             *const ls_wino_avx512_bf16_full;

#endif
