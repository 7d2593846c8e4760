/* Making an engine: plans for the sizes that lanes have, the arenas in shared memory, buckets, initial weights. */
#include "worker/engine/engine.h"

#include <stdlib.h>
#include <string.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include "common/clock.h"
#include "storage/hash.h"
#include "worker/dnn/dnn.h"
#include "worker/engine/engine_internal.h"
#include "worker/model/initializer.h"

/* Denormal numbers are taken as zero: they cost a hundred times as much and mean nothing to training. Threads that are
 * made later inherit it. */
static void flush_denormals(void) {
#ifdef __SSE__
    _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
}

/* The most lanes whose sum this rank makes alone. */
static int most_turns(const ls_engine *e) {
    ls_branch nodes[LS_MAX_FRAGMENTS];
    int most = 1, n = ls_lanes_fragments(e->n_lanes, e->lane_first, e->lane_last, nodes);
    for (int i = 0; i < n; i++) {
        most = nodes[i].count > most ? nodes[i].count : most;
    }
    return most;
}

static ls_status compile_plan(ls_engine *e, int64_t n_samples, bool training, ls_plan **out, ls_err *err) {
    ls_plan_options o = {.n_samples = n_samples,
                         .training = training,
                         .input_gradients = e->options.input_gradients,
                         .compute = e->options.compute,
                         .direct_convolution = e->options.direct_convolution,
                         .n_threads = e->plan_threads,
                         .heads = e->heads,
                         .cut = e->n_lanes > 1,
                         .turns = e->at_once == 1 ? most_turns(e) : 1,
                         .lanes = e->at_once == 1 ? e->lane_last - e->lane_first : 1,
                         .sync_batch_norm = e->options.sync_batch_norm};
    return ls_plan_create(out, e->model, e->arena, &o, err);
}

static ls_status bind_plan(ls_engine *e, lane_context *c, engine_plan *ep, ls_err *err) {
    size_t n_bytes = ls_plan_arena_bytes(ep->plan);
    void *arena = c->arena;
    if (n_bytes > c->arena_bytes) {
        arena = ep->own_arena = ls_calloc(n_bytes, 1);
        if (arena == NULL) {
            return ls_fail(err, LS_ENOMEM, "out of memory: %zu bytes for the activations of %lld samples", n_bytes,
                           (long long)ep->n_samples);
        }
    }
    ls_engine_find_bucket_calls(e, ep);
    float *gradient = ep->training ? ls_reducer_gradient(e->reducer, 0) : NULL;
    return ls_plan_bind(ep->plan, arena, ls_reducer_params(e->reducer), gradient, err);
}

static engine_plan *find_plan(lane_context *c, int64_t n_samples, bool training) {
    for (int i = 0; i < c->n_plans; i++) {
        if (c->plans[i]->n_samples == n_samples && c->plans[i]->training == training) {
            return c->plans[i];
        }
    }
    return NULL;
}

static void keep_plan(lane_context *c, ls_plan *plan, int64_t n_samples, bool training) {
    engine_plan *ep = ls_xcalloc(1, sizeof *ep);
    *ep = (engine_plan){.n_samples = n_samples, .training = training, .plan = plan};
    LS_PUSH(c->plans, c->n_plans, c->cap_plans, ep);
}

static ls_status add_plan(ls_engine *e, lane_context *c, int64_t n_samples, bool training, ls_err *err) {
    ls_plan *plan;
    LS_TRY(compile_plan(e, n_samples, training, &plan, err));
    keep_plan(c, plan, n_samples, training);
    return LS_OK;
}

engine_plan *ls_engine_plan(ls_engine *e, lane_context *c, int64_t n_samples, bool training, ls_err *err) {
    engine_plan *ep = find_plan(c, n_samples, training);
    if (ep == NULL) {
        ls_status s;
#pragma omp critical(ls_engine_compile)
        s = add_plan(e, c, n_samples, training, err);
        if (s != LS_OK) {
            return NULL;
        }
        ep = c->plans[c->n_plans - 1];
        if (bind_plan(e, c, ep, err) != LS_OK) {
            return NULL;
        }
    }
    return ep;
}

