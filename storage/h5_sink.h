/*
 * HDF5 files whose writing may fail halfway: created over a file driver that does plain pwrite, remembers the first
 * failure and hides it from the library. HDF5 cannot close a file whose metadata it cannot flush (handle, descriptor
 * and memory stay, and its exit handler tries again), so it is left to believe in success; the caller looks at the
 * error and removes the file.
 *
 * The creation and every write pass a fault place (common/fault.h).
 */
#ifndef LS_STORAGE_H5_SINK_H
#define LS_STORAGE_H5_SINK_H

#include "storage/h5.h"

/* As ls_h5_create. fault_place is a literal. *write_error must be 0 and live until the file is closed; it becomes the
 * errno of the first failed write, after which nothing more is written. Then every other call may still return LS_OK.
 */
ls_status ls_h5_create_watched(const char *path, const char *fault_place, int *write_error, ls_h5 **file,
                               ls_err *err) LS_MUST_CHECK;

#endif
