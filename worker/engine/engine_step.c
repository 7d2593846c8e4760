/* Steps: training, evaluation, prediction. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/trace.h"
#include "worker/engine/engine_internal.h"
#include "worker/plan/failure.h"

/* What a step computes, the same for all lanes. */
typedef struct {
    bool training, targets;
    const ls_feed *feed;
    const uint32_t *index; /* (n) */
    size_t n;
    uint64_t step;
    void (*after)(ls_engine *e, int lane, engine_plan *ep, size_t first, size_t n); /* inference: of each lane */
    /* training: */
    const ls_lane_group *group; /* lanes that are computed side by side or together */
    bool last_group;            /* buckets become ready while it is computed */
} work;

/* Fills the inputs (and targets) of one lane. A failure is kept in the context: the step goes on to its end, so that
 * the collective calls match, and the verdict tells all. */
static void fill(ls_engine *e, lane_context *c, engine_plan *ep, const work *w, const uint32_t *index) {
    const ls_model *m = e->model;
    const ls_feed *feed = w->feed;
    size_t n = (size_t)ep->n_samples;
    const bool timed = ls_trace_is_on || e->profile.on;
    const int64_t start = timed ? ls_now_ns() : 0;
    ls_status s = c->status;
    for (int i = 0; i < m->n_inputs && s == LS_OK; i++) {
        s = feed->fill(feed->self, i, m->inputs[i]->dtype, index, n, ls_plan_input(ep->plan, i), &c->err);
    }
    for (int i = 0; w->targets && i < m->n_outputs && s == LS_OK; i++) {
        if (e->heads->losses[i].class_ != NULL) {
            s = feed->fill(feed->self, m->n_inputs + i, ls_heads_target_dtype(e->heads, i), index, n,
                           ls_plan_target(ep->plan, i), &c->err);
        }
        float *weight = ls_plan_sample_weight(ep->plan, i);
        if (weight != NULL && s == LS_OK) {
            if (feed->has_sample_weights) {
                s = feed->fill(feed->self, m->n_inputs + m->n_outputs + i, LS_F32, index, n, weight, &c->err);
            } else {
                for (size_t k = 0; k < n; k++) {
                    weight[k] = 1.0f;
                }
            }
        }
    }
    if (timed) {
        const int64_t end = ls_now_ns();
        ls_trace_event("data", "fill", NULL, (int64_t)n, start, end);
        e->profile.fill_ns += c == &e->contexts[0] ? end - start : 0;
    }
    c->status = s;
}

/* ---- one lane ---- */

typedef struct {
    ls_engine *e;
    const work *work;
    lane_pass *pass;
    bool leader; /* of the lanes computed at this time, the one whose thread speaks to the reducer */
} lane_hook;

static void merge_range(ls_engine *e, const ls_lane_group *group, size_t first, size_t n) {
    const bool timed = (ls_trace_is_on || e->profile.on) && group->n_merges > 0 && n > 0;
    const int64_t start = timed ? ls_now_ns() : 0;
    for (int k = 0; k < group->n_merges && n > 0; k++) {
        ls_reducer_merge(e->reducer, group->merges[k], first, n);
    }
    if (timed) {
        const int64_t end = ls_now_ns();
        ls_trace_event("op", "gradient.merge", NULL, group->n_merges, start, end);
        e->profile.merge_ns += end - start;
    }
}

/* Floats of the segment whose gradient is complete after a backward call; past its end: all. */
static size_t complete_after(const ls_plan *plan, const segment *s, int call) {
    if (s->statistic) {
        return ls_plan_n_backward(plan) <= call ? SIZE_MAX : 0;
    }
    return ls_plan_ready_after(plan, s->weight, call);
}

