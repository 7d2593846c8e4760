/*
 * Products of matrices that are both activations, one for each place of the leading axes: C = op(A) op(B).
 *
 * Every pass is again such a product; results are written as they are stored, so that the kernel's output is plain:
 *   dA = dC op(B)^T, or its transpose op(B) dC^T where A is stored transposed; dB likewise.
 */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"

/* A stored matrix and whether it is taken transposed. */
typedef struct operand {
    ls_ref ref;
    bool transposed;
} operand;

typedef struct product_shape {
    int64_t batch, m, n, k;
} product_shape;

/* (batch, rows, columns) as the product sees it. */
static ls_md describe(int64_t batch, int64_t rows, int64_t columns, bool transposed, ls_dtype dtype) {
    return (ls_md){.rank = 3,
                   .dim = {batch, rows, columns},
                   .stride = {rows * columns, transposed ? 1 : columns, transposed ? rows : 1},
                   .dtype = dtype};
}

static ls_status emit(ls_plan *p, ls_phase phase, const char *label, const ls_node *node, product_shape s, operand a,
                      operand b, ls_ref c, ls_err *err) {
    ls_dtype dtype = ls_plan_compute(p);
    ls_md src = describe(s.batch, s.m, s.k, a.transposed, dtype);
    ls_md weights = describe(s.batch, s.k, s.n, b.transposed, dtype);
    ls_md dst = describe(s.batch, s.m, s.n, false, dtype);
    ls_prim *prim;
    LS_TRY(ls_prim_matmul(&prim, &src, &weights, &dst, false, ls_plan_threads(p), err));
    ls_prim_refs refs = {0};
    refs.of[LS_ARG_SRC] = a.ref;
    refs.of[LS_ARG_WEIGHTS] = b.ref;
    refs.of[LS_ARG_DST] = c;
    ls_ops_emit_prim(p, phase, label, node, prim, &refs,
                     2.0 * (double)s.batch * (double)s.m * (double)s.n * (double)s.k);
    return LS_OK;
}

static product_shape shape_of(const ls_plan *p, const ls_node *node) {
    const ls_matmul_attr *t = node->attr;
    const ls_shape *a = &node->in[0]->shape, *c = &node->out[0]->shape;
    product_shape s = {.m = c->dim[c->rank - 2], .n = c->dim[c->rank - 1]};
    s.k = a->dim[a->rank - (t->transpose_a ? 2 : 1)];
    s.batch = (int64_t)ls_plan_elems(p, node->out[0]) / (s.m * s.n);
    return s;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    const ls_matmul_attr *t = node->attr;
    ls_dtype dtype = ls_plan_compute(p);
    operand a = {ls_plan_in(p, node->in[0], dtype), t->transpose_a};
    operand b = {ls_plan_in(p, node->in[1], dtype), t->transpose_b};
    ls_ref c = ls_plan_out(p, node->out[0], dtype);
    return emit(p, LS_PHASE_FORWARD, "matmul.forward", node, shape_of(p, node), a, b, c, err);
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    const ls_matmul_attr *t = node->attr;
    ls_dtype dtype = ls_plan_compute(p);
    product_shape s = shape_of(p, node);
    ls_ref dc = ls_plan_dout(p, node->out[0], dtype);
    if (!ls_ref_some(dc)) {
        return LS_OK;
    }
    if (ls_plan_wants_grad(p, node->in[0])) {
        operand b = {ls_plan_in(p, node->in[1], dtype), !t->transpose_b};
        ls_ref da = ls_plan_din(p, node->in[0], dtype);
        if (t->transpose_a) {
            b.transposed = t->transpose_b;
            product_shape q = {s.batch, s.k, s.m, s.n};
            LS_TRY(emit(p, LS_PHASE_BACKWARD, "matmul.backward_a", node, q, b, (operand){dc, true}, da, err));
        } else {
            product_shape q = {s.batch, s.m, s.k, s.n};
            LS_TRY(emit(p, LS_PHASE_BACKWARD, "matmul.backward_a", node, q, (operand){dc, false}, b, da, err));
        }
    }
    if (ls_plan_wants_grad(p, node->in[1])) {
        operand a = {ls_plan_in(p, node->in[0], dtype), !t->transpose_a};
        ls_ref db = ls_plan_din(p, node->in[1], dtype);
        if (t->transpose_b) {
            a.transposed = t->transpose_a;
            product_shape q = {s.batch, s.n, s.k, s.m};
            LS_TRY(emit(p, LS_PHASE_BACKWARD, "matmul.backward_b", node, q, (operand){dc, true}, a, db, err));
        } else {
            product_shape q = {s.batch, s.k, s.n, s.m};
            LS_TRY(emit(p, LS_PHASE_BACKWARD, "matmul.backward_b", node, q, a, (operand){dc, false}, db, err));
        }
    }
    return LS_OK;
}

const ls_operator ls_op_matmul = {"matmul", forward, backward, NULL, NULL};
