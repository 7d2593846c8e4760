/*
 * The loops of batch normalisation, one file an instruction set.
 *
 * An array is seen as rows of `period` elements, the last of which may be shorter; what belongs to an element's channel
 * stands at the element's place in a line of `period` numbers. Lines have room for a whole number of LS_NORM_PAD.
 */
#ifndef LS_WORKER_OPS_NORM_KERNELS_H
#define LS_WORKER_OPS_NORM_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

enum { LS_NORM_PAD = 16 };

/* Which elements of a gradient count: all, or those where the relu's result is above zero, which is found from src and
 * the lines, or read in dst. */
typedef enum { LS_NORM_ALL, LS_NORM_FROM_SRC, LS_NORM_FROM_DST } ls_norm_relu;

typedef struct ls_norm_work {
    bool bf16; /* arrays hold LS_BF16, else LS_F32 */
    ls_norm_relu relu;
    size_t period;
    const void *src;
    const void *more; /* forward: added before the relu; gradient_sums: to diff_dst. NULL: nothing */
    const float *mean, *scale, *shift;
    /* backward */
    const void *diff_dst, *dst;
    const float *of_mean, *of_deviation;
    /* overwritten */
    void *to;
} ls_norm_work;

/* A block: the first `columns` of each of `rows` rows; element `at` of the arrays is its first. */
typedef struct ls_norm_block {
    size_t at, rows, columns;
} ls_norm_block;

typedef struct ls_norm_kernels {
    /* Adds src and src^2 to sum and square (period). A block is summed in f32 around a value near its mean, so that
     * nothing cancels. */
    void (*sums)(const ls_norm_work *w, const ls_norm_block *b, double *sum, double *square);
    /* to = (src - mean) scale + shift (+ more), and unless relu is LS_NORM_ALL max(0, ..) of it. */
    void (*forward)(const ls_norm_work *w, const ls_norm_block *b);
    /* g = diff_dst (+ more), 0 where the relu says so; adds g and g (src - mean) to sum_g and sum_gd (period). to,
     * unless NULL: g; it may be diff_dst's memory. */
    void (*gradient_sums)(const ls_norm_work *w, const ls_norm_block *b, double *sum_g, double *sum_gd);
    /* to = scale (g - of_mean - (src - mean) of_deviation), g = diff_dst, or 0 where relu is LS_NORM_FROM_SRC and says
     * so. */
    void (*gradient)(const ls_norm_work *w, const ls_norm_block *b);
} ls_norm_kernels;

/* NULL where the compiler cannot make them. */
extern const ls_norm_kernels *const ls_norm_avx512_bf16, *const ls_norm_avx512, *const ls_norm_avx2,
                                                                                    *const ls_norm_plain;

#endif
