/*
 * Keras's HDF5 files as a place to start from: the model and the weights of a file that Lockstep, Keras 2 or Keras 3
 * wrote.
 */
#ifndef LS_FIT_KERAS_FILE_H
#define LS_FIT_KERAS_FILE_H

#include "storage/checkpoint.h"
#include "worker/engine/engine.h"

/* Whether a file begins as HDF5 files do; false where it cannot be read. */
bool ls_keras_is_hdf5(const char *path);

/* The model's configuration: of a JSON file, or model_config of an HDF5 file. LS_EINPUT: neither, or weights only. */
ls_status ls_keras_load_model(ls_json_doc *doc, const char *path, ls_err *err) LS_MUST_CHECK;

/* The same, built (ls_model_build). */
ls_status ls_keras_build_model(ls_model **out, const char *path, const ls_shape *input_shapes, int n_shapes,
                               ls_err *err) LS_MUST_CHECK;

/* A whole model: of a file, or of a run folder its final.h5, else its newest checkpoint. *file is the path, freed by
 * the caller, and may be set on failure. LS_EINPUT: weights only. */
ls_status ls_keras_read(const char *path, ls_checkpoint *out, char **file, ls_err *err) LS_MUST_CHECK;

/*
 * Puts a file's weights into the engine, matched as Keras's load_weights does: the layers that have weights in their
 * order, and the weights of each in theirs; names do not count. `path` is the file, for messages. Counts on rank 0
 * only, and for the others after ls_engine_publish. LS_EINPUT: another number of layers or weights, another shape; the
 * sentence names layer, weight and both shapes, and nothing was set.
 */
ls_status ls_keras_set_weights(ls_engine *engine, const ls_model *model, const ls_checkpoint *from, const char *path,
                               ls_err *err) LS_MUST_CHECK;

#endif
