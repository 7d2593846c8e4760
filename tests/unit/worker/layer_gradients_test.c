/*
 * Every layer in every mode, built from its configuration as people write it: the gradients of all weights and inputs
 * against central differences of the plan's own loss, whose sum is taken in double. The operators' own tests compare
 * with references in double throughout; this one sees that no layer, and no way of putting operators together, is left
 * out: a row of layers/rows.h without a model in layer_models.h fails.
 */
#include <float.h>

#include "tests/unit/worker/layer_models.h"
#include "tests/unit/worker/ops_fixture.h"
#include "worker/model/initializer.h"

enum { N = 4, MAX_STATES = 16 };

typedef struct {
    ls_model *model;
    ls_arena *arena;
    ls_heads *heads;
    ls_plan *plan;
    float *values, *gradients, *states[MAX_STATES], *in[8], *target;
    size_t n_in[8], n_target;
    void *memory;
} net;

static float *numbers(size_t n) {
    return ls_xcalloc(n + 16, sizeof(float));
}

static double draw(uint64_t *random) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return 2 * ((double)(*random >> 11) / 9007199254740992.0) - 1;
}

/* Sum of losses over the batch's mean, with the penalties on activations that the plan adds. */
static double loss(net *t, bool backward) {
    uint32_t index[N] = {3, 1, 4, 7};
    ls_run run = {.n_samples = N,
                  .n_threads = 1,
                  .grad_scale = 1.0f / N,
                  .stat_scale = 1,
                  .seed = 5,
                  .step = 2,
                  .sample_index = index,
                  .states = t->states};
    for (int k = 0; k < t->model->n_states; k++) { /* each pass goes on from the same states */
        for (size_t i = 0; i < N * t->model->state_elems[k]; i++) {
            t->states[k][i] = 0.3f * (float)((int)(i * 7 % 5) - 2);
        }
    }
    for (int i = 0; i < t->model->n_inputs; i++) {
        memcpy(ls_plan_input(t->plan, i), t->in[i], t->n_in[i] * sizeof(float));
        for (size_t k = 0; t->model->inputs[i]->dtype == LS_I32 && k < t->n_in[i]; k++) {
            ((int32_t *)ls_plan_input(t->plan, i))[k] = (int32_t)t->in[i][k];
        }
    }
    memcpy(ls_plan_target(t->plan, 0), t->target, t->n_target * sizeof(float));
    ls_plan_run_prepare(t->plan, &run);
    ls_plan_run_forward(t->plan, &run);
    double value = ls_plan_sums(t->plan)[0] / N;
    if (backward) {
        ls_plan_run_backward(t->plan, &run, NULL, NULL);
    }
    return value;
}

