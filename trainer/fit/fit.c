#include "trainer/fit/fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/fault.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/rng.h"
#include "common/text.h"
#include "storage/hash.h"
#include "trainer/fit/fit_private.h"
#include "trainer/fit/number.h"
#include "trainer/fit/stop.h"
#include "worker/reduce/watchdog.h"

/* ---- one step ---- */

static void pass_faults(ls_fit *f) {
    if (ls_fault_at(f->fault_step) != 0) {
        ls_source_spoil(f->train, true, false);
    }
    if (ls_fault_at(f->fault_nan) != 0) {
        ls_source_spoil(f->train, false, true);
    }
}

static ls_status fail_non_finite(ls_fit *f, const ls_verdict *v, ls_err *err) {
    char where[256] = "";
    ls_err ignored = LS_ERR_INIT; /* of a write: there is worse to tell */
    if (f->chief && ls_checkpoint_writer_wait(f->writer, &ignored) == LS_OK) {
        ls_fit_collect(f);
    }
    double loss = ls_engine_loss(f->engine, v->sums);
    if (v->non_finite_weight != NULL) {
        snprintf(where, sizeof where, ", first in the gradient of \"%.100s\" of layer \"%.100s\"",
                 v->non_finite_weight->name, v->non_finite_weight->layer->path);
    }
    const char *what = isfinite(loss) ? "the gradient is no longer finite"
                       : isnan(loss)  ? "the loss is NaN"
                                      : "the loss is infinite";
    return ls_fail(err, LS_ENONFINITE,
                   "%s at step %llu (epoch %lld, batch %lld)%s; the last good checkpoint is %s. Try a lower learning "
                   "rate or clipnorm, or look at the data; fit.stop_on_nonfinite = false goes on regardless",
                   what, (unsigned long long)f->step + 1, (long long)f->epoch + 1, (long long)f->batch + 1, where,
                   f->last_good != NULL ? f->last_good : "none yet");
}

static ls_status fail_odd_weights(const ls_fit *f, int odd, ls_err *err) {
    return ls_fail(err, LS_EDIVERGED,
                   "rank %d on %s holds other weights than rank 0 after step %llu; go on from the last checkpoint with "
                   "--resume",
                   odd, f->team->hosts[odd], (unsigned long long)f->said_step);
}

static uint64_t digest_of_weights(ls_fit *f) {
    f->said_step = f->step;
    return ls_engine_weights_hash(f->engine) ^ (ls_fault_at(f->fault_weights) != 0 ? 1 : 0);
}

/* Said now and compared with the verdict of the next step, or of a validation: that costs no message. */
static void say_weights(ls_fit *f) {
    if (f->job.verify_every > 0 && f->step % (uint64_t)f->job.verify_every == 0) {
        ls_engine_say_digest(f->engine, digest_of_weights(f));
    }
}

/* At the end, when there is no verdict to come. The same sentence on all. */
static ls_status verify_weights(ls_fit *f, ls_err *err) {
    uint64_t mine = f->job.verify_every > 0 ? digest_of_weights(f) : 0, *all = f->hashes;
    ls_team_allgather(f->team, &mine, sizeof mine, all);
    int odd = 0;
    for (int r = 1; r < f->team->size && odd == 0; r++) {
        odd = all[r] != all[0] ? r : 0;
    }
    return odd == 0 ? LS_OK : fail_odd_weights(f, odd, err);
}

static double rate_of_step(const ls_fit *f) {
    return f->schedule.class_ != NULL ? ls_schedule_rate(&f->schedule, (double)ls_engine_iterations(f->engine))
                                      : f->moment.learning_rate;
}

static void report_step(ls_fit *f) {
    double seconds = (double)(ls_now_ns() - f->started_ns) * 1e-9;
    double left =
        (double)(f->job.epochs - f->epoch) * (double)f->n_samples - (double)f->batch * (double)f->job.batch_size;
    f->trained_samples_per_s = seconds > 0 ? (double)f->seen / seconds : 0;
    ls_bar bar = {.epoch = f->epoch + 1,
                  .epochs = f->job.epochs,
                  .step = f->batch,
                  .steps = f->steps,
                  .samples_per_s = f->trained_samples_per_s,
                  .eta_s = f->trained_samples_per_s > 0 ? fmax(left, 0) / f->trained_samples_per_s : 0,
                  .logs = &f->logs};
    ls_report_step(f->report, &bar);
    ls_fit_collect(f);
}

static unsigned flags_now(ls_fit *f) {
    bool busy = f->chief && ls_checkpoint_writer_busy(f->writer);
    return (ls_stop_requested() ? LS_FLAG_STOP : 0) | (busy ? LS_FLAG_BUSY : 0);
}

