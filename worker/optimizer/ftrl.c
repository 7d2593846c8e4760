/*
 * Ftrl-proximal. p = learning_rate_power (-0.5), l2' = l2 + beta / (2 lr):
 *   g' = g + 2 l2_shrinkage w;  a' = a + g^2
 *   z += g' - (a'^-p - a^-p) / lr * w
 *   w = (clip(z, -l1, l1) - z) / (a'^-p / lr + 2 l2');  a = a'
 * Source: McMahan et al. 2013, algorithm 1; keras/optimizers/ftrl.py (2.11-2.15).
 */
#include <math.h>

#include "worker/optimizer/optimizer_rows.h"

static void defaults(ls_optimizer *o) {
    o->initial_accumulator = 0.1;
    o->rate_power = -0.5;
}

static ls_status parse(ls_optimizer *o, ls_json config, ls_err *err) {
    const double much = 1e300;
    LS_TRY(ls_json_get_double(config, "initial_accumulator_value", 0, much, &o->initial_accumulator, err));
    LS_TRY(ls_json_get_double(config, "learning_rate_power", -much, 0, &o->rate_power, err));
    LS_TRY(ls_json_get_double(config, "l1_regularization_strength", 0, much, &o->l1, err));
    LS_TRY(ls_json_get_double(config, "l2_regularization_strength", 0, much, &o->l2, err));
    LS_TRY(ls_json_get_double(config, "l2_shrinkage_regularization_strength", 0, much, &o->l2_shrinkage, err));
    return ls_json_get_double(config, "beta", 0, much, &o->beta_1, err);
}

static const char *const *slots(const ls_optimizer *o) {
    static const char *const names[] = {"accumulator", "linear", NULL};
    (void)o;
    return names;
}

static double slot_init(const ls_optimizer *o, int slot) {
    return slot == 0 ? o->initial_accumulator : 0;
}

static void update(const ls_optimizer *o, const ls_update *u) {
    float *restrict w = u->w, *restrict a = u->slot[0], *restrict z = u->slot[1];
    const double lr = u->learning_rate, l1 = o->l1, l2 = o->l2 + o->beta_1 / (2 * lr), p = -o->rate_power;
    for (size_t i = 0; i < u->n; i++) {
        const double g = u->g[i], next = a[i] + g * g;
        const double was = p == 0.5 ? sqrt((double)a[i]) : pow((double)a[i], p),
                     now = p == 0.5 ? sqrt(next) : pow(next, p);
        const double linear = z[i] + g + 2 * o->l2_shrinkage * w[i] - (now - was) / lr * w[i];
        const double clipped = linear > l1 ? l1 : linear < -l1 ? -l1 : linear;
        const double quadratic = now / lr + 2 * l2; /* 0 where no gradient has come yet, as in the padding of layouts */
        w[i] = quadratic > 0 ? (float)((clipped - linear) / quadratic) : 0.0f;
        a[i] = (float)next;
        z[i] = (float)linear;
    }
}

const ls_optimizer_class ls_optimizer_ftrl = {
    .name = "Ftrl",
    .aliases = "ftrl FTRL",
    .keys =
        "initial_accumulator_value learning_rate_power l1_regularization_strength l2_regularization_strength "
        "l2_shrinkage_regularization_strength beta",
    .defaults = defaults,
    .parse = parse,
    .slots = slots,
    .slot_init = slot_init,
    .update = update};
