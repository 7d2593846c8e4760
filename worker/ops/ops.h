/*
 * The operators there are, and the attributes that a layer gives each. Weights are in the order given here.
 */
#ifndef LS_WORKER_OPS_H
#define LS_WORKER_OPS_H

#include "worker/plan/operator.h"

/* Element-wise activations and softmax, of which each has one row in activation.c. */
#define LS_ACTIVATION_LIST(X)       \
    X(LINEAR, "linear")             \
    X(RELU, "relu")                 \
    X(SIGMOID, "sigmoid")           \
    X(TANH, "tanh")                 \
    X(SOFTMAX, "softmax")           \
    X(ELU, "elu")                   \
    X(SELU, "selu")                 \
    X(SOFTPLUS, "softplus")         \
    X(SOFTSIGN, "softsign")         \
    X(HARD_SIGMOID, "hard_sigmoid") \
    X(EXPONENTIAL, "exponential")   \
    X(SWISH, "swish")               \
    X(GELU, "gelu")                 \
    X(STEP, "step")

typedef enum {
#define X(name, word) LS_ACT_##name,
    LS_ACTIVATION_LIST(X)
#undef X
        LS_ACT_COUNT
} ls_act_kind;

typedef struct ls_act_attr {
    ls_act_kind kind;
    float alpha;     /* relu: slope below threshold; elu: scale; gelu: 1 for the tanh form */
    float max_value; /* relu: ceiling, INFINITY for none */
    float threshold; /* relu, step */
    int axis;        /* softmax: axis of the sample's shape, 0-based */
} ls_act_attr;
extern const ls_operator ls_op_activation;
/* A relu without ceiling, slope or threshold: what the heavy operators fuse. */
bool ls_act_is_plain_relu(const ls_node *activation);

/* y = x W + b over the last axis. in (.., in), W (in, units), b (units); these may have more axes, with the same
 * numbers of elements. */
extern const ls_operator ls_op_dense;

/* Convolution of 1 to 3 spatial axes. in (spatial.., C), kernel (k.., C/groups, filters), bias (filters).
 * Depthwise: kernel (k.., C, multiplier), output channel c * multiplier + m.
 * transposed: kernel (k.., filters, C); pads are those of the forward convolution that it is the gradient of. */
typedef struct ls_conv_attr {
    int n_spatial;
    int64_t kernel[3], stride[3], dilation[3], pad_before[3], pad_after[3];
    int64_t groups;
    bool depthwise, transposed;
} ls_conv_attr;
extern const ls_operator ls_op_conv;

/* Max or average pooling; averages divide by the number of cells inside the image. */
typedef struct ls_pool_attr {
    int n_spatial;
    bool average;
    int64_t kernel[3], stride[3], pad_before[3], pad_after[3];
} ls_pool_attr;
extern const ls_operator ls_op_pool;

/* Global pooling over all axes but the last: in (.., C) -> (C) (or (1.., C) as the output shape says). Average takes
 * in[0]->mask into account when it is of one axis. */
typedef struct ls_global_pool_attr {
    bool average;
} ls_global_pool_attr;
extern const ls_operator ls_op_global_pool;

/* Weights: gamma (if scale), beta (if center), moving mean, moving variance. `frozen`: uses the moving statistics in
 * training as well. unbiased: the moving variance takes n/(n-1) times the batch variance (rank-4 input, as TF's fused
 * kernel does). sync: the statistics are those of the whole batch, whatever lanes it is cut into. */
typedef struct ls_batch_norm_attr {
    int axis; /* of the sample's shape, 0-based */
    float epsilon;
    bool scale, center, frozen, unbiased, sync;
} ls_batch_norm_attr;
extern const ls_operator ls_op_batch_norm;

/* y = x * mask / (1 - rate) in training, y = x otherwise. keep_axes: bit i set: the mask is drawn along axis i of the
 * sample's shape; clear: shared along it (SpatialDropout, noise_shape). */
typedef struct ls_dropout_attr {
    double rate;
    unsigned keep_axes;
    bool whole_batch; /* all samples share one mask */
} ls_dropout_attr;
extern const ls_operator ls_op_dropout;

typedef enum {
    LS_MERGE_ADD,
    LS_MERGE_SUBTRACT,
    LS_MERGE_MULTIPLY,
    LS_MERGE_AVERAGE,
    LS_MERGE_MAXIMUM,
    LS_MERGE_MINIMUM
} ls_merge_kind;
typedef struct ls_merge_attr {
    ls_merge_kind kind;
} ls_merge_attr;
extern const ls_operator ls_op_merge; /* element-wise over inputs, with Keras's broadcasting of size-1 axes */

typedef struct ls_concat_attr {
    int axis; /* of the sample's shape, 0-based */
} ls_concat_attr;
extern const ls_operator ls_op_concat;

