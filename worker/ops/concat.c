/* Concatenation along one axis: lines of the inputs, one after the other. */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/ops_common.h"

/* The array is n_lines lines of `whole` bytes; one input's part of each is `part` bytes at `at`. */
typedef struct slice {
    size_t n_lines, whole, part, at;
    bool gather; /* from the whole to the part */
} slice;

typedef struct slice_work {
    const slice *s;
    const char *from;
    char *to;
} slice_work;

static void slice_range(void *context, size_t begin, size_t end) {
    const slice_work *w = context;
    const slice *s = w->s;
    for (size_t i = begin; i < end; i++) {
        if (s->gather) {
            memcpy(w->to + i * s->part, w->from + i * s->whole + s->at, s->part);
        } else {
            memcpy(w->to + i * s->whole + s->at, w->from + i * s->part, s->part);
        }
    }
}

static void slice_kernel(const ls_call *call, const ls_run *run) {
    const slice *s = call->state;
    slice_work w = {s, call->args[0].p, call->args[1].p};
    size_t chunk = LS_CHUNK * sizeof(float) / s->part;
    ls_ops_parallel(run->n_threads, s->n_lines, chunk ? chunk : 1, slice_range, &w);
}

/* Bytes of a line of t: all from the axis on. */
static size_t line_bytes(const ls_tensor *t, int axis, ls_dtype dtype) {
    size_t n = ls_dtype_bytes(dtype);
    for (int i = axis; i < t->shape.rank; i++) {
        n *= (size_t)t->shape.dim[i];
    }
    return n;
}

static slice *new_slice(const ls_plan *p, const ls_node *node, int input, ls_dtype dtype, bool gather) {
    int axis = ((const ls_concat_attr *)node->attr)->axis;
    slice *s = ls_xcalloc(1, sizeof *s);
    s->gather = gather;
    s->whole = line_bytes(node->out[0], axis, dtype);
    s->n_lines = ls_plan_elems(p, node->out[0]) * ls_dtype_bytes(dtype) / s->whole;
    for (int i = 0; i < input; i++) {
        s->at += line_bytes(node->in[i], axis, dtype);
    }
    s->part = line_bytes(node->in[input], axis, dtype);
    return s;
}

static ls_dtype work_dtype(const ls_plan *p, const ls_node *node) {
    ls_dtype dtype = ls_plan_stored(p, node->in[0]);
    for (int i = 1; i < node->n_in; i++) {
        dtype = ls_plan_stored(p, node->in[i]) == dtype ? dtype : LS_F32;
    }
    return dtype;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_dtype dtype = work_dtype(p, node);
    ls_ref dst = ls_plan_out(p, node->out[0], dtype);
    for (int i = 0; i < node->n_in; i++) {
        ls_ref src = ls_plan_in(p, node->in[i], dtype);
        ls_call *c = ls_plan_emit(p, LS_PHASE_FORWARD, "concat.forward", node, slice_kernel,
                                  new_slice(p, node, i, dtype, false), NULL);
        ls_call_arg(c, LS_READ, src);
        ls_call_arg(c, LS_WRITE, dst);
    }
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_dtype dtype = ls_plan_stored(p, node->out[0]);
    ls_ref dout = ls_plan_dout(p, node->out[0], dtype);
    for (int i = 0; ls_ref_some(dout) && i < node->n_in; i++) {
        if (ls_plan_wants_grad(p, node->in[i])) {
            ls_ref din = ls_plan_din(p, node->in[i], dtype);
            ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "concat.backward", node, slice_kernel,
                                      new_slice(p, node, i, dtype, true), NULL);
            ls_call_arg(c, LS_READ, dout);
            ls_call_arg(c, LS_WRITE, din);
        }
    }
    return LS_OK;
}

const ls_operator ls_op_concat = {"concat", forward, backward, NULL, NULL};
