/*
 * Checks of operators through a real plan.
 *
 * A small model is put together by hand, compiled for training with a mean squared error against random targets, and
 * run. Its output is compared with a reference in double precision that the test gives, and the gradients of all
 * parameters and inputs with central differences of that reference's loss: nothing of the engine is used to judge it.
 */
#ifndef LS_TESTS_OPS_FIXTURE_H
#define LS_TESTS_OPS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/dnn/dnn.h"
#include "worker/ops/ops.h"
#include "worker/plan/arena.h"
#include "worker/plan/heads.h"
#include "worker/plan/plan.h"

#define FX __attribute__((unused)) static

enum { FX_MAX = 48 };

typedef struct fixture fixture;
/* out = f(in, weight), all in double, (n_samples, shape) channels last and Keras's order. */
typedef void (*fx_reference)(const fixture *f, double *const *in, double *const *weight, double *out);

struct fixture {
    ls_model model;
    ls_layer layer, frozen_layer;
    ls_tensor *tensors[FX_MAX], *inputs[FX_MAX], *output;
    ls_node *nodes[FX_MAX];
    ls_weight *weights[FX_MAX];
    int64_t n_samples;
    ls_dtype compute;
    int n_threads;
    bool inference;
    bool direct_convolution;
    float *const *states; /* of stateful nodes; the test's */
    bool cut;             /* the plan is told that the batch has other samples; it runs as if it were the whole batch */
    bool inference_first; /* another plan, for inference, has decided how the weights lie */
    double low, high;     /* of random inputs */
    bool distinct;        /* inputs near each other differ, in bfloat16 too */
    double least;         /* arrays that are smaller than this everywhere are judged as if they were not */
    double tolerance;     /* relative to the largest value; 0: 2e-5, or 1/64 in bfloat16 */
    const void *reference_data;
    uint64_t random;
    /* of the run */
    ls_arena *arena;
    ls_plan *plan;
    float *values, *gradients;
    void *memory;
    ls_heads *heads;
    double *in[FX_MAX], *weight[FX_MAX], *target, *out;
    size_t n_in[FX_MAX], n_weight[FX_MAX], n_out;
};

FX double fx_random(fixture *f) {
    f->random = f->random * 6364136223846793005u + 1442695040888963407u;
    return (double)(f->random >> 11) / 9007199254740992.0;
}

FX void fx_init(fixture *f, int64_t n_samples) {
    memset(f, 0, sizeof *f);
    f->n_samples = n_samples;
    f->compute = LS_F32;
    f->n_threads = 1;
    f->low = -1;
    f->high = 1;
    f->random = 42;
    f->layer = (ls_layer){.name = "layer", .path = "layer", .trainable = true};
    f->frozen_layer = (ls_layer){.name = "frozen", .path = "frozen", .trainable = false};
    f->model.name = "test";
    f->model.tensors = f->tensors;
    f->model.nodes = f->nodes;
    f->model.weights = f->weights;
    f->model.inputs = f->inputs;
    f->model.outputs = &f->output;
    f->model.n_outputs = 1;
}

FX ls_shape fx_shape(int rank, ...) {
    ls_shape s = {.rank = rank};
    va_list args;
    va_start(args, rank);
    for (int i = 0; i < rank; i++) {
        s.dim[i] = va_arg(args, int);
    }
    va_end(args);
    return s;
}

FX ls_tensor *fx_tensor(fixture *f, ls_shape shape) {
    ls_tensor *t = ls_xcalloc(1, sizeof *t);
    *t = (ls_tensor){.id = f->model.n_tensors, .name = "t", .shape = shape, .rows = 1, .dtype = LS_F32};
    f->tensors[f->model.n_tensors++] = t;
    return t;
}

FX ls_tensor *fx_input(fixture *f, ls_shape shape) {
    return f->inputs[f->model.n_inputs++] = fx_tensor(f, shape);
}

FX ls_weight *fx_weight(fixture *f, ls_shape shape) {
    ls_weight *w = ls_xcalloc(1, sizeof *w);
    *w = (ls_weight){.id = f->model.n_weights, .name = "w", .path = "w", .layer = &f->layer, .shape = shape};
    w->role = LS_WEIGHT_PARAM;
    w->trainable = true;
    f->weights[f->model.n_weights++] = w;
    return w;
}

