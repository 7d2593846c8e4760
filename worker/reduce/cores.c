#include "worker/reduce/cores.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/memory.h"

ls_cpus ls_cpus_bound(void) {
    ls_cpus cpus = {{0}};
    if (sched_getaffinity(0, sizeof cpus.bits, (cpu_set_t *)(void *)cpus.bits) != 0) {
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        for (long i = 0; i < n && i < LS_MAX_CPUS; i++) {
            cpus.bits[i / 64] |= (uint64_t)1 << (i % 64);
        }
    }
    return cpus;
}

static long read_number(const char *path, long otherwise) {
    FILE *f = fopen(path, "r");
    long value = otherwise;
    if (f != NULL) {
        if (fscanf(f, "%ld", &value) != 1) {
            value = otherwise;
        }
        fclose(f);
    }
    return value;
}

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* One number of /sys/devices/system/cpu/cpuN/topology. */
static long topology(int cpu, const char *what, long otherwise) {
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, what);
    return read_number(path, otherwise);
}

int ls_cpus_cores(const ls_cpus *cpus) {
    int64_t *ids = ls_xcalloc(LS_MAX_CPUS, sizeof *ids);
    int n = 0, distinct = 0;
    for (int i = 0; i < LS_MAX_CPUS; i++) {
        if (cpus->bits[i / 64] >> (i % 64) & 1) {
            /* Where the kernel does not tell, every processor is a core of its own. */
            long core = topology(i, "core_id", 1000000 + i);
            long package = topology(i, "physical_package_id", 0);
            ids[n++] = ((int64_t)package << 32) + core;
        }
    }
    qsort(ids, (size_t)n, sizeof *ids, ascending);
    for (int i = 0; i < n; i++) {
        distinct += i == 0 || ids[i] != ids[i - 1];
    }
    free(ids);
    return distinct;
}

int ls_cpus_overlap(const ls_cpus *a, const ls_cpus *b) {
    for (int i = 0; i < LS_MAX_CPUS / 64; i++) {
        if (a->bits[i] & b->bits[i]) {
            return 1;
        }
    }
    return 0;
}

void ls_cpus_add(ls_cpus *to, const ls_cpus *more) {
    for (int i = 0; i < LS_MAX_CPUS / 64; i++) {
        to->bits[i] |= more->bits[i];
    }
}

int ls_cores_quota(int n_cores) {
    double quota = -1, period = -1;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (f != NULL) {
        if (fscanf(f, "%lf %lf", &quota, &period) != 2) { /* "max 100000": no quota */
            quota = -1;
        }
        fclose(f);
    } else {
        quota = (double)read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1);
        period = (double)read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us", -1);
    }
    if (quota > 0 && period > 0) {
        int allowed = (int)(quota / period);
        if (allowed < n_cores) {
            n_cores = allowed;
        }
    }
    return n_cores < 1 ? 1 : n_cores;
}
