/*
 * The Adam family. t from 1; a = lr sqrt(1 - b2^t) / (1 - b1^t):
 *   Adam     m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w -= a m / (sqrt(v) + eps)
 *            AMSGrad: vhat = max(vhat, v), uncorrected, in the place of v
 *   AdamW    first w -= lr wd w, then Adam
 *   Adamax   u = max(b2 u, |g|);  w -= lr m / ((1 - b1^t) (u + eps))
 *   Nadam    u_t = b1 (1 - 0.5 * 0.96^t), c_t = product of u_1..u_t
 *            m^ = u_{t+1} m / (1 - c_t u_{t+1}) + (1 - u_t) g / (1 - c_t);  v^ = v / (1 - b2^t)
 *            w -= lr m^ / (sqrt(v^) + eps)
 * Source: Kingma & Ba 2015, sections 2 (last paragraph) and 7.1; Reddi et al. 2018; Loshchilov & Hutter 2019;
 * Dozat 2016; keras/optimizers/{adam,adamw,adamax,nadam}.py (2.11-2.15).
 */
#include <math.h>

#include "worker/optimizer/optimizer_rows.h"

static void defaults(ls_optimizer *o) {
    o->beta_1 = 0.9;
    o->beta_2 = 0.999;
    o->epsilon = 1e-7;
}

static void adamw_defaults(ls_optimizer *o) {
    defaults(o);
    o->weight_decay = 0.004;
}

static ls_status parse(ls_optimizer *o, ls_json config, ls_err *err) {
    LS_TRY(ls_json_get_double(config, "beta_1", 0, 1, &o->beta_1, err));
    LS_TRY(ls_json_get_double(config, "beta_2", 0, 1, &o->beta_2, err));
    LS_TRY(ls_json_get_double(config, "epsilon", 0, 1, &o->epsilon, err));
    return ls_json_get_bool(config, "amsgrad", &o->amsgrad, err);
}

static const char *const *adam_slots(const ls_optimizer *o) {
    static const char *const plain[] = {"m", "v", NULL}, *const amsgrad[] = {"m", "v", "vhat", NULL};
    return o->amsgrad ? amsgrad : plain;
}

static const char *const *adamax_slots(const ls_optimizer *o) {
    static const char *const names[] = {"m", "u", NULL};
    (void)o;
    return names;
}

static void adam_coefficients(const ls_optimizer *o, ls_update *u) {
    u->coefficient[0] =
        (float)(u->learning_rate * sqrt(1 - pow(o->beta_2, (double)u->t)) / (1 - pow(o->beta_1, (double)u->t)));
}

static void adam_update(const ls_optimizer *o, const ls_update *u) {
    float *restrict w = u->w, *restrict m = u->slot[0], *restrict v = u->slot[1], *restrict vhat = u->slot[2];
    const float *restrict g = u->g;
    const float b1 = (float)o->beta_1, b2 = (float)o->beta_2, eps = (float)o->epsilon;
    const float c1 = (float)(1 - o->beta_1), c2 = (float)(1 - o->beta_2);
    const float rate = u->coefficient[0];
    if (o->amsgrad) {
        for (size_t i = 0; i < u->n; i++) {
            m[i] = b1 * m[i] + c1 * g[i];
            v[i] = b2 * v[i] + c2 * (g[i] * g[i]);
            vhat[i] = vhat[i] > v[i] ? vhat[i] : v[i];
            w[i] -= rate * m[i] / (sqrtf(vhat[i]) + eps);
        }
        return;
    }
    for (size_t i = 0; i < u->n; i++) {
        m[i] = b1 * m[i] + c1 * g[i];
        v[i] = b2 * v[i] + c2 * (g[i] * g[i]);
        w[i] -= rate * m[i] / (sqrtf(v[i]) + eps);
    }
}

static void adamax_coefficients(const ls_optimizer *o, ls_update *u) {
    u->coefficient[0] = (float)(u->learning_rate / (1 - pow(o->beta_1, (double)u->t)));
}

