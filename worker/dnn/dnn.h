/*
 * The seam over oneDNN: the only files that know dnnl.h (2.x and 3.x differ) are worker/dnn/dnn_*.[ch].
 *
 * A layout says how a weight lies in memory as oneDNN's kernels want it; a primitive is one compiled kernel with the
 * memory it was last pointed at. Both are made when a plan is compiled; running a primitive creates nothing.
 *
 * Threads: anything may be created from any thread. One primitive runs in one thread at a time; different primitives
 * may run side by side. A primitive runs with the number of threads that it was made for, whatever the caller's OpenMP
 * setting is, since for some kernels that number is part of what they compute (the order of sums).
 *
 * Errors: LS_EUNSUPPORTED when oneDNN has no kernel for what was asked, LS_ELIBRARY for all else; the sentence names
 * the primitive and its shapes.
 */
#ifndef LS_WORKER_DNN_H
#define LS_WORKER_DNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/model/model.h"

/* ---- layouts of weights ---- */

/* Layouts are shared and live as long as the process: equal layouts are the same pointer. */

/* Floats that the layout takes, padding included. */
size_t ls_layout_elems(const ls_layout *layout);
bool ls_layout_equal(const ls_layout *a, const ls_layout *b);
/* Whether a dense kernel lies in panels of so many columns (units): what belongs to input i and unit u is at
 * (u / width * rows + i) * width + u % width; with padding it has so many rows (inputs) and columns. */
bool ls_layout_panels(const ls_layout *layout, size_t *rows, size_t *cols, size_t *width);
/* Between the layout and Keras's order (which the layout knows too); from_keras writes zeros into the padding. Plain
 * copies when layout is NULL are the caller's. */
void ls_layout_to_keras(const ls_layout *layout, const float *from, float *keras_order);
void ls_layout_from_keras(const ls_layout *layout, const float *keras_order, float *to);

/* The instruction set that kernels use ("avx512_core_bf16"), and whether bfloat16 is fast here. The promise of equal
 * bits holds for one instruction set. */
const char *ls_dnn_isa(void);
bool ls_dnn_has_bf16(void);
const char *ls_dnn_version(void);

/* How many threads the kernels called from this thread use from now on. */
void ls_dnn_set_threads(int n_threads);

/* What a matrix product of 1024 x 1024 x 1024 in LS_F32 or LS_BF16 reaches with n_threads, the fastest of 0.15 s of
 * them: the measure for shares of peak. */
ls_status ls_dnn_peak_gflops(ls_dtype dtype, int n_threads, double *gflops, ls_err *err) LS_MUST_CHECK;

/* ---- what a primitive's arguments look like ---- */

/*
 * A memory description in oneDNN's order of axes: activations (N, C, spatial..), dense weights (units, in), convolution
 * weights (O, I, spatial..) or, with groups, (G, O/G, I/G, spatial..). The strides say where Keras's order puts each
 * axis.
 */
typedef struct ls_md {
    int rank; /* 0: absent */
    int64_t dim[LS_MAX_RANK];
    int64_t stride[LS_MAX_RANK]; /* in elements */
    ls_dtype dtype;
    bool any;                /* the kernel may choose another layout; stride still is Keras's order */
    const ls_layout *layout; /* not NULL: exactly this one, with dtype */
} ls_md;

/* (n, shape), channels last, as (n, C, spatial..). */
ls_md ls_md_channels_last(int64_t n, const ls_shape *shape, ls_dtype dtype);
/* (n, c) */
ls_md ls_md_matrix(int64_t n, int64_t c, ls_dtype dtype);
/* (n) */
ls_md ls_md_vector(int64_t n, ls_dtype dtype);
/* m with another freedom of layout. */
ls_md ls_md_in(ls_md m, const ls_layout *layout, ls_dtype dtype);

/* ---- primitives ---- */

typedef struct ls_prim ls_prim;

typedef enum {
    LS_ARG_SRC,
    LS_ARG_WEIGHTS,
    LS_ARG_BIAS,
    LS_ARG_DST,
    LS_ARG_WORKSPACE,
    LS_ARG_DIFF_SRC,
    LS_ARG_DIFF_DST,
    LS_ARG_DIFF_WEIGHTS,
    LS_ARG_DIFF_BIAS,
    LS_ARG_SCRATCHPAD,
    LS_ARG_COUNT
} ls_prim_arg;

typedef enum { LS_PASS_TRAINING, LS_PASS_INFERENCE, LS_PASS_BACKWARD_DATA, LS_PASS_BACKWARD_WEIGHTS } ls_pass;

/* Dense when n_spatial is 0, otherwise convolution. The four descriptions are those of the forward pass, or of their
 * gradients in the backward passes; bias may be absent. relu: forward only, dst = max(0, ..). */
typedef struct ls_linear_desc {
    ls_md src, weights, bias, dst;
    int n_spatial;
    int64_t stride[3], dilation[3], pad_before[3], pad_after[3]; /* dilation 1: none */
    bool transposed;
    bool relu;
} ls_linear_desc;
ls_status ls_prim_linear(ls_prim **out, const ls_linear_desc *desc, ls_pass pass, int n_threads,
                         ls_err *err) LS_MUST_CHECK;

/* Max pooling in training leaves a workspace; averages exclude the padding. BACKWARD_DATA is the only backward. */
typedef struct ls_pool_desc {
    ls_md src, dst;
    int n_spatial;
    int64_t kernel[3], stride[3], pad_before[3], pad_after[3];
    bool average;
} ls_pool_desc;
ls_status ls_prim_pool(ls_prim **out, const ls_pool_desc *desc, ls_pass pass, int n_threads, ls_err *err) LS_MUST_CHECK;

/* dst = src weights for each place of the first axis: (batch, m, k) (batch, k, n) -> (batch, m, n), or without that
 * axis; add: dst += src weights. LS_PASS_* do not apply: a gradient is another product. */
ls_status ls_prim_matmul(ls_prim **out, const ls_md *src, const ls_md *weights, const ls_md *dst, bool add,
                         int n_threads, ls_err *err) LS_MUST_CHECK;

/* dst = src in another layout or type. */
ls_status ls_prim_reorder(ls_prim **out, const ls_md *src, const ls_md *dst, int n_threads, ls_err *err) LS_MUST_CHECK;

void ls_prim_destroy(void *prim);

/* The arguments in the order in which ls_prim_run wants their pointers; every one has n_bytes and must be given. */
int ls_prim_n_args(const ls_prim *prim);
ls_prim_arg ls_prim_arg_at(const ls_prim *prim, int i, bool *written, size_t *n_bytes);
/* Bytes of one argument, 0 when the primitive has none. */
size_t ls_prim_arg_bytes(const ls_prim *prim, ls_prim_arg arg);
/* The layout chosen for the weights (or their gradient); NULL when it is Keras's order. */
const ls_layout *ls_prim_weight_layout(const ls_prim *prim);
/* oneDNN's name of the kernel, "brgconv:avx512_core". */
const char *ls_prim_kernel(const ls_prim *prim);

/*
 * Runs. pointers[i] is the memory of argument i, 64-byte aligned for speed. Handles are set only when they changed.
 * Any failure here is a bug or an exhausted machine and ends the process with a message.
 */
void ls_prim_run(ls_prim *prim, void *const *pointers);

#endif
