/* Losses of regression. */
#include "worker/loss/loss_rows.h"

/* L = mean (p - y)^2;  dL/dp_i = 2 (p_i - y_i) / n */
static double squared_error_row(const ls_loss *loss, const float *p, const void *target, int64_t n, float *dp,
                                float scale) {
    const float *y = target;
    (void)loss;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)p[i] - y[i];
        sum += d * d;
        if (dp != NULL) {
            dp[i] = (float)(2 * d / (double)n * scale);
        }
    }
    return sum / (double)n;
}

const ls_loss_class ls_loss_mean_squared_error = {
    .name = "mean_squared_error", .aliases = "mse MSE MeanSquaredError", .keys = "", .row = squared_error_row};
