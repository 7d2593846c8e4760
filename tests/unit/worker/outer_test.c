/* Gradients of dense kernels from few samples: against sums in double, and lanes together against each alone. */
#include "worker/ops/outer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/plan/bf16.h"

typedef struct shape {
    size_t n, in, units, n_lanes;
    size_t width; /* of strips in memory; 0: Keras's order */
} shape;

static const shape shapes[] = {
    {16, 72, 64, 8, 64}, {1, 1, 1, 1, 0},      {2, 8, 32, 2, 32},    {7, 33, 21, 5, 0},   {16, 40, 10, 8, 16},
    {3, 17, 100, 7, 64}, {64, 24, 48, 3, 0},   {5, 9, 16, 13, 16},   {12, 31, 33, 6, 64}, {15, 16, 17, 16, 32},
    {9, 130, 65, 1, 0},  {130, 29, 70, 2, 32}, {40, 112, 96, 1, 64},
};

/* The kernels of one type of factors. */
typedef struct type {
    const ls_outer_kernels *kernels;
    bool bf16;
} type;

typedef struct example {
    type t;
    ls_outer o;
    size_t n_elems; /* of dW, padding included */
    void *x, *dz;
    uint32_t *x_words, *dz_words;
    float *dbias;
} example;

/* Of many sizes, so that the order of a sum shows in its bits. */
static uint64_t seed;
static void *numbers(const type *t, size_t n) {
    void *all = ls_xcalloc(n, sizeof(float));
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const double value = (double)(seed >> 11) / 9007199254740992.0 - 0.5;
        const float f = (float)ldexp(value, -(int)(seed >> 20 & 15));
        if (t->bf16) {
            ((uint16_t *)all)[i] = ls_bf16_from_f32(f);
        } else {
            ((float *)all)[i] = f;
        }
    }
    return all;
}

static float at(const example *e, const void *numbers_of, size_t i) {
    return e->t.bf16 ? ls_bf16_to_f32(((const uint16_t *)numbers_of)[i]) : ((const float *)numbers_of)[i];
}

static const void *from(const example *e, const void *numbers_of, size_t i) {
    return (const char *)numbers_of + i * (e->t.bf16 ? sizeof(uint16_t) : sizeof(float));
}

static example make(const type *t, const shape *s) {
    const ls_outer_kernels *k = t->kernels;
    example e = {.t = *t, .o = {s->n, s->in, s->units, s->in, s->units, s->units, k->samples, k->tall, 0}};
    if (s->width > 0) {
        e.o.width = s->width;
        e.o.rows = ls_align_up(s->in, 16);
        e.o.cols = (s->units + s->width - 1) / s->width * s->width;
    }
    e.n_elems = e.o.rows * e.o.cols;
    const size_t x = ls_outer_x_words(&e.o), dz = ls_outer_dz_words(&e.o);
    e.x = numbers(t, s->n_lanes * s->n * s->in);
    e.dz = numbers(t, s->n_lanes * s->n * s->units);
    e.x_words = ls_xcalloc(s->n_lanes * x, sizeof *e.x_words);
    e.dz_words = ls_xcalloc(s->n_lanes * dz, sizeof *e.dz_words);
    e.dbias = ls_xcalloc(s->n_lanes * s->units, sizeof *e.dbias);
    for (size_t l = 0; l < s->n_lanes; l++) {
        k->pack_x(&e.o, from(&e, e.x, l * s->n * s->in), e.x_words + l * x);
        k->pack_dz(&e.o, from(&e, e.dz, l * s->n * s->units), e.dz_words + l * dz, e.dbias + l * s->units);
    }
    return e;
}

static void clear(example *e) {
    void *owned[] = {e->x, e->dz, e->x_words, e->dz_words, e->dbias};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
        free(owned[i]);
    }
}

/* dW of lanes [first, first + n), of factors `x` that the shape says; NaN where nothing was written. */
static float *sum_from(const example *e, const ls_outer *o, const uint32_t *x, size_t first, size_t n) {
    static const ptrdiff_t near[LS_OUTER_NEAR] = {64, 0, -64};
    const size_t dz = ls_outer_dz_words(o), all = ls_outer_blocks(o) * ls_outer_strips(o);
    float *dw = ls_xcalloc(e->n_elems, sizeof *dw);
    for (size_t i = 0; i < e->n_elems; i++) {
        dw[i] = NAN;
    }
    for (size_t begin = 0; begin < all; begin += 3) { /* as threads and calls would share them */
        const size_t end = begin + 3 < all ? begin + 3 : all, before = ls_outer_before(o, begin);
        assert_true(before == 0 || !isnan(dw[before - 1]));
        assert_true(isnan(dw[before]));
        e->t.kernels->sum(o, n, x, ls_outer_x_words(o), e->dz_words + first * dz, dz, begin, end, dw, near);
    }
    assert_int_equal(ls_outer_before(o, all), e->n_elems);
    return dw;
}

