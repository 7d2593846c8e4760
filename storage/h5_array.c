/* Arrays of an HDF5 file: create, read, write, append. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/memory.h"
#include "storage/h5.h"
#include "storage/h5_private.h"

enum {
    CHUNK_BYTES = 256 << 10,       /* of a new array's chunk, about */
    DEFAULT_CACHE_BYTES = 1 << 20, /* HDF5's: a chunk that does not fit is unpacked again for every row of it */
    CACHE_BYTES_MAX = 256 << 20,
};

struct ls_h5_array {
    ls_h5 *file;
    hid_t id;
    char *path;
    ls_h5_info info;
    int fd;       /* of the file, where the rows lie in it one after the other as they are in memory; else -1 */
    off_t offset; /* of row 0 then */
};

/* Fills the derived fields from type, rank and dims; false when a product overflows. */
static bool info_complete(ls_h5_info *info) {
    info->n_elems = 1;
    info->row_bytes = ls_h5_type_bytes(info->type);
    bool empty = false;
    for (int i = 0; i < info->rank; i++) {
        empty = empty || info->dims[i] == 0;
    }
    for (int i = 0; i < info->rank; i++) {
        if ((!empty && __builtin_mul_overflow(info->n_elems, info->dims[i], &info->n_elems)) ||
            (i > 0 && __builtin_mul_overflow(info->row_bytes, info->dims[i], &info->row_bytes))) {
            return false;
        }
    }
    if (empty) {
        info->n_elems = 0;
    }
    info->n_rows = info->rank > 0 ? info->dims[0] : 1;
    size_t n_bytes;
    return !__builtin_mul_overflow(info->row_bytes, info->n_rows, &n_bytes) && n_bytes <= PTRDIFF_MAX;
}

static ls_status read_info(ls_h5 *file, const char *path, hid_t id, ls_h5_info *info, ls_err *err) {
    *info = (ls_h5_info){0};
    LS_H5_SCOPED type = H5Dget_type(id);
    LS_H5_SCOPED space = H5Dget_space(id);
    if (type < 0 || space < 0) {
        return ls_h5_fail(file, path, err, LS_ECORRUPT, "the array's description cannot be read");
    }
    if (!ls_h5_type_from_hdf5(type, &info->type)) {
        return ls_fail(err, LS_EINPUT, "%s:%s: holds elements that are not numbers of a known type", file->path, path);
    }
    H5S_class_t class = H5Sget_simple_extent_type(space);
    int rank = class == H5S_SCALAR ? 0 : H5Sget_simple_extent_ndims(space);
    if ((class != H5S_SCALAR && class != H5S_SIMPLE) || rank > LS_H5_RANK_MAX) {
        return ls_fail(err, LS_EINPUT, "%s:%s: has %d axes; 0 to %d were expected", file->path, path, rank,
                       LS_H5_RANK_MAX);
    }
    hsize_t dims[LS_H5_RANK_MAX] = {0}, chunk[LS_H5_RANK_MAX] = {0};
    info->rank = rank;
    if (rank > 0) {
        H5Sget_simple_extent_dims(space, dims, NULL);
    }
    for (int i = 0; i < rank; i++) {
        info->dims[i] = dims[i];
    }
    if (!info_complete(info)) {
        return ls_fail(err, LS_ECORRUPT, "%s:%s: claims a shape that is larger than memory can be", file->path, path);
    }
    LS_H5_SCOPED creation = H5Dget_create_plist(id);
    if (creation >= 0 && H5Pget_layout(creation) == H5D_CHUNKED && H5Pget_chunk(creation, LS_H5_RANK_MAX, chunk) > 0) {
        info->chunk_rows = chunk[0];
    }
    info->stored_bytes = H5Dget_storage_size(id);
    return LS_OK;
}

static ls_h5_array *array_make(ls_h5 *file, const char *path, hid_t id, const ls_h5_info *info) {
    ls_h5_array *array = ls_xcalloc(1, sizeof *array);
    *array = (ls_h5_array){file, id, ls_xstrdup(path), *info, -1, 0};
    return array;
}

/* Rows that are stored whole and in this machine's byte order, in a file that nobody here writes, need no library: read
 * with pread they cost no lock, no allocation and no copy. */
