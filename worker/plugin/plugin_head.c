/* Losses and metrics of plugins as rows of Lockstep's tables. */
#include <math.h>
#include <stdio.h>

#include "worker/loss/loss.h"
#include "worker/metric/metric.h"
#include "worker/plan/failure.h"
#include "worker/plugin/plugin_private.h"

enum { MAX_SUMS = 100000 };

/* ---- losses ---- */

typedef struct {
    ls_loss_class class_; /* what the table points at */
    const lockstep_loss *own;
    const char *path;
} plugin_loss;

static const plugin_loss *own_loss(const ls_loss *loss) {
    return (const plugin_loss *)loss->class_;
}

static double loss_row(const ls_loss *loss, const float *p, const void *y, int64_t n, float *dp, float scale) {
    const plugin_loss *l = own_loss(loss);
    char text[LS_PLUGIN_TEXT] = "";
    lockstep_error error = {text, sizeof text};
    double value = 0;
    if (l->own->row(loss->settings, p, y, n, dp, scale, &value, &error) == 0) {
        return value;
    }
    for (int64_t i = 0; dp != NULL && i < n; i++) {
        dp[i] = 0;
    }
    ls_failure_report(LS_ELIBRARY, "loss \"%s\" of plugin %s: %s", l->own->name, l->path,
                      text[0] ? text : "failed without a reason");
    return 0;
}

static ls_status configure_loss(ls_loss *loss, ls_json config, ls_err *err) {
    const lockstep_loss *own = own_loss(loss)->own;
    return ls_settings_check(own->keys, own->check, config, loss->settings, err);
}

ls_status ls_plugin_add_loss(ls_pool *pool, const char *path, const lockstep_loss *row, ls_err *err) {
    plugin_loss *l = ls_pool_alloc(pool, sizeof *l);
    const char *where = ls_pool_printf(pool, "%s: loss \"%s\"", path, row->name != NULL ? row->name : "");
    char *keys;
    LS_TRY(ls_plugin_keys(pool, row->keys, where, &keys, err));
    if (row->row == NULL) {
        return ls_fail(err, LS_EINPUT, "%s: has no function row", where);
    }
    *l = (plugin_loss){.class_ = {.name = row->name,
                                  .aliases = row->aliases,
                                  .keys = keys,
                                  .sparse = row->sparse != 0,
                                  .row = loss_row,
                                  .configure = configure_loss},
                       .own = row,
                       .path = path};
    return ls_loss_class_add(&l->class_, path, err);
}

/* ---- metrics ---- */

typedef struct {
    ls_metric_class class_;
    const lockstep_metric *own;
    const char *path;
} plugin_metric;

static const plugin_metric *own_metric(const ls_metric *m) {
    return (const plugin_metric *)m->class_;
}

static int n_sums(const ls_metric *m) {
    return own_metric(m)->own->n_sums(m->settings, m->n_classes);
}

static void add(const ls_metric *m, const float *p, const void *y, const float *weight, int64_t n_rows, int64_t n,
                double *sums) {
    const plugin_metric *own = own_metric(m);
    char text[LS_PLUGIN_TEXT] = "";
    lockstep_error error = {text, sizeof text};
    if (own->own->add(m->settings, p, y, weight, n_rows, n, sums, &error) != 0) {
        ls_failure_report(LS_ELIBRARY, "metric \"%s\" of plugin %s: %s", own->own->name, own->path,
                          text[0] ? text : "failed without a reason");
    }
}

static double result(const ls_metric *m, const double *sums) {
    return own_metric(m)->own->result(m->settings, m->n_classes, sums);
}

static ls_status configure_metric(ls_metric *m, ls_json config, ls_err *err) {
    const lockstep_metric *own = own_metric(m)->own;
    LS_TRY(ls_settings_check(own->keys, own->check, config, m->settings, err));
    int n = n_sums(m);
    if (n < 1 || n > MAX_SUMS) {
        return ls_json_fail(config, err, "metric \"%s\" of plugin %s wants %d sums; expected 1 to %d", own->name,
                            own_metric(m)->path, n, MAX_SUMS);
    }
    return LS_OK;
}

ls_status ls_plugin_add_metric(ls_pool *pool, const char *path, const lockstep_metric *row, ls_err *err) {
    plugin_metric *m = ls_pool_alloc(pool, sizeof *m);
    const char *where = ls_pool_printf(pool, "%s: metric \"%s\"", path, row->name != NULL ? row->name : "");
    char *keys;
    LS_TRY(ls_plugin_keys(pool, row->keys, where, &keys, err));
    if (row->n_sums == NULL || row->add == NULL || row->result == NULL) {
        return ls_fail(err, LS_EINPUT, "%s: lacks one of the functions n_sums, add and result", where);
    }
    *m = (plugin_metric){.class_ = {.name = row->name,
                                    .aliases = row->aliases,
                                    .keys = keys,
                                    .sparse = row->sparse != 0,
                                    .n_sums = n_sums,
                                    .add = add,
                                    .result = result,
                                    .configure = configure_metric},
                         .own = row,
                         .path = path};
    return ls_metric_class_add(&m->class_, path, err);
}
