/*
 * GRU, gates z, r, h over one row, with x = X W + b in the array z:
 *   z, r = rec(x + h[t-1] U)
 *   reset_after    q = act(x_h + r (h[t-1] U_h + b_r))
 *   otherwise      q = act(x_h + (r h[t-1]) U_h)
 *   h = z h[t-1] + (1 - z) q
 * Recurrent dropout touches what is multiplied by U, not the h[t-1] that z carries over.
 */
#include "worker/ops/rnn.h"

/* Gates z and r from the sums of x and what product 0 gave (rows of `wide` floats), which hold them afterwards. */
static void two_gates(const rnn_form *f, float *restrict z, float *restrict r) {
    const size_t u = f->units;
    for (size_t j = 0; j < 2 * u; j++) {
        r[j] += z[j];
    }
    f->rec.forward(f->rec.attr, r, z, u);
    f->rec.forward(f->rec.attr, r + u, z + u, u);
}

/* p holds the candidate before its activation; q and h come out. */
static void mix(const rnn_form *f, const float *p, const float *restrict z, float *restrict q,
                const float *restrict h_prev, float *restrict h) {
    f->act.forward(f->act.attr, p, q, f->units);
    for (size_t j = 0; j < f->units; j++) {
        h[j] = z[j] * h_prev[j] + (1.0f - z[j]) * q[j];
    }
}

/* dh arrives: dq = gradient of the candidate before its activation, dz = that of z before its own; dh = z dh. */
static void unmix(const rnn_step *s, size_t row, const float *restrict z, const float *restrict v, float *restrict dz,
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
    memcpy(s->h + row * u, s->h_prev + row * u, u * sizeof(float));
}

static void place_p(rnn_form *f) {
    f->p = ls_rnn_place(&f->n_floats, f->n * f->units, f->training && !f->act.from_result ? f->steps : 1);
}

/* ---- reset_after ---- */

static void after_forward(const rnn_step *s, size_t begin, size_t end) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    for (size_t row = begin; row < end; row++) {
        float *restrict z = s->z + row * 3 * u, *restrict r = s->r + row * 3 * u, *restrict p = s->p + row * u;
        if (ls_rnn_masked(s, row)) {
            keep(s, row);
            continue;
        }
        two_gates(f, z, r);
        for (size_t j = 0; j < u; j++) {
            p[j] = z[2 * u + j] + z[u + j] * r[2 * u + j];
        }
        mix(f, p, z, z + 2 * u, s->h_prev + row * u, s->h + row * u);
    }
}

static void after_backward(const rnn_step *s, size_t begin, size_t end) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    for (size_t row = begin; row < end; row++) {
        float *restrict z = s->z + row * 3 * u, *restrict r = s->r + row * 3 * u, *restrict d = s->d + row * 3 * u;
        if (ls_rnn_masked(s, row)) {
            memset(z, 0, 3 * u * sizeof *z);
            memset(d, 0, 3 * u * sizeof *d);
            continue;
        }
        unmix(s, row, z, f->rec.from_result ? z : r, d, d + 2 * u);
        for (size_t j = 0; j < u; j++) {
            d[u + j] = d[2 * u + j] * r[2 * u + j];
        }
        f->rec.backward(f->rec.attr, (f->rec.from_result ? z : r) + u, d + u, d + u, u);
        for (size_t j = 0; j < u; j++) { /* d becomes the gradient of h U + b_r, z that of x */
            float dq = d[2 * u + j];
            d[2 * u + j] = dq * z[u + j];
            z[2 * u + j] = dq;
        }
        memcpy(z, d, 2 * u * sizeof *z);
    }
}

const rnn_cell ls_rnn_cell_gru_reset_after = {.gates = 3,
                                              .n_states = 1,
                                              .n_products = 1,
                                              .columns = {3},
                                              .r_kept = true,
                                              .forward = {after_forward},
                                              .backward = {after_backward},
                                              .place = place_p};

/* ---- reset before the product ---- */

static void place_before(rnn_form *f) {
    place_p(f);
    f->rh = ls_rnn_place(&f->n_floats, f->n * f->units, f->training ? f->steps : 1);
}

static void before_gates(const rnn_step *s, size_t begin, size_t end) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    for (size_t row = begin; row < end; row++) {
        float *restrict z = s->z + row * 3 * u, *restrict rh = s->rh + row * u;
        const float *restrict h_in = s->h_in + row * u;
        if (ls_rnn_masked(s, row)) {
            memset(rh, 0, u * sizeof *rh);
            continue;
        }
        two_gates(f, z, s->r + row * 2 * u);
        for (size_t j = 0; j < u; j++) {
            rh[j] = z[u + j] * h_in[j];
        }
    }
}

static void before_candidate(const rnn_step *s, size_t begin, size_t end) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    for (size_t row = begin; row < end; row++) {
        float *restrict z = s->z + row * 3 * u, *restrict p = s->p + row * u;
        const float *restrict r2 = s->r2 + row * u;
        if (ls_rnn_masked(s, row)) {
            keep(s, row);
            continue;
        }
        for (size_t j = 0; j < u; j++) {
            p[j] = z[2 * u + j] + r2[j];
        }
        mix(f, p, z, z + 2 * u, s->h_prev + row * u, s->h + row * u);
    }
}

static void before_backward_candidate(const rnn_step *s, size_t begin, size_t end) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    for (size_t row = begin; row < end; row++) {
        float *z = s->z + row * 3 * u, *d = s->d + row * 2 * u, *d2 = s->d2 + row * u;
        if (ls_rnn_masked(s, row)) {
            memset(d, 0, 2 * u * sizeof *d);
            memset(d2, 0, u * sizeof *d2);
        } else {
            unmix(s, row, z, f->rec.from_result ? z : s->r + row * 2 * u, d, d2);
        }
    }
}

/* dr2 = gradient of r h; it becomes what goes on to h. */
static void before_backward_gates(const rnn_step *s, size_t begin, size_t end) {
    const rnn_form *f = s->f;
    const size_t u = f->units;
    for (size_t row = begin; row < end; row++) {
        float *restrict z = s->z + row * 3 * u, *restrict d = s->d + row * 2 * u, *restrict dr2 = s->dr2 + row * u;
        const float *restrict h_in = s->h_in + row * u;
        if (ls_rnn_masked(s, row)) {
            memset(z, 0, 3 * u * sizeof *z);
            memset(dr2, 0, u * sizeof *dr2);
            continue;
        }
        for (size_t j = 0; j < u; j++) {
            d[u + j] = dr2[j] * h_in[j];
            dr2[j] *= z[u + j];
        }
        f->rec.backward(f->rec.attr, f->rec.from_result ? z + u : s->r + row * 2 * u + u, d + u, d + u, u);
        memcpy(z, d, 2 * u * sizeof *z);
        memcpy(z + 2 * u, s->d2 + row * u, u * sizeof *z);
    }
}

const rnn_cell ls_rnn_cell_gru = {.gates = 3,
                                  .n_states = 1,
                                  .n_products = 2,
                                  .columns = {2, 1},
                                  .second_returns = true,
                                  .forward = {before_gates, before_candidate},
                                  .backward = {before_backward_candidate, before_backward_gates},
                                  .place = place_before};
