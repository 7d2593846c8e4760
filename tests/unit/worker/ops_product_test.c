/* Products of activations, learned scales and unit vectors: forward by formula, gradients by central differences. */
#include "tests/unit/worker/ops_fixture.h"

/* ---- matmul ---- */

typedef struct {
    int64_t batch, m, n, k;
    bool ta, tb;
} product_case;

static void matmul_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const product_case *c = f->reference_data;
    (void)weight;
    for (int64_t b = 0; b < c->batch * f->n_samples; b++) {
        for (int64_t i = 0; i < c->m; i++) {
            for (int64_t j = 0; j < c->n; j++) {
                double sum = 0;
                for (int64_t l = 0; l < c->k; l++) {
                    double x = in[0][b * c->m * c->k + (c->ta ? l * c->m + i : i * c->k + l)];
                    double y = in[1][b * c->k * c->n + (c->tb ? j * c->k + l : l * c->n + j)];
                    sum += x * y;
                }
                out[(b * c->m + i) * c->n + j] = sum;
            }
        }
    }
}

static void check_matmul(product_case c, ls_dtype compute) {
    fixture f;
    fx_init(&f, 3);
    f.compute = compute;
    f.reference_data = &c;
    ls_matmul_attr a = {c.ta, c.tb};
    ls_shape x = fx_shape(3, (int)c.batch, (int)(c.ta ? c.k : c.m), (int)(c.ta ? c.m : c.k));
    ls_shape y = fx_shape(3, (int)c.batch, (int)(c.tb ? c.n : c.k), (int)(c.tb ? c.k : c.n));
    ls_tensor *in[] = {fx_input(&f, x), fx_input(&f, y), NULL};
    fx_node(&f, &ls_op_matmul, &a, in, NULL, fx_shape(3, (int)c.batch, (int)c.m, (int)c.n));
    fx_check(&f, matmul_reference);
}

static void test_products_in_every_orientation(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        check_matmul((product_case){2, 5, 3, 4, i & 1, i >> 1}, LS_F32);
        check_matmul((product_case){1, 1, 1, 7, i & 1, i >> 1}, LS_F32);
        check_matmul((product_case){3, 1, 6, 16, i & 1, i >> 1}, LS_F32);
    }
}

static void test_products_in_bfloat16(void **state) {
    (void)state;
    if (!ls_dnn_has_bf16()) {
        skip();
    }
    for (int i = 0; i < 4; i++) {
        check_matmul((product_case){2, 8, 4, 16, i & 1, i >> 1}, LS_BF16);
    }
}

/* x x^T: both inputs are the same tensor, whose gradient is the sum of two contributions. */
static void square_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    (void)weight;
    for (int64_t b = 0; b < f->n_samples; b++) {
        for (int i = 0; i < 4; i++) {
            for (int j = 0; j < 4; j++) {
                double sum = 0;
                for (int l = 0; l < 5; l++) {
                    sum += in[0][b * 20 + i * 5 + l] * in[0][b * 20 + j * 5 + l];
                }
                out[b * 16 + i * 4 + j] = sum;
            }
        }
    }
}

static void test_a_tensor_times_itself(void **state) {
    (void)state;
    fixture f;
    fx_init(&f, 2);
    static const ls_matmul_attr a = {false, true};
    ls_tensor *x = fx_input(&f, fx_shape(2, 4, 5)), *in[] = {x, x, NULL};
    fx_node(&f, &ls_op_matmul, &a, in, NULL, fx_shape(2, 4, 4));
    fx_check(&f, square_reference);
}

/* ---- scale ---- */

/* The sample is (2, 3, 4); the weight's place of an element by the axes that are shared. */
static size_t place_of(unsigned shared, int a, int b, int c) {
    size_t at = 0;
    at = shared & 1u ? at : (size_t)a;
    at = shared & 2u ? at : at * 3 + (size_t)b;
    return shared & 4u ? at : at * 4 + (size_t)c;
}

static void scale_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const ls_scale_attr *s = f->reference_data;
    for (int64_t n = 0; n < f->n_samples; n++) {
        for (int i = 0; i < 24; i++) {
            double x = in[0][n * 24 + i], w = weight[0][place_of(s->shared_axes, i / 12, i / 4 % 3, i % 4)];
            out[n * 24 + i] = s->negative_only && x > 0 ? x : w * x;
        }
    }
}

static void test_scales_shared_along_any_axes(void **state) {
    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        fixture f;
        ls_scale_attr a = {.negative_only = i >= 8, .shared_axes = i % 8};
        ls_shape w = fx_shape(3, i & 1 ? 1 : 2, i & 2 ? 1 : 3, i & 4 ? 1 : 4);
        fx_init(&f, 5);
        f.reference_data = &a;
        f.n_threads = i % 3 == 0 ? 2 : 1;
        ls_weight *weights[] = {fx_weight(&f, w), NULL};
        ls_tensor *in[] = {fx_input(&f, fx_shape(3, 2, 3, 4)), NULL};
        fx_node(&f, &ls_op_scale, &a, in, weights, fx_shape(3, 2, 3, 4));
        fx_check(&f, scale_reference);
    }
}

/* ---- l2 ---- */

static void l2_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const int n[3] = {2, 3, 4}, step[3] = {12, 4, 1};
    int axis = ((const ls_l2_attr *)f->reference_data)->axis;
    (void)weight;
    for (int64_t i = 0; i < f->n_samples * 24; i++) {
        int64_t first = i - i % 24 / step[axis] % n[axis] * step[axis];
        double sum = 0;
        for (int j = 0; j < n[axis]; j++) {
            sum += in[0][first + j * step[axis]] * in[0][first + j * step[axis]];
        }
        out[i] = in[0][i] / sqrt(sum > 1e-12 ? sum : 1e-12);
    }
}

static void test_unit_vectors(void **state) {
    (void)state;
    for (int axis = 0; axis < 3; axis++) {
        fixture f;
        ls_l2_attr a = {axis};
        fx_init(&f, 3);
        f.reference_data = &a;
        fx_unary(&f, &ls_op_l2_normalize, &a, fx_input(&f, fx_shape(3, 2, 3, 4)), fx_shape(3, 2, 3, 4));
        fx_check(&f, l2_reference);
    }
}

/* Vectors below the bound are divided by 1e-6, and so are their gradients. */
static void test_tiny_vectors_are_not_blown_up(void **state) {
    (void)state;
    fixture f;
    static const ls_l2_attr a = {0};
    fx_init(&f, 2);
    f.low = -1e-7;
    f.high = 1e-7;
    fx_unary(&f, &ls_op_l2_normalize, &a, fx_input(&f, fx_shape(1, 3)), fx_shape(1, 3));
    fx_run(&f);
    for (size_t i = 0; i < f.n_out; i++) {
        double y = f.in[0][i] / 1e-6, g = 2 * (y - f.target[i]) / (double)f.n_out / 1e-6;
        assert_true(fabs(ls_plan_output(f.plan, 0)[i] - y) < 1e-6);
        assert_true(fabs(ls_plan_input_gradient(f.plan, 0)[i] - g) < 1e-5 * fabs(g) + 1);
    }
    fx_release(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_in_every_orientation),
        cmocka_unit_test(test_products_in_bfloat16),
        cmocka_unit_test(test_a_tensor_times_itself),
        cmocka_unit_test(test_scales_shared_along_any_axes),
        cmocka_unit_test(test_unit_vectors),
        cmocka_unit_test(test_tiny_vectors_are_not_blown_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
