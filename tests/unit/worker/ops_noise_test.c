/* Noise: its moments, that a sample's draws are its own, its gradients, and that inference has none. */
#include "tests/unit/worker/ops_fixture.h"

enum { N = 4, ELEMS = 4096 };

static void build(fixture *f, const ls_noise_attr *a, int64_t n, int elems) {
    fx_init(f, n);
    fx_unary(f, &ls_op_noise, a, fx_input(f, fx_shape(1, elems)), fx_shape(1, elems));
}

static void moments(const double *x, size_t n, double *mean, double *deviation) {
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i];
        square += x[i] * x[i];
    }
    *mean = sum / (double)n;
    *deviation = sqrt(square / (double)n - *mean * *mean);
}

/* What the noise did to each element, as a standard normal number. */
static void test_gaussian(void **state) {
    (void)state;
    static const ls_noise_attr cases[] = {{LS_NOISE_ADD, 0.3}, {LS_NOISE_MULTIPLY, 0.2}};
    for (int i = 0; i < 2; i++) {
        fixture f;
        build(&f, &cases[i], N, ELEMS);
        f.low = 0.5;
        fx_run(&f);
        double *z = ls_xcalloc(f.n_out, sizeof *z), mean, deviation, beyond = 0, together = 0;
        for (size_t k = 0; k < f.n_out; k++) {
            double x = f.in[0][k], y = ls_plan_output(f.plan, 0)[k];
            z[k] = i == 0 ? (y - x) / 0.3 : (y / x - 1) / sqrt(0.2 / 0.8);
            beyond += fabs(z[k]) > 1.959964 ? 1 : 0;
            together += k > 0 ? z[k] * z[k - 1] : 0;
            double slope = i == 0 ? 1 : y / x, g = 2 * (y - f.target[k]) / (double)f.n_out * slope;
            assert_true(fabs(ls_plan_input_gradient(f.plan, 0)[k] - g) < 1e-7);
        }
        moments(z, f.n_out, &mean, &deviation);
        assert_true(fabs(mean) < 0.03); /* of 16384 draws: four standard errors */
        assert_true(fabs(deviation - 1) < 0.025);
        assert_true(fabs(beyond / (double)f.n_out - 0.05) < 0.008);
        assert_true(fabs(together / (double)f.n_out) < 0.035);
        for (size_t k = 0; k < ELEMS; k++) { /* no two samples alike */
            assert_true(z[k] != z[ELEMS + k]);
        }
        free(z);
        fx_release(&f);
    }
}

/* Dropped elements get one value, others an affine map, chosen so that mean 0 and deviation 1 stay. */
static void test_alpha_dropout(void **state) {
    (void)state;
    static const ls_noise_attr a = {LS_NOISE_ALPHA, 0.3};
    const double limit = -1.7580993408473766, slope = 1 / sqrt(0.7 * (1 + 0.3 * limit * limit));
    const double kept = -slope * limit * 0.3, dropped = slope * limit + kept;
    fixture f;
    build(&f, &a, N, ELEMS);
    f.low = -sqrt(3.0); /* uniform of mean 0 and deviation 1 */
    f.high = sqrt(3.0);
    fx_run(&f);
    double *y = ls_xcalloc(f.n_out, sizeof *y), mean, deviation, n_dropped = 0;
    for (size_t k = 0; k < f.n_out; k++) {
        y[k] = ls_plan_output(f.plan, 0)[k];
        bool gone = fabs(y[k] - dropped) < 1e-6;
        n_dropped += gone;
        assert_true(gone || fabs(y[k] - (f.in[0][k] * slope + kept)) < 1e-6);
        double g = gone ? 0 : 2 * (y[k] - f.target[k]) / (double)f.n_out * slope;
        assert_true(fabs(ls_plan_input_gradient(f.plan, 0)[k] - g) < 1e-7);
    }
    moments(y, f.n_out, &mean, &deviation);
    assert_true(fabs(n_dropped / (double)f.n_out - 0.3) < 0.015);
    assert_true(fabs(mean) < 0.035);
    assert_true(fabs(deviation - 1) < 0.025);
    free(y);
    fx_release(&f);
}

/* The same sample is disturbed alike in a lane of its own and on any number of threads. */
static void test_draws_belong_to_samples(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        ls_noise_attr a = {(ls_noise_kind)kind, 0.4};
        fixture all, one;
        build(&all, &a, 3, 37);
        all.n_threads = 2;
        build(&one, &a, 1, 37);
        all.low = one.low = 1;
        fx_run(&all);
        fx_run(&one);
        assert_memory_equal(ls_plan_output(all.plan, 0), ls_plan_output(one.plan, 0), 37 * sizeof(float));
        fx_release(&all);
        fx_release(&one);
    }
}

static void test_inference_is_quiet(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        ls_noise_attr a = {(ls_noise_kind)kind, 0.4};
        fixture f;
        build(&f, &a, 2, 9);
        f.inference = true;
        fx_run(&f);
        for (size_t k = 0; k < f.n_out; k++) {
            assert_true(ls_plan_output(f.plan, 0)[k] == (float)f.in[0][k]);
        }
        fx_release(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gaussian),
        cmocka_unit_test(test_alpha_dropout),
        cmocka_unit_test(test_draws_belong_to_samples),
        cmocka_unit_test(test_inference_is_quiet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
