/* Pooling and global pooling against plain loops in double. */
#include "ops_fixture.h"

typedef struct pool_case {
    ls_pool_attr attr;
    ls_shape in, out;
} pool_case;

static int64_t axis(const ls_shape *s, int n_spatial, int i, int64_t none) {
    return i < 3 - n_spatial ? none : s->dim[i - (3 - n_spatial)];
}

static int64_t of(const int64_t *v, int n_spatial, int i, int64_t none) {
    return i < 3 - n_spatial ? none : v[i - (3 - n_spatial)];
}

static void pool_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const pool_case *c = f->reference_data;
    const ls_pool_attr *a = &c->attr;
    int s = a->n_spatial;
    int64_t channels = c->in.dim[s], li[3], lo[3];
    (void)weight;
    for (int i = 0; i < 3; i++) {
        li[i] = axis(&c->in, s, i, 1);
        lo[i] = axis(&c->out, s, i, 1);
    }
    for (size_t k = 0; k < f->n_out; k++) {
        int64_t rest = (int64_t)k, at[3];
        int64_t ch = rest % channels;
        rest /= channels;
        for (int i = 2; i >= 0; i--) {
            at[i] = rest % lo[i];
            rest /= lo[i];
        }
        double top = -1e30, sum = 0;
        int64_t n = 0, first[3], end[3];
        for (int i = 0; i < 3; i++) {
            first[i] = at[i] * of(a->stride, s, i, 1) - of(a->pad_before, s, i, 0);
            end[i] = first[i] + of(a->kernel, s, i, 1);
        }
        for (int64_t d = first[0]; d < end[0]; d++) {
            for (int64_t h = first[1]; h < end[1]; h++) {
                for (int64_t w = first[2]; w < end[2]; w++) {
                    if (d < 0 || h < 0 || w < 0 || d >= li[0] || h >= li[1] || w >= li[2]) {
                        continue;
                    }
                    double x = in[0][(((rest * li[0] + d) * li[1] + h) * li[2] + w) * channels + ch];
                    top = x > top ? x : top;
                    sum += x;
                    n++;
                }
            }
        }
        out[k] = a->average ? sum / (double)n : top;
    }
}

static void check_pool(pool_case c, int64_t n, ls_dtype compute) {
    for (int average = 0; average < 2; average++) {
        for (int inference = 0; inference < 2; inference++) {
            fixture f;
            c.attr.average = average;
            fx_init(&f, n);
            f.compute = compute;
            f.inference = inference;
            f.distinct = compute == LS_BF16;
            f.reference_data = &c;
            fx_unary(&f, &ls_op_pool, &c.attr, fx_input(&f, c.in), c.out);
            fx_check(&f, pool_reference);
        }
    }
}

/* Windows of `kernel` every `stride`, padded as Keras does for "same". */
static pool_case pool(ls_shape in, int64_t kernel, int64_t stride, bool same) {
    pool_case c = {.in = in, .out = in};
    c.attr.n_spatial = in.rank - 1;
    for (int i = 0; i < in.rank - 1; i++) {
        c.attr.kernel[i] = kernel;
        c.attr.stride[i] = stride;
        c.out.dim[i] = same ? (in.dim[i] + stride - 1) / stride : (in.dim[i] - kernel) / stride + 1;
        int64_t pad = (c.out.dim[i] - 1) * stride + kernel - in.dim[i];
        pad = same && pad > 0 ? pad : 0;
        c.attr.pad_before[i] = pad / 2;
        c.attr.pad_after[i] = pad - pad / 2;
    }
    return c;
}

static void test_pool_2d(void **state) {
    (void)state;
    check_pool(pool(fx_shape(3, 6, 8, 16), 2, 2, false), 2, LS_F32);
    check_pool(pool(fx_shape(3, 5, 7, 3), 2, 2, false), 2, LS_F32);
    check_pool(pool(fx_shape(3, 5, 6, 5), 3, 2, true), 2, LS_F32); /* overlapping, asymmetric padding */
    check_pool(pool(fx_shape(3, 4, 5, 17), 3, 1, true), 1, LS_F32);
    check_pool(pool(fx_shape(3, 7, 7, 2), 2, 3, false), 2, LS_F32); /* gaps */
}

