/* Running: the lists are walked; nothing is allocated. And the plan's own element-wise calls. */
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/trace.h"

#include "worker/plan/bf16.h"
#include "worker/plan/plan_internal.h"

static inline void run_call(ls_plan *p, ls_phase phase, int i, const ls_run *run) {
    const ls_call *call = &p->list[phase].calls[i];
    if (p->spent_ns[phase] == NULL && !ls_trace_is_on) {
        call->run(call, run);
        return;
    }
    int64_t start = ls_now_ns();
    call->run(call, run);
    int64_t end = ls_now_ns();
    ls_trace_event("op", call->label, call->node != NULL ? call->node->layer->path : NULL, -1, start, end);
    if (p->spent_ns[phase] != NULL) {
        p->spent_ns[phase][i] += end - start;
    }
}

static void walk(ls_plan *p, ls_phase phase, const ls_run *run) {
    p->n_runs[phase]++;
    for (int i = 0; i < p->list[phase].n; i++) {
        run_call(p, phase, i, run);
    }
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

void ls_plan_run_forward(ls_plan *p, const ls_run *run) {
    if (p->options.heads != NULL) {
        memset(ls_plan_sums(p), 0, (size_t)p->options.heads->n_sums * sizeof(double));
    }
    walk(p, LS_PHASE_FORWARD, run);
}

void ls_plan_run_backward(ls_plan *p, const ls_run *run, void (*done)(void *context, int call), void *context) {
    const call_list *list = &p->list[LS_PHASE_BACKWARD];
    p->n_runs[LS_PHASE_BACKWARD]++;
    for (int i = 0; i < list->n; i++) {
        run_call(p, LS_PHASE_BACKWARD, i, run);
        if (done != NULL && p->is_ready_call[i]) {
            done(context, i);
        }
    }
}

int ls_plan_ready_call(const ls_plan *p, const ls_weight *w) {
    return p->ready[w->id];
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
