/* The inside of the reducer, shared by the files that are it: who owns what, the memory, the step, the verdict. */
#ifndef LS_WORKER_REDUCER_PRIVATE_H
#define LS_WORKER_REDUCER_PRIVATE_H

#include <stdatomic.h>
#include <stdint.h>

#include "worker/reduce/exchange.h"
#include "worker/reduce/levels.h"
#include "worker/reduce/reducer.h"
#include "worker/reduce/shared.h"
#include "worker/reduce/sum.h"

/* What a rank (or, summed up by its first rank, a node) has to say in a verdict. One unit of a message. */
typedef struct ls_say {
    uint64_t flags, non_finite_at;
    uint64_t digest; /* of digest_rank, the lowest rank that this is about */
    int32_t status, status_rank;
    int32_t digest_rank, odd_rank; /* odd_rank: the lowest whose digest is another one; INT32_MAX: none */
    char padding[LS_EXCHANGE_UNIT - 40];
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

/* Floats [first, first + n) of the arena, a part of one bucket. With norms: chunks [chunk, chunk + n_chunks). */
typedef struct ls_slice {
    int bucket;
    size_t first, n;
    int chunk, n_chunks;
    int sparse; /* the sparse range that it is of; -1: none. It then begins at a whole chunk of the range */
} ls_slice;

/* What goes up from a job: the group's fragments of a part of the next level, to the part's agent in the group above.
 */
typedef struct ls_out {
    ls_slice slice;
    int agent;
    int fragments, params; /* messages: sent, received; -1 when this rank is the agent */
    int job;               /* the agent is this rank: its job in the level above; else -1 */
    char *sending;         /* NULL from a node to this rank itself, which adds in place. (fragments of the group, n)
                              elements of the wire; of a sparse slice a word a piece, then (blocks, fragments of the
                              group, LS_REDUCE_BLOCK) elements */
    uint32_t *starts;      /* sparse: (pieces) blocks of the message before the piece's */
    char *receiving;       /* packed parameters: as ls_job.packed; else NULL */
} ls_out;

/* A part that this rank adds for its group of that level (levels.h): the node at level 0, all nodes at the highest,
 * where the rank owns the part. Messages of the own child are -1. */
typedef struct ls_job {
    ls_slice slice;
    int level;
    bool
        collected; /* in this step: its sums have gone up (highest level: have been added and, in one phase, applied) */
    bool applied;  /* highest level */
    bool returned; /* its new parameters are in the arena and on their way to the children */
    int n_children, own_child; /* 0 at level 0 */
    int *agents;               /* (n_children) */
    int *fragments, *params;   /* (n_children) messages: received, sent */
    char **received;           /* (n_children) what each child sends, as ls_out.sending, which the own child's is */
    int own_job;               /* in the level below; -1 at level 0 */
    int n_outs;                /* 0 at the highest level */
    ls_out *outs;              /* (n_outs) */
    float *reduced;            /* highest level, two phases: (n) */
    /* sparse slices */
    uint64_t *words;  /* (pieces) blocks that any lane has in this step; at the highest level, and where `packed` */
    uint32_t *starts; /* (n_children, pieces) blocks of the message before the piece's */
    char *packed;     /* words and (blocks, LS_REDUCE_BLOCK) parameters, sent; NULL: parameters are sent whole */
} ls_job;

/* The jobs of one level, in bucket order, and how far they are in this step. */
typedef struct ls_stage {
    int n_jobs;
    ls_job *jobs;
    int *child_fragments;    /* (children of this rank's group); NULL at level 0 */
    int n_fragments;         /* of this rank's group */
    ls_sum sum;              /* fragments of the children (level 0: of the ranks) to those of the group */
    int collected, returned; /* all jobs before these are */
} ls_stage;

/* News of all nodes, that their first ranks tell each other level by level: a verdict, or norms. */
typedef struct ls_news_level {
    int n_send, n_receive;
    int *send, *receive; /* messages */
    int *from;           /* (n_receive) ranks */
} ls_news_level;

typedef struct ls_news {
    size_t *at; /* (n_nodes + 1) bytes: node i's lie at [at[i], at[i + 1]) of the table */
    char *table;
    int n_levels;
    ls_news_level *levels; /* (n_levels), the lowest first */
} ls_news;

/* A cut with all that follows from it. */
typedef struct ls_scheme {
    ls_cut cut;         /* its table is the arena's as the caller cut it; a copy */
    int n_buckets;      /* as they travel: the caller's, cut where they are long */
    size_t *buckets;    /* (n_buckets + 1) */
    int *given;         /* (n_buckets) the caller's bucket that each is of */
    int *given_end;     /* (cut.n_buckets + 1) buckets before each of the caller's */
    int *bucket_chunks; /* (n_buckets + 1); two phases */
    ls_levels levels;
    ls_stage *stages;    /* (levels.n + 1) */
    ls_exchange *slices; /* of gradients and parameters */
    ls_news norms;       /* two phases */
    size_t *norms_taken; /* (n_nodes) bytes of each node's message of norms */
} ls_scheme;

/* What one thread adds with. */
typedef struct ls_work {
    const float **leaf, **sum; /* pointers of one chunk */
    float *scratch;            /* (n_scratch of the largest sum, LS_REDUCE_CHUNK) */
    float *unpacked;           /* (fragments received, LS_REDUCE_CHUNK), where they cannot be used as they are */
    size_t non_finite_at;      /* lowest so far in this step */
    char padding[LS_EXCHANGE_UNIT - 40];
} ls_work;

/* Of the 64 blocks of a word of a sparse range: whether it is known which slots are zero, and which may not be. */
typedef struct {
    uint64_t known, awake;
} ls_blocks;

struct ls_reducer {
    ls_team *team;
    ls_reducer_options o; /* tables are copies */
    ls_lane_schedule schedule;
    int n_schemes;
    ls_scheme *schemes, *scheme; /* (n_schemes); the one in use */
    bool newest_first;

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
    double *norm_rows;     /* (n_chunks, n_norms) scratch */
    double *segment_norms; /* (2, n_segments + 1, n_norms): results, then scratch */

    /* adding */
    int n_raw;
    float **raw;               /* (n_raw) this node's fragments, bases in the shared gradient slots */
    ls_work *work;             /* (n_threads) */
    float *zeros;              /* (LS_REDUCE_CHUNK) */
    ls_blocks *woken;          /* (words of the sparse ranges) of this rank's slices; see reducer_pieces.c */
    ls_exchange *mail, *moves; /* of news; of optimizer slots */
    ls_news verdicts;
    char *private_memory; /* of all threads, and of whichever scheme is used */
    int *peers;           /* (cap_peers) the other side of each of moves, while they are under way */
    int cap_peers;

    /* the step */
    uint64_t steps;  /* begun */
    uint64_t base;   /* buckets of all steps before */
    uint64_t begun;  /* and of this one */
    int next_ready;  /* bucket */
    int node_ready;  /* buckets that all ranks of the node have made ready */
    int n_left;      /* jobs to collect, and to return */
    uint64_t digest; /* for the next verdict */
    uint64_t verdicts_done;
    double *verdict_rows; /* (n_lanes, n_sums) */
    ls_reducer_times times;
    ls_wait *idle; /* the wait under way at the end of a step; NULL: none */
};

/* reducer_slices.c: pure. Of the scheme in use. */
void ls_reducer_cut_chunks(ls_reducer *r);
void ls_reducer_cut(ls_reducer *r); /* buckets and jobs, without memory or messages */
ls_slice ls_reducer_slice(const ls_reducer *r, int bucket, int level, size_t part);
int ls_reducer_agent(const ls_reducer *r, int bucket, int level, int group, size_t part); /* who adds it */

/* reducer_pieces.c. Pieces of a slice: chunks of LS_REDUCE_CHUNK floats from its start or, where chunks have norms,
 * those. */
size_t ls_reducer_n_pieces(const ls_reducer *r, const ls_slice *s);
size_t ls_reducer_fragments_bytes(const ls_reducer *r, const ls_slice *s, int n_fragments); /* at most, of a message */
size_t ls_reducer_params_bytes(const ls_reducer *r, const ls_slice *s);                     /* the same */
bool ls_reducer_packs(const ls_reducer *r, const ls_slice *s); /* only changed blocks of the parameters are sent */
void ls_reducer_count_received(ls_reducer *r, ls_job *job);    /* all that the job adds is there */
void ls_reducer_send_up(ls_reducer *r, ls_job *job);
void ls_reducer_unpack_params(ls_reducer *r, ls_job *job); /* what came for the job's outs */
void ls_reducer_send_down(ls_reducer *r, ls_job *job);
void ls_reducer_apply(ls_reducer *r, ls_job *job); /* the highest level: adds, and in one phase applies */
void ls_reducer_apply_kept(ls_reducer *r, ls_job *job);

/* reducer_memory.c */
ls_status ls_reducer_allocate(ls_reducer *r, ls_err *err) LS_MUST_CHECK;
void ls_reducer_free(ls_reducer *r);
void ls_reducer_free_scheme(ls_scheme *scheme); /* collective, where it has messages */

/* reducer_verdict.c */
void ls_reducer_share_norms(ls_reducer *r); /* all ranks; then norms_ready */

/* reducer_news.c */
void ls_news_describe(ls_reducer *r, ls_news *news, int tag, size_t (*n_bytes)(const ls_reducer *r, int node));
void ls_news_free(ls_news *news);
void ls_news_swap(ls_reducer *r, ls_news *news); /* first ranks of nodes: the own node's part is in the table */

/* Fragments that a group's gradients come to, and the branches if `out` is not NULL (room for LS_MAX_FRAGMENTS). */
int ls_reducer_fragments(const ls_reducer *r, int level, int group, ls_branch *out);

static inline bool ls_reducer_is_top(const ls_reducer *r, int level) {
    return level == r->scheme->levels.n;
}

static inline ls_line *ls_reducer_line(ls_reducer *r) {
    return &r->lines[r->team->local];
}

#endif
