/* Lanes in turn: where a plan is cut so that a large weight is fetched once for all of them. */
#include <stdlib.h>
#include <string.h>

#include "worker/plan/plan_internal.h"

/* A call's operands in bytes: what all lanes have in common, weights in any form and gradients; and what each has of
 * its own. Scratch memory, which nobody reads later, is neither. */
typedef struct {
    size_t common, own;
} operands;

static operands operands_of(const ls_plan *p, const ls_call *c) {
    operands o = {0};
    for (int k = 0; k < c->n_args; k++) {
        const ls_ref r = c->args[k].ref;
        if (r.kind == LS_REF_WEIGHT || r.kind == LS_REF_DWEIGHT) {
            o.common += p->arena->slot[r.index].n_elems * sizeof(float);
        } else if (r.kind == LS_REF_BUFFER) {
            const plan_buffer *b = &p->buffers[r.index];
            o.common += b->persistent ? b->n_asked : 0;
            o.own += !b->persistent && b->last > b->first ? b->n_asked : 0;
        }
    }
    return o;
}

/* The run of calls [*first, *end) which it is best to take one by one, each for all lanes: fetching what they have in
 * common once is worth as much as what then becomes too far away of a lane's own, byte for byte. */
static void find_best(const ls_plan *p, int n, int *first, int *end) {
    const int64_t lanes = p->n_lanes;
    int64_t sum = 0, best = 0;
    *first = *end = 0;
    for (int i = 0, start = 0; i < n; i++) {
        const operands o = operands_of(p, ls_plan_call_at(p, i));
        sum += (lanes - 1) * (int64_t)o.common - lanes * (int64_t)o.own;
        if (sum <= 0) {
            sum = 0;
            start = i + 1;
        } else if (sum > best) {
            best = sum;
            *first = start;
            *end = i + 1;
        }
    }
}

/* The calls that write the weight's gradient: the first, and the last or, in the backward pass, the one after which it
 * counts as complete. -1: none. */
static void find_writers(const ls_plan *p, int n, int weight, int *first, int *last) {
    *first = *last = -1;
    for (int i = 0; i < n; i++) {
        const ls_call *c = ls_plan_call_at(p, i);
        for (int k = 0; k < c->n_args; k++) {
            const ls_ref r = c->args[k].ref;
            if ((r.kind == LS_REF_DWEIGHT || r.kind == LS_REF_MARKS) && r.index == weight) {
                *first = *first < 0 ? i : *first;
                *last = i;
            }
        }
    }
    const int n_forward = p->list[LS_PHASE_FORWARD].n;
    if (*last >= n_forward && p->ready[weight] + n_forward > *last) {
        *last = p->ready[weight] + n_forward;
    }
}

/* Lanes that follow on each other write their gradients to the same memory: between a gradient's first write and its
 * merge there is no cut. False: there is one that is complete before the backward pass, and never announced. */
static bool join_writers(const ls_plan *p, int n, bool *cut) {
    for (int w = 0; w < p->model->n_weights; w++) {
        int first, last;
        find_writers(p, n, w, &first, &last);
        for (int i = first + 1; first >= 0 && i <= last; i++) {
            cut[i] = false;
        }
        if (last >= 0 && last < p->list[LS_PHASE_FORWARD].n && p->model->weights[w]->role != LS_WEIGHT_STAT) {
            return false;
        }
    }
    return true;
}

static int stretch_of(const ls_plan *p, int call) {
    int k = 0;
    while (k + 1 < p->n_stretches && p->stretches[k + 1] <= call) {
        k++;
    }
    return k;
}

/* What is used in one stretch alone can have the same memory in all lanes. */
static void find_lane_buffers(ls_plan *p) {
    const int n_prepare = p->list[LS_PHASE_PREPARE].n;
    for (int i = 0; i < p->n_buffers; i++) {
        plan_buffer *b = &p->buffers[i];
        b->of_lane =
            p->n_stretches > 1 && !b->persistent && b->first >= 0 &&
            (b->external || b->kept ||
             (b->first >= n_prepare && stretch_of(p, b->first - n_prepare) != stretch_of(p, b->last - n_prepare)));
    }
}

/* Cuts the plan for p->n_lanes of them. */
static void cut_plan(ls_plan *p, int n, bool *cut) {
    int first = 0, end = 0;
    memset(cut, 0, ((size_t)n + 1) * sizeof *cut);
    if (p->n_lanes > 1) {
        find_best(p, n, &first, &end);
    }
    for (int i = first; i <= end && end > first; i++) {
        cut[i] = i > 0 && i < n;
    }
    if (!join_writers(p, n, cut)) {
        memset(cut, 0, (size_t)n * sizeof *cut);
    }
    p->n_stretches = 1;
    for (int i = 1; i < n; i++) {
        if (cut[i]) {
            p->stretches[p->n_stretches++] = i;
        }
    }
    p->stretches[p->n_stretches] = n;
}

void ls_plan_find_stretches(ls_plan *p) {
    enum { MOST_BYTES = 64 << 20 }; /* of all lanes: where a lane's own takes more, weights matter less */
    const int n = p->list[LS_PHASE_FORWARD].n + p->list[LS_PHASE_BACKWARD].n;
    bool *cut = ls_xcalloc((size_t)n + 1, sizeof *cut); /* before the call */
    p->stretches = ls_xcalloc((size_t)n + 2, sizeof *p->stretches);
    p->n_lanes = p->options.training && p->options.lanes > 1 && p->n_meetings == 0 ? p->options.lanes : 1;
    for (;; p->n_lanes = (p->n_lanes + 1) / 2) {
        cut_plan(p, n, cut);
        p->n_lanes = p->n_stretches > 1 ? p->n_lanes : 1;
        find_lane_buffers(p);
        if (p->n_lanes == 1 || (size_t)p->n_lanes * ls_plan_place(p, true) <= MOST_BYTES) {
            break;
        }
    }
    free(cut);
    p->written_in = ls_xcalloc((size_t)p->model->n_weights + 1, sizeof *p->written_in);
    for (int w = 0; w < p->model->n_weights; w++) {
        int first, last;
        find_writers(p, n, w, &first, &last);
        p->written_in[w] = last >= 0 ? stretch_of(p, last) : -1;
    }
}

int ls_plan_lanes_together(const ls_plan *p) {
    return p->n_lanes;
}

int ls_plan_n_stretches(const ls_plan *p) {
    return p->n_stretches;
}

int ls_plan_written_in(const ls_plan *p, const ls_weight *w) {
    return p->written_in[w->id];
}

void ls_plan_set_lane(ls_plan *p, int lane) {
    LS_ASSERT(lane >= 0 && lane < p->n_lanes);
    if (p->lane == lane) {
        return;
    }
    p->lane = lane;
    for (int i = 0; i < p->n_lane_args; i++) {
        p->lane_args[i]->p = ls_plan_resolve(p, p->lane_args[i]->ref);
    }
}
