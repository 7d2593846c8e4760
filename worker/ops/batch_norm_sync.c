/*
 * The sums of synchronized batch normalisation, and its backward pass.
 *
 * Element i of the array belongs to channel i / after % channels. The array is walked in periods, each a whole number
 * of (channels, after) blocks and some hundreds of elements long, so that what belongs to a channel (its mean, its
 * sums) lies in one line of `period` numbers beside the data, whatever the axis, and the vectoriser sees plain loops.
 * Lines are added up by channel at the end.
 */
#include "worker/ops/batch_norm.h"

#include <math.h>
#include <stdlib.h>

#include "common/memory.h"

enum { PERIOD = 512, TILE = 1024, MAX_PARTS = 16, MAX_LINES = 1 << 20 };

/* How the work is cut, from the shape alone, so that no number of threads changes a bit. */
typedef struct walk {
    ls_bn_sync s;
    size_t period;
    size_t part; /* elements, a multiple of period; the last part may be shorter */
    int n_parts;
    uint32_t channel[]; /* (period) */
} walk;

static walk *new_walk(const ls_bn_sync *s) {
    size_t block = s->channels * s->after, period = block * (block < PERIOD ? PERIOD / block : 1);
    walk *w = ls_xcalloc(1, sizeof *w + period * sizeof w->channel[0]);
    w->s = *s;
    w->period = period;
    for (size_t i = 0; i < period; i++) {
        w->channel[i] = (uint32_t)(i / s->after % s->channels);
    }
    size_t n_periods = (s->n + w->period - 1) / w->period, parts = s->n / LS_CHUNK + 1;
    parts = parts > MAX_PARTS ? MAX_PARTS : parts;
    parts = parts > MAX_LINES / w->period + 1 ? MAX_LINES / w->period + 1 : parts;
    w->part = (n_periods + parts - 1) / parts * w->period;
    w->n_parts = (int)((s->n + w->part - 1) / w->part);
    return w;
}

/* Two sums an element of the period, for each part. */
static size_t lines_bytes(const walk *w) {
    return 2 * w->period * (size_t)w->n_parts * sizeof(double);
}

/* out (2, channels): the parts' lines, in order. */
static void add_lines(const walk *w, const double *lines, double *out) {
    memset(out, 0, 2 * w->s.channels * sizeof *out);
    for (int part = 0; part < w->n_parts; part++) {
        const double *line = lines + 2 * w->period * (size_t)part;
        for (size_t i = 0; i < w->period; i++) {
            size_t c = w->channel[i];
            out[c] += line[i];
            out[w->s.channels + c] += line[w->period + i];
        }
    }
}

/* The part's elements, a tile within a period at a time: f(context, tile's place in the array, in the period, n). */
typedef void (*tile_fn)(void *context, size_t at, size_t in_period, size_t n);
static void each_tile(const walk *w, size_t begin, size_t end, tile_fn f, void *context) {
    for (size_t from = begin; from < end; from += w->period) {
        size_t n = end - from < w->period ? end - from : w->period;
        for (size_t i = 0; i < n; i += TILE) {
            f(context, from + i, i, n - i < TILE ? n - i : TILE);
        }
    }
}

/* ---- statistics ---- */

enum { STAT_SRC, STAT_LINES, STAT_SUMS };

typedef struct stat_part {
    const walk *w;
    const void *src;
    double *sum, *square; /* (period) */
} stat_part;

static void stat_tile(void *context, size_t at, size_t in_period, size_t n) {
    const stat_part *p = context;
    float x[TILE];
    double *restrict sum = p->sum + in_period, *restrict square = p->square + in_period;
    ls_load_f32(p->w->s.dtype, p->src, at, x, n);
    for (size_t i = 0; i < n; i++) {
        double v = x[i];
        sum[i] += v;
        square[i] += v * v;
    }
}

typedef struct stat_work {
    const walk *w;
    const void *src;
    double *lines;
} stat_work;