/* A lane that is computed alone: merges, while they are in the caches, the gradients that are complete after a call. */
static void merge_complete(ls_engine *e, const ls_lane_group *group, lane_pass *pass, int call) {
    const ls_plan *plan = pass->plan->plan;
    size_t first = 0, last = 0; /* what is to be merged at once */
    for (; pass->own_segment < e->n_segments; pass->own_segment++, pass->merged = 0) {
        const segment *s = &e->segments[pass->own_segment];
        if (pass->in_stretches && s->statistic) {
            break; /* with the others' stretch: merge_statistics */
        }
        const size_t n = complete_after(plan, s, call), end = n < s->last - s->first ? s->first + n : s->last;
        const size_t begin = s->first + pass->merged;
        if (pass->run.turn.of > 1 && ls_plan_waits(plan, s->weight)) {
            merge_range(e, group, first, last - first);
            first = last = end;
        } else if (end > begin) {
            first = last > first ? first : begin;
            last = end;
        }
        if (end < s->last) {
            pass->merged = end - s->first;
            break;
        }
    }
    merge_range(e, group, first, last - first);
}

/* After a backward call: merges, marks the buckets that this lane has completed, tells the reducer (from one thread)
 * about those that all lanes of the last group have, and gives the reducer a chance to get on. */
static void after_backward_call(void *context, int call) {
    lane_hook *h = context;
    ls_engine *e = h->e;
    if (h->work->group->count == 1) {
        merge_complete(e, h->work->group, h->pass, call);
    }
    if (!h->work->last_group) {
        if (e->bucket_next > 0) { /* lanes in stretches: earlier ones have completed buckets */
            ls_reducer_poll(e->reducer);
        }
        return;
    }
    const int n_buckets = ls_engine_buckets(e)->n_buckets, *bucket_call = h->pass->plan->bucket_call[e->cut];
    while (h->pass->own_bucket < n_buckets && bucket_call[h->pass->own_bucket] <= call) {
        atomic_fetch_add_explicit(&e->bucket_done[h->pass->own_bucket++], 1, memory_order_release);
    }
    if (h->leader) {
        while (e->bucket_next < n_buckets &&
               atomic_load_explicit(&e->bucket_done[e->bucket_next], memory_order_acquire) == h->work->group->count) {
            ls_reducer_ready(e->reducer, e->bucket_next++);
        }
        ls_reducer_poll(e->reducer);
    }
}

/* A lane that cannot be computed adds nothing: what could not be read may be anything. */
static void leave_out(ls_engine *e, const work *w, int i) {
    if (!w->training) {
        return;
    }
    memset(ls_reducer_gradient(e->reducer, w->group->slot[i]), 0, e->arena->n_reduced * sizeof(float));
    if (w->group->count == 1) {
        merge_range(e, w->group, 0, e->arena->n_reduced);
    }
    for (int b = 0; w->last_group && b < ls_engine_buckets(e)->n_buckets; b++) {
        atomic_fetch_add_explicit(&e->bucket_done[b], 1, memory_order_release);
    }
}

/* Lanes whose sum this rank makes alone take turns, when they are of one size: then they use one plan, and what waits
 * for the last of them is all there. Sums of bfloat16 are rounded lane by lane. */
static ls_turn turn_of(const ls_engine *e, const work *w, int lane) {
    if (!w->training || e->n_contexts > 1 || e->options.wire_bfloat16) {
        return (ls_turn){0};
    }
    const ls_fragment *f = ls_lane_schedule_fragment(ls_reducer_schedule(e->reducer), lane);
    const size_t begin = ls_engine_cut(w->n, e->n_lanes, f->node.first),
                 count = ls_engine_cut(w->n, e->n_lanes, f->node.first + 1) - begin;
    for (int k = 1; k < f->node.count; k++) {
        if (ls_engine_cut(w->n, e->n_lanes, f->node.first + k + 1) != begin + (size_t)(k + 1) * count) {
            return (ls_turn){0};
        }
    }
    return (ls_turn){lane - f->node.first, f->node.count,
                     ls_reducer_gradient(e->reducer, f->slot) - ls_reducer_gradient(e->reducer, w->group->slot[0])};
}

