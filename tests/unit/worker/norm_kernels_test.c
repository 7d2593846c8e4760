/* The loops of batch normalisation against plain ones in double, for every set of kernels that this processor runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/ops/norm_kernels.h"
#include "worker/plan/bf16.h"

/* Whole rows, or a last one that is shorter; tiles and tails of all vector lengths. */
typedef struct shape {
    size_t rows, columns, period;
} shape;
static const shape shapes[] = {{1, 1, 1},    {5, 3, 3},      {64, 64, 64}, {7, 96, 96},   {9, 75, 75},
                               {1, 50, 192}, {1, 133, 1000}, {3, 21, 21},  {32, 256, 256}};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0], MOST = 8192, LINE = 1024, GUARD = 16 };

/* As the kernels take them, and the same values in double. */
typedef struct array {
    float f[MOST + GUARD];
    uint16_t h[MOST + GUARD];
    double d[MOST];
} array;

static array src, more, diff_dst, dst, to;
static float lines[5][LINE];
enum { MEAN, SCALE, SHIFT, OF_MEAN, OF_DEVIATION };

static uint64_t seed = 7;
static float uniform(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(seed >> 11) / 4503599627370496.0 - 1.0);
}

static void fill(array *a, float offset) {
    for (size_t i = 0; i < MOST; i++) {
        a->h[i] = ls_bf16_from_f32(uniform() + offset);
        a->f[i] = ls_bf16_to_f32(a->h[i]); /* the same in both */
        a->d[i] = (double)a->f[i];
    }
}

static void *of(array *a, bool bf16) {
    return bf16 ? (void *)a->h : a->f;
}

static double got(const array *a, bool bf16, size_t i) {
    return (double)(bf16 ? ls_bf16_to_f32(a->h[i]) : a->f[i]);
}

/* One sum against another, of numbers whose sizes add up to `size`. */
static void near(double a, double b, double size, double tolerance) {
    if (!(fabs(a - b) <= tolerance * size)) {
        fail_msg("%.9g instead of %.9g", a, b);
    }
}

typedef struct run {
    const ls_norm_kernels *k;
    ls_norm_work w;
    ls_norm_block b;
    size_t n;
    double exact; /* how well elements come out */
} run;

static double value(const run *r, size_t i) { /* before the relu */
    size_t c = i % r->w.period;
    double y = (src.d[i] - (double)lines[MEAN][c]) * (double)lines[SCALE][c] + (double)lines[SHIFT][c];
    return y + (r->w.more != NULL ? more.d[i] : 0);
}

static void check_guard(const run *r) {
    for (size_t i = r->n; i < r->n + GUARD; i++) {
        assert_true(r->w.bf16 ? to.h[i] == 0x4242 : to.f[i] == 42.0f);
    }
}

static void clear(void) {
    for (size_t i = 0; i < MOST + GUARD; i++) {
        to.f[i] = 42.0f;
        to.h[i] = 0x4242;
    }
}

static void check_forward(run *r) {
    for (int relu = 0; relu < 2; relu++) {
        r->w.relu = relu ? LS_NORM_FROM_SRC : LS_NORM_ALL;
        clear();
        r->k->forward(&r->w, &r->b);
        for (size_t i = 0; i < r->n; i++) {
            double y = value(r, i);
            near(got(&to, r->w.bf16, i), relu && y < 0 ? 0 : y, 4, r->exact);
        }
        check_guard(r);
    }
}

static void check_sums(run *r) {
    double sum[LINE] = {0}, square[LINE] = {0}, sum_d[LINE] = {0}, square_d[LINE] = {0};
    sum[0] = sum_d[0] = 3; /* they are added to */
    r->k->sums(&r->w, &r->b, sum, square);
    for (size_t i = 0; i < r->n; i++) {
        sum_d[i % r->w.period] += src.d[i];
        square_d[i % r->w.period] += src.d[i] * src.d[i];
    }
    const double n = (double)r->b.rows;
    for (size_t c = 0; c < r->b.columns; c++) {
        near(sum[c], sum_d[c], n, 1e-6);
        /* The variance, whatever the mean. */
        near(square[c] / n - sum[c] / n * (sum[c] / n), square_d[c] / n - sum_d[c] / n * (sum_d[c] / n), 1,
             c == 0 ? 1 : 1e-6);
    }
}

