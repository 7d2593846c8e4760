/*
 * Optimizers for large batches: each weight's rate follows the ratio of its norm to its step's.
 *
 *   LARS  trust = eeta |w| / (|g| + wd |w| + eps), 1 where a norm is 0;  v = momentum v + lr trust (g + wd w)
 *         w -= v   (nesterov: w -= momentum v + lr trust (g + wd w))
 *   LAMB  m, v, as Adam;  r = m^ / (sqrt(v^) + eps) + wd w;  trust = |w| / |r|, 1 where a norm is 0;  w -= lr trust r
 *
 * Weights whose path holds a word of exclude_from_weight_decay have wd = 0, of exclude_from_layer_adaptation trust = 1.
 *
 * Source: You, Gitman, Ginsburg 2017 (arXiv 1708.03888), algorithm 1; You et al. 2020 (arXiv 1904.00962), algorithm 2;
 * defaults of TensorFlow's model garden (LARS) and TensorFlow Addons (LAMB).
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "worker/optimizer/optimizer_rows.h"

static ls_status parse_words(ls_json config, const char *key, char *out, size_t size, ls_err *err) {
    ls_json list = ls_json_member(config, key);
    for (size_t i = 0; ls_json_present(list) && i < ls_json_length(list); i++) {
        const char *word = json_string_value(ls_json_element(list, i).value);
        size_t used = strlen(out);
        if (word == NULL || used + strlen(word) + 2 > size) {
            return ls_json_fail(
                list, err, "expected a short list of parts of weights' names, such as [\"bias\", \"gamma\", \"beta\"]");
        }
        snprintf(out + used, size - used, "%s%s", used > 0 ? " " : "", word);
    }
    if (ls_json_present(list) && !json_is_array(list.value)) {
        return ls_json_fail(list, err,
                            "expected a list of parts of weights' names, such as [\"bias\", \"gamma\", \"beta\"]");
    }
    return LS_OK;
}

static ls_status parse_exclusions(ls_optimizer *o, ls_json config, ls_err *err) {
    LS_TRY(ls_json_get_double(config, "weight_decay_rate", 0, 1e300, &o->weight_decay, err));
    LS_TRY(parse_words(config, "exclude_from_weight_decay", o->no_decay, sizeof o->no_decay, err));
    LS_TRY(parse_words(config, "exclude_from_layer_adaptation", o->no_adaptation, sizeof o->no_adaptation, err));
    if (o->clipnorm > 0 || o->global_clipnorm > 0) {
        return ls_json_fail(config, err, "%s adapts to norms by itself; leave clipnorm and global_clipnorm out",
                            o->class_->name);
    }
    return LS_OK;
}

/* ---- LARS ---- */

static void lars_defaults(ls_optimizer *o) {
    o->learning_rate = 1.0;
    o->momentum = 0.9;
    o->rho = 0.001; /* eeta */
}

static ls_status lars_parse(ls_optimizer *o, ls_json config, ls_err *err) {
    LS_TRY(ls_json_get_double(config, "momentum", 0, 1, &o->momentum, err));
    LS_TRY(ls_json_get_double(config, "eeta", 0, 1e300, &o->rho, err));
    LS_TRY(ls_json_get_double(config, "epsilon", 0, 1, &o->epsilon, err));
    LS_TRY(ls_json_get_bool(config, "nesterov", &o->nesterov, err));
    return parse_exclusions(o, config, err);
}

static const char *const *lars_slots(const ls_optimizer *o) {
    static const char *const names[] = {"momentum", NULL};
    (void)o;
    return names;
}

static double lars_trust(const ls_optimizer *o, double weight_norm, double direction_norm, double weight_decay) {
    return weight_norm > 0 && direction_norm > 0
               ? o->rho * weight_norm / (direction_norm + weight_decay * weight_norm + o->epsilon)
               : 1;
}

