/* Augmentation of images: what each geometry, fill and interpolation gives, against a projective transform written out
 * in double; contrast and brightness; gradients; that draws belong to samples; what they are without training. */
#include "common/rng.h"
#include "tests/unit/worker/ops_fixture.h"
#include "worker/ops/draw.h"

enum { N = 3, H = 6, W = 5, C = 3 };
static const double pi = 3.14159265358979323846;

static void build(fixture *f, const ls_operator *op, const void *attr, int64_t n, ls_shape in, ls_shape out) {
    fx_init(f, n);
    fx_unary(f, op, attr, fx_input(f, in), out);
    f->reference_data = attr;
    f->tolerance = 1e-4;
}

/* The words that the fixture's run draws for an image. */
static ls_philox words(const fixture *f, size_t image) {
    uint32_t index[64];
    for (uint32_t i = 0; i < 64; i++) {
        index[i] = 1000 + i;
    }
    ls_run run = {.seed = 7, .step = 3, .sample_index = index};
    return ls_draw_row(&run, f->nodes[0]->id, image, 1);
}

static double drawn(uint32_t word, double low, double high) {
    return (float)(low + (high - low) * ((double)word / 4294967296.0));
}

/* [a0 a1 a2; b0 b1 b2]: the output's (x, y) to the input's, as Keras's get_..._matrix. */
static void matrix_of(const fixture *f, size_t image, double m[6]) {
    const ls_warp_attr *a = f->reference_data;
    const ls_shape *in = &f->inputs[0]->shape, *out = &f->output->shape;
    const ls_philox r = words(f, image);
    double h = (double)in->dim[0], w = (double)in->dim[1];
    double v = drawn(r.v[0], a->low[0], a->high[0]), u = drawn(r.v[a->together ? 0 : 1], a->low[1], a->high[1]);
    const double identity[6] = {1, 0, 0, 0, 1, 0};
    memcpy(m, identity, sizeof identity);
    switch (a->kind) {
        case LS_WARP_FLIP:
            if (a->flips[1] && r.v[1] >= 0x80000000u) {
                m[0] = -1;
                m[2] = w - 1;
            }
            if (a->flips[0] && r.v[0] >= 0x80000000u) {
                m[4] = -1;
                m[5] = h - 1;
            }
            break;
        case LS_WARP_TRANSLATE:
            m[2] = -u * w;
            m[5] = -v * h;
            break;
        case LS_WARP_ZOOM:
            m[0] = 1 + u;
            m[2] = (w - 1) / 2 * (1 - (1 + u));
            m[4] = 1 + v;
            m[5] = (h - 1) / 2 * (1 - (1 + v));
            break;
        case LS_WARP_ROTATE: {
            double angle = 2 * pi * (a->low[0] + (a->high[0] - a->low[0]) * ((double)r.v[0] / 4294967296.0));
            double c = cos(angle), s = sin(angle);
            const double turn[6] = {c, -s, ((w - 1) - (c * (w - 1) - s * (h - 1))) / 2,
                                    s, c,  ((h - 1) - (s * (w - 1) + c * (h - 1))) / 2};
            memcpy(m, turn, sizeof turn);
            break;
        }
        case LS_WARP_CROP:
            m[2] = r.v[1] % (uint32_t)(in->dim[1] - out->dim[1] + 1);
            m[5] = r.v[0] % (uint32_t)(in->dim[0] - out->dim[0] + 1);
            break;
    }
}

/* The image at whole places, however far away: what the fill modes say of abcd. */
static double cell(const fixture *f, const double *image, long y, long x, int channel) {
    const ls_warp_attr *a = f->reference_data;
    const ls_shape *in = &f->inputs[0]->shape;
    const long n[2] = {(long)in->dim[0], (long)in->dim[1]};
    long at[2] = {y, x};
    for (int k = 0; k < 2; k++) {
        if (at[k] >= 0 && at[k] < n[k]) {
            continue;
        }
        if (a->fill == LS_FILL_CONSTANT) {
            return a->fill_value;
        }
        assert_true(a->fill == LS_FILL_NEAREST || a->fill == LS_FILL_REFLECT);
        while (a->fill == LS_FILL_REFLECT && (at[k] < 0 || at[k] >= n[k])) {
            at[k] = at[k] < 0 ? -at[k] - 1 : 2 * n[k] - at[k] - 1;
        }
        at[k] = at[k] < 0 ? 0 : at[k] >= n[k] ? n[k] - 1 : at[k];
    }
    return image[(at[0] * n[1] + at[1]) * in->dim[2] + channel];
}

