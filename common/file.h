/*
 * Files and folders: whole-file reads, and writes that are there completely or not at all.
 */
#ifndef LS_COMMON_FILE_H
#define LS_COMMON_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

/* The whole file, with a '\0' after it that is not counted. *text is the caller's, to free(). LS_EINPUT if it cannot be
 * opened, LS_EIO if reading fails. n_bytes may be NULL. */
ls_status ls_file_read(const char *path, char **text, size_t *n_bytes, ls_err *err) LS_MUST_CHECK;

/* Writes to a temporary name in the same folder, fsync, rename, fsync of the folder. After any failure or crash the old
 * file, if there was one, is still whole. */
ls_status ls_file_write_atomic(const char *path, const void *bytes, size_t n_bytes, ls_err *err) LS_MUST_CHECK;

/* Removes from a folder in which nobody else writes what processes that died while they wrote have left: NAME.tmp.PID.
 */
void ls_folder_remove_temporaries(const char *path);

/* fsync of a file's contents / of a folder's entries. */
ls_status ls_file_sync(const char *path, ls_err *err) LS_MUST_CHECK;
ls_status ls_folder_sync(const char *path, ls_err *err) LS_MUST_CHECK;

/* Of an errno from creating or opening for writing: LS_EINPUT where another path would do (it leads through a file,
 * must not be written), LS_EIO where the machine failed (no room, a bad disk). */
ls_status ls_write_status(int reason);

/* Whether a file of a kind ("an HDF5 file", which begins with `start`) may be put at path: that is no folder, stands in
 * one that may be written, and is free, empty, or such a file already; anything else was named by mistake (an input,
 * say). LS_EINPUT. For what is written at the end of long work. */
ls_status ls_file_check_output(const char *path, const char *kind, const char *start, ls_err *err) LS_MUST_CHECK;

/* mkdir -p, mode 0777 less umask. LS_EINPUT, LS_EIO: ls_write_status. */
ls_status ls_folder_create(const char *path, ls_err *err) LS_MUST_CHECK;

bool ls_file_exists(const char *path);
bool ls_folder_exists(const char *path);

/* "folder/name", or name itself when it is absolute or folder is "". Freed by the caller. */
char *ls_path_join(const char *folder, const char *name);
/* A path from the root, without slashes at its end: the working folder is put before one that is not. Freed by the
 * caller. */
char *ls_path_absolute(const char *path);
/* The folder part of a path, "." when it has none. Freed by the caller. */
char *ls_path_folder(const char *path);

#endif
