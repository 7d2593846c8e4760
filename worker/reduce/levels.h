/*
 * The levels of the exchange between nodes: who adds which part of a bucket, and for whom.
 *
 * A group of level 0 is a node. A group of level s is some adjacent groups of level s - 1, its children, at most
 * `fan_in` of them where the number of nodes allows it; one group of level n has all nodes. Up to fan_in nodes make one
 * level, 4,096 nodes three of 16 children each: a rank then sends 45 messages a bucket each way, not 4,095.
 *
 * A bucket is cut into width[0] parts, each of them into width[1], and so on: a part of level s is a number of s + 1
 * digits, digit t in [0, width[t]), the last digit the least. In each group of level s one rank, the agent, adds the
 * group's gradients of a part of level s. It is the agent, in one child, of the part of level s - 1 around it; the
 * agents of the other children send it what they have. The agent of a part of level n owns it. Groups with fewer
 * children than others let a child stand for several digits, another one in every bucket.
 *
 * The groups are ranges of nodes, so of lanes: an agent adds along the tree of lanes as far as its group goes
 * (sum.h), and the bits of the sum do not depend on the levels. Pure functions.
 */
#ifndef LS_WORKER_LEVELS_H
#define LS_WORKER_LEVELS_H

#include <stdbool.h>
#include <stddef.h>

enum { LS_FAN_IN = 16 }; /* where it is not said */

typedef struct ls_levels {
    int n;           /* levels above the nodes: 0 with one node */
    int *n_groups;   /* (n + 1) */
    int **first;     /* (n + 1)(n_groups + 1) first child of a group: a rank at level 0, else a group of level s - 1 */
    int *width;      /* (n + 1) the most children of a group */
    size_t *n_parts; /* (n + 1) width[0] * ... * width[s] */
    int n_ranks;
} ls_levels;

/* Ranks [node_first[i], node_first[i + 1]) are node i. fan_in >= 2. */
void ls_levels_init(ls_levels *l, int n_nodes, const int *node_first, int fan_in);
void ls_levels_release(ls_levels *l);

/* The group of the level that has the rank; the first rank and the first node of a group (or of the one after the
 * last). */
int ls_levels_group(const ls_levels *l, int level, int rank);
int ls_levels_first_rank(const ls_levels *l, int level, int group);
int ls_levels_first_node(const ls_levels *l, int level, int group);

/* The rank that adds a part of that level for that group. Turned: parts go to other ranks from one bucket to the next,
 * for buckets that have fewer parts than there are ranks. */
int ls_levels_agent(const ls_levels *l, int level, int group, size_t part, int bucket, bool turned);

/* A part of that level of n items is [*lo, *hi): every rank owns about as many. */
void ls_levels_cut(const ls_levels *l, int level, size_t part, size_t n, size_t *lo, size_t *hi);

#endif
