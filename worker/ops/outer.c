#include "worker/ops/outer.h"

#include <stdlib.h>

#include "common/memory.h"

/* Rows up to which this is the faster way: of bf16, as long as a block's factors stay in the first-level cache; of f32,
 * as long as those of a panel and of all rows of dW stay in the second-level one. */
enum { MOST_ROWS_BF16 = 64, MOST_ROWS_F32 = 1024 };

static const ls_outer_kernels *kernels_for(const ls_plan *p) {
    const char *isa = ls_dnn_isa();
    const bool bf16 = strncmp(isa, "avx512_core_bf16", 16) == 0 || strncmp(isa, "avx512_core_amx", 15) == 0;
    if (ls_plan_compute(p) == LS_BF16) {
        return bf16 ? ls_outer_avx512_bf16 : NULL;
    }
    return strncmp(isa, "avx512_core", 11) == 0 ? ls_outer_avx512 : NULL;
}

static ls_outer shape_of(const ls_linear_desc *d, const ls_outer_kernels *k) {
    const size_t in = (size_t)d->src.dim[1], units = (size_t)d->dst.dim[1];
    return (ls_outer){(size_t)d->src.dim[0], in, units, in, units, units, k->samples, k->tall, 0};
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

bool ls_outer_takes(ls_plan *p, const ls_node *node, const ls_linear_desc *d) {
    const ls_outer_kernels *k = kernels_for(p);
    const int64_t most = ls_plan_compute(p) == LS_BF16 ? MOST_ROWS_BF16 : MOST_ROWS_F32;
    if (k == NULL || d->n_spatial > 0 || d->src.dim[0] > most) {
        return false;
    }
    const ls_layout *lies = ls_plan_weight_layout(p, node->weights[0], NULL);
    ls_outer o = shape_of(d, k);
    return ls_plan_compute(p) == LS_BF16 || ls_layout_equal(lies, find_panels(&o, lies));
}

/* Of one of the calls that make a gradient. */
typedef struct outer_state {
    ls_outer o;
    const ls_outer_kernels *kernels;
    int turns;              /* lanes that there is memory for */
    size_t x_step, dz_step; /* words from a lane's factors to the next's */
    size_t begin, end;      /* its blocks */
} outer_state;

typedef struct outer_work {
    const outer_state *s;
    size_t n_lanes;
    const uint32_t *x, *dz;
    float *dw;
    ptrdiff_t near[LS_OUTER_NEAR];
} outer_work;

static bool lanes_wait(const outer_state *s, const ls_run *run) {
    return run->turn.of > 1 && s->turns > 1;
}

static void sum_range(void *context, size_t begin, size_t end) {
    const outer_work *w = context;
    const outer_state *s = w->s;
    s->kernels->sum(&s->o, w->n_lanes, w->x, s->x_step, w->dz, s->dz_step, s->begin + begin, s->begin + end, w->dw,
                    w->near);
}

/* The last lane in turn makes the sum of all. */
static void sum_kernel(const ls_call *call, const ls_run *run) {
    enum { CHUNK = 16 }; /* blocks */
    const outer_state *s = call->state;
    const ls_arg *a = call->args;
    const bool waits = lanes_wait(s, run);
    if (waits && run->turn.at + 1 < run->turn.of) {
        return;
    }
    const ptrdiff_t there = waits ? run->turn.sum : 0;
    const uint32_t *factors = a[0].p;
    outer_work w = {.s = s,
                    .n_lanes = waits ? (size_t)run->turn.of : 1,
                    .x = s->o.apart > 0 ? a[2].p : factors,
                    .dz = factors + (size_t)s->turns * s->x_step,
                    .dw = (float *)a[1].p + there};
    for (int i = 0; i < LS_OUTER_NEAR; i++) {
        w.near[i] = run->near[i] != 0 ? run->near[i] - there : 0;
    }
    ls_ops_parallel(run->n_threads, s->end - s->begin, CHUNK, sum_range, &w);
}

/* The first of the calls: packs the lane's factors. */
static void pack_kernel(const ls_call *call, const ls_run *run) {
    const outer_state *s = call->state;
    const ls_arg *a = call->args;
    const size_t lane = lanes_wait(s, run) ? (size_t)run->turn.at : 0;
    uint32_t *x = a[0].p, *dz = x + (size_t)s->turns * s->x_step;
    if (s->o.apart == 0) {
        s->kernels->pack_x(&s->o, a[2].p, x + lane * s->x_step);
    }
    s->kernels->pack_dz(&s->o, a[3].p, dz + lane * s->dz_step, a[4].p);
    sum_kernel(call, run);
}

/* Blocks that a call makes: about a tenth of a second-level cache for each thread, so that the gradient is still there
 * when it is added and applied. */
static size_t blocks_of_call(const ls_plan *p, const ls_outer *o) {
    enum { PIECE = 32768 }; /* floats */
    const size_t all = ls_outer_strips(o) * ls_outer_blocks(o), n = o->rows * o->cols;
    const size_t piece = PIECE * (size_t)ls_plan_threads(p), calls = (n + piece - 1) / piece;
    return (all + calls - 1) / calls;
}

/* Lanes that wait keep their factors, those of f32 only where all together take less than the gradient. */
static bool worth_waiting(const ls_plan *p, const ls_outer *o) {
    const size_t words = ls_outer_x_words(o) + ls_outer_dz_words(o);
    return o->samples > 1 || words * (size_t)ls_plan_turns(p) <= o->rows * o->cols;
}

typedef struct outer_refs {
    ls_ref factors, dw, src, dz, dbias;
} outer_refs;

static void emit(ls_plan *p, const ls_node *node, const outer_state *s, const char *label, double flops,
                 const outer_refs *refs) {
    const size_t all = ls_outer_strips(&s->o) * ls_outer_blocks(&s->o), step = blocks_of_call(p, &s->o);
    for (size_t begin = 0; begin < all; begin += step) {
        outer_state *mine = ls_xcalloc(1, sizeof *mine);
        *mine = *s;
        mine->begin = begin;
        mine->end = begin + step < all ? begin + step : all;
        ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, label, node, begin == 0 ? pack_kernel : sum_kernel, mine, NULL);
        c->flops = flops * (double)(mine->end - begin) / (double)all;
        ls_call_arg(c, begin == 0 ? LS_WRITE : LS_READ, refs->factors);
        ls_call_arg(c, LS_WRITE, refs->dw);
        ls_call_arg(c, LS_READ, begin == 0 || s->o.apart > 0 ? refs->src : (ls_ref){0});
        if (begin == 0) {
            ls_call_arg(c, LS_READ, refs->dz);
            ls_call_arg(c, LS_WRITE, refs->dbias);
        } else if (mine->end == all) {
            ls_call_arg(c, LS_READWRITE, refs->dbias); /* is complete with the kernel's: they stay neighbours */
        }
        ls_plan_dweight_upto(p, node, node->weights[0], refs->dw, ls_outer_before(&s->o, mine->end));
    }
}

