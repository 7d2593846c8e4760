/* Running: the lists are walked; nothing is allocated. And the plan's own element-wise calls. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/trace.h"

#include "worker/plan/bf16.h"
#include "worker/plan/plan_guard.h"
#include "worker/plan/plan_internal.h"

static inline void run_guarded(ls_plan *p, ls_phase phase, int i, const ls_run *run) {
    const ls_call *call = &p->list[phase].calls[i];
    ls_guard_before(p, phase, i);
    call->run(call, run);
    ls_guard_after(p, phase, i);
}

static inline void run_call(ls_plan *p, ls_phase phase, int i, const ls_run *run) {
    if (p->spent_ns[phase] == NULL && !ls_trace_is_on) {
        run_guarded(p, phase, i, run);
        return;
    }
    const ls_call *call = &p->list[phase].calls[i];
    int64_t start = ls_now_ns();
    run_guarded(p, phase, i, run);
    int64_t end = ls_now_ns();
    ls_trace_event("op", call->label, call->node != NULL ? call->node->layer->path : NULL, -1, start, end);
    if (p->spent_ns[phase] != NULL) {
        p->spent_ns[phase][i] += end - start;
    }
}

static void walk(ls_plan *p, ls_phase phase, const ls_run *run) {
    p->n_runs[phase]++;
    ls_guard_close(p);
    for (int i = 0; i < p->list[phase].n; i++) {
        run_call(p, phase, i, run);
    }
    ls_guard_open(p);
}

void ls_plan_profile(ls_plan *p, bool on) {
    for (int phase = 0; phase < 3; phase++) {
        free(p->spent_ns[phase]);
        p->n_runs[phase] = 0;
        p->spent_ns[phase] = on ? ls_xcalloc((size_t)p->list[phase].n + 1, sizeof(int64_t)) : NULL;
    }
}

int64_t ls_plan_spent_ns(const ls_plan *p, ls_phase phase, int i) {
    return p->spent_ns[phase] != NULL ? p->spent_ns[phase][i] : 0;
}

uint64_t ls_plan_profiled_runs(const ls_plan *p, ls_phase phase) {
    return p->n_runs[phase];
}

void ls_plan_run_prepare(ls_plan *p, const ls_run *run) {
    walk(p, LS_PHASE_PREPARE, run);
}

static void clear_sums(ls_plan *p) {
    if (p->options.heads != NULL) {
        memset(ls_plan_sums(p), 0, (size_t)p->options.heads->n_sums * sizeof(double));
    }
}

void ls_plan_run_forward(ls_plan *p, const ls_run *run) {
    clear_sums(p);
    walk(p, LS_PHASE_FORWARD, run);
}

static inline void run_backward_call(ls_plan *p, int i, const ls_run *run, void (*done)(void *context, int call),
                                     void *context) {
    run_call(p, LS_PHASE_BACKWARD, i, run);
    if (done != NULL && p->is_ready_call[i]) {
        done(context, i);
    }
}

void ls_plan_run_backward(ls_plan *p, const ls_run *run, void (*done)(void *context, int call), void *context) {
    p->n_runs[LS_PHASE_BACKWARD]++;
    ls_guard_close(p);
    for (int i = 0; i < p->list[LS_PHASE_BACKWARD].n; i++) {
        run_backward_call(p, i, run, done, context);
    }
    ls_guard_open(p);
}

/* ---- meeting points ---- */

/* A lane that runs on its own is the whole batch: its values are the sums. */
static void meet_kernel(const ls_call *call, const ls_run *run) {
    (void)call, (void)run;
}

void ls_plan_meet(ls_plan *p, ls_phase phase, const ls_node *node, ls_ref values, size_t n) {
    LS_ASSERT(phase != LS_PHASE_PREPARE && n > 0);
    ls_call *call = ls_plan_emit(p, phase, "meet", node, meet_kernel, NULL, NULL);
    ls_call_arg(call, LS_READWRITE, values);
    call->n_met = n;
}