/* A rank that is alone applies gradients as they come: what it then uses besides them. */
static void find_near(const ls_engine *e, const work *w, int i, ptrdiff_t near[LS_RUN_NEAR]) {
    const int n_slots = ls_optimizer_n_slots(&e->compile->optimizer);
    if (e->team->size > 1 || !w->last_group || w->group->count > 1 || ls_engine_needs_norms(e)) {
        return;
    }
    const float *from = ls_reducer_gradient(e->reducer, w->group->slot[i]);
    for (int k = 0; k < LS_RUN_NEAR && k <= n_slots; k++) {
        const float *used = k == 0 ? ls_reducer_params(e->reducer) : ls_reducer_slot(e->reducer, k - 1);
        near[k] = (ptrdiff_t)((intptr_t)used - (intptr_t)from) / (ptrdiff_t)sizeof *used;
    }
}

/* Finds the lane's plan in context i and fills its inputs. */
static void begin_lane(ls_engine *e, const work *w, int i, int lane) {
    lane_context *c = &e->contexts[i];
    size_t first = ls_engine_cut(w->n, e->n_lanes, lane), count = ls_engine_cut(w->n, e->n_lanes, lane + 1) - first;
    engine_plan *ep = count > 0 ? ls_engine_plan(e, c, (int64_t)count, w->training, &c->err) : NULL;
    c->pass = (lane_pass){.run = {.n_samples = (int64_t)count,
                                  .n_threads = e->plan_threads,
                                  .grad_scale = w->training ? (float)(1.0 / (double)w->n) : 0,
                                  .stat_scale = (float)((double)count / (double)w->n),
                                  .seed = e->options.seed,
                                  .step = w->step,
                                  .sample_index = w->index + first,
                                  .turn = turn_of(e, w, lane),
                                  .states = ls_engine_lane_states(e, c, first)}};
    if (ep == NULL) {
        c->status = count > 0 ? c->err.status : c->status;
    } else {
        fill(e, c, ep, w, w->index + first);
    }
    if (ep == NULL || c->status != LS_OK) {
        leave_out(e, w, i);
        return;
    }
    c->pass.plan = ep;
    if (ep->prepared != e->weights_epoch) {
        ls_plan_run_prepare(ep->plan, &c->pass.run);
        ep->prepared = e->weights_epoch;
    }
    if (w->training) {
        c->last = ep;
        ls_plan_set_dweights(ep->plan, ls_reducer_gradient(e->reducer, w->group->slot[i]));
        find_near(e, w, i, c->pass.run.near);
    }
}

/* Segment k of a lane in context i. */
static void advance(ls_engine *e, const work *w, int i, int lane, int k, bool leader) {
    lane_pass *pass = &e->contexts[i].pass;
    if (k == 0) {
        begin_lane(e, w, i, lane);
    }
    if (pass->plan == NULL) {
        return;
    }
    ls_plan *plan = pass->plan->plan;
    lane_hook hook = {e, w, pass, leader};
    ls_plan_run_segment(plan, k, &pass->run, w->training ? after_backward_call : NULL, &hook);
    if (k < e->n_meet[w->training]) {
        return;
    }
    if (w->training) {
        after_backward_call(&hook, ls_plan_n_backward(plan));
        memcpy(ls_reducer_lane_sums(e->reducer, lane), ls_plan_sums(plan), (size_t)e->heads->n_sums * sizeof(double));
    } else {
        size_t first = ls_engine_cut(w->n, e->n_lanes, lane);
        w->after(e, lane, pass->plan, first, (size_t)pass->run.n_samples);
    }
}

/* ---- several lanes ---- */

