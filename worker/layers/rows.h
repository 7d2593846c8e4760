/*
 * The layers there are: one row each, whose class lies in one of the files of this folder. A new layer is a file and a
 * row.
 */
#ifndef LS_WORKER_LAYER_ROWS_H
#define LS_WORKER_LAYER_ROWS_H

#include "worker/layers/layer.h"

#define LS_LAYER_LIST(X)        \
    X(input)                    \
    X(sequential)               \
    X(functional)               \
    X(model)                    \
    X(dense)                    \
    X(activation)               \
    X(relu)                     \
    X(leaky_relu)               \
    X(elu)                      \
    X(softmax)                  \
    X(thresholded_relu)         \
    X(conv1d)                   \
    X(conv2d)                   \
    X(conv3d)                   \
    X(convolution1d)            \
    X(convolution2d)            \
    X(convolution3d)            \
    X(depthwise_conv1d)         \
    X(depthwise_conv2d)         \
    X(separable_conv1d)         \
    X(separable_conv2d)         \
    X(conv1d_transpose)         \
    X(conv2d_transpose)         \
    X(conv3d_transpose)         \
    X(max_pooling1d)            \
    X(max_pooling2d)            \
    X(max_pooling3d)            \
    X(average_pooling1d)        \
    X(average_pooling2d)        \
    X(average_pooling3d)        \
    X(global_max_pooling1d)     \
    X(global_max_pooling2d)     \
    X(global_max_pooling3d)     \
    X(global_average_pooling1d) \
    X(global_average_pooling2d) \
    X(global_average_pooling3d) \
    X(flatten)                  \
    X(reshape)                  \
    X(dropout)                  \
    X(spatial_dropout1d)        \
    X(spatial_dropout2d)        \
    X(spatial_dropout3d)        \
    X(batch_normalization)      \
    X(add)                      \
    X(subtract)                 \
    X(multiply)                 \
    X(average)                  \
    X(maximum)                  \
    X(minimum)                  \
    X(concatenate)              \
    X(permute)                  \
    X(repeat_vector)            \
    X(zero_padding1d)           \
    X(zero_padding2d)           \
    X(zero_padding3d)           \
    X(cropping1d)               \
    X(cropping2d)               \
    X(cropping3d)               \
    X(upsampling1d)             \
    X(upsampling2d)             \
    X(upsampling3d)             \
    X(embedding)                \
    X(layer_normalization)      \
    X(time_distributed)         \
    X(masking)                  \
    X(simple_rnn)               \
    X(lstm)                     \
    X(gru)                      \
    X(jordan)                   \
    X(rnn)                      \
    X(simple_rnn_cell)          \
    X(lstm_cell)                \
    X(gru_cell)                 \
    X(bidirectional)            \
    X(prelu)                    \
    X(dot)                      \
    X(gaussian_noise)           \
    X(gaussian_dropout)         \
    X(alpha_dropout)            \
    X(maxout)                   \
    X(lambda)                   \
    X(rescaling)                \
    X(normalization)            \
    X(attention)                \
    X(additive_attention)       \
    X(multi_head_attention)     \
    X(activity_regularization)  \
    X(random_flip)              \
    X(random_translation)       \
    X(random_zoom)              \
    X(random_rotation)          \
    X(random_crop)              \
    X(random_contrast)          \
    X(random_brightness)        \
    X(center_crop)              \
    X(resizing)

#define X(row) extern const ls_layer_class ls_layer_##row;
LS_LAYER_LIST(X)
#undef X

#endif
