/*
 * Lockstep plugins: losses, metrics, layers and callbacks of your own, in a shared object, without a change to
 * Lockstep.
 *
 * This header stands alone: no other file of Lockstep is needed to write or to compile a plugin.
 *
 *   cc -O2 -shared -fPIC -I PREFIX/include mine.c -o mine.so
 *
 * The shared object exports one function, lockstep_plugin_entry(), which gives a constant table of what it adds. A job
 * names the file, and from then on the names in the table are used like built-in ones: as class_name in the model, in
 * compile.loss and compile.metrics, in fit.callbacks.
 *
 *   "plugins": ["./mine.so"]     or     "plugins": [{"path": "./mine.so", "config": {"verbose": 1}}]
 *
 * The smallest plugin, a loss:
 *
 *   #include "lockstep_plugin.h"
 *
 *   static int row(const lockstep_value *settings, const float *p, const void *target, int64_t n, float *dp,
 *                  float scale, double *loss, lockstep_error *error) {
 *       const float *y = (const float *)target;
 *       (void)settings, (void)error;
 *       *loss = 0;
 *       for (int64_t i = 0; i < n; i++) {
 *           double d = (double)p[i] - y[i];
 *           *loss += d * d * d * d / (double)n;
 *           if (dp != NULL) dp[i] = (float)(4 * d * d * d / (double)n * scale);
 *       }
 *       return 0;
 *   }
 *   static const lockstep_loss quartic = {.name = "quartic", .row = row};
 *   static const lockstep_loss *const losses[] = {&quartic, NULL};
 *   static const lockstep_plugin plugin = {LOCKSTEP_PLUGIN_HEAD, .name = "quartic", .version = "1.0", .losses =
 * losses}; const lockstep_plugin *lockstep_plugin_entry(void) { return &plugin; }
 *
 * Rules that hold for everything here:
 *   - A function that returns int returns 0 when all is well. Otherwise it calls lockstep_fail and returns what that
 *     returns: the user reads the sentence after the name of the file, layer, loss or callback.
 *   - Losses, metrics and layers are pure: what they compute depends on their arguments alone. They are called on every
 *     rank and from several threads at once. No global variables, no random numbers, no allocation in row, add, forward
 *     and backward. So a job with `lanes` keeps giving the same bits on any number of ranks.
 *   - Names are borrowed for ever: string literals.
 *   - Built-in names cannot be taken.
 *
 * A checkpoint records the plugins of its run: name, version and digest of the file.
 */
#ifndef LOCKSTEP_PLUGIN_H
#define LOCKSTEP_PLUGIN_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a struct or the meaning of a function changes. Lockstep refuses a plugin of another number. */
#define LOCKSTEP_PLUGIN_ABI 1u

enum {
    LOCKSTEP_MAX_KEYS = 16,   /* of one loss, metric, layer or callback */
    LOCKSTEP_MAX_RANK = 6,    /* axes of one sample */
    LOCKSTEP_MAX_WEIGHTS = 4, /* of one layer */
    LOCKSTEP_MAX_SAVES = 4    /* of one callback, in one hook */
};

/* ---- errors ---- */

typedef struct lockstep_error {
    char *text; /* one sentence: what is wrong and what to do */
    size_t size;
} lockstep_error;

/* Writes the sentence; returns -1, so that a function can `return lockstep_fail(error, "...")`. */
#ifdef __GNUC__
__attribute__((format(printf, 2, 3), unused))
#endif
static int
lockstep_fail(lockstep_error *error, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(error->text, error->size, format, args);
    va_end(args);
    return -1;
}

/* ---- settings: the keys of a "config" ---- */

/* What a key holds. Zero stands for LOCKSTEP_REAL. */
enum { LOCKSTEP_REAL, LOCKSTEP_INT, LOCKSTEP_BOOL, LOCKSTEP_TEXT };

/* One key. Lockstep reads it, checks type and range, and complains with file, line and path, as for its own. Lists of
 * keys end with a zeroed row. */
typedef struct lockstep_key {
    const char *name;
    int type;
    int required;             /* 1: there is no default */
    double standard;          /* the default of numbers; of LOCKSTEP_BOOL 0 or 1 */
    double least, most;       /* the range of numbers, both ends allowed; equal (as when left out): any */
    const char *default_text; /* of LOCKSTEP_TEXT; NULL: "" */
} lockstep_key;

