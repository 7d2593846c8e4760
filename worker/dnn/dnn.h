/*
 * The seam over oneDNN: the only files that know dnnl.h (2.x and 3.x differ) are worker/dnn/dnn_*.c.
 *
 * A layout says how a weight lies in memory as oneDNN's kernels want it; a primitive is one compiled kernel. Both are
 * made at compile time of a plan; running a primitive creates nothing.
 */
#ifndef LS_WORKER_DNN_H
#define LS_WORKER_DNN_H

#include "worker/model/model.h"

/* Floats that the layout takes, padding included. */
size_t ls_layout_elems(const ls_layout *layout);
bool ls_layout_equal(const ls_layout *a, const ls_layout *b);
/* Between the layout and Keras's order (which the layout knows too). Plain copies when layout is NULL are the caller's.
 */
void ls_layout_to_keras(const ls_layout *layout, const float *from, float *keras_order);
void ls_layout_from_keras(const ls_layout *layout, const float *keras_order, float *to);

/* The instruction set that kernels use ("avx512_core_bf16"), and whether bfloat16 is fast here. The promise of equal
 * bits holds for one instruction set. */
const char *ls_dnn_isa(void);
bool ls_dnn_has_bf16(void);
const char *ls_dnn_version(void);

/* How many threads the kernels called from this thread use from now on. */
void ls_dnn_set_threads(int n_threads);

#endif
