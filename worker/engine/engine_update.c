/* What the owner of a slice does with its reduced gradient: penalties, clipping, the optimizer, moving statistics. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/engine/engine_internal.h"
#include "worker/model/constraint.h"

static int segment_of(const ls_engine *e, size_t at) {
    int low = 0, high = e->n_segments - 1;
    while (low < high) {
        int mid = (low + high + 1) / 2;
        if (e->segments[mid].first <= at) {
            low = mid;
        } else {
            high = mid - 1;
        }
    }
    return low;
}

/* g += d(l1 |w| + l2 w^2)/dw */
static void add_penalty_gradient(const ls_regularizer *r, const float *w, float *g, size_t n) {
    const float l1 = (float)r->l1, l2 = (float)(2 * r->l2);
    for (size_t i = 0; i < n; i++) {
        g[i] += l2 * w[i] + l1 * (float)((w[i] > 0) - (w[i] < 0));
    }
}

static bool penalized(const segment *s) {
    return s->weight->regularizer.l1 != 0 || s->weight->regularizer.l2 != 0;
}

bool ls_engine_needs_norms(const ls_engine *e) {
    const ls_optimizer *o = &e->compile->optimizer;
    return o->clipnorm > 0 || o->global_clipnorm > 0 || o->class_->trust != NULL;
}

static ls_update describe_update(ls_engine *e, const segment *s, size_t first, size_t n, float *w,
                                 const float *gradient) {
    ls_update u = e->update;
    u.w = w;
    u.g = gradient;
    u.n = n;
    u.trust = s->trust;
    u.weight_decay = s->decay;
    for (int k = 0; k < ls_optimizer_n_slots(&e->compile->optimizer); k++) {
        u.slot[k] = ls_reducer_slot(e->reducer, k) + first;
    }
    return u;
}

/* The update of weights or statistics w, which are `first` and on of the arena. */
static void update_range(ls_engine *e, const segment *s, size_t first, size_t n, float *w, const float *gradient) {
    if (s->statistic) {
        const float m = (float)s->weight->momentum, rest = (float)(1 - s->weight->momentum);
        for (size_t i = 0; i < n; i++) {
            w[i] = w[i] * m + gradient[i] * rest;
        }
        return;
    }
    const ls_optimizer *o = &e->compile->optimizer;
    _Alignas(64) float g[LS_REDUCE_CHUNK];
    const bool two_phases = ls_engine_needs_norms(e);
    if ((penalized(s) && !two_phases) || s->clip != 1.0f || o->clipvalue > 0) {
        memcpy(g, gradient, n * sizeof(float));
        if (penalized(s) && !two_phases) {
            add_penalty_gradient(&s->weight->regularizer, w, g, n);
        }
        for (size_t i = 0; i < n; i++) {
            g[i] *= s->clip;
        }
        const float limit = (float)o->clipvalue;
        for (size_t i = 0; limit > 0 && i < n; i++) {
            g[i] = g[i] > limit ? limit : g[i] < -limit ? -limit : g[i];
        }
        gradient = g;
    }
    if (o->weight_decay > 0 && o->class_->trust == NULL) { /* decoupled: before the gradient's update */
        const float keep = (float)(e->update.learning_rate * o->weight_decay);
        for (size_t i = 0; i < n; i++) {
            w[i] -= w[i] * keep;
        }
    }
    ls_update u = describe_update(e, s, first, n, w, gradient);
    o->class_->update(o, &u);
}

/* Where other ranks have the weights in their caches, they are worked on in a copy of one's own. */
static void update_shared(ls_engine *e, const segment *s, size_t first, size_t n, float *w, const float *gradient) {
    enum { SOME = 1024 };
    _Alignas(64) float copy[SOME];
    for (size_t i = 0; i < n; i += SOME) {
        size_t m = n - i < SOME ? n - i : SOME;
        memcpy(copy, w + i, m * sizeof *w);
        update_range(e, s, first + i, m, copy, gradient + i);
        ls_copy_past(w + i, copy, m * sizeof *w);
    }
}

