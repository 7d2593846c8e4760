/*
 * HDF5 files: the one seam over the HDF5 library. storage/h5_private.h is the only file that includes hdf5.h.
 *
 * An object inside a file is named by its path ("/", "/train/x"); every error names the file and that path. A path that
 * does not begin with '/' counts from the root.
 *
 * Threads   every function may be called from any thread; one global lock lets one thread at a time into the library.
 *           One ls_h5_array must not be used by two threads at once.
 * Locks     files are opened with HDF5's file locking off, unless the environment variable HDF5_USE_FILE_LOCKING asks
 * for it: many network file systems refuse it. Bytes     no time stamps are stored: the same calls with the same data
 * give the same file. Errors    LS_EINPUT       no such file, not an HDF5 file, no such object, an object of the wrong
 * kind or type LS_ECORRUPT     the file or the object is damaged or truncated LS_EIO          writing failed LS_ENOMEM
 * out of memory
 */
#ifndef LS_STORAGE_H5_H
#define LS_STORAGE_H5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

#define LS_H5_RANK_MAX 8

/* Such a file for ls_file_check_output: what it is called, and how it begins. */
#define LS_H5_FILE "an HDF5 file", "\x89HDF\r\n\x1a\n"

/* name, word for people, bytes. BOOL is one byte, 0 or 1, stored as h5py stores numpy.bool_. */
#define LS_H5_TYPE_LIST(X) \
    X(F32, "float32", 4)   \
    X(F64, "float64", 8)   \
    X(F16, "float16", 2)   \
    X(I8, "int8", 1)       \
    X(I16, "int16", 2)     \
    X(I32, "int32", 4)     \
    X(I64, "int64", 8)     \
    X(U8, "uint8", 1)      \
    X(U16, "uint16", 2)    \
    X(U32, "uint32", 4)    \
    X(U64, "uint64", 8)    \
    X(BOOL, "bool", 1)

typedef enum {
#define X(name, word, bytes) LS_H5_##name,
    LS_H5_TYPE_LIST(X)
#undef X
        LS_H5_TYPE_COUNT
} ls_h5_type;

const char *ls_h5_type_name(ls_h5_type type);
size_t ls_h5_type_bytes(ls_h5_type type);

typedef struct ls_h5 ls_h5;             /* an open file */
typedef struct ls_h5_array ls_h5_array; /* an open array (a "dataset", in HDF5's words) in an open file */

/* A list of names. A zeroed one is empty; release may be called on it. */
typedef struct ls_h5_names {
    char **items;
    size_t n;
} ls_h5_names;
void ls_h5_names_release(ls_h5_names *names);

/* ---- files ---- */

/* Opens for reading. */
ls_status ls_h5_open(const char *path, ls_h5 **file, ls_err *err) LS_MUST_CHECK;
/* Opens an existing file for reading and writing. */
ls_status ls_h5_open_writable(const char *path, ls_h5 **file, ls_err *err) LS_MUST_CHECK;
/* Creates; a file of that name is emptied first. Callers write to a temporary name and rename. */
ls_status ls_h5_create(const char *path, ls_h5 **file, ls_err *err) LS_MUST_CHECK;
/* Everything written so far reaches the operating system (not the disk: ls_file_sync). */
ls_status ls_h5_flush(ls_h5 *file, ls_err *err) LS_MUST_CHECK;
/* Closes and frees, whatever it returns; LS_EIO when what was written could not be completed. Arrays must have been
 * closed before. NULL is legal. */
ls_status ls_h5_close(ls_h5 *file, ls_err *err) LS_MUST_CHECK;
/* Closes and frees a file that was only read, or one that is to be thrown away. NULL is legal. */
void ls_h5_discard(ls_h5 *file);
/* The path it was opened with; lives as long as the file. */
const char *ls_h5_path(const ls_h5 *file);

/* ---- groups and links ---- */

typedef enum { LS_H5_NOTHING, LS_H5_GROUP, LS_H5_ARRAY, LS_H5_OTHER } ls_h5_kind;

/* What is at the path; NOTHING when a part of the path is missing or a link leads nowhere. */
ls_h5_kind ls_h5_kind_of(ls_h5 *file, const char *path);
/* Makes a group, and the groups above it where they are missing; legal when it is there already. */
ls_status ls_h5_group_create(ls_h5 *file, const char *path, ls_err *err) LS_MUST_CHECK;
/* The names in a group, in the order of their bytes. *names is overwritten; the caller releases it. */
ls_status ls_h5_members(ls_h5 *file, const char *group, ls_h5_names *names, ls_err *err) LS_MUST_CHECK;

/* ---- arrays ---- */

typedef struct ls_h5_info {
    ls_h5_type type;
    int rank;                      /* 0: a scalar, one element */
    uint64_t dims[LS_H5_RANK_MAX]; /* [rank] */
    uint64_t n_elems;              /* product of dims; checked to fit, in bytes too */
    uint64_t n_rows;               /* dims[0]; 1 for a scalar */
    size_t row_bytes;              /* bytes of one row, in memory, of the stored type */
    uint64_t chunk_rows;           /* rows of a chunk; 0: contiguous */
    uint64_t stored_bytes;         /* what it takes in the file, after compression */
} ls_h5_info;

