/*
 * Callbacks: Keras's, with its names, defaults and decisions.
 *
 * Every rank holds the same callbacks and shows them the same numbers at the same moments, so that all come to the same
 * decision without a word; the chief (rank 0) alone writes files, keeps weights and speaks. Where a callback asks its
 * port for weights, all ranks ask at once, since that is collective.
 *
 * The decision of an epoch is what stands in the moment afterwards: learning_rate, stop, reason.
 *
 * Source  tf_keras/callbacks.py (2.16); each class's file says where Lockstep adds something.
 */
#ifndef LS_FIT_CALLBACK_H
#define LS_FIT_CALLBACK_H

#include "common/json.h"
#include "trainer/fit/logs.h"

/* What callbacks need from the loop. get and set move all weights, one after the other in Keras's order and layout. */
typedef struct ls_callback_port {
    void *self;
    size_t n_elems;         /* of all weights */
    const char *run_folder; /* relative file names count from it */
    /* Collective; out matters on the chief only, elsewhere NULL. */
    ls_status (*get)(void *self, float *out, ls_err *err);
    ls_status (*set)(void *self, const float *in, ls_err *err);
    ls_status (*save)(void *self, const char *path, bool weights_only, ls_err *err);
    /* For people: one line without a newline. The chief's callbacks alone call it. */
    void (*say)(void *self, bool warning, const char *text);
    /* Collective. The chief's bytes to all; NULL: there is one rank. */
    void (*share)(void *self, void *bytes, size_t n_bytes);
} ls_callback_port;

typedef struct ls_moment {
    bool chief;
    int64_t epoch;        /* from 0, as Keras's callbacks count */
    int64_t batch;        /* of the epoch, from 0 */
    uint64_t step;        /* of the run, from 0 */
    double learning_rate; /* read and overwritten; without the optimizer's own decay */
    bool stop;            /* set: training ends after this epoch (or batch) */
    char reason[200];     /* why */
    ls_logs *logs;        /* batch_end: loss and metrics of the epoch so far; epoch_end: all */
    const ls_callback_port *port;
} ls_moment;

typedef struct ls_callback ls_callback;

typedef struct ls_callback_class {
    const char *name;
    const char *const *keys; /* of its config, NULL-terminated */
    const char *metrics;     /* that the job gets where it does not list them, separated by spaces; NULL: none */
    size_t n_bytes;          /* of its struct, which begins with an ls_callback */
    ls_status (*parse)(ls_callback *cb, ls_json config, double learning_rate, ls_err *err);
    /* Each may be NULL. */
    ls_status (*train_begin)(ls_callback *cb, ls_moment *m, ls_err *err);
    ls_status (*epoch_begin)(ls_callback *cb, ls_moment *m, ls_err *err);
    ls_status (*batch_begin)(ls_callback *cb, ls_moment *m, ls_err *err);
    ls_status (*batch_end)(ls_callback *cb, ls_moment *m, ls_err *err);
    ls_status (*epoch_end)(ls_callback *cb, ls_moment *m, ls_err *err);
    ls_status (*train_end)(ls_callback *cb, ls_moment *m, ls_err *err);
    json_t *(*save)(const ls_callback *cb); /* its state; a new reference */
    ls_status (*restore)(ls_callback *cb, ls_json state, ls_err *err);
    /* Weights that it keeps on the chief, all in Keras's order; *present says whether there are any now. */
    float *(*weights)(ls_callback *cb, bool **present);
    void (*release)(ls_callback *cb);
} ls_callback_class;

struct ls_callback {
    const ls_callback_class *class_;
    int index; /* in the list */
};

typedef struct ls_callbacks {
    int n;
    ls_callback **item;
} ls_callbacks;

/* The list "callbacks" (absent: none). learning_rate is the optimizer's, for schedules that start from it. LS_EINPUT
 * with file, line and what was expected. On success the caller releases *out. */
ls_status ls_callbacks_parse(ls_json list, double learning_rate, ls_callbacks *out, ls_err *err) LS_MUST_CHECK;
void ls_callbacks_release(ls_callbacks *callbacks);

typedef enum {
    LS_TRAIN_BEGIN,
    LS_EPOCH_BEGIN,
    LS_BATCH_BEGIN,
    LS_BATCH_END,
    LS_EPOCH_END,
    LS_TRAIN_END
} ls_callback_when;

/* Calls all, in order. Collective where a callback moves weights. An error of one ends the round. */
ls_status ls_callbacks_call(ls_callbacks *callbacks, ls_callback_when when, ls_moment *m, ls_err *err) LS_MUST_CHECK;

/* Whether one of the class is in the list. */
bool ls_callbacks_have(const ls_callbacks *callbacks, const char *name);
/* Whether one that has a state looks at batches, so that its state may change in the middle of an epoch. */
bool ls_callbacks_change_in_batches(const ls_callbacks *callbacks);

/* The state of all as a list of {"class_name", "state"}, a new reference; and back, after train_begin. LS_EINPUT when
 * the list is of other callbacks than these. */
json_t *ls_callbacks_save(const ls_callbacks *callbacks);
ls_status ls_callbacks_restore(ls_callbacks *callbacks, ls_json states, ls_err *err) LS_MUST_CHECK;

/* Names of all built-in classes, NULL-terminated. */
const char *const *ls_callback_names(void);

/* Adds the callbacks of plugins; they are found after the built-in ones, until ls_callbacks_drop_added. LS_EINPUT: a
 * name is taken, or a row is incomplete. The plugins must stay loaded until then. */
struct ls_plugins;
ls_status ls_callbacks_add_plugins(const struct ls_plugins *plugins, ls_err *err) LS_MUST_CHECK;
void ls_callbacks_drop_added(void);

#endif
