/*
 * Lanes: who computes what, and in which order gradients are added.
 *
 * A global batch is cut into L lanes. Rank k of R owns lanes [k*L/R, (k+1)*L/R) and computes them in order, T at a
 * time. Lane gradients are added along one fixed binary tree over lane numbers: a tree over n > 1 lanes is a tree over
 * the first p and one over the other n - p, p being the largest power of two below n. A tree node is (first, count).
 * Since the tree depends on L alone, so do the bits of every sum, whoever holds the branches.
 *
 *   L = 6:  ((0+1) + (2+3)) + (4+5)
 *
 * Pure functions; nothing here communicates.
 */
#ifndef LS_WORKER_LANES_H
#define LS_WORKER_LANES_H

#include <stdbool.h>
#include <stddef.h>

/* The first lane of rank k (and the end of rank k - 1's). */
static inline int ls_lanes_first(int n_lanes, int n_ranks, int rank) {
    return (int)((long)rank * n_lanes / n_ranks);
}

typedef struct ls_branch {
    int first, count; /* lanes [first, first + count), a node of the tree */
} ls_branch;

/* Whether the lanes [first, first + count) are a node of the tree over n_lanes. */
bool ls_lanes_is_node(int n_lanes, int first, int count);

/* The maximal nodes of the tree that lie in [first, last), in order, into out (room for LS_MAX_FRAGMENTS); how many. */
enum { LS_MAX_FRAGMENTS = 64 };
int ls_lanes_fragments(int n_lanes, int first, int last, ls_branch *out);

/* Gradient memory: slot dst += slot src, then src is free. */
typedef struct ls_merge {
    int dst, src;
} ls_merge;

/* Lanes that are computed side by side: let lane `first + i` overwrite slot[i]; then do the merges, in order, over the
 * whole gradient arena. A lane that is computed alone may have them done range by range, as its gradient is made. */
typedef struct ls_lane_group {
    int first, count;
    int *slot; /* (count) */
    int n_merges;
    ls_merge *merges;
} ls_lane_group;

/* What is left in the slots after the last group; `node` of the tree has its sum in `slot`. In lane order. Where lanes
 * are computed one at a time these are the largest nodes that the rank can make. Else the last group's own sums are
 * left to the all-reduce, which reads each of them once anyway. */
typedef struct ls_fragment {
    ls_branch node;
    int slot;
} ls_fragment;

typedef struct ls_lane_schedule {
    int n_lanes, first, last; /* of this rank: [first, last), perhaps empty */
    int at_once;              /* T */
    int n_slots;              /* gradient slots that it takes */
    int n_groups;
    ls_lane_group *groups;
    int n_fragments;
    ls_fragment *fragments;
} ls_lane_schedule;

/* The schedule of the lanes [first, last) of n_lanes, at_once >= 1 at a time. Frees with ls_lane_schedule_release. */
void ls_lane_schedule_init(ls_lane_schedule *s, int n_lanes, int first, int last, int at_once);
void ls_lane_schedule_release(ls_lane_schedule *s);

/* The fragment that a lane of this rank is in. */
const ls_fragment *ls_lane_schedule_fragment(const ls_lane_schedule *s, int lane);

/* sums (n_lanes, n) f64, read, destroyed: row 0 becomes the sum over lanes along the tree. */
void ls_lanes_sum_rows(double *sums, int n_lanes, int n);

#endif
