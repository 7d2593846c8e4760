/*
 * The ranks as a team: who is there, on which node, with how many cores, and the few collective calls that are not the
 * all-reduce.
 *
 * A team rank is a position in (node, rank in node) order, so that the ranks of a node are adjacent. Rank 0 is rank 0
 * of MPI_COMM_WORLD; the others are the same as there under the usual mappings (by core, by slot).
 *
 * A node is what MPI_Comm_split_type(MPI_COMM_TYPE_SHARED) says. The environment variable LOCKSTEP_RANKS_PER_NODE=k
 * cuts it into nodes of at most k ranks that share no memory, so that one machine can stand for several.
 * LOCKSTEP_FAN_IN=k (16 where unset) is how many nodes, or groups of nodes, tell each other their gradients directly;
 * with more nodes the all-reduce goes by levels (levels.h). It must be the same on all ranks, and changes no bits.
 * Where it is unset, the first steps of a run may choose fewer (engine_tune.c).
 *
 * "Collective" means all ranks of the team. Waits in collective calls are noted in the progress row, for the watchdog
 * to end those that never end. A failure inside MPI itself is fatal at once (MPI_ERRORS_ARE_FATAL): what cannot talk
 * cannot agree on an error. One thread at a time may call (MPI_THREAD_SERIALIZED): every call is made from the engine's
 * side, be it by whichever of its threads; a watchdog that calls MPI_Abort is past caring about other threads.
 */
#ifndef LS_WORKER_TEAM_H
#define LS_WORKER_TEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/reduce/progress.h"

enum { LS_HOST_CHARS = 64 };

typedef struct ls_team {
    int rank, size;
    int node, n_nodes;            /* index of this rank's node */
    int local, n_local;           /* rank in the node, ranks of the node */
    int *node_of;                 /* (size) node of a rank */
    int *node_first;              /* (n_nodes + 1) ranks of node n are [node_first[n], node_first[n+1]) */
    char (*hosts)[LS_HOST_CHARS]; /* (size) */
    int fan_in;                   /* at least 2 */
    bool fan_in_said;             /* by LOCKSTEP_FAN_IN */
    int n_machine_cores;          /* physical cores of this machine that its ranks may use, together */
    int n_threads;         /* threads that this rank should use: cores it is bound to, shared fairly, at least 1 */
    bool oversubscribed;   /* more ranks than cores on this machine: waits must yield at once */
    ls_progress *progress; /* this rank's row; private until the watchdog shares it */
    struct ls_team_mpi *mpi;
    struct ls_watchdog *watchdog; /* NULL: not started */
} ls_team;

/* Collective, once a process. Calls MPI_Init_thread; works without mpirun as one rank. Sets the log's rank. LS_EINPUT
 * for a bad LOCKSTEP_RANKS_PER_NODE. argc and argv may be NULL. */
ls_status ls_team_create(ls_team **out, int *argc, char ***argv, ls_err *err) LS_MUST_CHECK;

/* Collective, after ls_watchdog_stop. Waits for all ranks, then MPI_Finalize, each with a deadline (minutes): a rank
 * that never comes does not keep the others, which exit with `status`'s code (not 0) and a sentence. NULL is fine. */
void ls_team_finish(ls_team *team, ls_status status);

/* Collective. This rank as a team of one, on its node alone, with the threads that it has in `team`; to be given back,
 * by all ranks, with ls_team_join before the team ends. */
ls_team *ls_team_split(const ls_team *team);
void ls_team_join(ls_team *alone); /* NULL is fine */

/* Local: gives the team a private progress row again (the watchdog lets go of the shared one). */
void ls_team_forget_progress(ls_team *team);

/* Local; never returns: prints rank, host and the sentence, and ends all ranks with the status's exit code. */
_Noreturn void ls_team_abort(ls_team *team, ls_status status, const char *sentence);

/* The same, and kills process `victim` of this machine (a rank that no longer answers) if that alone does not end all
 * within seconds. 0: none. */
_Noreturn void ls_team_abort_with(ls_team *team, ls_status status, const char *sentence, int victim);

/* Collective. */
void ls_team_barrier(ls_team *team);
void ls_team_bcast(ls_team *team, int root, void *bytes, size_t n_bytes);
/* Every rank gives n_bytes (the same on all); root's `all` becomes (size, n_bytes). all is ignored elsewhere. */
void ls_team_gather(ls_team *team, int root, const void *mine, size_t n_bytes, void *all);
void ls_team_allgather(ls_team *team, const void *mine, size_t n_bytes, void *all);
/* Blocks of any size: root's all holds the blocks one after the other in rank order, n_bytes[r] each. n_bytes (size)
 * must be the same on all ranks. */
void ls_team_gatherv(ls_team *team, int root, const void *mine, const size_t *n_bytes, void *all);
/* values (n) added over all ranks, the same on all of them; n <= LS_TEAM_MOST_SUMS. Takes nothing from the heap. */
enum { LS_TEAM_MOST_SUMS = 64 };
void ls_team_sum(ls_team *team, double *values, int n);
/* Text or bytes whose length only root knows: *bytes is root's on root, a new allocation (free()) elsewhere; a '\0'
 * that is not counted follows. */
void ls_team_bcast_text(ls_team *team, int root, char **bytes, size_t *n_bytes);

/* Collective over the ranks of this node. */
void ls_team_node_barrier(ls_team *team);
void ls_team_node_bcast(ls_team *team, void *bytes, size_t n_bytes);                     /* from local rank 0 */
void ls_team_node_allgather(ls_team *team, const void *mine, size_t n_bytes, void *all); /* all: (n_local, n_bytes) */

/* Collective over the first ranks of all nodes: from rank 0 to the others. */
void ls_team_leaders_bcast(ls_team *team, void *bytes, size_t n_bytes);

/*
 * Collective. One door out for expected failures before training: every rank passes its own status and sentence; all
 * return the status of the lowest rank that failed, with its sentence in err on every rank ("rank 3 on host: " before
 * it unless rank 0 failed with it too), or LS_OK. Only rank 0 prints what a program's main prints, so it is printed
 * once.
 */
ls_status ls_team_agree(ls_team *team, ls_status status, ls_err *err) LS_MUST_CHECK;

/* Collective. Every rank must hold the same digest of `what` ("the job file", "the bucket table"); `mine` is a few
 * words about this rank's side ("lockstep 0.1.0, AVX-512"), shown when two sides differ. LS_EINPUT on all ranks then.
 */
ls_status ls_team_check_same(ls_team *team, const char *what, uint64_t digest, const char *mine,
                             ls_err *err) LS_MUST_CHECK;

#endif
