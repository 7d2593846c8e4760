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
 *   WarmUp                  for large batches: k * s(x), s being "schedule" (r0 when there is none), k the batch size
 * over "reference_batch_size" (1 without it); over the first "warmup" it rises in a line from "warmup_start" (s(0)
 * where there is a reference, else 0). x counts steps or, with "per": "epoch", epochs with their fractions. The
 * optimizer's only table {"0": 0.1, "10": 0.01}   the rate from that index on; before the first index, r0
 *
 * r0 is initial_learning_rate, which may be left out in a callback: then it is the optimizer's.
 * Source  https://keras.io/2.15/api/optimizers/learning_rate_schedules/ (StepDecay, WarmUp and the table are
 *         Lockstep's); WarmUp: Goyal et al., Accurate, Large Minibatch SGD, 2017, sections 2.1 and 2.2.
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
    struct ls_schedule *inner;   /* WarmUp's; NULL: none */
    double warmup, warmup_start; /* warmup_start NAN: not given */
    double reference, scale;     /* reference batch size, 0: none; scale: k */
    double steps;                /* an epoch, where x counts epochs; else 1 */
    bool per_epoch;
    int n_points; /* PiecewiseConstantDecay, table */
    double *at;   /* [n_points] boundaries / indexes, increasing */
    double *rate; /* [n_points + 1] / [n_points] */
} ls_schedule;

/* An object {"class_name", "config"}, or a table. initial is r0 where the config has none; NAN: it must have one. On
 * success the caller releases *out. LS_EINPUT. */
ls_status ls_schedule_parse(ls_json at, double initial, ls_schedule *out, ls_err *err) LS_MUST_CHECK;
void ls_schedule_release(ls_schedule *s);

/* What WarmUp has to know of the run. Whether it does: without this call it takes the batch for the reference, and
 * steps for epochs. */
bool ls_schedule_needs_run(const ls_schedule *s);
void ls_schedule_set_run(ls_schedule *s, double batch_size, double steps_per_epoch);

/* The rate at index i >= 0. Pure. */
double ls_schedule_rate(const ls_schedule *s, double i);

#endif
