/* Losses of masked outputs: the mean over the time steps that count, in value and gradient. */
#include "tests/unit/worker/ops_fixture.h"

enum { N = 3, T = 4, C = 2, A = 5 };

/* One activation over (T, [A,] C) whose output is masked by the model's second input. */
typedef struct masked {
    fixture f;
    int64_t rows_per_step;
} masked;

static const ls_act_attr tanh_attr = {.kind = LS_ACT_TANH};

static void start(masked *m, ls_shape shape) {
    fx_init(&m->f, N);
    m->rows_per_step = ls_shape_elems(&shape) / (T * C);
    ls_tensor *in[2] = {fx_input(&m->f, shape), NULL}, *mask = fx_input(&m->f, fx_shape(1, T));
    fx_node(&m->f, &ls_op_activation, &tanh_attr, in, NULL, shape)->mask = mask;
    fx_run(&m->f);
}

/* Runs with the mask and compares with sum over what counts / (its rows * C); rows: how many count. */
static void run_and_check(masked *m, const float *mask, int64_t n_rows_that_count) {
    fixture *f = &m->f;
    uint32_t index[N] = {0, 1, 2};
    ls_run run = {.n_samples = N, .n_threads = 1, .grad_scale = 1.0f / N, .stat_scale = 1, .sample_index = index};
    for (size_t i = 0; i < f->n_in[0]; i++) {
        ((float *)ls_plan_input(f->plan, 0))[i] = (float)f->in[0][i];
        ((float *)ls_plan_target(f->plan, 0))[i] = (float)f->target[i];
    }
    memcpy(ls_plan_input(f->plan, 1), mask, N * T * sizeof *mask);
    ls_plan_run_forward(f->plan, &run);
    ls_plan_run_backward(f->plan, &run, NULL, NULL);
    double loss = 0, all = (double)(n_rows_that_count * C);
    const float *got = ls_plan_input_gradient(f->plan, 0);
    for (size_t i = 0; i < f->n_in[0]; i++) {
        double y = tanh(f->in[0][i]), d = y - f->target[i];
        bool counts = mask[i / (size_t)(C * m->rows_per_step)] != 0;
        double want = counts ? 2 * d * (1 - y * y) / all : 0;
        loss += counts ? d * d / all : 0;
        assert_true(fabs((double)got[i] - want) < 1e-6);
    }
    const double *sums = ls_plan_sums(f->plan);
    assert_true(fabs(sums[0] / sums[1] - loss) < 1e-6);
}

static const float some[N * T] = {1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1};

static void test_steps_that_count(void **state) {
    (void)state;
    masked m;
    start(&m, fx_shape(2, T, C));
    assert_true(ls_heads_masked(m.f.output));
    run_and_check(&m, some, 5);
    fx_release(&m.f);
}

static void test_several_rows_a_step(void **state) {
    (void)state;
    masked m;
    start(&m, fx_shape(3, T, A, C));
    run_and_check(&m, some, 5 * A);
    fx_release(&m.f);
}

static void test_no_step_counts(void **state) {
    (void)state;
    static const float none[N * T] = {0};
    masked m;
    start(&m, fx_shape(2, T, C));
    run_and_check(&m, none, 1);
    fx_release(&m.f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps_that_count),
                                       cmocka_unit_test(test_several_rows_a_step),
                                       cmocka_unit_test(test_no_step_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
