/*
 * Initial weights. A value is a pure function of (seed, the weight's path, its position), so it does not depend on
 * ranks, layouts or the order in which weights are made.
 *
 * Source: Keras 2 initializers (laws and constants: Glorot & Bengio 2010; He et al. 2015; LeCun et al. 1998; Saxe et
 * al. 2014 for orthogonal).
 */
#ifndef LS_WORKER_INITIALIZER_H
#define LS_WORKER_INITIALIZER_H

#include "worker/model/model.h"

/* Reads a serialized initializer: a name ("glorot_uniform", "GlorotUniform"), {"class_name", "config"}, or Keras 3's
 * form; absent or null: default_name. Keys of the config are checked. */
ls_status ls_initializer_parse(ls_json at, const char *default_name, ls_initializer *out, ls_err *err) LS_MUST_CHECK;

/* Whether the initializer can fill that shape (identity: matrices; orthogonal: two axes or more). */
ls_status ls_initializer_check(ls_json at, const ls_initializer *init, const ls_shape *shape,
                               ls_err *err) LS_MUST_CHECK;

/* Fills keras_order (elements of w->shape). */
void ls_initializer_fill(const ls_weight *w, uint64_t seed, float *keras_order);

#endif
