/* Penalties on activations: what they add to the loss, and their gradients. */
#include "tests/unit/worker/ops_fixture.h"

enum { N = 3, ELEMS = 12 };

static double mean_squared_error(const fixture *f, const double *y) {
    double sum = 0;
    for (size_t i = 0; i < f->n_out; i++) {
        sum += (y[i] - f->target[i]) * (y[i] - f->target[i]);
    }
    return sum / (double)f->n_out;
}

/* rows: the samples are seen as that many rows each, as inside TimeDistributed. */
static void check(int rows, ls_dtype compute) {
    static const ls_activity_attr a = {.l1 = 0.03, .l2 = 0.2};
    fixture f;
    fx_init(&f, N);
    f.compute = compute;
    ls_tensor *t = fx_input(&f, fx_shape(1, ELEMS));
    if (rows > 1) {
        t = fx_unary(&f, &ls_op_view, NULL, t, fx_shape(1, ELEMS / rows));
        t->rows = rows;
    }
    t = fx_unary(&f, &ls_op_activity, &a, t, fx_shape(1, ELEMS / rows));
    if (rows > 1) {
        fx_unary(&f, &ls_op_view, NULL, t, fx_shape(1, ELEMS))->rows = 1;
    }
    fx_run(&f);
    double penalty = 0;
    for (size_t i = 0; i < f.n_in[0]; i++) {
        double x = f.in[0][i], sign = (x > 0) - (x < 0);
        penalty += (a.l1 * fabs(x) + a.l2 * x * x) / (N * rows);
        double g = 2 * (x - f.target[i]) / (double)f.n_out + (a.l1 * sign + 2 * a.l2 * x) / (N * rows);
        assert_true((double)ls_plan_output(f.plan, 0)[i] == x);
        assert_true(fabs(ls_plan_input_gradient(f.plan, 0)[i] - g) < 1e-6);
    }
    const double *sums = ls_plan_sums(f.plan);
    assert_true(sums[1] == N);
    assert_true(fabs(sums[0] / sums[1] - mean_squared_error(&f, f.in[0]) - penalty) < 1e-5);
    assert_true(penalty > 0.01);
    fx_release(&f);
}

static void test_penalty_and_gradient(void **state) {
    (void)state;
    check(1, LS_F32);
    if (ls_dnn_has_bf16()) {
        check(1, LS_BF16);
    }
}

static void test_rows_count_as_batch(void **state) {
    (void)state;
    check(4, LS_F32);
}

/* Between two operators the gradient from behind and the penalty's are added. */
static void test_between_operators(void **state) {
    (void)state;
    static const ls_activity_attr a = {.l1 = 0.1, .l2 = 0};
    static const ls_act_attr tanh_attr = {.kind = LS_ACT_TANH};
    fixture f;
    fx_init(&f, N);
    ls_tensor *t = fx_unary(&f, &ls_op_activation, &tanh_attr, fx_input(&f, fx_shape(1, 5)), fx_shape(1, 5));
    t = fx_unary(&f, &ls_op_activity, &a, t, fx_shape(1, 5));
    fx_unary(&f, &ls_op_activation, &tanh_attr, t, fx_shape(1, 5));
    fx_run(&f);
    for (size_t i = 0; i < f.n_in[0]; i++) {
        double y = tanh(f.in[0][i]), z = tanh(y);
        double dy = 2 * (z - f.target[i]) / (double)f.n_out * (1 - z * z) + (y > 0 ? 0.1 : -0.1) / N;
        assert_true(fabs(ls_plan_input_gradient(f.plan, 0)[i] - dy * (1 - y * y)) < 1e-6);
    }
    fx_release(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_penalty_and_gradient),
        cmocka_unit_test(test_rows_count_as_batch),
        cmocka_unit_test(test_between_operators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
