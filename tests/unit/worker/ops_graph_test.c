/* Merges, concatenation, views and dropout. */
#include "common/rng.h"
#include "ops_fixture.h"

enum { MOST = 4 };

typedef struct merge_case {
    ls_merge_attr attr;
    int n_in;
    ls_shape in[MOST], out;
} merge_case;

/* The place in input k that element i of the output reads. */
static size_t place(const merge_case *c, int k, size_t i) {
    size_t at = 0, step = 1, per_sample = (size_t)ls_shape_elems(&c->out), rest = i % per_sample;
    const ls_shape *s = &c->in[k];
    for (int a = c->out.rank - 1; a >= 0; a--) {
        int b = a - (c->out.rank - s->rank);
        size_t index = rest % (size_t)c->out.dim[a];
        rest /= (size_t)c->out.dim[a];
        if (b >= 0) {
            at += s->dim[b] == 1 ? 0 : index * step;
            step *= (size_t)s->dim[b];
        }
    }
    return i / per_sample * (size_t)ls_shape_elems(s) + at;
}

static void merge_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const merge_case *c = f->reference_data;
    (void)weight;
    for (size_t i = 0; i < f->n_out; i++) {
        double y = in[0][place(c, 0, i)];
        for (int k = 1; k < c->n_in; k++) {
            double x = in[k][place(c, k, i)];
            switch (c->attr.kind) {
                case LS_MERGE_ADD:
                case LS_MERGE_AVERAGE: y += x; break;
                case LS_MERGE_SUBTRACT: y -= x; break;
                case LS_MERGE_MULTIPLY: y *= x; break;
                case LS_MERGE_MAXIMUM: y = fmax(x, y); break;
                case LS_MERGE_MINIMUM: y = fmin(x, y); break;
            }
        }
        out[i] = c->attr.kind == LS_MERGE_AVERAGE ? y / c->n_in : y;
    }
}

static void check_merge(merge_case c) {
    for (int kind = LS_MERGE_ADD; kind <= LS_MERGE_MINIMUM; kind++) {
        fixture f;
        merge_case m = c;
        m.attr.kind = (ls_merge_kind)kind;
        m.n_in = kind == LS_MERGE_SUBTRACT ? 2 : c.n_in;
        fx_init(&f, 3);
        f.reference_data = &m;
        ls_tensor *in[MOST + 1] = {NULL};
        for (int k = 0; k < m.n_in; k++) {
            in[k] = fx_input(&f, m.in[k]);
        }
        fx_node(&f, &ls_op_merge, &m.attr, in, NULL, m.out);
        fx_check(&f, merge_reference);
    }
}

static void test_merges(void **state) {
    (void)state;
    ls_shape s = fx_shape(3, 9, 8, 7);
    check_merge((merge_case){.n_in = 2, .in = {s, s}, .out = s});
    check_merge((merge_case){.n_in = 3, .in = {s, s, s}, .out = s});
}

static void test_broadcasting(void **state) {
    (void)state;
    ls_shape s = fx_shape(3, 3, 4, 5);
    check_merge((merge_case){.n_in = 2, .in = {s, fx_shape(3, 1, 1, 5)}, .out = s});
    check_merge((merge_case){.n_in = 2, .in = {fx_shape(3, 3, 4, 1), s}, .out = s});
    check_merge((merge_case){.n_in = 3, .in = {s, fx_shape(2, 4, 5), fx_shape(1, 5)}, .out = s});
    check_merge((merge_case){.n_in = 2, .in = {fx_shape(2, 4, 1), fx_shape(2, 1, 5)}, .out = fx_shape(2, 4, 5)});
}

/* Of equal inputs the first takes the gradient. */
static void test_merge_of_equals(void **state) {
    (void)state;
    for (int kind = LS_MERGE_MAXIMUM; kind <= LS_MERGE_MINIMUM; kind++) {
        fixture f;
        ls_merge_attr attr = {(ls_merge_kind)kind};
        ls_shape s = fx_shape(1, 6);
        fx_init(&f, 2);
        f.low = f.high = 0.25;
        ls_tensor *in[4] = {fx_input(&f, s), fx_input(&f, s), fx_input(&f, s), NULL};
        fx_node(&f, &ls_op_merge, &attr, in, NULL, s);
        fx_run(&f);
        for (size_t i = 0; i < f.n_out; i++) {
            double dy = 2 * (0.25 - f.target[i]) / (double)f.n_out;
            assert_true(fabs((double)ls_plan_input_gradient(f.plan, 0)[i] - dy) < 1e-7);
            assert_true(ls_plan_input_gradient(f.plan, 1)[i] == 0.0f);
            assert_true(ls_plan_input_gradient(f.plan, 2)[i] == 0.0f);
        }
        fx_release(&f);
    }
}

