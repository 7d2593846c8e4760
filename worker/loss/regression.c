/*
 * Losses of regression and distance. n is the length of the row, e = 1e-7.
 *
 * Source: keras/losses.py (2.11-2.15); the formula of each stands beside it.
 */
#include <math.h>

#include "worker/loss/loss_rows.h"

static const double EPSILON = 1e-7;

static double sign(double x) {
    return (x > 0) - (x < 0);
}

/* The mean over a row of a term and its derivative with respect to p, both functions of (loss, p, y). */
#define MEAN_ROW(symbol, term, derivative)                                                                       \
    static double symbol(const ls_loss *loss, const float *prediction, const void *target, int64_t n, float *dp, \
                         float scale) {                                                                          \
        const float *truth = target;                                                                             \
        (void)loss;                                                                                              \
        double sum = 0;                                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                                        \
            const double p = prediction[i], y = truth[i];                                                        \
            sum += (term);                                                                                       \
            if (dp != NULL) {                                                                                    \
                dp[i] = (float)((derivative) / (double)n * scale);                                               \
            }                                                                                                    \
        }                                                                                                        \
        return sum / (double)n;                                                                                  \
    }

/* (p - y)^2 */
MEAN_ROW(squared_error_row, (p - y) * (p - y), 2 * (p - y))

/* |p - y| */
MEAN_ROW(absolute_error_row, fabs(p - y), sign(p - y))

/* 100 |y - p| / max(|y|, e) */
MEAN_ROW(percentage_row, 100 * fabs(y - p) / fmax(fabs(y), EPSILON), 100 * sign(p - y) / fmax(fabs(y), EPSILON))

/* (log(max(p, e) + 1) - log(max(y, e) + 1))^2 */
MEAN_ROW(logarithmic_row, pow(log1p(fmax(p, EPSILON)) - log1p(fmax(y, EPSILON)), 2),
         p > EPSILON ? 2 * (log1p(p) - log1p(fmax(y, EPSILON))) / (p + 1) : 0)

/* x + softplus(-2 x) - log 2, x = p - y;  derivative tanh x */
MEAN_ROW(log_cosh_row, (p - y) + (fmax(-2 * (p - y), 0) + log1p(exp(-fabs(2 * (p - y))))) - M_LN2, tanh(p - y))

/* delta = a: |d| <= a ? d^2 / 2 : a |d| - a^2 / 2, d = p - y */
MEAN_ROW(huber_row, fabs(p - y) <= loss->a ? 0.5 * (p - y) * (p - y) : loss->a * fabs(p - y) - 0.5 * loss->a * loss->a,
         fabs(p - y) <= loss->a ? p - y : loss->a * sign(p - y))

/* p - y log(p + e) */
MEAN_ROW(poisson_row, p - y * log(p + EPSILON), 1 - y / (p + EPSILON))

/* One cost for each side: a (y - p) where p < y (too little), b (p - y) where p > y (too much). */
MEAN_ROW(asymmetric_row, p < y ? loss->a * (y - p) : loss->b * (p - y), p<y ? -loss->a : p> y ? loss->b : 0)

/* sum y log(y / p), both clipped to [e, 1] */
static double divergence_row(const ls_loss *loss, const float *p, const void *target, int64_t n, float *dp,
                             float scale) {
    const float *y = target;
    (void)loss;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double q = fmin(fmax(p[i], EPSILON), 1), z = fmin(fmax(y[i], EPSILON), 1);
        sum += z * log(z / q);
        if (dp != NULL) {
            dp[i] = p[i] >= EPSILON && p[i] <= 1 ? (float)(-z / q * scale) : 0;
        }
    }
    return sum;
}

/* -sum (y / |y|) (p / |p|), |x| = sqrt(max(sum x^2, 1e-12)) */
static double cosine_row(const ls_loss *loss, const float *p, const void *target, int64_t n, float *dp, float scale) {
    const float *y = target;
    (void)loss;
    double pp = 0, yy = 0, py = 0;
    for (int64_t i = 0; i < n; i++) {
        pp += (double)p[i] * p[i];
        yy += (double)y[i] * y[i];
        py += (double)p[i] * y[i];
    }
    const double a = 1 / sqrt(fmax(pp, 1e-12)), b = 1 / sqrt(fmax(yy, 1e-12));
    for (int64_t i = 0; dp != NULL && i < n; i++) { /* d(p/|p|)/dp: the part along p goes */
        double along = pp > 1e-12 ? py * p[i] * a * a : 0;
        dp[i] = (float)(-a * b * (y[i] - along) * scale);
    }
    return -py * a * b;
}

/* 1 - (2 sum y p + s) / (sum y + sum p + s) over the whole sample, s = a */
static double dice_row(const ls_loss *loss, const float *p, const void *target, int64_t n, float *dp, float scale) {
    const float *y = target;
    double both = 0, all = loss->a;
    for (int64_t i = 0; i < n; i++) {
        both += 2.0 * y[i] * p[i];
        all += (double)y[i] + p[i];
    }
    const double ratio = (both + loss->a) / all;
    for (int64_t i = 0; dp != NULL && i < n; i++) {
        dp[i] = (float)(-(2.0 * y[i] - ratio) / all * scale);
    }
    return 1 - ratio;
}

#define REGRESSION_LOSS(symbol, row_, name_, aliases_, keys_) \
    const ls_loss_class ls_loss_##symbol = {.name = name_, .aliases = aliases_, .keys = keys_, .row = row_}

REGRESSION_LOSS(mean_squared_error, squared_error_row, "mean_squared_error", "mse MSE MeanSquaredError", "");
REGRESSION_LOSS(mean_absolute_error, absolute_error_row, "mean_absolute_error", "mae MAE MeanAbsoluteError", "");
REGRESSION_LOSS(mean_absolute_percentage_error, percentage_row, "mean_absolute_percentage_error",
                "mape MAPE MeanAbsolutePercentageError", "");
REGRESSION_LOSS(mean_squared_logarithmic_error, logarithmic_row, "mean_squared_logarithmic_error",
                "msle MSLE MeanSquaredLogarithmicError", "");
REGRESSION_LOSS(log_cosh, log_cosh_row, "log_cosh", "logcosh LogCosh", "");
REGRESSION_LOSS(huber, huber_row, "huber", "huber_loss Huber", "delta");
REGRESSION_LOSS(poisson, poisson_row, "poisson", "Poisson", "");
REGRESSION_LOSS(kl_divergence, divergence_row, "kl_divergence", "kld KLD kullback_leibler_divergence KLDivergence", "");
REGRESSION_LOSS(cosine_similarity, cosine_row, "cosine_similarity", "CosineSimilarity cosine_proximity", "");
REGRESSION_LOSS(asymmetric_linear, asymmetric_row, "asymmetric_linear", "AsymmetricLinear", "under_cost over_cost");

const ls_loss_class ls_loss_dice = {
    .name = "dice", .aliases = "Dice", .keys = "smooth", .whole_sample = true, .a = 1e-7, .row = dice_row};