/* The step at f->batch. *flags: what any rank asked for. */
static ls_status train_one(ls_fit *f, unsigned *flags, ls_err *err) {
    size_t first = (size_t)(f->batch * f->job.batch_size);
    size_t n = f->n_samples - first < (size_t)f->job.batch_size ? f->n_samples - first : (size_t)f->job.batch_size;
    ls_verdict v = {.sums = f->step_sums};
    f->moment.epoch = f->epoch;
    f->moment.batch = f->batch;
    f->moment.step = f->step;
    ls_progress_phase(f->team->progress, LS_DOING_TRAIN, f->step);
    pass_faults(f);
    ls_walk_ahead(&f->walk, f->engine, f->train, first);
    LS_TRY(ls_callbacks_call(&f->callbacks, LS_BATCH_BEGIN, &f->moment, err));
    LS_TRY(ls_engine_train_step(f->engine, ls_source_feed(f->train), f->order + first, n, f->step, rate_of_step(f),
                                flags_now(f), &v, err));
    if (v.odd_rank >= 0) {
        return fail_odd_weights(f, v.odd_rank, err);
    }
    if (v.non_finite && f->job.stop_on_nonfinite && !ls_callbacks_have(&f->callbacks, "TerminateOnNaN")) {
        return fail_non_finite(f, &v, err);
    }
    for (int i = 0; i < f->n_sums; i++) {
        f->sums[i] += f->step_sums[i];
    }
    f->batch++;
    f->step++;
    f->seen += n;
    *flags = v.flags;
    ls_fit_logs(f, f->sums, "", &f->logs);
    LS_TRY(ls_callbacks_call(&f->callbacks, LS_BATCH_END, &f->moment, err));
    if (f->chief) {
        ls_tuned tuned;
        report_step(f);
        if (ls_engine_tuned(f->engine, &tuned)) {
            ls_report_tuned(f->report, &tuned);
        }
    }
    say_weights(f);
    return LS_OK;
}

/* ---- one epoch ---- */

/* Leaves on a request: all ranks alike, after the same step. */
static ls_status leave(ls_fit *f, ls_err *err) {
    f->settled = false;
    LS_TRY(ls_fit_checkpoint(f, NULL, false, err));
    LS_TRY(ls_fit_flush(f, err));
    return ls_fail(err, LS_ESTOPPED,
                   "stopped on request after step %llu (epoch %lld, %lld of %lld steps); go on with "
                   "--resume --run-dir %s",
                   (unsigned long long)f->step, (long long)f->epoch + 1, (long long)f->batch, (long long)f->steps,
                   f->run_path);
}

/* The order of an epoch, and the walk through it from a batch on. */
static void begin_walk(ls_fit *f, int64_t epoch, int64_t batch) {
    if (f->ordered_epoch != epoch) {
        if (f->job.shuffle) {
            ls_rng_permutation((uint64_t)f->job.seed, (uint64_t)epoch, f->n_samples, f->order);
        } else {
            memcpy(f->order, f->in_order, f->n_samples * sizeof *f->order);
        }
        size_t size = (size_t)f->job.batch_size;
        f->walk =
            (ls_walk){.order = f->order, .n_samples = f->n_samples, .batch = size, .announced = (size_t)batch * size};
        f->ordered_epoch = epoch;
    }
}

static bool validates(const ls_fit *f, int64_t epoch) {
    return f->validation != NULL && (epoch + 1) % f->job.validation_freq == 0;
}

/* The epoch's first samples and those of its validation are read first; then there is no waiting when it comes. */
static void begin_epoch(ls_fit *f) {
    begin_walk(f, f->epoch, f->batch);
    ls_walk_ahead(&f->walk, f->engine, f->train, (size_t)f->batch * f->walk.batch);
    if (validates(f, f->epoch)) {
        int64_t size = f->job.validation_batch_size > 0 ? f->job.validation_batch_size : f->job.batch_size;
        size_t n = ls_source_feed(f->validation)->n_samples;
        f->validation_walk = (ls_walk){.order = f->in_order, .n_samples = n, .batch = (size_t)size};
        ls_walk_ahead(&f->validation_walk, f->engine, f->validation, 0);
    }
}

/* Those of the next epoch, while there is something else to do. */
static void look_past_epoch(ls_fit *f) {
    if (f->batch == f->steps && f->epoch + 1 < f->job.epochs) {
        begin_walk(f, f->epoch + 1, 0);
        ls_walk_ahead(&f->walk, f->engine, f->train, 0);
    }
}

/* The texts of this epoch's checkpoints, unless a callback that looks at batches has something to remember. */
static void settle(ls_fit *f) {
    f->settled = f->chief && f->job.every_steps > 0 && !ls_callbacks_change_in_batches(&f->callbacks);
    if (f->settled) {
        ls_fit_state_settle(f);
    }
}

