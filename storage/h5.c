/* Files, groups, types, and the library's start-up, lock and error texts. */
#include "storage/h5.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/memory.h"
#include "storage/h5_private.h"

static const struct {
    const char *word;
    size_t bytes;
} types[] = {
#define X(name, word, bytes) {word, bytes},
    LS_H5_TYPE_LIST(X)
#undef X
};

const char *ls_h5_type_name(ls_h5_type type) {
    return types[type].word;
}

size_t ls_h5_type_bytes(ls_h5_type type) {
    return types[type].bytes;
}

void ls_h5_names_release(ls_h5_names *names) {
    for (size_t i = 0; i < names->n; i++) {
        free(names->items[i]);
    }
    free(names->items);
    *names = (ls_h5_names){NULL, 0};
}

/* ---- the library ---- */

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static bool started;
static hid_t half_type, bool_type;
static _Thread_local bool silenced;

static void make_types(void) {
    half_type = H5Tcopy(H5T_NATIVE_FLOAT);
    H5Tset_fields(half_type, 15, 10, 5, 0, 10);
    H5Tset_size(half_type, 2);
    H5Tset_ebias(half_type, 15);
    const int8_t no = 0, yes = 1;
    bool_type = H5Tenum_create(H5T_NATIVE_INT8);
    H5Tenum_insert(bool_type, "FALSE", &no);
    H5Tenum_insert(bool_type, "TRUE", &yes);
}

int ls_h5_enter(void) {
    pthread_mutex_lock(&lock);
    if (!started) {
#if !H5_VERSION_GE(1, 10, 7)
        setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0); /* read once, when the library starts */
#endif
        H5open();
        make_types();
        started = true;
    }
    if (!silenced) { /* HDF5 keeps an error stack a thread */
        H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
        silenced = true;
    }
    return 0;
}

void ls_h5_leave(int *guard) {
    (void)guard;
    pthread_mutex_unlock(&lock);
}

void ls_h5_release_id(hid_t *id) {
    if (*id >= 0) {
        H5Idec_ref(*id);
    }
}

static herr_t keep_innermost(unsigned n, const H5E_error2_t *entry, void *to) {
    if (n == 0 && entry->desc != NULL) {
        snprintf(to, 256, "%s", entry->desc);
    }
    return 0;
}

ls_status ls_h5_fail(const ls_h5 *file, const char *object, ls_err *err, ls_status status, const char *format, ...) {
    char reason[256] = "", text[640];
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, reason);
    LS_FORMAT(text, format);
    return ls_fail(err, status, "%s%s%s: %s%s%s%s", file->path, object[0] ? ":" : "", object, text,
                   reason[0] ? " (HDF5: " : "", reason, reason[0] ? ")" : "");
}

/* ---- types ---- */

hid_t ls_h5_memory_type(ls_h5_type type) {
    switch (type) {
        case LS_H5_F32: return H5T_NATIVE_FLOAT;
        case LS_H5_F64: return H5T_NATIVE_DOUBLE;
        case LS_H5_F16: return half_type;
        case LS_H5_I8: return H5T_NATIVE_INT8;
        case LS_H5_I16: return H5T_NATIVE_INT16;
        case LS_H5_I32: return H5T_NATIVE_INT32;
        case LS_H5_I64: return H5T_NATIVE_INT64;
        case LS_H5_U8: return H5T_NATIVE_UINT8;
        case LS_H5_U16: return H5T_NATIVE_UINT16;
        case LS_H5_U32: return H5T_NATIVE_UINT32;
        case LS_H5_U64: return H5T_NATIVE_UINT64;
        case LS_H5_BOOL: return bool_type;
        case LS_H5_TYPE_COUNT: break;
    }
    LS_ASSERT(!"a type of the list");
    return -1;
}

/* h5py's bool: an enumeration over one byte whose two members are FALSE and TRUE. */
static bool is_bool(hid_t stored) {
    int8_t value = -1;
    return H5Tget_size(stored) == 1 && H5Tget_nmembers(stored) == 2 && H5Tenum_valueof(stored, "FALSE", &value) >= 0 &&
           value == 0 && H5Tenum_valueof(stored, "TRUE", &value) >= 0 && value == 1;
}

