/* The output of an importer: a temporary HDF5 file that is checked and then renamed. Used by storage/import_*.c. Its
 * creation, every write, its fsync and its rename pass the fault place "import" (common/fault.h). */
#ifndef LS_STORAGE_IMPORT_OUTPUT_H
#define LS_STORAGE_IMPORT_OUTPUT_H

#include "storage/h5.h"
#include "storage/hash.h"
#include "storage/import.h"

enum { LS_IMPORT_ARRAYS_MAX = 16 };

typedef struct ls_import_array {
    struct ls_import_output *output;
    ls_h5_array *handle;                 /* NULL once complete */
    char *path;                          /* "/train/x" */
    ls_hash *hash;                       /* of the bytes written so far; NULL once complete */
    unsigned char digest[LS_HASH_BYTES]; /* once complete */
    uint64_t n_written;                  /* rows */
} ls_import_array;

typedef struct ls_import_output {
    char *path, *temporary;
    ls_h5 *file;
    int write_error; /* errno of the first write that failed (storage/h5_sink.h) */
    const ls_import_options *options;
    ls_import_array arrays[LS_IMPORT_ARRAYS_MAX];
    int n_arrays;
} ls_import_output;

/* Creates the temporary file; output must stay where it is. After success exactly one of _commit and _abandon must be
 * called, also after a failure of what lies between. */
ls_status ls_import_begin(ls_import_output *output, const char *path, const ls_import_options *options,
                          ls_err *err) LS_MUST_CHECK;

/* A new array of the whole shape; rows are then added in order, in blocks of any size. The array belongs to the output.
 */
ls_status ls_import_add(ls_import_output *output, const char *path, ls_h5_type type, int rank, const uint64_t *dims,
                        ls_import_array **array, ls_err *err) LS_MUST_CHECK;
ls_status ls_import_rows(ls_import_array *array, uint64_t n_rows, const void *rows, ls_err *err) LS_MUST_CHECK;

/* Completes the file, reads it back and compares it with what was written, and gives it its name. On failure there is
 * nothing left of it. */
ls_status ls_import_commit(ls_import_output *output, ls_err *err) LS_MUST_CHECK;
void ls_import_abandon(ls_import_output *output);

#endif
