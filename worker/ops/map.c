#include "worker/ops/map.h"

void ls_map_forward(ls_plan *p, const ls_node *node, const char *label, ls_dtype dtype, ls_kernel kernel, void *state) {
    ls_ref src = ls_plan_in(p, node->in[0], dtype), dst = ls_plan_out(p, node->out[0], dtype);
    ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, label, node, kernel, state, NULL);
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_WRITE, dst);
}

bool ls_map_has_backward(ls_plan *p, const ls_node *node) {
    return ls_ref_some(ls_plan_dout(p, node->out[0], LS_F32)) && ls_plan_wants_grad(p, node->in[0]);
}

void ls_map_backward(ls_plan *p, const ls_node *node, const char *label, bool with_src, ls_kernel kernel, void *state) {
    ls_ref dout = ls_plan_dout(p, node->out[0], LS_F32), src = {0};
    if (with_src) {
        src = ls_plan_in(p, node->in[0], LS_F32);
    }
    ls_ref din = ls_plan_din(p, node->in[0], LS_F32);
    ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, label, node, kernel, state, NULL);
    if (with_src) {
        ls_call_arg(c, LS_READ, src);
    }
    ls_call_arg(c, LS_READ, dout);
    ls_call_arg(c, LS_WRITE, din);
}