/* Plans for the one or two lane sizes that a batch of n samples has among this rank's lanes. */
static ls_status plan_batch(ls_engine *e, lane_context *c, int64_t n, bool training, ls_err *err) {
    for (int lane = e->lane_first; n > 0 && lane < e->lane_last; lane++) {
        int64_t count =
            (int64_t)(ls_engine_cut((size_t)n, e->n_lanes, lane + 1) - ls_engine_cut((size_t)n, e->n_lanes, lane));
        if (count > 0 && find_plan(c, count, training) == NULL) {
            LS_TRY(add_plan(e, c, count, training, err));
        }
    }
    return LS_OK;
}

/*
 * The first plan decides layouts and order, so it must be the same on every rank: it is the plan of the largest lane,
 * whether this rank owns a lane of that size or not.
 */
static ls_status place_arena(ls_engine *e, ls_err *err) {
    int64_t largest = (e->options.batch + e->n_lanes - 1) / e->n_lanes;
    ls_plan *plan;
    LS_TRY(compile_plan(e, largest, !e->options.inference, &plan, err));
    int *ready = ls_xcalloc((size_t)e->model->n_weights + 1, sizeof *ready);
    for (int i = 0; i < e->model->n_weights; i++) {
        const ls_weight *w = e->model->weights[i];
        ready[i] = ls_plan_has_gradient(plan, w) ? ls_plan_ready_call(plan, w) : LS_NO_GRADIENT;
    }
    ls_arena_place(e->arena, ready);
    free(ready);
    /* Kept: it is most likely wanted; it is dropped with the context if no lane has its size. */
    keep_plan(&e->contexts[0], plan, largest, !e->options.inference);
    return LS_OK;
}

static void list_segments(ls_engine *e) {
    e->segments = ls_xcalloc((size_t)e->model->n_weights + 1, sizeof *e->segments);
    for (int k = 0; k < e->model->n_weights; k++) {
        const ls_regularizer *r = &e->model->weights[k]->regularizer;
        e->regularized = e->regularized || r->l1 != 0 || r->l2 != 0;
    }
    for (int k = 0; k < e->model->n_weights; k++) {
        const ls_weight *w = e->model->weights[e->arena->order[k]];
        const ls_arena_slot *s = &e->arena->slot[w->id];
        if (s->offset >= e->arena->n_reduced) {
            break;
        }
        segment g = {.first = s->offset,
                     .weight = w,
                     .sparse = s->sparse,
                     .statistic = w->role == LS_WEIGHT_STAT,
                     .clip = 1.0f,
                     .trust = 1};
        if (e->compile != NULL && e->compile->optimizer.class_->trust != NULL) {
            const ls_optimizer *o = &e->compile->optimizer;
            g.decay = ls_optimizer_excludes(o->no_decay, w) ? 0 : o->weight_decay;
            g.adapts = !g.statistic && !ls_optimizer_excludes(o->no_adaptation, w);
        }
        if (e->n_segments > 0) {
            e->segments[e->n_segments - 1].last = g.first;
        }
        e->segments[e->n_segments++] = g;
    }
    if (e->n_segments > 0) {
        e->segments[e->n_segments - 1].last = e->arena->n_reduced;
    }
}

/* What a gradient of zeros does to a weight. */
static ls_zero zero_does(const ls_engine *e, const ls_weight *w) {
    const ls_optimizer *o = &e->compile->optimizer;
    if (o->weight_decay > 0 || w->regularizer.l1 != 0 || w->regularizer.l2 != 0) {
        return LS_ZERO_MOVES;
    }
    return o->class_->idles != NULL && o->class_->idles(o)   ? LS_ZERO_IDLES
           : o->class_->rests != NULL && o->class_->rests(o) ? LS_ZERO_RESTS
                                                             : LS_ZERO_MOVES;
}

/* The ranges of sparse weights, into `out` (n_segments); how many. */
static int list_sparse(const ls_engine *e, ls_sparse *out) {
    int n = 0;
    if (e->options.inference || e->compile == NULL) {
        return 0;
    }
    for (int k = 0; k < e->n_segments; k++) {
        const segment *s = &e->segments[k];
        if (s->sparse) {
            out[n++] =
                (ls_sparse){s->first, s->last - s->first, e->arena->slot[s->weight->id].marks, zero_does(e, s->weight)};
        }
    }
    return n;
}

