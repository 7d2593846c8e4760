/* Winograd's convolutions against direct ones in double, for every set of kernels that this processor runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/ops/winograd_kernels.h"
#include "worker/plan/bf16.h"

typedef struct shape {
    int64_t n, in_h, in_w, in_c, out_c;
    int64_t pad[4]; /* top, left, bottom, right */
} shape;

static const shape shapes[] = {
    {2, 8, 8, 32, 32, {1, 1, 1, 1}},  /* same */
    {3, 9, 7, 16, 48, {0, 0, 0, 0}},  /* valid, partial tiles */
    {1, 3, 3, 1, 1, {0, 0, 0, 0}},    /* one pixel out of one patch */
    {1, 1, 1, 5, 3, {1, 1, 1, 1}},    /* all but one pixel of the patch is padding */
    {2, 5, 6, 3, 7, {1, 0, 1, 2}},    /* asymmetric, tails of vectors */
    {1, 13, 4, 17, 33, {2, 2, 2, 2}}, /* full */
    {2, 4, 11, 40, 20, {0, 2, 1, 0}}, /* */
    {7, 6, 6, 24, 72, {1, 1, 1, 1}},  /* panels of both sets left partly empty */
    {30, 8, 8, 64, 16, {1, 1, 1, 1}}, /* several blocks of tiles */
    {1, 10, 10, 130, 65, {1, 1, 1, 1}},
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

typedef struct example {
    ls_wino w, mirror;
    size_t n_src, n_dst, n_weights;
    void *src, *ddst; /* as the convolution takes them */
    float *weights, *bias;
    double *src_d, *ddst_d;                /* the same values */
    double *dst, *dsrc, *dweights, *dbias; /* what they should give */
    bool relu;
} example;

static uint64_t seed;
static double normal(void) { /* nearly: a sum of four uniform ones */
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(seed >> 11) / 9007199254740992.0 - 0.5;
    }
    return sum * 1.7320508;
}

static double *numbers(size_t n, ls_dtype dtype, void *as) {
    double *d = ls_xcalloc(n, sizeof *d);
    for (size_t i = 0; i < n; i++) {
        float v = (float)normal();
        if (dtype == LS_BF16) {
            ((uint16_t *)as)[i] = ls_bf16_from_f32(v);
            v = ls_bf16_to_f32(((uint16_t *)as)[i]);
        } else {
            ((float *)as)[i] = v;
        }
        d[i] = v;
    }
    return d;
}

/* All three passes: for each pair of a pixel of dst and one of src that a weight joins. */
static void reference(example *e) {
    const ls_wino *w = &e->w;
    for (int64_t n = 0; n < w->n; n++) {
        for (int64_t y = 0; y < w->out_h; y++) {
            for (int64_t x = 0; x < w->out_w; x++) {
                size_t to = (size_t)(((n * w->out_h + y) * w->out_w + x) * w->out_c);
                for (int64_t o = 0; o < w->out_c; o++) {
                    e->dbias[o] += e->ddst_d[to + (size_t)o];
                }
                for (int64_t tap = 0; tap < 9; tap++) {
                    int64_t sy = y + tap / 3 - w->pad_top, sx = x + tap % 3 - w->pad_left;
                    if (sy < 0 || sy >= w->in_h || sx < 0 || sx >= w->in_w) {
                        continue;
                    }
                    size_t from = (size_t)(((n * w->in_h + sy) * w->in_w + sx) * w->in_c);
                    for (int64_t i = 0; i < w->in_c; i++) {
                        size_t k = (size_t)((tap * w->in_c + i) * w->out_c), s = from + (size_t)i;
                        for (int64_t o = 0; o < w->out_c; o++, k++) {
                            e->dst[to + (size_t)o] += e->src_d[s] * (double)e->weights[k];
                            e->dsrc[s] += e->ddst_d[to + (size_t)o] * (double)e->weights[k];
                            e->dweights[k] += e->src_d[s] * e->ddst_d[to + (size_t)o];
                        }
                    }
                }
            }
        }
    }
    for (size_t i = 0; i < e->n_dst; i++) {
        e->dst[i] += e->bias != NULL ? (double)e->bias[i % (size_t)w->out_c] : 0;
        e->dst[i] = e->relu && e->dst[i] < 0 ? 0 : e->dst[i];
    }
}