void ls_engine_apply(void *context, size_t first, size_t n, const float *gradient) {
    ls_engine *e = context;
    const bool shared = e->team->n_local > 1 && e->weights_in_caches;
    for (int k = segment_of(e, first); n > 0; k++) {
        const segment *s = &e->segments[k];
        size_t m = s->last - first < n ? s->last - first : n;
        float *w = ls_reducer_params(e->reducer) + first;
        if (shared) {
            update_shared(e, s, first, m, w, gradient);
        } else {
            update_range(e, s, first, m, w, gradient);
        }
        first += m;
        gradient += m;
        n -= m;
    }
    if (shared) {
        ls_copy_past_fence();
    }
}

/* Over double accumulators in one fixed order. */
static double sum_of_squares(const float *x, size_t n) {
    double sum[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (size_t l = 0; l < 8; l++) {
            sum[l] += (double)x[i + l] * x[i + l];
        }
    }
    for (; i < n; i++) {
        sum[i & 7] += (double)x[i] * x[i];
    }
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

/* Adds the penalty's gradient, turns the gradient into the optimizer's direction, and gives the sums of squares: of the
 * direction, and, where rates adapt, of the weight. */
void ls_engine_norm(void *context, size_t first, size_t n, float *gradient, double *norms) {
    ls_engine *e = context;
    const segment *s = &e->segments[segment_of(e, first)];
    const ls_optimizer_class *c = e->compile->optimizer.class_;
    const float *w = ls_reducer_params(e->reducer) + first;
    norms[0] = 0;
    if (c->trust != NULL) {
        norms[1] = s->statistic ? 0 : sum_of_squares(w, n);
    }
    if (s->statistic) {
        return;
    }
    if (penalized(s)) {
        add_penalty_gradient(&s->weight->regularizer, w, gradient, n);
    }
    if (c->direction != NULL) {
        ls_update u = describe_update(e, s, first, n, ls_reducer_params(e->reducer) + first, gradient);
        c->direction(&e->compile->optimizer, &u, gradient);
    }
    norms[0] = sum_of_squares(gradient, n);
}

/* clip_by_norm: g * c / norm when norm > c. */
static float clip_factor(double limit, double sum_of_squares) {
    double norm = sqrt(sum_of_squares);
    return limit > 0 && norm > limit ? (float)(limit / norm) : 1.0f;
}

void ls_engine_norms_ready(void *context, const double *segment_norms, const double *total) {
    ls_engine *e = context;
    const ls_optimizer *o = &e->compile->optimizer;
    const bool rates = o->class_->trust != NULL;
    const int n_norms = rates ? 2 : 1;
    for (int k = 0; k < e->n_segments; k++) {
        segment *s = &e->segments[k];
        const double *norms = segment_norms + (size_t)k * (size_t)n_norms;
        s->clip = s->statistic      ? 1.0f
                  : o->clipnorm > 0 ? clip_factor(o->clipnorm, norms[0])
                                    : clip_factor(o->global_clipnorm, total[0]);
        s->trust = rates && s->adapts ? o->class_->trust(o, sqrt(norms[1]), sqrt(norms[0]), s->decay) : 1;
    }
}

/* Each constrained weight of this node's arena by one of the node's ranks: the same input gives the same bits on all.
 */
void ls_engine_constrain(ls_engine *e) {
    int k = 0;
    for (int i = 0; i < e->model->n_weights; i++) {
        const ls_weight *w = e->model->weights[i];
        if (w->constraint.class_ == NULL || !w->trainable || k++ % e->team->n_local != e->team->local) {
            continue;
        }
        ls_arena_get(e->arena, w, ls_reducer_params(e->reducer), e->constraint_scratch);
        ls_constraint_apply(w, e->constraint_scratch);
        ls_arena_set(e->arena, w, ls_reducer_params(e->reducer), e->constraint_scratch);
    }
    if (e->constraint_scratch != NULL) {
        ls_team_node_barrier(e->team);
    }
}
