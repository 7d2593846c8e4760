/*
 * Example of a loss (and of a metric beside it): a cost for each side.
 *
 * Where a prediction is below its target, each unit that is missing costs `under_cost` (a sale that was lost, say);
 * where it is above, each unit too many costs `over_cost` (what is thrown away).
 *
 *   loss = mean over the row of  under_cost * max(y - p, 0) + over_cost * max(p - y, 0)
 *
 * In a job:
 *   "plugins": ["./asymmetric_loss.so"],
 *   "compile": { "loss": {"class_name": "profit_and_cost", "config": {"under_cost": 5, "over_cost": 1}},
 *                "metrics": ["share_below"] }
 */
#include "lockstep_plugin.h"

/* ---- the loss ---- */

enum { UNDER, OVER };

static const lockstep_key costs[] = {
    {.name = "under_cost", .type = LOCKSTEP_REAL, .standard = 1, .least = 0, .most = 1e9},
    {.name = "over_cost", .type = LOCKSTEP_REAL, .standard = 1, .least = 0, .most = 1e9},
    {0},
};

static int check_costs(const lockstep_value *settings, lockstep_error *error) {
    if (settings[UNDER].real == 0 && settings[OVER].real == 0) {
        return lockstep_fail(error, "under_cost and over_cost are both 0: every prediction would be as good");
    }
    return 0;
}

static int cost_row(const lockstep_value *settings, const float *p, const void *target, int64_t n, float *dp,
                    float scale, double *loss, lockstep_error *error) {
    const float *y = target;
    (void)error;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)p[i] - y[i], cost = d < 0 ? -settings[UNDER].real : settings[OVER].real;
        sum += cost * d;
        if (dp != NULL) {
            dp[i] = (float)((d == 0 ? 0 : cost) / (double)n * scale);
        }
    }
    *loss = sum / (double)n;
    return 0;
}

static const lockstep_loss profit_and_cost = {
    .name = "profit_and_cost", .aliases = "ProfitAndCost", .keys = costs, .check = check_costs, .row = cost_row};

/* ---- the metric: how many predictions are below their target ---- */

static const lockstep_key margin[] = {{.name = "margin", .type = LOCKSTEP_REAL, .least = 0, .most = 1e30}, {0}};

static int two(const lockstep_value *settings, int64_t n) {
    (void)settings, (void)n;
    return 2; /* weight of the elements below, weight of all */
}

static int count_below(const lockstep_value *settings, const float *p, const void *target, const float *weight,
                       int64_t n_rows, int64_t n, double *sums, lockstep_error *error) {
    const float *y = target;
    (void)error;
    for (int64_t r = 0; r < n_rows; r++) {
        double w = weight != NULL ? weight[r] : 1.0;
        for (int64_t i = r * n; i < (r + 1) * n; i++) {
            sums[0] += (double)y[i] - p[i] > settings[0].real ? w : 0;
            sums[1] += w;
        }
    }
    return 0;
}

static double share(const lockstep_value *settings, int64_t n, const double *sums) {
    (void)settings, (void)n;
    return sums[1] != 0 ? sums[0] / sums[1] : 0;
}

static const lockstep_metric share_below = {
    .name = "share_below", .keys = margin, .n_sums = two, .add = count_below, .result = share};

/* ---- the plugin ---- */

static const lockstep_loss *const losses[] = {&profit_and_cost, NULL};
static const lockstep_metric *const metrics[] = {&share_below, NULL};

static const lockstep_plugin plugin = {LOCKSTEP_PLUGIN_HEAD, .name = "asymmetric_loss", .version = "1.0",
                                       .losses = losses, .metrics = metrics};

const lockstep_plugin *lockstep_plugin_entry(void) {
    return &plugin;
}
