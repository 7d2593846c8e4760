/*
 * Learning rate schedules: the rate as a function of an index i, which counts optimizer steps or epochs from 0.
 *
 * Two places name one. Keras's LearningRateSchedule objects stand as the optimizer's learning_rate and count steps. The
 * callback LearningRateScheduler takes the same objects, or a table, and counts epochs unless told otherwise.
 *
 *   ExponentialDecay        r0 * decay_rate ^ (i / decay_steps); staircase: the power is a whole number
 *   InverseTimeDecay        r0 / (1 + decay_rate * i / decay_steps); decay_steps is 1 when absent
 *   PolynomialDecay         (r0 - end) * (1 - i / decay_steps) ^ power + end
 *   CosineDecay             r0 * ((1 - alpha) * (1 + cos(pi * i / decay_steps)) / 2 + alpha), with an optional linear
 *                           warm-up from r0 to warmup_target over warmup_steps
 *   CosineDecayRestarts     the same, begun again after first_decay_steps, then t_mul times as long ...
 *   PiecewiseConstantDecay  values[k] while i <= boundaries[k]
 *   StepDecay               r0 * drop ^ floor(i / every)
 *   table {"0": 0.1, "10": 0.01}   the rate from that index on; before the first index, r0
 *
 * r0 is initial_learning_rate, which may be left out in a callback: then it is the optimizer's.
 * Source  https://keras.io/2.15/api/optimizers/learning_rate_schedules/ (StepDecay and the table are Lockstep's).
 */
#ifndef LS_FIT_SCHEDULE_H
#define LS_FIT_SCHEDULE_H

#include "common/json.h"

typedef struct ls_schedule_class ls_schedule_class;

typedef struct ls_schedule {
    const ls_schedule_class *class_; /* NULL: no schedule */
    double initial;
    double decay_steps, decay_rate; /* StepDecay: every, drop */
    double end, power, alpha;
    double warmup_target, warmup_steps;
    double t_mul, m_mul;
    bool staircase, cycle, has_warmup_target;
    int n_points; /* PiecewiseConstantDecay, table */
    double *at;   /* [n_points] boundaries / indexes, increasing */
    double *rate; /* [n_points + 1] / [n_points] */
} ls_schedule;

/* An object {"class_name", "config"}, or a table. initial is r0 where the config has none; NAN: it must have one. On
 * success the caller releases *out. LS_EINPUT. */
ls_status ls_schedule_parse(ls_json at, double initial, ls_schedule *out, ls_err *err) LS_MUST_CHECK;
void ls_schedule_release(ls_schedule *s);

/* The rate at index i >= 0. Pure. */
double ls_schedule_rate(const ls_schedule *s, double i);

#endif
