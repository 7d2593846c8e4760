#include "worker/plan/heads.h"

#include <stdlib.h>

#include "worker/plan/plan_internal.h"

ls_heads *ls_heads_create(int n_outputs, const ls_loss *losses, const double *loss_weights, int n_metrics,
                          const ls_metric *metrics, const int *metric_output, bool sample_weights) {
    ls_heads *h = ls_xcalloc(1, sizeof *h);
    *h = (ls_heads){.n_outputs = n_outputs,
                    .losses = losses,
                    .loss_weights = loss_weights,
                    .n_metrics = n_metrics,
                    .metrics = metrics,
                    .metric_output = metric_output,
                    .sample_weights = sample_weights};
    h->loss_at = ls_xcalloc((size_t)n_outputs + 1, sizeof(int));
    h->metric_at = ls_xcalloc((size_t)n_metrics + 1, sizeof(int));
    for (int i = 0; i < n_outputs; i++) {
        h->loss_at[i] = h->n_sums;
        h->n_sums += 2;
    }
    for (int i = 0; i < n_metrics; i++) {
        h->metric_at[i] = h->n_sums;
        h->n_sums += metrics[i].class_->n_sums(&metrics[i]);
    }
    return h;
}

void ls_heads_destroy(ls_heads *heads) {
    if (heads != NULL) {
        free(heads->loss_at);
        free(heads->metric_at);
        free(heads);
    }
}

ls_dtype ls_heads_target_dtype(const ls_heads *heads, int output) {
    const ls_loss_class *c = heads->losses[output].class_;
    return c != NULL && c->sparse ? LS_I32 : LS_F32;
}

static int64_t last_axis(const ls_tensor *t) {
    return t->shape.rank > 0 ? t->shape.dim[t->shape.rank - 1] : 1;
}

/* Elements that a loss (or a loss used as a metric) takes at a time. */
static int64_t row_elems(const ls_loss *loss, const ls_tensor *t) {
    return loss->class_ != NULL && loss->class_->whole_sample ? t->rows * ls_shape_elems(&t->shape) : last_axis(t);
}

size_t ls_heads_target_elems(const ls_heads *heads, const ls_tensor *output, int i) {
    int64_t n = output->rows * ls_shape_elems(&output->shape);
    return (size_t)(ls_heads_target_dtype(heads, i) == LS_I32 ? n / last_axis(output) : n);
}

/* ---- loss ---- */

typedef struct {
    const ls_loss *loss;
    bool logits;
    double loss_weight;
    int64_t n_samples, rows_per_sample, n; /* n: elements of a row */
    int64_t n_steps;                       /* of a sample's mask; rows_per_sample is a multiple */
    int at;                                /* of its two sums */
} loss_state;

enum { LOSS_PREDICTION, LOSS_TARGET, LOSS_WEIGHT, LOSS_ROWS, LOSS_SUMS, LOSS_GRADIENT, LOSS_MASK, LOSS_COUNTS };

typedef struct {
    const ls_loss *loss;
    int64_t n_steps, rows_per_step; /* of all samples */
} count_state;

static int64_t count_rows(const count_state *s, const int32_t *target, int64_t step) {
    int64_t rows = s->rows_per_step;
    for (int64_t r = 0; s->loss->ignores && r < s->rows_per_step; r++) {
        rows -= ls_loss_ignores(s->loss, target + step * s->rows_per_step + r);
    }
    return rows;
}

/* How many rows count, and how many there are. */
static void count_kernel(const ls_call *c, const ls_run *run) {
    const count_state *s = c->state;
    const float *mask = c->args[0].p;
    const int32_t *target = c->args[1].p;
    double *counts = c->args[2].p;
    (void)run;
    counts[0] = 0;
    counts[1] = (double)(s->n_steps * s->rows_per_step);
    for (int64_t i = 0; i < s->n_steps; i++) {
        counts[0] += (mask != NULL ? mask[i] : 1) * (double)count_rows(s, target, i);
    }
}

/* The counts of the whole batch, where some rows may not count: two doubles, which the lanes add up where the batch is
 * cut. NONE: all count. */
static ls_ref emit_counts(ls_plan *p, const ls_loss *loss, ls_ref mask, ls_ref target, int64_t n_steps,
                          int64_t rows_per_step) {
    if (!ls_ref_some(mask) && !loss->ignores) {
        return (ls_ref){LS_REF_NONE, 0, 0};
    }
    ls_ref counts = ls_plan_temp(p, 2 * sizeof(double));
    count_state *state = ls_xcalloc(1, sizeof *state);
    *state = (count_state){loss, n_steps, rows_per_step};
    ls_call *call = ls_plan_emit(p, LS_PHASE_FORWARD, "loss.count", NULL, count_kernel, state, NULL);
    ls_call_arg(call, LS_READ, mask);
    ls_call_arg(call, LS_READ, target);
    ls_call_arg(call, LS_WRITE, counts);
    if (ls_plan_cut(p)) {
        ls_plan_meet(p, LS_PHASE_FORWARD, NULL, counts, 2);
    }
    return counts;
}

