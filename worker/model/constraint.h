/*
 * Regularizers and constraints of weights, as Keras serializes them.
 *
 * Source: tf_keras/regularizers.py, tf_keras/constraints.py.
 */
#ifndef LS_WORKER_CONSTRAINT_H
#define LS_WORKER_CONSTRAINT_H

#include "worker/model/model.h"

/* "l1", "l2", "l1_l2" or {"class_name": "L1" | "L2" | "L1L2", "config": {...}}; absent or null: none. */
ls_status ls_regularizer_parse(ls_json at, ls_regularizer *out, ls_err *err) LS_MUST_CHECK;

/* "non_neg", "max_norm", "unit_norm", "min_max_norm" or {"class_name", "config"}; absent or null: none. Axes are
 * checked against the weight's shape. */
ls_status ls_constraint_parse(ls_json at, const ls_shape *shape, ls_constraint *out, ls_err *err) LS_MUST_CHECK;

/* Projects a weight after an update: keras_order (elements of w->shape) is read and overwritten. Norms are sums in
 * double over the constraint's axes, in index order: the same input gives the same bits. Does nothing when the weight
 * has no constraint. */
void ls_constraint_apply(const ls_weight *w, float *keras_order);

#endif
