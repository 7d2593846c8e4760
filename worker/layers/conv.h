/* What the convolutions share. */
#ifndef LS_WORKER_LAYER_CONV_H
#define LS_WORKER_LAYER_CONV_H

#include "worker/layers/spatial.h"
#include "worker/ops/ops.h"

/* kernel_size, strides, dilation_rate, groups and padding of the configuration. */
ls_status ls_conv_read(const ls_layer_call *call, ls_conv_attr *a, ls_padding *padding, ls_err *err) LS_MUST_CHECK;
/* The output's shape but for its channels, which are still the input's, and the padding that makes it. */
ls_status ls_conv_place(const ls_layer_call *call, ls_conv_attr *a, ls_padding padding, ls_shape *out,
                        ls_err *err) LS_MUST_CHECK;
ls_status ls_conv_filters(const ls_layer_call *call, int64_t *filters, ls_err *err) LS_MUST_CHECK;
/* (k.., second_last, last) */
void ls_conv_kernel_shape(const ls_conv_attr *a, int64_t second_last, int64_t last, ls_shape *out);
/* The node on `in`, with a bias unless use_bias is false, and the activation: the call's only output. */
ls_status ls_conv_finish(ls_builder *b, ls_layer_call *call, const ls_conv_attr *a, ls_tensor *in, ls_weight *kernel,
                         const ls_shape *out, ls_err *err) LS_MUST_CHECK;

#endif
