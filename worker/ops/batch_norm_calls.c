/*
 * Element i of the array belongs to channel i / after % channels. The array is walked in periods, each a whole number
 * of (channels, after) blocks, so that what belongs to a channel (its mean, its sums) lies in one line of `period`
 * numbers beside the data, whatever the axis. Lines are added up by channel at the end.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/batch_norm.h"

enum { TILE = 64, LONGEST_PERIOD = 4096, SHORT_PERIOD = 512, MAX_PARTS = 16, MAX_LINES = 1 << 20 };
enum { BLOCK_ELEMS = 8192, FEWEST_ROWS = 8, MOST_ROWS = 64 };

/* How the work is cut. */
typedef struct walk {
    ls_bn bn;
    const ls_norm_kernels *kernels;
    size_t period, line; /* line: its numbers with the padding */
    size_t part;         /* elements, a multiple of period; the last part may be shorter */
    int n_parts;
    size_t block_rows;
    uint32_t channel[]; /* (period) */
} walk;

static const ls_norm_kernels *kernels_for(const char *isa) {
    bool avx512 = strncmp(isa, "avx512_core", 11) == 0, avx2 = strncmp(isa, "avx2", 4) == 0;
    const ls_norm_kernels *best = avx512 && ls_dnn_has_bf16() ? ls_norm_avx512_bf16 : NULL;
    best = best == NULL && avx512 ? ls_norm_avx512 : best;
    best = best == NULL && avx2 ? ls_norm_avx2 : best;
    return best != NULL ? best : ls_norm_plain;
}

/* Whole tiles where that takes few blocks, else some hundreds of elements. */
static size_t period_of(size_t block) {
    size_t tiles = block;
    for (size_t rest = TILE; rest > 1 && tiles % TILE != 0; rest /= 2) {
        tiles *= 2;
    }
    return tiles <= LONGEST_PERIOD ? tiles : block * (block < SHORT_PERIOD ? SHORT_PERIOD / block : 1);
}

static walk *new_walk(const ls_bn *bn) {
    size_t period = period_of(bn->channels * bn->after);
    LS_ASSERT(period > 0);
    walk *w = ls_xcalloc(1, sizeof *w + period * sizeof w->channel[0]);
    w->bn = *bn;
    w->kernels = kernels_for(ls_dnn_isa());
    w->period = period;
    w->line = ls_align_up(period, LS_NORM_PAD);
    for (size_t i = 0; i < period; i++) {
        w->channel[i] = (uint32_t)(i / bn->after % bn->channels);
    }
    size_t n_periods = (bn->n + period - 1) / period, parts = bn->n / LS_CHUNK + 1;
    parts = parts > MAX_PARTS ? MAX_PARTS : parts;
    parts = parts > MAX_LINES / period + 1 ? MAX_LINES / period + 1 : parts;
    w->part = (n_periods + parts - 1) / parts * period;
    w->n_parts = (int)((bn->n + w->part - 1) / w->part);
    size_t rows = BLOCK_ELEMS / period;
    w->block_rows = rows < FEWEST_ROWS ? FEWEST_ROWS : rows > MOST_ROWS ? MOST_ROWS : rows;
    return w;
}

/* Two sums an element of the period, for each part. */
static size_t lines_bytes(const walk *w) {
    return 2 * w->line * (size_t)w->n_parts * sizeof(double);
}

/* out (2, channels): the parts' lines, in order. */
static void add_lines(const walk *w, const double *lines, double *out) {
    memset(out, 0, 2 * w->bn.channels * sizeof *out);
    for (int part = 0; part < w->n_parts; part++) {
        const double *line = lines + 2 * w->line * (size_t)part;
        for (size_t i = 0; i < w->period; i++) {
            size_t c = w->channel[i];
            out[c] += line[i];
            out[w->bn.channels + c] += line[w->line + i];
        }
    }
}

/* ---- walking ---- */

/* Either of the two kinds of kernels, over all parts. */
typedef struct job {
    const walk *w;
    ls_norm_work work;
    double *lines; /* of sums */
    void (*sums)(const ls_norm_work *work, const ls_norm_block *b, double *first, double *second);
    void (*apply)(const ls_norm_work *work, const ls_norm_block *b);
} job;

