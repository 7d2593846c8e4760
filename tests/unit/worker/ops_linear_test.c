/* Dense and convolution against plain loops in double. */
#include "ops_fixture.h"
#include "worker/ops/winograd.h"

/* What the reference computes: one linear node, then maybe relu. */
typedef struct linear_case {
    bool dense, relu;
    bool winograd; /* must be computed so */
    ls_conv_attr conv;
    ls_shape in, out;
    bool bias;
} linear_case;

static double relu_if(bool relu, double x) {
    return relu && x < 0 ? 0 : x;
}

static void dense_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const linear_case *c = f->reference_data;
    size_t n_in = (size_t)c->in.dim[c->in.rank - 1], units = (size_t)c->out.dim[c->out.rank - 1];
    size_t rows = f->n_out / units;
    for (size_t r = 0; r < rows; r++) {
        for (size_t u = 0; u < units; u++) {
            double sum = c->bias ? weight[1][u] : 0;
            for (size_t i = 0; i < n_in; i++) {
                sum += in[0][r * n_in + i] * weight[0][i * units + u];
            }
            out[r * units + u] = relu_if(c->relu, sum);
        }
    }
}

/* Spatial extent padded to three axes with ones in front. */
static void three(const ls_shape *s, int n_spatial, int64_t out[3]) {
    for (int i = 0; i < 3; i++) {
        out[i] = i < 3 - n_spatial ? 1 : s->dim[i - (3 - n_spatial)];
    }
}

typedef struct geometry {
    int64_t small[3], large[3], k[3], stride[3], dilation[3], before[3];
} geometry;

static void conv_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const linear_case *c = f->reference_data;
    const ls_conv_attr *a = &c->conv;
    int s = a->n_spatial;
    geometry g;
    three(a->transposed ? &c->in : &c->out, s, g.small);
    three(a->transposed ? &c->out : &c->in, s, g.large);
    for (int i = 0; i < 3; i++) {
        int j = i - (3 - s);
        g.k[i] = j < 0 ? 1 : a->kernel[j];
        g.stride[i] = j < 0 ? 1 : a->stride[j];
        g.dilation[i] = j < 0 ? 1 : a->dilation[j];
        g.before[i] = j < 0 ? 0 : a->pad_before[j];
    }
    int64_t ci = c->in.dim[s], co = c->out.dim[s];
    int64_t in_each = ci / a->groups, out_each = co / a->groups;
    int64_t n_small = g.small[0] * g.small[1] * g.small[2], n_large = g.large[0] * g.large[1] * g.large[2];
    for (size_t i = 0; i < f->n_out; i++) {
        out[i] = c->bias ? weight[1][i % (size_t)co] : 0;
    }
    for (int64_t n = 0; n < f->n_samples; n++) {
        for (int64_t p = 0; p < n_small; p++) {
            int64_t at[3] = {p / (g.small[1] * g.small[2]), p / g.small[2] % g.small[1], p % g.small[2]};
            for (int64_t q = 0; q < g.k[0] * g.k[1] * g.k[2]; q++) {
                int64_t tap[3] = {q / (g.k[1] * g.k[2]), q / g.k[2] % g.k[1], q % g.k[2]}, l[3];
                bool inside = true;
                for (int i = 0; i < 3; i++) {
                    l[i] = at[i] * g.stride[i] + tap[i] * g.dilation[i] - g.before[i];
                    inside = inside && l[i] >= 0 && l[i] < g.large[i];
                }
                if (!inside) {
                    continue;
                }
                int64_t large = (n * n_large) + (l[0] * g.large[1] + l[1]) * g.large[2] + l[2];
                int64_t small = n * n_small + p;
                for (int64_t o = 0; o < co; o++) {
                    for (int64_t i = 0; i < in_each; i++) {
                        int64_t channel = o / out_each * in_each + i;
                        if (a->transposed) { /* kernel (k.., filters, C) */
                            out[large * co + o] += in[0][small * ci + channel] * weight[0][(q * co + o) * ci + channel];
                        } else if (a->depthwise) { /* kernel (k.., C, multiplier) */
                            out[small * co + o] += in[0][large * ci + channel] * weight[0][q * co + o];
                        } else { /* kernel (k.., C / groups, filters) */
                            out[small * co + o] += in[0][large * ci + channel] * weight[0][(q * in_each + i) * co + o];
                        }
                    }
                }
            }
        }
    }
    for (size_t i = 0; i < f->n_out; i++) {
        out[i] = relu_if(c->relu, out[i]);
    }
}