static example *make(const shape *s, ls_dtype dtype, const ls_wino_kernels *kernels, bool bias, bool relu) {
    example *e = ls_xcalloc(1, sizeof *e);
    e->w = (ls_wino){s->n,
                     s->in_h,
                     s->in_w,
                     s->in_c,
                     s->in_h + s->pad[0] + s->pad[2] - 2,
                     s->in_w + s->pad[1] + s->pad[3] - 2,
                     s->out_c,
                     s->pad[0],
                     s->pad[1],
                     dtype,
                     kernels};
    e->mirror = ls_wino_mirror(&e->w);
    e->n_src = (size_t)(s->n * s->in_h * s->in_w * s->in_c);
    e->n_dst = (size_t)(s->n * e->w.out_h * e->w.out_w * s->out_c);
    e->n_weights = (size_t)(9 * s->in_c * s->out_c);
    e->relu = relu;
    e->src = ls_xcalloc(e->n_src, ls_dtype_bytes(dtype));
    e->ddst = ls_xcalloc(e->n_dst, ls_dtype_bytes(dtype));
    e->weights = ls_xcalloc(e->n_weights, sizeof(float));
    seed = 11;
    e->src_d = numbers(e->n_src, dtype, e->src);
    e->ddst_d = numbers(e->n_dst, dtype, e->ddst);
    free(numbers(e->n_weights, LS_F32, e->weights));
    if (bias) {
        e->bias = ls_xcalloc((size_t)s->out_c, sizeof(float));
        free(numbers((size_t)s->out_c, LS_F32, e->bias));
    }
    e->dst = ls_xcalloc(e->n_dst, sizeof(double));
    e->dsrc = ls_xcalloc(e->n_src, sizeof(double));
    e->dweights = ls_xcalloc(e->n_weights, sizeof(double));
    e->dbias = ls_xcalloc((size_t)s->out_c, sizeof(double));
    reference(e);
    return e;
}

static void drop(example *e) {
    void *owned[] = {e->src, e->ddst, e->weights, e->bias, e->src_d, e->ddst_d, e->dst, e->dsrc, e->dweights, e->dbias};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
        free(owned[i]);
    }
    free(e);
}

/* Memory full of NaN with room behind it that must stay as it is. */
enum { GUARD = 64 };
static void *dirty(size_t n_bytes) {
    char *p = ls_xcalloc(n_bytes + GUARD, 1);
    memset(p, 0xFF, n_bytes + GUARD);
    return p;
}
static void clean(void *p, size_t n_bytes) {
    for (size_t i = n_bytes; i < n_bytes + GUARD; i++) {
        assert_int_equal(((unsigned char *)p)[i], 0xFF);
    }
    free(p);
}

/* Root mean square of the error, relative to that of what was wanted. */
static double error_of(const void *got, ls_dtype dtype, const double *want, size_t n) {
    double wrong = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        double g = dtype == LS_BF16 ? ls_bf16_to_f32(((const uint16_t *)got)[i]) : ((const float *)got)[i];
        wrong += (g - want[i]) * (g - want[i]);
        all += want[i] * want[i];
    }
    return sqrt(wrong / (all > 0 ? all : 1));
}

static void *convolve(const example *e, bool backward, int n_threads) {
    const ls_wino *w = backward ? &e->mirror : &e->w;
    size_t n = backward ? e->n_src : e->n_dst, n_bytes = n * ls_dtype_bytes(w->dtype);
    size_t n_weights = ls_wino_weight_elems(w) * sizeof(float), n_scratch = ls_wino_apply_bytes(w, n_threads);
    float *weights = dirty(n_weights);
    void *scratch = dirty(n_scratch), *to = dirty(n_bytes);
    ls_wino_weights(w, n_threads, e->weights, backward, weights);
    ls_wino_apply(w, n_threads, backward ? e->ddst : e->src, weights, backward ? NULL : e->bias, !backward && e->relu,
                  to, scratch);
    clean(weights, n_weights);
    clean(scratch, n_scratch);
    return to;
}

static float *gradient(const example *e, float *dbias, int n_threads) {
    size_t n_bytes = e->n_weights * sizeof(float), n_scratch = ls_wino_gradient_bytes(&e->w, n_threads);
    float *to = dirty(n_bytes);
    void *scratch = dirty(n_scratch);
    ls_wino_gradient(&e->w, n_threads, e->src, e->ddst, to, dbias, scratch);
    clean(scratch, n_scratch);
    return to;
}

