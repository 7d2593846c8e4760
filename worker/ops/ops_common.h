/*
 * What operators share: adding a oneDNN primitive to a plan, weights in the form that a kernel wants, bfloat16, and
 * loops over threads.
 */
#ifndef LS_WORKER_OPS_COMMON_H
#define LS_WORKER_OPS_COMMON_H

#include <string.h>

#include "worker/dnn/dnn.h"
#include "worker/ops/ops.h"
#include "worker/plan/bf16.h"

/* ---- primitives in plans ---- */

/* The memory of each argument; scratch memory is added by ls_ops_emit_prim. */
typedef struct ls_prim_refs {
    ls_ref of[LS_ARG_COUNT];
} ls_prim_refs;

/* Appends the primitive as a call; the plan owns it from here on. Every argument of the primitive must have been given.
 */
void ls_ops_emit_prim(ls_plan *p, ls_phase phase, const char *label, const ls_node *node, ls_prim *prim,
                      const ls_prim_refs *refs, double flops);

/*
 * A weight in the layout and type that a kernel wants: the arena's own memory when that is it already, else a copy that
 * a PREPARE call makes once a step, for all that want the same. keras describes the weight in Keras's order (its dtype
 * does not matter).
 */
ls_status ls_ops_weight(ls_plan *p, const ls_node *node, ls_weight *w, const ls_md *keras, const ls_layout *wanted,
                        ls_dtype dtype, ls_ref *out, ls_err *err) LS_MUST_CHECK;

/*
 * The gradient of a weight from a kernel that makes it in the layout `made`: begin says where it is to be written, and
 * end, after the kernel's call, adds a call that brings it into the arena's layout where that is another one.
 */
typedef struct ls_ops_dweight {
    ls_ref made, lies;
    ls_prim *reorder;
} ls_ops_dweight;
ls_status ls_ops_dweight_begin(ls_ops_dweight *d, ls_plan *p, ls_weight *w, const ls_md *keras, const ls_layout *made,
                               ls_err *err) LS_MUST_CHECK;
void ls_ops_dweight_end(ls_ops_dweight *d, ls_plan *p, const ls_node *node);

/* ---- bfloat16 ---- */

/* n elements from `at` on as floats, whatever the array holds (LS_F32 or LS_BF16), and back. */
static inline void ls_load_f32(ls_dtype dtype, const void *from, size_t at, float *restrict to, size_t n) {
    if (dtype == LS_F32) {
        memcpy(to, (const float *)from + at, n * sizeof *to);
        return;
    }
    const uint16_t *h = (const uint16_t *)from + at;
    for (size_t i = 0; i < n; i++) {
        to[i] = ls_bf16_to_f32(h[i]);
    }
}

static inline void ls_store_f32(ls_dtype dtype, void *to, size_t at, const float *restrict from, size_t n) {
    if (dtype == LS_F32) {
        memcpy((float *)to + at, from, n * sizeof *from);
        return;
    }
    uint16_t *h = (uint16_t *)to + at;
    for (size_t i = 0; i < n; i++) {
        h[i] = ls_bf16_from_f32(from[i]);
    }
}

/* ---- broadcasting ---- */

/* For each element of a sample of this shape its place in an array without the axes in shared_axes (bit i: axis i);
 * place has room for all elements. Returns the array's size. */
size_t ls_ops_places(const ls_shape *shape, unsigned shared_axes, uint32_t *place);

/* ---- threads ---- */

/*
 * Work is cut into fixed chunks, so that what a chunk computes does not depend on the number of threads. f(context,
 * begin, end) is called for every chunk of [0, n), from up to n_threads threads.
 */
typedef void (*ls_range_fn)(void *context, size_t begin, size_t end);
void ls_ops_parallel(int n_threads, size_t n, size_t chunk, ls_range_fn f, void *context);

/* Elements that one thread takes at a time in element-wise loops: 64 KiB of floats. */
enum { LS_CHUNK = 16384 };

#endif