static void find_rows_in_file(ls_h5_array *array) {
    unsigned intent = H5F_ACC_RDWR;
    void *handle = NULL;
    LS_H5_SCOPED type = H5Dget_type(array->id);
    LS_H5_SCOPED creation = H5Dget_create_plist(array->id);
    LS_H5_SCOPED access = H5Fget_access_plist(array->file->id);
    if (H5Fget_intent(array->file->id, &intent) < 0 || intent != H5F_ACC_RDONLY || array->info.rank == 0 ||
        H5Pget_layout(creation) != H5D_CONTIGUOUS || H5Pget_external_count(creation) != 0 ||
        H5Tequal(type, ls_h5_memory_type(array->info.type)) <= 0 || H5Pget_driver(access) != H5FD_SEC2 ||
        H5Dget_storage_size(array->id) != array->info.n_rows * array->info.row_bytes) {
        return;
    }
    haddr_t offset = H5Dget_offset(array->id);
    if (offset != HADDR_UNDEF && H5Fget_vfd_handle(array->file->id, access, &handle) >= 0 && handle != NULL) {
        array->fd = *(const int *)handle;
        array->offset = (off_t)offset;
    }
}

/* Opens again with a cache that holds some chunks, where HDF5's own is too small for one or two. */
static hid_t with_larger_cache(const ls_h5 *file, const char *path, hid_t id, const ls_h5_info *info) {
    size_t chunk_bytes;
    if (__builtin_mul_overflow(info->chunk_rows, info->row_bytes, &chunk_bytes) ||
        chunk_bytes <= DEFAULT_CACHE_BYTES / 2 || chunk_bytes > CACHE_BYTES_MAX) {
        return id;
    }
    size_t n_chunks = CACHE_BYTES_MAX / chunk_bytes < 4 ? CACHE_BYTES_MAX / chunk_bytes : 4;
    LS_H5_SCOPED access = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk_cache(access, H5D_CHUNK_CACHE_NSLOTS_DEFAULT, n_chunks * chunk_bytes, H5D_CHUNK_CACHE_W0_DEFAULT);
    H5Dclose(id);
    return H5Dopen2(file->id, path, access);
}

ls_status ls_h5_array_open(ls_h5 *file, const char *path, ls_h5_array **array, ls_err *err) {
    LS_H5_GUARD;
    ls_h5_kind kind = ls_h5_kind_of(file, path);
    if (kind == LS_H5_NOTHING) {
        return ls_h5_fail_missing(file, path, "array", err);
    }
    if (kind == LS_H5_GROUP) {
        return ls_fail(err, LS_EINPUT, "%s:%s: is a group; an array was expected", file->path, path);
    }
    hid_t id = H5Dopen2(file->id, path, H5P_DEFAULT);
    if (id < 0) {
        return ls_h5_fail(file, path, err, LS_ECORRUPT, "the array cannot be opened");
    }
    ls_h5_info info;
    ls_status s = read_info(file, path, id, &info, err);
    if (s != LS_OK) {
        H5Dclose(id);
        return s;
    }
    id = with_larger_cache(file, path, id, &info);
    if (id < 0) {
        return ls_h5_fail(file, path, err, LS_ECORRUPT, "the array cannot be opened");
    }
    *array = array_make(file, path, id, &info);
    find_rows_in_file(*array);
    return LS_OK;
}

static ls_status set_storage(const ls_h5_info *info, const ls_h5_storage *storage, hid_t creation) {
    H5Pset_obj_track_times(creation, false);
    bool chunked = storage->gzip > 0 || storage->shuffle || storage->fletcher32 || storage->chunk_rows > 0;
    /* A scalar or an empty array has nothing to cut into chunks. */
    if (!chunked || info->rank < 1 || info->n_elems == 0) {
        return LS_OK;
    }
    hsize_t chunk[LS_H5_RANK_MAX];
    for (int i = 0; i < info->rank; i++) {
        chunk[i] = info->dims[i];
    }
    uint64_t rows = storage->chunk_rows;
    if (rows == 0) {
        rows = info->row_bytes > 0 && info->row_bytes < CHUNK_BYTES ? CHUNK_BYTES / info->row_bytes : 1;
    }
    chunk[0] = rows > chunk[0] ? chunk[0] : rows;
    bool good = H5Pset_chunk(creation, info->rank, chunk) >= 0;
    good = good && (!storage->shuffle || H5Pset_shuffle(creation) >= 0);
    good = good && (storage->gzip <= 0 || H5Pset_deflate(creation, (unsigned)storage->gzip) >= 0);
    good = good && (!storage->fletcher32 || H5Pset_fletcher32(creation) >= 0);
    return good ? LS_OK : LS_EINPUT;
}