static ls_status make_reducer(ls_engine *e, ls_err *err) {
    size_t *bounds = ls_xcalloc((size_t)e->n_segments + 1, sizeof *bounds);
    for (int k = 0; k < e->n_segments; k++) {
        bounds[k] = e->segments[k].first;
    }
    bounds[e->n_segments] = e->arena->n_reduced;
    ls_sparse *sparse = ls_xcalloc((size_t)e->n_segments + 1, sizeof *sparse);
    int n_sparse = list_sparse(e, sparse);
    bool norms = e->compile != NULL && !e->options.inference && ls_engine_needs_norms(e);
    ls_cut cuts[2 * LS_TUNED_SIZES] = {{0}};
    for (int i = 0; !e->options.inference && i < e->n_cuts * e->n_fans; i++) {
        const engine_cut *c = &e->cuts[i % e->n_cuts];
        cuts[i] = (ls_cut){.n_buckets = c->n_buckets, .buckets = c->buckets, .fan_in = e->fans[i / e->n_cuts]};
    }
    ls_reducer_options o = {.n_lanes = e->n_lanes,
                            .lanes_at_once = e->n_contexts,
                            .n_threads = e->at_once * e->plan_threads,
                            .n_params = e->arena->n_total,
                            .n_reduced = e->options.inference ? 0 : e->arena->n_reduced,
                            .n_gradient = e->options.inference ? 0 : e->arena->n_gradient,
                            .n_sparse = n_sparse,
                            .sparse = sparse,
                            .wire_bfloat16 = e->options.wire_bfloat16,
                            .cut = cuts[0],
                            .n_more = e->n_cuts * e->n_fans - 1,
                            .more = cuts + 1,
                            .n_slots = e->options.inference ? 0 : ls_optimizer_n_slots(&e->compile->optimizer),
                            .n_sums = e->heads != NULL ? e->heads->n_sums : 0,
                            .n_norms = norms ? (e->compile->optimizer.class_->trust != NULL ? 2 : 1) : 0,
                            .n_segments = norms ? e->n_segments : 0,
                            .segments = norms ? bounds : NULL,
                            .apply = ls_engine_apply,
                            .norm = norms ? ls_engine_norm : NULL,
                            .norms_ready = norms ? ls_engine_norms_ready : NULL,
                            .context = e};
    ls_status s = ls_reducer_create(&e->reducer, e->team, &o, err);
    free(bounds);
    free(sparse);
    return s;
}

static ls_status make_plans(ls_engine *e, ls_err *err) {
    if (e->lane_first == e->lane_last) {
        return LS_OK; /* more ranks than lanes: this one only adds and updates */
    }
    const size_t most_cached = 8 << 20;
    size_t touched = e->arena->n_total * sizeof(float);
    for (int i = 0; i < e->n_contexts; i++) {
        lane_context *c = &e->contexts[i];
        if (!e->options.inference) {
            LS_TRY(plan_batch(e, c, e->options.batch, true, err));
            LS_TRY(plan_batch(e, c, e->options.last_batch, true, err));
        }
        if (i < e->at_once || e->n_meet[false] > 0) {
            LS_TRY(plan_batch(e, c, e->options.eval_batch, false, err));
            LS_TRY(plan_batch(e, c, e->options.last_eval_batch, false, err));
        }
        for (int k = 0; k < c->n_plans; k++) {
            size_t n_bytes = ls_plan_arena_bytes(c->plans[k]->plan);
            c->arena_bytes = n_bytes > c->arena_bytes ? n_bytes : c->arena_bytes;
        }
        c->arena = ls_calloc(c->arena_bytes, 1);
        if (c->arena == NULL) {
            return ls_fail(err, LS_ENOMEM,
                           "out of memory: %zu bytes for activations; use a smaller batch or more ranks",
                           c->arena_bytes);
        }
        for (int k = 0; k < c->n_plans; k++) {
            LS_TRY(bind_plan(e, c, c->plans[k], err));
        }
        touched += c->arena_bytes;
    }
    e->weights_in_caches = touched <= most_cached;
    return LS_OK;
}

static void set_initial(ls_engine *e, const ls_weight *w) {
    int64_t n = ls_shape_elems(&w->shape);
    float *values = ls_xcalloc((size_t)n, sizeof *values);
    ls_initializer_fill(w, e->options.seed, values);
    ls_arena_set(e->arena, w, ls_reducer_params(e->reducer), values);
    const ls_optimizer *o = e->compile != NULL && !e->options.inference ? &e->compile->optimizer : NULL;
    for (int k = 0; o != NULL && o->class_->slot_init != NULL && w->trainable && k < ls_optimizer_n_slots(o); k++) {
        for (int64_t i = 0; i < n; i++) {
            values[i] = (float)o->class_->slot_init(o, k);
        }
        ls_arena_set(e->arena, w, ls_reducer_slot(e->reducer, k), values);
    }
    free(values);
}

