/*
 * Batch statistics that span the lanes: what batch_norm.c adds to a plan for a synchronized layer.
 *
 * With x_i the N numbers of a channel in the whole batch, u_i = (x_i - mean) / sqrt(variance + epsilon), and g_i the
 * gradient of gamma u_i + beta:
 *
 *   mean = sum x / N, variance = sum x^2 / N - mean^2      sums over all lanes
 *   dx_i = gamma / sqrt(variance + epsilon) (g_i - sum g / N - u_i sum (g u) / N)
 *   dbeta = sum g, dgamma = sum (g u)                      sums over the lane: gradients are added over lanes later
 *
 * Numerics  sums are taken in double precision, in which the square of a float is exact: the variance loses
 *           2^-53 mean^2 / variance, a hundred-millionth where the mean is ten thousand deviations.
 */
#ifndef LS_WORKER_OPS_BATCH_NORM_H
#define LS_WORKER_OPS_BATCH_NORM_H

#include "worker/ops/ops_common.h"

/* The lane's array as (n / (channels * after), channels, after). */
typedef struct ls_bn_sync {
    const ls_node *node;
    ls_dtype dtype;
    size_t n, channels, after;
    float epsilon;
    bool unbiased;
    bool relu; /* the result is max(gamma u + beta, 0) */
} ls_bn_sync;

/* Forward: fills mean and variance (channels) f32 of the batch and the "gradients" of the moving statistics. Returns
 * what the backward pass needs of the sums. */
ls_ref ls_bn_emit_statistics(ls_plan *p, const ls_bn_sync *s, ls_ref src, ls_ref mean, ls_ref variance,
                             const ls_weight *moving_mean, const ls_weight *moving_variance);

typedef struct ls_bn_gradients {
    ls_ref diff_dst, src;                   /* read */
    ls_ref mean, variance, sums;            /* of the forward pass */
    ls_ref gamma, beta;                     /* NONE: the layer has none */
    ls_ref diff_gamma, diff_beta, diff_src; /* overwritten; NONE: nobody wants it */
} ls_bn_gradients;
void ls_bn_emit_backward(ls_plan *p, const ls_bn_sync *s, const ls_bn_gradients *g);

#endif
