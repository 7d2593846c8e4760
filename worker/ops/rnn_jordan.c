/*
 * Jordan's net over one row: the output goes back into the hidden layer.
 *   q = act(z + y[t-1] V)        z = x W + b
 *   y = out(q U + c)             y is the state and the output; `rec` is out
 * rh holds q; so does z.
 *
 * Source  Jordan, Serial Order: A Parallel Distributed Processing Approach, ICS Report 8604, 1986 (with a weight for
 *         each way back, and no decay of the context).
 */
#include "worker/ops/rnn.h"

static void place(rnn_form *f) {
    f->rh = ls_rnn_place(&f->n_bytes, f->n, f->wide, ls_rnn_kept(f), LS_F32);
}

static void hidden(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t w = f->wide;
    const float *x = ls_rnn_x(s, row);
    float *z = s->z + row * w, *restrict r = s->r + row * w, *q = s->rh + row * w;
    if (ls_rnn_masked(s, row)) {
        memset(q, 0, w * sizeof *q);
        return;
    }
    for (size_t j = 0; j < w; j++) {
        r[j] += x[j];
    }
    f->act.forward(f->act.attr, r, z, w);
    memcpy(q, z, w * sizeof *q);
}

static void output(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    if (ls_rnn_masked(s, row)) {
        ls_rnn_keep(s->h + row * u, s->h_prev + row * u, u);
    } else {
        f->rec.forward(f->rec.attr, s->r2 + row * u, s->h + row * u, u);
    }
}

static void backward_output(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    float *dh = s->dh + row * u, *d2 = s->d2 + row * u;
    if (ls_rnn_masked(s, row)) {
        memset(d2, 0, u * sizeof *d2);
        return;
    }
    f->rec.backward(f->rec.attr, (f->rec.from_result ? s->h : s->r2) + row * u, dh, d2, u);
    memset(dh, 0, u * sizeof *dh);
}

/* dr2 = gradient of q. */
static void backward_hidden(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t w = f->wide;
    float *d = s->d + row * s->d_row;
    if (ls_rnn_masked(s, row)) {
        memset(d, 0, w * sizeof *d);
    } else {
        f->act.backward(f->act.attr, (f->act.from_result ? s->z : s->r) + row * w, s->dr2 + row * w, d, w);
    }
}

const rnn_cell ls_rnn_cell_jordan = {.n_states = 1,
                                     .n_products = 2,
                                     .h_kept = true,
                                     .d_is_z = true,
                                     .forward = {hidden, output},
                                     .backward = {backward_output, backward_hidden},
                                     .place = place};