ls_status ls_h5_array_create(ls_h5 *file, const char *path, ls_h5_type type, int rank, const uint64_t *dims,
                             const ls_h5_storage *storage, ls_h5_array **array, ls_err *err) {
    LS_H5_GUARD;
    LS_ASSERT(rank >= 0 && rank <= LS_H5_RANK_MAX && (unsigned)type < LS_H5_TYPE_COUNT);
    if (ls_h5_path_exists(file, path)) {
        return ls_fail(err, LS_EINPUT, "%s:%s: exists already", file->path, path);
    }
    ls_h5_storage contiguous = {0};
    storage = storage ? storage : &contiguous;
    ls_h5_info info = {.type = type, .rank = rank};
    hsize_t size[LS_H5_RANK_MAX];
    for (int i = 0; i < rank; i++) {
        info.dims[i] = size[i] = dims[i];
    }
    if (!info_complete(&info)) {
        return ls_fail(err, LS_EINPUT, "%s:%s: the shape is larger than memory can be", file->path, path);
    }
    LS_H5_SCOPED space = rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(rank, size, NULL);
    LS_H5_SCOPED links = H5Pcreate(H5P_LINK_CREATE);
    LS_H5_SCOPED creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    if (set_storage(&info, storage, creation) != LS_OK) {
        return ls_h5_fail(file, path, err, LS_EINPUT, "the array cannot be stored that way");
    }
    hid_t id = H5Dcreate2(file->id, path, ls_h5_memory_type(type), space, links, creation, H5P_DEFAULT);
    if (id < 0) {
        return ls_h5_fail(file, path, err, LS_EIO, "the array cannot be created");
    }
    ls_status s = read_info(file, path, id, &info, err);
    if (s != LS_OK) {
        H5Dclose(id);
        return s;
    }
    *array = array_make(file, path, id, &info);
    return LS_OK;
}

ls_status ls_h5_array_close(ls_h5_array *array, ls_err *err) {
    LS_H5_GUARD;
    if (array == NULL) {
        return LS_OK;
    }
    ls_status s = LS_OK;
    if (H5Dclose(array->id) < 0) {
        s = ls_h5_fail(array->file, array->path, err, LS_EIO, "the array cannot be written");
    }
    free(array->path);
    free(array);
    return s;
}

void ls_h5_array_discard(ls_h5_array *array) {
    ls_status s = ls_h5_array_close(array, NULL);
    (void)s;
}

const ls_h5_info *ls_h5_array_info(const ls_h5_array *array) {
    return &array->info;
}

/* The rows [first, first + count) in the file, and a memory space of the same shape. */
static bool select_rows(const ls_h5_array *array, uint64_t first, uint64_t count, hid_t *in_file, hid_t *in_memory) {
    *in_file = H5Dget_space(array->id);
    if (array->info.rank == 0) {
        *in_memory = H5Screate(H5S_SCALAR);
        return *in_file >= 0 && *in_memory >= 0;
    }
    hsize_t start[LS_H5_RANK_MAX] = {first}, size[LS_H5_RANK_MAX];
    for (int i = 0; i < array->info.rank; i++) {
        size[i] = i == 0 ? count : array->info.dims[i];
    }
    *in_memory = H5Screate_simple(array->info.rank, size, NULL);
    return *in_file >= 0 && *in_memory >= 0 &&
           H5Sselect_hyperslab(*in_file, H5S_SELECT_SET, start, NULL, size, NULL) >= 0;
}

static ls_status check_rows(const ls_h5_array *array, uint64_t first, uint64_t count, ls_err *err) {
    if (first > array->info.n_rows || count > array->info.n_rows - first) {
        return ls_fail(err, LS_EINPUT, "%s:%s: rows %llu to %llu were asked for, but it has %llu", array->file->path,
                       array->path, (unsigned long long)first, (unsigned long long)(first + count),
                       (unsigned long long)array->info.n_rows);
    }
    return LS_OK;
}