static bool inference_first, direct_convolution;

static int calls(const fixture *f, const char *label) {
    int n = 0;
    for (int phase = LS_PHASE_PREPARE; phase <= LS_PHASE_BACKWARD; phase++) {
        for (int i = 0; i < ls_plan_n_calls(f->plan, (ls_phase)phase); i++) {
            n += strcmp(ls_plan_call(f->plan, (ls_phase)phase, i)->label, label) == 0;
        }
    }
    return n;
}

static void check_case(linear_case *c, int64_t n, ls_dtype compute, int n_threads, bool inference) {
    fixture f;
    fx_init(&f, n);
    f.compute = compute;
    f.n_threads = n_threads;
    f.inference = inference;
    f.reference_data = c;
    f.inference_first = inference_first;
    f.direct_convolution = direct_convolution;
    int s = c->conv.n_spatial;
    int64_t ci = c->in.dim[c->in.rank - 1], co = c->out.dim[c->out.rank - 1];
    ls_shape kernel = {.rank = s + 2};
    for (int i = 0; i < s; i++) {
        kernel.dim[i] = c->conv.kernel[i];
    }
    kernel.dim[s] = c->dense ? ci : c->conv.transposed ? co : c->conv.depthwise ? ci : ci / c->conv.groups;
    kernel.dim[s + 1] = c->conv.transposed ? ci : c->conv.depthwise ? co / ci : co;
    ls_tensor *in[2] = {fx_input(&f, c->in), NULL};
    ls_weight *w[3] = {fx_weight(&f, kernel), NULL, NULL};
    if (c->bias) {
        w[1] = fx_weight(&f, fx_shape(1, (int)co));
    }
    ls_tensor *out = fx_node(&f, c->dense ? &ls_op_dense : &ls_op_conv, &c->conv, in, w, c->out);
    if (c->relu) {
        fx_unary(&f, &ls_op_activation, &fx_relu, out, c->out);
    }
    fx_run(&f);
    if (c->winograd) {
        assert_int_equal(calls(&f, "winograd.weights"), inference ? 1 : 2);
        assert_int_equal(calls(&f, "winograd.forward"), 1);
        assert_int_equal(calls(&f, "winograd.backward_data"), !inference);
        assert_int_equal(calls(&f, "winograd.backward_weights"), !inference);
    } else {
        assert_int_equal(calls(&f, "winograd.forward"), 0);
    }
    fx_check_forward(&f, c->dense ? dense_reference : conv_reference);
    if (!inference) {
        fx_check_gradients(&f, c->dense ? dense_reference : conv_reference);
    }
    fx_release(&f);
}

static void check(linear_case c, int64_t n) {
    check_case(&c, n, LS_F32, 1, false);
    check_case(&c, n, LS_F32, 1, true);
}

static linear_case dense(int in, int units, bool bias, bool relu) {
    return (linear_case){.dense = true, .relu = relu, .bias = bias, .in = fx_shape(1, in), .out = fx_shape(1, units)};
}

static void test_dense(void **state) {
    (void)state;
    check(dense(16, 64, true, false), 8);
    check(dense(16, 8, true, false), 8);
    check(dense(17, 10, true, false), 3);
    check(dense(1, 1, true, false), 1);
    check(dense(5, 3, false, true), 7);
    check(dense(40, 33, true, true), 16);
}

