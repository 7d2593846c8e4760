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

#include "worker/reduce/lanes.h"

typedef struct ls_sum_op {
    int dst, a, b; /* registers: a leaf's number, or n_leaves + the number of a scratch chunk */
} ls_sum_op;

typedef struct ls_sum {
    int n_leaves, n_ops, n_scratch, n_out;
    ls_sum_op *ops;  /* (n_ops) */
    int *out;        /* (n_out) registers */
    ls_branch *node; /* (n_out) the tree's node that each is the sum of */
    int shape;       /* a loop of its own for the common small trees */
} ls_sum;

void ls_sum_init(ls_sum *s, int n_lanes, const ls_branch *leaves, int n_leaves);
void ls_sum_release(ls_sum *s);

/*
 * Adds n elements.
 *   leaf    (n_leaves) pointers to n floats each   read
 *   scratch (n_scratch, stride) f32, stride >= n   overwritten
 *   out     (n_out) set to where each sum is: in scratch, or the leaf itself where there was nothing to add
 */
void ls_sum_run(const ls_sum *s, const float *const *leaf, size_t n, float *scratch, size_t stride, const float **out);

/* Whether all n floats are finite. */
bool ls_sum_finite(const float *x, size_t n);

#endif
