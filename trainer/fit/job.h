/*
 * The job file: one JSON object that says everything about a run.
 *
 *   model        path of a Keras JSON file (from model.to_json()), or the object itself; or of a Keras HDF5 file
 *                (model.save("x.h5")), whose weights are then the initial ones
 *   weights      path of a Keras HDF5 file with the initial weights, whole model or weights alone; default: drawn
 *   name         of the run; default: the job file's name
 *   data         train, validation   FILE.h5:/GROUP
 *                validation_split    fraction of train, taken from its end before any shuffling
 *                scale, offset       the model's inputs are raw * scale + offset; default: what the data file says
 *   compile      loss, metrics, weighted_metrics, optimizer, loss_weights: names or {"class_name", "config"}, as Keras
 *                writes them; one for all outputs, a list, or an object by output name
 *   fit          see LS_JOB_LIST; and class_weight {"0": 1.0, "1": 5.0}, callbacks (trainer/fit/callback.h)
 *   distribute   see LS_JOB_LIST; and precision "float32" or "bfloat16", convolution "auto" (3x3 convolutions by
 *                Winograd's algorithm where it pays: worker/ops/winograd.h) or "direct", wire "float32" or "bfloat16"
 *                (as what gradients go between nodes: worker/reduce/reducer.h)
 *   checkpoint   see LS_JOB_LIST
 *   plugins      shared objects that add losses, metrics, layers and callbacks (common/lockstep_plugin.h): a list of
 *                paths or of {"path", "config"}
 *
 * Paths count from the job file's folder. Unknown keys are errors. Every complaint names the file, the line and the
 * path, or the --set that the value came from.
 */
#ifndef LS_FIT_JOB_H
#define LS_FIT_JOB_H

#include "common/json.h"

#define LS_JOB_MAX 9007199254740992.0 /* 2^53: what a JSON number holds exactly */

/* section, key, kind, default, least, most, what it is */
#define LS_JOB_LIST(X)                                                                                 \
    X(fit, batch_size, INT, 32, 1, 1 << 30, "samples a step, over all ranks")                          \
    X(fit, epochs, INT, 1, 1, LS_JOB_MAX, "the epoch to end after")                                    \
    X(fit, initial_epoch, INT, 0, 0, LS_JOB_MAX, "epochs that count as done, as in Keras")             \
    X(fit, shuffle, BOOL, 1, 0, 1, "a new order of the training samples each epoch")                   \
    X(fit, seed, INT, 1, 0, LS_JOB_MAX, "of initial weights, order and dropout")                       \
    X(fit, validation_batch_size, INT, 0, 0, 1 << 30, "0: as batch_size")                              \
    X(fit, validation_freq, INT, 1, 1, LS_JOB_MAX, "validate after every so many epochs")              \
    X(fit, stop_on_nonfinite, BOOL, 1, 0, 1, "a NaN or infinite loss ends the run with an error")      \
    X(fit, reset_states, BOOL, 0, 0, 1, "stateful layers begin each epoch and validation from zero")   \
    X(distribute, lanes, INT, 0, 0, 65536,                                                             \
      "equal parts of a batch that make the bits independent of the ranks; 0: off")                    \
    X(distribute, accumulation_steps, INT, 1, 1, 65536,                                                \
      "parts of a rank's share, computed one after the other to need less memory")                     \
    X(distribute, sync_batch_norm, BOOL, 0, 0, 1,                                                      \
      "every BatchNormalization takes the statistics of the whole batch, not of a lane")               \
    X(distribute, threads, INT, 0, 0, 4096, "a rank; 0: from the cores that it is bound to")           \
    X(distribute, bucket_mb, AUTO, 0, 0, 65536, "gradients that travel together; \"auto\": tried out") \
    X(distribute, sparse, BOOL, 1, 0, 1,                                                               \
      "of a large embedding table, just the rows that a batch used are added and sent")                \
    X(distribute, verify_every, INT, 500, 0, LS_JOB_MAX,                                               \
      "steps between two comparisons of the ranks' weights; 0: never")                                 \
    X(distribute, watchdog_seconds, REAL, 60, 0, 1e9,                                                  \
      "a rank that does not finish a step for so long ends the run; 0: never")                         \
    X(data, memory_gb, REAL, 0, 0, 1e6,                                                                \
      "a node's memory for data; what does not fit is read as it is needed; 0: half of what is free")  \
    X(checkpoint, every_steps, INT, 0, 0, LS_JOB_MAX, "0: not by steps")                               \
    X(checkpoint, every_epochs, INT, 1, 0, LS_JOB_MAX, "0: not by epochs")                             \
    X(checkpoint, keep, INT, 3, 2, 1 << 20, "files; older ones are removed")

typedef int64_t ls_job_INT;
typedef bool ls_job_BOOL;
typedef double ls_job_REAL;
typedef double ls_job_AUTO; /* 0: "auto" */

typedef struct ls_job {
    ls_json_doc doc; /* the file, with what --set changed */
    char *folder;    /* that paths count from */
    char *name;
    ls_json model;    /* the object, when it stands in the job; else absent */
    char *model_path; /* else its path */
    char *weights;    /* NULL: drawn by the initializers */
    char *train;      /* FILE:/GROUP with the path as it can be opened */
    char *validation; /* NULL: none, or a split */
    double validation_split;
    double scale, offset; /* NAN: as the data file says */
    ls_json loss, metrics, weighted_metrics, optimizer, loss_weights, callbacks;
    ls_json plugins; /* a list of paths or of {"path", "config"}; paths count from folder */
    bool bfloat16, direct_convolution, wire_bfloat16;
    size_t n_class_weights; /* 0: none */
    double *class_weight;   /* [n_class_weights], 1 where the job says nothing */
    ls_json class_weight_at;
#define X(section, key, kind, standard, least, most, what) ls_job_##kind key;
    LS_JOB_LIST(X)
#undef X
} ls_job;

/* Reads a job file; sets are n_sets texts "fit.epochs=3": the value is JSON, or a bare word where it is none. On
 * success the caller releases *job. Local. LS_EINPUT. */
ls_status ls_job_load(ls_job *job, const char *path, char *const *sets, size_t n_sets, ls_err *err) LS_MUST_CHECK;
/* The same from text; `name` is for messages, folder is what paths count from. */
ls_status ls_job_parse(ls_job *job, const char *name, const char *folder, const char *text, char *const *sets,
                       size_t n_sets, ls_err *err) LS_MUST_CHECK;
void ls_job_release(ls_job *job);

/* The resolved job: every key with its value, absolute paths, and the model inside, so that a run folder needs nothing
 * outside it but the data (and, before its first checkpoint, the initial weights). JSON text, freed by the caller.
 * LS_EINPUT: the model file is no JSON. */
ls_status ls_job_text(const ls_job *job, char **text, ls_err *err) LS_MUST_CHECK;

#endif
