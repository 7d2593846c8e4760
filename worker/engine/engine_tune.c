/*
 * The size of buckets, their order, and how many nodes exchange directly, chosen by measurement in the first steps.
 *
 * First the sizes are tried out; then, with the best of them, which bucket goes first; then, with more than a few
 * nodes, groups of few. Each way is used for a few steps, twice; what counts is the time that ranks spend in the
 * all-reduce: messages between operators, waiting, adding and updating. Of each round the least counts, since what
 * disturbs a step makes it longer only; then the mean over all ranks. What is used stays unless another way is clearly
 * better. Where the all-reduce is a trifle from the start, nothing is tried out.
 *
 * All ranks count the same steps, and decide the same from the same numbers. No way changes the bits (reducer.h), and
 * all of their memory was there before the first step; what was not chosen is given back in the end.
 */
#include "common/clock.h"
#include "worker/engine/engine_internal.h"

enum { WARM_STEPS = 3, ROUNDS = 2, STEPS = 3 }; /* of the STEPS, and of the first ones, the first is not counted */
enum { WARM, SIZES, ORDER, GROUPS, DONE };
#define BETTER 0.97  /* of the time of what is used, to be used instead */
#define TRIFLE 0.005 /* of a step */

static int cut_of(const ls_engine *e, const ls_way *w) {
    int i = 0;
    while (e->cuts[i].bytes != w->bucket_bytes) {
        i++;
    }
    return i;
}

static void use(ls_engine *e, const ls_way *w) {
    e->cut = cut_of(e, w);
    ls_reducer_use(e->reducer, e->cut + (w->fan_in == e->fans[0] ? 0 : e->n_cuts),
                   w->newest_first ? LS_ORDER_NEED : LS_ORDER_READY);
}

static void add_way(engine_tuning *t, ls_way w) {
    LS_ASSERT(t->tuned.n_tried < LS_TUNED_MOST);
    w.exposed_ms = 0;
    t->tuned.tried[t->tuned.n_tried++] = w;
    t->n++;
}

/* What a stage tries out, the way in use first; whether there is anything. */
static bool begin_stage(ls_engine *e, int stage) {
    engine_tuning *t = &e->tuning;
    ls_way w = t->tuned.used;
    t->stage = stage;
    t->at = t->n = 0;
    t->first = t->tuned.n_tried;
    if (stage == ORDER && e->cuts[cut_of(e, &w)].n_buckets > 1) {
        add_way(t, w);
        w.newest_first = true;
        add_way(t, w);
    }
    for (int i = 0; (stage == WARM || (stage == SIZES && e->n_cuts > 1)) && i < (stage == WARM ? 1 : e->n_cuts); i++) {
        w.bucket_bytes = e->cuts[i].bytes;
        add_way(t, w);
    }
    for (int i = 0; stage == GROUPS && e->n_fans > 1 && i < e->n_fans; i++) {
        w.fan_in = e->fans[i];
        add_way(t, w);
    }
    return t->n > 0;
}

void ls_engine_tune_begin(ls_engine *e) {
    engine_tuning *t = &e->tuning;
    t->tuned.used = (ls_way){.bucket_bytes = e->cuts[0].bytes, .fan_in = e->fans[0]};
    t->news = !e->options.inference && e->team->size > 1;
    if (e->n_cuts * e->n_fans > 1) {
        t->on = begin_stage(e, WARM);
        t->news = false;
    }
}

/* The mean over ranks of what each of them measured of this stage's ways, and of the share in a step. */
static void share_measures(ls_engine *e, double *share) {
    engine_tuning *t = &e->tuning;
    double all[LS_TUNED_MOST + 1] = {t->warm_share};
    for (int i = 0; i < t->n; i++) {
        all[1 + i] = t->tuned.tried[t->first + i].exposed_ms;
    }
    ls_team_sum(e->team, all, 1 + t->n);
    *share = all[0] / e->team->size;
    for (int i = 0; i < t->n; i++) {
        t->tuned.tried[t->first + i].exposed_ms = all[1 + i] / e->team->size;
    }
}

/* The end of a stage: what is best so far is used from now on, and the next stage that has anything to try begins. */
static void decide(ls_engine *e) {
    engine_tuning *t = &e->tuning;
    double share;
    int best = 0;
    share_measures(e, &share);
    const ls_way *ways = t->tuned.tried + t->first;
    for (int i = 1; i < t->n; i++) {
        if (ways[i].exposed_ms < BETTER * ways[0].exposed_ms && ways[i].exposed_ms < ways[best].exposed_ms) {
            best = i;
        }
    }
    t->tuned.used = ways[best];
    int stage = t->stage == WARM && share < TRIFLE ? DONE : t->stage + 1;
    while (stage < DONE && !begin_stage(e, stage)) {
        stage++;
    }
    use(e, &t->tuned.used);
    if (stage == DONE) {
        t->on = false;
        t->news = true;
        ls_reducer_settle(e->reducer);
    }
}

void ls_engine_tune_before(ls_engine *e) {
    engine_tuning *t = &e->tuning;
    if (t->on && t->at == (t->stage == WARM ? WARM_STEPS : ROUNDS * t->n * STEPS)) {
        decide(e);
    }
    if (!t->on) {
        return;
    }
    if (t->at % STEPS == 0) {
        t->least_ms = -1;
        use(e, &t->tuned.tried[t->first + t->at / STEPS % t->n]);
    }
    const ls_reducer_times now = ls_reducer_see_times(e->reducer);
    t->before_ns = now.talk_ns + now.late_ns + now.network_ns + now.work_ns;
    t->step_start_ns = ls_now_ns();
}

void ls_engine_tune_after(ls_engine *e) {
    engine_tuning *t = &e->tuning;
    if (!t->on) {
        return;
    }
    const ls_reducer_times now = ls_reducer_see_times(e->reducer);
    const double ms = (double)(now.talk_ns + now.late_ns + now.network_ns + now.work_ns - t->before_ns) / 1e6;
    ls_way *w = &t->tuned.tried[t->first + t->at / STEPS % t->n];
    if (t->at % STEPS > 0 && (t->least_ms < 0 || ms < t->least_ms)) {
        t->least_ms = ms;
        t->warm_share = ms * 1e6 / (double)(ls_now_ns() - t->step_start_ns);
    }
    if (t->at % STEPS == STEPS - 1) {
        w->exposed_ms += t->stage == WARM ? t->least_ms : t->least_ms / ROUNDS;
    }
    t->at++;
    t->tuned.n_steps++;
}

bool ls_engine_is_tuning(const ls_engine *e) {
    return e->tuning.on;
}

bool ls_engine_tuned(ls_engine *e, ls_tuned *out) {
    bool news = e->tuning.news;
    e->tuning.news = false;
    *out = e->tuning.tuned;
    return news;
}
