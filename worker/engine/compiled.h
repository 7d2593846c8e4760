/*
 * Losses and metrics as a plan sees them: what to append after the forward pass.
 */
#ifndef LS_WORKER_COMPILED_H
#define LS_WORKER_COMPILED_H

#include "worker/engine/engine.h"

typedef struct ls_compiled {
    const ls_compile *compile;
    int n_sums;
    int *loss_at;   /* (n_outputs) index of each loss's two doubles */
    int *metric_at; /* (n_metrics) */
    bool sample_weights;
} ls_compiled;

#endif
