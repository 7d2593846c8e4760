/*
 * The gradient of a dense kernel from few samples, dW = x^T dz, where a general product spends its time on fetching and
 * storing dW: a block of it is summed up in registers and stored once, over a few lanes too.
 *
 * Each lane packs its factors (x only where it does not last as long); then the blocks of dW are computed one by one,
 * all lanes of a block while it is in registers. Some blocks make a call of the plan, so that what they complete can be
 * added and applied while it is in the caches (ls_plan_dweight_upto).
 *
 * Numerics  x and dz are bf16 or f32. A lane's products are summed in f32 over its samples in order, of bf16 by pairs;
 *           lanes are then added along the tree of lanes (reduce/lanes.h) over `n_lanes`, a node of it. The same bits
 *           as if each lane had been stored and then added, whatever the threads and calls. In bf16 denormals are zero.
 */
#ifndef LS_WORKER_OPS_OUTER_H
#define LS_WORKER_OPS_OUTER_H

#include "worker/ops/linear.h"

/* x (n, in), dz (n, units), both dense. dW f32 in strips of `width` units (ls_layout_panels), with padding (rows,
 * cols), which becomes zero; width is a multiple of a panel's columns, or there is one strip and no padding. */
typedef struct ls_outer {
    size_t n, in, units;
    size_t rows, cols, width;
    size_t samples; /* in a word of a factor: the kernels' */
    size_t tall;    /* rows of dW that a block has at most: the kernels' */
    size_t apart;   /* words from a sample to the next of an x that is not packed, a word a sample; 0: it is */
} ls_outer;

enum {
    LS_OUTER_COLS = 32,   /* of dW in a panel; 16, where there are no more */
    LS_OUTER_LEVELS = 24, /* of the tree of lanes */
    LS_OUTER_NEAR = LS_RUN_NEAR,
};

/*
 * The rows of dW are cut into blocks that differ by one row at most. Words of a lane's factors: x as [blocks][words of
 * samples][rows of the block], dz as [panels][words][columns]. What is missing at the ends is zero; a single block that
 * has less than half of the rows it could have is packed as if it had those.
 */
static inline size_t ls_outer_words(const ls_outer *o) {
    return (o->n + o->samples - 1) / o->samples;
}
static inline size_t ls_outer_blocks(const ls_outer *o) {
    return (o->rows + o->tall - 1) / o->tall;
}
static inline size_t ls_outer_row(const ls_outer *o, size_t block) {
    const size_t blocks = ls_outer_blocks(o), more = o->rows % blocks;
    return block * (o->rows / blocks) + (block < more ? block : more);
}
static inline size_t ls_outer_strips(const ls_outer *o) {
    return (o->cols + o->width - 1) / o->width;
}
static inline size_t ls_outer_panel(const ls_outer *o) {
    return o->cols > LS_OUTER_COLS / 2 ? LS_OUTER_COLS : LS_OUTER_COLS / 2;
}
static inline size_t ls_outer_panels(const ls_outer *o) {
    return (o->cols + ls_outer_panel(o) - 1) / ls_outer_panel(o);
}
static inline size_t ls_outer_x_words(const ls_outer *o) {
    return (o->rows > o->tall / 2 ? o->rows : o->tall / 2) * ls_outer_words(o);
}
static inline size_t ls_outer_dz_words(const ls_outer *o) {
    return ls_outer_panels(o) * ls_outer_panel(o) * ls_outer_words(o);
}
/* Floats of dW that lie before block number `at`, counted strip by strip. */
static inline size_t ls_outer_before(const ls_outer *o, size_t at) {
    const size_t blocks = ls_outer_blocks(o);
    return (at / blocks * o->rows + ls_outer_row(o, at % blocks)) * o->width;
}

typedef struct ls_outer_kernels {
    size_t samples, tall; /* of ls_outer */
    /* x, dz: of the kernels' type. */
    void (*pack_x)(const ls_outer *o, const void *x, uint32_t *to);
    /* dbias (units) f32, unless NULL: sums over the samples, in order. */
    void (*pack_dz)(const ls_outer *o, const void *dz, uint32_t *to, float *dbias);
    /* Blocks [begin, end) of dW, counted strip by strip. Lane l's factors lie l * x_step and l * dz_step words from the
     * first's. What lies `near` floats from what is written will be used soon: it is brought into the second-level
     * cache; 0: nothing. */
    void (*sum)(const ls_outer *o, size_t n_lanes, const uint32_t *x, size_t x_step, const uint32_t *dz, size_t dz_step,
                size_t begin, size_t end, float *dw, const ptrdiff_t near[LS_OUTER_NEAR]);
} ls_outer_kernels;

/* NULL where the compiler cannot make them; for processors with AVX512-BF16, and AVX-512. */
extern const ls_outer_kernels *const ls_outer_avx512_bf16, *const ls_outer_avx512;

/* Whether it computes the gradient of the node's kernel: few rows, a processor that has the instructions, and weights
 * that lie as they can be written. The same for all plans with the same number of rows. */
bool ls_outer_takes(ls_plan *p, const ls_node *node, const ls_linear_desc *d);

/* Adds the calls. dz: gradient of the result; d->bias.rank: that of the bias too. */
ls_status ls_outer_backward_weights(ls_plan *p, const ls_node *node, const ls_linear_desc *d, const char *label,
                                    double flops, ls_ref src, ls_ref dz, ls_err *err) LS_MUST_CHECK;

#endif