static void meet(ls_engine *e, const work *w, int count, int k) {
    for (int i = 0; i < count; i++) {
        const engine_plan *ep = e->contexts[i].pass.plan;
        size_t n = e->meet[w->training][k];
        e->meet_values[i] = ep != NULL ? ls_plan_meeting(ep->plan, k, &n) : NULL;
        LS_ASSERT(n == e->meet[w->training][k]);
    }
    ls_meeting_sum(e->meeting, e->meet_values, e->meet[w->training][k]);
}

/* Lane first + i in context i, for i < count: from one meeting point to the next, at_once at a time. Collective where
 * there are meeting points. */
static void run_together(ls_engine *e, const work *w, int first, int count) {
    int threads = count < e->at_once ? count : e->at_once;
    for (int k = 0; k <= e->n_meet[w->training]; k++) {
        if (threads <= 1) { /* not an if clause: libgomp takes a team from the heap for a region of one thread */
            for (int i = 0; i < count; i++) {
                advance(e, w, i, first + i, k, i == count - 1);
            }
        } else {
#pragma omp parallel for schedule(static, 1) num_threads(threads)
            for (int t = 0; t < threads; t++) {
                for (int i = t; i < count; i += threads) {
                    advance(e, w, i, first + i, k, t == 0 && i + threads >= count);
                }
            }
        }
        if (k < e->n_meet[w->training]) {
            meet(e, w, count, k);
        }
    }
}

/* ---- lanes in stretches ---- */

/* The plan that takes this rank's lanes in stretches; NULL: they are computed one by one, or side by side. */
static engine_plan *stretched_plan(ls_engine *e, const work *w) {
    const int here = e->lane_last - e->lane_first;
    if (e->n_contexts > 1 || here < 2) {
        return NULL;
    }
    const size_t begin = ls_engine_cut(w->n, e->n_lanes, e->lane_first),
                 count = ls_engine_cut(w->n, e->n_lanes, e->lane_first + 1) - begin;
    for (int i = 1; i < here; i++) {
        if (ls_engine_cut(w->n, e->n_lanes, e->lane_first + i + 1) != begin + (size_t)(i + 1) * count) {
            return NULL;
        }
    }
    lane_context *c = &e->contexts[0];
    engine_plan *ep = count > 0 ? ls_engine_plan(e, c, (int64_t)count, true, &c->err) : NULL;
    return ep != NULL && ls_plan_n_stretches(ep->plan) > 1 ? ep : NULL;
}

/* Statistics that a lane's forward pass has left in a stretch, before the next lane's. */
static void merge_statistics(ls_engine *e, const ls_lane_group *group, const ls_plan *plan, int stretch) {
    for (int i = e->n_segments; i > 0 && e->segments[i - 1].statistic; i--) {
        const segment *s = &e->segments[i - 1];
        if (ls_plan_written_in(plan, s->weight) == stretch) {
            merge_range(e, group, s->first, s->last - s->first);
        }
    }
}

static void choose_lane(work *w, const ls_lane_schedule *schedule, int i) {
    w->group = &schedule->groups[i];
    w->last_group = i == schedule->n_groups - 1;
}

/* Stretch k of the lane chosen, number `at` of those that go through the plan together. */
static void advance_stretch(ls_engine *e, const work *w, int at, int k, ls_plan *plan) {
    lane_pass *pass = &e->passes[at];
    const int lane = w->group->first;
    ls_plan_set_lane(plan, at);
    ls_plan_set_dweights(plan, ls_reducer_gradient(e->reducer, w->group->slot[0]));
    pass->run.states = ls_engine_lane_states(e, &e->contexts[0], ls_engine_cut(w->n, e->n_lanes, lane));
    lane_hook hook = {e, w, pass, true};
    ls_plan_run_stretch(plan, k, &pass->run, after_backward_call, &hook);
    merge_statistics(e, w->group, plan, k);
    if (k + 1 == ls_plan_n_stretches(plan)) {
        after_backward_call(&hook, ls_plan_n_backward(plan));
        memcpy(ls_reducer_lane_sums(e->reducer, lane), ls_plan_sums(plan), (size_t)e->heads->n_sums * sizeof(double));
    }
}