/* Rows / rows that count: with it, the mean over all rows is that over the rows that count. 0 when none does. */
static double mask_factor(const double *counts) {
    return counts == NULL ? 1 : counts[0] > 0 ? counts[1] / counts[0] : 0;
}

static void loss_row(const ls_call *c, double scale, double factor, size_t target_bytes, int64_t r) {
    const loss_state *s = c->state;
    const float *prediction = c->args[LOSS_PREDICTION].p, *weight = c->args[LOSS_WEIGHT].p;
    const float *mask = c->args[LOSS_MASK].p;
    const char *target = c->args[LOSS_TARGET].p;
    double *row_loss = c->args[LOSS_ROWS].p;
    float *gradient = c->args[LOSS_GRADIENT].p;
    float *dp = gradient != NULL ? gradient + r * s->n : NULL;
    double counts = (mask != NULL ? mask[r / (s->rows_per_sample / s->n_steps)] : 1) * factor;
    float row_scale = (float)(counts * (weight != NULL ? scale * weight[r / s->rows_per_sample] : scale));
    row_loss[r] = counts * (s->logits ? s->loss->class_->row_logits : s->loss->class_->row)(
                               s->loss, prediction + r * s->n, target + (size_t)r * target_bytes, s->n, dp, row_scale);
}

static void loss_kernel(const ls_call *c, const ls_run *run) {
    const loss_state *s = c->state;
    const float *weight = c->args[LOSS_WEIGHT].p;
    const double *row_loss = c->args[LOSS_ROWS].p;
    double *sums = (double *)c->args[LOSS_SUMS].p + s->at;
    const int64_t n_rows = s->n_samples * s->rows_per_sample;
    const size_t target_bytes = s->loss->class_->sparse ? sizeof(int32_t) : (size_t)s->n * sizeof(float);
    const double scale = s->loss_weight * run->grad_scale / (double)s->rows_per_sample;
    const double factor = mask_factor(c->args[LOSS_COUNTS].p);
    if (run->n_threads > 1 && n_rows >= 64) {
#pragma omp parallel for num_threads(run->n_threads)
        for (int64_t r = 0; r < n_rows; r++) {
            loss_row(c, scale, factor, target_bytes, r);
        }
    } else { /* not an if clause: libgomp takes a team from the heap for a region of one thread */
        for (int64_t r = 0; r < n_rows; r++) {
            loss_row(c, scale, factor, target_bytes, r);
        }
    }
    double total = 0; /* one fixed order, whatever the threads */
    for (int64_t i = 0; i < s->n_samples; i++) {
        double sample = 0;
        for (int64_t r = 0; r < s->rows_per_sample; r++) {
            sample += row_loss[i * s->rows_per_sample + r];
        }
        total += sample / (double)s->rows_per_sample * (weight != NULL ? weight[i] : 1.0);
    }
    sums[0] += total;
    sums[1] += (double)s->n_samples;
}

/* ---- metrics ---- */

typedef struct {
    const ls_metric *metric;
    int64_t n_rows, n;
    int64_t rows_per_step;   /* that one element of the mask stands for */
    int64_t rows_per_sample; /* that one sample's weight stands for */
    int at;
} metric_state;

enum { METRIC_PREDICTION, METRIC_TARGET, METRIC_SUMS, METRIC_MASK, METRIC_SAMPLE_WEIGHT, METRIC_WEIGHT };

static void metric_kernel(const ls_call *c, const ls_run *run) {
    const metric_state *s = c->state;
    const float *mask = c->args[METRIC_MASK].p, *sample = c->args[METRIC_SAMPLE_WEIGHT].p;
    float *weight = c->args[METRIC_WEIGHT].p;
    (void)run;
    for (int64_t r = 0; weight != NULL && r < s->n_rows; r++) {
        weight[r] = (mask != NULL ? mask[r / s->rows_per_step] : 1.0f) *
                    (sample != NULL ? sample[r / s->rows_per_sample] : 1.0f);
    }
    s->metric->class_->add(s->metric, c->args[METRIC_PREDICTION].p, c->args[METRIC_TARGET].p, weight, s->n_rows, s->n,
                           (double *)c->args[METRIC_SUMS].p + s->at);
}

bool ls_heads_masked(const ls_tensor *output) {
    int64_t rows = ls_shape_elems(&output->shape) / last_axis(output);
    return output->mask != NULL && rows % ls_shape_elems(&output->mask->shape) == 0;
}