static ls_status train_epoch(ls_fit *f, ls_err *err) {
    begin_epoch(f);
    f->started_ns = ls_now_ns();
    f->seen = 0;
    f->logs.n = 0;
    if (f->batch == 0) {
        memset(f->sums, 0, (size_t)f->n_sums * sizeof *f->sums);
        f->moment.epoch = f->epoch;
        if (f->job.reset_states) {
            ls_engine_reset_states(f->engine);
        }
        LS_TRY(ls_callbacks_call(&f->callbacks, LS_EPOCH_BEGIN, &f->moment, err));
    }
    settle(f);
    while (f->batch < f->steps && !f->moment.stop) {
        unsigned flags = 0;
        LS_TRY(train_one(f, &flags, err));
        if (flags & LS_FLAG_STOP) {
            return leave(f, err);
        }
        if (f->job.every_steps > 0 && f->step % (uint64_t)f->job.every_steps == 0) {
            f->checkpoint_due = true;
        }
        if (f->checkpoint_due && !(flags & LS_FLAG_BUSY) && f->batch < f->steps) {
            LS_TRY(ls_fit_checkpoint(f, NULL, false, err));
            f->checkpoint_due = false;
        }
    }
    look_past_epoch(f);
    return LS_OK;
}

static ls_status validate(ls_fit *f, ls_err *err) {
    double *sums = ls_xcalloc((size_t)f->n_sums + 1, sizeof *sums);
    const ls_feed *feed = ls_source_feed(f->validation);
    size_t batch = f->validation_walk.batch;
    ls_status status = LS_OK;
    ls_engine_mark_states(f->engine);
    if (f->job.reset_states) {
        ls_engine_reset_states(f->engine);
    }
    for (size_t first = 0; first < feed->n_samples && status == LS_OK; first += batch) {
        size_t n = feed->n_samples - first < batch ? feed->n_samples - first : batch;
        ls_verdict v = {.sums = f->step_sums};
        ls_progress_phase(f->team->progress, LS_DOING_VALIDATE, f->step);
        ls_walk_ahead(&f->validation_walk, f->engine, f->validation, first);
        (void)ls_fault_at(f->fault_validate); /* nothing that could fail */
        status = ls_engine_evaluate_step(f->engine, feed, f->in_order + first, n,
                                         ls_stop_requested() ? LS_FLAG_STOP : 0, &v, err);
        status = status == LS_OK && v.odd_rank >= 0 ? fail_odd_weights(f, v.odd_rank, err) : status;
        for (int i = 0; status == LS_OK && i < f->n_sums; i++) {
            sums[i] += f->step_sums[i];
        }
        if (status == LS_OK && (v.flags & LS_FLAG_STOP)) {
            ls_engine_return_states(f->engine);
            status = leave(f, err); /* validation is done again after the resume */
        }
    }
    if (status == LS_OK) {
        ls_fit_logs(f, sums, "val_", &f->logs);
        ls_tables_release(&f->tables);
        ls_fit_tables(f, sums, "val_", &f->tables);
    }
    free(sums);
    return status;
}

/* The decision of rank 0 counts: were another rank's callbacks ever to see other numbers, it would be found here and
 * not in a rank that waits for ever. */
static ls_status agree_on_decision(ls_fit *f, ls_err *err) {
    struct {
        double learning_rate;
        int64_t stop;
    } mine = {f->moment.learning_rate, f->moment.stop};
    char text[96];
    snprintf(text, sizeof text, "learning rate %.17g, stop %d", mine.learning_rate, (int)mine.stop);
    return ls_team_check_same(f->team, "the decision of the callbacks", ls_hash64(&mine, sizeof mine), text, err);
}

static ls_status finish_epoch(ls_fit *f, ls_err *err) {
    f->settled = false;
    f->checkpoint_due = false;
    double learning_rate = rate_of_step(f);
    f->logs.n = 0;
    ls_fit_logs(f, f->sums, "", &f->logs);
    if (f->validation == NULL) {
        ls_tables_release(&f->tables);
        ls_fit_tables(f, f->sums, "", &f->tables);
    }
    if (validates(f, f->epoch)) {
        LS_TRY(validate(f, err));
    }
    ls_logs_set(&f->logs, "lr", learning_rate);
    f->moment.epoch = f->epoch;
    ls_status mine = ls_callbacks_call(&f->callbacks, LS_EPOCH_END, &f->moment, err);
    LS_TRY(ls_team_agree(f->team, mine, err));
    LS_TRY(agree_on_decision(f, err));
    f->epoch++;
    f->batch = 0;
    memset(f->sums, 0, (size_t)f->n_sums * sizeof *f->sums);
    ls_history_add(&f->history, f->epoch, &f->logs);
    if (f->chief) {
        ls_bar bar = {.epoch = f->epoch,
                      .epochs = f->job.epochs,
                      .step = f->steps,
                      .steps = f->steps,
                      .samples_per_s = f->trained_samples_per_s,
                      .seconds = (double)(ls_now_ns() - f->started_ns) * 1e-9,
                      .logs = &f->logs};
        ls_report_epoch(f->report, &bar, learning_rate);
    }
    bool last = f->epoch >= f->job.epochs || f->moment.stop;
    if (last || (f->job.every_epochs > 0 && f->epoch % f->job.every_epochs == 0)) {
        return ls_fit_checkpoint(f, NULL, false, err);
    }
    return LS_OK;
}