/* The block from element `at` on, within `end`. */
static ls_norm_block block_at(const walk *w, size_t at, size_t end) {
    size_t rows = (end - at) / w->period;
    if (rows == 0) {
        return (ls_norm_block){at, 1, end - at};
    }
    return (ls_norm_block){at, rows < w->block_rows ? rows : w->block_rows, w->period};
}

static void run_part(const job *j, size_t part) {
    const walk *w = j->w;
    double *line = j->lines + 2 * w->line * part;
    size_t at = part * w->part, end = at + w->part < w->bn.n ? at + w->part : w->bn.n;
    if (j->sums != NULL) {
        memset(line, 0, 2 * w->line * sizeof *line);
    }
    while (at < end) {
        ls_norm_block b = block_at(w, at, end);
        if (j->sums != NULL) {
            j->sums(&j->work, &b, line, line + w->line);
        } else {
            j->apply(&j->work, &b);
        }
        at += b.rows * b.columns;
    }
}

/* Sums begin with the last part, which the operator before has written last and which is still in the cache, and leave
 * the first one there for what applies them. */
static void job_range(void *context, size_t begin, size_t end) {
    const job *j = context;
    for (size_t i = begin; i < end; i++) {
        run_part(j, j->sums != NULL ? (size_t)j->w->n_parts - 1 - i : i);
    }
}

static void run_job(job *j, const ls_run *run) {
    j->work.bf16 = j->w->bn.dtype == LS_BF16;
    j->work.period = j->w->period;
    ls_ops_parallel(run->n_threads, (size_t)j->w->n_parts, 1, job_range, j);
}

/* ---- statistics ---- */

enum { STAT_SRC, STAT_LINES, STAT_SUMS };

/* sums (2 channels + 1): of x, of x^2, and how many numbers a channel has. */
static void stat_kernel(const ls_call *call, const ls_run *run) {
    const walk *w = call->state;
    double *sums = call->args[STAT_SUMS].p;
    job j = {
        .w = w, .work = {.src = call->args[STAT_SRC].p}, .lines = call->args[STAT_LINES].p, .sums = w->kernels->sums};
    run_job(&j, run);
    add_lines(w, j.lines, sums);
    const size_t count = w->bn.n / w->bn.channels;
    sums[2 * w->bn.channels] = (double)count;
}

enum { MOMENT_SUMS, MOMENT_MEAN, MOMENT_VARIANCE, MOMENT_TO_MEAN, MOMENT_TO_VARIANCE };

/* sums -> mean and variance, and this lane's share of what the moving ones move towards. */
static void moment_kernel(const ls_call *call, const ls_run *run) {
    const ls_bn *s = call->state;
    const double *sum = call->args[MOMENT_SUMS].p, *square = sum + s->channels, n = sum[2 * s->channels];
    float *mean = call->args[MOMENT_MEAN].p, *variance = call->args[MOMENT_VARIANCE].p;
    float *to_mean = call->args[MOMENT_TO_MEAN].p, *to_variance = call->args[MOMENT_TO_VARIANCE].p;
    const double share = run->stat_scale, factor = s->unbiased && n > 1 ? n / (n - 1) : 1;
    for (size_t c = 0; c < s->channels; c++) {
        double m = sum[c] / n, v = square[c] / n - m * m;
        v = v < 0 ? 0 : v; /* NaN stays NaN */
        mean[c] = (float)m;
        variance[c] = (float)v;
        to_mean[c] = (float)(m * share);
        to_variance[c] = (float)(v * factor * share);
    }
}

ls_ref ls_bn_emit_statistics(ls_plan *p, const ls_bn *bn, ls_ref src, ls_ref mean, ls_ref variance,
                             const ls_weight *moving_mean, const ls_weight *moving_variance) {
    walk *w = new_walk(bn);
    const size_t n_sums = 2 * bn->channels + 1;
    ls_ref sums = ls_plan_temp(p, n_sums * sizeof(double)), lines = ls_plan_temp(p, lines_bytes(w));
    ls_ref to_mean = ls_plan_dweight(p, moving_mean), to_variance = ls_plan_dweight(p, moving_variance);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "batch_norm.sums", bn->node, stat_kernel, w, NULL);
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_WRITE, lines);
    ls_call_arg(c, LS_WRITE, sums);
    if (bn->together) {
        ls_plan_meet(p, LS_PHASE_FORWARD, bn->node, sums, n_sums);
    }
    ls_bn *copy = ls_xcalloc(1, sizeof *copy);
    *copy = *bn;
    c = ls_plan_emit(p, LS_PHASE_FORWARD, "batch_norm.statistics", bn->node, moment_kernel, copy, NULL);
    ls_call_arg(c, LS_READ, sums);
    ls_call_arg(c, LS_WRITE, mean);
    ls_call_arg(c, LS_WRITE, variance);
    ls_call_arg(c, LS_WRITE, to_mean);
    ls_call_arg(c, LS_WRITE, to_variance);
    return sums;
}