static void stat_range(void *context, size_t begin, size_t end) {
    const stat_work *work = context;
    const walk *w = work->w;
    for (size_t part = begin; part < end; part++) {
        double *line = work->lines + 2 * w->period * part;
        stat_part p = {w, work->src, line, line + w->period};
        size_t first = part * w->part, last = first + w->part < w->s.n ? first + w->part : w->s.n;
        memset(line, 0, 2 * w->period * sizeof *line);
        each_tile(w, first, last, stat_tile, &p);
    }
}

/* sums (2 channels + 1): of x, of x^2, and how many numbers a channel has. */
static void stat_kernel(const ls_call *call, const ls_run *run) {
    const walk *w = call->state;
    double *sums = call->args[STAT_SUMS].p;
    stat_work work = {w, call->args[STAT_SRC].p, call->args[STAT_LINES].p};
    ls_ops_parallel(run->n_threads, (size_t)w->n_parts, 1, stat_range, &work);
    add_lines(w, work.lines, sums);
    sums[2 * w->s.channels] = (double)(w->s.n / w->s.channels);
}

enum { MOMENT_SUMS, MOMENT_MEAN, MOMENT_VARIANCE, MOMENT_TO_MEAN, MOMENT_TO_VARIANCE };

/* sums of the whole batch -> its mean and variance, and this lane's share of what the moving ones move towards. */
static void moment_kernel(const ls_call *call, const ls_run *run) {
    const ls_bn_sync *s = call->state;
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

ls_ref ls_bn_emit_statistics(ls_plan *p, const ls_bn_sync *s, ls_ref src, ls_ref mean, ls_ref variance,
                             const ls_weight *moving_mean, const ls_weight *moving_variance) {
    walk *w = new_walk(s);
    const size_t n_sums = 2 * s->channels + 1;
    ls_ref sums = ls_plan_temp(p, n_sums * sizeof(double)), lines = ls_plan_temp(p, lines_bytes(w));
    ls_ref to_mean = ls_plan_dweight(p, moving_mean), to_variance = ls_plan_dweight(p, moving_variance);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "batch_norm.sums", s->node, stat_kernel, w, NULL);
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_WRITE, lines);
    ls_call_arg(c, LS_WRITE, sums);
    ls_plan_meet(p, LS_PHASE_FORWARD, s->node, sums, n_sums);
    ls_bn_sync *copy = ls_xcalloc(1, sizeof *copy);
    *copy = *s;
    c = ls_plan_emit(p, LS_PHASE_FORWARD, "batch_norm.statistics", s->node, moment_kernel, copy, NULL);
    ls_call_arg(c, LS_READ, sums);
    ls_call_arg(c, LS_WRITE, mean);
    ls_call_arg(c, LS_WRITE, variance);
    ls_call_arg(c, LS_WRITE, to_mean);
    ls_call_arg(c, LS_WRITE, to_variance);
    return sums;
}

/* ---- backward ---- */

/* Lines of the period: what belongs to each element's channel. */
enum { LINE_MEAN, LINE_SCALE, LINE_GAMMA, LINE_BETA, LINE_G, LINE_GU, N_LINES };

enum { BACK_DIFF_DST, BACK_SRC, BACK_MEAN, BACK_VARIANCE, BACK_GAMMA, BACK_BETA, BACK_TABLE, N_BACK };
enum { SUM_LINES = N_BACK, SUM_SUMS, SUM_DIFF_GAMMA, SUM_DIFF_BETA }; /* of the sums' call, besides */
enum { APPLY_FORWARD = N_BACK, APPLY_SUMS, APPLY_DIFF_SRC };          /* of the other one, besides */

typedef struct back_work {
    const walk *w;
    const void *diff_dst, *src;
    const float *table; /* (N_LINES, period) */
    double *lines;      /* sums' call */
    void *diff_src;     /* the other's */
} back_work;

static const float *line_of(const back_work *b, int line, size_t in_period) {
    return b->table + (size_t)line * b->w->period + in_period;
}

