#include "storage/h5_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fault.h"
#include "common/file.h"
#include "common/memory.h"
#include "storage/h5_private.h"

typedef struct {
    const char *fault_place;
    int *error;
} sink_access;

typedef struct {
    H5FD_t pub; /* must be first: HDF5 hands this part around */
    int fd;
    haddr_t eoa, eof; /* end of allocated space; end of what was written */
    const char *fault_place;
    int *error;
} sink;

static void note(sink *s, int error) {
    if (*s->error == 0) {
        *s->error = error;
    }
}

static H5FD_t *sink_open(const char *name, unsigned flags, hid_t fapl, haddr_t maxaddr) {
    (void)maxaddr;
    const sink_access *access = H5Pget_driver_info(fapl);
    int mode = O_CLOEXEC | ((flags & H5F_ACC_RDWR) ? O_RDWR : O_RDONLY) | ((flags & H5F_ACC_TRUNC) ? O_TRUNC : 0) |
               ((flags & H5F_ACC_CREAT) ? O_CREAT : 0) | ((flags & H5F_ACC_EXCL) ? O_EXCL : 0);
    sink *s = calloc(1, sizeof *s);
    if (s == NULL || access == NULL) {
        free(s);
        return NULL;
    }
    s->error = access->error;
    s->fault_place = access->fault_place;
    int fault = ls_fault_at(s->fault_place);
    s->fd = fault ? -1 : open(name, mode, 0666);
    if (s->fd < 0) {
        note(s, fault ? fault : errno);
        free(s);
        return NULL;
    }
    s->eof = (haddr_t)lseek(s->fd, 0, SEEK_END);
    return &s->pub;
}

static herr_t sink_close(H5FD_t *file) {
    sink *s = (sink *)file;
    if (close(s->fd) != 0) {
        note(s, errno);
    }
    free(s);
    return 0;
}

static herr_t sink_query(const H5FD_t *file, unsigned long *flags) {
    (void)file;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t sink_get_eoa(const H5FD_t *file, H5FD_mem_t type) {
    (void)type;
    return ((const sink *)file)->eoa;
}

static herr_t sink_set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t addr) {
    (void)type;
    ((sink *)file)->eoa = addr;
    return 0;
}

static haddr_t sink_get_eof(const H5FD_t *file, H5FD_mem_t type) {
    (void)type;
    return ((const sink *)file)->eof;
}

/* The library reads back only metadata that left its cache; after a failed write there may be nothing to read. */
static herr_t sink_read(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t size, void *buffer) {
    (void)type;
    (void)dxpl;
    sink *s = (sink *)file;
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(s->fd, (char *)buffer + done, size - done, (off_t)(addr + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            if (n < 0) {
                note(s, errno);
            }
            memset((char *)buffer + done, 0, size - done);
            break;
        }
        done += (size_t)n;
    }
    return 0;
}

static herr_t sink_write(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t size, const void *buffer) {
    (void)type;
    (void)dxpl;
    sink *s = (sink *)file;
    size_t done = 0;
    int fault = *s->error == 0 ? ls_fault_at(s->fault_place) : 0;
    if (fault) {
        note(s, fault);
    }
    while (*s->error == 0 && done < size) {
        ssize_t n = pwrite(s->fd, (const char *)buffer + done, size - done, (off_t)(addr + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            note(s, n < 0 ? errno : ENOSPC);
        } else {
            done += (size_t)n;
        }
    }
    s->eof = addr + size > s->eof ? addr + size : s->eof;
    return 0;
}

static herr_t sink_truncate(H5FD_t *file, hid_t dxpl, hbool_t closing) {
    (void)dxpl;
    (void)closing;
    sink *s = (sink *)file;
    if (s->eof != s->eoa) {
        if (*s->error == 0 && ftruncate(s->fd, (off_t)s->eoa) != 0) {
            note(s, errno);
        }
        s->eof = s->eoa;
    }
    return 0;
}

static const H5FD_class_t sink_class = {
#if H5_VERSION_GE(1, 13, 2)
    .version = H5FD_CLASS_VERSION,
    .value = (H5FD_class_value_t)613,
#endif
    .name = "lockstep_sink",
    .maxaddr = ((haddr_t)1 << 62),
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(sink_access),
    .open = sink_open,
    .close = sink_close,
    .query = sink_query,
    .get_eoa = sink_get_eoa,
    .set_eoa = sink_set_eoa,
    .get_eof = sink_get_eof,
    .read = sink_read,
    .write = sink_write,
    .truncate = sink_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

ls_status ls_h5_create_watched(const char *path, const char *fault_place, int *write_error, ls_h5 **file, ls_err *err) {
    LS_H5_GUARD;
    static hid_t driver = -1; /* under the library's lock */
    if (driver < 0) {
        driver = H5FDregister(&sink_class);
    }
    sink_access info = {fault_place, write_error};
    LS_H5_SCOPED access = H5Pcreate(H5P_FILE_ACCESS);
    LS_H5_SCOPED creation = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    H5Pset_obj_track_times(creation, false);
    hid_t id = H5Pset_driver(access, driver, &info) < 0 ? -1 : H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    if (id < 0) {
        ls_h5 failed = {-1, (char *)path};
        return *write_error != 0 ? ls_fail(err, ls_write_status(*write_error), "%s: cannot be created: %s", path,
                                           strerror(*write_error))
                                 : ls_h5_fail(&failed, "", err, LS_EIO, "cannot be created");
    }
    *file = ls_xcalloc(1, sizeof **file);
    **file = (ls_h5){id, ls_xstrdup(path)};
    return LS_OK;
}
