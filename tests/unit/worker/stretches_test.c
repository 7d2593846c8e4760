/* Lanes that go through a plan in stretches: the same bits as one lane after the other, with all lanes' gradients made
 * in the same memory; and where a plan is cut. */
#include "tests/unit/worker/model_fixture.h"
#include "worker/model/initializer.h"
#include "worker/plan/arena.h"
#include "worker/plan/heads.h"
#include "worker/plan/plan.h"

enum { LANES = 3, N = 4, MAX_WEIGHTS = 16 };

#define DENSE(name, units, more) \
    "{\"class_name\": \"Dense\", \"config\": {\"name\": \"" name "\", \"units\": " units more "}}"
#define NORM(name) "{\"class_name\": \"BatchNormalization\", \"config\": {\"name\": \"" name "\"}}"
#define CONV(name, more)                                                                                             \
    "{\"class_name\": \"Conv2D\", \"config\": {\"name\": \"" name "\", \"filters\": 4, \"kernel_size\": [3, 3]" more \
    "}}"

static const char dense[] = DENSE("a", "96", ", \"activation\": \"relu\"") ", " NORM("b") ", " DENSE(
    "c", "64", ", \"use_bias\": false") ", " NORM("d") ", " DENSE("e", "5", "");
static const char convolutions[] = CONV("a", ", \"padding\": \"same\"") ", " NORM("b") ", " CONV(
    "c", "") ", {\"class_name\": \"GlobalAveragePooling2D\", \"config\": {\"name\": \"d\"}}";
static const char mixed[] =
    CONV("a", ", \"padding\": \"same\"") ", " NORM("b") ", {\"class_name\": \"MaxPooling2D\", \"config\": {\"name\": "
                                                        "\"p\"}}, {\"class_name\": \"Flatten\", \"config\": {\"name\": "
                                                        "\"f\"}}, " DENSE("c", "200", "") ", " NORM(
                                                            "d") ", " DENSE("e", "5", "");

/* A layer that is called twice, on both sides of another: its gradient is written in two places. */
static const char twice[] =
    "{\"class_name\": \"Functional\", \"config\": {\"name\": \"m\", \"layers\": ["
    "{\"name\": \"x\", \"class_name\": \"InputLayer\", \"config\": {\"name\": \"x\", \"batch_input_shape\": [null, "
    "64]}, "
    "\"inbound_nodes\": []},"
    "{\"name\": \"a\", \"class_name\": \"Dense\", \"config\": {\"name\": \"a\", \"units\": 64, \"activation\": "
    "\"tanh\"}, \"inbound_nodes\": [[[\"x\", 0, 0, {}]], [[\"n\", 1, 0, {}]]]},"
    "{\"name\": \"n\", \"class_name\": \"BatchNormalization\", \"config\": {\"name\": \"n\"}, \"inbound_nodes\": "
    "[[[\"a\", 0, 0, {}]], [[\"b\", 0, 0, {}]]]},"
    "{\"name\": \"b\", \"class_name\": \"Dense\", \"config\": {\"name\": \"b\", \"units\": 64}, \"inbound_nodes\": "
    "[[[\"n\", 0, 0, {}]]]},"
    "{\"name\": \"e\", \"class_name\": \"Dense\", \"config\": {\"name\": \"e\", \"units\": 5}, \"inbound_nodes\": "
    "[[[\"a\", 1, 0, {}]]]}], \"input_layers\": [[\"x\", 0, 0]], \"output_layers\": [[\"e\", 0, 0]]}}";

typedef struct net {
    ls_model *model;
    ls_heads *heads;
    ls_arena *arena;
    ls_plan *plan;
    float *values, *gradients, *memory;
    float *made[LANES], *out[LANES]; /* each lane's gradients, as they were when they were announced; its outputs */
    double loss[LANES];
    int lane;
} net;

static float *numbers(size_t n, uint64_t seed) {
    float *x = ls_xcalloc(n + 16, sizeof *x);
    for (size_t i = 0; i < n && seed != 0; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)((double)(seed >> 11) / 9007199254740992.0 - 0.5);
    }
    return x;
}

static void fill_weights(net *t) {
    for (int k = 0; k < t->model->n_weights; k++) {
        const ls_weight *w = t->model->weights[k];
        float *v = numbers((size_t)ls_shape_elems(&w->shape), 0);
        ls_initializer_fill(w, 11, v);
        ls_arena_set(t->arena, w, t->values, v);
        free(v);
    }
}

