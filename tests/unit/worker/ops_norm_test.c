/* Batch normalisation against plain loops in double. */
#include "ops_fixture.h"

typedef struct bn_case {
    ls_batch_norm_attr attr;
    ls_shape shape;
    bool relu, inference;
} bn_case;

static void split(const bn_case *c, size_t *before, size_t *channels, size_t *after) {
    *before = *after = 1;
    *channels = (size_t)c->shape.dim[c->attr.axis];
    for (int i = 0; i < c->shape.rank; i++) {
        *before *= i < c->attr.axis ? (size_t)c->shape.dim[i] : 1;
        *after *= i > c->attr.axis ? (size_t)c->shape.dim[i] : 1;
    }
}

static void statistics(const fixture *f, const bn_case *c, const double *x, size_t channel, double *mean, double *var) {
    size_t before, channels, after, n = 0;
    split(c, &before, &channels, &after);
    before *= (size_t)f->n_samples;
    *mean = *var = 0;
    for (int pass = 0; pass < 2; pass++) {
        n = 0;
        for (size_t b = 0; b < before; b++) {
            for (size_t a = 0; a < after; a++, n++) {
                double v = x[(b * channels + channel) * after + a];
                *(pass ? var : mean) += pass ? (v - *mean) * (v - *mean) : v;
            }
        }
        *(pass ? var : mean) /= (double)n;
    }
}

static void reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const bn_case *c = f->reference_data;
    size_t before, channels, after;
    split(c, &before, &channels, &after);
    const double *const *w = (const double *const *)weight;
    const double *gamma = c->attr.scale ? *w++ : NULL, *beta = c->attr.center ? *w++ : NULL;
    for (size_t k = 0; k < channels; k++) {
        double mean = w[0][k], var = w[1][k];
        if (!c->inference && !c->attr.frozen) {
            statistics(f, c, in[0], k, &mean, &var);
        }
        for (size_t b = 0; b < before * (size_t)f->n_samples; b++) {
            for (size_t a = 0; a < after; a++) {
                size_t i = (b * channels + k) * after + a;
                double y = (in[0][i] - mean) / sqrt(var + (double)c->attr.epsilon);
                y = y * (gamma ? gamma[k] : 1) + (beta ? beta[k] : 0);
                out[i] = c->relu && y < 0 ? 0 : y;
            }
        }
    }
}

static void build(fixture *f, const bn_case *c, int64_t n) {
    fx_init(f, n);
    f->reference_data = c;
    f->inference = c->inference;
    ls_shape per_channel = fx_shape(1, (int)c->shape.dim[c->attr.axis]);
    ls_tensor *in[2] = {fx_input(f, c->shape), NULL};
    ls_weight *w[5] = {NULL};
    int k = 0;
    if (c->attr.scale) {
        w[k++] = fx_weight(f, per_channel);
    }
    if (c->attr.center) {
        w[k++] = fx_weight(f, per_channel);
    }
    w[k++] = fx_stat(f, per_channel);
    w[k++] = fx_stat(f, per_channel);
    ls_tensor *out = fx_node(f, &ls_op_batch_norm, &c->attr, in, w, c->shape);
    if (c->relu) {
        fx_unary(f, &ls_op_activation, &fx_relu, out, c->shape);
    }
}

static void check_statistics(const fixture *f, const bn_case *c) {
    size_t before, channels, after;
    split(c, &before, &channels, &after);
    double n = (double)(before * after) * (double)f->n_samples;
    int at = f->model.n_weights - 2;
    for (size_t k = 0; k < channels; k++) {
        double mean, var;
        statistics(f, c, f->in[0], k, &mean, &var);
        var *= c->attr.unbiased ? n / (n - 1) : 1;
        assert_true(fabs(f->gradients[f->arena->slot[at].offset + k] - mean) < 1e-5);
        assert_true(fabs(f->gradients[f->arena->slot[at + 1].offset + k] - var) < 1e-5);
    }
}

static void check(bn_case c, int64_t n, ls_dtype compute) {
    fixture f;
    build(&f, &c, n);
    f.compute = compute;
    fx_run(&f);
    fx_check_forward(&f, reference);
    fx_check_gradients(&f, reference);
    if (!c.attr.frozen && compute == LS_F32) {
        check_statistics(&f, &c);
    } else if (c.attr.frozen) {
        assert_int_equal(f.arena->n_reduced, f.arena->n_trainable); /* nothing moves */
    }
    fx_release(&f);
    c.inference = true;
    build(&f, &c, n);
    f.compute = compute;
    fx_check(&f, reference);
}

static bn_case last_axis(ls_shape shape) {
    return (bn_case){.attr = {.axis = shape.rank - 1, .epsilon = 1e-3f, .scale = true, .center = true}, .shape = shape};
}

static void test_images(void **state) {
    (void)state;
    bn_case c = last_axis(fx_shape(3, 4, 3, 5));
    c.attr.unbiased = true;
    check(c, 3, LS_F32);
    check(last_axis(fx_shape(3, 4, 4, 32)), 2, LS_F32);
}

static void test_fused_relu(void **state) {
    (void)state;
    bn_case c = last_axis(fx_shape(3, 3, 5, 16));
    c.relu = true;
    check(c, 3, LS_F32);
    c = last_axis(fx_shape(3, 3, 5, 6));
    c.relu = true;
    check(c, 3, LS_F32);
}

static void test_vectors_and_sequences(void **state) {
    (void)state;
    check(last_axis(fx_shape(1, 7)), 9, LS_F32);
    check(last_axis(fx_shape(1, 16)), 32, LS_F32);
    check(last_axis(fx_shape(2, 5, 3)), 4, LS_F32);
    check(last_axis(fx_shape(4, 2, 3, 2, 4)), 2, LS_F32);
}

static void test_first_axis(void **state) {
    (void)state;
    bn_case c = last_axis(fx_shape(3, 3, 4, 5));
    c.attr.axis = 0;
    check(c, 3, LS_F32);
    c.attr.axis = 1;
    c.relu = true;
    check(c, 3, LS_F32);
}

static void test_without_scale_or_center(void **state) {
    (void)state;
    bn_case c = last_axis(fx_shape(3, 3, 3, 8));
    c.attr.scale = false;
    check(c, 3, LS_F32);
    c.attr.center = false;
    check(c, 3, LS_F32);
    c.attr.scale = true;
    check(c, 3, LS_F32);
}

static void test_frozen(void **state) {
    (void)state;
    bn_case c = last_axis(fx_shape(3, 3, 3, 8));
    c.attr.frozen = true;
    check(c, 3, LS_F32);
    c.relu = true;
    check(c, 3, LS_F32);
    c.attr.axis = 0;
    check(c, 3, LS_F32);
}

static void test_bfloat16(void **state) {
    (void)state;
    if (!ls_dnn_has_bf16()) {
        skip();
    }
    check(last_axis(fx_shape(3, 4, 4, 16)), 4, LS_BF16);
    check(last_axis(fx_shape(1, 24)), 16, LS_BF16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_fused_relu),
        cmocka_unit_test(test_vectors_and_sequences),
        cmocka_unit_test(test_first_axis),
        cmocka_unit_test(test_without_scale_or_center),
        cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_bfloat16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