/* By the ranks of rank 0's node, which share the arenas: each weight by the one that has least to draw so far. */
static void set_initial_weights(ls_engine *e) {
    int64_t *drawn = ls_xcalloc((size_t)e->team->n_local, sizeof *drawn);
    for (int i = 0; e->team->node == 0 && i < e->model->n_weights; i++) {
        int who = 0;
        for (int l = 1; l < e->team->n_local; l++) {
            who = drawn[l] < drawn[who] ? l : who;
        }
        drawn[who] += ls_shape_elems(&e->model->weights[i]->shape);
        if (who == e->team->local) {
            set_initial(e, e->model->weights[i]);
        }
    }
    free(drawn);
    ls_team_node_barrier(e->team);
    ls_engine_publish(e);
}

static void choose_lanes(ls_engine *e) {
    int threads = e->options.n_threads > 0 ? e->options.n_threads : e->team->n_threads;
    int each = e->options.lanes_per_rank > 0 ? e->options.lanes_per_rank : 1;
    e->n_lanes = e->options.lanes > 0 ? e->options.lanes : e->team->size * each;
    e->lane_first = ls_lanes_first(e->n_lanes, e->team->size, e->team->rank);
    e->lane_last = ls_lanes_first(e->n_lanes, e->team->size, e->team->rank + 1);
    int here = e->lane_last - e->lane_first;
    if (e->options.lanes > 0) { /* one thread a lane, always; spare threads run more lanes side by side */
        e->at_once = here < 1 ? 1 : here < threads ? here : threads;
        e->plan_threads = 1;
    } else {
        e->at_once = 1;
        e->plan_threads = threads;
    }
    e->n_contexts = 1; /* until it is known whether lanes meet */
    e->contexts = ls_xcalloc(1, sizeof *e->contexts);
    e->passes = ls_xcalloc((size_t)here + 1, sizeof *e->passes);
}

/* A context for each lane that is under way at a time: all of the rank's where they advance together. */
static void make_contexts(ls_engine *e) {
    int here = e->lane_last - e->lane_first;
    e->n_contexts = ls_engine_meets(e) && here > 0 ? here : e->at_once;
    e->contexts = ls_xrealloc(e->contexts, (size_t)e->n_contexts * sizeof *e->contexts);
    memset(e->contexts + 1, 0, (size_t)(e->n_contexts - 1) * sizeof *e->contexts);
    for (int i = 0; i < e->n_contexts; i++) {
        e->contexts[i].states = ls_xcalloc((size_t)e->model->n_states + 1, sizeof *e->contexts[i].states);
    }
}

/* Every rank must know where lanes meet, whether it has lanes or not. */
static ls_status find_meetings(ls_engine *e, ls_err *err) {
    ls_engine_note_meetings(e, e->contexts[0].plans[0]->plan, !e->options.inference);
    if (!e->options.inference && e->n_meet[true] > 0) {
        int64_t largest = (e->options.eval_batch + e->n_lanes - 1) / e->n_lanes;
        LS_TRY(add_plan(e, &e->contexts[0], largest, false, err));
        ls_engine_note_meetings(e, e->contexts[0].plans[1]->plan, false);
    }
    return LS_OK;
}

/* Everything up to the first collective call that needs memory; local, so that its status can be agreed on. */
static ls_status prepare_local(ls_engine *e, ls_err *err) {
    ls_dnn_set_threads(e->plan_threads);
    LS_TRY(place_arena(e, err));
    LS_TRY(find_meetings(e, err));
    make_contexts(e);
    list_segments(e);
    ls_engine_cut_buckets(e);
    int64_t largest = 0;
    for (int i = 0; i < e->model->n_weights; i++) {
        int64_t n = ls_shape_elems(&e->model->weights[i]->shape);
        largest = e->model->weights[i]->constraint.class_ != NULL && n > largest ? n : largest;
    }
    e->constraint_scratch = largest > 0 && !e->options.inference ? ls_xcalloc((size_t)largest, sizeof(float)) : NULL;
    return LS_OK;
}