static ls_status read_from_file(const ls_h5_array *array, uint64_t first, uint64_t count, char *out, ls_err *err) {
    size_t left = count * array->info.row_bytes;
    off_t at = array->offset + (off_t)(first * array->info.row_bytes);
    while (left > 0) {
        ssize_t n = pread(array->fd, out, left, at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return ls_fail(err, LS_ECORRUPT, "%s:%s: rows %llu to %llu cannot be read: %s", array->file->path,
                           array->path, (unsigned long long)first, (unsigned long long)(first + count),
                           n < 0 ? strerror(errno) : "the file ends before them");
        }
        left -= (size_t)n;
        out += n;
        at += n;
    }
    return LS_OK;
}

void ls_h5_array_will_read(const ls_h5_array *array, uint64_t first, uint64_t count) {
    if (array->fd >= 0) {
        posix_fadvise(array->fd, array->offset + (off_t)(first * array->info.row_bytes),
                      (off_t)(count * array->info.row_bytes), POSIX_FADV_WILLNEED);
    }
}

ls_status ls_h5_array_read(ls_h5_array *array, ls_h5_type as, uint64_t first, uint64_t count, void *out, ls_err *err) {
    LS_TRY(check_rows(array, first, count, err));
    if (count == 0 || array->info.n_elems == 0) {
        return LS_OK;
    }
    if (array->fd >= 0 && as == array->info.type) {
        return read_from_file(array, first, count, out, err);
    }
    LS_H5_GUARD;
    LS_H5_SCOPED in_file = -1;
    LS_H5_SCOPED in_memory = -1;
    if (!select_rows(array, first, count, &in_file, &in_memory) ||
        H5Dread(array->id, ls_h5_memory_type(as), in_memory, in_file, H5P_DEFAULT, out) < 0) {
        return ls_h5_fail(array->file, array->path, err, LS_ECORRUPT, "rows %llu to %llu cannot be read as %s",
                          (unsigned long long)first, (unsigned long long)(first + count), ls_h5_type_name(as));
    }
    return LS_OK;
}

ls_status ls_h5_array_write(ls_h5_array *array, uint64_t first, uint64_t count, const void *data, ls_err *err) {
    LS_H5_GUARD;
    LS_TRY(check_rows(array, first, count, err));
    if (count == 0 || array->info.n_elems == 0) {
        return LS_OK;
    }
    LS_H5_SCOPED in_file = -1;
    LS_H5_SCOPED in_memory = -1;
    if (!select_rows(array, first, count, &in_file, &in_memory) ||
        H5Dwrite(array->id, ls_h5_memory_type(array->info.type), in_memory, in_file, H5P_DEFAULT, data) < 0) {
        return ls_h5_fail(array->file, array->path, err, LS_EIO, "the array cannot be written");
    }
    return LS_OK;
}

ls_status ls_h5_info_of(ls_h5 *file, const char *path, ls_h5_info *info, ls_err *err) {
    ls_h5_array *array = NULL;
    LS_TRY(ls_h5_array_open(file, path, &array, err));
    LS_ASSERT(array != NULL);
    *info = array->info;
    ls_h5_array_discard(array);
    return LS_OK;
}

ls_status ls_h5_read(ls_h5 *file, const char *path, ls_h5_type as, uint64_t n_elems, void *out, ls_err *err) {
    ls_h5_array *array = NULL;
    LS_TRY(ls_h5_array_open(file, path, &array, err));
    LS_ASSERT(array != NULL);
    ls_status s = array->info.n_elems == n_elems
                      ? ls_h5_array_read(array, as, 0, array->info.n_rows, out, err)
                      : ls_fail(err, LS_EINPUT, "%s:%s: holds %llu elements; %llu were expected", file->path, path,
                                (unsigned long long)array->info.n_elems, (unsigned long long)n_elems);
    ls_h5_array_discard(array);
    return s;
}

ls_status ls_h5_write(ls_h5 *file, const char *path, ls_h5_type type, int rank, const uint64_t *dims, const void *data,
                      const ls_h5_storage *storage, ls_err *err) {
    ls_h5_array *array = NULL;
    LS_TRY(ls_h5_array_create(file, path, type, rank, dims, storage, &array, err));
    LS_ASSERT(array != NULL);
    ls_status s = ls_h5_array_write(array, 0, array->info.n_rows, data, err);
    ls_status closed = ls_h5_array_close(array, s == LS_OK ? err : NULL);
    return s != LS_OK ? s : closed;
}
