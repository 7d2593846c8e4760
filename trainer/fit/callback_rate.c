/*
 * ReduceLROnPlateau and LearningRateScheduler.
 *
 * Keras's LearningRateScheduler takes a Python function; Lockstep's takes a description:
 *   "schedule"       what trainer/fit/schedule.h reads
 *   "per"            what i counts: "epoch" (default) or "step"
 *   "warmup"         the first so many epochs (or steps) rise in a line to the schedule's rate: start + (rate - start)
 * * (i + 1) / warmup, with "warmup_start" (default 0)
 */
#include <math.h>
#include <string.h>

#include "trainer/fit/callback_private.h"
#include "trainer/fit/schedule.h"

typedef struct {
    ls_callback base;
    ls_monitor monitor;
    double factor, min_delta, min_lr;
    int64_t patience, cooldown, verbose;
    /* state */
    double best;
    int64_t cooldown_counter, wait;
} plateau;

static ls_status plateau_parse(ls_callback *base, ls_json config, double learning_rate, ls_err *err) {
    (void)learning_rate;
    plateau *cb = (plateau *)base;
    ls_mode mode;
    cb->factor = 0.1;
    cb->patience = 10;
    cb->min_delta = 1e-4;
    LS_TRY(ls_monitor_parse(config, &cb->monitor, &mode, err));
    LS_TRY(ls_json_get_double(config, "factor", 0, 1, &cb->factor, err));
    if (cb->factor >= 1) {
        return ls_json_fail(ls_json_member(config, "factor"), err, "expected a factor below 1, found %g", cb->factor);
    }
    LS_TRY(ls_json_get_int(config, "patience", 0, INT64_MAX, &cb->patience, err));
    LS_TRY(ls_json_get_double(config, "min_delta", 0, 1e300, &cb->min_delta, err));
    LS_TRY(ls_json_get_int(config, "cooldown", 0, INT64_MAX, &cb->cooldown, err));
    LS_TRY(ls_json_get_double(config, "min_lr", 0, 1e300, &cb->min_lr, err));
    LS_TRY(ls_verbose_parse(config, &cb->verbose, err));
    cb->monitor.greater = mode == LS_MODE_MAX || (mode == LS_MODE_AUTO && strstr(cb->monitor.name, "acc") != NULL);
    return LS_OK;
}

static ls_status plateau_begin(ls_callback *base, ls_moment *m, ls_err *err) {
    (void)m, (void)err;
    plateau *cb = (plateau *)base;
    cb->best = ls_monitor_worst(&cb->monitor);
    cb->cooldown_counter = cb->wait = 0;
    return LS_OK;
}

static void reduce_rate(plateau *cb, ls_moment *m) {
    if (m->learning_rate <= cb->min_lr) {
        return;
    }
    m->learning_rate = fmax(m->learning_rate * cb->factor, cb->min_lr);
    if (cb->verbose > 0) {
        ls_callback_say(m, false, "epoch %lld: ReduceLROnPlateau reduces the learning rate to %g",
                        (long long)m->epoch + 1, m->learning_rate);
    }
    cb->cooldown_counter = cb->cooldown;
    cb->wait = 0;
}

static ls_status plateau_epoch_end(ls_callback *base, ls_moment *m, ls_err *err) {
    (void)err;
    plateau *cb = (plateau *)base;
    const double *current = ls_monitor_value(&cb->monitor, base, m);
    if (current == NULL) {
        return LS_OK;
    }
    if (cb->cooldown_counter > 0) {
        cb->cooldown_counter--;
        cb->wait = 0;
    }
    bool better = cb->monitor.greater ? *current > cb->best + cb->min_delta : *current < cb->best - cb->min_delta;
    if (better) {
        cb->best = *current;
        cb->wait = 0;
    } else if (cb->cooldown_counter == 0 && ++cb->wait >= cb->patience) {
        reduce_rate(cb, m);
    }
    return LS_OK;
}

static json_t *plateau_save(const ls_callback *base) {
    const plateau *cb = (const plateau *)base;
    return json_pack("{s:o, s:I, s:I}", "best", ls_state_number(cb->best), "cooldown_counter",
                     (json_int_t)cb->cooldown_counter, "wait", (json_int_t)cb->wait);
}

