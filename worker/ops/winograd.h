/*
 * Winograd's minimal filtering F(4x4, 3x3): 3x3 convolutions with stride 1 in a quarter of the multiplications.
 *
 * The output is cut into tiles of 4x4; each depends on a patch d of 6x6 inputs. With matrices A, B, G of numbers,
 *
 *     y = A^T [ sum over input channels of (G g G^T) * (B^T d B) ] A                     (* element by element)
 *     dg = G^T [ sum over tiles of (B^T d B) * (A dy A^T) ] G
 *
 * so for each of the 36 places there is a matrix product over tiles and channels, and that is where the time goes. The
 * gradient of the input is a convolution of dy with the kernel turned round and its channels exchanged.
 *
 * Tiles are worked off in blocks that stay in the second-level cache. Whatever the type of the activations in memory,
 * transforms are f32. So are products, unless the kernels are half ones, which round both factors to bf16 and sum in
 * f32.
 *
 * Numerics  points 0, 5/8, -5/8, 3/2, -3/2 and infinity. Against a direct convolution in double, 64 channels of
 *           normally distributed values: root mean square of the error 8e-7 of that of the result forward, 1.3e-6
 *           backward to the weights (2e-7 for direct convolutions in f32); with half kernels 1.1e-2, seven times that
 * of a direct convolution of bf16 values. What is computed for a sample depends on its values alone, not on n_threads,
 * nor on the samples beside it; gradients of weights are summed over tiles in fixed blocks. Source    Lavin & Gray,
 * Fast Algorithms for Convolutional Neural Networks, CVPR 2016; Barabasz et al., Error Analysis and Improving the
 * Accuracy of Winograd Convolution, 2018
 */
#ifndef LS_WORKER_OPS_WINOGRAD_H
#define LS_WORKER_OPS_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/model/model.h"

enum { LS_WINO_TILE = 4, LS_WINO_PATCH = 6, LS_WINO_PLACES = 36 };

/* One convolution: src (n, in_h, in_w, in_c), dst (n, out_h, out_w, out_c), weights (3, 3, in_c, out_c), all dense. */
typedef struct ls_wino {
    int64_t n, in_h, in_w, in_c, out_h, out_w, out_c;
    int64_t pad_top, pad_left; /* 0 to 2; what lies beyond src is zero, below and to the right too */
    ls_dtype dtype;            /* of src and dst: LS_F32, LS_BF16 */
    const struct ls_wino_kernels *kernels;
} ls_wino;

/* The kernels for an instruction set (ls_dnn_isa), half: those with products of bf16; NULL when there are none for it.
 */
const struct ls_wino_kernels *ls_wino_kernels_for(const char *isa, bool half);

/* The convolution that makes the gradient of the input out of that of the output: its src is w's dst. */
ls_wino ls_wino_mirror(const ls_wino *w);

/* Whether it beats a direct convolution, estimated for a whole training step from channels and image alone: not from n,
 * so that the bits of a sample's result do not depend on the batch that it is in, and never measured, so that all ranks
 * decide alike. backward: the same convolution with the kernels of its gradients. direct_speed: of direct convolutions,
 * relative to f32. */
bool ls_wino_pays(const ls_wino *forward, const ls_wino *backward, double direct_speed);

/* G g G^T for ls_wino_apply: `to` has ls_wino_weight_elems floats, 64-byte aligned. mirrored: w is the mirror of the
 * convolution that the weights (3, 3, out_c, in_c) belong to. */
size_t ls_wino_weight_elems(const ls_wino *w);
void ls_wino_weights(const ls_wino *w, int n_threads, const float *weights, bool mirrored, float *to);

/* dst = convolution of src (+ bias (out_c), or NULL), max(0, ..) with relu. scratch is 64-byte aligned. */
size_t ls_wino_apply_bytes(const ls_wino *w, int n_threads);
void ls_wino_apply(const ls_wino *w, int n_threads, const void *src, const float *transformed, const float *bias,
                   bool relu, void *dst, void *scratch);

/* dweights (3, 3, in_c, out_c) and, unless NULL, dbias (out_c) are overwritten. */
size_t ls_wino_gradient_bytes(const ls_wino *w, int n_threads);
void ls_wino_gradient(const ls_wino *w, int n_threads, const void *src, const void *ddst, float *dweights, float *dbias,
                      void *scratch);

#endif
