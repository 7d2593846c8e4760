/*
 * The two-level all-reduce, with the optimizer inside.
 *
 * Memory: one parameter arena a node and one arena a node for each optimizer slot, shared by the node's ranks; some
 * gradient slots a rank (as many as its lane schedule takes), which its neighbours can read.
 *
 * The reduced part of the arenas is cut into buckets, in the order in which gradients become ready, and each bucket
 * into parts, one or so a rank of the team. A part's owner adds its gradients and updates its parameters; in each other
 * node one rank, the agent, adds that node's gradients of the part and receives the new parameters. With more nodes
 * than LS_FAN_IN there are levels in between (levels.h): agents of groups of nodes. One step is, on each rank:
 *
 *   a. begin(step): receives for other nodes' fragments are posted.
 *   b. ready(bucket): this rank's lanes have written the bucket's gradient, and nobody on this rank reads the bucket's
 *      parameters any more in this step. A counter in shared memory tells the neighbours.
 *   c. When all ranks of the node are ready: the agents of its parts add the node's fragments as far as the tree of
 *      lanes allows, send them to the next level's agents and post the receives of new parameters straight into the
 *      node's arena. An agent that has the fragments of all of its children does the same for its group.
 *   d. When the owner has all fragments: it adds them along the tree, chunk by chunk (cache-sized), and calls apply on
 *      each chunk, which writes the parameters in place; then it sends the part's parameters down to those who sent it
 *      fragments, and they to theirs. c and d happen inside poll, ready and finish, whenever they can.
 *   e. finish: returns when all parameters of this node's arena are updated and every neighbour is done with this
 *      rank's gradient slots, with the verdict of the step.
 *
 * With norms (two phases), d adds into a buffer of its own and calls norm on each chunk. In finish all ranks share the
 * chunks' norms, added along a fixed tree; norms_ready is called on every rank; then apply on each chunk.
 *
 * Numerics: the bits of gradients, norms and sums depend on the number of lanes (and on the segments), never on the
 * number of ranks, nodes, buckets or threads. A part's sum is finished by its owner alone: nodes cannot drift apart.
 * With wire_bfloat16 every node of the tree of lanes (each lane's gradient, each sum, the root) is rounded to bfloat16,
 * to nearest and ties to even, on one node as on many; sums are taken in float32. So a fragment can be sent in half the
 * bytes from whichever place of the tree a border of nodes is at, and the bits still do not depend on it. Parameters
 * always travel as float32: they are the master copy of the node that receives them.
 * Nothing allocates between begin and finish. One thread at a time may call.
 */
#ifndef LS_WORKER_REDUCER_H
#define LS_WORKER_REDUCER_H

#include "common/status.h"
#include "worker/reduce/lanes.h"
#include "worker/reduce/team.h"

typedef struct ls_reducer ls_reducer;

enum {
    LS_REDUCE_GRAIN = 16,        /* floats; bucket and segment boundaries are multiples (one cache line) */
    LS_REDUCE_CHUNK = 4096,      /* floats; the largest range that a callback is given at once */
    LS_REDUCE_BLOCK = 64,        /* floats; what a sparse gradient has or has not */
    LS_REDUCE_PART = 4096,       /* floats; between nodes, the least that a part has where it is not said */
    LS_REDUCE_MESSAGE = 1 << 18, /* floats; the most that a part has where it is not said */
    LS_MAX_NORMS = 4
};

/* What apply does with a gradient of zeros: something; nothing where the optimizer slots are zero too; nothing. */
typedef enum { LS_ZERO_MOVES, LS_ZERO_RESTS, LS_ZERO_IDLES } ls_zero;

/*
 * A range of the arenas whose gradient is sparse (a table of which a batch uses some rows). It consists of blocks of
 * LS_REDUCE_BLOCK floats. A gradient slot has a bit for each, 64 to a word, so that a word tells of LS_REDUCE_CHUNK
 * floats: a block without its bit is zero in that slot. Whoever writes a slot sets the bits, and makes blocks zero
 * again before it clears them. The bits of the result are those of a range that is not sparse. Only blocks that some
 * lane has are added, and sent between nodes. With LS_ZERO_IDLES apply is called for these blocks alone, and only their
 * parameters are sent; with LS_ZERO_RESTS it may be left out for blocks that have not had a gradient yet, unless slots
 * that were given (ls_reducer_scatter_slots) are not zero there: rows of a table that no batch has used yet cost
 * nothing.
 */