bool ls_h5_type_from_hdf5(hid_t stored, ls_h5_type *type) {
    static const ls_h5_type ints[] = {LS_H5_I8, LS_H5_I16, LS_H5_I32, LS_H5_I64};
    static const ls_h5_type uints[] = {LS_H5_U8, LS_H5_U16, LS_H5_U32, LS_H5_U64};
    size_t bytes = H5Tget_size(stored);
    H5T_class_t class = H5Tget_class(stored);
    if (class == H5T_ENUM && is_bool(stored)) {
        *type = LS_H5_BOOL;
        return true;
    }
    if (class == H5T_FLOAT && (bytes == 2 || bytes == 4 || bytes == 8)) {
        *type = bytes == 2 ? LS_H5_F16 : bytes == 4 ? LS_H5_F32 : LS_H5_F64;
        return true;
    }
    if (class == H5T_INTEGER && (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8)) {
        *type = (H5Tget_sign(stored) == H5T_SGN_NONE ? uints : ints)[bytes == 8 ? 3 : bytes / 2];
        return true;
    }
    return false;
}

/* ---- files ---- */

static hid_t file_access(void) {
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 10, 7)
    H5Pset_file_locking(access, false, true);
#endif
    return access;
}

static ls_status file_open(const char *path, unsigned flags, ls_h5 **file, ls_err *err) {
    LS_H5_GUARD;
    struct stat st;
    if (stat(path, &st) != 0) {
        return ls_fail(err, LS_EINPUT, "%s: cannot be opened: %s", path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        return ls_fail(err, LS_EINPUT, "%s: is not a file; an HDF5 file was expected", path);
    }
    ls_h5 opened = {.id = -1, .path = (char *)path};
    LS_H5_SCOPED access = file_access();
    opened.id = H5Fopen(path, flags, access);
    if (opened.id < 0) {
        ls_err found = LS_ERR_INIT;
        ls_status s = ls_h5_fail(&opened, "", &found, LS_ECORRUPT, "is damaged or truncated and cannot be opened");
        FILE *readable = fopen(path, flags == H5F_ACC_RDONLY ? "rb" : "r+b");
        if (readable == NULL) {
            return ls_fail(err, LS_EINPUT, "%s: cannot be opened: %s", path, strerror(errno));
        }
        fclose(readable);
        if (H5Fis_hdf5(path) <= 0) {
            return ls_fail(err, LS_EINPUT, "%s: is not an HDF5 file", path);
        }
        return ls_fail(err, s, "%s", found.text);
    }
    *file = ls_xcalloc(1, sizeof **file);
    **file = (ls_h5){opened.id, ls_xstrdup(path)};
    return LS_OK;
}

ls_status ls_h5_open(const char *path, ls_h5 **file, ls_err *err) {
    return file_open(path, H5F_ACC_RDONLY, file, err);
}

ls_status ls_h5_open_writable(const char *path, ls_h5 **file, ls_err *err) {
    return file_open(path, H5F_ACC_RDWR, file, err);
}

ls_status ls_h5_create(const char *path, ls_h5 **file, ls_err *err) {
    LS_H5_GUARD;
    LS_H5_SCOPED access = file_access();
    LS_H5_SCOPED creation = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_obj_track_times(creation, false);
    errno = 0;
    hid_t id = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    if (id < 0) {
        int reason = errno;
        ls_h5 failed = {-1, (char *)path};
        return reason != 0 ? ls_fail(err, ls_write_status(reason), "%s: cannot be created: %s", path, strerror(reason))
                           : ls_h5_fail(&failed, "", err, LS_EIO, "cannot be created");
    }
    *file = ls_xcalloc(1, sizeof **file);
    **file = (ls_h5){id, ls_xstrdup(path)};
    return LS_OK;
}

ls_status ls_h5_flush(ls_h5 *file, ls_err *err) {
    LS_H5_GUARD;
    return H5Fflush(file->id, H5F_SCOPE_GLOBAL) < 0 ? ls_h5_fail(file, "", err, LS_EIO, "cannot be written") : LS_OK;
}

ls_status ls_h5_close(ls_h5 *file, ls_err *err) {
    LS_H5_GUARD;
    if (file == NULL) {
        return LS_OK;
    }
    ls_status s = LS_OK;
    unsigned intent = 0;
    H5Fget_intent(file->id, &intent);
    if (intent != H5F_ACC_RDONLY) {
        s = ls_h5_flush(file, err);
    }
    if (H5Fclose(file->id) < 0 && s == LS_OK) {
        s = ls_h5_fail(file, "", err, LS_EIO, "cannot be completed");
    }
    free(file->path);
    free(file);
    return s;
}

void ls_h5_discard(ls_h5 *file) {
    ls_status s = ls_h5_close(file, NULL);
    (void)s;
}

const char *ls_h5_path(const ls_h5 *file) {
    return file->path;
}

/* ---- groups and links ---- */

/* The length of the longest part of the path that exists, up to a '/' or the end. */
static size_t existing_part(const ls_h5 *file, const char *path) {
    char *part = ls_xstrdup(path);
    size_t good = 0;
    for (size_t i = 0; path[i] != '\0';) {
        i += strspn(path + i, "/");
        size_t end = i + strcspn(path + i, "/");
        part[end] = '\0';
        bool there = end == i ||
                     (H5Lexists(file->id, part, H5P_DEFAULT) > 0 && H5Oexists_by_name(file->id, part, H5P_DEFAULT) > 0);
        part[end] = path[end];
        if (!there) {
            break;
        }
        good = i = end;
    }
    free(part);
    return good;
}

bool ls_h5_path_exists(const ls_h5 *file, const char *path) {
    return path[0] != '\0' && existing_part(file, path) == strlen(path);
}

static ls_h5_kind kind_of(const ls_h5 *file, const char *path) {
    if (!ls_h5_path_exists(file, path)) {
        return LS_H5_NOTHING;
    }
    LS_H5_SCOPED object = H5Oopen(file->id, path, H5P_DEFAULT);
    switch (object < 0 ? H5I_BADID : H5Iget_type(object)) {
        case H5I_GROUP: return LS_H5_GROUP;
        case H5I_DATASET: return LS_H5_ARRAY;
        default: return LS_H5_OTHER;
    }
}

ls_h5_kind ls_h5_kind_of(ls_h5 *file, const char *path) {
    LS_H5_GUARD;
    return kind_of(file, path);
}

ls_status ls_h5_fail_missing(ls_h5 *file, const char *path, const char *wanted, ls_err *err) {
    size_t good = existing_part(file, path);
    char *parent = ls_xprintf("%.*s", good ? (int)good : 1, good ? path : "/");
    size_t from = good + strspn(path + good, "/");
    ls_h5_names names = {NULL, 0};
    char there[400] = "nothing";
    if (ls_h5_members(file, parent, &names, NULL) == LS_OK && names.n > 0) {
        size_t used = 0;
        for (size_t i = 0; i < names.n && used < sizeof there; i++) {
            int n = snprintf(there + used, sizeof there - used, "%s%s", i ? ", " : "", names.items[i]);
            used += n > 0 ? (size_t)n : 0;
        }
        if (used >= sizeof there) {
            memcpy(there + sizeof there - 4, "...", 4);
        }
    }
    ls_status s = ls_fail(err, LS_EINPUT, "%s:%s: there is no such %s: \"%s\" is not in %s, which holds %s", file->path,
                          path, wanted, path + from, parent, there);
    ls_h5_names_release(&names);
    free(parent);
    return s;
}

ls_status ls_h5_group_create(ls_h5 *file, const char *path, ls_err *err) {
    LS_H5_GUARD;
    ls_h5_kind kind = kind_of(file, path);
    if (kind == LS_H5_GROUP) {
        return LS_OK;
    }
    if (kind != LS_H5_NOTHING) {
        return ls_fail(err, LS_EINPUT, "%s:%s: exists and is not a group", file->path, path);
    }
    LS_H5_SCOPED links = H5Pcreate(H5P_LINK_CREATE);
    LS_H5_SCOPED creation = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    H5Pset_obj_track_times(creation, false);
    LS_H5_SCOPED group = H5Gcreate2(file->id, path, links, creation, H5P_DEFAULT);
    return group < 0 ? ls_h5_fail(file, path, err, LS_EIO, "the group cannot be created") : LS_OK;
}

typedef struct {
    ls_h5_names names;
    size_t cap;
} name_list;

static herr_t add_name(hid_t group, const char *name, const H5L_info_t *info, void *to) {
    (void)group, (void)info;
    name_list *list = to;
    LS_PUSH(list->names.items, list->names.n, list->cap, ls_xstrdup(name));
    return 0;
}

ls_status ls_h5_members(ls_h5 *file, const char *group, ls_h5_names *names, ls_err *err) {
    LS_H5_GUARD;
    *names = (ls_h5_names){NULL, 0};
    ls_h5_kind kind = kind_of(file, group);
    if (kind == LS_H5_NOTHING) {
        return ls_h5_fail_missing(file, group, "group", err);
    }
    if (kind != LS_H5_GROUP) {
        return ls_fail(err, LS_EINPUT, "%s:%s: is not a group", file->path, group);
    }
    name_list list = {{NULL, 0}, 0};
    LS_H5_SCOPED id = H5Gopen2(file->id, group, H5P_DEFAULT);
    if (id < 0 || H5Literate(id, H5_INDEX_NAME, H5_ITER_INC, NULL, add_name, &list) < 0) {
        ls_status s = ls_h5_fail(file, group, err, LS_ECORRUPT, "the group cannot be read");
        ls_h5_names_release(&list.names);
        return s;
    }
    *names = list.names;
    return LS_OK;
}
