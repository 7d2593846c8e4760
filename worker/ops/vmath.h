/*
 * Elementary functions in single precision, written without branches or calls so that loops over them are vectorised.
 * Errors are within 3 ulp where the comment does not say otherwise. NaN gives NaN.
 *
 * Source  the polynomials are those of Cephes (Moshier) for exp and tanh; erf is the rational approximation that Eigen
 *         uses.
 */
#ifndef LS_WORKER_OPS_VMATH_H
#define LS_WORKER_OPS_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* a b + c: in one rounding where the processor has an instruction for it, so that it does not matter whether a loop's
 * vector body or its tail computed an element. */
static inline float ls_fmaf(float a, float b, float c) {
#ifdef __FMA__
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

static inline float ls_bits_f32(int32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* exp(x) = 2^n times what is returned, in [0.7, 1.42]. */
static inline float ls_exp_parts(float x, int32_t *n) {
    const float round = 12582912.0f; /* 1.5 * 2^23: the sum's low bits are the nearest integer */
    float shifted = ls_fmaf(x, 1.44269504088896341f, round);
    memcpy(n, &shifted, sizeof *n);
    *n -= 0x4B400000;
    float k = shifted - round;
    float r = ls_fmaf(k, 2.12194440e-4f, ls_fmaf(k, -0.693359375f, x));
    float q = 1.9875691500e-4f;
    q = ls_fmaf(q, r, 1.3981999507e-3f);
    q = ls_fmaf(q, r, 8.3334519073e-3f);
    q = ls_fmaf(q, r, 4.1665795894e-2f);
    q = ls_fmaf(q, r, 1.6666665459e-1f);
    q = ls_fmaf(q, r, 5.0000001201e-1f);
    return ls_fmaf(q, r * r, r) + 1.0f;
}

/* exp(x); 0 below -104, infinity above 88.8. */
static inline float ls_expf(float x) {
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    int32_t n;
    float e = ls_exp_parts(x, &n);
    int32_t half = n >> 1; /* 2^n in two steps, so that denormal results come out right */
    return e * ls_bits_f32((int32_t)((uint32_t)(half + 127) << 23)) *
           ls_bits_f32((int32_t)((uint32_t)(n - half + 127) << 23));
}

/* exp(x) where it is a normal number: below -87 what it is there, infinity above 88.3. */
static inline float ls_expf_normal(float x) {
    x = x > 89.0f ? 89.0f : x;
    x = x < -87.0f ? -87.0f : x;
    int32_t n;
    float e = ls_exp_parts(x, &n);
    return e * ls_bits_f32((int32_t)((uint32_t)(n + 127) << 23));
}

/* exp(x) - 1 for x <= 0; small x keep their relative precision. */
static inline float ls_expm1f_negative(float x) {
    float q = 1.0f / 40320.0f;
    q = q * x + 1.0f / 5040.0f;
    q = q * x + 1.0f / 720.0f;
    q = q * x + 1.0f / 120.0f;
    q = q * x + 1.0f / 24.0f;
    q = q * x + 1.0f / 6.0f;
    q = ls_fmaf(q, x, 0.5f);
    float near = ls_fmaf(q, x * x, x);
    return x > -0.35f ? near : ls_expf(x) - 1.0f;
}

/* log(1 + x) for 0 <= x <= 1: 2 atanh(x / (2 + x)). */
static inline float ls_log1pf_unit(float x) {
    float s = x / (2.0f + x), z = s * s;
    float q = 2.0f / 15.0f;
    q = q * z + 2.0f / 13.0f;
    q = q * z + 2.0f / 11.0f;
    q = q * z + 2.0f / 9.0f;
    q = q * z + 2.0f / 7.0f;
    q = q * z + 2.0f / 5.0f;
    q = q * z + 2.0f / 3.0f;
    return q * z * s + 2.0f * s;
}

/* 0 below -88.3. */
static inline float ls_sigmoidf(float x) {
    return 1.0f / (1.0f + ls_expf_normal(-x));
}

static inline float ls_tanhf(float x) {
    float a = fabsf(x), z = x * x;
    float q = -5.70498872745e-3f;
    q = ls_fmaf(q, z, 2.06390887954e-2f);
    q = ls_fmaf(q, z, -5.37397155531e-2f);
    q = ls_fmaf(q, z, 1.33314422036e-1f);
    q = ls_fmaf(q, z, -3.33332819422e-1f);
    float near = ls_fmaf(q * z, x, x);
    float e = ls_expf_normal(-2.0f * a);
    float far = copysignf((1.0f - e) / (1.0f + e), x);
    return a < 0.625f ? near : far;
}

static inline float ls_erff(float x) {
    x = x > 4.0f ? 4.0f : x;
    x = x < -4.0f ? -4.0f : x;
    float z = x * x;
    float p = -2.72614225801306e-10f;
    p = ls_fmaf(p, z, 2.77068142495902e-08f);
    p = ls_fmaf(p, z, -2.10102402082508e-06f);
    p = ls_fmaf(p, z, -5.69250639462346e-05f);
    p = ls_fmaf(p, z, -7.34990630326855e-04f);
    p = ls_fmaf(p, z, -2.95459980854025e-03f);
    p = ls_fmaf(p, z, -1.60960333262415e-02f);
    float q = -1.45660718464996e-05f;
    q = ls_fmaf(q, z, -2.13374055278905e-04f);
    q = ls_fmaf(q, z, -1.68282697438203e-03f);
    q = ls_fmaf(q, z, -7.37332916720468e-03f);
    q = ls_fmaf(q, z, -1.42647390514189e-02f);
    return x * p / q;
}

#endif
