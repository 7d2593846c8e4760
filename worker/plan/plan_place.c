/* Memory: lifetimes of buffers over the timeline prepare, forward, backward; their places; references into pointers. */
#include <stdlib.h>
#include <string.h>

#include "worker/plan/plan_internal.h"

/* Pieces of a gradient may not be applied before the weight has been read for the last time. */
static void delay_pieces(ls_plan *p) {
    const call_list *backward = &p->list[LS_PHASE_BACKWARD];
    for (int i = 0; i < p->n_pieces; i++) {
        gradient_piece *piece = &p->pieces[i];
        for (int c = piece->call + 1; c < backward->n; c++) {
            for (int k = 0; k < backward->calls[c].n_args; k++) {
                const ls_ref r = backward->calls[c].args[k].ref;
                piece->call = r.kind == LS_REF_WEIGHT && r.index == piece->weight ? c : piece->call;
            }
        }
    }
}

void ls_plan_find_lifetimes(ls_plan *p) {
    int at = 0, n_prepare = p->list[LS_PHASE_PREPARE].n;
    for (int i = 0; i < p->model->n_weights; i++) {
        p->ready[i] = -1;
    }
    for (int phase = 0; phase < 3; phase++) {
        for (int i = 0; i < p->list[phase].n; i++, at++) {
            const ls_call *c = &p->list[phase].calls[i];
            for (int k = 0; k < c->n_args; k++) {
                ls_ref r = c->args[k].ref;
                if (r.kind == LS_REF_BUFFER) {
                    plan_buffer *b = &p->buffers[r.index];
                    b->first = b->first < 0 ? at : b->first;
                    b->last = at;
                    /* Preparation runs once a step, the passes once a lane: only what persists may go from one to the
                     * other. */
                    LS_ASSERT(b->persistent || (b->first < n_prepare) == (at < n_prepare));
                } else if (phase == LS_PHASE_BACKWARD && (r.kind == LS_REF_WEIGHT || r.kind == LS_REF_DWEIGHT)) {
                    p->ready[r.index] = i;
                }
            }
        }
    }
    p->is_ready_call = ls_xcalloc((size_t)p->list[LS_PHASE_BACKWARD].n + 1, sizeof *p->is_ready_call);
    for (int i = 0; i < p->model->n_weights; i++) {
        /* Statistics are written in the forward pass; they are ready when the backward pass begins to complete others.
         */
        if (p->ready[i] >= 0) {
            p->is_ready_call[p->ready[i]] = true;
        }
    }
    delay_pieces(p);
    for (int i = 0; i < p->n_pieces; i++) {
        p->is_ready_call[p->pieces[i].call] = true;
    }
    for (int i = 0; i < p->n_buffers; i++) {
        plan_buffer *b = &p->buffers[i];
        if (b->external) {
            b->first = 0;
            b->last = b->last < 0 ? 0 : b->last;
        }
        if (b->kept) {
            b->first = b->first < 0 ? 0 : b->first;
            b->last = at;
        }
    }
}

static const plan_buffer *sorting; /* qsort has no context; compiling is done by one thread at a time */

static int larger_first(const void *a, const void *b) {
    const plan_buffer *x = &sorting[*(const int *)a], *y = &sorting[*(const int *)b];
    if (x->n_bytes != y->n_bytes) {
        return x->n_bytes < y->n_bytes ? 1 : -1;
    }
    return *(const int *)a - *(const int *)b;
}

/* Largest first, each at the lowest place that is free for the whole of its life. */
size_t ls_plan_place(ls_plan *p, bool of_lane) {
    int *order = ls_xcalloc((size_t)p->n_buffers + 1, sizeof *order),
        *placed = ls_xcalloc((size_t)p->n_buffers + 1, sizeof *placed);
    int n = 0, n_placed = 0;
    size_t n_bytes = 0;
    for (int i = 0; i < p->n_buffers; i++) {
        const plan_buffer *b = &p->buffers[i];
        if (!b->persistent && b->first >= 0 && b->of_lane == of_lane) {
            order[n++] = i;
        }
    }
    sorting = p->buffers;
    qsort(order, (size_t)n, sizeof *order, larger_first);
    for (int i = 0; i < n; i++) {
        plan_buffer *b = &p->buffers[order[i]];
        int k = 0; /* `placed` is kept sorted by offset */
        size_t at = 0;
        for (; k < n_placed; k++) {
            const plan_buffer *o = &p->buffers[placed[k]];
            if (o->last < b->first || o->first > b->last || o->offset + o->n_bytes <= at) {
                continue;
            }
            if (o->offset >= at + b->n_bytes) {
                break;
            }
            at = o->offset + o->n_bytes;
        }
        b->offset = at;
        n_bytes = at + b->n_bytes > n_bytes ? at + b->n_bytes : n_bytes;
        int j = n_placed++;
        for (; j > 0 && p->buffers[placed[j - 1]].offset > b->offset; j--) {
            placed[j] = placed[j - 1];
        }
        placed[j] = order[i];
    }
    free(order);
    free(placed);
    return n_bytes;
}