/* ---- what the other calls have in common ---- */

/* Lines of the period: what belongs to each element's channel. */
enum { LINE_MEAN, LINE_SCALE, LINE_SHIFT, LINE_OF_MEAN, LINE_OF_DEVIATION, N_LINES };

enum { ARG_SRC, ARG_MEAN, ARG_VARIANCE, ARG_GAMMA, ARG_BETA, ARG_TABLE, N_ARGS };

static float deviation_inverse(const walk *w, const float *variance, size_t c) {
    return 1.0f / sqrtf(variance[c] + w->bn.epsilon);
}

/* The job without what it is for: src, and the table's first three lines. */
static job begin_job(const ls_call *call) {
    const walk *w = call->state;
    float *table = call->args[ARG_TABLE].p, *shift = table + LINE_SHIFT * w->line;
    const float *mean = call->args[ARG_MEAN].p, *variance = call->args[ARG_VARIANCE].p;
    const float *gamma = call->args[ARG_GAMMA].p, *beta = call->args[ARG_BETA].p;
    for (size_t i = 0; i < w->period; i++) {
        size_t c = w->channel[i];
        table[LINE_MEAN * w->line + i] = mean[c];
        table[LINE_SCALE * w->line + i] = (gamma != NULL ? gamma[c] : 1.0f) * deviation_inverse(w, variance, c);
        shift[i] = beta != NULL ? beta[c] : 0.0f;
    }
    return (job){.w = w,
                 .work = {.src = call->args[ARG_SRC].p,
                          .relu = w->bn.relu,
                          .mean = table + LINE_MEAN * w->line,
                          .scale = table + LINE_SCALE * w->line,
                          .shift = shift,
                          .of_mean = table + LINE_OF_MEAN * w->line,
                          .of_deviation = table + LINE_OF_DEVIATION * w->line}};
}

static ls_call *emit(ls_plan *p, ls_phase phase, const char *label, const ls_bn *bn, const ls_bn_values *v,
                     ls_kernel kernel) {
    walk *w = new_walk(bn);
    ls_ref table = ls_plan_temp(p, N_LINES * w->line * sizeof(float));
    ls_call *c = ls_plan_emit(p, phase, label, bn->node, kernel, w, NULL);
    ls_call_arg(c, LS_READ, v->src);
    ls_call_arg(c, LS_READ, v->mean);
    ls_call_arg(c, LS_READ, v->variance);
    ls_call_arg(c, LS_READ, v->gamma);
    ls_call_arg(c, LS_READ, v->beta);
    ls_call_arg(c, LS_WRITE, table);
    return c;
}

/* ---- forward ---- */

enum { FORWARD_ADDED = N_ARGS, FORWARD_DST };

static void forward_kernel(const ls_call *call, const ls_run *run) {
    job j = begin_job(call);
    j.apply = j.w->kernels->forward;
    j.work.more = call->args[FORWARD_ADDED].p;
    j.work.to = call->args[FORWARD_DST].p;
    run_job(&j, run);
}

void ls_bn_emit_forward(ls_plan *p, const ls_bn *bn, const ls_bn_values *v, ls_ref added, ls_ref dst) {
    ls_call *c = emit(p, LS_PHASE_FORWARD, "batch_norm.forward", bn, v, forward_kernel);
    ls_call_arg(c, LS_READ, added);
    ls_call_arg(c, LS_WRITE, dst);
}

/* ---- backward ---- */

enum { SUM_DIFF_DST = N_ARGS, SUM_MORE, SUM_DST, SUM_LINES, SUM_SUMS, SUM_G, SUM_DIFF_GAMMA, SUM_DIFF_BETA };