static void adamax_update(const ls_optimizer *o, const ls_update *u) {
    float *restrict w = u->w, *restrict m = u->slot[0], *restrict largest = u->slot[1];
    const float *restrict g = u->g;
    const float b1 = (float)o->beta_1, b2 = (float)o->beta_2, eps = (float)o->epsilon, c1 = (float)(1 - o->beta_1);
    const float rate = u->coefficient[0];
    for (size_t i = 0; i < u->n; i++) {
        m[i] = b1 * m[i] + c1 * g[i];
        const float decayed = b2 * largest[i], size = fabsf(g[i]);
        largest[i] = decayed > size ? decayed : size; /* a comparison is vectorised, fmaxf is not */
        w[i] -= rate * m[i] / (largest[i] + eps);
    }
}

static void nadam_coefficients(const ls_optimizer *o, ls_update *u) {
    double product = 1, now = 0;
    for (uint64_t k = 1; k <= u->t; k++) { /* u_k tends to b1 fast: the rest of the product is a power */
        now = o->beta_1 * (1 - 0.5 * pow(0.96, (double)k));
        product *= now;
        if (product < 1e-300) {
            now = o->beta_1 * (1 - 0.5 * pow(0.96, (double)u->t));
            product = 0;
            break;
        }
    }
    const double next = o->beta_1 * (1 - 0.5 * pow(0.96, (double)(u->t + 1)));
    u->coefficient[0] = (float)(next / (1 - product * next));            /* of m */
    u->coefficient[1] = (float)((1 - now) / (1 - product));              /* of g */
    u->coefficient[2] = (float)(1 / (1 - pow(o->beta_2, (double)u->t))); /* of v */
}

static void nadam_update(const ls_optimizer *o, const ls_update *u) {
    float *restrict w = u->w, *restrict m = u->slot[0], *restrict v = u->slot[1];
    const float *restrict g = u->g;
    const float from_m = u->coefficient[0], from_g = u->coefficient[1], correct = u->coefficient[2];
    const float lr = (float)u->learning_rate;
    const float b1 = (float)o->beta_1, b2 = (float)o->beta_2, eps = (float)o->epsilon;
    const float c1 = (float)(1 - o->beta_1), c2 = (float)(1 - o->beta_2);
    for (size_t i = 0; i < u->n; i++) {
        m[i] = b1 * m[i] + c1 * g[i];
        v[i] = b2 * v[i] + c2 * (g[i] * g[i]);
        w[i] -= lr * (from_m * m[i] + from_g * g[i]) / (sqrtf(v[i] * correct) + eps);
    }
}

const ls_optimizer_class ls_optimizer_adam = {.name = "Adam",
                                              .aliases = "adam",
                                              .keys = "beta_1 beta_2 epsilon amsgrad",
                                              .defaults = defaults,
                                              .parse = parse,
                                              .slots = adam_slots,
                                              .coefficients = adam_coefficients,
                                              .update = adam_update,
                                              .rests = ls_optimizer_divides_by_epsilon};

const ls_optimizer_class ls_optimizer_adamw = {.name = "AdamW",
                                               .aliases = "adamw",
                                               .keys = "beta_1 beta_2 epsilon amsgrad",
                                               .defaults = adamw_defaults,
                                               .parse = parse,
                                               .slots = adam_slots,
                                               .coefficients = adam_coefficients,
                                               .update = adam_update,
                                               .rests = ls_optimizer_divides_by_epsilon};

const ls_optimizer_class ls_optimizer_adamax = {.name = "Adamax",
                                                .aliases = "adamax",
                                                .keys = "beta_1 beta_2 epsilon",
                                                .defaults = defaults,
                                                .parse = parse,
                                                .slots = adamax_slots,
                                                .coefficients = adamax_coefficients,
                                                .update = adamax_update,
                                                .rests = ls_optimizer_divides_by_epsilon};

const ls_optimizer_class ls_optimizer_nadam = {.name = "Nadam",
                                               .aliases = "nadam",
                                               .keys = "beta_1 beta_2 epsilon schedule_decay",
                                               .defaults = defaults,
                                               .parse = parse,
                                               .slots = adam_slots,
                                               .coefficients = nadam_coefficients,
                                               .update = nadam_update,
                                               .rests = ls_optimizer_divides_by_epsilon};