/* table: mean, 1 / sqrt(variance + epsilon), gamma and beta by element of the period. */
static void fill_table(const ls_call *call, const walk *w) {
    float *table = call->args[BACK_TABLE].p;
    const float *mean = call->args[BACK_MEAN].p, *variance = call->args[BACK_VARIANCE].p;
    const float *gamma = call->args[BACK_GAMMA].p, *beta = call->args[BACK_BETA].p;
    for (size_t i = 0; i < w->period; i++) {
        size_t c = w->channel[i];
        table[LINE_MEAN * w->period + i] = mean[c];
        table[LINE_SCALE * w->period + i] = 1.0f / sqrtf(variance[c] + w->s.epsilon);
        table[LINE_GAMMA * w->period + i] = gamma != NULL ? gamma[c] : 1.0f;
        table[LINE_BETA * w->period + i] = beta != NULL ? beta[c] : 0.0f;
    }
}

/* One tile's g and u. */
static void load_tile(const back_work *b, size_t at, size_t in_period, size_t n, float *restrict g, float *restrict u) {
    const float *restrict mean = line_of(b, LINE_MEAN, in_period), *restrict scale = line_of(b, LINE_SCALE, in_period);
    const float *restrict gamma = line_of(b, LINE_GAMMA, in_period), *restrict beta = line_of(b, LINE_BETA, in_period);
    ls_load_f32(b->w->s.dtype, b->diff_dst, at, g, n);
    ls_load_f32(b->w->s.dtype, b->src, at, u, n);
    for (size_t i = 0; i < n; i++) {
        u[i] = (u[i] - mean[i]) * scale[i];
    }
    for (size_t i = 0; b->w->s.relu && i < n; i++) {
        g[i] = u[i] * gamma[i] + beta[i] > 0 ? g[i] : 0.0f;
    }
}

typedef struct sum_part {
    const back_work *b;
    double *sum_g, *sum_gu; /* (period) */
} sum_part;

static void sum_tile(void *context, size_t at, size_t in_period, size_t n) {
    const sum_part *p = context;
    float g[TILE], u[TILE];
    double *restrict sum_g = p->sum_g + in_period, *restrict sum_gu = p->sum_gu + in_period;
    load_tile(p->b, at, in_period, n, g, u);
    for (size_t i = 0; i < n; i++) {
        sum_g[i] += (double)g[i];
        sum_gu[i] += (double)g[i] * (double)u[i];
    }
}

static void sum_range(void *context, size_t begin, size_t end) {
    const back_work *b = context;
    const walk *w = b->w;
    for (size_t part = begin; part < end; part++) {
        double *line = b->lines + 2 * w->period * part;
        sum_part p = {b, line, line + w->period};
        size_t first = part * w->part, last = first + w->part < w->s.n ? first + w->part : w->s.n;
        memset(line, 0, 2 * w->period * sizeof *line);
        each_tile(w, first, last, sum_tile, &p);
    }
}

static back_work begin_back(const ls_call *call) {
    const walk *w = call->state;
    fill_table(call, w);
    return (back_work){.w = w,
                       .diff_dst = call->args[BACK_DIFF_DST].p,
                       .src = call->args[BACK_SRC].p,
                       .table = call->args[BACK_TABLE].p};
}

static void sum_kernel(const ls_call *call, const ls_run *run) {
    back_work b = begin_back(call);
    const size_t channels = b.w->s.channels;
    double *sums = call->args[SUM_SUMS].p;
    float *diff_gamma = call->args[SUM_DIFF_GAMMA].p, *diff_beta = call->args[SUM_DIFF_BETA].p;
    b.lines = call->args[SUM_LINES].p;
    ls_ops_parallel(run->n_threads, (size_t)b.w->n_parts, 1, sum_range, &b);
    add_lines(b.w, b.lines, sums);
    for (size_t c = 0; diff_beta != NULL && c < channels; c++) {
        diff_beta[c] = (float)sums[c];
    }
    for (size_t c = 0; diff_gamma != NULL && c < channels; c++) {
        diff_gamma[c] = (float)sums[channels + c];
    }
}