static void check_gradients(run *r) {
    double first[LINE] = {0}, second[LINE] = {0}, first_d[LINE] = {0}, second_d[LINE] = {0};
    static double g[MOST];
    for (size_t i = 0; i < r->n; i++) {
        size_t c = i % r->w.period;
        double y = (src.d[i] - (double)lines[MEAN][c]) * (double)lines[SCALE][c] + (double)lines[SHIFT][c];
        bool counts = r->w.relu == LS_NORM_ALL || (r->w.relu == LS_NORM_FROM_SRC ? y > 0 : dst.d[i] > 0);
        g[i] = counts ? diff_dst.d[i] + (r->w.more != NULL ? more.d[i] : 0) : 0;
        first_d[c] += g[i];
        second_d[c] += g[i] * (src.d[i] - (double)lines[MEAN][c]);
    }
    clear();
    r->k->gradient_sums(&r->w, &r->b, first, second);
    for (size_t c = 0; c < r->b.columns; c++) {
        near(first[c], first_d[c], (double)r->b.rows, 1e-5);
        near(second[c], second_d[c], (double)r->b.rows, 1e-5);
    }
    for (size_t i = 0; r->w.to != NULL && i < r->n; i++) {
        near(got(&to, r->w.bf16, i), g[i], 2, r->exact);
    }
    check_guard(r);
    if (r->w.more != NULL || r->w.relu == LS_NORM_FROM_DST) { /* the other kernel finds such a g made */
        return;
    }
    r->w.to = of(&to, r->w.bf16);
    r->k->gradient(&r->w, &r->b);
    for (size_t i = 0; i < r->n; i++) {
        size_t c = i % r->w.period;
        double d = src.d[i] - (double)lines[MEAN][c];
        double dx = (double)lines[SCALE][c] * (g[i] - (double)lines[OF_MEAN][c] - d * (double)lines[OF_DEVIATION][c]);
        near(got(&to, r->w.bf16, i), dx, 4, r->exact);
    }
    check_guard(r);
}

static void check_shape(const ls_norm_kernels *k, const shape *s, bool bf16) {
    run r = {.k = k, .b = {0, s->rows, s->columns}, .n = (s->rows - 1) * s->period + s->columns};
    r.exact = bf16 ? 1.0 / 256 : 1e-6;
    for (int i = 0; i < 2; i++) {
        r.w = (ls_norm_work){.bf16 = bf16,
                             .period = s->period,
                             .src = of(&src, bf16),
                             .more = i ? of(&more, bf16) : NULL,
                             .mean = lines[MEAN],
                             .scale = lines[SCALE],
                             .shift = lines[SHIFT],
                             .diff_dst = of(&diff_dst, bf16),
                             .dst = of(&dst, bf16),
                             .of_mean = lines[OF_MEAN],
                             .of_deviation = lines[OF_DEVIATION],
                             .to = of(&to, bf16)};
        check_forward(&r);
        check_sums(&r);
        for (int relu = LS_NORM_ALL; relu <= LS_NORM_FROM_DST; relu++) {
            r.w.relu = (ls_norm_relu)relu;
            r.w.to = i || relu == LS_NORM_FROM_DST ? of(&to, bf16) : NULL;
            check_gradients(&r);
        }
    }
}

static void check_kernels(const ls_norm_kernels *k) {
    fill(&src, 0.5f);
    fill(&more, 0);
    fill(&diff_dst, 0);
    fill(&dst, 0);
    for (int l = 0; l < 5; l++) {
        for (size_t c = 0; c < LINE; c++) {
            lines[l][c] = uniform();
        }
    }
    for (int i = 0; i < N_SHAPES; i++) {
        check_shape(k, &shapes[i], false);
        check_shape(k, &shapes[i], true);
    }
}

static void test_plain(void **state) {
    (void)state;
    check_kernels(ls_norm_plain);
}

static void test_avx2(void **state) {
    (void)state;
    if (ls_norm_avx2 == NULL || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
        skip();
    }
    check_kernels(ls_norm_avx2);
}

static void test_avx512(void **state) {
    (void)state;
    if (ls_norm_avx512 == NULL || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) {
        skip();
    }
    check_kernels(ls_norm_avx512);
}

static void test_avx512_bf16(void **state) {
    (void)state;
    if (ls_norm_avx512_bf16 == NULL || !__builtin_cpu_supports("avx512bf16")) {
        skip();
    }
    check_kernels(ls_norm_avx512_bf16);
}

/* A thousand times further from zero than it is wide. */
static void test_far_from_zero(void **state) {
    (void)state;
    double sum[LINE] = {0}, square[LINE] = {0}, d[2] = {0};
    for (size_t i = 0; i < 64; i++) {
        src.f[i] = 4000.0f + uniform();
        d[0] += (double)src.f[i] / 64;
    }
    for (size_t i = 0; i < 64; i++) {
        d[1] += ((double)src.f[i] - d[0]) * ((double)src.f[i] - d[0]) / 64;
    }
    ls_norm_work w = {.period = 1, .src = src.f};
    ls_norm_plain->sums(&w, &(ls_norm_block){0, 64, 1}, sum, square);
    near(square[0] / 64 - sum[0] / 64 * (sum[0] / 64), d[1], d[1], 1e-6);
}

/* What is not a number stays so through the relu, in bfloat16 too. */
static void test_nan(void **state) {
    (void)state;
    static const float zero[LS_NORM_PAD], one[LS_NORM_PAD] = {1};
    for (int bf16 = 0; bf16 < 2; bf16++) {
        src.f[0] = NAN;
        src.h[0] = 0x7FFF;
        ls_norm_work w = {.bf16 = bf16, .relu = LS_NORM_FROM_SRC, .period = 1, .src = of(&src, bf16)};
        w.mean = w.shift = zero;
        w.scale = one;
        w.to = of(&to, bf16);
        ls_norm_plain->forward(&w, &(ls_norm_block){0, 1, 1});
        assert_true(isnan(got(&to, bf16, 0)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),       cmocka_unit_test(test_avx2),          cmocka_unit_test(test_avx512),
        cmocka_unit_test(test_avx512_bf16), cmocka_unit_test(test_far_from_zero), cmocka_unit_test(test_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
