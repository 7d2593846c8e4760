/*
 * A thread that writes checkpoints while training goes on.
 *
 * The caller lays a snapshot out once, fills it, submits it, and takes it back when it has been written, to fill it
 * again: between two checkpoints of a run nothing has to be allocated. Errors of a write are reported by the next call
 * that takes an err, once. All functions are for one calling thread and are local.
 */
#ifndef LS_STORAGE_CHECKPOINT_WRITER_H
#define LS_STORAGE_CHECKPOINT_WRITER_H

#include "storage/checkpoint_folder.h"

typedef struct ls_checkpoint_writer ls_checkpoint_writer;

/* Starts the thread. folder must exist; keep as in ls_checkpoint_save. */
ls_status ls_checkpoint_writer_create(ls_checkpoint_writer **writer, const char *folder, int keep,
                                      ls_err *err) LS_MUST_CHECK;

/* Whether a submitted checkpoint is still being written: then submit would wait, and a caller that would rather skip
 * this checkpoint does so. Never blocks. */
bool ls_checkpoint_writer_busy(ls_checkpoint_writer *writer);

/* Hands *ckpt over (it becomes empty) and returns at once, or after waiting for the write in progress. path NULL: saved
 * into the folder under its own name, and old ones retired; else written to that path ("best.h5", say), whose folder is
 * made, and nothing is retired. On error, which is that of an earlier write, nothing was taken and *ckpt is still the
 * caller's; the error has then been reported and the next submit may succeed. */
ls_status ls_checkpoint_writer_submit(ls_checkpoint_writer *writer, ls_checkpoint *ckpt, const char *path,
                                      ls_err *err) LS_MUST_CHECK;

/* What was written last and not yet collected. */
typedef struct ls_checkpoint_written {
    char *path; /* freed by the caller */
    int64_t epoch, step;
    double seconds; /* how long it took */
} ls_checkpoint_written;

/* False when no write has been completed since the last time. Never blocks. A write that nobody collected is
 * forgotten when the next is completed. */
bool ls_checkpoint_writer_collect(ls_checkpoint_writer *writer, ls_checkpoint_written *written);

/* Takes a snapshot back, written or failed, for filling again; false when there is none to be had now. Never blocks. */
bool ls_checkpoint_writer_reclaim(ls_checkpoint_writer *writer, ls_checkpoint *ckpt);

/* Waits until nothing is being written, but no longer than so many seconds; whether it is so. */
bool ls_checkpoint_writer_idle_within(ls_checkpoint_writer *writer, double seconds);

/* Waits until nothing is being written. */
ls_status ls_checkpoint_writer_wait(ls_checkpoint_writer *writer, ls_err *err) LS_MUST_CHECK;

/* Waits, ends the thread and frees, whatever it returns. NULL is legal. */
ls_status ls_checkpoint_writer_destroy(ls_checkpoint_writer *writer, ls_err *err) LS_MUST_CHECK;

#endif
