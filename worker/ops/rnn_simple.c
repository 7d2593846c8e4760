/* SimpleRNN (Elman): h = act(z + r), z = x W + b, r = h[t-1] U. */
#include "worker/ops/rnn.h"

static void forward(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    const float *x = ls_rnn_x(s, row);
    float *z = s->z + row * u, *restrict r = s->r + row * u, *h = s->h + row * u;
    if (ls_rnn_masked(s, row)) {
        ls_rnn_keep(h, s->h_prev + row * u, u);
        return;
    }
    for (size_t j = 0; j < u; j++) {
        r[j] += x[j];
    }
    f->act.forward(f->act.attr, r, z, u);
    memcpy(h, z, u * sizeof *h);
}

static void backward(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    float *d = s->d + row * s->d_row, *dh = s->dh + row * u;
    if (ls_rnn_masked(s, row)) {
        memset(d, 0, u * sizeof *d);
        return;
    }
    f->act.backward(f->act.attr, f->act.from_result ? s->z + row * u : s->r + row * u, dh, d, u);
    memset(dh, 0, u * sizeof *dh);
}

const rnn_cell ls_rnn_cell_simple = {.gates = 1,
                                     .n_states = 1,
                                     .n_products = 1,
                                     .columns = {1},
                                     .d_is_z = true,
                                     .forward = {forward},
                                     .backward = {backward}};
