/*
 * Jordan's net over one row: the output goes back into the hidden layer.
 *   q = act(z + y[t-1] V)        z = x W + b
 *   y = out(q U + c)             y is the state and the output; `rec` is out
 * The array z holds q; rh holds it once more, since z becomes its gradient.
 *
 * Source  Jordan, Serial Order: A Parallel Distributed Processing Approach, ICS Report 8604, 1986 (with a weight for
 *         each way back, and no decay of the context).
 */
#include "worker/ops/rnn.h"

static void place(rnn_form *f) {
    f->rh = ls_rnn_place(&f->n_floats, f->n * f->wide, f->training ? f->steps : 1);
}

static void hidden(const rnn_step *s, size_t begin, size_t end) {
    const rnn_form *f = s->f;
    const size_t w = f->wide;
    for (size_t row = begin; row < end; row++) {
        float *restrict z = s->z + row * w, *restrict r = s->r + row * w, *q = s->rh + row * w;
        if (ls_rnn_masked(s, row)) {
            memset(q, 0, w * sizeof *q);
            continue;
        }
        for (size_t j = 0; j < w; j++) {
            r[j] += z[j];
        }
        f->act.forward(f->act.attr, r, z, w);
        memcpy(q, z, w * sizeof *q);
    }
}

static void output(const rnn_step *s, size_t begin, size_t end) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    for (size_t row = begin; row < end; row++) {
        if (ls_rnn_masked(s, row)) {
            memcpy(s->h + row * u, s->h_prev + row * u, u * sizeof(float));
        } else {
            f->rec.forward(f->rec.attr, s->r2 + row * u, s->h + row * u, u);
        }
    }
}

static void backward_output(const rnn_step *s, size_t begin, size_t end) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    for (size_t row = begin; row < end; row++) {
        float *dh = s->dh + row * u, *d2 = s->d2 + row * u;
        if (ls_rnn_masked(s, row)) {
            memset(d2, 0, u * sizeof *d2);
        } else {
            f->rec.backward(f->rec.attr, (f->rec.from_result ? s->h : s->r2) + row * u, dh, d2, u);
            memset(dh, 0, u * sizeof *dh);
        }
    }
}

/* dr2 = gradient of q. */
static void backward_hidden(const rnn_step *s, size_t begin, size_t end) {
    const rnn_form *f = s->f;
    const size_t w = f->wide;
    for (size_t row = begin; row < end; row++) {
        float *z = s->z + row * w, *d = s->d + row * w;
        if (ls_rnn_masked(s, row)) {
            memset(d, 0, w * sizeof *d);
        } else {
            f->act.backward(f->act.attr, f->act.from_result ? z : s->r + row * w, s->dr2 + row * w, d, w);
        }
        memcpy(z, d, w * sizeof *z);
    }
}

const rnn_cell ls_rnn_cell_jordan = {.n_states = 1,
                                     .n_products = 2,
                                     .d_is_z = true,
                                     .forward = {hidden, output},
                                     .backward = {backward_output, backward_hidden},
                                     .place = place};