/* The rank's lanes [first, end) together. */
static void train_together(ls_engine *e, work *w, const ls_lane_schedule *schedule, ls_plan *plan, int first, int end) {
    for (int i = first; i < end; i++) {
        choose_lane(w, schedule, i);
        ls_plan_set_lane(plan, i - first);
        begin_lane(e, w, 0, w->group->first);
        e->passes[i - first] = e->contexts[0].pass;
        e->passes[i - first].in_stretches = true;
    }
    const bool all = e->contexts[0].status == LS_OK; /* else none: they add up in the same memory */
    for (int i = first; !all && i < end; i++) {
        choose_lane(w, schedule, i);
        if (e->passes[i - first].plan != NULL) { /* else begin_lane has left it out */
            leave_out(e, w, 0);
        }
    }
    for (int k = 0; all && k < ls_plan_n_stretches(plan); k++) {
        for (int i = first; i < end; i++) {
            choose_lane(w, schedule, i);
            advance_stretch(e, w, i - first, k, plan);
        }
    }
}

static void train_stretches(ls_engine *e, work *w, const ls_lane_schedule *schedule, ls_plan *plan) {
    const int together = ls_plan_lanes_together(plan), n = schedule->n_groups;
    for (int first = 0; first < n; first += together) {
        train_together(e, w, schedule, plan, first, first + together < n ? first + together : n);
    }
}

static void train_group(ls_engine *e, work *w, const ls_lane_group *group, bool last_group) {
    w->group = group;
    w->last_group = last_group;
    run_together(e, w, group->first, group->count);
    if (group->count > 1) {
        merge_range(e, group, 0, e->arena->n_reduced);
    }
}

/* Forward passes of this rank's lanes in inference mode. */
static void infer_lanes(ls_engine *e, const work *w) {
    int count = e->lane_last - e->lane_first, at_once = e->at_once;
    if (e->n_meet[false] > 0) {
        run_together(e, w, e->lane_first, count);
        return;
    }
    if (at_once == 1) {
        for (int i = 0; i < count; i++) {
            advance(e, w, 0, e->lane_first + i, 0, true);
        }
        return;
    }
#pragma omp parallel for schedule(static, 1) num_threads(at_once)
    for (int t = 0; t < at_once; t++) {
        for (int i = t; i < count; i += at_once) {
            advance(e, w, t, e->lane_first + i, 0, t == 0);
        }
    }
}

/* sum over weights of l1 |w| + l2 w^2, the same on every rank; frozen ones count too, as in Keras, and so do all when
 * nothing is trained. */
static double penalties(const ls_engine *e) {
    double total = 0;
    const float *base = ls_reducer_params(e->reducer);
    for (int k = 0; e->regularized && k < e->model->n_weights; k++) {
        const ls_weight *w = e->model->weights[e->arena->order[k]];
        const ls_arena_slot *s = &e->arena->slot[w->id];
        const ls_regularizer *r = &w->regularizer;
        double absolute = 0, square = 0;
        for (size_t i = s->offset; (r->l1 != 0 || r->l2 != 0) && i < s->offset + s->n_elems; i++) {
            absolute += fabs((double)base[i]);
            square += (double)base[i] * base[i];
        }
        total += r->l1 * absolute + r->l2 * square;
    }
    return total;
}

/* The worst status of this rank's contexts, its sentence in err. */
static ls_status lane_status(ls_engine *e, ls_err *err) {
    for (int i = 0; i < e->n_contexts; i++) {
        if (e->contexts[i].status != LS_OK) {
            *err = e->contexts[i].err;
            return e->contexts[i].status;
        }
    }
    return ls_failure_take(err); /* of a kernel */
}

