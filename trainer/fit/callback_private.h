/* What the files callback_*.c share. */
#ifndef LS_FIT_CALLBACK_PRIVATE_H
#define LS_FIT_CALLBACK_PRIVATE_H

#include "trainer/fit/callback.h"

/* One row a class; each is defined in the file that is named after its job. */
#define LS_CALLBACK_LIST(X)                    \
    X(early_stopping, "EarlyStopping")         \
    X(reduce_on_plateau, "ReduceLROnPlateau")  \
    X(rate_scheduler, "LearningRateScheduler") \
    X(model_checkpoint, "ModelCheckpoint")     \
    X(csv_logger, "CSVLogger")                 \
    X(terminate_on_nan, "TerminateOnNaN")

#define X(symbol, name) extern const ls_callback_class ls_callback_##symbol;
LS_CALLBACK_LIST(X)
#undef X

/* callback_plugin.c: the class that a plugin added, or NULL; appends the names of all to a list of n words with room
 * for max and returns how many there are then. */
const ls_callback_class *ls_callback_added(const char *name);
size_t ls_callback_added_names(const char **names, size_t n, size_t max);

/* A monitored quantity: which, and what is better. */
typedef struct ls_monitor {
    const char *name; /* borrowed from the job */
    bool greater;     /* more is better */
} ls_monitor;

typedef enum { LS_MODE_AUTO, LS_MODE_MIN, LS_MODE_MAX } ls_mode;

/* Reads "monitor" (default val_loss) and "mode" (default auto). The class decides what auto means. */
ls_status ls_monitor_parse(ls_json config, ls_monitor *out, ls_mode *mode, ls_err *err) LS_MUST_CHECK;
/* The value that counts as worse than any. */
double ls_monitor_worst(const ls_monitor *m);
/* NULL when it is not among the logs: the chief says so, once an epoch, and which are. */
const double *ls_monitor_value(const ls_monitor *mon, const ls_callback *cb, const ls_moment *m);

/* "verbose" of Keras: 0 or 1. */
ls_status ls_verbose_parse(ls_json config, int64_t *out, ls_err *err) LS_MUST_CHECK;

/* On the chief only. */
void ls_callback_say(const ls_moment *m, bool warning, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Numbers of a state: JSON has no infinity, so it stands as null. */
json_t *ls_state_number(double x);
ls_status ls_state_get(ls_json state, const char *key, double when_null, double *out, ls_err *err) LS_MUST_CHECK;

#endif