/* Settings are given as an array in the order of the keys. */
typedef union lockstep_value {
    double real;      /* LOCKSTEP_REAL */
    int64_t integer;  /* LOCKSTEP_INT; LOCKSTEP_BOOL: 0 or 1 */
    const char *text; /* LOCKSTEP_TEXT; valid as long as the run */
} lockstep_value;

/* A check of settings that a range cannot express; on every rank, before the first step. */
typedef int (*lockstep_check)(const lockstep_value *settings, lockstep_error *error);

/* ---- losses ---- */

/*
 * One row of predictions against its target. Rows lie along the last axis of the output; the mean over rows and samples
 * is Lockstep's business.
 *
 *   p      [n] predictions
 *   target [n] float; of a sparse loss one int32_t, the number of the class
 *   dp     [n] or NULL: to be overwritten with scale * d loss / d p
 *   loss   the row's loss, without scale
 */
typedef int (*lockstep_loss_row)(const lockstep_value *settings, const float *p, const void *target, int64_t n,
                                 float *dp, float scale, double *loss, lockstep_error *error);

typedef struct lockstep_loss {
    const char *name;
    const char *aliases;      /* other spellings, separated by single spaces; NULL: none */
    const lockstep_key *keys; /* NULL: none */
    lockstep_check check;     /* NULL: none */
    int sparse;               /* 1: targets are class numbers */
    lockstep_loss_row row;
} lockstep_loss;

/* ---- metrics ---- */

/* A metric adds into sums; those of lanes, steps and ranks are added, and result makes the number that people read, so
 * that it is exact over any split of the data. */
typedef struct lockstep_metric {
    const char *name;
    const char *aliases;
    const lockstep_key *keys;
    lockstep_check check;
    int sparse;
    /* How many sums, 1 to 100000; n: elements of a row. */
    int (*n_sums)(const lockstep_value *settings, int64_t n);
    /* p (n_rows, n) predictions; target (n_rows, n) float, or (n_rows) int32_t; weight NULL, or (n_rows). */
    int (*add)(const lockstep_value *settings, const float *p, const void *target, const float *weight, int64_t n_rows,
               int64_t n, double *sums, lockstep_error *error);
    double (*result)(const lockstep_value *settings, int64_t n, const double *sums);
} lockstep_metric;

/* ---- layers ---- */

/* Of one sample, or of a weight. Axes are in Keras's order, channels last. */
typedef struct lockstep_shape {
    int32_t rank;
    int64_t dim[LOCKSTEP_MAX_RANK];
} lockstep_shape;

typedef struct lockstep_weight {
    const char *name;        /* "scale" is "LAYER/scale:0" in checkpoints; scale_initializer, scale_regularizer and
                                scale_constraint are keys of the layer */
    const char *initializer; /* Keras's name of the default: "ones", "zeros", "glorot_uniform"; NULL: the last */
} lockstep_weight;

/* What forward and backward are given besides arrays. */
typedef struct lockstep_pass {
    const lockstep_value *settings;
    lockstep_shape in, out; /* of one row */
    int64_t n_rows;         /* of this call */
    int training;           /* 0: evaluation, prediction */
    const float *weights[LOCKSTEP_MAX_WEIGHTS];
} lockstep_pass;

/*
 * A layer of one input and one output. What it makes of a row depends on that row and the weights alone, so that a call
 * may be about any part of a batch: batches are cut into pieces by a rule that knows neither ranks nor threads.
 */
typedef struct lockstep_layer {
    const char *name; /* class_name in the model */
    const lockstep_key *keys;
    lockstep_check check;
    int masks; /* 1: the output has the mask of the input (Keras: supports_masking) */
    int n_weights;
    lockstep_weight weights[LOCKSTEP_MAX_WEIGHTS];
    /* The shape of the output (beforehand that of the input, and rank 1 at least) and of each weight (beforehand rank
     * 0, a single number). NULL: these. */
    int (*shape)(const lockstep_value *settings, const lockstep_shape *in, lockstep_shape *out, lockstep_shape *weights,
                 lockstep_error *error);
    /* y (n_rows, out) from x (n_rows, in). */
    int (*forward)(const lockstep_pass *pass, const float *x, float *y, lockstep_error *error);
    /* dx = dy * d y / d x, overwritten; NULL: nobody asks. dweights[i]: the sum over the rows of this call,
     * overwritten; NULL: weight i does not learn. x and y are those of forward. NULL function: no gradient passes (then
     * there may be no weights). */
    int (*backward)(const lockstep_pass *pass, const float *x, const float *y, const float *dy, float *dx,
                    float *const *dweights, lockstep_error *error);
} lockstep_layer;

