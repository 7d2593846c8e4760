/*
 * Memory that the ranks of a node share.
 *
 * One memfd of the node's first rank, which its neighbours open through /proc/PID/fd/N: nothing has a name, so nothing
 * can be left behind by a crash, and the size of /dev/shm does not matter. Where that is refused (hidepid, another PID
 * namespace) a POSIX segment is used and unlinked as soon as all have mapped it. A rank alone on its node takes private
 * memory, which can have huge pages.
 */
#ifndef LS_WORKER_SHARED_H
#define LS_WORKER_SHARED_H

#include <stdbool.h>
#include <stddef.h>

#include "worker/reduce/team.h"

typedef struct ls_shared {
    void *base; /* page-aligned; zero at first */
    size_t n_bytes, n_mapped;
} ls_shared;

typedef enum { LS_SHARED_BEST, LS_SHARED_NAMED } ls_shared_kind; /* NAMED: the second way, for tests of it */

/* Collective over the team; n_bytes must be the same on the ranks of a node. LS_ENOMEM, before anything is touched and
 * on all ranks, when a node has too little memory. Pages are taken when first touched. */
ls_status ls_shared_create(ls_shared *out, ls_team *team, size_t n_bytes, ls_shared_kind kind,
                           ls_err *err) LS_MUST_CHECK;
void ls_shared_release(ls_shared *s); /* local */

/* Bytes that this process could still take: free memory of the machine and of its control group. */
size_t ls_memory_left(void);

#endif