FX ls_weight *fx_stat(fixture *f, ls_shape shape) {
    ls_weight *w = fx_weight(f, shape);
    w->role = LS_WEIGHT_STAT;
    w->trainable = false;
    w->momentum = 0.9;
    return w;
}

FX void fx_consume(ls_tensor *t, ls_node *by) {
    LS_PUSH(t->consumers, t->n_consumers, t->cap_consumers, by);
}

/* A node with the given inputs (NULL-terminated) and weights (NULL-terminated or NULL). */
FX ls_tensor *fx_node(fixture *f, const ls_operator *op, const void *attr, ls_tensor *const *in,
                      ls_weight *const *weights, ls_shape out) {
    ls_node *node = ls_xcalloc(1, sizeof *node);
    node->id = f->model.n_nodes;
    node->op = op;
    node->layer = &f->layer;
    node->attr = attr;
    node->in = ls_xcalloc(FX_MAX, sizeof(void *));
    node->out = ls_xcalloc(1, sizeof(void *));
    node->weights = ls_xcalloc(FX_MAX, sizeof(void *));
    for (; in[node->n_in] != NULL; node->n_in++) {
        node->in[node->n_in] = in[node->n_in];
        fx_consume(in[node->n_in], node);
    }
    for (; weights != NULL && weights[node->n_weights] != NULL; node->n_weights++) {
        node->weights[node->n_weights] = weights[node->n_weights];
    }
    node->out[0] = fx_tensor(f, out);
    node->out[0]->rows = in[0]->rows;
    node->out[0]->producer = node;
    node->n_out = 1;
    f->nodes[f->model.n_nodes++] = node;
    return node->out[0];
}

FX ls_tensor *fx_unary(fixture *f, const ls_operator *op, const void *attr, ls_tensor *in, ls_shape out) {
    ls_tensor *ins[2] = {in, NULL};
    return fx_node(f, op, attr, ins, NULL, out);
}

static const ls_act_attr fx_relu = {.kind = LS_ACT_RELU, .max_value = INFINITY};

FX void fx_output(fixture *f, ls_tensor *t) {
    f->output = t;
    fx_consume(t, NULL);
}

