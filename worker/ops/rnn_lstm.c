/*
 * LSTM, gates i, f, g (Keras's c), o over one row:
 *   i, f, o = rec(z + r), g = act(z + r)      z = x W + b, r = h[t-1] U
 *   c = f c[t-1] + i g,  h = o act(c)
 */
#include "worker/ops/rnn.h"

static void place(rnn_form *f) {
    f->a = ls_rnn_place(&f->n_floats, f->n * f->units, f->steps);
}

static void forward_row(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    float *restrict z = s->z + row * 4 * u, *restrict r = s->r + row * 4 * u;
    float *restrict c = s->c + row * u, *restrict a = s->a + row * u, *restrict h = s->h + row * u;
    const float *restrict c_prev = s->c_prev + row * u;
    if (ls_rnn_masked(s, row)) {
        memcpy(c, c_prev, u * sizeof *c);
        memcpy(h, s->h_prev + row * u, u * sizeof *h);
        return;
    }
    for (size_t j = 0; j < 4 * u; j++) {
        r[j] += z[j];
    }
    for (size_t g = 0; g < 4; g++) {
        const ls_act_function *fn = g == 2 ? &f->act : &f->rec;
        fn->forward(fn->attr, r + g * u, z + g * u, u);
    }
    for (size_t j = 0; j < u; j++) {
        c[j] = z[u + j] * c_prev[j] + z[j] * z[2 * u + j];
    }
    f->act.forward(f->act.attr, c, a, u);
    for (size_t j = 0; j < u; j++) {
        h[j] = z[3 * u + j] * a[j];
    }
}

static void forward(const rnn_step *s, size_t begin, size_t end) {
    for (size_t row = begin; row < end; row++) {
        forward_row(s, row);
    }
}

/* dh and dc arrive; d = dz, dh = 0 (all of it passes through the product), dc = f dc. */
static void backward_row(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    float *restrict z = s->z + row * 4 * u, *restrict d = s->d + row * 4 * u;
    float *restrict dh = s->dh + row * u, *restrict dc = s->dc + row * u;
    const float *restrict a = s->a + row * u, *restrict c_prev = s->c_prev + row * u, *c = s->c + row * u;
    const float *r = s->r + row * 4 * u;
    if (ls_rnn_masked(s, row)) {
        memset(z, 0, 4 * u * sizeof *z);
        memset(d, 0, 4 * u * sizeof *d);
        return;
    }
    for (size_t j = 0; j < u; j++) {
        d[3 * u + j] = dh[j] * a[j];
        d[j] = dh[j] * z[3 * u + j];
        dh[j] = 0.0f;
    }
    f->act.backward(f->act.attr, f->act.from_result ? a : c, d, d + u, u);
    for (size_t j = 0; j < u; j++) {
        float g = dc[j] + d[u + j];
        d[j] = g * z[2 * u + j];
        d[u + j] = g * c_prev[j];
        d[2 * u + j] = g * z[j];
        dc[j] = g * z[u + j];
    }
    for (size_t g = 0; g < 4; g++) {
        const ls_act_function *fn = g == 2 ? &f->act : &f->rec;
        fn->backward(fn->attr, (fn->from_result ? z : r) + g * u, d + g * u, d + g * u, u);
    }
    memcpy(z, d, 4 * u * sizeof *z);
}

static void backward(const rnn_step *s, size_t begin, size_t end) {
    for (size_t row = begin; row < end; row++) {
        backward_row(s, row);
    }
}

const rnn_cell ls_rnn_cell_lstm = {.gates = 4,
                                   .n_states = 2,
                                   .n_products = 1,
                                   .columns = {4},
                                   .d_is_z = true,
                                   .forward = {forward},
                                   .backward = {backward},
                                   .place = place};
