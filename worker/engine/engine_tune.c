/*
 * The size of buckets, chosen by measurement in the first steps.
 *
 * Each size is used for a few steps, twice; what counts is the time that rank 0 spends in the all-reduce, waiting and
 * adding: nothing of it is hidden. Of each round the least counts, since what disturbs a step makes it longer only. The
 * usual size stays unless another is clearly better. All ranks count the same steps; rank 0 decides and tells the
 * others. Sizes do not change the bits (reducer.h).
 */
#include <stdlib.h>
#include <string.h>

#include "worker/engine/engine_internal.h"

enum { WARM_STEPS = 2, ROUNDS = 2, STEPS = 3 }; /* of the STEPS the first is not counted */
static const size_t sizes[LS_TUNED_SIZES] = {1 << 20, 1 << 18, 1 << 22, 1 << 24}; /* the usual one, the least, ... */

void ls_engine_tune_begin(ls_engine *e) {
    engine_tuning *t = &e->tuning;
    if (e->options.bucket_bytes > 0 || e->options.inference || e->team->size == 1 ||
        e->arena->n_reduced * sizeof(float) <= sizes[0]) {
        return; /* nothing to choose from */
    }
    for (int i = 0; i < LS_TUNED_SIZES; i++) {
        t->tuned.bucket_bytes[i] = sizes[i];
        t->tuned.exposed_ms[i] = 0;
    }
    t->on = true;
}

static ls_status use(ls_engine *e, int size, ls_err *err) {
    e->options.bucket_bytes = sizes[size];
    ls_engine_cut_buckets(e);
    return ls_reducer_recut(e->reducer, e->n_buckets, e->buckets, err);
}

static ls_status decide(ls_engine *e, ls_err *err) {
    engine_tuning *t = &e->tuning;
    int32_t best = 0;
    for (int i = 1; i < LS_TUNED_SIZES; i++) {
        if (t->tuned.exposed_ms[i] < 0.97 * t->tuned.exposed_ms[0] &&
            (best == 0 || t->tuned.exposed_ms[i] < t->tuned.exposed_ms[best])) {
            best = i;
        }
    }
    ls_team_bcast(e->team, 0, &best, sizeof best);
    t->tuned.chosen = best;
    t->on = false;
    t->news = true;
    return use(e, best, err);
}

/* Where step `at` of tuning belongs. */
static int size_of_step(int at) {
    return (at - WARM_STEPS) / STEPS % LS_TUNED_SIZES;
}

ls_status ls_engine_tune_before(ls_engine *e, ls_err *err) {
    engine_tuning *t = &e->tuning;
    if (!t->on) {
        return LS_OK;
    }
    if (t->at == WARM_STEPS + ROUNDS * LS_TUNED_SIZES * STEPS) {
        return decide(e, err);
    }
    if (t->at >= WARM_STEPS && (t->at - WARM_STEPS) % STEPS == 0) {
        t->least_ms = -1;
        LS_TRY(use(e, size_of_step(t->at), err));
    }
    const ls_reducer_times now = ls_reducer_see_times(e->reducer);
    t->before_ns = now.late_ns + now.network_ns + now.work_ns;
    return LS_OK;
}

void ls_engine_tune_after(ls_engine *e) {
    engine_tuning *t = &e->tuning;
    if (!t->on) {
        return;
    }
    const ls_reducer_times now = ls_reducer_see_times(e->reducer);
    const double ms = (double)(now.late_ns + now.network_ns + now.work_ns - t->before_ns) / 1e6;
    const int within = t->at - WARM_STEPS;
    if (within >= 0 && within % STEPS > 0) {
        t->least_ms = t->least_ms < 0 || ms < t->least_ms ? ms : t->least_ms;
    }
    if (within >= 0 && within % STEPS == STEPS - 1) {
        t->tuned.exposed_ms[size_of_step(t->at)] += t->least_ms / ROUNDS;
    }
    t->at++;
}

bool ls_engine_tuned(ls_engine *e, ls_tuned *out) {
    bool news = e->tuning.news;
    e->tuning.news = false;
    *out = e->tuning.tuned;
    return news;
}