static void make_states(ls_engine *e) {
    int64_t most = e->options.eval_batch > e->options.batch ? e->options.eval_batch : e->options.batch;
    e->state_samples = (size_t)most;
    for (int k = 0; k < e->model->n_states; k++) {
        e->n_state_elems += e->state_samples * e->model->state_elems[k];
    }
    if (e->n_state_elems > 0) {
        e->states = ls_xcalloc(2 * e->n_state_elems, sizeof *e->states);
        e->marked_states = e->states + e->n_state_elems;
    }
}

static ls_status create(ls_engine *e, ls_err *err) {
    LS_TRY(ls_team_agree(e->team, prepare_local(e, err), err));
    LS_TRY(make_reducer(e, err));
    LS_TRY(ls_engine_make_meeting(e, err));
    LS_TRY(ls_team_agree(e->team, make_plans(e, err), err));
    set_initial_weights(e);
    ls_engine_tune_begin(e);
    return LS_OK;
}

ls_status ls_engine_create(ls_engine **out, ls_team *team, ls_model *model, const ls_compile *compile,
                           const ls_engine_options *options, ls_err *err) {
    int64_t start = ls_now_ns();
    flush_denormals();
    ls_engine *e = ls_xcalloc(1, sizeof *e);
    e->team = team;
    e->model = model;
    e->compile = compile;
    e->options = *options;
    e->options.eval_batch = options->eval_batch > 0 ? options->eval_batch : options->batch;
    e->arena = ls_arena_create(model);
    e->arena->sparse = !options->inference && !options->dense_tables;
    e->rank_outputs = ls_xcalloc((size_t)model->n_outputs + 1, sizeof *e->rank_outputs);
    e->weights_epoch = 1;
    if (compile != NULL) {
        e->heads = ls_heads_create(compile->n_outputs, compile->losses, compile->loss_weights, compile->n_metrics,
                                   compile->metrics, compile->metric_output, options->sample_weights);
    }
    choose_lanes(e);
    make_states(e);
    ls_status s = create(e, err);
    if (s != LS_OK) {
        ls_engine_destroy(e);
        return s;
    }
    e->compile_ms = (double)(ls_now_ns() - start) / 1e6;
    *out = e;
    return LS_OK;
}

void ls_engine_destroy(ls_engine *e) {
    if (e == NULL) {
        return;
    }
    for (int i = 0; i < e->n_contexts; i++) {
        lane_context *c = &e->contexts[i];
        for (int k = 0; k < c->n_plans; k++) {
            ls_plan_destroy(c->plans[k]->plan);
            for (int s = 0; s < LS_TUNED_SIZES; s++) {
                free(c->plans[k]->bucket_call[s]);
            }
            free(c->plans[k]->own_arena);
            free(c->plans[k]);
        }
        free(c->plans);
        free(c->arena);
        free(c->states);
    }
    for (int o = 0; o < e->model->n_outputs; o++) {
        free(e->rank_outputs[o]);
    }
    ls_meeting_destroy(e->meeting);
    ls_reducer_destroy(e->reducer);
    ls_arena_destroy(e->arena);
    ls_heads_destroy(e->heads);
    free(e->meet[0]);
    free(e->meet[1]);
    free(e->meet_values);
    free(e->rank_outputs);
    free(e->passes);
    free(e->contexts);
    free(e->segments);
    for (int i = 0; i < LS_TUNED_SIZES; i++) {
        free(e->cuts[i].buckets);
    }
    free(e->bucket_done);
    free(e->constraint_scratch);
    free(e->states);
    free(e);
}

int ls_engine_n_sums(const ls_engine *e) {
    return e->heads != NULL ? e->heads->n_sums : 0;
}
int ls_engine_loss_sums_at(const ls_engine *e, int output) {
    return e->heads->loss_at[output];
}
int ls_engine_metric_sums_at(const ls_engine *e, int metric) {
    return e->heads->metric_at[metric];
}

double ls_engine_loss(const ls_engine *e, const double *sums) {
    double total = 0;
    for (int i = 0; i < e->heads->n_outputs; i++) {
        const double *s = sums + e->heads->loss_at[i];
        double weight = e->heads->loss_weights != NULL ? e->heads->loss_weights[i] : 1.0;
        total += s[1] > 0 ? weight * s[0] / s[1] : 0;
    }
    return total;
}

