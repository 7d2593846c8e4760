/*
 * Noise in training: GaussianNoise, GaussianDropout, AlphaDropout.
 *
 * A draw is a pure function of seed, layer, step, the sample's index in the data set and the element's place in the
 * sample: counter e / 4 of Philox4x32 gives four elements a word each (AlphaDropout), or two pairs of normal numbers by
 * Box-Muller. What multiplies x is kept for the backward pass.
 *
 * Source: tf_keras/layers/regularization/. AlphaDropout: Klambauer et al., Self-Normalizing Neural Networks, 2017.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "common/rng.h"
#include "worker/ops/ops_common.h"

static const double PI = 3.14159265358979323846;
static const double SELU_LIMIT = -1.7580993408473766; /* -scale * alpha of selu: where dropped elements are put */

typedef struct noise_state {
    ls_noise_kind kind;
    int layer;
    size_t n_elems;             /* of a sample, all rows */
    float deviation;            /* Gaussian */
    uint32_t threshold;         /* alpha: a word below it drops */
    float slope, kept, dropped; /* alpha: x * slope + kept, or dropped */
} noise_state;

typedef struct noise_work {
    const noise_state *s;
    const ls_run *run;
    const float *x;
    float *y, *factor;
} noise_work;

/* Four standard normal numbers. */
static void normals(const ls_philox *r, float out[4]) {
    for (int i = 0; i < 2; i++) {
        double u = ((double)r->v[2 * i] + 0.5) / 4294967296.0;
        float radius = sqrtf(-2.0f * logf((float)u)), angle = (float)(2 * PI / 4294967296.0 * r->v[2 * i + 1]);
        out[2 * i] = radius * cosf(angle);
        out[2 * i + 1] = radius * sinf(angle);
    }
}

static void draw_four(const noise_state *s, const ls_philox *r, const float *x, float *y, float *factor, size_t n) {
    float z[4];
    if (s->kind != LS_NOISE_ALPHA) {
        normals(r, z);
    }
    for (size_t i = 0; i < n; i++) {
        switch (s->kind) {
            case LS_NOISE_ADD: y[i] = x[i] + z[i] * s->deviation; break;
            case LS_NOISE_MULTIPLY:
                factor[i] = 1.0f + z[i] * s->deviation;
                y[i] = x[i] * factor[i];
                break;
            case LS_NOISE_ALPHA:
                factor[i] = r->v[i] >= s->threshold ? s->slope : 0.0f;
                y[i] = r->v[i] >= s->threshold ? x[i] * s->slope + s->kept : s->dropped;
                break;
        }
    }
}

static void noise_range(void *context, size_t begin, size_t end) {
    const noise_work *w = context;
    const noise_state *s = w->s;
    LS_ASSERT(w->factor != NULL || s->kind == LS_NOISE_ADD);
    uint64_t key = ls_rng_key(w->run->seed, LS_STREAM_LAYER, (uint64_t)s->layer);
    for (size_t k = begin; k < end; k++) {
        uint64_t high = w->run->step << 32 | w->run->sample_index[k];
        for (size_t e = 0; e < s->n_elems; e += 4) {
            ls_philox r = ls_philox4x32(key, e / 4, high);
            size_t at = k * s->n_elems + e, n = s->n_elems - e < 4 ? s->n_elems - e : 4;
            draw_four(s, &r, w->x + at, w->y + at, w->factor != NULL ? w->factor + at : NULL, n);
        }
    }
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    noise_work w = {call->state, run, call->args[0].p, call->args[1].p, call->args[2].p};
    size_t chunk = LS_CHUNK / w.s->n_elems;
    ls_ops_parallel(run->n_threads, (size_t)run->n_samples, chunk ? chunk : 1, noise_range, &w);
}

typedef struct product_work {
    const float *dy, *factor;
    float *dx;
} product_work;

static void product_range(void *context, size_t begin, size_t end) {
    const product_work *w = context;
    for (size_t i = begin; i < end; i++) {
        w->dx[i] = w->dy[i] * w->factor[i];
    }
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    const noise_state *s = call->state;
    product_work w = {call->args[0].p, call->args[1].p, call->args[2].p};
    ls_ops_parallel(run->n_threads, (size_t)run->n_samples * s->n_elems, LS_CHUNK, product_range, &w);
}

static noise_state *new_state(const ls_node *node) {
    const ls_noise_attr *a = node->attr;
    const ls_tensor *t = node->in[0];
    noise_state *s = ls_xcalloc(1, sizeof *s);
    *s = (noise_state){.kind = a->kind, .layer = node->id, .n_elems = (size_t)(t->rows * ls_shape_elems(&t->shape))};
    double keep = 1 - a->amount;
    switch (a->kind) {
        case LS_NOISE_ADD: s->deviation = (float)a->amount; break;
        case LS_NOISE_MULTIPLY: s->deviation = (float)sqrt(a->amount / keep); break;
        case LS_NOISE_ALPHA: {
            double slope = 1 / sqrt(keep * (1 + a->amount * SELU_LIMIT * SELU_LIMIT));
            double offset = -slope * SELU_LIMIT * a->amount;
            s->threshold = (uint32_t)(a->amount * 4294967296.0);
            s->slope = (float)slope;
            s->kept = (float)offset;
            s->dropped = (float)(slope * SELU_LIMIT + offset);
            break;
        }
    }
    return s;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const ls_noise_attr *a = node->attr;
    if (!ls_plan_training(p)) {
        ls_dtype dtype = ls_plan_stored(p, node->in[0]);
        ls_plan_out_view(p, node->out[0], ls_plan_in(p, node->in[0], dtype), dtype);
        return LS_OK;
    }
    ls_ref *factor = ls_xcalloc(1, sizeof *factor);
    if (a->kind != LS_NOISE_ADD) {
        *factor = ls_plan_temp(p, ls_plan_elems(p, node->in[0]) * sizeof(float));
    }
    ls_plan_remember(p, node, factor);
    ls_ref src = ls_plan_in(p, node->in[0], LS_F32), dst = ls_plan_out(p, node->out[0], LS_F32);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "noise.forward", node, forward_kernel, new_state(node), NULL);
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_WRITE, dst);
    ls_call_arg(c, LS_WRITE, *factor);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    const ls_ref *factor = ls_plan_recall(p, node);
    ls_ref dout = ls_plan_dout(p, node->out[0], LS_F32);
    if (!ls_ref_some(dout) || !ls_plan_wants_grad(p, node->in[0])) {
        return LS_OK;
    }
    if (!ls_ref_some(*factor)) {
        ls_plan_din_view(p, node->in[0], dout, LS_F32);
        return LS_OK;
    }
    ls_ref din = ls_plan_din(p, node->in[0], LS_F32);
    ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "noise.backward", node, backward_kernel, new_state(node), NULL);
    ls_call_arg(c, LS_READ, dout);
    ls_call_arg(c, LS_READ, *factor);
    ls_call_arg(c, LS_WRITE, din);
    return LS_OK;
}

const ls_operator ls_op_noise = {"noise", forward, backward, NULL, NULL};
