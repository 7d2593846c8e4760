/* Permute, RepeatVector, ZeroPadding, Cropping, nearest UpSampling: every output element is an input element or zero.
 */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/ops/map.h"

typedef struct rearrange {
    ls_rearrange_attr a;
    int rank;
    int64_t dim[LS_MAX_RANK];    /* of the output */
    int64_t limit[LS_MAX_RANK];  /* of the source axis; 1 when there is none */
    int64_t stride[LS_MAX_RANK]; /* elements between neighbours along the source axis; 0 when there is none */
    size_t n_in, n_out;          /* elements a row */
    size_t elem_bytes;
} rearrange;

typedef struct rearrange_work {
    const rearrange *r;
    const char *from;
    char *to;
} rearrange_work;

/* Where index i of output axis a reads; -1: outside. */
static inline int64_t source_of(const rearrange *r, int a, int64_t i) {
    int64_t at = i / r->a.factor[a] - r->a.before[a];
    return r->stride[a] == 0 ? 0 : at >= 0 && at < r->limit[a] ? at * r->stride[a] : -1;
}

/* Calls line(context, row's input, row's output at the line, ...) for each line of the last output axis: base is the
 * input offset that the other axes give, -1 when they are outside. */
typedef void (*line_fn)(const rearrange *r, int64_t base, size_t out, const void *from, void *to);

static void each_line(const rearrange *r, const void *from, void *to, line_fn line) {
    int64_t index[LS_MAX_RANK] = {0};
    int last = r->rank - 1;
    for (size_t out = 0; out < r->n_out; out += (size_t)r->dim[last]) {
        int64_t base = 0;
        for (int a = 0; a < last && base >= 0; a++) {
            int64_t at = source_of(r, a, index[a]);
            base = at < 0 ? -1 : base + at;
        }
        line(r, base, out, from, to);
        for (int a = last - 1; a >= 0 && ++index[a] == r->dim[a]; a--) {
            index[a] = 0;
        }
    }
}

static void read_line4(const rearrange *r, int64_t base, size_t out, const void *from, void *to) {
    const uint32_t *x = from;
    uint32_t *y = (uint32_t *)to + out;
    int last = r->rank - 1;
    for (int64_t i = 0; i < r->dim[last]; i++) {
        int64_t at = base < 0 ? -1 : source_of(r, last, i);
        y[i] = at < 0 ? 0 : x[base + at];
    }
}

static void read_line2(const rearrange *r, int64_t base, size_t out, const void *from, void *to) {
    const uint16_t *x = from;
    uint16_t *y = (uint16_t *)to + out;
    int last = r->rank - 1;
    for (int64_t i = 0; i < r->dim[last]; i++) {
        int64_t at = base < 0 ? -1 : source_of(r, last, i);
        y[i] = at < 0 ? 0 : x[base + at];
    }
}

/* dx[source] += dy, in the output's order. */
static void add_line(const rearrange *r, int64_t base, size_t out, const void *from, void *to) {
    const float *dy = (const float *)from + out;
    float *dx = to;
    int last = r->rank - 1;
    for (int64_t i = 0; base >= 0 && i < r->dim[last]; i++) {
        int64_t at = source_of(r, last, i);
        if (at >= 0) {
            dx[base + at] += dy[i];
        }
    }
}

static void forward_rows(void *context, size_t begin, size_t end) {
    const rearrange_work *w = context;
    const rearrange *r = w->r;
    for (size_t row = begin; row < end; row++) {
        each_line(r, w->from + row * r->n_in * r->elem_bytes, w->to + row * r->n_out * r->elem_bytes,
                  r->elem_bytes == 2 ? read_line2 : read_line4);
    }
}

static void backward_rows(void *context, size_t begin, size_t end) {
    const rearrange_work *w = context;
    const rearrange *r = w->r;
    for (size_t row = begin; row < end; row++) {
        float *dx = (float *)w->to + row * r->n_in;
        memset(dx, 0, r->n_in * sizeof *dx);
        each_line(r, (const float *)w->from + row * r->n_out, dx, add_line);
    }
}

typedef struct rearrange_call {
    rearrange r;
    size_t n_rows;
    ls_range_fn range;
} rearrange_call;

static void kernel(const ls_call *call, const ls_run *run) {
    const rearrange_call *c = call->state;
    rearrange_work w = {&c->r, call->args[0].p, call->args[1].p};
    size_t chunk = LS_CHUNK / c->r.n_out;
    ls_ops_parallel(run->n_threads, c->n_rows, chunk ? chunk : 1, c->range, &w);
}

static rearrange_call *new_call(const ls_plan *p, const ls_node *node, ls_dtype dtype, ls_range_fn range) {
    const ls_shape *in = &node->in[0]->shape, *out = &node->out[0]->shape;
    rearrange_call *c = ls_xcalloc(1, sizeof *c);
    c->range = range;
    c->n_rows = (size_t)ls_plan_rows(p, node->in[0]);
    rearrange *r = &c->r;
    r->a = *(const ls_rearrange_attr *)node->attr;
    r->rank = out->rank;
    r->n_in = (size_t)ls_shape_elems(in);
    r->n_out = (size_t)ls_shape_elems(out);
    r->elem_bytes = ls_dtype_bytes(dtype);
    for (int a = 0; a < r->rank; a++) {
        int from = r->a.source[a];
        r->dim[a] = out->dim[a];
        r->limit[a] = from < 0 ? 1 : in->dim[from];
        r->stride[a] = from < 0 ? 0 : 1;
        for (int k = from + 1; from >= 0 && k < in->rank; k++) {
            r->stride[a] *= in->dim[k];
        }
    }
    return c;
}

static ls_status forward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    ls_dtype dtype = ls_plan_stored(p, node->in[0]);
    ls_map_forward(p, node, "rearrange.forward", dtype, kernel, new_call(p, node, dtype, forward_rows));
    return LS_OK;
}

static ls_status backward(ls_plan *p, const ls_node *node, ls_err *err) {
    (void)err;
    if (ls_map_has_backward(p, node)) {
        ls_map_backward(p, node, "rearrange.backward", false, kernel, new_call(p, node, LS_F32, backward_rows));
    }
    return LS_OK;
}

const ls_operator ls_op_rearrange = {
    .name = "rearrange", .forward = forward, .backward = backward, .idle_unread = true};