typedef struct ls_sparse {
    size_t first, n; /* floats; begins and ends with a bucket, and with a segment */
    size_t marks;    /* floats from the start of a gradient slot to the range's words */
    ls_zero zero;
} ls_sparse;

/*
 * How the reduced range is cut and exchanged. It changes no bits, so it can be chosen for speed.
 *
 * A bucket is what becomes ready at once. One whose parts would be longer than most_floats goes on its way as several,
 * so that one is added and updated while the next is on the wire. One that would have parts of less than least_floats
 * has fewer parts than there are ranks, in turn with its neighbours: fewer messages, each of which costs as much as
 * thousands of bytes.
 */
typedef struct ls_cut {
    int n_buckets;         /* 0 when n_reduced is 0 */
    const size_t *buckets; /* (n_buckets + 1) floats: bucket b is [buckets[b], buckets[b+1]); from 0 to n_reduced */
    int fan_in;            /* of the levels between nodes; 0: the team's */
    size_t least_floats;   /* 0: LS_REDUCE_PART. Between nodes alone, and where neither norms nor sparse ranges say
                              where parts begin */
    size_t most_floats;    /* 0: LS_REDUCE_MESSAGE */
} ls_cut;

/* Which goes first of what can go: the bucket that was ready first, or the one that was ready last, whose parameters
 * the next forward pass needs first. */
typedef enum { LS_ORDER_READY, LS_ORDER_NEED } ls_order;

typedef struct ls_reducer_options {
    int n_lanes;       /* over all ranks */
    int lanes_at_once; /* of this rank; may differ between ranks */
    size_t n_params;   /* floats of the parameter arena */
    size_t n_reduced;  /* the first so many have gradients and optimizer slots */
    size_t n_gradient; /* floats of a gradient slot: n_reduced and the words of sparse ranges; 0: n_reduced */
    int n_sparse;
    const ls_sparse *sparse; /* (n_sparse) in order */
    bool wire_bfloat16;      /* gradients go between nodes as bfloat16; see Numerics */
    ls_cut cut;              /* the one that is used at first, number 0 */
    int n_more;
    const ls_cut *more;     /* (n_more) others that can be used in its place, numbers 1, 2, ... */
    int n_slots;            /* optimizer slots */
    int n_sums;             /* doubles that each lane gives to a verdict */
    int n_norms;            /* doubles a chunk; 0: one phase */
    int n_segments;         /* two phases: ranges (weights) that have norms of their own; */
    const size_t *segments; /* (n_segments + 1), as buckets. A bucket may begin or end inside a segment only at a
                               multiple of LS_REDUCE_CHUNK from the segment's start */
    int n_threads; /* OpenMP threads that add and update, with the callbacks below called from all of them at once on
                      disjoint ranges; 0: one. The bits do not depend on it */
    /* Called on the part's owner with at most LS_REDUCE_CHUNK floats of the reduced gradient: update parameters and
     * slots [first, first + n) in place. With norms the range lies in one segment. */
    void (*apply)(void *context, size_t first, size_t n, const float *gradient);
    /* Two phases: writes the chunk's n_norms doubles; may replace the gradient by what apply is to see. */
    void (*norm)(void *context, size_t first, size_t n, float *gradient, double *norms);
    /* Two phases, on every rank alike: segment (n_segments, n_norms) and total (n_norms) sums over chunks. */
    void (*norms_ready)(void *context, const double *segment, const double *total);
    void *context;
} ls_reducer_options;

/* What all ranks know after a step; the same everywhere. */
typedef struct ls_reducer_verdict {
    ls_status status;     /* the worst that a rank gave */
    int status_rank;      /* the lowest rank that gave it */
    unsigned flags;       /* OR over ranks */
    int odd_rank;         /* the lowest rank whose digest is not rank 0's; -1: none */
    size_t non_finite_at; /* lowest offset (to a grain) whose reduced gradient is not finite; SIZE_MAX: none */
    const double *sums;   /* (n_sums) added over lanes along the tree; valid until the next verdict */
} ls_reducer_verdict;

