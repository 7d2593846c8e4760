/*
 * Optimizers that divide by accumulated squares of the gradient.
 *
 *   Adagrad   a += g^2;  w -= lr g / sqrt(a + eps)                (legacy: / (sqrt(a) + eps)); a starts at
 *             initial_accumulator_value
 *   Adadelta  A = rho A + (1 - rho) g^2;  d = sqrt(D + eps) / sqrt(A + eps) g;  D = rho D + (1 - rho) d^2;  w -= lr d
 *   RMSprop   v = rho v + (1 - rho) g^2;  centered: a = rho a + (1 - rho) g, else a = 0
 *             u = lr g / sqrt(v - a^2 + eps);  momentum: m = mom m + u, w -= m, else w -= u
 *             (legacy without momentum: u = lr g / (sqrt(v - a^2) + eps))
 *
 * Source: Duchi et al. 2011; Zeiler 2012; Hinton's lecture 6e; keras/optimizers (2.11-2.15).
 */
#include <math.h>

#include "worker/optimizer/optimizer_rows.h"

/* ---- Adagrad ---- */

static void adagrad_defaults(ls_optimizer *o) {
    o->initial_accumulator = 0.1;
    o->epsilon = 1e-7;
}

static ls_status adagrad_parse(ls_optimizer *o, ls_json config, ls_err *err) {
    LS_TRY(ls_json_get_double(config, "initial_accumulator_value", 0, 1e300, &o->initial_accumulator, err));
    return ls_json_get_double(config, "epsilon", 0, 1, &o->epsilon, err);
}

static const char *const *adagrad_slots(const ls_optimizer *o) {
    static const char *const names[] = {"accumulator", NULL};
    (void)o;
    return names;
}

static double adagrad_init(const ls_optimizer *o, int slot) {
    (void)slot;
    return o->initial_accumulator;
}

static void adagrad_update(const ls_optimizer *o, const ls_update *u) {
    float *restrict w = u->w, *restrict a = u->slot[0];
    const float *restrict g = u->g;
    const float lr = (float)u->learning_rate, eps = (float)o->epsilon;
    for (size_t i = 0; i < u->n; i++) {
        a[i] += g[i] * g[i];
        w[i] -= lr * g[i] / (o->legacy ? sqrtf(a[i]) + eps : sqrtf(a[i] + eps));
    }
}

/* Unless it divides nothing by nothing. */
static bool adagrad_idles(const ls_optimizer *o) {
    return (float)o->epsilon > 0 || (float)o->initial_accumulator > 0;
}

const ls_optimizer_class ls_optimizer_adagrad = {.name = "Adagrad",
                                                 .aliases = "adagrad",
                                                 .keys = "initial_accumulator_value epsilon",
                                                 .defaults = adagrad_defaults,
                                                 .parse = adagrad_parse,
                                                 .slots = adagrad_slots,
                                                 .slot_init = adagrad_init,
                                                 .update = adagrad_update,
                                                 .idles = adagrad_idles};

/* ---- Adadelta ---- */

static void adadelta_defaults(ls_optimizer *o) {
    o->rho = 0.95;
    o->epsilon = 1e-7;
}

static ls_status adadelta_parse(ls_optimizer *o, ls_json config, ls_err *err) {
    LS_TRY(ls_json_get_double(config, "rho", 0, 1, &o->rho, err));
    return ls_json_get_double(config, "epsilon", 0, 1, &o->epsilon, err);
}

static const char *const *adadelta_slots(const ls_optimizer *o) {
    static const char *const names[] = {"accumulated_grad", "accumulated_delta_var", NULL};
    (void)o;
    return names;
}

static void adadelta_update(const ls_optimizer *o, const ls_update *u) {
    float *restrict w = u->w, *restrict a = u->slot[0], *restrict d = u->slot[1];
    const float *restrict g = u->g;
    const float lr = (float)u->learning_rate, eps = (float)o->epsilon, rho = (float)o->rho, rest = (float)(1 - o->rho);
    for (size_t i = 0; i < u->n; i++) {
        a[i] = rho * a[i] + rest * (g[i] * g[i]);
        float delta = sqrtf(d[i] + eps) / sqrtf(a[i] + eps) * g[i];
        d[i] = rho * d[i] + rest * (delta * delta);
        w[i] -= lr * delta;
    }
}

const ls_optimizer_class ls_optimizer_adadelta = {.name = "Adadelta",
                                                  .aliases = "adadelta",
                                                  .keys = "rho epsilon",
                                                  .defaults = adadelta_defaults,
                                                  .parse = adadelta_parse,
                                                  .slots = adadelta_slots,
                                                  .update = adadelta_update,
                                                  .rests = ls_optimizer_divides_by_epsilon};

/* ---- RMSprop ---- */

static void rmsprop_defaults(ls_optimizer *o) {
    o->rho = 0.9;
    o->epsilon = 1e-7;
}

static ls_status rmsprop_parse(ls_optimizer *o, ls_json config, ls_err *err) {
    LS_TRY(ls_json_get_double(config, "rho", 0, 1, &o->rho, err));
    LS_TRY(ls_json_get_double(config, "momentum", 0, 1, &o->momentum, err));
    LS_TRY(ls_json_get_double(config, "epsilon", 0, 1, &o->epsilon, err));
    return ls_json_get_bool(config, "centered", &o->centered, err);
}

/* The slots that are there, in Keras's order; their places follow from the settings. */
static const char *const *rmsprop_slots(const ls_optimizer *o) {
    static const char *const plain[] = {"velocity", NULL}, *const momentum[] = {"velocity", "momentum", NULL},
                             *const centered[] = {"velocity", "average_gradient", NULL},
                             *const both[] = {"velocity", "momentum", "average_gradient", NULL};
    return o->momentum > 0 ? (o->centered ? both : momentum) : o->centered ? centered : plain;
}

static void rmsprop_update(const ls_optimizer *o, const ls_update *u) {
    float *restrict w = u->w, *restrict v = u->slot[0];
    float *restrict mom = o->momentum > 0 ? u->slot[1] : NULL;
    float *restrict avg = o->centered ? u->slot[o->momentum > 0 ? 2 : 1] : NULL;
    const float *restrict g = u->g;
    const float lr = (float)u->learning_rate, eps = (float)o->epsilon, rho = (float)o->rho, rest = (float)(1 - o->rho);
    const float momentum = (float)o->momentum;
    const int outside = o->legacy && mom == NULL; /* epsilon outside of the root */
    for (size_t i = 0; i < u->n; i++) {
        v[i] = rho * v[i] + rest * (g[i] * g[i]);
        float under = v[i];
        if (avg != NULL) {
            avg[i] = rho * avg[i] + rest * g[i];
            under -= avg[i] * avg[i];
        }
        float step = lr * g[i] / (outside ? sqrtf(under) + eps : sqrtf(under + eps));
        if (mom != NULL) {
            step = mom[i] = momentum * mom[i] + step;
        }
        w[i] -= step;
    }
}

const ls_optimizer_class ls_optimizer_rmsprop = {.name = "RMSprop",
                                                 .aliases = "rmsprop RMSProp",
                                                 .keys = "rho momentum epsilon centered",
                                                 .defaults = rmsprop_defaults,
                                                 .parse = rmsprop_parse,
                                                 .slots = rmsprop_slots,
                                                 .update = rmsprop_update,
                                                 .rests = ls_optimizer_divides_by_epsilon};