static void test_dense_on_sequences(void **state) {
    (void)state;
    linear_case c = dense(6, 9, true, true);
    c.in = fx_shape(3, 2, 3, 6);
    c.out = fx_shape(3, 2, 3, 9);
    check(c, 4);
}

static linear_case conv2(int h, int w, int c, int kh, int kw, int filters, int stride, int dilation, bool same) {
    linear_case l = {.bias = true, .in = fx_shape(3, h, w, c)};
    ls_conv_attr *a = &l.conv;
    *a = (ls_conv_attr){.n_spatial = 2, .kernel = {kh, kw}, .groups = 1};
    l.out = fx_shape(3, 0, 0, filters);
    for (int i = 0; i < 2; i++) {
        int64_t size = l.in.dim[i], reach = (a->kernel[i] - 1) * dilation + 1;
        a->stride[i] = stride;
        a->dilation[i] = dilation;
        l.out.dim[i] = same ? (size + stride - 1) / stride : (size - reach) / stride + 1;
        int64_t pad = (l.out.dim[i] - 1) * stride + reach - size;
        pad = same && pad > 0 ? pad : 0;
        a->pad_before[i] = pad / 2;
        a->pad_after[i] = pad - pad / 2;
    }
    return l;
}

static void test_conv(void **state) {
    (void)state;
    check(conv2(7, 6, 1, 3, 3, 32, 1, 1, false), 2);
    check(conv2(6, 5, 3, 3, 3, 16, 1, 1, true), 2);
    check(conv2(5, 7, 16, 3, 2, 20, 2, 1, true), 2); /* asymmetric padding */
    check(conv2(8, 8, 5, 3, 3, 7, 1, 2, true), 1);
    check(conv2(9, 7, 2, 4, 2, 3, 3, 1, false), 2);
    check(conv2(4, 4, 32, 1, 1, 48, 1, 1, false), 2);
}

static void test_conv_without_bias_with_relu(void **state) {
    (void)state;
    linear_case c = conv2(6, 6, 4, 3, 3, 16, 1, 1, true);
    c.bias = false;
    c.relu = true;
    check(c, 3);
}

static void test_winograd(void **state) {
    (void)state;
    if (ls_wino_kernels_for(ls_dnn_isa(), false) == NULL) {
        skip();
    }
    linear_case c = conv2(8, 7, 32, 3, 3, 40, 1, 1, true);
    c.winograd = true;
    check_case(&c, 1, LS_F32, 1, true);
    c.relu = true;
    check_case(&c, 2, LS_F32, 2, false);
    c = conv2(10, 10, 32, 3, 3, 32, 1, 1, false);
    c.winograd = true;
    c.bias = false;
    check_case(&c, 1, LS_F32, 1, false);
    if (ls_dnn_has_bf16()) {
        linear_case half = conv2(8, 8, 64, 3, 3, 32, 1, 1, true);
        half.winograd = half.relu = true;
        check_case(&half, 1, LS_BF16, 1, false);
    }
    /* A plan for direct convolutions has decided how the weights lie. */
    inference_first = true;
    check_case(&c, 1, LS_F32, 1, false);
    inference_first = false;
    /* Asked not to. */
    direct_convolution = true;
    c.winograd = false;
    check_case(&c, 1, LS_F32, 1, true);
    /* Others are not touched. */
    direct_convolution = false;
    c = conv2(8, 8, 32, 3, 3, 32, 1, 2, true);
    check_case(&c, 1, LS_F32, 1, true);
    c = conv2(8, 8, 32, 3, 3, 32, 2, 1, true);
    check_case(&c, 1, LS_F32, 1, true);
    c = conv2(8, 8, 64, 3, 3, 64, 1, 1, true);
    c.conv.groups = 2;
    check_case(&c, 1, LS_F32, 1, true);
}

static void test_conv_groups(void **state) {
    (void)state;
    linear_case c = conv2(5, 5, 6, 3, 3, 8, 1, 1, true);
    c.conv.groups = 2;
    check(c, 2);
    c = conv2(5, 5, 32, 3, 3, 32, 1, 1, true);
    c.conv.groups = 2;
    check(c, 1);
}

