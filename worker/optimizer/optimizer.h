/*
 * Optimizers: one row and one function each. An update is element-wise over a contiguous range of the arenas, whatever
 * the layout, so that the owner of a slice updates just that slice.
 *
 * Source: Keras 2.11-2.15 (not "legacy") optimizers; formulas beside each function.
 */
#ifndef LS_WORKER_OPTIMIZER_H
#define LS_WORKER_OPTIMIZER_H

#include "common/json.h"
#include "worker/model/model.h"

enum { LS_MAX_SLOTS = 4, LS_MAX_COEFFICIENTS = 3 };

typedef struct ls_optimizer ls_optimizer;

/* One update of a range. Begun by ls_update_begin, once a step. */
typedef struct ls_update {
    double learning_rate;                   /* of this step, decay and schedule applied */
    uint64_t t;                             /* 1-based number of this update */
    float coefficient[LS_MAX_COEFFICIENTS]; /* of this step: bias corrections and the like */
    float *w;                               /* (n) read, overwritten */
    const float *g;                         /* (n) mean gradient over the global batch, reduced, clipped, regularized */
    float *slot[LS_MAX_SLOTS];              /* (n) each, read, overwritten; initial value slot_init */
    size_t n;
    double trust;        /* LARS, LAMB: the weight's ratio; else 1 */
    double weight_decay; /* LARS, LAMB: of this weight, 0 when it is excluded */
} ls_update;

typedef struct ls_optimizer_class {
    const char *name; /* "Adam" */
    const char *aliases;
    const char
        *keys; /* config keys besides name, learning_rate, decay, clip*, ema*, jit_compile, is_legacy_optimizer, ... */
    void (*defaults)(ls_optimizer *o);                                /* Keras's; learning_rate is 0.001 before */
    ls_status (*parse)(ls_optimizer *o, ls_json config, ls_err *err); /* class-specific keys */
    /* Names of the slots (NULL-terminated), which may depend on the settings (no momentum: no slot). */
    const char *const *(*slots)(const ls_optimizer *o);
    double (*slot_init)(const ls_optimizer *o, int slot);      /* NULL: 0 */
    void (*coefficients)(const ls_optimizer *o, ls_update *u); /* from learning_rate and t; NULL: it has none */
    void (*update)(const ls_optimizer *o, const ls_update *u);
    /* Whether a zero gradient leaves weights and slots as they are: always; where all slots are zero. NULL: it does
     * not.
     */
    bool (*idles)(const ls_optimizer *o), (*rests)(const ls_optimizer *o);
    /*
     * For optimizers that adapt the rate of each weight to norms (LARS, LAMB); NULL for the others. direction: before
     * the norms are taken, u->g (read, overwritten) becomes what the step goes along; may update slots; NULL: the
     * gradient. trust: the ratio that update finds in u->trust, from the norms of the whole weight and of the whole
     * direction.
     */
    void (*direction)(const ls_optimizer *o, const ls_update *u, float *g);
    double (*trust)(const ls_optimizer *o, double weight_norm, double direction_norm, double weight_decay);
} ls_optimizer_class;

struct ls_optimizer {
    const ls_optimizer_class *class_;
    double learning_rate;                        /* initial; callbacks change the current one */
    double decay;                                /* learning_rate / (1 + decay * iterations) */
    double clipnorm, clipvalue, global_clipnorm; /* 0: off */
    double weight_decay;
    double beta_1, beta_2, epsilon, rho, momentum, initial_accumulator;
    double l1, l2, l2_shrinkage, rate_power; /* Ftrl */
    bool nesterov, amsgrad, centered, legacy;
    /* LARS, LAMB: parts of weights' paths, separated by spaces: no decay / no adaptation for these */
    char no_decay[160], no_adaptation[160];
};

/* Whether one of the words is part of the weight's path. */
bool ls_optimizer_excludes(const char *words, const ls_weight *w);

/* A name or {"class_name", "config"}; unknown keys are errors. */
ls_status ls_optimizer_parse(ls_json at, ls_optimizer *out, ls_err *err) LS_MUST_CHECK;
int ls_optimizer_n_slots(const ls_optimizer *o);
/* What is the same for all ranges in the step that does update t: the rest is the caller's. */
ls_update ls_update_begin(const ls_optimizer *o, double learning_rate, uint64_t t);

#endif