/* Collective. The options (but lanes_at_once and callbacks) must be the same on all ranks, which is checked. Copies the
 * tables. LS_ENOMEM, on all ranks alike, when a node's memory does not suffice. All memory is zero. */
ls_status ls_reducer_create(ls_reducer **out, ls_team *team, const ls_reducer_options *options,
                            ls_err *err) LS_MUST_CHECK;
/* Collective, between steps. NULL is fine. */
void ls_reducer_destroy(ls_reducer *r);

/* Pointers stay valid until destroy. Gradient slots: (n_reduced) f32, this rank's own; a group's lanes overwrite them
 * completely but for padding, which is zero and stays so. */
float *ls_reducer_params(ls_reducer *r);          /* (n_params), the node's */
float *ls_reducer_slot(ls_reducer *r, int slot);  /* (n_reduced), the node's; meaningful where this node owns */
float *ls_reducer_gradient(ls_reducer *r, int i); /* (n_reduced), i < schedule's n_slots */
const ls_lane_schedule *ls_reducer_schedule(const ls_reducer *r);

/* A merge of the schedule, over [first, first + n) of the gradient slots, which cuts sparse ranges, if at all, where
 * buckets may. Local. */
void ls_reducer_merge(ls_reducer *r, ls_merge merge, size_t first, size_t n);

/* Where lane `lane` of this rank writes its sums (n_sums) for the next verdict; zeroed by the verdict before. */
double *ls_reducer_lane_sums(ls_reducer *r, int lane);

/* Local: what this rank says with the next verdict, to be compared with what the others say; 0 when nothing was said.
 */
void ls_reducer_say_digest(ls_reducer *r, uint64_t digest);

/* One step; all ranks alike. Buckets are made ready in order 0, 1, ..., n_buckets - 1. */
void ls_reducer_begin(ls_reducer *r, uint64_t step);
void ls_reducer_ready(ls_reducer *r, int bucket);
/* Does what can be done without waiting; call it between operators. Some tens of nanoseconds when there is nothing. */
void ls_reducer_poll(ls_reducer *r);
/* Waits for the rest. `flags` and `status` are this rank's contributions to the verdict. */
void ls_reducer_finish(ls_reducer *r, unsigned flags, ls_status status, ls_reducer_verdict *verdict);

/* Collective. A verdict without a step (evaluation): same exchange of sums, flags and status. */
void ls_reducer_exchange(ls_reducer *r, unsigned flags, ls_status status, ls_reducer_verdict *verdict);

/* Collective, between steps. Parameters of rank 0's node to all nodes; optimizer slots that other nodes own to rank 0's
 * node (for a checkpoint); optimizer slots of rank 0's node to their owners (after a resume). With one node these are
 * barriers of the node. */
void ls_reducer_broadcast_params(ls_reducer *r);
void ls_reducer_gather_slots(ls_reducer *r);
void ls_reducer_scatter_slots(ls_reducer *r);

/* Collective, between steps: another of the cuts, and an order. Optimizer slots move to their new owners. Takes no
 * memory, but for what MPI takes for a message. */
void ls_reducer_use(ls_reducer *r, int cut, ls_order order);
/* Collective, between steps: forgets all cuts but the one in use. */
void ls_reducer_settle(ls_reducer *r);

/* What the all-reduce has cost this rank, since the last call: time of its thread, whether between operators or after
 * them. Hidden is what the network does meanwhile. */
typedef struct ls_reducer_times {
    int64_t talk_ns;    /* in poll and ready, but for work: messages */
    int64_t late_ns;    /* waiting for ranks of this node that are not there yet */
    int64_t network_ns; /* waiting for other nodes: their messages, and their ranks that are late */
    int64_t work_ns;    /* adding, updating, packing */
} ls_reducer_times;
ls_reducer_times ls_reducer_take_times(ls_reducer *r);
ls_reducer_times ls_reducer_see_times(const ls_reducer *r); /* without starting anew */

/* Messages that this rank has sent to other nodes in steps and verdicts since the reducer was made, and their bytes. */
void ls_reducer_sent(const ls_reducer *r, uint64_t *n_messages, uint64_t *n_bytes);

#endif
