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
    char *scratch;
    size_t scratch_bytes;
    uint64_t *wanted;
    size_t cap_wanted;
} ls_store;

struct ls_source {
    ls_feed feed;
    ls_store *store;
    size_t first;
    int n_inputs, n_outputs, n_bindings; /* inputs, outputs, then sample weights */
    ls_binding *bindings;
    int weight_of; /* binding of sample weights; -1: none */
    size_t n_class_weights;
    const double *class_weight;
    _Atomic int spoil_fail, spoil_nan;
};

/* source_bind.c: finds and checks the arrays. LS_EINPUT. Local. */
ls_status ls_source_bind(ls_source *s, const ls_model *model, const ls_compile *compile, const ls_source_options *o,
                         ls_err *err) LS_MUST_CHECK;

/* source_fill.c */
ls_status ls_source_fill(void *self, int array, ls_dtype want, const uint32_t *index, size_t n, void *out, ls_err *err);
/* Checks n raw samples, the first of which is number `at` of the data set: class numbers in range, values finite. */
ls_status ls_binding_check(const ls_source *s, const ls_binding *b, const void *raw, uint64_t at, size_t n,
                           ls_err *err) LS_MUST_CHECK;

#endif
