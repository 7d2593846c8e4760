/*
 * LSTM, gates i, f, g (Keras's c), o over one row:
 *   i, f, o = rec(z + r), g = act(z + r)      z = x W + b, r = h[t-1] U
 *   c = f c[t-1] + i g,  h = o act(c)
 * With tanh and sigmoid, which nearly all have, a row is one loop.
 */
#include "worker/ops/rnn.h"
#include "worker/ops/vmath.h"

static void place(rnn_form *f) {
    f->a = ls_rnn_place(&f->n_bytes, f->n, f->units, ls_rnn_kept(f), LS_F32);
}

static bool usual(const rnn_form *f) {
    return f->attr->activation.kind == LS_ACT_TANH && f->attr->recurrent_activation.kind == LS_ACT_SIGMOID;
}

/* x may be z, and c c_prev: element j alone meets element j. */
static void usual_forward(size_t u, const float *x, const float *r, const float *c_prev, float *z, float *c, float *a,
                          float *h) {
    const float *xf = x + u, *xg = x + 2 * u, *xo = x + 3 * u, *rf = r + u, *rg = r + 2 * u, *ro = r + 3 * u;
    float *zf = z + u, *zg = z + 2 * u, *zo = z + 3 * u;
#pragma GCC ivdep
    for (size_t j = 0; j < u; j++) {
        float in = ls_sigmoidf(x[j] + r[j]), forget = ls_sigmoidf(xf[j] + rf[j]);
        float g = ls_tanhf(xg[j] + rg[j]), out = ls_sigmoidf(xo[j] + ro[j]);
        float state = forget * c_prev[j] + in * g, shown = ls_tanhf(state);
        z[j] = in;
        zf[j] = forget;
        zg[j] = g;
        zo[j] = out;
        c[j] = state;
        a[j] = shown;
        h[j] = out * shown;
    }
}

static void forward(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    const float *x = ls_rnn_x(s, row), *c_prev = s->c_prev + row * u;
    float *z = s->z + row * 4 * u, *r = s->r + row * 4 * u;
    float *c = s->c + row * u, *a = s->a + row * u, *h = s->h + row * u;
    if (ls_rnn_masked(s, row)) {
        ls_rnn_keep(c, c_prev, u);
        ls_rnn_keep(h, s->h_prev + row * u, u);
        return;
    }
    if (usual(f)) {
        usual_forward(u, x, r, c_prev, z, c, a, h);
        return;
    }
#pragma GCC ivdep
    for (size_t j = 0; j < 4 * u; j++) {
        r[j] += x[j];
    }
    for (size_t g = 0; g < 4; g++) {
        const ls_act_function *fn = g == 2 ? &f->act : &f->rec;
        fn->forward(fn->attr, r + g * u, z + g * u, u);
    }
#pragma GCC ivdep
    for (size_t j = 0; j < u; j++) {
        c[j] = z[u + j] * c_prev[j] + z[j] * z[2 * u + j];
    }
    f->act.forward(f->act.attr, c, a, u);
#pragma GCC ivdep
    for (size_t j = 0; j < u; j++) {
        h[j] = z[3 * u + j] * a[j];
    }
}

static void usual_backward(size_t u, const float *restrict z, const float *restrict a, const float *restrict c_prev,
                           float *restrict dh, float *restrict dc, float *restrict d) {
    const float *zf = z + u, *zg = z + 2 * u, *zo = z + 3 * u;
    float *df = d + u, *dg = d + 2 * u, *d_o = d + 3 * u;
#pragma GCC ivdep
    for (size_t j = 0; j < u; j++) {
        float in = z[j], forget = zf[j], g = zg[j], out = zo[j], shown = a[j], up = dh[j];
        float state = dc[j] + up * out * (1.0f - shown * shown);
        d[j] = state * g * (in * (1.0f - in));
        df[j] = state * c_prev[j] * (forget * (1.0f - forget));
        dg[j] = state * in * (1.0f - g * g);
        d_o[j] = up * shown * (out * (1.0f - out));
        dc[j] = state * forget;
        dh[j] = 0.0f;
    }
}

/* dh and dc arrive; d = dz, dh = 0 (all of it passes through the product), dc = f dc. */
static void backward(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    const float *restrict z = s->z + row * 4 * u;
    float *restrict d = s->d + row * 4 * u, *restrict dh = s->dh + row * u, *restrict dc = s->dc + row * u;
    const float *restrict a = s->a + row * u, *restrict c_prev = s->c_prev + row * u, *c = s->c + row * u;
    const float *r = s->r + row * 4 * u;
    if (ls_rnn_masked(s, row)) {
        memset(d, 0, 4 * u * sizeof *d);
        return;
    }
    if (usual(f)) {
        usual_backward(u, z, a, c_prev, dh, dc, d);
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
}

const rnn_cell ls_rnn_cell_lstm = {.gates = 4,
                                   .n_states = 2,
                                   .n_products = 1,
                                   .columns = {4},
                                   .d_is_z = true,
                                   .forward = {forward},
                                   .backward = {backward},
                                   .place = place};