static ls_status judge(ls_engine *e, const ls_reducer_verdict *v, ls_status mine, double penalty, ls_verdict *out,
                       ls_err *err) {
    out->flags = v->flags;
    out->odd_rank = v->odd_rank;
    out->non_finite = false;
    out->non_finite_weight = NULL;
    memcpy(out->sums, v->sums, (size_t)e->heads->n_sums * sizeof(double));
    for (int i = 0; i < e->heads->n_outputs; i++) {
        double *loss = out->sums + e->heads->loss_at[i];
        if (i == 0) { /* penalties count once, with the weight that every sample has */
            double weight = e->heads->loss_weights != NULL ? e->heads->loss_weights[0] : 1.0;
            loss[0] += weight != 0 ? penalty * loss[1] / weight : 0;
        }
        out->non_finite = out->non_finite || !isfinite(loss[0]);
    }
    if (v->non_finite_at != SIZE_MAX) {
        out->non_finite = true;
        for (int k = 0; k < e->n_segments && out->non_finite_weight == NULL; k++) {
            if (v->non_finite_at < e->segments[k].last) {
                out->non_finite_weight = e->segments[k].weight;
            }
        }
    }
    return v->status == LS_OK ? LS_OK : ls_team_agree(e->team, mine, err);
}

static void begin_contexts(ls_engine *e) {
    for (int i = 0; i < e->n_contexts; i++) {
        e->contexts[i].status = LS_OK;
        e->contexts[i].err = (ls_err)LS_ERR_INIT;
    }
}

ls_status ls_engine_train_step(ls_engine *e, const ls_feed *feed, const uint32_t *index, size_t n, uint64_t step,
                               double learning_rate, unsigned flags, ls_verdict *verdict, ls_err *err) {
    LS_ASSERT(!e->options.inference && n > 0 && n <= (size_t)e->options.batch);
    const ls_lane_schedule *schedule = ls_reducer_schedule(e->reducer);
    const int64_t start = e->profile.on ? ls_now_ns() : 0;
    if (e->profile.on) {
        (void)ls_reducer_take_times(e->reducer); /* of evaluation steps */
    }
    double decay = e->compile->optimizer.decay;
    e->update = ls_update_begin(&e->compile->optimizer,
                                decay > 0 ? learning_rate / (1 + decay * (double)e->iterations) : learning_rate,
                                e->iterations + 1);
    ls_engine_tune_before(e);
    e->bucket_next = 0;
    for (int b = 0; b < ls_engine_buckets(e)->n_buckets; b++) {
        atomic_store_explicit(&e->bucket_done[b], 0, memory_order_relaxed);
    }
    begin_contexts(e);
    ls_engine_prepare_states(e, n);
    double penalty = penalties(e);
    ls_reducer_begin(e->reducer, step);
    work w = {.training = true, .targets = true, .feed = feed, .index = index, .n = n, .step = step};
    engine_plan *stretched = stretched_plan(e, &w);
    if (stretched != NULL) {
        train_stretches(e, &w, schedule, stretched->plan);
    }
    for (int g = 0; stretched == NULL && g < schedule->n_groups; g++) {
        train_group(e, &w, &schedule->groups[g], g == schedule->n_groups - 1);
    }
    if (schedule->n_groups == 0) { /* no lanes: others may meet nevertheless */
        run_together(e, &w, e->lane_first, 0);
    }
    while (e->bucket_next < ls_engine_buckets(e)->n_buckets) {
        ls_reducer_ready(e->reducer, e->bucket_next++);
    }
    ls_status mine = lane_status(e, err);
    ls_reducer_verdict v;
    ls_reducer_finish(e->reducer, flags, mine, &v);
    ls_engine_tune_after(e);
    ls_engine_constrain(e);
    e->iterations++;
    e->weights_epoch++;
    ls_status status = judge(e, &v, mine, penalty, verdict, err);
    if (e->profile.on) {
        const ls_reducer_times t = ls_reducer_take_times(e->reducer);
        e->profile.reduce.talk_ns += t.talk_ns;
        e->profile.reduce.work_ns += t.work_ns;
        e->profile.reduce.late_ns += t.late_ns;
        e->profile.reduce.network_ns += t.network_ns;
        e->profile.step_ns += ls_now_ns() - start;
        e->profile.n_steps++;
    }
    return status;
}

