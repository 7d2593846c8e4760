/*
 * What layers with 1 to 3 spatial axes share: reading kernel_size, strides, padding; sizes and padding.
 */
#ifndef LS_WORKER_SPATIAL_H
#define LS_WORKER_SPATIAL_H

#include "worker/layers/layer.h"

enum { LS_MAX_SPATIAL = 3, LS_MAX_WINDOW = 1 << 20 /* of kernels, strides and the like */ };
typedef enum { LS_PAD_VALID, LS_PAD_SAME, LS_PAD_CAUSAL } ls_padding;

/* The call's input has the class's number of spatial axes before the channels. */
ls_status ls_spatial_check_input(const ls_layer_call *call, ls_err *err) LS_MUST_CHECK;

/* An integer for all axes, or a list with one for each; absent or null: out is left as it is, unless required. */
ls_status ls_spatial_ints(const ls_layer_call *call, const char *key, bool required, int64_t min, int64_t *out,
                          ls_err *err) LS_MUST_CHECK;
ls_status ls_spatial_padding(const ls_layer_call *call, bool causal_allowed, ls_padding *out,
                             ls_err *err) LS_MUST_CHECK;

/* Output length of one axis and its padding. Source: tf_keras/utils/conv_utils.py; same: TensorFlow's rule,
 * total = max((ceil(n/s) - 1) * s + (k - 1) * d + 1 - n, 0), before = total / 2. <= 0: the kernel does not fit. */
int64_t ls_spatial_out(ls_padding padding, int64_t n, int64_t kernel, int64_t stride, int64_t dilation,
                       int64_t *pad_before, int64_t *pad_after);

#endif