/* sums (2, channels): of g, of g u. */
static void sum_kernel(const ls_call *call, const ls_run *run) {
    job j = begin_job(call);
    const walk *w = j.w;
    const size_t channels = w->bn.channels;
    double *sums = call->args[SUM_SUMS].p;
    float *diff_gamma = call->args[SUM_DIFF_GAMMA].p, *diff_beta = call->args[SUM_DIFF_BETA].p;
    j.sums = w->kernels->gradient_sums;
    j.lines = call->args[SUM_LINES].p;
    j.work.diff_dst = call->args[SUM_DIFF_DST].p;
    j.work.more = call->args[SUM_MORE].p;
    j.work.dst = call->args[SUM_DST].p;
    j.work.to = call->args[SUM_G].p;
    run_job(&j, run);
    add_lines(w, j.lines, sums);
    for (size_t c = 0; c < channels; c++) {
        sums[channels + c] *= (double)deviation_inverse(w, call->args[ARG_VARIANCE].p, c);
    }
    for (size_t c = 0; diff_beta != NULL && c < channels; c++) {
        diff_beta[c] = (float)sums[c];
    }
    for (size_t c = 0; diff_gamma != NULL && c < channels; c++) {
        diff_gamma[c] = (float)sums[channels + c];
    }
}

enum { GRADIENT_G = N_ARGS, GRADIENT_COUNTS, GRADIENT_SUMS, GRADIENT_DIFF_SRC };

static void gradient_kernel(const ls_call *call, const ls_run *run) {
    job j = begin_job(call);
    const walk *w = j.w;
    const double *counts = call->args[GRADIENT_COUNTS].p, *sums = call->args[GRADIENT_SUMS].p;
    float *table = call->args[ARG_TABLE].p;
    for (size_t i = 0; i < w->period; i++) {
        size_t c = w->channel[i];
        double n = counts != NULL ? counts[2 * w->bn.channels] : INFINITY;
        double inverse = (double)deviation_inverse(w, call->args[ARG_VARIANCE].p, c);
        table[LINE_OF_MEAN * w->line + i] = (float)(sums[c] / n);
        table[LINE_OF_DEVIATION * w->line + i] = (float)(sums[w->bn.channels + c] / n * inverse);
    }
    j.apply = w->kernels->gradient;
    j.work.diff_dst = call->args[GRADIENT_G].p;
    j.work.to = call->args[GRADIENT_DIFF_SRC].p;
    run_job(&j, run);
}

void ls_bn_emit_backward(ls_plan *p, const ls_bn *bn, const ls_bn_values *v, const ls_bn_gradients *g) {
    walk *w = new_walk(bn);
    ls_ref sums = ls_plan_temp(p, 2 * bn->channels * sizeof(double)), lines = ls_plan_temp(p, lines_bytes(w));
    free(w);
    ls_call *c = emit(p, LS_PHASE_BACKWARD, "batch_norm.backward_sums", bn, v, sum_kernel);
    ls_call_arg(c, LS_READ, g->diff_dst);
    ls_call_arg(c, LS_READ, g->more);
    ls_call_arg(c, LS_READ, g->dst);
    ls_call_arg(c, LS_WRITE, lines);
    ls_call_arg(c, LS_WRITE, sums);
    ls_call_arg(c, LS_WRITE, g->g);
    ls_call_arg(c, LS_WRITE, g->diff_gamma);
    ls_call_arg(c, LS_WRITE, g->diff_beta);
    if (!ls_ref_some(g->diff_src)) {
        return;
    }
    if (bn->together) {
        ls_plan_meet(p, LS_PHASE_BACKWARD, bn->node, sums, 2 * bn->channels);
    }
    ls_bn masked = *bn; /* g is masked already */
    masked.relu = ls_ref_some(g->g) ? LS_NORM_ALL : bn->relu;
    c = emit(p, LS_PHASE_BACKWARD, "batch_norm.backward", &masked, v, gradient_kernel);
    ls_call_arg(c, LS_READ, ls_ref_some(g->g) ? g->g : g->diff_dst);
    ls_call_arg(c, LS_READ, bn->frozen ? (ls_ref){0} : g->sums);
    ls_call_arg(c, LS_READ, sums);
    ls_call_arg(c, LS_WRITE, g->diff_src);
}