/* x + relu(x) + x * x: one tensor that is used three times collects three gradients. */
static void residual_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    (void)weight;
    for (size_t i = 0; i < f->n_out; i++) {
        double x = in[0][i];
        out[i] = x + (x > 0 ? x : 0) + x * x;
    }
}

static void test_shared_tensor(void **state) {
    (void)state;
    static const ls_merge_attr add = {LS_MERGE_ADD}, multiply = {LS_MERGE_MULTIPLY};
    ls_shape s = fx_shape(1, 40);
    fixture f;
    fx_init(&f, 3);
    ls_tensor *x = fx_input(&f, s);
    ls_tensor *relu = fx_unary(&f, &ls_op_activation, &fx_relu, x, s);
    ls_tensor *square = fx_node(&f, &ls_op_merge, &multiply, (ls_tensor *[]){x, x, NULL}, NULL, s);
    fx_node(&f, &ls_op_merge, &add, (ls_tensor *[]){x, relu, square, NULL}, NULL, s);
    fx_check(&f, residual_reference);
}

typedef struct concat_case {
    ls_concat_attr attr;
    int n_in;
    ls_shape in[MOST], out;
} concat_case;

static void concat_reference(const fixture *f, double *const *in, double *const *weight, double *out) {
    const concat_case *c = f->reference_data;
    (void)weight;
    size_t inner = 1, whole = (size_t)c->out.dim[c->attr.axis], first = 0;
    for (int i = c->attr.axis + 1; i < c->out.rank; i++) {
        inner *= (size_t)c->out.dim[i];
    }
    for (int k = 0; k < c->n_in; k++) {
        size_t part = (size_t)c->in[k].dim[c->attr.axis];
        for (size_t i = 0; i < f->n_in[k]; i++) {
            size_t o = i / (part * inner), j = i / inner % part;
            out[(o * whole + first + j) * inner + i % inner] = in[k][i];
        }
        first += part;
    }
}

static void test_concat(void **state) {
    (void)state;
    for (int axis = 0; axis < 3; axis++) {
        concat_case c = {.attr = {axis}, .n_in = 3, .out = fx_shape(3, 3, 4, 5)};
        fixture f;
        ls_tensor *in[MOST] = {NULL};
        fx_init(&f, 2);
        f.reference_data = &c;
        c.out.dim[axis] = 0;
        for (int k = 0; k < c.n_in; k++) {
            c.in[k] = fx_shape(3, 3, 4, 5);
            c.in[k].dim[axis] = k + 1;
            c.out.dim[axis] += k + 1;
            in[k] = fx_input(&f, c.in[k]);
        }
        fx_node(&f, &ls_op_concat, &c.attr, in, NULL, c.out);
        fx_check(&f, concat_reference);
    }
}

/* ---- dropout ---- */

/* The mask is read off a run with inputs of 1, so that the reference is linear: y = x * f(1). */
static void build_dropout(fixture *f, const ls_dropout_attr *attr, ls_shape shape, int64_t n) {
    fx_init(f, n);
    ls_tensor *t = fx_unary(f, &ls_op_view, NULL, fx_input(f, shape), shape);
    t = fx_unary(f, &ls_op_dropout, attr, t, shape);
    fx_unary(f, &ls_op_view, NULL, t, shape);
}

/* The draw as dropout.c's header says it, from the plain generator. */
static bool drawn(uint64_t seed, int layer, uint64_t step, uint32_t sample, size_t e, double rate) {
    uint64_t key = ls_rng_key(seed, LS_STREAM_LAYER, (uint64_t)layer);
    ls_philox r = ls_philox4x32(key, e / 128 * 16 + e % 16, step << 32 | sample);
    size_t half = e % 128 / 16;
    return (r.v[half / 2] >> (half % 2 * 16) & 0xFFFFu) >= (uint32_t)lround(rate * 65536);
}

static void test_dropout_draws(void **state) {
    (void)state;
    static const ls_dropout_attr attr = {.rate = 0.3, .keep_axes = 7};
    fixture f;
    build_dropout(&f, &attr, fx_shape(2, 13, 29), 5);
    fx_run(&f);
    size_t kept = 0, per_sample = 13 * 29;
    for (size_t i = 0; i < f.n_out; i++) {
        bool keep = drawn(7, 1, 3, 1000 + (uint32_t)(i / per_sample), i % per_sample, 0.3);
        float want = keep ? (float)f.in[0][i] * (float)(1 / (1 - 0.3)) : 0.0f;
        assert_true(ls_plan_output(f.plan, 0)[i] == want);
        double dy = 2 * ((double)want - f.target[i]) / (double)f.n_out;
        double dx = keep ? dy / 0.7 : 0;
        assert_true(fabs((double)ls_plan_input_gradient(f.plan, 0)[i] - dx) < 1e-6);
        kept += keep;
    }
    assert_true(fabs((double)kept / (double)f.n_out - 0.7) < 0.03);
    fx_release(&f);
}

