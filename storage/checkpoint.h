/*
 * Checkpoints: a Keras full-model HDF5 file plus a group /lockstep, which Keras ignores, with what a resumed run needs.
 *
 * This module knows named arrays and JSON texts, not training: what the optimizer's slots mean and what the state says
 * is its caller's business. All arrays are in Keras's layout and order.
 *
 * The file (written so that Keras 2 and Keras 3 load it; h5py's "keras-hdf5" spelling in brackets):
 *   /                                attributes keras_version, backend, model_config, training_config [variable length]
 *   /model_weights                   attributes layer_names [fixed, null-padded, cut at 64,512 bytes], backend,
 *                                    keras_version
 *   /model_weights/LAYER             attribute weight_names [the same]
 *   /model_weights/LAYER/WEIGHT      f32, contiguous
 *   /model_weights/top_level_model_weights   attribute weight_names, empty
 *   /lockstep                        attributes format (1), lockstep_version, epoch, step, state, index (JSON: the
 *                                    names of slots, scalars and arrays, in order)
 *   /lockstep/optimizer/SLOT/LAYER/WEIGHT    f32, shaped as the weight
 *   /lockstep/scalars                f64 [n]
 *   /lockstep/arrays/NAME            any type
 *   /lockstep/checksums              attribute xxh3_64 (JSON: 16 hex digits for the path of each array, and "texts"
 *                                    for all the JSON texts)
 * There is no /optimizer_weights, since Keras 3 cannot go on training from a file that has both it and
 * training_config. Behind HDF5's end lies a seal over the whole file (storage/seal.h).
 *
 * Faults: every write, flush, rename and removal passes the place "checkpoint" (common/fault.h).
 * Threads: one struct is used by one thread at a time. Nothing here communicates.
 */
#ifndef LS_STORAGE_CHECKPOINT_H
#define LS_STORAGE_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/memory.h"
#include "common/status.h"
#include "storage/h5.h"

/* Row-major, dense. */
typedef struct ls_checkpoint_array {
    const char *name;
    ls_h5_type type;
    int rank; /* 0: a scalar, one element */
    uint64_t dims[LS_H5_RANK_MAX];
    size_t n_elems, n_bytes;
    void *data; /* 64-byte aligned; NULL when only the description was read */
} ls_checkpoint_array;

typedef struct ls_checkpoint_layer {
    const char *name;
    ls_checkpoint_array *weights; /* [n_weights], f32; names as Keras 2's: "dense/kernel:0" */
    size_t n_weights, cap_weights;
} ls_checkpoint_layer;

/* One optimizer slot ("m", "v", "velocity") of one weight. */
typedef struct ls_checkpoint_slot {
    const char *slot, *layer, *weight;
    ls_checkpoint_array array; /* f32, the weight's shape; its name is the weight's */
} ls_checkpoint_slot;

typedef struct ls_checkpoint_scalar {
    const char *name; /* "iterations" */
    double value;
} ls_checkpoint_scalar;

typedef struct ls_checkpoint {
    char *model_config;    /* Keras JSON; NULL: a weights-only file */
    char *training_config; /* Keras JSON or NULL */
    char *keras_version;   /* of a file that was read; NULL: none */
    /* The rest of the group /lockstep; has_state is false, and all of it empty, for files of other programs. */
    bool has_state;
    int64_t epoch, step; /* order checkpoints of a run and make their names */
    char *state;         /* JSON object, opaque here, save that `lockstep checkpoint show` prints its "history" */

    ls_checkpoint_layer *layers; /* [n_layers], in the model's order; layers without weights too */
    size_t n_layers, cap_layers;
    ls_checkpoint_slot *slots; /* [n_slots] */
    size_t n_slots, cap_slots;
    ls_checkpoint_scalar *scalars; /* [n_scalars] */
    size_t n_scalars, cap_scalars;
    ls_checkpoint_array *arrays; /* [n_arrays]; callback state, partial sums */
    size_t n_arrays, cap_arrays;

    ls_pool pool;      /* the names */
    size_t state_room; /* bytes of state's memory, where ls_checkpoint_state_room has made it */
} ls_checkpoint;

/* ---- building one ---- A zeroed struct is empty and legal everywhere. Texts and names are copied. */

void ls_checkpoint_release(ls_checkpoint *ckpt);

/* Replaces one of the struct's texts: ls_checkpoint_set_text(&ckpt->state, "{}"). NULL removes it. */
void ls_checkpoint_set_text(char **field, const char *text);