static void start(net *t, ls_model *model, const ls_plan_options *options) {
    static ls_loss mse;
    static double one = 1;
    ls_err err = LS_ERR_INIT;
    int ready[MAX_WEIGHTS];
    mse = (ls_loss){.class_ = ls_loss_class_find("mean_squared_error")};
    *t = (net){.model = model, .heads = ls_heads_create(1, &mse, &one, 0, NULL, NULL, false)};
    t->arena = ls_arena_create(model);
    ls_plan_options o = *options;
    o.n_samples = N;
    o.heads = t->heads;
    assert_int_equal(ls_plan_create(&t->plan, model, t->arena, &o, &err), LS_OK);
    assert_in_range(model->n_weights, 1, MAX_WEIGHTS);
    for (int k = 0; k < model->n_weights; k++) {
        const ls_weight *w = model->weights[k];
        ready[k] = ls_plan_has_gradient(t->plan, w) ? ls_plan_ready_call(t->plan, w) : LS_NO_GRADIENT;
    }
    ls_arena_place(t->arena, ready);
    t->values = numbers(t->arena->n_total, 0);
    t->gradients = numbers(t->arena->n_total, 0);
    fill_weights(t);
    t->memory = ls_xcalloc(ls_plan_arena_bytes(t->plan) + LS_ALIGN, 1);
    memset(t->memory, 0xFF, ls_plan_arena_bytes(t->plan));
    assert_int_equal(ls_plan_bind(t->plan, t->memory, t->values, t->gradients, &err), LS_OK);
    for (int l = 0; l < LANES; l++) {
        t->made[l] = numbers(t->arena->n_total, 0);
        t->out[l] = numbers(ls_plan_elems(t->plan, model->outputs[0]), 0);
    }
}

static void stop(net *t) {
    ls_plan_destroy(t->plan);
    ls_heads_destroy(t->heads);
    ls_arena_destroy(t->arena);
    ls_model_destroy(t->model);
    free(t->values);
    free(t->gradients);
    free(t->memory);
    for (int l = 0; l < LANES; l++) {
        free(t->made[l]);
        free(t->out[l]);
    }
}

static void fill_lane(net *t, int lane) {
    const size_t n_in = ls_plan_elems(t->plan, t->model->inputs[0]),
                 n_out = ls_plan_elems(t->plan, t->model->outputs[0]);
    float *in = numbers(n_in, (uint64_t)lane + 1), *out = numbers(n_out, (uint64_t)lane + 101);
    memcpy(ls_plan_input(t->plan, 0), in, n_in * sizeof *in);
    memcpy(ls_plan_target(t->plan, 0), out, n_out * sizeof *out);
    free(in);
    free(out);
}

static void keep(net *t, const ls_weight *w) {
    const ls_arena_slot *s = &t->arena->slot[w->id];
    memcpy(t->made[t->lane] + s->offset, t->gradients + s->offset, s->n_elems * sizeof(float));
    memset(t->gradients + s->offset, 0xFF, s->n_elems * sizeof(float)); /* what nobody may still need */
}

static void done(void *context, int call) {
    net *t = context;
    for (int k = 0; k < t->model->n_weights; k++) {
        const ls_weight *w = t->model->weights[k];
        if (w->role != LS_WEIGHT_STAT && ls_plan_ready_call(t->plan, w) == call) {
            keep(t, w);
        }
    }
}

/* As an engine does: statistics after the stretch, others when they are announced. */
static void run_stretch(net *t, int lane, int k) {
    static const uint32_t index[N];
    const ls_run run = {.n_samples = N, .n_threads = 1, .grad_scale = 0.25f, .stat_scale = 0.5f, .sample_index = index};
    t->lane = lane;
    if (lane == 0 && k == 0) {
        ls_plan_run_prepare(t->plan, &run);
    }
    ls_plan_run_stretch(t->plan, k, &run, done, t);
    for (int i = 0; i < t->model->n_weights; i++) {
        const ls_weight *w = t->model->weights[i];
        if (w->role == LS_WEIGHT_STAT && ls_plan_written_in(t->plan, w) == k) {
            keep(t, w);
        }
    }
    if (k + 1 == ls_plan_n_stretches(t->plan)) {
        memcpy(t->out[lane], ls_plan_output(t->plan, 0), ls_plan_elems(t->plan, t->model->outputs[0]) * sizeof(float));
        t->loss[lane] = ls_plan_sums(t->plan)[0];
    }
}

