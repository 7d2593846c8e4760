/*
 * A random contrast or brightness for each image: RandomContrast, RandomBrightness.
 *
 * Source: tf_keras/layers/preprocessing/image_preprocessing.py, tf.image.adjust_contrast.
 */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/draw.h"
#include "worker/ops/map.h"

typedef struct tone_state {
    ls_tone_attr a;
    int layer;
    size_t n_images, rows, n_cells, c; /* rows: images of a sample; c: channels of a cell */
} tone_state;

typedef struct tone_work {
    const tone_state *s;
    const ls_run *run;
    const float *x, *dy; /* dy NULL: forward */
    float *to;           /* y or dx */
} tone_work;

static float mean_of(const float *x, size_t n, size_t step) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i * step];
    }
    return (float)(sum / (double)n);
}

/* One channel of one image: y = (x - mean) factor + mean + shift, cut. The way back of the cut: nothing from what was
 * cut off. */
static void one_channel(const tone_work *w, size_t at, float factor, float shift) {
    const tone_state *s = w->s;
    const float *x = w->x + at, mean = s->a.contrast ? mean_of(x, s->n_cells, s->c) : 0;
    float *to = w->to + at, mean_slope = 0;
    for (size_t i = 0; i < s->n_cells * s->c; i += s->c) {
        float y = (x[i] - mean) * factor + mean + shift;
        if (w->dy == NULL) {
            to[i] = y < s->a.min ? s->a.min : y > s->a.max ? s->a.max : y;
        } else {
            to[i] = y < s->a.min || y > s->a.max ? 0 : w->dy[at + i];
        }
    }
    if (w->dy == NULL || !s->a.contrast) {
        return;
    }
    mean_slope = mean_of(to, s->n_cells, s->c) * (1 - factor); /* x is in the mean, too */
    for (size_t i = 0; i < s->n_cells * s->c; i += s->c) {
        to[i] = to[i] * factor + mean_slope;
    }
}

static void tone_range(void *context, size_t begin, size_t end) {
    const tone_work *w = context;
    const tone_state *s = w->s;
    for (size_t k = begin; k < end; k++) {
        float u = (float)ls_draw_between(ls_draw_row(w->run, s->layer, k, s->rows).v[0], s->a.low, s->a.high);
        for (size_t c = 0; c < s->c; c++) {
            one_channel(w, k * s->n_cells * s->c + c, s->a.contrast ? u : 1,
                        s->a.contrast ? 0 : u * (s->a.max - s->a.min));
        }
    }
}

static void forward_kernel(const ls_call *call, const ls_run *run) {
    tone_work w = {call->state, run, call->args[0].p, NULL, call->args[1].p};
    ls_ops_parallel(run->n_threads, w.s->n_images, 1, tone_range, &w);
}

static void backward_kernel(const ls_call *call, const ls_run *run) {
    tone_work w = {call->state, run, call->args[0].p, call->args[1].p, call->args[2].p};
    ls_ops_parallel(run->n_threads, w.s->n_images, 1, tone_range, &w);
}

static tone_state *new_state(const ls_plan *p, const ls_node *node) {
    const ls_shape *in = &node->in[0]->shape;
    tone_state *s = ls_xcalloc(1, sizeof *s);
    *s = (tone_state){.a = *(const ls_tone_attr *)node->attr,
                      .layer = node->id,
                      .n_images = (size_t)ls_plan_rows(p, node->in[0]),
                      .rows = (size_t)node->in[0]->rows,
                      .n_cells = (size_t)(in->dim[0] * in->dim[1]),
                      .c = (size_t)in->dim[2]};
    return s;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    if (!ls_plan_training(p)) {
        ls_dtype dtype = ls_plan_stored(p, node->in[0]);
        ls_plan_out_view(p, node->out[0], ls_plan_in(p, node->in[0], dtype), dtype);
        return LS_OK;
    }
    ls_map_forward(p, node, "tone.forward", LS_F32, forward_kernel, new_state(p, node));
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    if (ls_map_has_backward(p, node)) {
        ls_map_backward(p, node, "tone.backward", true, backward_kernel, new_state(p, node));
    }
    return LS_OK;
}

const ls_operator ls_op_tone = {"tone", forward, backward, NULL, NULL};
