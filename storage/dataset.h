/*
 * Data sets: what is in one, and reading samples out of it.
 *
 * A data set is one group of an HDF5 file, written FILE.h5:/GROUP (FILE.h5 alone: its root). The group is a split, such
 * as /train; it holds `x` and `y`, or one array an input or target name. All arrays have the samples on their first
 * axis, channels last. An array may carry the attributes `scale` and `offset` (numbers): its values are raw * scale +
 * offset, applied when raw bytes are converted (storage/convert.h), never in the file.
 *
 * Ranks are no concern of this file: every function is local.
 */
#ifndef LS_STORAGE_DATASET_H
#define LS_STORAGE_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "storage/h5.h"

typedef struct ls_data_array {
    char *name; /* "x" */
    ls_h5_type type;
    int rank;                           /* axes of one sample; 0: one number a sample */
    uint64_t shape[LS_H5_RANK_MAX - 1]; /* [rank] of one sample, channels last */
    size_t sample_elems;                /* elements of one sample */
    size_t sample_bytes;                /* bytes of one raw sample */
    double scale, offset;               /* value = raw * scale + offset; 1 and 0 when the file says nothing */
    uint64_t chunk_samples;             /* samples of a chunk in the file; 0: contiguous */
    uint64_t stored_bytes;              /* in the file, after compression */
    ls_h5_array *handle;                /* private */
} ls_data_array;

typedef struct ls_dataset {
    char *name; /* as it was asked for, "mnist.h5:/train": for messages */
    uint64_t n_samples;
    size_t n_arrays;
    ls_data_array *arrays; /* [n_arrays], in the order of their names */
    ls_h5 *file;           /* private, as what follows */
    char *scratch;
    size_t scratch_bytes;
} ls_dataset;

/*
 * Opens and checks: a group with at least one array, all of numbers, all with the same first axis, nothing empty; scale
 * and offset finite and scale not 0. *dataset is the caller's, to destroy.
 *
 * Errors   LS_EINPUT for all of these, and for a file that is missing, foreign, truncated or damaged: one sentence,
 *          which lists the splits that the file holds where the group is the trouble
 * Threads  one thread at a time a data set
 */
ls_status ls_dataset_open(const char *name, ls_dataset **dataset, ls_err *err) LS_MUST_CHECK;
void ls_dataset_destroy(ls_dataset *dataset);

/* Cuts "FILE:/GROUP" into two strings for the caller to free(); *group is NULL when there is none. */
void ls_dataset_split_name(const char *name, char **path, char **group);

/* The paths of the groups of an open file that hold arrays, "/train"; the caller releases them. */
ls_status ls_dataset_splits(ls_h5 *file, ls_h5_names *splits, ls_err *err) LS_MUST_CHECK;

/* The index of the array of that name, -1 when there is none. */
int ls_dataset_find(const ls_dataset *dataset, const char *name);

/* Raw samples [first, first + count) into out, count * sample_bytes. Any part of the set: the ranks of a node can each
 * load one into memory that they share. */
ls_status ls_dataset_read(ls_dataset *dataset, size_t array, uint64_t first, uint64_t count, void *out,
                          ls_err *err) LS_MUST_CHECK;

/* Raw samples by index: out[i] is sample indices[i]; any order, repeats allowed. Neighbours in the file are read
 * together and a chunk is decompressed once a call (while the samples of one call fit the chunk cache). */
ls_status ls_dataset_gather(ls_dataset *dataset, size_t array, const uint64_t *indices, size_t n, void *out,
                            ls_err *err) LS_MUST_CHECK;

/* ---- what is in it (storage/dataset_scan.c) ---- */

enum { LS_DATA_CLASSES_MAX = 1 << 16 };

/* One pass over an array. */
typedef struct ls_data_summary {
    double min, max;      /* of the finite raw values; 0 and 0 when there is none */
    uint64_t n_nonfinite; /* NaN and infinities */
    uint32_t n_classes;   /* max + 1 for an array of whole numbers 0 .. LS_DATA_CLASSES_MAX - 1, one a sample; else 0 */
    uint64_t *class_count; /* [n_classes] samples of each class */
} ls_data_summary;

ls_status ls_dataset_summarise(ls_dataset *dataset, size_t array, ls_data_summary *summary, ls_err *err) LS_MUST_CHECK;
void ls_data_summary_release(ls_data_summary *summary);

/* Arrays of up to this many raw bytes are hashed whole. */
#define LS_FINGERPRINT_WHOLE_BYTES ((uint64_t)512 << 20)

/*
 * A 64-bit identity of the contents: the first half of a 128-bit XXH3 over the number of samples and, in the order of
 * the arrays' names, each name, type, shape, scale, offset and raw bytes. It does not depend on the file's name,
 * compression or chunks. An array above LS_FINGERPRINT_WHOLE_BYTES is sampled: 1,024 blocks of rows spread evenly from
 * its first to its last, each of 64 KiB (one row when a row is larger); so a change elsewhere in such an array goes
 * unseen.
 */
ls_status ls_dataset_fingerprint(ls_dataset *dataset, uint64_t *fingerprint, ls_err *err) LS_MUST_CHECK;

#endif