void ls_engine_expect(const ls_engine *e, const ls_feed *feed, const uint32_t *index, size_t n) {
    size_t from = ls_engine_cut(n, e->n_lanes, e->lane_first), to = ls_engine_cut(n, e->n_lanes, e->lane_last);
    if (feed->expect != NULL && to > from) {
        feed->expect(feed->self, index + from, to - from);
    }
}

static void keep_sums(ls_engine *e, int lane, engine_plan *ep, size_t first, size_t n) {
    (void)first, (void)n;
    memcpy(ls_reducer_lane_sums(e->reducer, lane), ls_plan_sums(ep->plan), (size_t)e->heads->n_sums * sizeof(double));
}

ls_status ls_engine_evaluate_step(ls_engine *e, const ls_feed *feed, const uint32_t *index, size_t n, unsigned flags,
                                  ls_verdict *verdict, ls_err *err) {
    const work w = {.targets = true, .feed = feed, .index = index, .n = n, .after = keep_sums};
    begin_contexts(e);
    ls_engine_prepare_states(e, n);
    infer_lanes(e, &w);
    ls_status mine = lane_status(e, err);
    ls_reducer_verdict v;
    ls_reducer_exchange(e->reducer, flags, mine, &v);
    return judge(e, &v, mine, penalties(e), verdict, err);
}

static size_t output_elems(const ls_engine *e, int o) {
    const ls_tensor *t = e->model->outputs[o];
    return (size_t)(t->rows * ls_shape_elems(&t->shape));
}

static void keep_outputs(ls_engine *e, int lane, engine_plan *ep, size_t first, size_t n) {
    /* rank_outputs holds this rank's samples; `first` counts from the start of the batch */
    (void)lane;
    for (int o = 0; o < e->model->n_outputs; o++) {
        size_t elems = output_elems(e, o);
        memcpy(e->rank_outputs[o] + first * elems, ls_plan_output(ep->plan, o), n * elems * sizeof(float));
    }
}

ls_status ls_engine_predict_step(ls_engine *e, const ls_feed *feed, const uint32_t *index, size_t n, float *const *out,
                                 ls_err *err) {
    size_t batch = (size_t)(e->options.eval_batch > e->options.batch ? e->options.eval_batch : e->options.batch);
    LS_ASSERT(n <= batch);
    for (int o = 0; o < e->model->n_outputs; o++) {
        if (e->rank_outputs[o] == NULL) {
            e->rank_outputs[o] = ls_xcalloc(batch * output_elems(e, o), sizeof(float));
        }
    }
    const work w = {.feed = feed, .index = index, .n = n, .after = keep_outputs};
    begin_contexts(e);
    ls_engine_prepare_states(e, n);
    infer_lanes(e, &w);
    ls_status s = ls_team_agree(e->team, lane_status(e, err), err);
    size_t *bytes = ls_xcalloc((size_t)e->team->size, sizeof *bytes);
    for (int o = 0; s == LS_OK && o < e->model->n_outputs; o++) {
        size_t elems = output_elems(e, o), mine = 0;
        for (int r = 0; r < e->team->size; r++) {
            size_t from = ls_engine_cut(n, e->n_lanes, ls_lanes_first(e->n_lanes, e->team->size, r));
            size_t to = ls_engine_cut(n, e->n_lanes, ls_lanes_first(e->n_lanes, e->team->size, r + 1));
            bytes[r] = (to - from) * elems * sizeof(float);
            mine = r == e->team->rank ? from : mine;
        }
        ls_team_gatherv(e->team, 0, e->rank_outputs[o] + mine * elems, bytes, out != NULL ? out[o] : NULL);
    }
    free(bytes);
    return s;
}
