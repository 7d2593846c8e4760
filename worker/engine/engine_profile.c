/* Where a step's time goes: the calls of the plan, and what lies around them. */
#include <stdlib.h>
#include <string.h>

#include "worker/engine/engine_internal.h"

void ls_engine_profile(ls_engine *e, bool on) {
    for (int i = 0; i < e->contexts[0].n_plans; i++) {
        ls_plan_profile(e->contexts[0].plans[i]->plan, on);
    }
    e->profile = (engine_profile){.on = on};
    (void)ls_reducer_take_times(e->reducer);
}

/* The plan of the full batch among those of training; NULL: this rank owns no lane. */
static const engine_plan *main_plan(const ls_engine *e) {
    const lane_context *c = &e->contexts[0];
    return c->n_plans > 0 ? c->plans[0] : NULL;
}

static int add(ls_engine_profile_row *rows, int n, const char *label, int64_t ns) {
    rows[n] = (ls_engine_profile_row){.label = label, .layer = "", .ms = (double)ns / 1e6};
    return n + 1;
}

/* What is no call of the plan. Last what nobody has measured, so that the rows add up to the steps. */
static int add_around(const ls_engine *e, ls_engine_profile_row *rows, int n) {
    const engine_profile *p = &e->profile;
    int64_t known = 0;
    double calls = 0;
    for (int i = 0; i < n; i++) {
        calls += rows[i].ms;
    }
    const int64_t parts[] = {p->fill_ns,        p->merge_ns,       p->reduce.work_ns,
                             p->reduce.talk_ns, p->reduce.late_ns, p->reduce.network_ns};
    static const char *const labels[] = {"data.fill",     "gradient.merge", "gradient.sum+update",
                                         "gradient.send", "wait.ranks",     "wait.network"};
    for (int i = 0; i < 6; i++) {
        n = add(rows, n, labels[i], parts[i]);
        known += parts[i];
    }
    return add(rows, n, "step.rest", p->step_ns - known - (int64_t)(calls * 1e6));
}

int ls_engine_profile_rows(ls_engine *e, ls_engine_profile_row **out, uint64_t *n_steps) {
    const engine_plan *ep = main_plan(e);
    int n = 0, n_calls = 0;
    for (int phase = LS_PHASE_PREPARE; ep != NULL && phase <= LS_PHASE_BACKWARD; phase++) {
        n_calls += ls_plan_n_calls(ep->plan, (ls_phase)phase);
    }
    ls_engine_profile_row *rows = ls_xcalloc((size_t)n_calls + 9, sizeof *rows);
    for (int phase = LS_PHASE_PREPARE; ep != NULL && phase <= LS_PHASE_BACKWARD; phase++) {
        for (int i = 0; i < ls_plan_n_calls(ep->plan, (ls_phase)phase); i++) {
            const ls_call *c = ls_plan_call(ep->plan, (ls_phase)phase, i);
            rows[n++] = (ls_engine_profile_row){
                .label = c->label,
                .layer = c->node != NULL ? c->node->layer->path : "",
                .ms = (double)ls_plan_spent_ns(ep->plan, (ls_phase)phase, i) / 1e6,
                .gflops = c->flops / 1e9 * (double)ls_plan_profiled_runs(ep->plan, (ls_phase)phase)};
        }
    }
    *out = rows;
    *n_steps = e->profile.n_steps;
    return add_around(e, rows, n);
}
