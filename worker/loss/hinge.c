/*
 * Hinge losses. Labels that are all 0 or 1 in a row are taken as -1 and 1 (not by the categorical one).
 *
 * Source: keras/losses.py (2.11-2.15).
 */
#include <math.h>

#include "worker/loss/loss_rows.h"

static int is_binary(const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (y[i] != 0 && y[i] != 1) {
            return 0;
        }
    }
    return 1;
}

/* mean max(1 - y p, 0)^power */
static double hinge(const float *p, const float *y, int64_t n, float *dp, float scale, int power) {
    const int binary = is_binary(y, n);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double z = binary ? 2.0 * y[i] - 1 : y[i], m = fmax(1 - z * p[i], 0);
        sum += power == 1 ? m : m * m;
        if (dp != NULL) {
            dp[i] = (float)((m > 0 ? -z : 0) * (power == 1 ? 1 : 2 * m) / (double)n * scale);
        }
    }
    return sum / (double)n;
}

static double hinge_row(const ls_loss *loss, const float *p, const void *y, int64_t n, float *dp, float scale) {
    (void)loss;
    return hinge(p, y, n, dp, scale, 1);
}

static double squared_hinge_row(const ls_loss *loss, const float *p, const void *y, int64_t n, float *dp, float scale) {
    (void)loss;
    return hinge(p, y, n, dp, scale, 2);
}

/* max(neg - pos + 1, 0), pos = sum y p, neg = max over i of (1 - y_i) p_i */
static double categorical_hinge_row(const ls_loss *loss, const float *p, const void *target, int64_t n, float *dp,
                                    float scale) {
    const float *y = target;
    (void)loss;
    double pos = 0, neg = -INFINITY;
    int64_t worst = 0;
    for (int64_t i = 0; i < n; i++) {
        double other = (1.0 - y[i]) * p[i];
        pos += (double)y[i] * p[i];
        if (other > neg) {
            neg = other;
            worst = i;
        }
    }
    double value = fmax(neg - pos + 1, 0);
    for (int64_t i = 0; dp != NULL && i < n; i++) {
        dp[i] = value > 0 ? (float)(((i == worst ? 1.0 - y[i] : 0) - y[i]) * scale) : 0;
    }
    return value;
}

const ls_loss_class ls_loss_hinge = {.name = "hinge", .aliases = "Hinge", .keys = "", .row = hinge_row};
const ls_loss_class ls_loss_squared_hinge = {
    .name = "squared_hinge", .aliases = "SquaredHinge", .keys = "", .row = squared_hinge_row};
const ls_loss_class ls_loss_categorical_hinge = {
    .name = "categorical_hinge", .aliases = "CategoricalHinge", .keys = "", .row = categorical_hinge_row};
