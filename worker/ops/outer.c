#include "worker/ops/outer.h"

#include <stdlib.h>

#include "common/memory.h"

/* Rows up to which a block's factors stay in the first-level cache. */
enum { MOST_ROWS = 64 };

static ls_outer shape_of(const ls_linear_desc *d) {
    const size_t in = (size_t)d->src.dim[1], units = (size_t)d->dst.dim[1];
    return (ls_outer){.n = (size_t)d->src.dim[0], .in = in, .units = units, .rows = in, .cols = units, .width = units};
}

/* Where dW is to go: as the arena has it if that can be written, else in Keras's order. */
static const ls_layout *find_panels(ls_outer *o, const ls_layout *lies) {
    ls_outer as_it_lies = *o;
    if (lies == NULL || !ls_layout_panels(lies, &as_it_lies.rows, &as_it_lies.cols, &as_it_lies.width) ||
        as_it_lies.width % ls_outer_panel(&as_it_lies) != 0) {
        return NULL;
    }
    *o = as_it_lies;
    return lies;
}

bool ls_outer_takes(const ls_plan *p, const ls_linear_desc *d) {
    return d->n_spatial == 0 && ls_plan_compute(p) == LS_BF16 && ls_outer_avx512_bf16 != NULL &&
           (strncmp(ls_dnn_isa(), "avx512_core_bf16", 16) == 0 || strncmp(ls_dnn_isa(), "avx512_core_amx", 15) == 0) &&
           d->src.dim[0] <= MOST_ROWS;
}

typedef struct outer_state {
    ls_outer o;
    const ls_outer_kernels *kernels;
    int turns;              /* lanes that there is memory for */
    size_t x_step, dz_step; /* words from a lane's factors to the next's */
} outer_state;

typedef struct outer_work {
    const outer_state *s;
    size_t n_lanes;
    const uint32_t *x, *dz;
    float *dw;
} outer_work;

static void sum_range(void *context, size_t begin, size_t end) {
    const outer_work *w = context;
    const outer_state *s = w->s;
    s->kernels->sum(&s->o, w->n_lanes, w->x, s->x_step, w->dz, s->dz_step, begin, end, w->dw);
}

/* Packs the lane's factors; the last lane in turn makes the sum of all. */
static void outer_kernel(const ls_call *call, const ls_run *run) {
    enum { CHUNK = 64 }; /* blocks */
    const outer_state *s = call->state;
    const ls_arg *a = call->args;
    const bool waits = run->turn.of > 1 && s->turns > 1;
    const size_t lane = waits ? (size_t)run->turn.at : 0;
    uint32_t *x = a[2].p, *dz = x + (size_t)s->turns * s->x_step;
    s->kernels->pack_x(&s->o, a[0].p, x + lane * s->x_step);
    s->kernels->pack_dz(&s->o, a[1].p, dz + lane * s->dz_step, a[4].p);
    if (waits && run->turn.at + 1 < run->turn.of) {
        return;
    }
    outer_work w = {s, lane + 1, x, dz, (float *)a[3].p + (waits ? run->turn.sum : 0)};
    ls_ops_parallel(run->n_threads, ls_outer_blocks(&s->o), CHUNK, sum_range, &w);
}

ls_status ls_outer_backward_weights(ls_plan *p, const ls_node *node, const ls_linear_desc *d, const char *label,
                                    double flops, ls_ref src, ls_ref dz, ls_err *err) {
    ls_weight *w = node->weights[0];
    outer_state *s = ls_xcalloc(1, sizeof *s);
    *s = (outer_state){.o = shape_of(d), .kernels = ls_outer_avx512_bf16, .turns = 1};
    const ls_layout *lies = ls_plan_weight_layout(p, w, NULL), *made = find_panels(&s->o, lies);
    s->x_step = ls_align_up(ls_outer_x_words(&s->o), LS_ALIGN / sizeof(uint32_t));
    s->dz_step = ls_align_up(ls_outer_dz_words(&s->o), LS_ALIGN / sizeof(uint32_t));
    if (ls_layout_equal(lies, made)) { /* else each lane's gradient is reordered */
        s->turns = ls_plan_wait(p, node, w);
    }
    ls_ops_dweight dweight;
    ls_status status = ls_ops_dweight_begin(&dweight, p, w, &d->weights, made, err);
    if (status != LS_OK) {
        free(s);
        return status;
    }
    size_t n_bytes = (size_t)s->turns * (s->x_step + s->dz_step) * sizeof(uint32_t);
    ls_ref factors = s->turns > 1 ? ls_plan_persistent(p, n_bytes) : ls_plan_temp(p, n_bytes), dbias = {0};
    if (d->bias.rank) {
        dbias = ls_plan_dweight(p, node->weights[1]);
    }
    ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, label, node, outer_kernel, s, NULL);
    c->flops = flops;
    ls_call_arg(c, LS_READ, src);
    ls_call_arg(c, LS_READ, dz);
    ls_call_arg(c, LS_WRITE, factors);
    ls_call_arg(c, LS_WRITE, dweight.made);
    ls_call_arg(c, LS_WRITE, dbias);
    ls_ops_dweight_end(&dweight, p, node);
    return LS_OK;
}