/* Every output element is one input element or zero: transposition, repetition, padding, cropping, nearest up-sampling.
 * Along output axis a, the index i reads input axis source[a] (-1: none, every i alike) at i / factor[a] - before[a];
 * outside of the input it is zero. Each input axis is the source of one output axis. */
typedef struct ls_rearrange_attr {
    int source[LS_MAX_RANK];     /* by axis of the output sample's shape */
    int64_t factor[LS_MAX_RANK]; /* >= 1 */
    int64_t before[LS_MAX_RANK]; /* padding in front; negative: cells cut off */
} ls_rearrange_attr;
extern const ls_operator ls_op_rearrange;

/* The window [start, start + length) of an image (H, W, C), resized to the output's H and W: bilinear, or the nearest
 * cell, with half-pixel centres; beyond the window its border goes on. Source: tf.image.resize of TensorFlow 2 without
 * antialias. */
typedef struct ls_resize_attr {
    int64_t start[2], length[2]; /* H, W */
    bool nearest;
} ls_resize_attr;
extern const ls_operator ls_op_resize;
/* The largest window in the middle of (H, W, C) that has the aspect ratio of `out`. Source:
 * tf_keras/utils/image_utils.py, smart_resize. */
ls_resize_attr ls_resize_window(const ls_shape *in, const ls_shape *out);
/* What ls_op_resize adds to a plan, for an operator that is a resize in some plans. */
void ls_resize_emit(ls_plan *p, const ls_node *node, const ls_resize_attr *a);

/* How an image goes on beyond its border, as in TensorFlow's ImageProjectiveTransformV3, for an image abcd:
 * dcba|abcd|dcba, abcd|abcd|abcd, kkkk|abcd|kkkk, aaaa|abcd|dddd. */
#define LS_FILL_LIST(X)     \
    X(REFLECT, "reflect")   \
    X(WRAP, "wrap")         \
    X(CONSTANT, "constant") \
    X(NEAREST, "nearest")
typedef enum {
#define X(name, word) LS_FILL_##name,
    LS_FILL_LIST(X)
#undef X
        LS_FILL_COUNT
} ls_fill;

/*
 * In training a random geometry for each image (H, W, C); otherwise y = x, and for CROP the window of ls_resize_window.
 * What an output cell takes from the input, with numbers u of axis 0 (H) and 1 (W) drawn from [low, high):
 *
 *   FLIP       mirrored along each axis of `flips` in one case of two
 *   TRANSLATE  at (i - u0 H, j - u1 W)
 *   ZOOM       at (1 + u) times the place, about the middle of the image; `together`: one u for both axes
 *   ROTATE     turned by 2 pi u0 about the middle
 *   CROP       at (i + r0, j + r1), r drawn evenly from the places where the output fits
 *
 * bilinear or from the nearest cell. Draws are those of a sample, step and layer (worker/ops/draw.h).
 */
typedef enum { LS_WARP_FLIP, LS_WARP_TRANSLATE, LS_WARP_ZOOM, LS_WARP_ROTATE, LS_WARP_CROP } ls_warp_kind;
typedef struct ls_warp_attr {
    ls_warp_kind kind;
    bool flips[2], together, nearest;
    double low[2], high[2];
    ls_fill fill;
    float fill_value; /* CONSTANT */
} ls_warp_attr;
extern const ls_operator ls_op_warp;

/* In training, with u drawn for each image from [low, high): (x - m) u + m, m the mean of each channel (contrast), or
 * x + u (max - min) (brightness), both cut to [min, max]; otherwise y = x. */
typedef struct ls_tone_attr {
    bool contrast;
    double low, high;
    float min, max;
} ls_tone_attr;
extern const ls_operator ls_op_tone;

/* (x - mean) / sqrt(variance + epsilon) over the last n_axes axes of each row, variance biased, then times gamma and
 * plus beta, which have the shape of these axes. Weights: gamma (if scale), beta (if center). */
typedef struct ls_layer_norm_attr {
    int n_axes;
    float epsilon;
    bool scale, center;
} ls_layer_norm_attr;
extern const ls_operator ls_op_layer_norm;

/*
 * Recurrent layers. in[0] (T, C), then initial states (units) if given: h, and c for LSTM; in[0]->mask, if any, says
 * which steps count. Weights: kernel (C, G units), recurrent_kernel (units, G units), bias if any: (G units), or
 * (2, G units) for GRU with reset_after. Jordan: kernel (C, hidden), recurrent_kernel (units, hidden), bias (hidden) if
 * any, output_kernel (hidden, units), output_bias (units) if any. out[0] (T, units) or (units), then the last states if
 * return_state.
 */
