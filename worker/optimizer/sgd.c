/*
 * SGD with momentum. g gradient, v velocity:
 *   m = 0:     w += -lr g
 *   momentum:  v = m v - lr g;  w += v            (nesterov: w += m v - lr g, with the new v)
 * Source: keras/optimizers/sgd.py (2.11-2.15).
 */
#include "worker/optimizer/optimizer_rows.h"

static void defaults(ls_optimizer *o) {
    o->learning_rate = 0.01;
}

static ls_status parse(ls_optimizer *o, ls_json config, ls_err *err) {
    LS_TRY(ls_json_get_double(config, "momentum", 0, 1, &o->momentum, err));
    return ls_json_get_bool(config, "nesterov", &o->nesterov, err);
}

static const char *const *slots(const ls_optimizer *o) {
    static const char *const none[] = {NULL}, *const with_momentum[] = {"m", NULL};
    return o->momentum > 0 ? with_momentum : none;
}

static void update(const ls_optimizer *o, const ls_update *u) {
    float *restrict w = u->w, *restrict v = u->slot[0];
    const float *restrict g = u->g;
    const float lr = (float)u->learning_rate, m = (float)o->momentum;
    if (o->momentum <= 0) {
        for (size_t i = 0; i < u->n; i++) {
            w[i] -= lr * g[i];
        }
    } else if (o->nesterov) {
        for (size_t i = 0; i < u->n; i++) {
            v[i] = m * v[i] - lr * g[i];
            w[i] += m * v[i] - lr * g[i];
        }
    } else {
        for (size_t i = 0; i < u->n; i++) {
            v[i] = m * v[i] - lr * g[i];
            w[i] += v[i];
        }
    }
}

static bool idles(const ls_optimizer *o) {
    return o->momentum <= 0;
}

const ls_optimizer_class ls_optimizer_sgd = {.name = "SGD",
                                             .aliases = "sgd GradientDescent gradient_descent",
                                             .keys = "momentum nesterov",
                                             .defaults = defaults,
                                             .parse = parse,
                                             .slots = slots,
                                             .update = update,
                                             .idles = idles};
