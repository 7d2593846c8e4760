/*
 * Seals: a hash of a whole file, kept in its last 48 bytes, so that any cut or flipped byte is known before a parser
 * sees the file. HDF5 ignores what lies behind the end that its superblock states, and removes it when another program
 * changes the file, so a sealed HDF5 file stays an ordinary one.
 *
 * The trailer, little-endian: "LSSEAL01" | u64 bytes before the trailer | 128-bit XXH3 of these, canonical (16 bytes) |
 * u64 zero | u64 XXH3 of the 40 bytes before.
 */
#ifndef LS_STORAGE_SEAL_H
#define LS_STORAGE_SEAL_H

#include "common/status.h"

enum { LS_SEAL_BYTES = 48 };

typedef enum { LS_SEAL_ABSENT, LS_SEAL_GOOD } ls_seal;

/* Appends the trailer to a closed file and flushes the file to disk. LS_EIO, and *write_error (may be NULL) becomes the
 * errno of a failed write or flush; each passes the fault place "checkpoint". Cost: one read of the file. */
ls_status ls_seal_write(const char *path, int *write_error, ls_err *err) LS_MUST_CHECK;

/* LS_OK with *seal; LS_ECORRUPT when there is a seal that the contents do not match, LS_EINPUT when the file cannot be
 * opened, LS_EIO when reading fails. Cost: one read of the file when it has a seal. */
ls_status ls_seal_check(const char *path, ls_seal *seal, ls_err *err) LS_MUST_CHECK;

/* Whether the file ends with a well-formed trailer that states its length: 48 bytes read. Finds files that were cut
 * short, not flipped bytes. */
int ls_seal_looks_whole(const char *path);

#endif
