#include "worker/reduce/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"

/* What a node's first rank tells its neighbours. The nonce lies in the last page of the memory: /proc/PID of another
 * PID namespace may well be some other process's. */
typedef struct {
    ls_status status;
    int32_t pid, fd;
    uint64_t nonce;
    char name[64]; /* of a POSIX segment; "": none */
} offer;

static size_t page(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

static uint64_t *nonce_of(void *base, size_t n_mapped) {
    return (uint64_t *)(void *)((char *)base + n_mapped - page());
}

/* Enough memory and address space, said before anything is touched. */
static ls_status check_room(size_t n_bytes, ls_err *err) {
    char need[32], left[32];
    size_t free_bytes = ls_memory_left();
    ls_format_bytes(need, sizeof need, (double)n_bytes);
    if (n_bytes > free_bytes) {
        return ls_fail(
            err, LS_ENOMEM,
            "the ranks of this node need %s of shared memory, and %s are free; use fewer ranks a node, fewer "
            "threads a rank, a smaller model or less data in memory",
            need, ls_format_bytes(left, sizeof left, (double)free_bytes));
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && n_bytes > limit.rlim_cur) {
        return ls_fail(err, LS_ENOMEM, "shared memory of %s is over this process's limit of %s a file; raise ulimit -f",
                       need, ls_format_bytes(left, sizeof left, (double)limit.rlim_cur));
    }
    return LS_OK;
}

static ls_status map(int fd, size_t n_mapped, void **base, ls_err *err) {
    int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void *p = mmap(NULL, n_mapped, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (p == MAP_FAILED) {
        char need[32];
        return ls_fail(err, LS_ENOMEM, "shared memory of %s cannot be mapped: %s; see ulimit -v",
                       ls_format_bytes(need, sizeof need, (double)n_mapped), strerror(errno));
    }
    madvise(p, n_mapped, MADV_HUGEPAGE);
    *base = p;
    return LS_OK;
}

/* The first rank's part; *fd is open afterwards unless it failed. */
static ls_status make(offer *o, ls_shared_kind kind, size_t n_mapped, int *fd, ls_err *err) {
    o->pid = getpid();
    o->nonce = (uint64_t)ls_now_ns() * 0x9E3779B97F4A7C15u ^ (uint64_t)o->pid;
    o->name[0] = '\0';
    if (kind == LS_SHARED_BEST) {
        *fd = memfd_create("lockstep", MFD_CLOEXEC);
    } else {
        snprintf(o->name, sizeof o->name, "/lockstep-%d-%016llx", (int)o->pid, (unsigned long long)o->nonce);
        *fd = shm_open(o->name, O_RDWR | O_CREAT | O_EXCL, 0600);
    }
    o->fd = *fd;
    if (*fd < 0 || ftruncate(*fd, (off_t)n_mapped) != 0) {
        return ls_fail(err, LS_ENOMEM, "shared memory cannot be made: %s", strerror(errno));
    }
    /* /dev/shm has a size of its own, and running over it is a SIGBUS at some later store. */
    int full = kind == LS_SHARED_NAMED ? posix_fallocate(*fd, 0, (off_t)n_mapped) : 0;
    if (full != 0) {
        char need[32];
        return ls_fail(err, LS_ENOMEM, "/dev/shm has no room for %s: %s; make it larger (mount -o remount,size=...)",
                       ls_format_bytes(need, sizeof need, (double)n_mapped), strerror(full));
    }
    return LS_OK;
}

static ls_status open_offered(const offer *o, int *fd, ls_err *err) {
    if (o->name[0] != '\0') {
        *fd = shm_open(o->name, O_RDWR, 0600);
    } else {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)o->pid, (int)o->fd);
        *fd = open(path, O_RDWR | O_CLOEXEC);
    }
    return *fd >= 0 ? LS_OK
                    : ls_fail(err, LS_EIO, "memory of the node's first rank cannot be opened: %s", strerror(errno));
}

/* One way of sharing, tried by all ranks of the node; the same status on all of them, the sentence on who has one. */
static ls_status share(ls_shared *out, ls_team *team, ls_shared_kind kind, ls_err *err) {
    offer o = {LS_OK, 0, -1, 0, ""};
    int fd = -1;
    ls_status status = LS_OK;
    if (team->local == 0) {
        status = make(&o, kind, out->n_mapped, &fd, err);
        o.status = status;
    }
    ls_team_node_bcast(team, &o, sizeof o);
    if (o.status == LS_OK && team->local != 0) {
        struct stat st;
        status = open_offered(&o, &fd, err);
        if (status == LS_OK && (fstat(fd, &st) != 0 || (size_t)st.st_size != out->n_mapped)) {
            status = ls_fail(err, LS_EIO, "memory of the node's first rank is not what it said");
        }
    }
    if (o.status == LS_OK && status == LS_OK) {
        status = map(fd, out->n_mapped, &out->base, err);
    }
    if (team->local == 0 && status == LS_OK) {
        *nonce_of(out->base, out->n_mapped) = o.nonce;
    }
    ls_team_node_barrier(team);
    if (team->local != 0 && status == LS_OK && o.status == LS_OK && *nonce_of(out->base, out->n_mapped) != o.nonce) {
        status = ls_fail(err, LS_EIO, "memory of the node's first rank is another process's");
    }
    int32_t mine = (int32_t)(o.status != LS_OK ? o.status : status);
    int32_t *all = ls_xcalloc((size_t)team->n_local, sizeof *all);
    ls_team_node_allgather(team, &mine, sizeof mine, all);
    ls_status worst = LS_OK;
    for (int i = 0; i < team->n_local && worst == LS_OK; i++) {
        worst = (ls_status)all[i];
    }
    free(all);
    if (team->local == 0 && o.name[0] != '\0') {
        shm_unlink(o.name);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (worst != LS_OK && out->base != NULL) {
        munmap(out->base, out->n_mapped);
        out->base = NULL;
    }
    return worst;
}

static ls_status tell(ls_err *err, const ls_err *own) {
    if (err != NULL) {
        *err = *own;
    }
    return own->status;
}

ls_status ls_shared_create(ls_shared *out, ls_team *team, size_t n_bytes, ls_shared_kind kind, ls_err *err) {
    *out = (ls_shared){NULL, n_bytes, ls_align_up(n_bytes, page()) + page()};
    ls_err own = LS_ERR_INIT;
    ls_status status = team->local == 0 ? check_room(out->n_mapped, &own) : LS_OK;
    status = ls_team_agree(team, status, &own);
    if (status != LS_OK) {
        return tell(err, &own);
    }
    if (team->n_local == 1) {
        status = map(-1, out->n_mapped, &out->base, &own);
    } else {
        status = share(out, team, kind, &own);
        if (status == LS_EIO && kind == LS_SHARED_BEST) {
            ls_debug("%s; falling back on a POSIX segment", own.text[0] != '\0' ? own.text : "a neighbour is refused");
            own = (ls_err)LS_ERR_INIT;
            status = share(out, team, LS_SHARED_NAMED, &own);
        }
    }
    if (own.text[0] == '\0' && status != LS_OK) {
        ls_fail(&own, status, "memory cannot be shared with the other ranks of this node");
    }
    status = ls_team_agree(team, status, &own);
    if (status != LS_OK) {
        ls_shared_release(out);
        return tell(err, &own);
    }
    return LS_OK;
}

void ls_shared_release(ls_shared *s) {
    if (s->base != NULL) {
        munmap(s->base, s->n_mapped);
    }
    *s = (ls_shared){0};
}