/* How a new array is stored. NULL or zeroed: contiguous. Any filter makes it chunked. */
typedef struct ls_h5_storage {
    int gzip;            /* 0 none, 1 fastest .. 9 smallest */
    bool shuffle;        /* byte shuffle before gzip */
    bool fletcher32;     /* a checksum a chunk, checked on read */
    uint64_t chunk_rows; /* 0: about 256 KiB a chunk */
} ls_h5_storage;

ls_status ls_h5_array_open(ls_h5 *file, const char *path, ls_h5_array **array, ls_err *err) LS_MUST_CHECK;
/* Creates it, and the groups above it. LS_EINPUT when the name is taken. */
ls_status ls_h5_array_create(ls_h5 *file, const char *path, ls_h5_type type, int rank, const uint64_t *dims,
                             const ls_h5_storage *storage, ls_h5_array **array, ls_err *err) LS_MUST_CHECK;
/* Frees, whatever it returns; LS_EIO when what was written could not be completed. NULL is legal. */
ls_status ls_h5_array_close(ls_h5_array *array, ls_err *err) LS_MUST_CHECK;
void ls_h5_array_discard(ls_h5_array *array);

/* Lives as long as the array. */
const ls_h5_info *ls_h5_array_info(const ls_h5_array *array);

/* Reads rows [first, first + count) of the first axis as `as` (converted by value when it is not the stored type) into
 * out, count * (elements of a row) of them, C order. A scalar has one row. LS_EINPUT when the range is outside. Rows of
 * an uncompressed array in a file opened for reading, as their stored type, come straight from the file: without the
 * library's lock and without an allocation. */
ls_status ls_h5_array_read(ls_h5_array *array, ls_h5_type as, uint64_t first, uint64_t count, void *out,
                           ls_err *err) LS_MUST_CHECK;
/* These rows will be read soon: where they come straight from the file, the system begins to fetch them, many such
 * requests at once. Otherwise nothing. */
void ls_h5_array_will_read(const ls_h5_array *array, uint64_t first, uint64_t count);
/* Writes rows [first, first + count) from data of the stored type. */
ls_status ls_h5_array_write(ls_h5_array *array, uint64_t first, uint64_t count, const void *data,
                            ls_err *err) LS_MUST_CHECK;

/* The same in one call, by path. */
ls_status ls_h5_info_of(ls_h5 *file, const char *path, ls_h5_info *info, ls_err *err) LS_MUST_CHECK;
/* The whole array; n_elems is what the caller has room for, and must be what the array holds. */
ls_status ls_h5_read(ls_h5 *file, const char *path, ls_h5_type as, uint64_t n_elems, void *out,
                     ls_err *err) LS_MUST_CHECK;
ls_status ls_h5_write(ls_h5 *file, const char *path, ls_h5_type type, int rank, const uint64_t *dims, const void *data,
                      const ls_h5_storage *storage, ls_err *err) LS_MUST_CHECK;

/* ---- attributes, of a group or an array; "/" is the file itself ---- */

bool ls_h5_attr_has(ls_h5 *file, const char *object, const char *name);

/* A string, variable or fixed length, however padded, of any character set; a list of one counts. *text is the
 * caller's, to free(). */
ls_status ls_h5_attr_get_string(ls_h5 *file, const char *object, const char *name, char **text,
                                ls_err *err) LS_MUST_CHECK;
/* A list of strings in any of the spellings that h5py and Keras use: variable or fixed length, a lone scalar, empty of
 * whatever type, or cut into name0, name1, ... *names is overwritten; the caller releases it. */
ls_status ls_h5_attr_get_strings(ls_h5 *file, const char *object, const char *name, ls_h5_names *names,
                                 ls_err *err) LS_MUST_CHECK;
ls_status ls_h5_attr_get_int(ls_h5 *file, const char *object, const char *name, int64_t *value,
                             ls_err *err) LS_MUST_CHECK;
ls_status ls_h5_attr_get_double(ls_h5 *file, const char *object, const char *name, double *value,
                                ls_err *err) LS_MUST_CHECK;
/* Exactly n numbers. */
ls_status ls_h5_attr_get_ints(ls_h5 *file, const char *object, const char *name, size_t n, int64_t *values,
                              ls_err *err) LS_MUST_CHECK;
ls_status ls_h5_attr_get_doubles(ls_h5 *file, const char *object, const char *name, size_t n, double *values,
                                 ls_err *err) LS_MUST_CHECK;

/* Variable length has no limit; fixed length (null-padded) ends at 64 KiB less some bytes. */
typedef enum { LS_H5_VARIABLE, LS_H5_FIXED } ls_h5_spelling;

/* Setters replace an attribute of that name. The object must exist. */
ls_status ls_h5_attr_set_string(ls_h5 *file, const char *object, const char *name, const char *text,
                                ls_h5_spelling spelling, ls_err *err) LS_MUST_CHECK;
/* Fixed length, null-padded; cut by Keras's rule into name0, name1, ... when it takes more than 64,512 bytes. */
ls_status ls_h5_attr_set_strings(ls_h5 *file, const char *object, const char *name, const char *const *items, size_t n,
                                 ls_err *err) LS_MUST_CHECK;
ls_status ls_h5_attr_set_int(ls_h5 *file, const char *object, const char *name, int64_t value,
                             ls_err *err) LS_MUST_CHECK;
ls_status ls_h5_attr_set_double(ls_h5 *file, const char *object, const char *name, double value,
                                ls_err *err) LS_MUST_CHECK;

#endif
