/* The same numbers under another shape. */
#include "worker/ops/ops_common.h"

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_dtype dtype = ls_plan_stored(p, node->in[0]);
    ls_plan_out_view(p, node->out[0], ls_plan_in(p, node->in[0], dtype), dtype);
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    if (!ls_plan_wants_grad(p, node->in[0])) {
        return LS_OK;
    }
    ls_dtype dtype = ls_plan_stored(p, node->out[0]);
    ls_ref ddst = ls_plan_dout(p, node->out[0], dtype);
    if (ls_ref_some(ddst)) {
        ls_plan_din_view(p, node->in[0], ddst, dtype);
    }
    return LS_OK;
}

const ls_operator ls_op_view = {"view", forward, backward, NULL};
