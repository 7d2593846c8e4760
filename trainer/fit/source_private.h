/* What source.c, source_bind.c and source_fill.c share. */
#ifndef LS_FIT_SOURCE_PRIVATE_H
#define LS_FIT_SOURCE_PRIVATE_H

#include <pthread.h>

#include "trainer/fit/source.h"
#include "worker/reduce/shared.h"
#include "worker/reduce/team.h"

typedef enum {
    LS_BIND_NUMBERS, /* converted to f32 (inputs of class numbers: to i32) */
    LS_BIND_CLASSES, /* class numbers in [0, n_classes), given as i32 or as one-hot rows, as the engine asks */
} ls_bind_kind;

/* One array that the engine asks for by number. */
typedef struct ls_binding {
    int array; /* in the data set; -1: not bound (an output without a loss) */
    ls_bind_kind kind;
    int64_t n_classes;
    bool ignores; /* the class `ignored` too, which need be none of them */
    int32_t ignored;
    size_t elems; /* of one raw sample */
    double scale, offset;
    const char *raw; /* in memory: all samples; NULL: read as needed */
} ls_binding;

/* What slices of one data set share. */
typedef struct ls_store {
    int references;
    ls_dataset *dataset;
    ls_team *team;
    ls_shared *memory; /* [n_arrays], empty where not loaded */
    bool in_memory;
    uint64_t fingerprint;
    pthread_mutex_t lock; /* of the file and what follows */
    char *scratch;        /* of a fill that was not announced */
    size_t scratch_bytes;
    uint64_t *wanted;
    size_t cap_wanted;
} ls_store;

/* What is read ahead: source_ahead.c. */
typedef struct ls_ahead ls_ahead;

struct ls_source {
    ls_feed feed;
    ls_store *store;
    size_t first;
    int n_inputs, n_outputs, n_bindings; /* inputs, outputs, then sample weights */
    ls_binding *bindings;
    int weight_of; /* binding of sample weights; -1: none */
    size_t n_class_weights;
    const double *class_weight;
    double deadline_s;
    ls_ahead *ahead;     /* NULL: nothing has been announced yet */
    char fault_data[32]; /* rankR.data */
    _Atomic int spoil_fail, spoil_nan;
};

/* source_bind.c: finds and checks the arrays. LS_EINPUT. Local. */
ls_status ls_source_bind(ls_source *s, const ls_model *model, const ls_compile *compile, const ls_source_options *o,
                         ls_err *err) LS_MUST_CHECK;

/* source_fill.c */
ls_status ls_source_fill(void *self, int array, ls_dtype want, const uint32_t *index, size_t n, void *out, ls_err *err);
/* Reads samples index[0..n) of the source, raw, in that order; under the store's lock. */
ls_status ls_source_gather(ls_source *s, int array, const uint32_t *index, size_t n, char *raw,
                           ls_err *err) LS_MUST_CHECK;
/* Checks n raw samples, the first of which is number `at` of the data set: class numbers in range, values finite. */
ls_status ls_binding_check(const ls_source *s, const ls_binding *b, const void *raw, uint64_t at, size_t n,
                           ls_err *err) LS_MUST_CHECK;

/* source_ahead.c. expect of ls_feed; LS_EINPUT and the like are kept for the fill. */
void ls_source_expect(void *self, const uint32_t *index, size_t n);
/* The raw samples of an array, index[0..n) of them, when they have been announced: waits until they are there. *raw
 * NULL: they have not been. They stay until LS_SOURCE_AHEAD announcements later. Several threads at once. */
ls_status ls_ahead_find(ls_source *s, int array, const uint32_t *index, size_t n, const char **raw,
                        ls_err *err) LS_MUST_CHECK;
/* Ends the thread. NULL is legal. */
void ls_ahead_destroy(ls_ahead *a);

#endif