static void warp_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const ls_warp_attr *a = f->reference_data;
    const ls_shape *from = &f->inputs[0]->shape, *to = &f->output->shape;
    (void)weight;
    for (size_t k = 0; k < (size_t)f->n_samples; k++) {
        const double *image = in[0] + k * (size_t)ls_shape_elems(from);
        double m[6];
        matrix_of(f, k, m);
        for (long i = 0; i < to->dim[0]; i++) {
            for (long j = 0; j < to->dim[1]; j++) {
                double x = m[0] * (double)j + m[1] * (double)i + m[2], y = m[3] * (double)j + m[4] * (double)i + m[5];
                double fx = a->nearest ? 0 : x - floor(x), fy = a->nearest ? 0 : y - floor(y);
                long x0 = a->nearest ? lround(x) : (long)floor(x), y0 = a->nearest ? lround(y) : (long)floor(y);
                for (int c = 0; c < to->dim[2]; c++) {
                    *out++ = (1 - fy) * ((1 - fx) * cell(f, image, y0, x0, c) + fx * cell(f, image, y0, x0 + 1, c)) +
                             fy * ((1 - fx) * cell(f, image, y0 + 1, x0, c) + fx * cell(f, image, y0 + 1, x0 + 1, c));
                }
            }
        }
    }
}

static void test_geometry(void **state) {
    (void)state;
    static const ls_warp_attr cases[] = {
        {.kind = LS_WARP_FLIP, .flips = {true, true}},
        {.kind = LS_WARP_FLIP, .flips = {false, true}},
        {.kind = LS_WARP_TRANSLATE,
         .low = {-0.7, -0.3},
         .high = {0.7, 0.5},
         .fill = LS_FILL_CONSTANT,
         .fill_value = 0.5f},
        {.kind = LS_WARP_TRANSLATE, .low = {-1, -1}, .high = {1, 1}, .fill = LS_FILL_NEAREST},
        {.kind = LS_WARP_TRANSLATE, .low = {-1, -1}, .high = {1, 1}, .nearest = true},
        {.kind = LS_WARP_ZOOM, .low = {-0.5, -0.5}, .high = {0.5, 0.5}, .fill = LS_FILL_CONSTANT},
        {.kind = LS_WARP_ZOOM, .low = {0, 0}, .high = {1, 1}, .together = true, .fill = LS_FILL_NEAREST},
        {.kind = LS_WARP_ROTATE, .low = {-0.3}, .high = {0.5}, .fill = LS_FILL_CONSTANT, .fill_value = 2},
        {.kind = LS_WARP_ROTATE, .low = {-0.3}, .high = {0.5}, .fill = LS_FILL_NEAREST, .nearest = true},
    };
    static const int channels[] = {3, 1, 4};
    for (size_t i = 0; i < 3 * sizeof cases / sizeof cases[0]; i++) {
        fixture f;
        ls_shape image = fx_shape(3, H, W, channels[i % 3]);
        build(&f, &ls_op_warp, &cases[i / 3], 8, image, image);
        f.n_threads = 1 + (int)i % 2;
        fx_check(&f, warp_reference);
    }
    static const ls_warp_attr crop = {.kind = LS_WARP_CROP};
    fixture f;
    build(&f, &ls_op_warp, &crop, 8, fx_shape(3, H, W, C), fx_shape(3, 4, 2, C));
    fx_check(&f, warp_reference);
}

/* TensorFlow brings a place back before it takes neighbours, which between the last cell and the first is not the same
 * as a line through both: the tables of the pages, at whole places, and one between. */
