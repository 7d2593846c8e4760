/* What the files storage/h5*.c share; nobody else may include this. */
#ifndef LS_STORAGE_H5_PRIVATE_H
#define LS_STORAGE_H5_PRIVATE_H

#include <hdf5.h>

#include "storage/h5.h"

struct ls_h5 {
    hid_t id;
    char *path;
};

/* Takes the library's lock for the rest of the scope and silences HDF5's own printing in this thread. */
#define LS_H5_GUARD __attribute__((cleanup(ls_h5_leave), unused)) int ls_h5_guard = ls_h5_enter()
int ls_h5_enter(void);
void ls_h5_leave(int *guard);

/* An HDF5 identifier that is released at the end of the scope; negative: none. */
#define LS_H5_SCOPED __attribute__((cleanup(ls_h5_release_id))) hid_t
void ls_h5_release_id(hid_t *id);

/* "FILE:OBJECT: <format> (what HDF5 says)", as status; HDF5's part is left out when it says nothing. To be called
 * before any other HDF5 call, which would clear the library's error stack. */
ls_status ls_h5_fail(const ls_h5 *file, const char *object, ls_err *err, ls_status status, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* The type in memory; borrowed. */
hid_t ls_h5_memory_type(ls_h5_type type);
/* Which of our types a stored type is; false when it is none (strings, compounds, ...). */
bool ls_h5_type_from_hdf5(hid_t stored, ls_h5_type *type);

/* True when every part of the path exists and leads to an object. */
bool ls_h5_path_exists(const ls_h5 *file, const char *path);
/* The sentence for an object that is not there: names the part that is missing and what is there instead. */
ls_status ls_h5_fail_missing(ls_h5 *file, const char *path, const char *wanted, ls_err *err);

#endif
