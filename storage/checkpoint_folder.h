/*
 * The checkpoints of a run in their folder: names, the newest good one, and which ones may go.
 *
 * A run's own checkpoints are named ckpt-EEEEEE-SSSSSSSS.h5 by (epoch, step). Only files of such a name are ever
 * retired; "best.h5" or what else people put there stays. Rank 0 alone may look at the folder.
 */
#ifndef LS_STORAGE_CHECKPOINT_FOLDER_H
#define LS_STORAGE_CHECKPOINT_FOLDER_H

#include "storage/checkpoint.h"

/* "ckpt-000003-00001500.h5"; freed by the caller. Both numbers must be >= 0. */
char *ls_checkpoint_file_name(int64_t epoch, int64_t step);
/* False when it is no such name. */
bool ls_checkpoint_parse_name(const char *name, int64_t *epoch, int64_t *step);

typedef struct ls_checkpoint_entry {
    char *path;
    int64_t epoch, step;
    uint64_t n_bytes;
} ls_checkpoint_entry;

typedef struct ls_checkpoint_list {
    ls_checkpoint_entry *items; /* oldest first */
    size_t n, cap;
} ls_checkpoint_list;

/* By name alone: nothing is opened. A folder that does not exist holds none. *list is overwritten. */
ls_status ls_checkpoint_list_folder(const char *folder, ls_checkpoint_list *list, ls_err *err) LS_MUST_CHECK;
void ls_checkpoint_list_release(ls_checkpoint_list *list);

/* Removes what writers that died left behind, writes (ls_checkpoint_write) under the name that ckpt's epoch and step
 * give, and then retires the oldest until `keep` (at least 2) are left. Files that are visibly cut short do not count
 * as kept, and the one just written is never retired. *path (may be NULL) is the new file's, freed by the caller.
 * A failure to retire is a warning: the checkpoint is there. */
ls_status ls_checkpoint_save(const ls_checkpoint *ckpt, const char *folder, int keep, char **path,
                             ls_err *err) LS_MUST_CHECK;

/* Reads the newest good checkpoint. A damaged one is named in a warning, with what is wrong, and the one before it is
 * used. LS_EINPUT when there is none at all, LS_ECORRUPT when none is good. *path (may be NULL) is freed by the
 * caller. */
ls_status ls_checkpoint_read_newest(const char *folder, ls_checkpoint *ckpt, char **path, ls_err *err) LS_MUST_CHECK;

/* What a person means by `path`: the file itself, or for a run folder or its checkpoints folder the newest good file.
 * *file is freed by the caller. */
ls_status ls_checkpoint_resolve(const char *path, char **file, ls_err *err) LS_MUST_CHECK;

#endif
