/* What the files storage/checkpoint*.c share: where things lie in the file, and arrays without data. */
#ifndef LS_STORAGE_CHECKPOINT_PRIVATE_H
#define LS_STORAGE_CHECKPOINT_PRIVATE_H

#include "storage/checkpoint.h"

#define LS_CKPT_WEIGHTS "/model_weights"
#define LS_CKPT_OURS "/lockstep"
#define LS_CKPT_OPTIMIZER LS_CKPT_OURS "/optimizer"
#define LS_CKPT_SCALARS LS_CKPT_OURS "/scalars"
#define LS_CKPT_ARRAYS LS_CKPT_OURS "/arrays"
#define LS_CKPT_CHECKSUMS LS_CKPT_OURS "/checksums"
#define LS_CKPT_CHECKSUM_ATTR "xxh3_64"
#define LS_CKPT_FAULT "checkpoint"

enum { LS_CKPT_FORMAT = 1 };

/* Arrays pass through HDF5 in slices of about so many bytes, so that the library's lock is free again for the threads
 * that feed the training, and a slice is still in the cache when it is hashed. */
enum { LS_CKPT_SLICE_BYTES = 1 << 20 };

/* Rows of a slice, at least 1. */
static inline uint64_t ls_ckpt_slice_rows(const ls_h5_info *info) {
    return info->row_bytes == 0 || info->row_bytes > LS_CKPT_SLICE_BYTES ? 1 : LS_CKPT_SLICE_BYTES / info->row_bytes;
}

/* The adders of checkpoint.h, with .data left NULL; *array may move when the next one is added. */
ls_status ls_ckpt_describe_weight(ls_checkpoint *ckpt, const char *name, int rank, const uint64_t *dims,
                                  ls_checkpoint_array **array, ls_err *err) LS_MUST_CHECK;
ls_status ls_ckpt_describe_slot(ls_checkpoint *ckpt, const char *slot, const char *layer, const char *weight,
                                ls_checkpoint_array **array, ls_err *err) LS_MUST_CHECK;
ls_status ls_ckpt_describe_array(ls_checkpoint *ckpt, const char *name, ls_h5_type type, int rank, const uint64_t *dims,
                                 ls_checkpoint_array **array, ls_err *err) LS_MUST_CHECK;
/* Gives a described array its memory, zeroed. */
ls_status ls_ckpt_allocate(ls_checkpoint_array *array, ls_err *err) LS_MUST_CHECK;

/* As ls_checkpoint_verify, for a file whose seal has just been made from what is in it: that is not read again. */
ls_status ls_ckpt_verify_written(const char *path, ls_err *err) LS_MUST_CHECK;

/* The checksum that stands under "texts". NULL counts as "". */
uint64_t ls_ckpt_hash_texts(const char *model_config, const char *training_config, const char *state, const char *index,
                            int64_t epoch, int64_t step);

#endif
