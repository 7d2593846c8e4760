/*
 * What Lockstep's files meet when they are compiled for SimGrid's MPI: the ranks are threads of control of one process,
 * whose time goes on in MPI's calls and in sleeps alone. Included before anything else.
 *
 * Gradients, parameters and messages are the same memory for all ranks, and are never copied; but for the first
 * SIMULATED_OWN bytes of what a rank maps, where the reducer keeps its flags and sums. So the sums are nonsense, at no
 * cost in memory. With one rank a node only: what ranks share must be theirs.
 */
#ifndef LS_BENCH_SIMULATED_H
#define LS_BENCH_SIMULATED_H

#include <sched.h>
#include <smpi/smpi.h>
#include <sys/mman.h>

enum { SIMULATED_OWN = 1 << 20 };

void *simulated_map(size_t n_bytes);
void *simulated_calloc(size_t n_items, size_t item_bytes); /* never freed */

#define mmap(at, n, protection, flags, fd, offset) \
    ((fd) < 0 ? simulated_map(n) : (mmap)(at, n, protection, flags, fd, offset))

#define sched_yield() (void)0 /* there is nobody to yield to */

/* One rank runs at a time, whatever SimGrid says. */
static inline int simulated_query_thread(int *level) {
    *level = MPI_THREAD_SERIALIZED;
    return MPI_SUCCESS;
}
#undef MPI_Query_thread
#define MPI_Query_thread simulated_query_thread

#endif
