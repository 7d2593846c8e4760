/* Activations and softmax against the C library in double, and the vectorised elementary functions by themselves. */
#include "ops_fixture.h"
#include "worker/ops/vmath.h"

typedef struct act_case {
    ls_act_attr attr;
    ls_shape shape;
} act_case;

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static double value(const ls_act_attr *a, double x) {
    const double k = 1.05070098735548049342, alpha = 1.67326324235437728481;
    switch (a->kind) {
        case LS_ACT_RELU:
            return x >= (double)a->max_value   ? (double)a->max_value
                   : x >= (double)a->threshold ? x
                                               : (double)a->alpha * (x - (double)a->threshold);
        case LS_ACT_SIGMOID: return sigmoid(x);
        case LS_ACT_TANH: return tanh(x);
        case LS_ACT_ELU: return x > 0 ? x : (double)a->alpha * expm1(x);
        case LS_ACT_SELU: return k * (x > 0 ? x : alpha * expm1(x));
        case LS_ACT_SOFTPLUS: return log1p(exp(x));
        case LS_ACT_SOFTSIGN: return x / (1 + fabs(x));
        case LS_ACT_HARD_SIGMOID: return x < -2.5 ? 0 : x > 2.5 ? 1 : 0.2 * x + 0.5;
        case LS_ACT_EXPONENTIAL: return exp(x);
        case LS_ACT_SWISH: return x * sigmoid(x);
        case LS_ACT_GELU:
            return (double)a->alpha == 1.0 ? 0.5 * x * (1 + tanh(0.79788456080286536 * (x + 0.044715 * x * x * x)))
                                           : 0.5 * x * erfc(-x / sqrt(2));
        case LS_ACT_STEP: return x > (double)a->threshold ? 1 : 0;
        default: return x;
    }
}

static void reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const act_case *c = f->reference_data;
    (void)weight;
    if (c->attr.kind != LS_ACT_SOFTMAX) {
        for (size_t i = 0; i < f->n_out; i++) {
            out[i] = value(&c->attr, in[0][i]);
        }
        return;
    }
    size_t inner = 1, len = (size_t)c->shape.dim[c->attr.axis];
    for (int i = c->attr.axis + 1; i < c->shape.rank; i++) {
        inner *= (size_t)c->shape.dim[i];
    }
    for (size_t o = 0; o < f->n_out / (len * inner); o++) {
        for (size_t k = 0; k < inner; k++) {
            double sum = 0;
            for (size_t i = 0; i < len; i++) {
                sum += exp(in[0][(o * len + i) * inner + k]);
            }
            for (size_t i = 0; i < len; i++) {
                out[(o * len + i) * inner + k] = exp(in[0][(o * len + i) * inner + k]) / sum;
            }
        }
    }
}

/* Two views around the activation, so that it is neither input nor output and its gradient may be changed in place. */
static void check(ls_act_attr attr, ls_shape shape, int64_t n, ls_dtype compute, double tolerance) {
    fixture f;
    act_case c = {attr, shape};
    fx_init(&f, n);
    f.compute = compute;
    f.low = -4;
    f.high = 4;
    f.tolerance = tolerance;
    f.reference_data = &c;
    ls_tensor *t = fx_unary(&f, &ls_op_view, NULL, fx_input(&f, shape), shape);
    t = fx_unary(&f, &ls_op_activation, &c.attr, t, shape);
    fx_unary(&f, &ls_op_view, NULL, t, shape);
    fx_check(&f, reference);
}

static void test_elementwise(void **state) {
    (void)state;
    for (int kind = 0; kind < LS_ACT_COUNT; kind++) {
        if (kind == LS_ACT_SOFTMAX) {
            continue;
        }
        ls_act_attr a = {.kind = (ls_act_kind)kind, .max_value = INFINITY, .alpha = kind == LS_ACT_ELU ? 1.0f : 0.0f};
        check(a, fx_shape(2, 7, 9), 5, LS_F32, 2e-6);
    }
}

static void test_variants(void **state) {
    (void)state;
    check((ls_act_attr){.kind = LS_ACT_RELU, .alpha = 0.3f, .max_value = INFINITY}, fx_shape(1, 33), 3, LS_F32, 2e-6);
    check((ls_act_attr){.kind = LS_ACT_RELU, .alpha = 0.1f, .threshold = 1.0f, .max_value = 2.5f}, fx_shape(1, 33), 3,
          LS_F32, 2e-6);
    check((ls_act_attr){.kind = LS_ACT_ELU, .alpha = 0.4f}, fx_shape(1, 33), 3, LS_F32, 2e-6);
    check((ls_act_attr){.kind = LS_ACT_GELU, .alpha = 1.0f}, fx_shape(1, 33), 3, LS_F32, 2e-6);
}

static void test_softmax(void **state) {
    (void)state;
    ls_act_attr a = {.kind = LS_ACT_SOFTMAX, .axis = 0};
    check(a, fx_shape(1, 10), 7, LS_F32, 2e-6);
    check(a, fx_shape(1, 1), 3, LS_F32, 2e-6);
    check(a, fx_shape(1, 100), 3, LS_F32, 2e-6);
    check(a, fx_shape(3, 5, 3, 4), 2, LS_F32, 2e-6);
    a.axis = 1;
    check(a, fx_shape(3, 5, 3, 4), 2, LS_F32, 2e-6);
}

