/*
 * The gradient of a dense kernel from few samples, dW = x^T dz, where a general product spends its time on fetching and
 * storing dW: sums over a few lanes are taken before anything is stored.
 *
 * Each lane packs its factors, words of the bf16 values of two samples each; then the blocks of dW are computed one by
 * one, all lanes of a block while it is in registers.
 *
 * Numerics  x and dz are bf16. A lane's products are summed in f32 over pairs of samples in order; lanes are then added
 *           along the tree of lanes (reduce/lanes.h) over `n_lanes`, a node of it: the same bits as if each lane had
 *           been stored and then added. Denormals are zero.
 */
#ifndef LS_WORKER_OPS_OUTER_H
#define LS_WORKER_OPS_OUTER_H

#include "worker/ops/linear.h"

/* x (n, in), dz (n, units), both dense. dW f32 in panels of `width` units (ls_layout_panels), with padding (rows,
 * cols), which becomes zero; width is a multiple of a block's columns, or there is one panel and no padding. */
typedef struct ls_outer {
    size_t n, in, units;
    size_t rows, cols, width;
} ls_outer;

enum {
    LS_OUTER_ROWS = 8,    /* of dW in a block */
    LS_OUTER_COLS = 32,   /* of dW in a panel; 16, where there are no more */
    LS_OUTER_LEVELS = 24, /* of the tree of lanes */
};

/* Words of a lane's factors: x as [blocks of rows][pairs of samples][LS_OUTER_ROWS], dz as [panels][pairs][columns].
 * What is missing at the ends is zero. */
static inline size_t ls_outer_pairs(const ls_outer *o) {
    return (o->n + 1) / 2;
}
static inline size_t ls_outer_blocks(const ls_outer *o) {
    return (o->rows + LS_OUTER_ROWS - 1) / LS_OUTER_ROWS;
}
static inline size_t ls_outer_panel(const ls_outer *o) {
    return o->cols > LS_OUTER_COLS / 2 ? LS_OUTER_COLS : LS_OUTER_COLS / 2;
}
static inline size_t ls_outer_panels(const ls_outer *o) {
    return (o->cols + ls_outer_panel(o) - 1) / ls_outer_panel(o);
}
static inline size_t ls_outer_x_words(const ls_outer *o) {
    return ls_outer_blocks(o) * LS_OUTER_ROWS * ls_outer_pairs(o);
}
static inline size_t ls_outer_dz_words(const ls_outer *o) {
    return ls_outer_panels(o) * ls_outer_panel(o) * ls_outer_pairs(o);
}

typedef struct ls_outer_kernels {
    void (*pack_x)(const ls_outer *o, const uint16_t *x, uint32_t *to);
    /* dbias (units) f32, unless NULL: sums over the samples, in order. */
    void (*pack_dz)(const ls_outer *o, const uint16_t *dz, uint32_t *to, float *dbias);
    /* Blocks [begin, end) of rows of dW. Lane l's factors lie l * x_step and l * dz_step words from the first's. */
    void (*sum)(const ls_outer *o, size_t n_lanes, const uint32_t *x, size_t x_step, const uint32_t *dz, size_t dz_step,
                size_t begin, size_t end, float *dw);
} ls_outer_kernels;

/* NULL where the compiler cannot make them; for processors with AVX512-BF16. */
extern const ls_outer_kernels *const ls_outer_avx512_bf16;

/* Whether it computes the gradient of the node's kernel: bfloat16, few rows, and a processor that has the instructions.
 * The same for all plans with the same number of rows. */
bool ls_outer_takes(const ls_plan *p, const ls_linear_desc *d);

/* Adds the call. dz: gradient of the result; d->bias.rank: that of the bias too. */
ls_status ls_outer_backward_weights(ls_plan *p, const ls_node *node, const ls_linear_desc *d, const char *label,
                                    double flops, ls_ref src, ls_ref dz, ls_err *err) LS_MUST_CHECK;

#endif
