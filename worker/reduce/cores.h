/* The cores that a process may use. Local. */
#ifndef LS_WORKER_CORES_H
#define LS_WORKER_CORES_H

#include <stdint.h>

enum { LS_MAX_CPUS = 4096 };

/* A set of logical processors, as bytes that ranks can send each other. */
typedef struct ls_cpus {
    uint64_t bits[LS_MAX_CPUS / 64];
} ls_cpus;

/* What this process is bound to (sched_getaffinity); all processors when that cannot be told. */
ls_cpus ls_cpus_bound(void);

/* Physical cores among them: hardware threads of one core count once. */
int ls_cpus_cores(const ls_cpus *cpus);

int ls_cpus_overlap(const ls_cpus *a, const ls_cpus *b); /* whether they share a processor */
void ls_cpus_add(ls_cpus *to, const ls_cpus *more);

/* What a container's quota (cgroup cpu.max or cfs_quota) leaves of n cores, at least 1. */
int ls_cores_quota(int n_cores);

#endif