/* ---- callbacks ---- */

typedef struct lockstep_log {
    const char *name; /* "loss", "val_f1_score", "lr" */
    double value;
} lockstep_log;

/* What a hook sees and may change. */
typedef struct lockstep_moment {
    const lockstep_value *settings;
    void *state;   /* lockstep_callback.state_bytes of memory; a checkpoint holds it, a resumed run has it again */
    void *self;    /* what create gave; NULL without it */
    int64_t epoch; /* from 0, as in Keras */
    int64_t batch; /* of the epoch, from 0 */
    uint64_t step; /* of the run, from 0 */
    double learning_rate; /* write here to change it */
    int stop;             /* write 1: training ends after this epoch or batch */
    char reason[160];     /* why; people read it */
    int n_logs;           /* batch_end: loss and metrics of the epoch so far; epoch_end: all, with val_ */
    const lockstep_log *logs;
    const char *run_folder;
    void *host; /* Lockstep's */
    /* Asks for the model (weights_only 0) or its weights as a Keras HDF5 file, written when the hook has returned. The
     * name ends with .h5 and counts from the run folder. */
    int (*save)(struct lockstep_moment *moment, const char *file, int weights_only, lockstep_error *error);
    /* One line for people, without a newline. */
    void (*say)(struct lockstep_moment *moment, int warning, const char *text);
} lockstep_moment;

typedef int (*lockstep_hook)(lockstep_moment *moment, lockstep_error *error);

/*
 * A callback runs on rank 0 alone; what it decides is told to the others. Hooks that are NULL cost nothing; a batch
 * hook costs one small message a step.
 *
 * train_begin is called for a resumed run too; `state` is then what the checkpoint holds from the next hook on.
 */
typedef struct lockstep_callback {
    const char *name; /* class_name in fit.callbacks */
    const lockstep_key *keys;
    lockstep_check check;
    const char *metrics; /* that it calls for, separated by single spaces: added to compile.metrics where the job does
                            not list them; NULL: none */
    size_t state_bytes;  /* plain memory without pointers, zero at first; 0: none, at most 1 MiB */
    /* What must not be in a checkpoint (open files, say); on rank 0, before train_begin. May be NULL. */
    int (*create)(const lockstep_value *settings, void **self, lockstep_error *error);
    void (*destroy)(void *self);
    lockstep_hook train_begin, epoch_begin, batch_begin, batch_end, epoch_end, train_end;
} lockstep_callback;

/* The value of a log; NULL: there is none of that name. */
#ifdef __GNUC__
__attribute__((unused))
#endif
static const double *
lockstep_find_log(const lockstep_moment *moment, const char *name) {
    for (int i = 0; i < moment->n_logs; i++) {
        if (strcmp(moment->logs[i].name, name) == 0) {
            return &moment->logs[i].value;
        }
    }
    return NULL;
}

/* ---- the plugin ---- */

typedef struct lockstep_plugin {
    /* LOCKSTEP_PLUGIN_HEAD: the number of this header and the sizes of its structs as the plugin was compiled. */
    uint32_t abi;
    uint32_t plugin_bytes, key_bytes, loss_bytes, metric_bytes, layer_bytes, callback_bytes, pass_bytes, moment_bytes;
    const char *name, *version;
    /* Each list ends with NULL; NULL: none. */
    const lockstep_loss *const *losses;
    const lockstep_metric *const *metrics;
    const lockstep_layer *const *layers;
    const lockstep_callback *const *callbacks;
    /* The keys of "config" beside "path" in the job. */
    const lockstep_key *keys;
    /* Once a process, before anything else is called; and at its end, when init went well. May be NULL. */
    int (*init)(const lockstep_value *settings, lockstep_error *error);
    void (*release)(void);
} lockstep_plugin;

#define LOCKSTEP_PLUGIN_HEAD                                                                               \
    LOCKSTEP_PLUGIN_ABI, sizeof(lockstep_plugin), sizeof(lockstep_key), sizeof(lockstep_loss),             \
        sizeof(lockstep_metric), sizeof(lockstep_layer), sizeof(lockstep_callback), sizeof(lockstep_pass), \
        sizeof(lockstep_moment)

/* What the shared object exports. */
#ifdef __GNUC__
__attribute__((visibility("default")))
#endif
const lockstep_plugin *
lockstep_plugin_entry(void);

#ifdef __cplusplus
}
#endif
#endif