ls_status ls_outer_backward_weights(ls_plan *p, const ls_node *node, const ls_linear_desc *d, const char *label,
                                    double flops, ls_ref src, ls_ref dz, ls_err *err) {
    ls_weight *w = node->weights[0];
    const ls_outer_kernels *k = kernels_for(p);
    outer_state s = {.o = shape_of(d, k), .kernels = k, .turns = 1};
    const ls_layout *lies = ls_plan_weight_layout(p, w, NULL), *made = find_panels(&s.o, lies);
    if (ls_layout_equal(lies, made) && worth_waiting(p, &s.o)) { /* else each lane's gradient is reordered */
        s.turns = ls_plan_wait(p, node, w);
    }
    if (s.turns <= 1 && k->samples == 1 && s.o.rows == s.o.in && s.o.in >= k->tall / 2) {
        s.o.apart = s.o.in;
    } else {
        s.x_step = ls_align_up(ls_outer_x_words(&s.o), LS_ALIGN / sizeof(uint32_t));
    }
    s.dz_step = ls_align_up(ls_outer_dz_words(&s.o), LS_ALIGN / sizeof(uint32_t));
    ls_ops_dweight dweight;
    LS_TRY(ls_ops_dweight_begin(&dweight, p, w, &d->weights, made, err));
    size_t n_bytes = (size_t)s.turns * (s.x_step + s.dz_step) * sizeof(uint32_t);
    outer_refs refs = {.dw = dweight.made, .src = src, .dz = dz};
    refs.factors = s.turns > 1 ? ls_plan_persistent(p, n_bytes) : ls_plan_temp(p, n_bytes);
    if (d->bias.rank) {
        refs.dbias = ls_plan_dweight(p, node->weights[1]);
    }
    emit(p, node, &s, label, flops, &refs);
    ls_ops_dweight_end(&dweight, p, node);
    return LS_OK;
}