/* The lanes one after the other, or all of them stretch by stretch. */
static void run(net *t, bool together) {
    const int n = ls_plan_n_stretches(t->plan);
    for (int l = 0; l < LANES && together; l++) {
        ls_plan_set_lane(t->plan, l);
        fill_lane(t, l);
    }
    for (int i = 0; i < n * LANES; i++) {
        const int lane = together ? i % LANES : i / n, k = together ? i / LANES : i % n;
        ls_plan_set_lane(t->plan, together ? lane : 0);
        if (!together && k == 0) {
            fill_lane(t, lane);
        }
        run_stretch(t, lane, k);
    }
}

static ls_model *make(const char *shape, const char *layers) {
    return shape != NULL ? build_sequential(shape, layers) : build(layers);
}

static void check_same(const char *shape, const char *layers, ls_dtype compute) {
    net one, all;
    start(&one, make(shape, layers), &(ls_plan_options){.training = true, .compute = compute, .n_threads = 1});
    start(&all, make(shape, layers),
          &(ls_plan_options){.training = true, .compute = compute, .n_threads = 1, .lanes = LANES});
    assert_int_equal(ls_plan_n_stretches(one.plan), 1);
    assert_true(ls_plan_n_stretches(all.plan) > 2);
    run(&one, false);
    run(&all, true);
    const size_t n_out = ls_plan_elems(one.plan, one.model->outputs[0]);
    for (int l = 0; l < LANES; l++) {
        assert_true(one.loss[l] > 0 && one.loss[l] == all.loss[l]);
        assert_memory_equal(one.out[l], all.out[l], n_out * sizeof(float));
        assert_memory_equal(one.made[l], all.made[l], one.arena->n_total * sizeof(float));
        assert_memory_not_equal(one.out[l], one.out[(l + 1) % LANES], n_out * sizeof(float));
        assert_memory_not_equal(one.made[l], one.made[(l + 1) % LANES], one.arena->n_total * sizeof(float));
    }
    stop(&one);
    stop(&all);
}

static void test_same_bits(void **state) {
    (void)state;
    for (int half = 0; half < 2; half++) {
        const ls_dtype compute = half ? LS_BF16 : LS_F32;
        check_same("64", dense, compute);
        check_same("8, 8, 3", mixed, compute);
        check_same(NULL, twice, compute);
    }
}

/* Where a plan is cut, and that it is not where there is nothing to be gained or it must not be. */
static int stretches_of(const char *shape, const char *layers, const ls_plan_options *options) {
    net t;
    start(&t, make(shape, layers), options);
    const int n = ls_plan_n_stretches(t.plan);
    if (n > 1) { /* of a first layer with large activations, gradients are made in the last stretch */
        const ls_weight *first = t.model->weights[0], *last = t.model->weights[t.model->n_weights - 2];
        assert_int_equal(ls_plan_written_in(t.plan, first), n - 1);
        assert_in_range(ls_plan_written_in(t.plan, last), 1, n - 2);
    }
    stop(&t);
    return n;
}

static void test_cuts(void **state) {
    (void)state;
    const ls_plan_options lanes = {.training = true, .compute = LS_F32, .n_threads = 1, .lanes = LANES};
    ls_plan_options inference = lanes, meeting = lanes, alone = lanes;
    inference.training = false;
    meeting.cut = meeting.sync_batch_norm = true;
    alone.lanes = 1;
    assert_int_equal(stretches_of("32, 32, 3", convolutions, &lanes), 1);
    assert_in_range(stretches_of("8, 8, 3", mixed, &lanes), 5, 100);
    assert_int_equal(stretches_of("8, 8, 3", mixed, &inference), 1);
    assert_int_equal(stretches_of("8, 8, 3", mixed, &meeting), 1);
    assert_int_equal(stretches_of("8, 8, 3", mixed, &alone), 1);
}

/* Lanes without number take no memory without bounds: some at a time go through the plan. */
static void test_memory_is_bounded(void **state) {
    (void)state;
    net few, many;
    ls_plan_options o = {.training = true, .compute = LS_F32, .n_threads = 1, .lanes = LANES};
    start(&few, make("64", dense), &o);
    assert_int_equal(ls_plan_lanes_together(few.plan), LANES);
    o.lanes = 1 << 20;
    start(&many, make("64", dense), &o);
    assert_in_range(ls_plan_lanes_together(many.plan), 1000, 1 << 18);
    assert_in_range(ls_plan_arena_bytes(many.plan), 16 << 20, 65 << 20);
    stop(&few);
    stop(&many);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