static void test_depthwise(void **state) {
    (void)state;
    linear_case c = conv2(6, 5, 5, 3, 3, 5, 1, 1, true);
    c.conv.groups = 5;
    c.conv.depthwise = true;
    check(c, 2);
    c = conv2(6, 6, 3, 3, 3, 6, 2, 1, false); /* multiplier 2 */
    c.conv.groups = 3;
    c.conv.depthwise = true;
    check(c, 2);
}

static void test_conv_1d_and_3d(void **state) {
    (void)state;
    linear_case c = {.bias = true, .relu = true, .in = fx_shape(2, 9, 4), .out = fx_shape(2, 4, 6)};
    c.conv = (ls_conv_attr){.n_spatial = 1, .kernel = {3}, .stride = {2}, .dilation = {1}, .groups = 1};
    check(c, 3);
    linear_case d = {.bias = true, .in = fx_shape(4, 4, 5, 3, 2), .out = fx_shape(4, 3, 4, 3, 3)};
    d.conv = (ls_conv_attr){.n_spatial = 3,
                            .kernel = {2, 2, 2},
                            .stride = {1, 1, 1},
                            .dilation = {1, 1, 1},
                            .pad_after = {0, 0, 1},
                            .groups = 1};
    check(d, 2);
}

static void test_transposed(void **state) {
    (void)state;
    linear_case c = {.bias = true, .in = fx_shape(3, 4, 3, 5), .out = fx_shape(3, 8, 6, 4)};
    c.conv = (ls_conv_attr){.n_spatial = 2,
                            .kernel = {3, 3},
                            .stride = {2, 2},
                            .dilation = {1, 1},
                            .pad_before = {0, 0},
                            .pad_after = {1, 1},
                            .groups = 1,
                            .transposed = true};
    check(c, 2);
    c.relu = true;
    c.in = fx_shape(3, 3, 3, 16);
    c.out = fx_shape(3, 7, 7, 32);
    c.conv.pad_after[0] = c.conv.pad_after[1] = 0;
    check(c, 2);
}

static void test_bfloat16(void **state) {
    (void)state;
    if (!ls_dnn_has_bf16()) {
        skip();
    }
    linear_case c = conv2(6, 6, 16, 3, 3, 32, 1, 1, true);
    check_case(&c, 2, LS_BF16, 1, false);
    c = dense(48, 20, true, false);
    check_case(&c, 16, LS_BF16, 1, false);
    c = dense(33, 7, true, true);
    check_case(&c, 5, LS_BF16, 1, false);
}

/* The gradient does not come out as the arena holds the weight: it is brought into that order. */
static void test_layout_decided_by_another_plan(void **state) {
    (void)state;
    inference_first = true;
    linear_case c = conv2(6, 6, 16, 3, 3, 32, 1, 1, true);
    check(c, 2);
    c = conv2(5, 5, 3, 3, 3, 7, 1, 1, false);
    check(c, 2);
    check(dense(40, 33, true, true), 16);
    inference_first = false;
}

static void test_two_threads(void **state) {
    (void)state;
    linear_case c = conv2(6, 6, 16, 3, 3, 32, 1, 1, true);
    check_case(&c, 3, LS_F32, 2, false);
    c = dense(64, 40, true, true);
    check_case(&c, 32, LS_F32, 2, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dense),          cmocka_unit_test(test_dense_on_sequences),
        cmocka_unit_test(test_conv),           cmocka_unit_test(test_conv_without_bias_with_relu),
        cmocka_unit_test(test_conv_groups),    cmocka_unit_test(test_depthwise),
        cmocka_unit_test(test_conv_1d_and_3d), cmocka_unit_test(test_transposed),
        cmocka_unit_test(test_bfloat16),       cmocka_unit_test(test_layout_decided_by_another_plan),
        cmocka_unit_test(test_two_threads),    cmocka_unit_test(test_winograd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
