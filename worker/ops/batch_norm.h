/*
 * Batch normalisation as calls of a plan: what batch_norm.c, which knows the layer, is made of.
 *
 * With x_i the N numbers of a channel, u_i = (x_i - mean) / sqrt(variance + epsilon), r another value that may be
 * added, and y_i = gamma u_i + beta + r_i or the largest of that and 0, and g_i the gradient of what is under the relu:
 *
 *   mean = sum x / N, variance = sum x^2 / N - mean^2
 *   dx_i = gamma / sqrt(variance + epsilon) (g_i - sum g / N - u_i sum (g u) / N), dr = g
 *   dbeta = sum g, dgamma = sum (g u)
 *
 * N and the sums in mean, variance and dx are those of the lane, or where lanes meet of the whole batch; dbeta and
 * dgamma are the lane's, since gradients are added over lanes later. A frozen layer takes mean and variance as
 * constants: dx_i = gamma / sqrt(variance + epsilon) g_i.
 *
 * Numerics  blocks of some thousand numbers are summed in f32 around a value near their mean, blocks in double: the
 *           variance loses 2^-53 mean^2 / variance, a hundred-millionth where the mean is ten thousand deviations. How
 *           the work is cut follows from the shape alone, so that no number of threads changes a bit.
 * Cost      an array is read once for the sums and once for the result.
 */
#ifndef LS_WORKER_OPS_BATCH_NORM_H
#define LS_WORKER_OPS_BATCH_NORM_H

#include "worker/ops/norm_kernels.h"
#include "worker/ops/ops_common.h"

/* The lane's array as (n / (channels * after), channels, after). */
typedef struct ls_bn {
    const ls_node *node;
    ls_dtype dtype;
    size_t n, channels, after;
    float epsilon;
    bool unbiased, frozen;
    bool together;     /* lanes meet */
    ls_norm_relu relu; /* how the gradient finds out where the relu was above 0; LS_NORM_ALL: there is none */
} ls_bn;

/* Fills mean and variance (channels) f32 and the "gradients" of the moving statistics. Returns what the backward pass
 * needs of the sums. */
ls_ref ls_bn_emit_statistics(ls_plan *p, const ls_bn *bn, ls_ref src, ls_ref mean, ls_ref variance,
                             const ls_weight *moving_mean, const ls_weight *moving_variance);

/* What both passes read. */
typedef struct ls_bn_values {
    ls_ref src, mean, variance;
    ls_ref gamma, beta; /* NONE: the layer has none */
} ls_bn_values;

/* added: r; NONE: 0. */
void ls_bn_emit_forward(ls_plan *p, const ls_bn *bn, const ls_bn_values *v, ls_ref added, ls_ref dst);

typedef struct ls_bn_gradients {
    ls_ref diff_dst, more;                  /* read; more: NONE, or to be added to diff_dst */
    ls_ref dst;                             /* read where relu is LS_NORM_FROM_DST */
    ls_ref sums;                            /* of the forward pass */
    ls_ref g;                               /* overwritten; may be diff_dst; NONE: nobody wants it */
    ls_ref diff_gamma, diff_beta, diff_src; /* overwritten; NONE: nobody wants it. diff_src may be diff_dst or g. */
} ls_bn_gradients;
/* g has to be there where `more` is, or relu is LS_NORM_FROM_DST. */
void ls_bn_emit_backward(ls_plan *p, const ls_bn *bn, const ls_bn_values *v, const ls_bn_gradients *g);

#endif
