/*
 * LSTM, gates i, f, g (Keras's c), o over one row:
 *   i, f, o = rec(z + r), g = act(z + r)      z = x W + b, r = h[t-1] U
 *   c = f c[t-1] + i g,  h = o act(c)
 * With tanh and sigmoid, which nearly all have, a row is one loop.
 */
#include "worker/ops/rnn.h"
#include "worker/ops/vmath.h"

static bool usual(const rnn_form *f) {
    return f->attr->activation.kind == LS_ACT_TANH && f->attr->recurrent_activation.kind == LS_ACT_SIGMOID;
}

static void place(rnn_form *f) {
    if (!usual(f)) {
        f->a = ls_rnn_place(&f->n_bytes, f->n, f->units, ls_rnn_kept(f), LS_F32);
    } else if (f->dtype == LS_BF16 && f->training) {
        f->z16 = ls_rnn_place(&f->n_bytes, f->n, f->wide, f->steps, LS_BF16);
    }
}

/* What the usual row's loops touch; the gates are z16 where it is there, else z. */
typedef struct usual_row {
    const float *x, *r, *c_prev;
    float *z, *c, *h, *dh, *dc, *d;
    uint16_t *z16;
} usual_row;

static inline void put(float *z, uint16_t *z16, bool narrow, size_t at, float value) {
    if (narrow) {
        z16[at] = ls_bf16_from_f32(value);
    } else {
        z[at] = value;
    }
}

static inline float get(const float *z, const uint16_t *z16, bool narrow, size_t at) {
    return narrow ? ls_bf16_to_f32(z16[at]) : z[at];
}

/* x may be z, and c c_prev: element j alone meets element j. */
__attribute__((always_inline)) static inline void usual_forward(const usual_row *w, size_t u, bool narrow) {
    const float *x = w->x, *r = w->r, *c_prev = w->c_prev;
    float *z = w->z, *c = w->c, *h = w->h;
    uint16_t *z16 = w->z16;
#pragma GCC ivdep
    for (size_t j = 0; j < u; j++) {
        float in = ls_sigmoidf(x[j] + r[j]), forget = ls_sigmoidf(x[u + j] + r[u + j]);
        float g = ls_tanhf(x[2 * u + j] + r[2 * u + j]), out = ls_sigmoidf(x[3 * u + j] + r[3 * u + j]);
        float state = forget * c_prev[j] + in * g;
        put(z, z16, narrow, j, in);
        put(z, z16, narrow, u + j, forget);
        put(z, z16, narrow, 2 * u + j, g);
        put(z, z16, narrow, 3 * u + j, out);
        c[j] = state;
        h[j] = out * ls_tanhf(state);
    }
}

static void forward(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    const float *x = ls_rnn_x(s, row), *c_prev = s->c_prev + row * u;
    float *r = s->r + row * 4 * u, *c = s->c + row * u, *h = s->h + row * u;
    if (ls_rnn_masked(s, row)) {
        ls_rnn_keep(c, c_prev, u);
        ls_rnn_keep(h, s->h_prev + row * u, u);
        return;
    }
    if (s->z16 != NULL) {
        usual_forward(&(usual_row){x, r, c_prev, .c = c, .h = h, .z16 = s->z16 + row * 4 * u}, u, true);
        return;
    }
    float *z = s->z + row * 4 * u;
    if (usual(f)) {
        usual_forward(&(usual_row){x, r, c_prev, .c = c, .h = h, .z = z}, u, false);
        return;
    }
    float *a = s->a + row * u;
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

__attribute__((always_inline)) static inline void usual_backward(const usual_row *w, size_t u, bool narrow) {
    const float *restrict z = w->z, *restrict c = w->c, *restrict c_prev = w->c_prev;
    const uint16_t *restrict z16 = w->z16;
    float *restrict dh = w->dh, *restrict dc = w->dc, *restrict d = w->d;
#pragma GCC ivdep
    for (size_t j = 0; j < u; j++) {
        float in = get(z, z16, narrow, j), forget = get(z, z16, narrow, u + j);
        float g = get(z, z16, narrow, 2 * u + j), out = get(z, z16, narrow, 3 * u + j);
        float shown = ls_tanhf(c[j]), up = dh[j];
        float state = dc[j] + up * out * (1.0f - shown * shown);
        d[j] = state * g * (in * (1.0f - in));
        d[u + j] = state * c_prev[j] * (forget * (1.0f - forget));
        d[2 * u + j] = state * in * (1.0f - g * g);
        d[3 * u + j] = up * shown * (out * (1.0f - out));
        dc[j] = state * forget;
        dh[j] = 0.0f;
    }
}

/* dh and dc arrive; d = dz, dh = 0 (all of it passes through the product), dc = f dc. */
static void backward(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    float *restrict d = s->d + row * s->d_row, *restrict dh = s->dh + row * u, *restrict dc = s->dc + row * u;
    const float *c_prev = s->c_prev + row * u;
    float *c = s->c + row * u;
    if (ls_rnn_masked(s, row)) {
        memset(d, 0, 4 * u * sizeof *d);
        return;
    }
    usual_row w = {.c_prev = c_prev, .c = c, .dh = dh, .dc = dc, .d = d};
    if (s->z16 != NULL) {
        w.z16 = s->z16 + row * 4 * u;
        usual_backward(&w, u, true);
        return;
    }
    float *restrict z = w.z = s->z + row * 4 * u;
    if (usual(f)) {
        usual_backward(&w, u, false);
        return;
    }
    const float *restrict a = s->a + row * u, *r = s->r + row * 4 * u;
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
