/*
 * A run folder: the truth about one run, written by its rank 0 alone, read by everybody.
 *
 *   job.json       the resolved job
 *   history.csv    a header, then one row an epoch; first column "epoch", from 1
 *   events.jsonl   one JSON object a line, each with "event" and "time"; only ever appended to
 *   checkpoints/   ckpt-EPOCH-STEP.h5 (storage/checkpoint_folder.h) and what callbacks put there
 *   logs/          what the processes said
 *   .lock          held (flock) while a run writes here, so that a second one cannot
 *
 * Local functions; one thread at a time.
 */
#ifndef LS_STORAGE_RUN_FOLDER_H
#define LS_STORAGE_RUN_FOLDER_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

typedef enum { LS_RUN_NEW, LS_RUN_RESUME } ls_run_mode;

typedef struct ls_run_folder {
    char *path, *checkpoints, *logs, *job, *history;
    int lock, events; /* descriptors */
} ls_run_folder;

/*
 * Opens, making what is missing, and takes the lock; waits up to wait_ms for one that another process holds, since a
 * run that was just killed may take a moment to be gone.
 *
 *   LS_RUN_NEW      LS_EINPUT when the folder holds a run: a checkpoint, or a row of history. One that ended before it
 *                   had any of these is begun anew.
 *   LS_RUN_RESUME   LS_EINPUT when there is no job.json. There may be no checkpoint yet.
 *
 * Also LS_EINPUT when another process is writing there, LS_EIO. On failure *run needs no release, and nothing of a run
 * that was there has been changed.
 */
ls_status ls_run_folder_open(ls_run_folder *run, const char *path, ls_run_mode mode, int wait_ms,
                             ls_err *err) LS_MUST_CHECK;
/* Frees and gives the lock up. Legal on a zeroed struct. */
void ls_run_folder_release(ls_run_folder *run);

/* Writes job.json, whole or not at all. */
ls_status ls_run_folder_write_job(const ls_run_folder *run, const char *json, ls_err *err) LS_MUST_CHECK;

/* Appends one line (a JSON object, n_bytes without a newline) to events.jsonl by a single system call, so that a reader
 * sees it whole or not at all. Allocates nothing. */
ls_status ls_run_folder_event(const ls_run_folder *run, const char *line, size_t n_bytes, ls_err *err) LS_MUST_CHECK;

/* Appends a row to history.csv: the epoch and the n named values (not finite: "nan", "inf", "-inf"), as %.9g. The first
 * row makes the header. When the columns are no longer those of the header, the old file is renamed to
 * history.previous.csv, which is warned of, and a new one begun. LS_EINPUT for a name with a comma, quote or line end
 * in it. */
ls_status ls_run_folder_history(const ls_run_folder *run, int64_t epoch, size_t n, const char *const *names,
                                const double *values, ls_err *err) LS_MUST_CHECK;

/* Removes the rows of epochs after last_epoch (and a row that a crash cut short): a resumed run writes them again. */
ls_status ls_run_folder_trim_history(const ls_run_folder *run, int64_t last_epoch, ls_err *err) LS_MUST_CHECK;

#endif