static void test_fills(void **state) {
    (void)state;
    static const struct {
        ls_fill fill;
        double shift;
        double want[4]; /* of the image 0 1 2 3 */
    } cases[] = {
        {LS_FILL_REFLECT, 0.5, {1, 0, 0, 1}},
        {LS_FILL_REFLECT, -0.5, {2, 3, 3, 2}},
        {LS_FILL_WRAP, 0.5, {2, 3, 0, 1}},
        {LS_FILL_WRAP, -0.5, {2, 3, 0, 1}},
        {LS_FILL_CONSTANT, 0.5, {9, 9, 0, 1}},
        {LS_FILL_CONSTANT, -0.5, {2, 3, 9, 9}},
        {LS_FILL_NEAREST, 0.5, {0, 0, 0, 1}},
        {LS_FILL_NEAREST, -0.5, {2, 3, 3, 3}},
        {LS_FILL_REFLECT, 0.375, {0.5, 0, 0.5, 1.5}},
        {LS_FILL_WRAP, 0.375, {2.5, 3, 0.5, 1.5}},
        {LS_FILL_REFLECT, 1, {3, 2, 1, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const ls_warp_attr a = {.kind = LS_WARP_TRANSLATE,
                                .low = {0, cases[i].shift},
                                .high = {0, cases[i].shift},
                                .fill = cases[i].fill,
                                .fill_value = 9};
        fixture f;
        build(&f, &ls_op_warp, &a, 1, fx_shape(3, 1, 4, 1), fx_shape(3, 1, 4, 1));
        fx_run(&f);
        float *x = ls_plan_input(f.plan, 0);
        for (int k = 0; k < 4; k++) {
            x[k] = (float)k;
        }
        uint32_t index = 0;
        ls_run run = {.n_samples = 1, .n_threads = 1, .sample_index = &index};
        ls_plan_run_forward(f.plan, &run);
        for (int k = 0; k < 4; k++) {
            if (fabs((double)ls_plan_output(f.plan, 0)[k] - cases[i].want[k]) > 1e-6) {
                fail_msg("case %zu, cell %d: %g, not %g", i, k, (double)ls_plan_output(f.plan, 0)[k], cases[i].want[k]);
            }
        }
        fx_release(&f);
    }
}

static void tone_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const ls_tone_attr *a = f->reference_data;
    (void)weight;
    for (size_t k = 0; k < (size_t)f->n_samples; k++) {
        double u = drawn(words(f, k).v[0], a->low, a->high);
        for (int c = 0; c < C; c++) {
            const double *x = in[0] + k * H * W * C + (size_t)c;
            double mean = 0;
            for (int i = 0; i < H * W; i++) {
                mean += x[i * C] / (H * W);
            }
            for (int i = 0; i < H * W; i++) {
                double y = a->contrast ? (x[i * C] - mean) * u + mean : x[i * C] + u * ((double)a->max - a->min);
                out[k * H * W * C + (size_t)(i * C + c)] = fmin(fmax(y, a->min), a->max);
            }
        }
    }
}

static void test_tone(void **state) {
    (void)state;
    static const ls_tone_attr cases[] = {{true, 0.5, 1.8, -0.7f, 0.8f},
                                         {true, 0, 1, 0, 255},
                                         {false, -0.3, 0.4, -0.7f, 0.8f},
                                         {false, -0.001, 0.001, 0, 255}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f;
        build(&f, &ls_op_tone, &cases[i], N, fx_shape(3, H, W, C), fx_shape(3, H, W, C));
        fx_check(&f, tone_reference);
    }
}

/* Windows resized: the middle, any ratio, both interpolations. */
static void resize_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const ls_resize_attr *a = f->reference_data;
    const ls_shape *from = &f->inputs[0]->shape, *to = &f->output->shape;
    (void)weight;
    for (size_t k = 0; k < (size_t)f->n_samples; k++) {
        const double *image = in[0] + k * (size_t)ls_shape_elems(from);
        for (long cell_at = 0; cell_at < to->dim[0] * to->dim[1]; cell_at++) {
            const long place[2] = {cell_at / to->dim[1], cell_at % to->dim[1]};
            long low[2], high[2];
            double share[2];
            for (int d = 0; d < 2; d++) {
                double scale = (double)a->length[d] / (double)to->dim[d], at = ((double)place[d] + 0.5) * scale;
                long last = (long)a->length[d] - 1;
                at -= a->nearest ? 0 : 0.5;
                low[d] = (long)floor(at);
                share[d] = a->nearest ? 0 : at - floor(at);
                high[d] = low[d] + 1 > last ? last : low[d] + 1;
                low[d] = low[d] < 0 ? 0 : low[d] > last ? last : low[d];
                low[d] += (long)a->start[d];
                high[d] += (long)a->start[d];
            }
            for (long c = 0; c < to->dim[2]; c++) {
                const double *x = image + c;
                long w = (long)from->dim[1], n = (long)to->dim[2];
                double top = (1 - share[1]) * x[(low[0] * w + low[1]) * n] + share[1] * x[(low[0] * w + high[1]) * n];
                double end = (1 - share[1]) * x[(high[0] * w + low[1]) * n] + share[1] * x[(high[0] * w + high[1]) * n];
                *out++ = (1 - share[0]) * top + share[0] * end;
            }
        }
    }
}