/* Memory of at least n_bytes for `state`, to be written by the caller: that of the state before where it suffices. */
char *ls_checkpoint_state_room(ls_checkpoint *ckpt, size_t n_bytes);

/* Appends a layer; weights are added to the last one. LS_EINPUT for a name that cannot be one in an HDF5 file (empty,
 * "." or ".." as a part, a leading or trailing '/') or that is there already. */
ls_status ls_checkpoint_add_layer(ls_checkpoint *ckpt, const char *name, ls_err *err) LS_MUST_CHECK;

/* Each of these allocates a zeroed array and gives its data, which belong to the struct and stay where they are until
 * it is released, so that a snapshot can be laid out once and filled again for each checkpoint. A slot has the shape
 * of its weight, which must have been added. LS_EINPUT for a bad, repeated or unknown name or too many dimensions,
 * LS_ENOMEM. */
ls_status ls_checkpoint_add_weight(ls_checkpoint *ckpt, const char *name, int rank, const uint64_t *dims, float **data,
                                   ls_err *err) LS_MUST_CHECK;
ls_status ls_checkpoint_add_slot(ls_checkpoint *ckpt, const char *slot, const char *layer, const char *weight,
                                 float **data, ls_err *err) LS_MUST_CHECK;
ls_status ls_checkpoint_add_array(ls_checkpoint *ckpt, const char *name, ls_h5_type type, int rank,
                                  const uint64_t *dims, void **data, ls_err *err) LS_MUST_CHECK;

/* Adds the scalar or overwrites it. */
void ls_checkpoint_set_scalar(ls_checkpoint *ckpt, const char *name, double value);

/* NULL / false when absent. */
const ls_checkpoint_array *ls_checkpoint_find_weight(const ls_checkpoint *ckpt, const char *layer, const char *weight);
const ls_checkpoint_array *ls_checkpoint_find_slot(const ls_checkpoint *ckpt, const char *slot, const char *layer,
                                                   const char *weight);
const ls_checkpoint_array *ls_checkpoint_find_array(const ls_checkpoint *ckpt, const char *name);
bool ls_checkpoint_get_scalar(const ls_checkpoint *ckpt, const char *name, double *value);

/* ---- files ---- */

/* Writes to a temporary name in path's folder, seals, flushes, reads it back and verifies it, renames, flushes the
 * folder: after any failure or crash, whatever was at path is still there and whole. On failure the temporary file is
 * removed, and the sentence says how much room was needed when there was too little. With has_state false, or state
 * NULL, the group /lockstep is still written, with the state "{}". LS_EIO, LS_EINPUT, LS_ENOMEM. */
ls_status ls_checkpoint_write(const ls_checkpoint *ckpt, const char *path, ls_err *err) LS_MUST_CHECK;

/* Reads a Lockstep checkpoint, checking seal and every checksum, or a file written by Keras 2 or 3 with save() or
 * save_weights() to .h5, in any of their spellings: weights of any number type (converted to f32), fixed or variable
 * strings, lists cut in parts, compressed arrays, names without ":0". Layers come in layer_names order. *ckpt is
 * overwritten on success, untouched on failure. A file of another program has no seal, and HDF5 1.10 itself can die of
 * some kinds of damage in one that holds strings of variable length.
 * LS_EINPUT: no such file, not a Keras HDF5 file. LS_ECORRUPT: damaged. LS_EIO, LS_ENOMEM. */
ls_status ls_checkpoint_read(const char *path, ls_checkpoint *ckpt, ls_err *err) LS_MUST_CHECK;

/* The same, verifying everything, but keeping only texts, names and shapes (every .data is NULL): needs the memory of
 * a megabyte, or of the largest row of an array. */
ls_status ls_checkpoint_inspect(const char *path, ls_checkpoint *ckpt, ls_err *err) LS_MUST_CHECK;
ls_status ls_checkpoint_verify(const char *path, ls_err *err) LS_MUST_CHECK;

/* ---- comparing ---- */

enum { LS_CHECKPOINT_DIGEST_CHARS = 33 }; /* 32 hex digits and '\0' */

/* A 128-bit XXH3 over names, shapes and values of all weights (moving statistics are weights) in order, then of the
 * optimizer's slots (in the order of their weights, then by slot name) and scalars (by name). Not over texts, epoch,
 * history or extra arrays. Bit-exact: -0 and 0 differ. Independent of the order in which slots and scalars were added.
 * Every array must have its data. */
void ls_checkpoint_digest(const ls_checkpoint *ckpt, char out[LS_CHECKPOINT_DIGEST_CHARS]);

#endif