static void start(net *t, int i, uint64_t *random) {
    static ls_loss mse;
    static double one = 1;
    ls_err err = LS_ERR_INIT;
    ls_json_doc doc = {0};
    char *text = layer_models_text(i);
    *t = (net){0};
    mse = (ls_loss){.class_ = ls_loss_class_find("mean_squared_error")};
    if (ls_json_parse(&doc, "model", text, &err) != LS_OK || ls_model_build(&t->model, &doc, NULL, 0, &err) != LS_OK) {
        fail_msg("%s\n%s", err.text, text);
    }
    free(text);
    t->heads = ls_heads_create(1, &mse, &one, 0, NULL, NULL, false);
    t->arena = ls_arena_create(t->model);
    ls_plan_options o = {.n_samples = N,
                         .training = true,
                         .input_gradients = true,
                         .compute = LS_F32,
                         .n_threads = 1,
                         .heads = t->heads};
    if (ls_plan_create(&t->plan, t->model, t->arena, &o, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
    int ready[64];
    assert_true(t->model->n_weights < 64 && t->model->n_states <= MAX_STATES);
    for (int k = 0; k < t->model->n_weights; k++) {
        const ls_weight *w = t->model->weights[k];
        ready[k] = ls_plan_has_gradient(t->plan, w) ? ls_plan_ready_call(t->plan, w) : LS_NO_GRADIENT;
    }
    ls_arena_place(t->arena, ready);
    t->values = numbers(t->arena->n_total);
    t->gradients = numbers(t->arena->n_total);
    t->memory = ls_xcalloc(ls_plan_arena_bytes(t->plan) + 64, 1);
    memset(t->memory, 0xA5, ls_plan_arena_bytes(t->plan));
    for (int k = 0; k < t->model->n_weights; k++) {
        const ls_weight *w = t->model->weights[k];
        float *v = numbers((size_t)ls_shape_elems(&w->shape));
        ls_initializer_fill(w, 11, v);
        for (int64_t e = 0; e < ls_shape_elems(&w->shape) && w->role == LS_WEIGHT_PARAM && w->trainable; e++) {
            v[e] += (float)(0.2 * draw(random)); /* zeros hide mistakes */
        }
        ls_arena_set(t->arena, w, t->values, v);
        free(v);
    }
    assert_int_equal(ls_plan_bind(t->plan, t->memory, t->values, t->gradients, &err), LS_OK);
    for (int k = 0; k < t->model->n_states; k++) {
        t->states[k] = numbers(N * t->model->state_elems[k]);
    }
    for (int k = 0; k < t->model->n_inputs; k++) {
        t->n_in[k] = ls_plan_elems(t->plan, t->model->inputs[k]);
        t->in[k] = numbers(t->n_in[k]);
        size_t sample = t->n_in[k] / N, step = sample / 4 > 0 ? sample / 4 : 1;
        for (size_t e = 0; e < t->n_in[k]; e++) {
            bool zero = layer_models[i].raw && (e / step + e / sample) % 3 == 0; /* whole time steps of four */
            t->in[k][e] = layer_models[i].whole ? (float)(e * 7 % 5) : zero ? 0.0f : (float)draw(random);
        }
    }
    t->n_target = ls_plan_elems(t->plan, t->model->outputs[0]);
    t->target = numbers(t->n_target);
    for (size_t e = 0; e < t->n_target; e++) {
        t->target[e] = (float)draw(random);
    }
}

static void stop(net *t) {
    ls_plan_destroy(t->plan);
    ls_arena_destroy(t->arena);
    ls_heads_destroy(t->heads);
    for (int i = 0; i < t->model->n_states; i++) {
        free(t->states[i]);
    }
    for (int i = 0; i < t->model->n_inputs; i++) {
        free(t->in[i]);
    }
    ls_model_destroy(t->model);
    free(t->values);
    free(t->gradients);
    free(t->memory);
    free(t->target);
}

typedef void (*setter)(net *t, const ls_weight *w, const float *x);

/* The difference at x[k] over a step of h; set puts x into place. */
static double difference(net *t, float *x, size_t k, float h, setter set, const ls_weight *w) {
    const float was = x[k];
    x[k] = was + h;
    set(t, w, x);
    const double up = loss(t, false);
    x[k] = was - h;
    set(t, w, x);
    const double down = loss(t, false);
    x[k] = was;
    set(t, w, x);
    return (up - down) / ((double)(was + h) - (double)(was - h));
}

/* The plan's gradient against differences. Where two steps see different slopes there is a kink (of a maximum, say)
 * between them: such elements must be the fewer. */
static void compare(net *t, const char *what, int i, float *x, const float *got, size_t n, setter set,
                    const ls_weight *w) {
    double *want = ls_xcalloc(n + 1, sizeof *want), *narrow = ls_xcalloc(n + 1, sizeof *narrow), largest = 0.02;
    size_t n_kinks = 0;
    for (size_t k = 0; k < n; k++) {
        want[k] = difference(t, x, k, 2e-3f, set, w);
        narrow[k] = difference(t, x, k, 6e-4f, set, w);
        largest = fabs(want[k]) > largest ? fabs(want[k]) : largest;
    }
    for (size_t k = 0; k < n; k++) {
        const double limit = 6e-3 * largest;
        const bool kink = fabs(want[k] - narrow[k]) > limit;
        n_kinks += kink;
        if (!kink && !(fabs(got[k] - want[k]) <= limit)) {
            char label[400];
            fail_msg("%s: %s, element %zu: gradient %g, central difference %g",
                     layer_models_label(i, label, sizeof label), what, k, (double)got[k], want[k]);
        }
    }
    if (2 * n_kinks > n) {
        char label[400];
        fail_msg("%s: %s: %zu of %zu elements lie at kinks", layer_models_label(i, label, sizeof label), what, n_kinks,
                 n);
    }
    free(want);
    free(narrow);
}

static void set_weight(net *t, const ls_weight *w, const float *x) {
    ls_arena_set(t->arena, w, t->values, x);
}

static void set_input(net *t, const ls_weight *w, const float *x) {
    (void)t, (void)w, (void)x; /* x is the input itself */
}

static void check(int i) {
    net t;
    uint64_t random = 42;
    start(&t, i, &random);
    loss(&t, true);
    size_t n_learned = 0;
    float *inputs[8] = {NULL};
    for (int k = 0; k < t.model->n_inputs; k++) { /* a pass writes over them */
        const float *g = t.model->inputs[k]->dtype == LS_F32 ? ls_plan_input_gradient(t.plan, k) : NULL;
        inputs[k] = g != NULL ? memcpy(numbers(t.n_in[k]), g, t.n_in[k] * sizeof *g) : NULL;
    }
    for (int k = 0; k < t.model->n_weights; k++) {
        const ls_weight *w = t.model->weights[k];
        size_t n = (size_t)ls_shape_elems(&w->shape);
        if (!ls_plan_has_gradient(t.plan, w) || w->role == LS_WEIGHT_STAT) {
            assert_true(!w->trainable || w->role == LS_WEIGHT_STAT);
            continue;
        }
        float *x = numbers(n), *got = numbers(n);
        ls_arena_get(t.arena, w, t.values, x);
        ls_arena_get(t.arena, w, t.gradients, got);
        compare(&t, w->path, i, x, got, n, set_weight, w);
        free(x);
        free(got);
        n_learned++;
    }
    for (int k = 0; k < t.model->n_inputs; k++) {
        if (inputs[k] != NULL && !layer_models[i].raw) { /* a step of zeros that is disturbed is no longer masked */
            compare(&t, "input", i, t.in[k], inputs[k], t.n_in[k], set_input, NULL);
        }
        free(inputs[k]);
    }
    assert_true(n_learned > 0);
    stop(&t);
}

static void every_layer_has_a_model(void **state) {
    (void)state;
    const char *missing = layer_models_missing();
    if (missing != NULL) {
        fail_msg("the layer %s has no model in layer_models.h", missing);
    }
}

static void gradients_are_right(void **state) {
    (void)state;
    for (int i = 0; i < N_LAYER_MODELS; i++) {
        if (layer_models[i].why == NULL) {
            check(i);
        }
    }
}

static void what_is_no_layer_is_refused(void **state) {
    (void)state;
    for (int i = 0; i < N_LAYER_MODELS; i++) {
        if (layer_models[i].why != NULL) {
            ls_err err = LS_ERR_INIT;
            ls_json_doc doc = {0};
            ls_model *m = NULL;
            char *text = layer_models_text(i);
            assert_int_equal(ls_json_parse(&doc, "model", text, &err), LS_OK);
            assert_int_equal(ls_model_build(&m, &doc, NULL, 0, &err), LS_EINPUT);
            assert_non_null(strstr(err.text, layer_models[i].why));
            free(text);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_layer_has_a_model), cmocka_unit_test(gradients_are_right),
                                       cmocka_unit_test(what_is_no_layer_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