FX double fx_to_bf16(double x) {
    float v = (float)x;
    uint32_t bits;
    memcpy(&bits, &v, 4);
    bits = (bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u;
    memcpy(&v, &bits, 4);
    return v;
}

FX void fx_plan(fixture *f, ls_plan **plan, const ls_plan_options *o) {
    ls_err err = LS_ERR_INIT;
    if (ls_plan_create(plan, &f->model, f->arena, o, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
}

/* The plan, and where its weights lie. */
FX void fx_compile(fixture *f) {
    static ls_loss mse;
    static double loss_weight = 1;
    for (const ls_loss_class *const *c = ls_loss_classes(); *c != NULL; c++) {
        if (strcmp((*c)->name, "mean_squared_error") == 0) {
            mse = (ls_loss){.class_ = *c};
        }
    }
    fx_output(f, f->model.n_nodes ? f->nodes[f->model.n_nodes - 1]->out[0] : NULL);
    f->heads = ls_heads_create(1, &mse, &loss_weight, 0, NULL, NULL, false);
    f->arena = ls_arena_create(&f->model);
    ls_plan_options o = {f->n_samples, !f->inference, true, f->compute, f->n_threads, f->inference ? NULL : f->heads};
    o.direct_convolution = f->direct_convolution;
    o.cut = f->cut;
    if (f->inference_first) {
        ls_plan_options first = {f->n_samples + 1, false, false, f->compute, f->n_threads, NULL};
        first.direct_convolution = !f->direct_convolution;
        ls_plan *other;
        fx_plan(f, &other, &first);
        ls_plan_destroy(other);
    }
    fx_plan(f, &f->plan, &o);
    int ready[FX_MAX];
    for (int i = 0; i < f->model.n_weights; i++) {
        bool learns = ls_plan_has_gradient(f->plan, f->weights[i]);
        ready[i] = learns ? ls_plan_ready_call(f->plan, f->weights[i]) : LS_NO_GRADIENT;
    }
    ls_arena_place(f->arena, ready);
}

/* Memory, and random weights in it. */
FX void fx_bind(fixture *f) {
    ls_err err = LS_ERR_INIT;
    f->values = ls_xcalloc(f->arena->n_total + 16, sizeof(float));
    f->gradients = ls_xcalloc(f->arena->n_total + 16, sizeof(float));
    f->memory = ls_xcalloc(ls_plan_arena_bytes(f->plan) + 64, 1);
    memset(f->memory, 0xA5, ls_plan_arena_bytes(f->plan));           /* nothing may rely on zeroed memory */
    memset(f->gradients, 0xFF, f->arena->n_reduced * sizeof(float)); /* NaN: every gradient must be written */
    for (int i = 0; i < f->model.n_weights; i++) {
        const ls_weight *w = f->weights[i];
        f->n_weight[i] = (size_t)ls_shape_elems(&w->shape);
        f->weight[i] = ls_xcalloc(f->n_weight[i], sizeof(double));
        float *v = ls_xcalloc(f->n_weight[i], sizeof(float));
        for (size_t k = 0; k < f->n_weight[i]; k++) {
            double x = w->role == LS_WEIGHT_STAT ? 0.5 + fx_random(f) : 2 * fx_random(f) - 1;
            v[k] = (float)(f->compute == LS_BF16 && w->shape.rank > 1 ? fx_to_bf16(x) : x);
            f->weight[i][k] = v[k];
        }
        ls_arena_set(f->arena, w, f->values, v);
        free(v);
    }
    if (ls_plan_bind(f->plan, f->memory, f->values, f->gradients, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
}

/* Random inputs and targets. */
FX void fx_fill(fixture *f) {
    for (int i = 0; i < f->model.n_inputs; i++) {
        f->n_in[i] = ls_plan_elems(f->plan, f->inputs[i]);
        f->in[i] = ls_xcalloc(f->n_in[i], sizeof(double));
        float *to = ls_plan_input(f->plan, i);
        for (size_t k = 0; k < f->n_in[i]; k++) {
            double x = f->distinct ? ((double)(k * 37 % 251) - 125) / 128 : f->low + (f->high - f->low) * fx_random(f);
            to[k] = (float)(f->compute == LS_BF16 ? fx_to_bf16(x) : x);
            f->in[i][k] = to[k];
        }
    }
    f->n_out = ls_plan_elems(f->plan, f->output);
    f->target = ls_xcalloc(f->n_out, sizeof(double));
    f->out = ls_xcalloc(f->n_out, sizeof(double));
    for (size_t k = 0; k < f->n_out; k++) {
        f->target[k] = (float)(2 * fx_random(f) - 1);
        if (!f->inference) {
            ((float *)ls_plan_target(f->plan, 0))[k] = (float)f->target[k];
        }
    }
}

/* Compiles, binds, fills with random numbers and runs one step. */
FX void fx_run(fixture *f) {
    uint32_t index[64];
    fx_compile(f);
    fx_bind(f);
    fx_fill(f);
    for (uint32_t i = 0; i < 64; i++) {
        index[i] = 1000 + i;
    }
    ls_run run = {f->n_samples, f->n_threads, 1.0f / (float)f->n_samples, 1.0f, 7, 3, index, f->states};
    ls_plan_run_prepare(f->plan, &run);
    ls_plan_run_forward(f->plan, &run);
    if (!f->inference) {
        ls_plan_run_backward(f->plan, &run, NULL, NULL);
    }
}

FX double fx_loss(const fixture *f, fx_reference reference, double *out) {
    reference(f, f->in, f->weight, out);
    double sum = 0;
    for (size_t i = 0; i < f->n_out; i++) {
        sum += (out[i] - f->target[i]) * (out[i] - f->target[i]);
    }
    return sum / (double)f->n_out;
}

FX double fx_tolerance(const fixture *f) {
    return f->tolerance > 0 ? f->tolerance : f->compute == LS_BF16 ? 1.0 / 64 : 2e-5;
}

FX void fx_compare(const fixture *f, const char *what, const float *got, const double *want, size_t n, double more) {
    double scale = f->least > 0 ? f->least : 1e-30, worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        scale = fabs(want[i]) > scale ? fabs(want[i]) : scale;
        double d = fabs((double)got[i] - want[i]);
        if (!(d <= worst)) {
            worst = d;
            at = i;
        }
    }
    if (!(worst <= (fx_tolerance(f) + more) * scale)) {
        fail_msg("%s[%zu]: got %.9g, want %.9g (largest %.3g)", what, at, (double)got[at], want[at], scale);
    }
}

/* Compares a gradient with central differences in up to 24 places, the first and the last among them. */
FX void fx_differences(const fixture *f, fx_reference reference, const char *what, double *at, const float *got,
                       size_t n) {
    enum { PLACES = 24 };
    const double step = 1e-6;
    double want[PLACES], *out = ls_xcalloc(f->n_out, sizeof *out);
    float sample[PLACES];
    size_t places = n < PLACES ? n : PLACES;
    for (size_t k = 0; k < places; k++) {
        size_t i = places < 2 ? 0 : k * (n - 1) / (places - 1);
        double x = at[i];
        at[i] = x + step;
        double up = fx_loss(f, reference, out);
        at[i] = x - step;
        double down = fx_loss(f, reference, out);
        at[i] = x;
        want[k] = (up - down) / (2 * step);
        sample[k] = got[i];
    }
    free(out);
    fx_compare(f, what, sample, want, places, 1e-5);
}

FX void fx_check_forward(fixture *f, fx_reference reference) {
    reference(f, f->in, f->weight, f->out);
    fx_compare(f, "output", ls_plan_output(f->plan, 0), f->out, f->n_out, 0);
}

FX void fx_check_gradients(fixture *f, fx_reference reference) {
    for (int i = 0; i < f->model.n_inputs; i++) {
        const float *got = ls_plan_input_gradient(f->plan, i);
        assert_non_null(got);
        for (size_t k = 0; k < f->n_in[i]; k++) {
            assert_true(isfinite(got[k]));
        }
        fx_differences(f, reference, "input gradient", f->in[i], got, f->n_in[i]);
    }
    for (int i = 0; i < f->model.n_weights; i++) {
        const ls_arena_slot *slot = &f->arena->slot[i];
        if (!f->weights[i]->trainable) {
            continue;
        }
        for (size_t k = 0; k < slot->n_elems; k++) { /* all written, the padding of the layout too */
            assert_true(isfinite(f->gradients[slot->offset + k]));
        }
        float *got = ls_xcalloc(f->n_weight[i], sizeof *got), *back = ls_xcalloc(slot->n_elems + 16, sizeof *back);
        ls_arena_get(f->arena, f->weights[i], f->gradients, got);
        fx_differences(f, reference, "weight gradient", f->weight[i], got, f->n_weight[i]);
        if (slot->layout != NULL) {
            ls_layout_from_keras(slot->layout, got, back);
            assert_memory_equal(back, f->gradients + slot->offset, slot->n_elems * sizeof *back);
        }
        free(got);
        free(back);
    }
}

FX void fx_release(fixture *f) {
    ls_plan_destroy(f->plan);
    ls_arena_destroy(f->arena);
    ls_heads_destroy(f->heads);
    free(f->values);
    free(f->gradients);
    free(f->memory);
    free(f->target);
    free(f->out);
    for (int i = 0; i < f->model.n_weights; i++) {
        free(f->weight[i]);
        free(f->weights[i]);
    }
    for (int i = 0; i < f->model.n_inputs; i++) {
        free(f->in[i]);
    }
    for (int i = 0; i < f->model.n_tensors; i++) {
        free(f->tensors[i]->consumers);
        free(f->tensors[i]);
    }
    for (int i = 0; i < f->model.n_nodes; i++) {
        free(f->nodes[i]->in);
        free(f->nodes[i]->out);
        free(f->nodes[i]->weights);
        free(f->nodes[i]);
    }
}

FX void fx_check(fixture *f, fx_reference reference) {
    fx_run(f);
    fx_check_forward(f, reference);
    if (!f->inference) {
        fx_check_gradients(f, reference);
    }
    fx_release(f);
}

#endif
