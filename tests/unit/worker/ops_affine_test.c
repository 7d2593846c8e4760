/* Rescaling and normalization by numbers that are not learned. */
#include "tests/unit/worker/ops_fixture.h"

/* The sample is (2, 3). */
static size_t place_of(unsigned shared, size_t e) {
    size_t a = e / 3, b = e % 3, at = shared & 1u ? 0 : a;
    return shared & 2u ? at : at * 3 + b;
}

static size_t count_of(unsigned shared) {
    return (shared & 1u ? 1 : 2) * (shared & 2u ? 1 : 3);
}

static void reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const ls_affine_attr *a = f->reference_data;
    size_t n = count_of(a->shared_axes);
    for (size_t i = 0; i < f->n_out; i++) {
        size_t k = place_of(a->shared_axes, i % 6);
        double x = in[0][i];
        if (a->constants != NULL) {
            out[i] = (x - a->constants[k]) * a->constants[n + k] + a->constants[2 * n + k];
        } else {
            double deviation = fmax(sqrt(weight[1][k]), 1e-7);
            out[i] = a->invert ? x * deviation + weight[0][k] : (x - weight[0][k]) / deviation;
        }
    }
}

static void test_constants(void **state) {
    (void)state;
    float numbers[18];
    for (int i = 0; i < 18; i++) {
        numbers[i] = 0.3f * (float)i - 1;
    }
    for (unsigned shared = 0; shared < 4; shared++) {
        fixture f;
        ls_affine_attr a = {.shared_axes = shared, .constants = numbers};
        fx_init(&f, 3);
        f.reference_data = &a;
        fx_unary(&f, &ls_op_affine, &a, fx_input(&f, fx_shape(2, 2, 3)), fx_shape(2, 2, 3));
        fx_check(&f, reference);
    }
}

static void test_mean_and_variance(void **state) {
    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        fixture f;
        ls_affine_attr a = {.shared_axes = i % 4, .invert = i >= 4};
        ls_shape shape = fx_shape(1, (int)count_of(a.shared_axes));
        fx_init(&f, 3);
        f.reference_data = &a;
        ls_weight *weights[] = {fx_stat(&f, shape), fx_stat(&f, shape), NULL}; /* positive numbers */
        ls_tensor *in[] = {fx_input(&f, fx_shape(2, 2, 3)), NULL};
        fx_node(&f, &ls_op_affine, &a, in, weights, fx_shape(2, 2, 3));
        fx_check(&f, reference);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_constants), cmocka_unit_test(test_mean_and_variance)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