static void judge(const char *what, const shape *s, double error, double most) {
    if (!(error <= most)) {
        fail_msg("%s, %lld x %lldx%lldx%lld to %lld channels: error %.3g, at most %.3g", what, (long long)s->n,
                 (long long)s->in_h, (long long)s->in_w, (long long)s->in_c, (long long)s->out_c, error, most);
    }
}

/* Two factors rounded to bf16, each by 2^-9 / sqrt(3) in the root mean square, are off by 1.6e-3; these transforms
 * multiply that by 7 over many tiles, by more at the edge of one. */
static const double MOST_HALF = 0.02;

static void check(const shape *s, ls_dtype dtype, const ls_wino_kernels *kernels, bool bias, bool relu) {
    example *e = make(s, dtype, kernels, bias, relu);
    size_t bytes = ls_dtype_bytes(dtype), n_bias = (size_t)s->out_c * sizeof(float);
    double most = kernels->half ? MOST_HALF : dtype == LS_BF16 ? 1.0 / 256 : 2.5e-6;
    void *dst = convolve(e, false, 1), *dsrc = convolve(e, true, 1), *again;
    float *dbias = dirty(n_bias), *dweights = gradient(e, dbias, 1);
    judge("forward", s, error_of(dst, dtype, e->dst, e->n_dst), most);
    judge("backward to the input", s, error_of(dsrc, dtype, e->dsrc, e->n_src), most);
    judge("backward to the weights", s, error_of(dweights, LS_F32, e->dweights, e->n_weights),
          kernels->half ? MOST_HALF : 3.5e-6);
    judge("backward to the bias", s, error_of(dbias, LS_F32, e->dbias, (size_t)s->out_c), 2e-6);
    /* The same bits from three threads. */
    again = convolve(e, false, 3);
    assert_memory_equal(dst, again, e->n_dst * bytes);
    clean(again, e->n_dst * bytes);
    again = convolve(e, true, 3);
    assert_memory_equal(dsrc, again, e->n_src * bytes);
    clean(again, e->n_src * bytes);
    again = gradient(e, NULL, 3);
    assert_memory_equal(dweights, again, e->n_weights * sizeof(float));
    clean(again, e->n_weights * sizeof(float));
    clean(dst, e->n_dst * bytes);
    clean(dsrc, e->n_src * bytes);
    clean(dweights, e->n_weights * sizeof(float));
    clean(dbias, n_bias);
    drop(e);
}

/* The sets that both the compiler and the processor know. */
static int available(const ls_wino_kernels *out[4]) {
    int n = 0;
    __builtin_cpu_init();
    if (ls_wino_avx512_bf16 != NULL && __builtin_cpu_supports("avx512bf16")) {
        out[n++] = ls_wino_avx512_bf16;
        out[n++] = ls_wino_avx512_bf16_full;
    }
    if (ls_wino_avx512 != NULL && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
        out[n++] = ls_wino_avx512;
    }
    if (ls_wino_avx2 != NULL && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        out[n++] = ls_wino_avx2;
    }
    return n;
}

static void check_all(ls_dtype dtype, bool bias, bool relu) {
    const ls_wino_kernels *kernels[4];
    int n = available(kernels);
    if (n == 0) {
        skip();
    }
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < N_SHAPES; i++) {
            check(&shapes[i], dtype, kernels[k], bias, relu);
        }
    }
}

static void test_float32(void **state) {
    (void)state;
    check_all(LS_F32, false, false);
}

static void test_bias_and_relu(void **state) {
    (void)state;
    check_all(LS_F32, true, true);
}

static void test_bfloat16(void **state) {
    (void)state;
    check_all(LS_BF16, true, false);
}