static void test_pool_1d_and_3d(void **state) {
    (void)state;
    check_pool(pool(fx_shape(2, 9, 4), 3, 2, true), 3, LS_F32);
    check_pool(pool(fx_shape(4, 4, 3, 5, 3), 2, 2, true), 2, LS_F32);
}

static void test_pool_bfloat16(void **state) {
    (void)state;
    if (!ls_dnn_has_bf16()) {
        skip();
    }
    check_pool(pool(fx_shape(3, 6, 6, 16), 2, 2, false), 2, LS_BF16);
}

/* Of equal cells in a window one takes the whole gradient, whatever the kernel: none is lost or doubled. */
static void test_ties(void **state) {
    (void)state;
    fixture f;
    pool_case c = pool(fx_shape(3, 4, 4, 16), 2, 2, false);
    fx_init(&f, 1);
    f.low = f.high = 0.5;
    f.reference_data = &c;
    fx_unary(&f, &ls_op_pool, &c.attr, fx_input(&f, c.in), c.out);
    fx_run(&f);
    fx_check_forward(&f, pool_reference);
    const float *dx = ls_plan_input_gradient(f.plan, 0);
    for (size_t window = 0; window < 4; window++) {
        for (size_t ch = 0; ch < 16; ch++) {
            size_t out = window * 16 + ch;
            double want = 2 * (0.5 - f.target[out]) / (double)f.n_out, sum = 0;
            for (size_t cell = 0; cell < 4; cell++) {
                size_t y = window / 2 * 2 + cell / 2, x = window % 2 * 2 + cell % 2;
                sum += (double)dx[(y * 4 + x) * 16 + ch];
            }
            assert_true(fabs(sum - want) < 1e-6);
        }
    }
    fx_release(&f);
}

/* Dense, relu, max pooling: the pooling masks the gradient of the relu. The dense layer's rows are the image's cells.
 */
static void dense_relu_pool(const fixture *f, double *const *in, double *const *weight, double *out) {
    const pool_case *c = f->reference_data;
    int64_t channels = c->in.dim[2];
    fixture inner = *f;
    size_t n = (size_t)(f->n_samples * ls_shape_elems(&c->in));
    double *middle = ls_xcalloc(n, sizeof *middle), *ins[1] = {middle};
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k < 4; k++) {
            sum += in[0][i / (size_t)channels * 4 + k] * weight[0][k * (size_t)channels + i % (size_t)channels];
        }
        middle[i] = sum > 0 ? sum : 0;
    }
    pool_reference(&inner, ins, weight, out);
    free(middle);
}

static void test_relu_before_pool(void **state) {
    (void)state;
    for (int average = 0; average < 2; average++) {
        for (int stride = 1; stride < 3; stride++) {
            fixture f;
            pool_case c = pool(fx_shape(3, 5, 6, 8), 3 - (stride == 2), stride, stride == 1);
            c.attr.average = average;
            fx_init(&f, 3);
            f.reference_data = &c;
            ls_weight *w[2] = {fx_weight(&f, fx_shape(2, 4, 8)), NULL};
            ls_tensor *in[2] = {fx_input(&f, fx_shape(3, 5, 6, 4)), NULL};
            ls_tensor *t = fx_node(&f, &ls_op_dense, NULL, in, w, c.in);
            t = fx_unary(&f, &ls_op_activation, &fx_relu, t, c.in);
            fx_unary(&f, &ls_op_pool, &c.attr, t, c.out);
            fx_check(&f, dense_relu_pool);
        }
    }
}

typedef struct global_case {
    ls_global_pool_attr attr;
    ls_shape in;
    bool masked;
} global_case;