/* ---- the run ---- */

/* The last files could not be written: what there is all the same. The chief knows. */
static void say_what_is_left(const ls_fit *f, ls_err *err) {
    ls_err why = *err;
    ls_fail(err, why.status, "%.500s; %s%s: go on with --resume --run-dir %s", why.text,
            f->last_good != NULL ? "the last good checkpoint is " : "no checkpoint has been written",
            f->last_good != NULL ? f->last_good : "", f->run_path);
}

/* The weights as the callbacks leave them, for people to deploy. */
static ls_status write_final(ls_fit *f, ls_err *err) {
    ls_status mine = ls_callbacks_call(&f->callbacks, LS_TRAIN_END, &f->moment, err);
    LS_TRY(ls_team_agree(f->team, mine, err));
    char *path = ls_path_join(f->run_path, "final.h5");
    ls_status status = ls_fit_checkpoint(f, path, false, err);
    if (status == LS_OK) {
        status = ls_fit_flush(f, err);
        if (status != LS_OK && f->chief) {
            say_what_is_left(f, err);
        }
    }
    free(path);
    return status;
}

static void say_result(ls_fit *f, double seconds, char *message, size_t size) {
    char took[48], numbers[600] = "";
    size_t used = 0;
    for (int i = 0; i < f->logs.n && used < sizeof numbers; i++) {
        used += (size_t)snprintf(numbers + used, sizeof numbers - used, "%s%s %.4g", i ? ", " : "",
                                 f->logs.item[i].name, f->logs.item[i].value);
    }
    snprintf(message, size, "done after epoch %lld in %s%s%s%s%s%s", (long long)f->epoch,
             ls_format_duration(took, sizeof took, seconds), f->moment.stop && f->moment.reason[0] ? " (" : "",
             f->moment.stop ? f->moment.reason : "", f->moment.stop && f->moment.reason[0] ? ")" : "",
             numbers[0] ? "; the last epoch: " : "", numbers);
    ls_report_say(f->report, "%s\nweights: %s/final.h5", message, f->run_path);
}

/* Tables are printed, and written to the run folder as NAME.csv. */
static ls_status give_tables(ls_fit *f, ls_err *err) {
    ls_status status = LS_OK;
    for (int i = 0; f->chief && i < f->tables.n && status == LS_OK; i++) {
        const ls_table *t = &f->tables.item[i];
        char *text = ls_table_text(t), *csv = ls_table_csv(t);
        char *file = ls_xprintf("%s.csv", t->name), *path = ls_path_join(f->run_path, file);
        status = ls_file_write_atomic(path, csv, strlen(csv), err);
        text[strlen(text) - 1] = '\0';
        ls_report_say(f->report, "%s", text);
        free(text);
        free(csv);
        free(file);
        free(path);
    }
    return ls_team_agree(f->team, status, err);
}

static ls_status run(ls_fit *f, ls_err *err) {
    int64_t begun = ls_now_ns();
    LS_TRY(ls_fit_setup(f, err));
    LS_TRY(ls_fit_trace_begin(f, err));
    while (f->epoch < f->job.epochs && !(f->moment.stop && f->batch == 0)) {
        LS_TRY(train_epoch(f, err));
        LS_TRY(finish_epoch(f, err));
    }
    LS_TRY(verify_weights(f, err));
    LS_TRY(write_final(f, err));
    LS_TRY(give_tables(f, err));
    if (f->chief) {
        char message[1000];
        say_result(f, (double)(ls_now_ns() - begun) * 1e-9, message, sizeof message);
        ls_report_end(f->report, LS_OK, message);
    }
    return LS_OK;
}

ls_status ls_fit_run(struct ls_team *team, const ls_fit_request *request, ls_err *err) {
    ls_fit *f = ls_xcalloc(1, sizeof *f);
    f->team = team;
    f->chief = team->rank == 0;
    f->request = request;
    ls_stop_install();
    ls_status status = run(f, err);
    ls_fit_trace_end(f, status);
    if (status != LS_OK && f->chief && f->report != NULL) {
        ls_report_end(f->report, status, err->text);
    }
    ls_progress_phase(team->progress, LS_DOING_FINISH, f->step);
    ls_watchdog_stop(team);
    ls_fit_release(f);
    free(f);
    return status;
}
