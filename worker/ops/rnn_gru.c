/*
 * GRU, gates z, r, h over one row, with x = X W + b:
 *   z, r = rec(x + h[t-1] U)
 *   reset_after    q = act(x_h + r (h[t-1] U_h + b_r))
 *   otherwise      q = act(x_h + (r h[t-1]) U_h)
 *   h = z h[t-1] + (1 - z) q
 * Recurrent dropout touches what is multiplied by U, not the h[t-1] that z carries over.
 */
#include "worker/ops/rnn.h"

/* Gates z and r from the sums of x and what product 0 gave, which r (`wide` or 2 u floats) holds afterwards. */
static void two_gates(const rnn_form *f, const float *x, float *z, float *restrict r) {
    const size_t u = f->units;
    for (size_t j = 0; j < 2 * u; j++) {
        r[j] += x[j];
    }
    f->rec.forward(f->rec.attr, r, z, u);
    f->rec.forward(f->rec.attr, r + u, z + u, u);
}

/* p holds the candidate before its activation; q and h come out. h may be h_prev. */
static void mix(const rnn_form *f, const float *p, const float *restrict z, float *restrict q, const float *h_prev,
                float *h) {
    f->act.forward(f->act.attr, p, q, f->units);
#pragma GCC ivdep
    for (size_t j = 0; j < f->units; j++) {
        h[j] = z[j] * h_prev[j] + (1.0f - z[j]) * q[j];
    }
}

/* dh arrives: dq = gradient of the candidate before its activation, dz = that of z before its own; dh = z dh. */
static void unmix(const rnn_step *s, size_t row, const float *restrict z, const float *v, float *restrict dz,
                  float *restrict dq) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    float *restrict dh = s->dh + row * u;
    const float *restrict h_prev = s->h_prev + row * u, *restrict q = z + 2 * u;
    for (size_t j = 0; j < u; j++) {
        dq[j] = dh[j] * (1.0f - z[j]);
        dz[j] = dh[j] * (h_prev[j] - q[j]);
        dh[j] *= z[j];
    }
    f->act.backward(f->act.attr, f->act.from_result ? q : s->p + row * u, dq, dq, u);
    f->rec.backward(f->rec.attr, v, dz, dz, u);
}

static void keep(const rnn_step *s, size_t row) {
    const size_t u = s->f->units;
    ls_rnn_keep(s->h + row * u, s->h_prev + row * u, u);
}

static void place_p(rnn_form *f) {
    f->p = ls_rnn_place(&f->n_bytes, f->n, f->units, f->act.from_result ? 1 : ls_rnn_kept(f), LS_F32);
}

/* ---- reset_after ---- */

static void after_forward(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    const float *x = ls_rnn_x(s, row);
    float *z = s->z + row * 3 * u, *restrict r = s->r + row * 3 * u, *restrict p = s->p + row * u;
    if (ls_rnn_masked(s, row)) {
        keep(s, row);
        return;
    }
    two_gates(f, x, z, r);
    for (size_t j = 0; j < u; j++) {
        p[j] = x[2 * u + j] + z[u + j] * r[2 * u + j];
    }
    mix(f, p, z, z + 2 * u, s->h_prev + row * u, s->h + row * u);
}

/* d is the gradient of h U + b_r, dz that of x. */
static void after_backward(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    const float *restrict z = s->z + row * 3 * u, *restrict r = s->r + row * 3 * u;
    float *restrict dz = s->dz + row * s->dz_row, *restrict d = s->d + row * s->d_row;
    if (ls_rnn_masked(s, row)) {
        memset(dz, 0, 3 * u * sizeof *dz);
        memset(d, 0, 3 * u * sizeof *d);
        return;
    }
    unmix(s, row, z, f->rec.from_result ? z : r, dz, dz + 2 * u);
    for (size_t j = 0; j < u; j++) {
        float dq = dz[2 * u + j];
        dz[u + j] = dq * r[2 * u + j];
        d[2 * u + j] = dq * z[u + j];
    }
    f->rec.backward(f->rec.attr, (f->rec.from_result ? z : r) + u, dz + u, dz + u, u);
    memcpy(d, dz, 2 * u * sizeof *d);
}

const rnn_cell ls_rnn_cell_gru_reset_after = {.gates = 3,
                                              .n_states = 1,
                                              .n_products = 1,
                                              .columns = {3},
                                              .r_kept = true,
                                              .h_kept = true,
                                              .forward = {after_forward},
                                              .backward = {after_backward},
                                              .place = place_p};

/* ---- reset before the product ---- */

static void place_before(rnn_form *f) {
    place_p(f);
    f->rh = ls_rnn_place(&f->n_bytes, f->n, f->units, ls_rnn_kept(f), LS_F32);
}

static void before_gates(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    float *z = s->z + row * 3 * u, *restrict rh = s->rh + row * u;
    const float *restrict h_in = s->h_in + row * u;
    if (ls_rnn_masked(s, row)) {
        memset(rh, 0, u * sizeof *rh);
        return;
    }
    two_gates(f, ls_rnn_x(s, row), z, s->r + row * 2 * u);
    for (size_t j = 0; j < u; j++) {
        rh[j] = z[u + j] * h_in[j];
    }
}

static void before_candidate(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    const float *x = ls_rnn_x(s, row), *restrict r2 = s->r2 + row * u;
    float *z = s->z + row * 3 * u, *restrict p = s->p + row * u;
    if (ls_rnn_masked(s, row)) {
        keep(s, row);
        return;
    }
    for (size_t j = 0; j < u; j++) {
        p[j] = x[2 * u + j] + r2[j];
    }
    mix(f, p, z, z + 2 * u, s->h_prev + row * u, s->h + row * u);
}

static void before_backward_candidate(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    const float *z = s->z + row * 3 * u;
    float *d = s->d + row * s->d_row, *d2 = s->d2 + row * u;
    if (ls_rnn_masked(s, row)) {
        memset(d, 0, 2 * u * sizeof *d);
        memset(d2, 0, u * sizeof *d2);
    } else {
        unmix(s, row, z, f->rec.from_result ? z : s->r + row * 2 * u, d, d2);
    }
}

/* dr2 = gradient of r h; it becomes what goes on to h. */
static void before_backward_gates(const rnn_step *s, size_t row) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    const float *restrict z = s->z + row * 3 * u, *restrict h_in = s->h_in + row * u;
    float *dz = s->dz + row * s->dz_row, *restrict d = s->d + row * s->d_row, *restrict dr2 = s->dr2 + row * u;
    if (ls_rnn_masked(s, row)) {
        memset(dz, 0, 3 * u * sizeof *dz);
        memset(dr2, 0, u * sizeof *dr2);
        return;
    }
    for (size_t j = 0; j < u; j++) {
        d[u + j] = dr2[j] * h_in[j];
        dr2[j] *= z[u + j];
    }
    f->rec.backward(f->rec.attr, f->rec.from_result ? z + u : s->r + row * 2 * u + u, d + u, d + u, u);
    memcpy(dz, d, 2 * u * sizeof *dz);
    memcpy(dz + 2 * u, s->d2 + row * u, u * sizeof *dz);
}

const rnn_cell ls_rnn_cell_gru = {.gates = 3,
                                  .n_states = 1,
                                  .n_products = 2,
                                  .columns = {2, 1},
                                  .h_kept = true,
                                  .second_returns = true,
                                  .forward = {before_gates, before_candidate},
                                  .backward = {before_backward_candidate, before_backward_gates},
                                  .place = place_before};