static void lars_update(const ls_optimizer *o, const ls_update *u) {
    float *restrict w = u->w, *restrict v = u->slot[0];
    const float *restrict g = u->g;
    const float rate = (float)(u->learning_rate * u->trust), wd = (float)u->weight_decay, m = (float)o->momentum;
    for (size_t i = 0; i < u->n; i++) {
        float step = rate * (g[i] + wd * w[i]);
        v[i] = m * v[i] + step;
        w[i] -= o->nesterov ? m * v[i] + step : v[i];
    }
}

const ls_optimizer_class ls_optimizer_lars = {
    .name = "LARS",
    .aliases = "lars",
    .keys =
        "momentum eeta epsilon nesterov classic_momentum weight_decay_rate exclude_from_weight_decay "
        "exclude_from_layer_adaptation",
    .defaults = lars_defaults,
    .parse = lars_parse,
    .slots = lars_slots,
    .update = lars_update,
    .trust = lars_trust};

/* ---- LAMB ---- */

static void lamb_defaults(ls_optimizer *o) {
    o->beta_1 = 0.9;
    o->beta_2 = 0.999;
    o->epsilon = 1e-6;
}

static ls_status lamb_parse(ls_optimizer *o, ls_json config, ls_err *err) {
    LS_TRY(ls_json_get_double(config, "beta_1", 0, 1, &o->beta_1, err));
    LS_TRY(ls_json_get_double(config, "beta_2", 0, 1, &o->beta_2, err));
    LS_TRY(ls_json_get_double(config, "epsilon", 0, 1, &o->epsilon, err));
    return parse_exclusions(o, config, err);
}

static const char *const *lamb_slots(const ls_optimizer *o) {
    static const char *const names[] = {"m", "v", NULL};
    (void)o;
    return names;
}

static void lamb_coefficients(const ls_optimizer *o, ls_update *u) {
    u->coefficient[0] = (float)(1 / (1 - pow(o->beta_1, (double)u->t))); /* of m */
    u->coefficient[1] = (float)(1 / (1 - pow(o->beta_2, (double)u->t))); /* of v */
}

static void lamb_direction(const ls_optimizer *o, const ls_update *u, float *restrict g) {
    float *restrict m = u->slot[0], *restrict v = u->slot[1];
    const float *restrict w = u->w;
    const float b1 = (float)o->beta_1, b2 = (float)o->beta_2, eps = (float)o->epsilon, wd = (float)u->weight_decay;
    const float c1 = (float)(1 - o->beta_1), c2 = (float)(1 - o->beta_2);
    const float m_scale = u->coefficient[0], v_scale = u->coefficient[1];
    for (size_t i = 0; i < u->n; i++) {
        m[i] = b1 * m[i] + c1 * g[i];
        v[i] = b2 * v[i] + c2 * (g[i] * g[i]);
        g[i] = m[i] * m_scale / (sqrtf(v[i] * v_scale) + eps) + wd * w[i];
    }
}

static double lamb_trust(const ls_optimizer *o, double weight_norm, double direction_norm, double weight_decay) {
    (void)o, (void)weight_decay;
    return weight_norm > 0 && direction_norm > 0 ? weight_norm / direction_norm : 1;
}

static void lamb_update(const ls_optimizer *o, const ls_update *u) {
    float *restrict w = u->w;
    const float *restrict r = u->g;
    const float rate = (float)(u->learning_rate * u->trust);
    (void)o;
    for (size_t i = 0; i < u->n; i++) {
        w[i] -= rate * r[i];
    }
}

const ls_optimizer_class ls_optimizer_lamb = {
    .name = "LAMB",
    .aliases = "lamb Lamb",
    .keys = "beta_1 beta_2 epsilon weight_decay_rate exclude_from_weight_decay exclude_from_layer_adaptation",
    .defaults = lamb_defaults,
    .parse = lamb_parse,
    .slots = lamb_slots,
    .coefficients = lamb_coefficients,
    .update = lamb_update,
    .direction = lamb_direction,
    .trust = lamb_trust};
