#include "storage/seal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fault.h"
#include "common/memory.h"
#include "storage/hash.h"

static const char magic[8] = {'L', 'S', 'S', 'E', 'A', 'L', '0', '1'};

typedef struct {
    char magic[8];
    uint64_t n_bytes; /* little-endian */
    unsigned char hash[LS_HASH_BYTES];
    uint64_t reserved;
    uint64_t check; /* little-endian */
} trailer;
_Static_assert(sizeof(trailer) == LS_SEAL_BYTES, "the trailer has no padding");

static uint64_t trailer_check(const trailer *t) {
    return htole64(ls_hash64(t, offsetof(trailer, check)));
}

static ls_status hash_prefix(int fd, const char *path, uint64_t n_bytes, unsigned char out[LS_HASH_BYTES],
                             ls_err *err) {
    enum { CHUNK = 1 << 20 };
    char *buffer = ls_xcalloc(CHUNK, 1);
    ls_hash *hash = ls_hash_start();
    ls_status s = LS_OK;
    for (uint64_t done = 0; s == LS_OK && done < n_bytes;) {
        size_t want = n_bytes - done < CHUNK ? (size_t)(n_bytes - done) : CHUNK;
        ssize_t n = pread(fd, buffer, want, (off_t)done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            s = ls_fail(err, LS_EIO, "%s: cannot be read: %s", path, n < 0 ? strerror(errno) : "it became shorter");
        } else {
            ls_hash_add(hash, buffer, (size_t)n);
            done += (uint64_t)n;
        }
    }
    ls_hash_finish(hash, out);
    free(buffer);
    return s;
}

/* 1 when there is a well-formed trailer that fits the file's length, 0 when there is none, -1 when there is a damaged
 * one. */
static int read_trailer(int fd, trailer *t, uint64_t *n_total) {
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < LS_SEAL_BYTES) {
        return 0;
    }
    *n_total = (uint64_t)st.st_size;
    if (pread(fd, t, sizeof *t, st.st_size - LS_SEAL_BYTES) != (ssize_t)sizeof *t ||
        memcmp(t->magic, magic, sizeof magic) != 0) {
        return 0;
    }
    return t->check == trailer_check(t) && le64toh(t->n_bytes) == *n_total - LS_SEAL_BYTES ? 1 : -1;
}

static int write_fault(void) {
    int error = ls_fault_at("checkpoint");
    errno = error ? error : errno;
    return error;
}

ls_status ls_seal_write(const char *path, int *write_error, ls_err *err) {
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        ls_status s = ls_fail(err, LS_EIO, "%s: cannot be opened: %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return s;
    }
    trailer t = {.n_bytes = htole64((uint64_t)st.st_size)};
    memcpy(t.magic, magic, sizeof magic);
    ls_status s = hash_prefix(fd, path, (uint64_t)st.st_size, t.hash, err);
    t.check = trailer_check(&t);
    if (s == LS_OK) {
        errno = ENOSPC; /* what a short write means on a file */
        if (write_fault() || pwrite(fd, &t, sizeof t, st.st_size) != (ssize_t)sizeof t || write_fault() ||
            fsync(fd) != 0) {
            int error = errno;
            s = ls_fail(err, LS_EIO, "%s: cannot be written: %s", path, strerror(error));
            if (write_error != NULL) {
                *write_error = error;
            }
        }
    }
    close(fd);
    return s;
}

ls_status ls_seal_check(const char *path, ls_seal *seal, ls_err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return ls_fail(err, LS_EINPUT, "%s: cannot be opened: %s", path, strerror(errno));
    }
    trailer t;
    unsigned char hash[LS_HASH_BYTES];
    uint64_t n_total = 0;
    int found = read_trailer(fd, &t, &n_total);
    ls_status s = LS_OK;
    if (found < 0) {
        s = ls_fail(err, LS_ECORRUPT, "%s: is damaged: its seal (the last %d bytes) is not whole", path, LS_SEAL_BYTES);
    } else if (found > 0) {
        s = hash_prefix(fd, path, n_total - LS_SEAL_BYTES, hash, err);
        if (s == LS_OK && memcmp(hash, t.hash, sizeof hash) != 0) {
            s = ls_fail(err, LS_ECORRUPT, "%s: is damaged: its contents do not match the seal written with them", path);
        }
    }
    close(fd);
    if (s == LS_OK) {
        *seal = found > 0 ? LS_SEAL_GOOD : LS_SEAL_ABSENT;
    }
    return s;
}

int ls_seal_looks_whole(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    trailer t;
    uint64_t n_total;
    int found = read_trailer(fd, &t, &n_total);
    close(fd);
    return found > 0;
}