static void apply_tile(void *context, size_t at, size_t in_period, size_t n) {
    const back_work *b = context;
    float g[TILE], u[TILE];
    const float *restrict scale = line_of(b, LINE_SCALE, in_period), *restrict gamma =
                                                                         line_of(b, LINE_GAMMA, in_period);
    const float *restrict mean_g = line_of(b, LINE_G, in_period), *restrict mean_gu = line_of(b, LINE_GU, in_period);
    load_tile(b, at, in_period, n, g, u);
    for (size_t i = 0; i < n; i++) {
        g[i] = gamma[i] * scale[i] * (g[i] - mean_g[i] - u[i] * mean_gu[i]);
    }
    ls_store_f32(b->w->s.dtype, b->diff_src, at, g, n);
}

static void apply_range(void *context, size_t begin, size_t end) {
    const back_work *b = context;
    for (size_t part = begin; part < end; part++) {
        size_t first = part * b->w->part, last = first + b->w->part;
        each_tile(b->w, first, last < b->w->s.n ? last : b->w->s.n, apply_tile, context);
    }
}

static void apply_kernel(const ls_call *call, const ls_run *run) {
    back_work b = begin_back(call);
    const walk *w = b.w;
    const double *sums = call->args[APPLY_SUMS].p;
    const double n = ((const double *)call->args[APPLY_FORWARD].p)[2 * w->s.channels];
    float *table = call->args[BACK_TABLE].p;
    for (size_t i = 0; i < w->period; i++) {
        size_t c = w->channel[i];
        table[LINE_G * w->period + i] = (float)(sums[c] / n);
        table[LINE_GU * w->period + i] = (float)(sums[w->s.channels + c] / n);
    }
    b.diff_src = call->args[APPLY_DIFF_SRC].p;
    ls_ops_parallel(run->n_threads, (size_t)w->n_parts, 1, apply_range, &b);
}

static ls_call *emit_back(ls_plan *p, const char *label, const ls_bn_sync *s, const ls_bn_gradients *g, ls_ref table,
                          ls_kernel kernel) {
    ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, label, s->node, kernel, new_walk(s), NULL);
    ls_call_arg(c, LS_READ, g->diff_dst);
    ls_call_arg(c, LS_READ, g->src);
    ls_call_arg(c, LS_READ, g->mean);
    ls_call_arg(c, LS_READ, g->variance);
    ls_call_arg(c, LS_READ, g->gamma);
    ls_call_arg(c, LS_READ, g->beta);
    ls_call_arg(c, LS_WRITE, table);
    return c;
}

void ls_bn_emit_backward(ls_plan *p, const ls_bn_sync *s, const ls_bn_gradients *g) {
    walk *w = new_walk(s);
    const size_t table_bytes = N_LINES * w->period * sizeof(float);
    ls_ref sums = ls_plan_temp(p, 2 * s->channels * sizeof(double)), lines = ls_plan_temp(p, lines_bytes(w));
    free(w);
    ls_call *c = emit_back(p, "batch_norm.backward_sums", s, g, ls_plan_temp(p, table_bytes), sum_kernel);
    ls_call_arg(c, LS_WRITE, lines);
    ls_call_arg(c, LS_WRITE, sums);
    ls_call_arg(c, LS_WRITE, g->diff_gamma);
    ls_call_arg(c, LS_WRITE, g->diff_beta);
    if (!ls_ref_some(g->diff_src)) {
        return;
    }
    ls_plan_meet(p, LS_PHASE_BACKWARD, s->node, sums, 2 * s->channels);
    c = emit_back(p, "batch_norm.backward", s, g, ls_plan_temp(p, table_bytes), apply_kernel);
    ls_call_arg(c, LS_READ, g->sums);
    ls_call_arg(c, LS_READ, sums);
    ls_call_arg(c, LS_WRITE, g->diff_src);
}