void ls_plan_place_buffers(ls_plan *p) {
    for (int i = 0; i < p->n_buffers; i++) {
        plan_buffer *b = &p->buffers[i];
        if (b->persistent) {
            b->offset = p->persistent_bytes;
            p->persistent_bytes += b->n_bytes;
        }
    }
    p->shared_bytes = ls_plan_place(p, false);
    p->lane_bytes = ls_plan_place(p, true);
}

size_t ls_plan_arena_bytes(const ls_plan *p) {
    return p->shared_bytes + p->lane_bytes * (size_t)p->n_lanes;
}

size_t ls_plan_persistent_bytes(const ls_plan *p) {
    return p->persistent_bytes;
}

void *ls_plan_resolve(const ls_plan *p, ls_ref r) {
    switch (r.kind) {
        case LS_REF_NONE: return NULL;
        case LS_REF_BUFFER: {
            const plan_buffer *b = &p->buffers[r.index];
            const size_t lane = b->of_lane ? p->shared_bytes + (size_t)p->lane * p->lane_bytes : 0;
            return (b->persistent ? p->persistent_base : p->arena_base) + lane + b->offset + r.offset;
        }
        case LS_REF_WEIGHT: return (char *)(p->weights_base + p->arena->slot[r.index].offset) + r.offset;
        case LS_REF_MARKS: return (char *)(p->dweights_base + p->arena->slot[r.index].marks) + r.offset;
        case LS_REF_DWEIGHT: return (char *)(p->dweights_base + p->arena->slot[r.index].offset) + r.offset;
    }
    return NULL;
}

static bool of_lane(const ls_plan *p, ls_ref r) {
    return r.kind == LS_REF_BUFFER && p->buffers[r.index].of_lane;
}

static bool of_gradient(ls_ref r) {
    return r.kind == LS_REF_DWEIGHT || r.kind == LS_REF_MARKS;
}

ls_status ls_plan_bind(ls_plan *p, void *arena, float *weights, float *dweights, ls_err *err) {
    LS_ASSERT(p->arena->placed);
    p->persistent_base = ls_calloc(p->persistent_bytes, 1);
    if (p->persistent_base == NULL) {
        return ls_fail(err, LS_ENOMEM, "out of memory: %zu bytes for a plan of %lld samples", p->persistent_bytes,
                       (long long)p->options.n_samples);
    }
    p->arena_base = arena;
    p->weights_base = weights;
    p->dweights_base = dweights;
    int n = 0, n_lane = 0;
    for (int phase = 0; phase < 3; phase++) {
        for (int i = 0; i < p->list[phase].n; i++) {
            ls_call *c = &p->list[phase].calls[i];
            for (int k = 0; k < c->n_args; k++) {
                c->args[k].p = ls_plan_resolve(p, c->args[k].ref);
                n += of_gradient(c->args[k].ref);
                n_lane += of_lane(p, c->args[k].ref);
            }
        }
    }
    p->gradient_args = ls_xcalloc((size_t)n + 1, sizeof *p->gradient_args);
    p->lane_args = ls_xcalloc((size_t)n_lane + 1, sizeof(ls_arg *));
    for (int phase = 0; phase < 3; phase++) {
        for (int i = 0; i < p->list[phase].n; i++) {
            ls_call *c = &p->list[phase].calls[i];
            for (int k = 0; k < c->n_args; k++) {
                if (of_lane(p, c->args[k].ref)) {
                    p->lane_args[p->n_lane_args++] = &c->args[k];
                }
                if (of_gradient(c->args[k].ref)) {
                    ls_ref r = c->args[k].ref;
                    const ls_arena_slot *s = &p->arena->slot[r.index];
                    LS_ASSERT(r.offset % sizeof(float) == 0);
                    p->gradient_args[p->n_gradient_args].arg = &c->args[k];
                    p->gradient_args[p->n_gradient_args++].offset =
                        (r.kind == LS_REF_MARKS ? s->marks : s->offset) + r.offset / sizeof(float);
                }
            }
        }
    }
    return LS_OK;
}

void ls_plan_set_dweights(ls_plan *p, float *dweights) {
    if (p->dweights_base == dweights) {
        return;
    }
    p->dweights_base = dweights;
    for (int i = 0; i < p->n_gradient_args; i++) {
        p->gradient_args[i].arg->p = dweights + p->gradient_args[i].offset;
    }
}
