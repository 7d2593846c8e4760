/* Batch normalisation against plain loops in double. */
#include "ops_fixture.h"

typedef struct bn_case {
    ls_batch_norm_attr attr;
    ls_shape shape;
    bool relu, inference;
    enum { NOTHING, ANOTHER, ITSELF } added; /* before the relu: in[1], in[0] */
    bool squared;                            /* the result meets itself: its gradient comes in two parts */
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
                y += c->added == NOTHING ? 0 : in[c->added == ANOTHER][i];
                y = c->relu && y < 0 ? 0 : y;
                out[i] = c->squared ? y * y : y;
            }
        }
    }
}

static void build(fixture *f, const bn_case *c, int64_t n) {
    fx_init(f, n);
    f->reference_data = c;
    f->inference = c->inference;
    ls_shape per_channel = fx_shape(1, (int)c->shape.dim[c->attr.axis]);
    static const ls_merge_attr sum = {.kind = LS_MERGE_ADD}, product = {.kind = LS_MERGE_MULTIPLY};
    ls_tensor *in[2] = {fx_input(f, c->shape), NULL}, *other = c->added == ANOTHER ? fx_input(f, c->shape) : in[0];
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
    if (c->added != NOTHING) {
        out = fx_node(f, &ls_op_merge, &sum, (ls_tensor *[]){other, out, NULL}, NULL, c->shape);
    }
    if (c->relu) {
        out = fx_unary(f, &ls_op_activation, &fx_relu, out, c->shape);
    }
    if (c->squared) {
        fx_node(f, &ls_op_merge, &product, (ls_tensor *[]){out, out, NULL}, NULL, c->shape);
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

static void check_training(const bn_case *c, int64_t n, ls_dtype compute, bool cut) {
    fixture f;
    build(&f, c, n);
    f.compute = compute;
    f.cut = cut;
    fx_run(&f);
    assert_int_equal(ls_plan_n_meetings(f.plan), c->attr.sync && cut && !c->attr.frozen ? 2 : 0);
    fx_check_forward(&f, reference);
    fx_check_gradients(&f, reference);
    if (!c->attr.frozen && compute == LS_F32) {
        check_statistics(&f, c);
    } else if (c->attr.frozen) {
        assert_int_equal(f.arena->n_reduced, f.arena->n_trainable); /* nothing moves */
    }
    fx_release(&f);
}

static void check(bn_case c, int64_t n, ls_dtype compute) {
    fixture f;
    check_training(&c, n, compute, false);
    check_training(&c, n, compute, true); /* each lane for itself */
    c.attr.sync = true;
    check_training(&c, n, compute, false);
    check_training(&c, n, compute, true); /* with the sums of all lanes */
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

/* The end of a residual block. */
static void test_sums(void **state) {
    (void)state;
    for (int k = 0; k < 8; k++) {
        bn_case c = last_axis(fx_shape(3, 3, 5, k < 4 ? 16 : 6));
        c.added = k % 2 ? ANOTHER : ITSELF;
        c.relu = k / 2 % 2;
        for (int squared = 0; squared < 2; squared++) {
            c.squared = squared;
            check(c, 3, LS_F32);
            if (ls_dnn_has_bf16() && !squared) {
                check(c, 3, LS_BF16);
            }
        }
        c.attr.frozen = true;
        check(c, 3, LS_F32);
    }
}

/* A sum after a relu is another matter. */
static void test_sum_after_relu(void **state) {
    (void)state;
    static const ls_merge_attr sum = {.kind = LS_MERGE_ADD};
    bn_case c = last_axis(fx_shape(2, 5, 6));
    c.relu = true;
    fixture f;
    build(&f, &c, 3);
    ls_tensor *relu = f.tensors[f.model.n_tensors - 1], *more = fx_input(&f, c.shape);
    fx_node(&f, &ls_op_merge, &sum, (ls_tensor *[]){relu, more, NULL}, NULL, c.shape);
    fx_run(&f);
    for (int i = 0; i < ls_plan_n_calls(f.plan, LS_PHASE_FORWARD); i++) {
        const ls_call *call = ls_plan_call(f.plan, LS_PHASE_FORWARD, i);
        if (strcmp(call->label, "merge.forward") == 0) {
            fx_release(&f);
            return;
        }
    }
    fail_msg("the sum is lost");
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

/* ---- lanes that meet ---- */

enum { LANES = 3 };

/* A lane of the fixture's batch, with a plan and memory of its own. */
typedef struct lane {
    ls_plan *plan;
    void *memory;
    float *gradients;
    int64_t first, count;
    ls_run run;
} lane;

static void start_lane(const fixture *f, lane *l, int64_t first, int64_t count) {
    static const uint32_t index[64];
    ls_err err = LS_ERR_INIT;
    ls_plan_options o = {count, true, true, f->compute, 1, f->heads, .cut = true, .sync_batch_norm = true};
    *l = (lane){.first = first, .count = count};
    l->run = (ls_run){.n_samples = count,
                      .n_threads = 1,
                      .grad_scale = 1.0f / (float)f->n_samples,
                      .stat_scale = (float)count / (float)f->n_samples,
                      .sample_index = index};
    assert_int_equal(ls_plan_create(&l->plan, &f->model, f->arena, &o, &err), LS_OK);
    l->memory = ls_xcalloc(ls_plan_arena_bytes(l->plan) + 64, 1);
    l->gradients = ls_xcalloc(f->arena->n_total + 16, sizeof(float));
    assert_int_equal(ls_plan_bind(l->plan, l->memory, f->values, l->gradients, &err), LS_OK);
    size_t from = f->n_in[0] / (size_t)f->n_samples * (size_t)first, n = f->n_in[0] / (size_t)f->n_samples;
    for (size_t i = 0; i < n * (size_t)count; i++) { /* the output has the input's shape */
        ((float *)ls_plan_input(l->plan, 0))[i] = (float)f->in[0][from + i];
        ((float *)ls_plan_target(l->plan, 0))[i] = (float)f->target[from + i];
    }
}

static void meet(const lane *lanes, int k) {
    size_t n;
    double *first = ls_plan_meeting(lanes[0].plan, k, &n);
    for (int i = 1; i < LANES; i++) {
        size_t same;
        const double *more = ls_plan_meeting(lanes[i].plan, k, &same);
        assert_int_equal(same, n);
        for (size_t j = 0; j < n; j++) {
            first[j] += more[j];
        }
    }
    for (int i = 1; i < LANES; i++) {
        memcpy(ls_plan_meeting(lanes[i].plan, k, &n), first, n * sizeof *first);
    }
}

/* Lanes of 1, 4 and 3 samples give what the batch of 8 gives in one. */
static void check_lanes(const bn_case *c) {
    static const int64_t first[LANES + 1] = {0, 1, 5, 8};
    fixture f;
    lane lanes[LANES];
    build(&f, c, first[LANES]);
    fx_run(&f);
    for (int i = 0; i < LANES; i++) {
        start_lane(&f, &lanes[i], first[i], first[i + 1] - first[i]);
    }
    for (int k = 0; k <= 2; k++) {
        assert_int_equal(ls_plan_n_meetings(lanes[0].plan), 2);
        for (int i = 0; i < LANES; i++) {
            ls_plan_run_segment(lanes[i].plan, k, &lanes[i].run, NULL, NULL);
        }
        if (k < 2) {
            meet(lanes, k);
        }
    }
    const float *output = ls_plan_output(f.plan, 0), *gradient = ls_plan_input_gradient(f.plan, 0);
    size_t sample = f.n_out / (size_t)f.n_samples;
    for (int i = 0; i < LANES; i++) {
        for (size_t j = 0; j < sample * (size_t)lanes[i].count; j++) {
            size_t at = sample * (size_t)lanes[i].first + j;
            assert_true(fabsf(ls_plan_output(lanes[i].plan, 0)[j] - output[at]) < 1e-5f);
            assert_true(fabsf(ls_plan_input_gradient(lanes[i].plan, 0)[j] - gradient[at]) < 1e-6f);
        }
        assert_true(fabs(ls_plan_sums(lanes[i].plan)[1] - (double)lanes[i].count) < 1e-9);
    }
    for (int w = 0; w < f.model.n_weights; w++) { /* moving statistics among them */
        for (size_t j = 0; j < f.n_weight[w]; j++) {
            size_t at = f.arena->slot[w].offset + j;
            float sum = lanes[0].gradients[at] + lanes[1].gradients[at] + lanes[2].gradients[at];
            assert_true(fabsf(sum - f.gradients[at]) < 1e-5f);
        }
    }
    for (int i = 0; i < LANES; i++) {
        ls_plan_destroy(lanes[i].plan);
        free(lanes[i].memory);
        free(lanes[i].gradients);
    }
    fx_release(&f);
}

static void test_lanes_that_meet(void **state) {
    (void)state;
    bn_case c = last_axis(fx_shape(3, 4, 3, 5));
    c.attr.unbiased = true;
    check_lanes(&c);
    c.relu = true;
    check_lanes(&c);
    c.attr.axis = 1;
    check_lanes(&c);
    c = last_axis(fx_shape(3, 16, 16, 40)); /* several parts */
    check_lanes(&c);
    c = last_axis(fx_shape(1, 1500)); /* several tiles */
    c.relu = true;
    check_lanes(&c);
}

/* A mean of thousands of deviations: the variance is that of the numbers nevertheless. */
static void test_far_from_zero(void **state) {
    (void)state;
    fixture f;
    bn_case c = last_axis(fx_shape(2, 6, 4));
    c.attr.sync = true;
    build(&f, &c, 16);
    f.cut = true;
    f.low = 4000;
    f.high = 4001;
    fx_run(&f);
    for (size_t k = 0; k < 4; k++) {
        double mean, var, got = f.gradients[f.arena->slot[3].offset + k];
        statistics(&f, &c, f.in[0], k, &mean, &var);
        assert_true(fabs(got - var) < 1e-6 * var);
    }
    fx_release(&f);
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
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_sum_after_relu),
        cmocka_unit_test(test_vectors_and_sequences),
        cmocka_unit_test(test_first_axis),
        cmocka_unit_test(test_without_scale_or_center),
        cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_lanes_that_meet),
        cmocka_unit_test(test_far_from_zero),
        cmocka_unit_test(test_bfloat16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
