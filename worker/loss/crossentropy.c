/*
 * Cross-entropies, from probabilities (clipped to [1e-7, 1 - 1e-7], as Keras's back end does) and from logits.
 *
 * Source: keras/backend.py (2.11-2.15): binary_crossentropy, categorical_crossentropy, sparse_categorical_crossentropy.
 */
#include <math.h>
#include <string.h>

#include "worker/loss/loss_rows.h"
#include "worker/ops/vmath.h"

static const double EPSILON = 1e-7;

static double clip(double p) {
    return p < EPSILON ? EPSILON : p > 1 - EPSILON ? 1 - EPSILON : p;
}
static int inside(double p) {
    return p >= EPSILON && p <= 1 - EPSILON;
}

/* ---- binary: L = mean over i of -(y log(q + e) + (1 - y) log(1 - q + e)), q = clip(p) ---- */

static double smooth_binary(const ls_loss *loss, double y) {
    return y * (1 - loss->label_smoothing) + 0.5 * loss->label_smoothing;
}

static double binary_row(const ls_loss *loss, const float *p, const void *target, int64_t n, float *dp, float scale) {
    const float *y = target;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double z = smooth_binary(loss, y[i]), q = clip(p[i]);
        sum -= z * log(q + EPSILON) + (1 - z) * log(1 - q + EPSILON);
        if (dp != NULL) {
            double d = inside(p[i]) ? -z / (q + EPSILON) + (1 - z) / (1 - q + EPSILON) : 0;
            dp[i] = (float)(d / (double)n * scale);
        }
    }
    return sum / (double)n;
}

/* x = logit: L = max(x, 0) - x z + log(1 + exp(-|x|));  dL/dx = sigmoid(x) - z */
static double binary_row_logits(const ls_loss *loss, const float *x, const void *target, int64_t n, float *dx,
                                float scale) {
    const float *y = target;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double z = smooth_binary(loss, y[i]), e = exp(-fabs((double)x[i]));
        sum += (x[i] > 0 ? x[i] : 0) - x[i] * z + log1p(e);
        if (dx != NULL) {
            double s = x[i] >= 0 ? 1 / (1 + e) : e / (1 + e);
            dx[i] = (float)((s - z) / (double)n * scale);
        }
    }
    return sum / (double)n;
}

const ls_loss_class ls_loss_binary_crossentropy = {.name = "binary_crossentropy",
                                                   .aliases = "bce BCE BinaryCrossentropy",
                                                   .keys = "from_logits label_smoothing",
                                                   .row = binary_row,
                                                   .row_logits = binary_row_logits,
                                                   .activation = "sigmoid"};

/* ---- categorical ---- */

/* q = p / sum p, r = clip(q): L = -sum y log r;  dL/dp_j = (h_j - sum_i h_i q_i) / sum p, h_i = -y_i / r_i inside, else
 * 0 */
static double categorical_row(const ls_loss *loss, const float *p, const void *target, int64_t n, float *dp,
                              float scale) {
    const float *y = target;
    double total = 0, sum = 0, inner = 0;
    const double keep = 1 - loss->label_smoothing, add = loss->label_smoothing / (double)n;
    for (int64_t i = 0; i < n; i++) {
        total += p[i];
    }
    for (int64_t i = 0; i < n; i++) {
        double q = p[i] / total, z = y[i] * keep + add;
        sum -= z * log(clip(q));
        inner += inside(q) ? -z : 0;
    }
    for (int64_t i = 0; dp != NULL && i < n; i++) {
        double q = p[i] / total, z = y[i] * keep + add;
        dp[i] = (float)(((inside(q) ? -z / clip(q) : 0) - inner) / total * scale);
    }
    return sum;
}