static void test_resize(void **state) {
    (void)state;
    static const struct {
        ls_resize_attr attr;
        int out[2];
    } cases[] = {{{.length = {H, W}}, {9, 3}},
                 {{.length = {H, W}, .nearest = true}, {4, 11}},
                 {{.start = {1, 2}, .length = {4, 2}}, {4, 2}},
                 {{.start = {1, 0}, .length = {3, 5}}, {7, 7}}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f;
        build(&f, &ls_op_resize, &cases[i].attr, N, fx_shape(3, H, W, C),
              fx_shape(3, cases[i].out[0], cases[i].out[1], C));
        fx_check(&f, resize_reference);
    }
    /* Keras: smart_resize((500, 300), (200, 200)) takes the middle 300 x 300. */
    ls_shape in = fx_shape(3, 500, 300, 3), out = fx_shape(3, 200, 200, 3);
    ls_resize_attr window = ls_resize_window(&in, &out);
    assert_int_equal(window.start[0], 100);
    assert_int_equal(window.length[0], 300);
    assert_int_equal(window.start[1], 0);
    assert_int_equal(window.length[1], 300);
}

/* The same sample is changed alike in a lane of its own and on any number of threads; others are not. */
static void test_draws_belong_to_samples(void **state) {
    (void)state;
    static const ls_warp_attr a = {.kind = LS_WARP_ZOOM, .low = {-0.5, -0.5}, .high = {0.5, 0.5}};
    fixture all, one;
    build(&all, &ls_op_warp, &a, N, fx_shape(3, H, W, C), fx_shape(3, H, W, C));
    all.n_threads = 2;
    build(&one, &ls_op_warp, &a, 1, fx_shape(3, H, W, C), fx_shape(3, H, W, C));
    fx_run(&all);
    fx_run(&one);
    assert_memory_equal(ls_plan_output(all.plan, 0), ls_plan_output(one.plan, 0), H * W * C * sizeof(float));
    assert_true(words(&all, 0).v[0] != words(&all, 1).v[0]);
    fx_release(&all);
    fx_release(&one);
}

static void test_inference(void **state) {
    (void)state;
    static const ls_warp_attr warps[] = {{.kind = LS_WARP_FLIP, .flips = {true, true}},
                                         {.kind = LS_WARP_ROTATE, .low = {1}, .high = {1}}};
    static const ls_tone_attr tone = {true, 0.1, 0.2, 0, 1};
    for (int i = 0; i < 3; i++) {
        fixture f;
        build(&f, i < 2 ? &ls_op_warp : &ls_op_tone, i < 2 ? (const void *)&warps[i] : &tone, N, fx_shape(3, H, W, C),
              fx_shape(3, H, W, C));
        f.inference = true;
        fx_run(&f);
        for (size_t k = 0; k < f.n_out; k++) {
            assert_true(ls_plan_output(f.plan, 0)[k] == (float)f.in[0][k]);
        }
        fx_release(&f);
    }
    static const ls_warp_attr crop = {.kind = LS_WARP_CROP};
    static const ls_resize_attr middle = {.start = {0, 1}, .length = {6, 3}};
    fixture f;
    build(&f, &ls_op_warp, &crop, N, fx_shape(3, H, W, C), fx_shape(3, 4, 2, C));
    f.inference = true;
    f.reference_data = &middle;
    fx_check(&f, resize_reference);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_geometry),
        cmocka_unit_test(test_fills),
        cmocka_unit_test(test_tone),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_draws_belong_to_samples),
        cmocka_unit_test(test_inference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