static ls_status plateau_restore(ls_callback *base, ls_json state, ls_err *err) {
    plateau *cb = (plateau *)base;
    LS_TRY(ls_json_get_int(state, "cooldown_counter", 0, INT64_MAX, &cb->cooldown_counter, err));
    LS_TRY(ls_json_get_int(state, "wait", 0, INT64_MAX, &cb->wait, err));
    return ls_state_get(state, "best", ls_monitor_worst(&cb->monitor), &cb->best, err);
}

static const char *const plateau_keys[] = {"monitor",   "factor",   "patience", "verbose", "mode",
                                           "min_delta", "cooldown", "min_lr",   NULL};

const ls_callback_class ls_callback_reduce_on_plateau = {
    .name = "ReduceLROnPlateau",
    .keys = plateau_keys,
    .n_bytes = sizeof(plateau),
    .parse = plateau_parse,
    .train_begin = plateau_begin,
    .epoch_end = plateau_epoch_end,
    .save = plateau_save,
    .restore = plateau_restore,
};

/* Has no state: the rate is a function of the index. */
typedef struct {
    ls_callback base;
    ls_schedule schedule;
    bool per_step;
    int64_t warmup, verbose;
    double warmup_start;
} scheduler;

static ls_status scheduler_parse(ls_callback *base, ls_json config, double learning_rate, ls_err *err) {
    static const char *const units[] = {"epoch", "step"};
    scheduler *cb = (scheduler *)base;
    int unit = 0;
    LS_TRY(ls_json_get_choice(config, "per", units, 2, &unit, err));
    cb->per_step = unit == 1;
    LS_TRY(ls_json_get_int(config, "warmup", 0, INT64_MAX, &cb->warmup, err));
    LS_TRY(ls_json_get_double(config, "warmup_start", 0, 1e300, &cb->warmup_start, err));
    LS_TRY(ls_verbose_parse(config, &cb->verbose, err));
    ls_json schedule = ls_json_member(config, "schedule");
    if (!ls_json_present(schedule) && cb->warmup == 0) {
        return ls_json_fail(config, err,
                            "\"schedule\" is missing: a table {\"0\": 0.1, \"10\": 0.01}, or an object such as "
                            "{\"class_name\": \"StepDecay\", \"config\": {\"every\": 10, \"drop\": 0.5}}");
    }
    ls_schedule constant = {.initial = learning_rate};
    cb->schedule = constant;
    if (ls_json_present(schedule)) {
        LS_TRY(ls_schedule_parse(schedule, learning_rate, &cb->schedule, err));
    }
    if (ls_schedule_needs_run(&cb->schedule)) {
        return ls_json_fail(
            schedule, err, "WarmUp stands as the optimizer's learning_rate; this callback has a \"warmup\" of its own");
    }
    return LS_OK;
}

static double scheduled_rate(const scheduler *cb, double i) {
    double rate = cb->schedule.class_ != NULL ? ls_schedule_rate(&cb->schedule, i) : cb->schedule.initial;
    if (i < (double)cb->warmup) {
        rate = cb->warmup_start + (rate - cb->warmup_start) * (i + 1) / (double)cb->warmup;
    }
    return rate;
}

static ls_status scheduler_epoch_begin(ls_callback *base, ls_moment *m, ls_err *err) {
    (void)err;
    scheduler *cb = (scheduler *)base;
    if (cb->per_step) {
        return LS_OK;
    }
    m->learning_rate = scheduled_rate(cb, (double)m->epoch);
    if (cb->verbose > 0) {
        ls_callback_say(m, false, "epoch %lld: LearningRateScheduler sets the learning rate to %g",
                        (long long)m->epoch + 1, m->learning_rate);
    }
    return LS_OK;
}

static ls_status scheduler_batch_begin(ls_callback *base, ls_moment *m, ls_err *err) {
    (void)err;
    scheduler *cb = (scheduler *)base;
    if (cb->per_step) {
        m->learning_rate = scheduled_rate(cb, (double)m->step);
    }
    return LS_OK;
}

static void scheduler_release(ls_callback *base) {
    ls_schedule_release(&((scheduler *)base)->schedule);
}

static const char *const scheduler_keys[] = {"schedule", "per", "warmup", "warmup_start", "verbose", NULL};

const ls_callback_class ls_callback_rate_scheduler = {
    .name = "LearningRateScheduler",
    .keys = scheduler_keys,
    .n_bytes = sizeof(scheduler),
    .parse = scheduler_parse,
    .epoch_begin = scheduler_epoch_begin,
    .batch_begin = scheduler_batch_begin,
    .release = scheduler_release,
};