/* Call i of forward and backward taken as one list. */
const ls_call *ls_plan_call_at(const ls_plan *p, int i) {
    int n = p->list[LS_PHASE_FORWARD].n;
    return i < n ? &p->list[LS_PHASE_FORWARD].calls[i] : &p->list[LS_PHASE_BACKWARD].calls[i - n];
}

static int n_in_passes(const ls_plan *p) {
    return p->list[LS_PHASE_FORWARD].n + p->list[LS_PHASE_BACKWARD].n;
}

void ls_plan_find_meetings(ls_plan *p) {
    for (int i = 0; i < n_in_passes(p); i++) {
        if (ls_plan_call_at(p, i)->n_met > 0) {
            LS_PUSH(p->meetings, p->n_meetings, p->cap_meetings, i);
        }
    }
}

int ls_plan_n_meetings(const ls_plan *p) {
    return p->n_meetings;
}

double *ls_plan_meeting(const ls_plan *p, int k, size_t *n) {
    const ls_call *call = ls_plan_call_at(p, p->meetings[k]);
    *n = call->n_met;
    return call->args[0].p;
}

/* Calls [first, last) of a lane; those from 0 on begin it. */
static void run_range(ls_plan *p, int first, int last, const ls_run *run, void (*done)(void *context, int call),
                      void *context) {
    int n_forward = p->list[LS_PHASE_FORWARD].n;
    if (first == 0) {
        clear_sums(p);
        p->n_runs[LS_PHASE_FORWARD]++;
        p->n_runs[LS_PHASE_BACKWARD]++;
    }
    ls_guard_close(p);
    for (int i = first; i < last && i < n_forward; i++) {
        run_call(p, LS_PHASE_FORWARD, i, run);
    }
    for (int i = first > n_forward ? first - n_forward : 0; i < last - n_forward; i++) {
        run_backward_call(p, i, run, done, context);
    }
    ls_guard_open(p);
}

void ls_plan_run_segment(ls_plan *p, int k, const ls_run *run, void (*done)(void *context, int call), void *context) {
    int first = k > 0 ? p->meetings[k - 1] + 1 : 0, last = k < p->n_meetings ? p->meetings[k] : n_in_passes(p);
    run_range(p, first, last, run, done, context);
}

void ls_plan_run_stretch(ls_plan *p, int k, const ls_run *run, void (*done)(void *context, int call), void *context) {
    run_range(p, p->stretches[k], p->stretches[k + 1], run, done, context);
}

int ls_plan_ready_call(const ls_plan *p, const ls_weight *w) {
    return p->ready[w->id];
}
int ls_plan_ready_call_upto(const ls_plan *p, const ls_weight *w, size_t n) {
    for (int i = 0; i < p->n_pieces; i++) {
        if (p->pieces[i].weight == w->id && p->pieces[i].n >= n) {
            return p->pieces[i].call;
        }
    }
    return p->ready[w->id];
}
size_t ls_plan_ready_after(const ls_plan *p, const ls_weight *w, int call) {
    size_t n = 0;
    for (int i = 0; i < p->n_pieces && p->ready[w->id] > call; i++) {
        n = p->pieces[i].weight == w->id && p->pieces[i].call <= call ? p->pieces[i].n : n;
    }
    return p->ready[w->id] <= call ? SIZE_MAX : n;
}
bool ls_plan_waits(const ls_plan *p, const ls_weight *w) {
    return p->waits[w->id];
}
bool ls_plan_has_gradient(const ls_plan *p, const ls_weight *w) {
    return p->written[w->id];
}
int ls_plan_n_backward(const ls_plan *p) {
    return p->list[LS_PHASE_BACKWARD].n;
}
int ls_plan_n_calls(const ls_plan *p, ls_phase phase) {
    return p->list[phase].n;
}
const ls_call *ls_plan_call(const ls_plan *p, ls_phase phase, int i) {
    return &p->list[phase].calls[i];
}