double ls_engine_metric(const ls_engine *e, int metric, const double *sums) {
    const ls_metric *m = &e->heads->metrics[metric];
    return m->class_->result(m, sums + e->heads->metric_at[metric]);
}

static float *base_of(ls_engine *e, int slot) {
    return slot < 0 ? ls_reducer_params(e->reducer) : ls_reducer_slot(e->reducer, slot);
}

void ls_engine_get(ls_engine *e, const ls_weight *w, int slot, float *out) {
    ls_arena_get(e->arena, w, base_of(e, slot), out);
}

void ls_engine_set(ls_engine *e, const ls_weight *w, int slot, const float *in) {
    if (e->team->rank == 0) {
        ls_arena_set(e->arena, w, base_of(e, slot), in);
    }
}

void ls_engine_gather(ls_engine *e) {
    ls_reducer_gather_slots(e->reducer);
}

void ls_engine_publish(ls_engine *e) {
    ls_reducer_broadcast_params(e->reducer);
    ls_reducer_scatter_slots(e->reducer);
    e->weights_epoch++;
}

uint64_t ls_engine_iterations(const ls_engine *e) {
    return e->iterations;
}
void ls_engine_set_iterations(ls_engine *e, uint64_t t) {
    e->iterations = t;
}

uint64_t ls_engine_weights_hash(const ls_engine *e) {
    return ls_hash64(ls_reducer_params(e->reducer), e->arena->n_total * sizeof(float));
}

void ls_engine_say_digest(ls_engine *e, uint64_t digest) {
    ls_reducer_say_digest(e->reducer, digest);
}

const float *ls_engine_probe_output(const ls_engine *e, int o) {
    return ls_plan_output(e->contexts[0].last->plan, o);
}

void ls_engine_probe_gradient(const ls_engine *e, const ls_weight *w, float *out) {
    ls_arena_get(e->arena, w, ls_reducer_gradient(e->reducer, ls_reducer_schedule(e->reducer)->groups[0].slot[0]), out);
}

const float *ls_engine_probe_input_gradient(const ls_engine *e, int i) {
    return ls_plan_input_gradient(e->contexts[0].last->plan, i);
}

void ls_engine_describe(const ls_engine *e, ls_engine_info *info) {
    *info = (ls_engine_info){.lanes = e->n_lanes,
                             .lanes_here = e->lane_last - e->lane_first,
                             .n_threads = e->plan_threads * e->at_once,
                             .n_buckets = ls_engine_buckets(e)->n_buckets,
                             .lanes_meet = ls_engine_meets(e),
                             .compile_ms = e->compile_ms,
                             .weights_bytes = e->arena->n_total * sizeof(float),
                             .isa = ls_dnn_isa()};
    for (int i = 0; i < e->n_contexts; i++) {
        const lane_context *c = &e->contexts[i];
        info->activation_bytes += c->arena_bytes;
        for (int k = 0; k < c->n_plans; k++) {
            const ls_plan *plan = c->plans[k]->plan;
            info->activation_bytes += ls_plan_persistent_bytes(plan);
            info->activation_bytes += c->plans[k]->own_arena != NULL ? ls_plan_arena_bytes(plan) : 0;
        }
    }
    if (e->compile != NULL && !e->options.inference) {
        info->gradient_bytes = e->arena->n_gradient * sizeof(float) * (size_t)ls_reducer_schedule(e->reducer)->n_slots;
        info->optimizer_bytes =
            e->arena->n_reduced * sizeof(float) * (size_t)ls_optimizer_n_slots(&e->compile->optimizer);
        const engine_plan *ep = e->contexts[0].plans[0];
        for (int phase = LS_PHASE_FORWARD; phase <= LS_PHASE_BACKWARD; phase++) {
            for (int i = 0; i < ls_plan_n_calls(ep->plan, (ls_phase)phase); i++) {
                info->flops_per_sample += ls_plan_call(ep->plan, (ls_phase)phase, i)->flops / (double)ep->n_samples;
            }
        }
    }
}

ls_engine_times ls_engine_take_times(ls_engine *e) {
    const ls_reducer_times t = ls_reducer_take_times(e->reducer);
    return (ls_engine_times){t.talk_ns, t.late_ns, t.network_ns, t.work_ns};
}
