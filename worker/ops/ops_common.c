#include "worker/ops/ops_common.h"

#include <stdlib.h>

static void run_prim(const ls_call *call, const ls_run *run) {
    void *pointers[LS_CALL_ARGS];
    (void)run;
    for (int i = 0; i < call->n_args; i++) {
        pointers[i] = call->args[i].p;
    }
    ls_prim_run(call->state, pointers);
}

void ls_ops_emit_prim(ls_plan *p, ls_phase phase, const char *label, const ls_node *node, ls_prim *prim,
                      const ls_prim_refs *refs, double flops) {
    int n = ls_prim_n_args(prim);
    size_t scratch = ls_prim_arg_bytes(prim, LS_ARG_SCRATCHPAD);
    ls_ref scratch_ref = scratch ? ls_plan_temp(p, scratch) : (ls_ref){0};
    ls_call *call = ls_plan_emit(p, phase, label, node, run_prim, prim, ls_prim_destroy);
    call->flops = flops;
    for (int i = 0; i < n; i++) {
        bool written;
        size_t n_bytes;
        ls_prim_arg which = ls_prim_arg_at(prim, i, &written, &n_bytes);
        ls_ref ref = which == LS_ARG_SCRATCHPAD ? scratch_ref : refs->of[which];
        LS_ASSERT(ls_ref_some(ref));
        ls_call_arg(call, written ? LS_WRITE : LS_READ, ref);
    }
}

ls_status ls_ops_weight(ls_plan *p, const ls_node *node, ls_weight *w, const ls_md *keras, const ls_layout *wanted,
                        ls_dtype dtype, ls_ref *out, ls_err *err) {
    const ls_layout *lies = ls_plan_weight_layout(p, w, wanted);
    if (dtype == LS_F32 && ls_layout_equal(lies, wanted)) {
        *out = ls_plan_weight(p, w);
        return LS_OK;
    }
    *out = ls_plan_find_copy(p, w, wanted, dtype);
    if (ls_ref_some(*out)) {
        return LS_OK;
    }
    ls_md from = ls_md_in(*keras, lies, LS_F32), to = ls_md_in(*keras, wanted, dtype);
    ls_prim *reorder;
    LS_TRY(ls_prim_reorder(&reorder, &from, &to, ls_plan_threads(p), err));
    *out = ls_plan_persistent(p, ls_prim_arg_bytes(reorder, LS_ARG_DST));
    ls_prim_refs refs = {0};
    refs.of[LS_ARG_SRC] = ls_plan_weight(p, w);
    refs.of[LS_ARG_DST] = *out;
    ls_ops_emit_prim(p, LS_PHASE_PREPARE, "weight.reorder", node, reorder, &refs, 0);
    ls_plan_keep_copy(p, w, wanted, dtype, *out);
    return LS_OK;
}

ls_status ls_ops_dweight_begin(ls_ops_dweight *d, ls_plan *p, ls_weight *w, const ls_md *keras, const ls_layout *made,
                               ls_err *err) {
    const ls_layout *lies = ls_plan_weight_layout(p, w, made);
    *d = (ls_ops_dweight){0};
    if (ls_layout_equal(made, lies)) {
        d->made = d->lies = ls_plan_dweight(p, w);
        return LS_OK;
    }
    /* Another plan or node has decided otherwise. */
    ls_md from = ls_md_in(*keras, made, LS_F32), to = ls_md_in(*keras, lies, LS_F32);
    LS_TRY(ls_prim_reorder(&d->reorder, &from, &to, ls_plan_threads(p), err));
    d->lies = ls_plan_dweight(p, w);
    d->made = ls_plan_temp(p, ls_prim_arg_bytes(d->reorder, LS_ARG_SRC));
    return LS_OK;
}

void ls_ops_dweight_end(ls_ops_dweight *d, ls_plan *p, const ls_node *node) {
    if (d->reorder != NULL) {
        ls_prim_refs refs = {0};
        refs.of[LS_ARG_SRC] = d->made;
        refs.of[LS_ARG_DST] = d->lies;
        ls_ops_emit_prim(p, LS_PHASE_BACKWARD, "gradient.reorder", node, d->reorder, &refs, 0);
    }
}

size_t ls_ops_places(const ls_shape *shape, unsigned shared_axes, uint32_t *place) {
    size_t step[LS_MAX_RANK], n = 1, n_elems = (size_t)ls_shape_elems(shape);
    for (int i = shape->rank - 1; i >= 0; i--) {
        bool shared = shared_axes >> i & 1u;
        step[i] = shared ? 0 : n;
        n *= shared ? 1 : (size_t)shape->dim[i];
    }
    for (size_t e = 0; e < n_elems; e++) {
        size_t rest = e, at = 0;
        for (int i = shape->rank - 1; i >= 0; i--) {
            at += rest % (size_t)shape->dim[i] * step[i];
            rest /= (size_t)shape->dim[i];
        }
        place[e] = (uint32_t)at;
    }
    return n;
}

void ls_ops_parallel(int n_threads, size_t n, size_t chunk, ls_range_fn f, void *context) {
    size_t n_chunks = (n + chunk - 1) / chunk;
    if (n_threads <= 1 || n_chunks <= 1) {
        for (size_t i = 0; i < n_chunks; i++) {
            f(context, i * chunk, i + 1 == n_chunks ? n : (i + 1) * chunk);
        }
        return;
    }
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (size_t i = 0; i < n_chunks; i++) {
        f(context, i * chunk, i + 1 == n_chunks ? n : (i + 1) * chunk);
    }
}
