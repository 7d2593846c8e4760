/* Masks: which time steps count, as f32 of 0 and 1. */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"

typedef struct mask_state {
    const ls_mask_attr *attr;
    size_t n, width; /* steps of all samples, elements of a step */
    ls_dtype dtype;
} mask_state;

static bool counts(const mask_state *s, const void *x, size_t step) {
    if (!s->attr->differs) {
        return s->dtype == LS_I32 ? ((const int32_t *)x)[step] != 0 : ((const float *)x)[step] != 0.0f;
    }
    const float *at = (const float *)x + step * s->width;
    for (size_t j = 0; j < s->width; j++) {
        if (at[j] != s->attr->value) {
            return true;
        }
    }
    return false;
}

static void kernel(const ls_call *call, const ls_run *run) {
    const mask_state *s = call->state;
    float *to = call->args[1].p;
    (void)run;
    for (size_t i = 0; i < s->n; i++) {
        to[i] = counts(s, call->args[0].p, i) ? 1.0f : 0.0f;
    }
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    mask_state *s = ls_xcalloc(1, sizeof *s);
    s->attr = node->attr;
    s->n = ls_plan_elems(p, node->out[0]);
    s->width = ls_plan_elems(p, node->in[0]) / s->n;
    s->dtype = ls_plan_stored(p, node->in[0]) == LS_I32 ? LS_I32 : LS_F32;
    ls_ref in = ls_plan_in(p, node->in[0], s->dtype), out = ls_plan_out(p, node->out[0], LS_F32);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "mask", node, kernel, s, NULL);
    ls_call_arg(c, LS_READ, in);
    ls_call_arg(c, LS_WRITE, out);
    return LS_OK;
}

const ls_operator ls_op_mask = {"mask", forward, NULL, NULL, NULL};
