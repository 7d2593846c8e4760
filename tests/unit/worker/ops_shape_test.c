/* Rearrangements (permute, repeat, pad, crop, up-sample), bilinear enlargement, layer normalisation. */
#include "ops_fixture.h"

/* ---- rearrangements ---- */

typedef struct rearrange_case {
    ls_rearrange_attr attr;
    ls_shape in, out;
} rearrange_case;

static void rearrange_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const rearrange_case *c = f->reference_data;
    size_t n_in = (size_t)ls_shape_elems(&c->in), n_out = (size_t)ls_shape_elems(&c->out);
    (void)weight;
    for (size_t i = 0; i < f->n_out; i++) {
        int64_t index[LS_MAX_RANK] = {0}, rest = (int64_t)(i % n_out), at = 0;
        bool inside = true;
        for (int a = c->out.rank - 1; a >= 0; a--) {
            int64_t o = rest % c->out.dim[a];
            rest /= c->out.dim[a];
            if (c->attr.source[a] >= 0) {
                int64_t from = o / c->attr.factor[a] - c->attr.before[a];
                inside = inside && from >= 0 && from < c->in.dim[c->attr.source[a]];
                index[c->attr.source[a]] = from;
            }
        }
        for (int a = 0; a < c->in.rank; a++) {
            at = at * c->in.dim[a] + index[a];
        }
        out[i] = inside ? in[0][i / n_out * n_in + (size_t)at] : 0;
    }
}

static void test_rearrangements(void **state) {
    (void)state;
    const rearrange_case cases[] = {
        {{.source = {2, 0, 1}, .factor = {1, 1, 1}}, fx_shape(3, 2, 3, 4), fx_shape(3, 4, 2, 3)},
        {{.source = {-1, 0}, .factor = {1, 1}}, fx_shape(1, 5), fx_shape(2, 3, 5)},
        {{.source = {0, 1, 2}, .factor = {1, 1, 1}, .before = {1, 2, 0}}, fx_shape(3, 3, 2, 2), fx_shape(3, 4, 5, 2)},
        {{.source = {0, 1}, .factor = {1, 1}, .before = {-2, 0}}, fx_shape(2, 6, 3), fx_shape(2, 3, 3)},
        {{.source = {0, 1, 2}, .factor = {3, 2, 1}}, fx_shape(3, 2, 3, 2), fx_shape(3, 6, 6, 2)},
        {{.source = {0, 1}, .factor = {1, 2}}, fx_shape(2, 2, 3), fx_shape(2, 2, 6)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int threads = 1; threads <= 2; threads++) {
            fixture f;
            fx_init(&f, 3);
            f.n_threads = threads;
            f.reference_data = &cases[i];
            ls_tensor *in[] = {fx_input(&f, cases[i].in), NULL};
            f.output = fx_node(&f, &ls_op_rearrange, &cases[i].attr, in, NULL, cases[i].out);
            fx_check(&f, rearrange_reference);
        }
    }
}

/* ---- bilinear enlargement ---- */

/* One axis: the value at (i + 0.5) / factor - 0.5 of n cells `stride` apart. */
static double between(const double *x, int64_t n, int64_t stride, double at) {
    double clamped = fmin(fmax(at, 0), (double)(n - 1));
    int64_t low = (int64_t)clamped, high = low + 1 < n ? low + 1 : low;
    double share = clamped - (double)low;
    return (1 - share) * x[low * stride] + share * x[high * stride];
}

enum { ROWS = 3, COLUMNS = 2, CHANNELS = 2, BY_ROW = 2, BY_COLUMN = 3 };

static void resize_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    (void)weight;
    for (size_t i = 0; i < f->n_out; i++) {
        size_t c = i % CHANNELS, w = i / CHANNELS % (COLUMNS * BY_COLUMN);
        size_t h = i / CHANNELS / (COLUMNS * BY_COLUMN) % (ROWS * BY_ROW);
        size_t sample = i / CHANNELS / (COLUMNS * BY_COLUMN) / (ROWS * BY_ROW);
        const double *x = in[0] + sample * ROWS * COLUMNS * CHANNELS + c;
        double lines[ROWS];
        for (int r = 0; r < ROWS; r++) {
            lines[r] = between(x + r * COLUMNS * CHANNELS, COLUMNS, CHANNELS, ((double)w + 0.5) / BY_COLUMN - 0.5);
        }
        out[i] = between(lines, ROWS, 1, ((double)h + 0.5) / BY_ROW - 0.5);
    }
}

static void test_resize(void **state) {
    (void)state;
    static const ls_resize_attr attr = {.length = {ROWS, COLUMNS}};
    fixture f;
    fx_init(&f, 2);
    ls_tensor *in[] = {fx_input(&f, fx_shape(3, ROWS, COLUMNS, CHANNELS)), NULL};
    f.output = fx_node(&f, &ls_op_resize, &attr, in, NULL, fx_shape(3, ROWS * BY_ROW, COLUMNS * BY_COLUMN, CHANNELS));
    fx_check(&f, resize_reference);
}

/* ---- layer normalisation ---- */

static void layer_norm_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const ls_layer_norm_attr *a = f->reference_data;
    const ls_shape *s = &f->inputs[0]->shape;
    size_t width = 1;
    for (int i = s->rank - a->n_axes; i < s->rank; i++) {
        width *= (size_t)s->dim[i];
    }
    for (size_t g = 0; g < f->n_out / width; g++) {
        const double *x = in[0] + g * width;
        double mean = 0, variance = 0;
        for (size_t k = 0; k < width; k++) {
            mean += x[k] / (double)width;
        }
        for (size_t k = 0; k < width; k++) {
            variance += (x[k] - mean) * (x[k] - mean) / (double)width;
        }
        for (size_t k = 0; k < width; k++) {
            double y = (x[k] - mean) / sqrt(variance + (double)a->epsilon);
            y *= a->scale ? weight[0][k] : 1;
            out[g * width + k] = y + (a->center ? weight[a->scale ? 1 : 0][k] : 0);
        }
    }
}

static void test_layer_norm(void **state) {
    (void)state;
    const ls_layer_norm_attr cases[] = {{1, 1e-3f, true, true},
                                        {2, 1e-3f, true, true},
                                        {1, 1e-2f, false, true},
                                        {1, 1e-3f, true, false},
                                        {2, 1e-3f, false, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const ls_layer_norm_attr *a = &cases[i];
        fixture f;
        fx_init(&f, 3);
        f.n_threads = 1 + (int)(i % 2);
        f.reference_data = a;
        ls_shape shape = fx_shape(2, 4, 5), last = a->n_axes == 2 ? shape : fx_shape(1, 5);
        ls_tensor *in[] = {fx_input(&f, shape), NULL};
        ls_weight *weights[3] = {NULL};
        int n = 0;
        if (a->scale) {
            weights[n++] = fx_weight(&f, last);
        }
        if (a->center) {
            weights[n++] = fx_weight(&f, last);
        }
        f.output = fx_node(&f, &ls_op_layer_norm, a, in, weights, shape);
        fx_check(&f, layer_norm_reference);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rearrangements),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_layer_norm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
