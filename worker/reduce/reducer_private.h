/* The inside of the reducer, shared by the files that are it: who owns what, the memory, the step, the verdict. */
#ifndef LS_WORKER_REDUCER_PRIVATE_H
#define LS_WORKER_REDUCER_PRIVATE_H

#include <stdatomic.h>
#include <stdint.h>

#include "worker/reduce/exchange.h"
#include "worker/reduce/reducer.h"
#include "worker/reduce/shared.h"
#include "worker/reduce/sum.h"

/* What a rank (or, summed up by its first rank, a node) has to say in a verdict. One unit of a message. */
typedef struct ls_say {
    uint64_t flags, non_finite_at;
    int32_t status, status_rank;
    char padding[LS_EXCHANGE_UNIT - 24];
} ls_say;

/* A rank's flags in shared memory; written by that rank alone. */
typedef struct ls_line {
    _Alignas(64) _Atomic uint64_t ready;  /* buckets that were ever made ready */
    _Alignas(64) _Atomic uint64_t summed; /* steps whose first phase is over */
    _Alignas(64) _Atomic uint64_t posted; /* verdicts that this rank has contributed to */
    _Alignas(64) ls_say say[2];           /* by the parity of the verdict */
} ls_line;

/* The first rank's flags, where there are several nodes. */
typedef struct ls_head {
    _Alignas(64) _Atomic uint64_t norms; /* steps whose norms are complete */
    _Alignas(64) _Atomic uint64_t heard; /* verdicts in which the other nodes were heard */
} ls_head;

/* Floats [first, first + n) of the arena, one owner's part of one bucket. With norms: chunks [chunk, chunk + n_chunks).
 */
typedef struct ls_slice {
    int bucket, owner;
    size_t first, n;
    int chunk, n_chunks;
} ls_slice;

/* A slice that this rank owns. Lists by node have no entry (-1, NULL) for the own node. */
typedef struct ls_own {
    ls_slice slice;
    int *fragments;   /* (n_nodes) messages: fragments of the node, received */
    int *params;      /* (n_nodes) messages: new parameters, sent */
    float **received; /* (n_nodes) (fragments of the node, n) */
    float *reduced;   /* two phases: (n) */
} ls_own;

/* A slice of another node's rank that this rank adds for its node. */
typedef struct ls_help {
    ls_slice slice;
    int fragments, params; /* messages: sent, received */
    float *sending;        /* (fragments of this node, n) */
} ls_help;

/* News that the first ranks of nodes send each other: a verdict, or norms. */
typedef struct ls_news {
    int *send, *receive; /* (n_nodes) messages */
    char *out;           /* what this node sends */
    char **in;           /* (n_nodes) */
} ls_news;

/* What one thread adds with. */
typedef struct ls_work {
    const float **leaf, **sum; /* pointers of one chunk */
    float *scratch;            /* (root or node .n_scratch, LS_REDUCE_CHUNK) */
    size_t non_finite_at;      /* lowest so far in this step */
    char padding[LS_EXCHANGE_UNIT - 32];
} ls_work;

struct ls_reducer {
    ls_team *team;
    ls_reducer_options o; /* tables are copies */
    ls_lane_schedule schedule;
    int *node_fragments; /* (n_nodes) how many fragments a node's gradients come to */

    ls_shared shared;
    ls_head *head;
    ls_line *lines;      /* (n_local) */
    ls_say *node_says;   /* (2, n_nodes) */
    double *lane_sums;   /* (2, n_lanes, n_sums) */
    double *chunk_norms; /* (n_chunks, n_norms) */
    float *params;
    float *slots[16];
    float **gradients; /* (n_local) a rank's slots lie one after the other, `stride` apart */
    size_t stride;     /* floats */

    /* two phases: chunk c is [chunks[c], chunks[c + 1]), segment s has chunks [segment_chunks[s], segment_chunks[s +
     * 1]) */
    int n_chunks;
    size_t *chunks;
    int *segment_chunks;
    int *bucket_chunks;    /* (n_buckets + 1) */
    double *norm_rows;     /* (n_chunks, n_norms) scratch */
    double *segment_norms; /* (2, n_segments + 1, n_norms): results, then scratch */

    /* adding */
    ls_sum root, node; /* all fragments to the gradient; this node's as far as they go */
    const float **raw; /* (node.n_leaves) this node's fragments, bases in the shared gradient slots */
    ls_work *work;     /* (n_threads) */

    int n_own, n_help;
    ls_own *own;   /* in bucket order */
    ls_help *help; /* in bucket order */
    ls_exchange *slices, *mail, *moves; /* of gradients and parameters; of news; of optimizer slots */
    ls_news verdicts, norms;
    char *private_memory;

    /* the step */
    uint64_t steps; /* begun */
    uint64_t base;  /* buckets of all steps before */
    int next_ready; /* bucket */
    int node_ready; /* buckets that all ranks of the node have made ready */
    int own_done;   /* slices added (one phase: and applied) */
    int help_sent, help_done;
    uint64_t verdicts_done;
    double *verdict_rows; /* (n_lanes, n_sums) */
    int64_t wait_ns, wait_mark;
};

/* reducer_slices.c: pure */
void ls_reducer_cut(ls_reducer *r); /* chunks, own and help, without memory or messages */
int ls_reducer_helper(const ls_team *t, int owner, int node);
ls_slice ls_reducer_slice(const ls_reducer *r, int bucket, int owner);

/* reducer_memory.c */
ls_status ls_reducer_allocate(ls_reducer *r, ls_err *err) LS_MUST_CHECK;
void ls_reducer_free(ls_reducer *r);

/* reducer_verdict.c */
void ls_reducer_share_norms(ls_reducer *r); /* all ranks; then norms_ready */

static inline ls_line *ls_reducer_line(ls_reducer *r) {
    return &r->lines[r->team->local];
}

#endif