/* e_i = exp(x_i - m), m the largest x; returns their sum, eight partial sums in one fixed order. e may be NULL. */
static double exp_and_sum(const float *x, int64_t n, float *e, float *largest) {
    float m = x[0], piece[256];
    double sum[8] = {0};
    for (int64_t i = 1; i < n; i++) {
        m = x[i] > m ? x[i] : m;
    }
    for (int64_t first = 0; first < n; first += 256) {
        const int64_t count = n - first < 256 ? n - first : 256;
        float *to = e != NULL ? e + first : piece;
        for (int64_t i = 0; i < count; i++) {
            to[i] = ls_expf(x[first + i] - m);
        }
        for (int64_t i = 0; i < count; i++) {
            sum[i & 7] += to[i];
        }
    }
    *largest = m;
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

/* L = sum y (lse - x), lse = log sum exp x;  dL/dx_j = softmax(x)_j sum y - y_j */
static double categorical_row_logits(const ls_loss *loss, const float *x, const void *target, int64_t n, float *dx,
                                     float scale) {
    const float *y = target;
    float m;
    const double total = exp_and_sum(x, n, dx, &m), lse = m + log(total);
    const double keep = 1 - loss->label_smoothing, add = loss->label_smoothing / (double)n;
    double sum = 0, mass = 0;
    for (int64_t i = 0; i < n; i++) {
        double z = y[i] * keep + add;
        sum += z * (lse - x[i]);
        mass += z;
    }
    const float share = (float)(mass / total);
    for (int64_t i = 0; dx != NULL && i < n; i++) {
        dx[i] = (dx[i] * share - (y[i] * (float)keep + (float)add)) * scale;
    }
    return sum;
}

const ls_loss_class ls_loss_categorical_crossentropy = {.name = "categorical_crossentropy",
                                                        .aliases = "CategoricalCrossentropy",
                                                        .keys = "from_logits label_smoothing",
                                                        .row = categorical_row,
                                                        .row_logits = categorical_row_logits,
                                                        .activation = "softmax"};

/* ---- sparse: the target is one class number; Keras takes log(clip p) as logits ---- */

/* What a row gives that does not count; its class may lie outside the row. */
static double no_loss(int64_t n, float *dp) {
    if (dp != NULL) {
        memset(dp, 0, (size_t)n * sizeof *dp);
    }
    return 0;
}

/* q = clip(p): L = log(sum q) - log q_y;  dL/dp_j = inside_j (1 / sum q - [j = y] / q_y) */
static double sparse_row(const ls_loss *loss, const float *p, const void *target, int64_t n, float *dp, float scale) {
    const int32_t y = *(const int32_t *)target;
    double total = 0;
    if (ls_loss_ignores(loss, target)) {
        return no_loss(n, dp);
    }
    for (int64_t i = 0; i < n; i++) {
        total += clip(p[i]);
    }
    for (int64_t i = 0; dp != NULL && i < n; i++) {
        dp[i] = inside(p[i]) ? (float)((1 / total - (i == y ? 1 / clip(p[i]) : 0)) * scale) : 0;
    }
    return log(total) - log(clip(p[y]));
}

/* L = lse - x_y;  dL/dx_j = softmax(x)_j - [j = y] */
static double sparse_row_logits(const ls_loss *loss, const float *x, const void *target, int64_t n, float *dx,
                                float scale) {
    const int32_t y = *(const int32_t *)target;
    float m;
    if (ls_loss_ignores(loss, target)) {
        return no_loss(n, dx);
    }
    const double total = exp_and_sum(x, n, dx, &m);
    if (dx != NULL) {
        const float share = (float)(scale / total);
        for (int64_t i = 0; i < n; i++) {
            dx[i] *= share;
        }
        dx[y] -= scale;
    }
    return m + log(total) - x[y];
}

const ls_loss_class ls_loss_sparse_categorical_crossentropy = {.name = "sparse_categorical_crossentropy",
                                                               .aliases = "SparseCategoricalCrossentropy",
                                                               .keys = "from_logits ignore_class",
                                                               .sparse = true,
                                                               .row = sparse_row,
                                                               .row_logits = sparse_row_logits,
                                                               .activation = "softmax"};