/* Large inputs neither overflow nor lose the sum. */
static void test_softmax_of_large_values(void **state) {
    (void)state;
    fixture f;
    act_case c = {{.kind = LS_ACT_SOFTMAX}, fx_shape(1, 12)};
    fx_init(&f, 3);
    f.low = 900;
    f.high = 905;
    f.inference = true;
    fx_unary(&f, &ls_op_activation, &c.attr, fx_input(&f, c.shape), c.shape);
    fx_run(&f);
    for (size_t row = 0; row < 3; row++) {
        double sum = 0;
        for (size_t i = 0; i < 12; i++) {
            sum += (double)ls_plan_output(f.plan, 0)[row * 12 + i];
        }
        assert_true(fabs(sum - 1) < 1e-6);
    }
    fx_release(&f);
}

/* A dense layer before it makes the activation's input bfloat16. */
static void dense_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const act_case *c = f->reference_data;
    size_t units = (size_t)c->shape.dim[0];
    for (size_t i = 0; i < f->n_out; i++) {
        double sum = 0;
        for (size_t k = 0; k < 16; k++) {
            sum += in[0][i / units * 16 + k] * weight[0][k * units + i % units];
        }
        out[i] = value(&c->attr, sum);
    }
}

static void test_bfloat16(void **state) {
    (void)state;
    if (!ls_dnn_has_bf16()) {
        skip();
    }
    static const ls_act_kind kinds[] = {LS_ACT_TANH, LS_ACT_SIGMOID, LS_ACT_SOFTPLUS};
    for (int k = 0; k < 3; k++) {
        fixture f;
        act_case c = {{.kind = kinds[k]}, fx_shape(1, 20)};
        fx_init(&f, 40);
        f.compute = LS_BF16;
        f.reference_data = &c;
        ls_tensor *in[2] = {fx_input(&f, fx_shape(1, 16)), NULL};
        ls_weight *w[2] = {fx_weight(&f, fx_shape(2, 16, 20)), NULL};
        ls_tensor *t = fx_node(&f, &ls_op_dense, NULL, in, w, c.shape);
        t = fx_unary(&f, &ls_op_activation, &c.attr, t, c.shape);
        fx_unary(&f, &ls_op_view, NULL, t, c.shape);
        fx_check(&f, dense_reference);
    }
}

/* Largest error in units of the last place of the right value, over n points of [low, high]. */
static double worst_ulp(float (*mine)(float), double (*right)(double), double low, double high) {
    double worst = 0;
    for (int i = 0; i <= 200000; i++) {
        float x = (float)(low + (high - low) * i / 200000);
        double want = right((double)x);
        double ulp = fmax(fabs(want) * 0x1p-23, 0x1p-149);
        worst = fmax(worst, fabs((double)mine(x) - want) / ulp);
    }
    return worst;
}

static float my_exp(float x) {
    return ls_expf(x);
}
static float my_expm1(float x) {
    return ls_expm1f_negative(x);
}
static float my_log1p(float x) {
    return ls_log1pf_unit(x);
}
static float my_tanh(float x) {
    return ls_tanhf(x);
}
static float my_erf(float x) {
    return ls_erff(x);
}
static float my_sigmoid(float x) {
    return ls_sigmoidf(x);
}

static void test_elementary_functions(void **state) {
    (void)state;
    double e[6] = {worst_ulp(my_exp, exp, -87, 88.5),       worst_ulp(my_expm1, expm1, -20, 0),
                   worst_ulp(my_log1p, log1p, 0, 1),        worst_ulp(my_tanh, tanh, -10, 10),
                   worst_ulp(my_sigmoid, sigmoid, -80, 20), worst_ulp(my_erf, erf, -5, 5)};
    print_message("worst ulp: exp %.2f expm1 %.2f log1p %.2f tanh %.2f sigmoid %.2f erf %.2f\n", e[0], e[1], e[2], e[3],
                  e[4], e[5]);
    for (int i = 0; i < 5; i++) {
        assert_true(e[i] < 3.0);
    }
    assert_true(e[5] < 6.0);
    assert_true(ls_expf(-200.0f) == 0.0f && isinf(ls_expf(100.0f)) && ls_expf(0.0f) == 1.0f);
    assert_true(ls_expf(-INFINITY) == 0.0f && isinf(ls_expf(INFINITY)) && isnan(ls_expf(NAN)));
    assert_true(ls_tanhf(INFINITY) == 1.0f && ls_tanhf(-INFINITY) == -1.0f && isnan(ls_tanhf(NAN)));
    assert_true(ls_sigmoidf(-INFINITY) == 0.0f && ls_sigmoidf(INFINITY) == 1.0f);
    assert_true(ls_erff(INFINITY) == 1.0f && isnan(ls_erff(NAN)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementwise), cmocka_unit_test(test_variants),
        cmocka_unit_test(test_softmax),     cmocka_unit_test(test_softmax_of_large_values),
        cmocka_unit_test(test_bfloat16),    cmocka_unit_test(test_elementary_functions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
