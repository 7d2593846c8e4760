/*
 * Vectors of V floats in the compiler's own terms, for kernels that are compiled once for each instruction set. The
 * file that includes this one defines V.
 */
#ifndef LS_WORKER_OPS_VECTOR_H
#define LS_WORKER_OPS_VECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(V * 4), aligned(4), may_alias));
typedef int32_t int_vec __attribute__((vector_size(V * 4), aligned(4), may_alias));
typedef uint32_t bits_vec __attribute__((vector_size(V * 4), aligned(4), may_alias));
typedef uint16_t half_vec __attribute__((vector_size(V * 2), aligned(2), may_alias));
typedef double double_vec __attribute__((vector_size(V * 8), aligned(8), may_alias));

/* n <= V floats from element `at` on, zeros behind them. */
INLINE vec vec_load(const void *from, size_t at, size_t n, bool bf16) {
    if (bf16) {
        half_vec h = {0};
        const uint16_t *p = (const uint16_t *)from + at;
        if (n == V) {
            h = *(const half_vec *)p;
        } else {
            memcpy(&h, p, n * 2);
        }
        return (vec)(__builtin_convertvector(h, bits_vec) << 16);
    }
    const float *p = (const float *)from + at;
    if (n == V) {
        return *(const vec *)p;
    }
    vec v = {0};
    memcpy(&v, p, n * 4);
    return v;
}

/* As ls_bf16_from_f32 does it; the processor's own instruction takes denormals for zero. */
INLINE half_vec vec_to_bf16(vec v) {
#if V == 16 && defined(__AVX512BF16__)
    return (half_vec)_mm512_cvtneps_pbh((__m512)v);
#else
    bits_vec b = (bits_vec)v;
    bits_vec nan = (bits_vec)((b & 0x7FFFFFFFu) > 0x7F800000u);
    bits_vec rounded = (b + 0x7FFFu + ((b >> 16) & 1u)) >> 16;
    return __builtin_convertvector((rounded & ~nan) | ((b >> 16 | 0x40u) & nan), half_vec);
#endif
}

/* The first n <= V of v. */
INLINE void vec_store(void *to, size_t at, size_t n, bool bf16, vec v) {
    if (bf16) {
        half_vec h = vec_to_bf16(v);
        uint16_t *p = (uint16_t *)to + at;
        if (n == V) {
            *(half_vec *)p = h;
        } else {
            memcpy(p, &h, n * 2);
        }
        return;
    }
    float *p = (float *)to + at;
    if (n == V) {
        *(vec *)p = v;
    } else {
        memcpy(p, &v, n * 4);
    }
}

/* v where the condition (a comparison of vectors) holds, else 0. */
INLINE vec vec_where(int_vec condition, vec v) {
    return (vec)((int_vec)v & condition);
}

/* Adds V floats to V doubles. */
INLINE void vec_add_to(double *sum, vec v) {
    *(double_vec *)sum += __builtin_convertvector(v, double_vec);
}

#endif
