/*
 * Adam and AMSGrad. t from 1:
 *   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  vhat = max(vhat, v) (AMSGrad, uncorrected)
 *   w -= lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v or vhat) + eps)
 * Source: Kingma & Ba 2015, section 2 (last paragraph's order of computation); Reddi et al. 2018;
 * keras/optimizers/adam.py.
 */
#include <math.h>

#include "worker/optimizer/optimizer_rows.h"

static void defaults(ls_optimizer *o) {
    o->beta_1 = 0.9;
    o->beta_2 = 0.999;
    o->epsilon = 1e-7;
}

static ls_status parse(ls_optimizer *o, ls_json config, ls_err *err) {
    LS_TRY(ls_json_get_double(config, "beta_1", 0, 1, &o->beta_1, err));
    LS_TRY(ls_json_get_double(config, "beta_2", 0, 1, &o->beta_2, err));
    LS_TRY(ls_json_get_double(config, "epsilon", 0, 1, &o->epsilon, err));
    return ls_json_get_bool(config, "amsgrad", &o->amsgrad, err);
}

static const char *const *slots(const ls_optimizer *o) {
    static const char *const plain[] = {"m", "v", NULL}, *const amsgrad[] = {"m", "v", "vhat", NULL};
    return o->amsgrad ? amsgrad : plain;
}

static void update(const ls_optimizer *o, const ls_update *u) {
    float *restrict w = u->w, *restrict m = u->slot[0], *restrict v = u->slot[1], *restrict vhat = u->slot[2];
    const float *restrict g = u->g;
    const float b1 = (float)o->beta_1, b2 = (float)o->beta_2, eps = (float)o->epsilon;
    const float c1 = (float)(1 - o->beta_1), c2 = (float)(1 - o->beta_2);
    const float rate =
        (float)(u->learning_rate * sqrt(1 - pow(o->beta_2, (double)u->t)) / (1 - pow(o->beta_1, (double)u->t)));
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

const ls_optimizer_class ls_optimizer_adam = {.name = "Adam",
                                              .aliases = "adam",
                                              .keys = "beta_1 beta_2 epsilon amsgrad",
                                              .defaults = defaults,
                                              .parse = parse,
                                              .slots = slots,
                                              .update = update};