/* The bits of a sample do not depend on those beside it, whatever block its tiles fall into. */
static void test_samples_are_independent(void **state) {
    (void)state;
    const ls_wino_kernels *kernels[4];
    int n = available(kernels);
    for (int k = 0; k < n; k++) {
        shape s = {23, 9, 9, 40, 24, {1, 1, 1, 1}};
        example *all = make(&s, LS_F32, kernels[k], true, false), one = *all;
        float *together = convolve(all, false, 1);
        size_t each = all->n_dst / (size_t)s.n;
        one.w.n = 1;
        one.n_dst = each;
        for (size_t i = 0; i < (size_t)s.n; i += 11) {
            one.src = (float *)all->src + i * all->n_src / (size_t)s.n;
            float *alone = convolve(&one, false, 1);
            assert_memory_equal(alone, together + i * each, each * sizeof *alone);
            clean(alone, each * sizeof *alone);
        }
        clean(together, all->n_dst * sizeof *together);
        drop(all);
    }
}

/* What is not a number stays so through relu, and does not reach tiles that do not see it. */
static void test_nan_is_kept(void **state) {
    (void)state;
    const ls_wino_kernels *kernels[4];
    int n = available(kernels);
    for (int k = 0; k < n; k++) {
        shape s = {1, 4, 12, 16, 16, {1, 1, 1, 1}};
        example *e = make(&s, LS_F32, kernels[k], false, true);
        ((float *)e->src)[0] = NAN;
        float *dst = convolve(e, false, 1);
        assert_true(isnan(dst[0]));
        for (size_t i = 8 * 16; i < 12 * 16; i++) {
            assert_true(isfinite(dst[i]));
        }
        clean(dst, e->n_dst * sizeof *dst);
        drop(e);
    }
}

static bool pays(int64_t size, int64_t in_c, int64_t out_c, int64_t n, double speed, bool half) {
    const ls_wino_kernels *kernels[4];
    int i = 0, some = available(kernels);
    while (i < some && kernels[i]->half != half) {
        i++;
    }
    LS_ASSERT(i < some);
    ls_wino w = {n, size, size, in_c, size, size, out_c, 1, 1, LS_F32, kernels[i]};
    return ls_wino_pays(&w, &w, speed);
}

static void test_when_it_pays(void **state) {
    (void)state;
    const ls_wino_kernels *kernels[4];
    if (available(kernels) == 0) {
        skip();
    }
    assert_true(pays(32, 64, 64, 64, 1, false));
    assert_true(pays(8, 256, 256, 64, 2, false));
    assert_true(pays(16, 32, 32, 1, 1, false));
    assert_false(pays(32, 3, 64, 64, 1, false));   /* nothing to multiply */
    assert_false(pays(1, 512, 512, 64, 1, false)); /* a tile for one pixel */
    assert_false(pays(32, 16, 16, 64, 2, false));
    if (kernels[0]->half) { /* a product takes half the time */
        assert_false(pays(16, 32, 32, 64, 2, false));
        assert_true(pays(16, 32, 32, 64, 2, true));
    }
    for (int64_t n = 1; n < 1000; n *= 3) { /* the batch has no say */
        assert_int_equal(pays(4, 64, 64, n, 1, false), pays(4, 64, 64, 1, 1, false));
        assert_int_equal(pays(6, 32, 48, n, 1, false), pays(6, 32, 48, 1, 1, false));
    }
}

static void test_kernels_by_instruction_set(void **state) {
    (void)state;
    assert_ptr_equal(ls_wino_kernels_for("avx512_core_bf16", false), ls_wino_avx512_bf16_full);
    assert_ptr_equal(ls_wino_kernels_for("avx512_core", false), ls_wino_avx512);
    assert_ptr_equal(ls_wino_kernels_for("avx2_vnni", false), ls_wino_avx2);
    assert_null(ls_wino_kernels_for("avx512_mic", false)); /* has no byte and word instructions */
    assert_ptr_equal(ls_wino_kernels_for("avx512_core_bf16", true), ls_wino_avx512_bf16);
    assert_ptr_equal(ls_wino_kernels_for("avx512_core_amx", true), ls_wino_avx512_bf16);
    assert_null(ls_wino_kernels_for("avx512_core", true));
    assert_null(ls_wino_kernels_for("avx2", true));
    assert_null(ls_wino_kernels_for("avx", false));
    assert_null(ls_wino_kernels_for("generic", false));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float32),
        cmocka_unit_test(test_bias_and_relu),
        cmocka_unit_test(test_bfloat16),
        cmocka_unit_test(test_samples_are_independent),
        cmocka_unit_test(test_nan_is_kept),
        cmocka_unit_test(test_when_it_pays),
        cmocka_unit_test(test_kernels_by_instruction_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
