/*
 * The samples of a run, bound to a model: which array of a data set is which input or target, checked against the
 * model's shapes and the losses' needs, and handed to the engine as an ls_feed.
 *
 * Arrays  An input or target is found under its layer's name; where there is one input it may be called "x", one output
 *         "y". "sample_weight" (one number a sample) weighs the loss.
 * Labels  A loss that wants class numbers gets them as they are. Where a loss wants a distribution and the data holds
 *         class numbers, they become one-hot rows on the way.
 * Checks  Labels outside [0, classes) and values that are NaN or infinite are errors that name the sample: at loading
 *         where the data fits in memory, else when they are read.
 *
 * Raw bytes are kept once a node, in memory that its ranks share, and converted on each fill. Data that does not fit
 * there is read by each rank as it is needed: a thread reads and checks the samples of the next LS_SOURCE_AHEAD - 1
 * batches, this rank's alone, while one is computed with, so that a step waits only where the disk is slower than the
 * step. Samples, order and bits are those of data in memory. What is filled without having been announced is read then
 * and there.
 */
#ifndef LS_FIT_SOURCE_H
#define LS_FIT_SOURCE_H

#include <stdatomic.h>

#include "common/json.h"
#include "storage/dataset.h"
#include "worker/engine/engine.h"

struct ls_team;

enum { LS_SOURCE_AHEAD = 4 }; /* batches that are announced at most: the one at hand and those after it */

typedef struct ls_source_options {
    double scale, offset; /* of the inputs; NAN: what the file says */
    double memory_gb;     /* 0: half of what is free */
    size_t n_class_weights;
    const double *class_weight; /* borrowed; NULL: none. Looked up by the first output's class */
    ls_json class_weight_at;    /* where the job says so, for complaints */
    bool no_targets;            /* inputs only (prediction) */
    double deadline_s;          /* a read that takes longer ends all ranks, LS_ESTALLED; 0: never */
} ls_source_options;

typedef struct ls_source ls_source;

/* Collective: opens, binds, checks and loads; all ranks return the same status. model and compile (NULL with
 * no_targets) are borrowed. */
ls_status ls_source_open(ls_source **out, struct ls_team *team, const char *name, const ls_model *model,
                         const ls_compile *compile, const ls_source_options *options, ls_err *err) LS_MUST_CHECK;
/* The samples [first, first + n) of a source as a source of their own, without class weights, which shares its data and
 * is to be destroyed before it. Local. */
ls_source *ls_source_slice(ls_source *whole, size_t first, size_t n);
void ls_source_destroy(ls_source *s);
/* Leaves only the first n samples in the source itself. */
void ls_source_truncate(ls_source *s, size_t n);

const ls_feed *ls_source_feed(const ls_source *s);
const char *ls_source_name(const ls_source *s);
bool ls_source_in_memory(const ls_source *s);
bool ls_source_weighted(const ls_source *s); /* has sample or class weights */
uint64_t ls_source_fingerprint(const ls_source *s);

/* Batches of an order of samples, one after the other. */
typedef struct ls_walk {
    const uint32_t *order; /* [n_samples]; stays as it is while the walk lasts */
    size_t n_samples, batch;
    size_t announced; /* samples; begins where the walk begins */
} ls_walk;

/* Before the step over the batch at `first`: announces it and those after it, as far as a source reads ahead. Local,
 * waits for nothing. */
void ls_walk_ahead(ls_walk *w, const ls_engine *e, const ls_source *s, size_t first);

/* Per-sample shape of the array that would be the only input, for models that leave it open. rank 0 when it cannot be
 * told. Local; opens the file. */
ls_status ls_source_input_shape(const char *name, ls_shape *shape, ls_err *err) LS_MUST_CHECK;

/* For tests of what follows a bad sample: the next fill fails, or gives NaN. */
void ls_source_spoil(ls_source *s, bool fail, bool nan);

/* The shape of one sample of a model's input or output as data files hold it: with the time axis of distributed layers.
 */
ls_shape ls_source_whole_shape(const struct ls_tensor *tensor);

#endif