static void global_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const global_case *c = f->reference_data;
    size_t channels = (size_t)c->in.dim[c->in.rank - 1], cells = (size_t)ls_shape_elems(&c->in) / channels;
    (void)weight;
    for (size_t k = 0; k < f->n_out; k++) {
        size_t row = k / channels, ch = k % channels;
        double top = -1e30, sum = 0, n = 0;
        for (size_t i = 0; i < cells; i++) {
            double x = in[0][(row * cells + i) * channels + ch], m = c->masked ? in[1][row * cells + i] : 1;
            top = x > top ? x : top;
            sum += x * m;
            n += m;
        }
        out[k] = c->attr.average ? sum / n : top;
    }
}

static void check_global(global_case c, int64_t n, ls_dtype compute) {
    fixture f;
    fx_init(&f, n);
    f.compute = compute;
    f.reference_data = &c;
    fx_unary(&f, &ls_op_global_pool, &c.attr, fx_input(&f, c.in), fx_shape(1, (int)c.in.dim[c.in.rank - 1]));
    fx_check(&f, global_reference);
}

static void test_global(void **state) {
    (void)state;
    for (int average = 0; average < 2; average++) {
        check_global((global_case){.attr = {average}, .in = fx_shape(3, 3, 5, 7)}, 3, LS_F32);
        check_global((global_case){.attr = {average}, .in = fx_shape(2, 1, 300)}, 2, LS_F32);
        check_global((global_case){.attr = {average}, .in = fx_shape(4, 2, 3, 2, 5)}, 2, LS_F32);
    }
}

/* Cells that are equally large share the gradient. */
static void test_global_max_of_equals(void **state) {
    (void)state;
    fixture f;
    global_case c = {.attr = {false}, .in = fx_shape(2, 6, 5)};
    fx_init(&f, 2);
    f.low = f.high = 0.25;
    f.reference_data = &c;
    fx_unary(&f, &ls_op_global_pool, &c.attr, fx_input(&f, c.in), fx_shape(1, 5));
    fx_run(&f);
    for (size_t i = 0; i < f.n_in[0]; i++) {
        double dy = 2 * (0.25 - f.target[i / 30 * 5 + i % 5]) / (double)f.n_out;
        assert_true(fabs((double)ls_plan_input_gradient(f.plan, 0)[i] - dy / 6) < 1e-7);
    }
    fx_release(&f);
}

static void test_global_average_with_mask(void **state) {
    (void)state;
    fixture f;
    global_case c = {.attr = {true}, .in = fx_shape(2, 6, 5), .masked = true};
    fx_init(&f, 3);
    f.reference_data = &c;
    ls_tensor *in = fx_input(&f, c.in);
    in->mask = fx_input(&f, fx_shape(1, 6));
    fx_unary(&f, &ls_op_global_pool, &c.attr, in, fx_shape(1, 5));
    fx_run(&f);
    float *mask = ls_plan_input(f.plan, 1);
    for (size_t i = 0; i < f.n_in[1]; i++) {
        f.in[1][i] = mask[i] = i % 6 < 2 + i / 6 ? 1.0f : 0.0f;
    }
    /* inputs may share memory with later values, so they are written again before another run */
    for (size_t i = 0; i < f.n_in[0]; i++) {
        ((float *)ls_plan_input(f.plan, 0))[i] = (float)f.in[0][i];
    }
    for (size_t i = 0; i < f.n_out; i++) {
        ((float *)ls_plan_target(f.plan, 0))[i] = (float)f.target[i];
    }
    ls_run run = {f.n_samples, 1, 1.0f / 3, 1.0f, 7, 3, NULL};
    ls_plan_run_forward(f.plan, &run);
    ls_plan_run_backward(f.plan, &run, NULL, NULL);
    fx_check_forward(&f, global_reference);
    fx_differences(&f, global_reference, "input gradient", f.in[0], ls_plan_input_gradient(f.plan, 0), f.n_in[0]);
    fx_release(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_2d),
        cmocka_unit_test(test_pool_1d_and_3d),
        cmocka_unit_test(test_pool_bfloat16),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_relu_before_pool),
        cmocka_unit_test(test_global),
        cmocka_unit_test(test_global_max_of_equals),
        cmocka_unit_test(test_global_average_with_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
