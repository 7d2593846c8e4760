/*
 * Adding gradient fragments along the tree of lanes, a cache-sized chunk at a time.
 *
 * A sum is compiled once from the fragments (nodes of the tree, in lane order) that are at hand, and adds them as far
 * as the tree allows: to one root when they cover all lanes, to several nodes when they do not. Local; allocates only
 * in init.
 */
#ifndef LS_WORKER_SUM_H
#define LS_WORKER_SUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/reduce/lanes.h"

typedef struct ls_sum_op {
    int dst, a, b; /* registers: a leaf's number, or n_leaves + the number of a scratch chunk; b -1: a alone, rounded */
} ls_sum_op;

typedef struct ls_sum {
    int n_leaves, n_ops, n_scratch, n_out;
    ls_sum_op *ops;  /* (n_ops) */
    int *out;        /* (n_out) registers */
    ls_branch *node; /* (n_out) the tree's node that each is the sum of */
    int shape;       /* a loop of its own for the common small trees */
    bool bfloat16;   /* every node of the tree, leaves and root too, is rounded to bfloat16 */
} ls_sum;

/* bfloat16: what is added, and every sum, is rounded (to nearest, ties to even) to what bfloat16 can say, so that it
 * can be sent as such from any place of the tree without a difference to the bits. */
void ls_sum_init(ls_sum *s, int n_lanes, const ls_branch *leaves, int n_leaves, bool bfloat16);
void ls_sum_release(ls_sum *s);

/*
 * Adds n elements.
 *   leaf    (n_leaves) pointers to n floats each   read
 *   scratch (n_scratch, stride) f32, stride >= n   overwritten
 *   out     (n_out) set to where each sum is: in scratch, or the leaf itself where there was nothing to add
 */
void ls_sum_run(const ls_sum *s, const float *const *leaf, size_t n, float *scratch, size_t stride, const float **out);

/* dst[i] += src[i], as above: a node of the tree whose parts lie in dst and src. */
void ls_sum_merge(float *restrict dst, const float *restrict src, size_t n, bool bfloat16);

/* n floats to bfloat16 (to nearest, ties to even; NaN stays NaN), and back. */
void ls_sum_pack(uint16_t *restrict to, const float *restrict from, size_t n);
void ls_sum_unpack(float *restrict to, const uint16_t *restrict from, size_t n);

/* The same in double precision. Rows of scratch and of leaves may be of any length >= n. */
void ls_sum_run_f64(const ls_sum *s, const double *const *leaf, size_t n, double *scratch, size_t stride,
                    const double **out);

/* Whether all n floats are finite. */
bool ls_sum_finite(const float *x, size_t n);

#endif