/* The mask that says which of an output's rows count; NONE when all do, or when a row is a whole sample. */
static ls_ref mask_of(ls_plan *p, const ls_loss *loss, const ls_tensor *output) {
    bool whole = loss->class_ != NULL && loss->class_->whole_sample;
    return ls_heads_masked(output) && !whole ? ls_plan_in(p, output->mask, LS_F32) : (ls_ref){LS_REF_NONE, 0, 0};
}

static ls_status emit_metrics(const ls_heads *heads, ls_plan *p, int i, const ls_tensor *output, ls_ref target,
                              ls_ref sample_weight, ls_ref sums, ls_err *err) {
    for (int k = 0; k < heads->n_metrics; k++) {
        if (heads->metric_output[k] != i) {
            continue;
        }
        const ls_metric *m = &heads->metrics[k];
        if (m->class_->sparse != (ls_heads_target_dtype(heads, i) == LS_I32)) {
            return ls_fail(err, LS_EINPUT, "metric \"%s\" takes targets that are %s, but the loss takes %s", m->name,
                           m->class_->sparse ? "class numbers" : "one number an output",
                           m->class_->sparse ? "one number an output" : "class numbers");
        }
        metric_state *s = ls_xcalloc(1, sizeof *s);
        *s = (metric_state){.metric = m, .n = row_elems(&m->loss, output), .at = heads->metric_at[k]};
        s->n_rows = (int64_t)ls_plan_elems(p, output) / s->n;
        ls_ref prediction = ls_plan_in(p, output, LS_F32), mask = mask_of(p, &m->loss, output), rows = {0};
        ls_ref sample = m->weighted ? sample_weight : (ls_ref){0};
        s->rows_per_sample = s->n_rows / ls_plan_samples(p);
        if (ls_ref_some(mask)) {
            s->rows_per_step = s->n_rows / (int64_t)ls_plan_elems(p, output->mask);
        }
        if (ls_ref_some(mask) || ls_ref_some(sample)) {
            rows = ls_plan_temp(p, (size_t)s->n_rows * sizeof(float));
        }
        ls_call *call = ls_plan_emit(p, LS_PHASE_FORWARD, "metric", NULL, metric_kernel, s, NULL);
        ls_call_arg(call, LS_READ, prediction);
        ls_call_arg(call, LS_READ, target);
        ls_call_arg(call, LS_READWRITE, sums);
        ls_call_arg(call, LS_READ, mask);
        ls_call_arg(call, LS_READ, sample);
        ls_call_arg(call, LS_WRITE, rows);
    }
    return LS_OK;
}

ls_status ls_heads_emit(const ls_heads *heads, ls_plan *p, int i, const ls_tensor *output, const ls_tensor *logits,
                        ls_ref target, ls_ref weight, ls_ref sums, ls_err *err) {
    const ls_loss *loss = &heads->losses[i];
    if (loss->class_ != NULL) {
        const ls_tensor *t = logits != NULL ? logits : output;
        if (loss->from_logits && loss->class_->row_logits == NULL) {
            return ls_fail(err, LS_EINPUT, "loss \"%s\" cannot work from logits", loss->class_->name);
        }
        loss_state *s = ls_xcalloc(1, sizeof *s);
        *s = (loss_state){.loss = loss,
                          .logits = logits != NULL || loss->from_logits,
                          .loss_weight = heads->loss_weights != NULL ? heads->loss_weights[i] : 1.0,
                          .n_samples = ls_plan_samples(p),
                          .n = row_elems(loss, t),
                          .at = heads->loss_at[i]};
        int64_t n_rows = (int64_t)ls_plan_elems(p, t) / s->n;
        s->rows_per_sample = n_rows / s->n_samples;
        ls_ref mask = mask_of(p, loss, output), none = {LS_REF_NONE, 0, 0};
        s->n_steps = ls_ref_some(mask) ? ls_shape_elems(&output->mask->shape) : 1;
        ls_ref counts = emit_counts(p, loss, mask, target, s->n_samples * s->n_steps, s->rows_per_sample / s->n_steps);
        ls_ref prediction = ls_plan_in(p, t, LS_F32);
        ls_ref rows = ls_plan_temp(p, (size_t)n_rows * sizeof(double));
        ls_ref gradient = ls_plan_training(p) && ls_plan_wants_grad(p, t) ? ls_plan_din(p, t, LS_F32) : none;
        ls_call *call = ls_plan_emit(p, LS_PHASE_FORWARD, "loss", NULL, loss_kernel, s, NULL);
        ls_call_arg(call, LS_READ, prediction);
        ls_call_arg(call, LS_READ, target);
        ls_call_arg(call, LS_READ, weight);
        ls_call_arg(call, LS_READWRITE, rows);
        ls_call_arg(call, LS_READWRITE, sums);
        ls_call_arg(call, LS_WRITE, gradient);
        ls_call_arg(call, LS_READ, mask);
        ls_call_arg(call, LS_READ, counts);
    }
    return emit_metrics(heads, p, i, output, target, weight, sums, err);
}