void *ls_plan_input(ls_plan *p, int i) {
    return ls_plan_resolve(p, p->inputs[i]);
}
void *ls_plan_target(ls_plan *p, int i) {
    return ls_plan_resolve(p, p->targets[i]);
}
float *ls_plan_sample_weight(ls_plan *p, int i) {
    return ls_plan_resolve(p, p->sample_weights[i]);
}
double *ls_plan_sums(ls_plan *p) {
    return ls_plan_resolve(p, p->sums);
}
const float *ls_plan_output(ls_plan *p, int i) {
    return ls_plan_resolve(p, p->outputs[i]);
}
const float *ls_plan_input_gradient(ls_plan *p, int i) {
    return ls_plan_resolve(p, p->gradients[p->model->inputs[i]->id].ref);
}

/* ---- the plan's own calls ---- */

typedef struct {
    size_t n;
    ls_dtype from;
} elements;

static void convert_kernel(const ls_call *c, const ls_run *run) {
    const elements *e = c->state;
    (void)run;
    if (e->from == LS_F32) {
        const float *from = c->args[0].p;
        uint16_t *to = c->args[1].p;
        for (size_t i = 0; i < e->n; i++) {
            to[i] = ls_bf16_from_f32(from[i]);
        }
    } else {
        const uint16_t *from = c->args[0].p;
        float *to = c->args[1].p;
        for (size_t i = 0; i < e->n; i++) {
            to[i] = ls_bf16_to_f32(from[i]);
        }
    }
}

static elements *new_elements(size_t n, ls_dtype from) {
    elements *e = ls_xcalloc(1, sizeof *e);
    *e = (elements){n, from};
    return e;
}

void ls_plan_emit_convert(ls_plan *p, ls_phase phase, ls_ref from, ls_dtype from_dtype, ls_ref to, size_t n) {
    ls_call *c = ls_plan_emit(p, phase, "convert", NULL, convert_kernel, new_elements(n, from_dtype), NULL);
    ls_call_arg(c, LS_READ, from);
    ls_call_arg(c, LS_WRITE, to);
}

static void add_kernel(const ls_call *c, const ls_run *run) {
    const elements *e = c->state;
    (void)run;
    if (e->from == LS_F32) {
        const float *a = c->args[0].p, *b = c->args[1].p;
        float *to = c->args[2].p;
        for (size_t i = 0; i < e->n; i++) {
            to[i] = a[i] + b[i];
        }
    } else {
        const uint16_t *a = c->args[0].p, *b = c->args[1].p;
        uint16_t *to = c->args[2].p;
        for (size_t i = 0; i < e->n; i++) {
            to[i] = ls_bf16_from_f32(ls_bf16_to_f32(a[i]) + ls_bf16_to_f32(b[i]));
        }
    }
}

void ls_plan_emit_add(ls_plan *p, ls_ref a, ls_ref b, ls_ref to, ls_dtype dtype, size_t n) {
    ls_call *c = ls_plan_emit(p, LS_PHASE_BACKWARD, "gradient.add", NULL, add_kernel, new_elements(n, dtype), NULL);
    ls_call_arg(c, LS_READ, a);
    ls_call_arg(c, LS_READ, b);
    ls_call_arg(c, LS_WRITE, to);
}

static void zero_kernel(const ls_call *c, const ls_run *run) {
    (void)run;
    memset(c->args[0].p, 0, ((const elements *)c->state)->n);
}

void ls_plan_emit_zero(ls_plan *p, ls_phase phase, ls_ref to, size_t n_bytes) {
    ls_call *c = ls_plan_emit(p, phase, "gradient.zero", NULL, zero_kernel, new_elements(n_bytes, LS_F32), NULL);
    ls_call_arg(c, LS_WRITE, to);
}
