#include <stdio.h>
#include <string.h>

#include "common/memory.h"
#include "trainer/fit/fit_private.h"

static bool named_losses(const ls_fit *f) {
    return f->model->n_outputs > 1;
}

static ls_status add_name(ls_fit *f, const char *name, ls_err *err) {
    char unique[LS_LOGS_NAME];
    snprintf(unique, sizeof unique, "%s", name);
    for (int k = 1, i = 0; i < f->n_names; i++) { /* as Keras: accuracy, accuracy_1 */
        if (strcmp(f->names[i], unique) == 0) {
            snprintf(unique, sizeof unique, "%.60s_%d", name, k++);
            i = -1;
        }
    }
    if (2 * f->n_names + 4 > LS_LOGS_MAX) {
        return ls_fail(err, LS_EINPUT, "the job has more losses and metrics than %d", LS_LOGS_MAX / 2 - 2);
    }
    snprintf(f->names[f->n_names++], LS_LOGS_NAME, "%s", unique);
    return LS_OK;
}

ls_status ls_fit_name_logs(ls_fit *f, ls_err *err) {
    char name[LS_LOGS_NAME];
    f->names = ls_xcalloc((size_t)(1 + f->model->n_outputs + f->compile.n_metrics), sizeof *f->names);
    LS_TRY(add_name(f, "loss", err));
    for (int i = 0; named_losses(f) && i < f->model->n_outputs; i++) {
        snprintf(name, sizeof name, "%.60s_loss", f->model->output_names[i]);
        LS_TRY(add_name(f, name, err));
    }
    for (int i = 0; i < f->compile.n_metrics; i++) {
        LS_TRY(add_name(f, f->compile.metrics[i].name, err));
    }
    f->columns = ls_xcalloc((size_t)(2 * f->n_names + 2), sizeof *f->columns);
    for (int i = 0; i < f->n_names; i++) {
        f->columns[f->n_columns++] = f->names[i];
    }
    return LS_OK;
}

void ls_fit_tables(const ls_fit *f, const double *sums, const char *prefix, ls_tables *out) {
    char name[2 * LS_LOGS_NAME];
    int first = f->n_names - f->compile.n_metrics;
    for (int k = 0; k < f->compile.n_metrics; k++) {
        const ls_metric *m = &f->compile.metrics[k];
        if (m->class_->table != NULL) {
            snprintf(name, sizeof name, "%s%s", prefix, f->names[first + k]);
            ls_tables_add(out, name, m->class_->table(m), sums + ls_engine_metric_sums_at(f->engine, k));
        }
    }
}

void ls_fit_logs(const ls_fit *f, const double *sums, const char *prefix, ls_logs *out) {
    char name[2 * LS_LOGS_NAME];
    for (int k = 0, i = 0; i < f->n_names; i++) {
        double value;
        int outputs = named_losses(f) ? f->model->n_outputs : 0;
        if (i == 0) {
            value = ls_engine_loss(f->engine, sums);
        } else if (i <= outputs) {
            const double *of = sums + ls_engine_loss_sums_at(f->engine, i - 1);
            if (f->compile.losses[i - 1].class_ == NULL) {
                continue;
            }
            value = of[0] / of[1];
        } else {
            value = ls_engine_metric(f->engine, k++, sums);
        }
        snprintf(name, sizeof name, "%s%s", prefix, f->names[i]);
        ls_logs_set(out, name, value);
    }
}