typedef enum { LS_CELL_SIMPLE, LS_CELL_LSTM, LS_CELL_GRU, LS_CELL_GRU_RESET_AFTER, LS_CELL_JORDAN } ls_cell_kind;
typedef struct ls_rnn_attr {
    ls_cell_kind cell;
    int64_t units, hidden;                        /* hidden: Jordan's */
    ls_act_attr activation, recurrent_activation; /* Jordan: of the hidden layer, of the output */
    bool use_bias;
    bool sequences;   /* out[0] is every step's output, not the last one's */
    bool backwards;   /* steps are taken from the last to the first */
    bool flip;        /* out[0] goes in the reverse of the order in which steps were taken */
    bool zero_masked; /* masked steps give zeros, not the output before them */
    bool stateful;    /* goes on with, and leaves, ls_run.states[first_state], and for LSTM the one after it */
    int first_state;
    double dropout, recurrent_dropout; /* in training */
} ls_rnn_attr;
extern const ls_operator ls_op_rnn;

/* y = W[x]: in (..) whole numbers (LS_I32, or held as f32), W (input_dim, output_dim), out (.., output_dim). A number
 * outside of [0, input_dim) gives NaN, which stops training at that step. No gradient passes to the input; the table's
 * is dense. No attributes. */
extern const ls_operator ls_op_embedding;

/* Masks: f32 of 0 and 1, no gradient. NONZERO: in (T), 1 where it is not 0. DIFFERS: in (T, ..) -> (T), 1 where any
 * element of the step differs from `value`. */
typedef struct ls_mask_attr {
    bool differs;
    float value;
} ls_mask_attr;
extern const ls_operator ls_op_mask;
/* y = w x, everywhere or only where x < 0 (PReLU). The weight has the sample's shape without (or with 1 for) the axes
 * in shared_axes (bit i: axis i of the sample's shape). */
typedef struct ls_scale_attr {
    bool negative_only;
    unsigned shared_axes;
} ls_scale_attr;
extern const ls_operator ls_op_scale;

/* C = op(A) op(B) over the last two axes, for each place of the others: A (.., m, k), B (.., k, n), or with the two
 * axes exchanged where transpose says so; C (.., m, n). */
typedef struct ls_matmul_attr {
    bool transpose_a, transpose_b;
} ls_matmul_attr;
extern const ls_operator ls_op_matmul;

/* y = x / sqrt(max(sum of x^2 over the axis, 1e-12)) */
typedef struct ls_l2_attr {
    int axis; /* of the sample's shape, 0-based */
} ls_l2_attr;
extern const ls_operator ls_op_l2_normalize;

/* In training: y = x + amount N(0, 1); y = x N(1, amount / (1 - amount)), amount a rate; AlphaDropout of a rate. Drawn
 * for each sample by its index, as dropout is. Otherwise y = x. */
typedef enum { LS_NOISE_ADD, LS_NOISE_MULTIPLY, LS_NOISE_ALPHA } ls_noise_kind;
typedef struct ls_noise_attr {
    ls_noise_kind kind;
    double amount;
} ls_noise_attr;
extern const ls_operator ls_op_noise;

/* y = x, and (l1 sum |x| + l2 sum x^2) / rows of the batch is added to the loss. */
typedef struct ls_activity_attr {
    double l1, l2;
} ls_activity_attr;
extern const ls_operator ls_op_activity;

/* softmax over the last axis of (scale x - 1e9 where a place may not be looked at). in[0] scores (.., Tq, Tk); then, if
 * they are there, masks of 0 and 1: of keys (Tk), of queries (Tq), of pairs (Tq, Tk). causal: keys after the query are
 * not looked at. */
typedef struct ls_attention_attr {
    float scale;
    bool causal, key_mask, query_mask, pair_mask;
} ls_attention_attr;
extern const ls_operator ls_op_attention;

/* y[t, s] = sum over d of w[d] tanh(c (q[t, d] + k[s, d])): in q (Tq, D), k (Tk, D), out (Tq, Tk). Weights, if they are
 * there: c (one number), w (one number, or D); else 1. */
typedef struct ls_additive_attr {
    bool has_c, has_w;
} ls_additive_attr;
extern const ls_operator ls_op_additive_scores;

/* y = (x - shift) * factor + offset with n numbers each, n the product of the axes that are not shared. constants:
 * (3, n), the model's; NULL: from the weights mean, variance (and count, unused), factor = 1 / max(sqrt(variance),
 * 1e-7), or with invert the way back. */
typedef struct ls_affine_attr {
    unsigned shared_axes; /* bit i: axis i of the sample's shape */
    bool invert;
    const float *constants;
} ls_affine_attr;
extern const ls_operator ls_op_affine;

/* The same numbers under another shape or row count: Flatten, Reshape, TimeDistributed's views. No attributes. */
extern const ls_operator ls_op_view;

#endif