/* Spatial dropout: whole channels go, one draw a sample and channel. */
static void test_dropout_shared_axes(void **state) {
    (void)state;
    static const ls_dropout_attr attr = {.rate = 0.5, .keep_axes = 1u << 2};
    fixture f;
    build_dropout(&f, &attr, fx_shape(3, 4, 3, 40), 6);
    fx_run(&f);
    size_t kept = 0;
    for (size_t i = 0; i < f.n_out; i++) {
        size_t sample = i / (12 * 40), channel = i % 40;
        bool keep = drawn(7, 1, 3, 1000 + (uint32_t)sample, channel, 0.5);
        assert_true(ls_plan_output(f.plan, 0)[i] == (keep ? (float)f.in[0][i] * 2 : 0.0f));
        assert_true(keep || ls_plan_input_gradient(f.plan, 0)[i] == 0.0f);
        kept += keep;
    }
    assert_true(kept > f.n_out / 3 && kept < f.n_out * 2 / 3);
    fx_release(&f);
}

/* One mask for all samples of a step, whichever they are: no sample's index is in it. */
static void test_dropout_of_the_whole_batch(void **state) {
    (void)state;
    static const ls_dropout_attr attr = {.rate = 0.5, .keep_axes = 1u << 1, .whole_batch = true};
    fixture f;
    build_dropout(&f, &attr, fx_shape(2, 3, 40), 6);
    fx_run(&f);
    for (size_t i = 0; i < f.n_out; i++) {
        bool keep = drawn(7, 1, 3, UINT32_MAX, i % 40, 0.5);
        double dy = 2 * ((keep ? 2 * f.in[0][i] : 0) - f.target[i]) / (double)f.n_out;
        assert_true(ls_plan_output(f.plan, 0)[i] == (keep ? (float)f.in[0][i] * 2 : 0.0f));
        assert_true(fabs((double)ls_plan_input_gradient(f.plan, 0)[i] - (keep ? 2 * dy : 0)) < 1e-6);
    }
    fx_release(&f);
}

/* The same samples in another order and another batch size: each keeps its own mask. */
static void test_dropout_belongs_to_the_sample(void **state) {
    (void)state;
    static const ls_dropout_attr attr = {.rate = 0.25, .keep_axes = 1};
    fixture f, g;
    build_dropout(&f, &attr, fx_shape(1, 200), 4);
    build_dropout(&g, &attr, fx_shape(1, 200), 1);
    f.low = f.high = g.low = g.high = 1;
    fx_run(&f);
    fx_run(&g);
    float all[800];
    memcpy(all, ls_plan_output(f.plan, 0), sizeof all);
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t index = 1000 + i;
        ls_run run = {1, 1, 1.0f, 1.0f, 7, 3, &index};
        for (size_t k = 0; k < 200; k++) {
            ((float *)ls_plan_input(g.plan, 0))[k] = 1;
        }
        ls_plan_run_forward(g.plan, &run);
        assert_memory_equal(ls_plan_output(g.plan, 0), all + 200 * i, 200 * sizeof(float));
    }
    assert_memory_not_equal(all, all + 200, 200 * sizeof(float));
    fx_release(&f);
    fx_release(&g);
}

static void identity(const fixture *f, double *const *in, double *const *weight, double *out) {
    (void)weight;
    memcpy(out, in[0], f->n_out * sizeof *out);
}

static void test_dropout_off(void **state) {
    (void)state;
    static const ls_dropout_attr some = {.rate = 0.5, .keep_axes = 1}, none = {.keep_axes = 1};
    fixture f;
    build_dropout(&f, &none, fx_shape(1, 30), 3);
    fx_check(&f, identity);
    build_dropout(&f, &some, fx_shape(1, 30), 3);
    f.inference = true;
    fx_check(&f, identity);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges),
        cmocka_unit_test(test_broadcasting),
        cmocka_unit_test(test_merge_of_equals),
        cmocka_unit_test(test_shared_tensor),
        cmocka_unit_test(test_concat),
        cmocka_unit_test(test_dropout_draws),
        cmocka_unit_test(test_dropout_shared_axes),
        cmocka_unit_test(test_dropout_of_the_whole_batch),
        cmocka_unit_test(test_dropout_belongs_to_the_sample),
        cmocka_unit_test(test_dropout_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