static float *sum_of(const example *e, size_t first, size_t n) {
    return sum_from(e, &e->o, e->x_words + first * ls_outer_x_words(&e->o), first, n);
}

static size_t place(const ls_outer *o, size_t i, size_t u) {
    return (u / o->width * o->rows + i) * o->width + u % o->width;
}

static void check_values(const shape *s, const example *e) {
    float *got = sum_of(e, 0, s->n_lanes);
    double all = 0, read = 0;
    for (size_t i = 0; i < s->in; i++) {
        for (size_t u = 0; u < s->units; u++) {
            double sum = 0;
            for (size_t k = 0; k < s->n_lanes * s->n; k++) {
                sum += (double)at(e, e->x, k * s->in + i) * at(e, e->dz, k * s->units + u);
            }
            assert_true(fabs(sum - got[place(&e->o, i, u)]) <= 1e-6 * (double)(s->n_lanes * s->n));
            read += fabs(got[place(&e->o, i, u)]);
        }
    }
    for (size_t i = 0; i < e->n_elems; i++) {
        all += fabs(got[i]);
    }
    assert_true(fabs(all - read) <= 1e-9 * all); /* padding is zero */
    for (size_t l = 0; l < s->n_lanes; l++) {
        for (size_t u = 0; u < s->units; u++) {
            float sum = 0;
            for (size_t k = 0; k < s->n; k++) {
                sum += at(e, e->dz, (l * s->n + k) * s->units + u);
            }
            assert_memory_equal(&sum, &e->dbias[l * s->units + u], sizeof sum);
        }
    }
    free(got);
}

/* The tree of lanes over `n` of them, each written before it is added. */
static float *tree(const example *e, size_t first, size_t n) {
    size_t p = 1;
    if (n == 1) {
        return sum_of(e, first, 1);
    }
    while (2 * p < n) {
        p *= 2;
    }
    float *left = tree(e, first, p), *right = tree(e, first + p, n - p);
    for (size_t i = 0; i < e->n_elems; i++) {
        left[i] += right[i];
    }
    free(right);
    return left;
}

static void check_shapes(const type *t) {
    seed = 1;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        example e = make(t, &shapes[i]);
        check_values(&shapes[i], &e);
        float *together = sum_of(&e, 0, shapes[i].n_lanes), *alone = tree(&e, 0, shapes[i].n_lanes);
        assert_memory_equal(together, alone, e.n_elems * sizeof *alone);
        free(together);
        free(alone);
        clear(&e);
    }
}

static void test_bf16(void **state) {
    (void)state;
    const type t = {ls_outer_avx512_bf16, true};
    if (t.kernels == NULL || !__builtin_cpu_supports("avx512bf16")) {
        skip();
    }
    check_shapes(&t);
}

static void test_f32(void **state) {
    (void)state;
    const type t = {ls_outer_avx512, false};
    if (t.kernels == NULL || !__builtin_cpu_supports("avx512dq")) {
        skip();
    }
    check_shapes(&t);
}

/* An x that lies as the layer before has left it gives the bits that a packed one gives. */
static void test_unpacked(void **state) {
    (void)state;
    static const shape as_it_is[] = {{16, 784, 64, 1, 64}, {33, 16, 10, 1, 16}, {5, 7, 33, 1, 0}, {1, 100, 16, 1, 0}};
    const type t = {ls_outer_avx512, false};
    if (t.kernels == NULL || !__builtin_cpu_supports("avx512dq")) {
        skip();
    }
    seed = 2;
    for (size_t i = 0; i < sizeof as_it_is / sizeof as_it_is[0]; i++) {
        example e = make(&t, &as_it_is[i]);
        ls_outer o = e.o;
        o.apart = o.in;
        float *packed = sum_of(&e, 0, 1), *unpacked = sum_from(&e, &o, e.x, 0, 1);
        assert_memory_equal(packed, unpacked, e.n_elems * sizeof *packed);
        free(packed);
        free(unpacked);
        clear(&e);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bf16), cmocka_unit_test(test_f32),
                                       cmocka_unit_test(test_unpacked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
