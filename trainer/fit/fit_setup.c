#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "storage/hash.h"
#include "trainer/fit/fit_private.h"
#include "trainer/fit/keras_file.h"
#include "trainer/fit/number.h"
#include "trainer/fit/stop.h"
#include "worker/dnn/dnn.h"
#include "worker/reduce/watchdog.h"

enum { LOCK_WAIT_MS = 10000 };

/* Of the watchdog's limit, so that a disk is named before the rank that waits for it. */
static const double READ_SHARE = 0.8;

/* ---- the job: rank 0 reads, the others are told ---- */

static ls_status load_job(ls_fit *f, ls_err *err) {
    ls_status mine = LS_OK;
    if (f->chief) {
        mine = ls_job_load(&f->job, f->request->job_path, f->request->sets, f->request->n_sets, err);
        if (mine == LS_OK) {
            mine = ls_job_text(&f->job, &f->job_text, err);
        }
    }
    LS_TRY(ls_team_agree(f->team, mine, err));
    size_t n = f->chief ? strlen(f->job_text) : 0;
    ls_team_bcast_text(f->team, 0, &f->job_text, &n);
    if (!f->chief) {
        mine = ls_job_parse(&f->job, f->request->job_path, "/", f->job_text, NULL, 0, err);
    }
    return ls_team_agree(f->team, mine, err);
}

/* ---- the run folder ---- */

static char *new_run_path(const ls_job *job) {
    char stamp[32];
    time_t now = time(NULL);
    struct tm local;
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", localtime_r(&now, &local));
    return ls_xprintf("runs/%s-%s", job->name, stamp);
}

static ls_status open_run(ls_fit *f, ls_err *err) {
    char *path = f->request->run_dir != NULL ? ls_xstrdup(f->request->run_dir) : new_run_path(&f->job);
    char *whole = ls_path_absolute(path);
    ls_run_mode mode = f->request->resume ? LS_RUN_RESUME : LS_RUN_NEW;
    ls_status status = strlen(whole) < sizeof f->run_path
                           ? ls_fit_trace_check(f, whole, err)
                           : ls_fail(err, LS_EINPUT, "%s: the path of the run folder is too long", path);
    if (status == LS_OK) {
        status = ls_run_folder_open(&f->run, whole, mode, LOCK_WAIT_MS, err);
    }
    if (status == LS_OK) {
        snprintf(f->run_path, sizeof f->run_path, "%s", whole);
        status = ls_run_folder_write_job(&f->run, f->job_text, err);
    }
    if (status == LS_OK) {
        status = ls_checkpoint_writer_create(&f->writer, f->run.checkpoints, (int)f->job.keep, err);
    }
    free(path);
    free(whole);
    return status;
}

static ls_status open_report(ls_fit *f, ls_err *err) {
    char *job = ls_path_absolute(f->request->job_path);
    ls_report_options options = {.run = &f->run,
                                 .job_path = job,
                                 .host = f->team->hosts[0],
                                 .ranks = f->team->size,
                                 .quiet = f->request->quiet,
                                 .control = f->request->control,
                                 .columns = f->columns,
                                 .n_columns = f->n_columns};
    ls_status status = ls_report_create(&f->report, &options, err);
    free(job);
    return status;
}

static ls_status open_outputs(ls_fit *f, ls_err *err) {
    ls_status mine = LS_OK;
    if (f->chief) {
        mine = open_run(f, err);
        if (mine == LS_OK) {
            mine = open_report(f, err);
        }
    }
    LS_TRY(ls_team_agree(f->team, mine, err));
    ls_team_bcast(f->team, 0, f->run_path, sizeof f->run_path);
    return LS_OK;
}

/* ---- data ---- */

static ls_status open_data(ls_fit *f, ls_err *err) {
    ls_source_options options = {.scale = f->job.scale,
                                 .offset = f->job.offset,
                                 .memory_gb = f->job.memory_gb,
                                 .deadline_s = READ_SHARE * f->job.watchdog_seconds,
                                 .n_class_weights = f->job.n_class_weights,
                                 .class_weight = f->job.class_weight,
                                 .class_weight_at = f->job.class_weight_at};
    LS_TRY(ls_source_open(&f->train, f->team, f->job.train, f->model, &f->compile, &options, err));
    size_t n = ls_source_feed(f->train)->n_samples;
    if (f->job.validation != NULL) {
        options.n_class_weights = 0;
        LS_TRY(ls_source_open(&f->validation, f->team, f->job.validation, f->model, &f->compile, &options, err));
    } else if (f->job.validation_split > 0) {
        /* Keras: split_at = floor(n * (1 - validation_split)) */
        size_t split = (size_t)floor((double)n * (1.0 - f->job.validation_split));
        if (split == 0 || split == n) {
            return ls_fail(err, LS_EINPUT, "%s: data.validation_split %g leaves %zu of its %zu samples for training",
                           f->job.train, f->job.validation_split, split, n);
        }
        f->validation = ls_source_slice(f->train, split, n - split);
        ls_source_truncate(f->train, split);
    }
    f->n_samples = ls_source_feed(f->train)->n_samples;
    f->steps = ((int64_t)f->n_samples + f->job.batch_size - 1) / f->job.batch_size;
    size_t n_validation = f->validation != NULL ? ls_source_feed(f->validation)->n_samples : 0;
    size_t most = n_validation > f->n_samples ? n_validation : f->n_samples;
    f->order = ls_xcalloc(f->n_samples, sizeof *f->order);
    f->in_order = ls_xcalloc(most, sizeof *f->in_order);
    f->ordered_epoch = -1;
    for (size_t i = 0; i < most; i++) {
        f->in_order[i] = (uint32_t)i;
    }
    for (int i = 0; f->validation != NULL && i < f->n_names; i++) {
        f->columns[f->n_columns++] = ls_xprintf("val_%s", f->names[i]);
    }
    f->columns[f->n_columns++] = "lr";
    return LS_OK;
}

/* ---- the engine ---- */

static ls_status start_watchdog(ls_fit *f, ls_err *err) {
    ls_watchdog_options options;
    ls_watchdog_options_init(&options);
    options.limit_s[LS_DOING_TRAIN] = options.limit_s[LS_DOING_VALIDATE] = f->job.watchdog_seconds;
    if (f->job.watchdog_seconds == 0) {
        for (int i = 0; i < LS_DOING_COUNT; i++) {
            options.limit_s[i] = 0;
        }
    }
    return ls_watchdog_start(f->team, &options, err);
}

/* Lanes are what is accumulated over: with lanes, a rank accumulates over lanes / ranks steps anyway. */
static ls_status check_accumulation(const ls_fit *f, ls_err *err) {
    int64_t steps = f->job.accumulation_steps, lanes = f->job.lanes;
    if (steps > 1 && lanes > 0 && lanes != steps * f->team->size) {
        return ls_fail(err, LS_EINPUT,
                       "distribute.accumulation_steps is %lld, but distribute.lanes is %lld, of which each of %d ranks "
                       "accumulates its share one after the other: give one of the two, lanes if the bits shall not "
                       "depend on the ranks",
                       (long long)steps, (long long)lanes, f->team->size);
    }
    return LS_OK;
}

static ls_status create_engine(ls_fit *f, ls_err *err) {
    LS_TRY(check_accumulation(f, err));
    int64_t batch = f->job.batch_size, n = (int64_t)f->n_samples;
    int64_t eval_batch = f->job.validation_batch_size > 0 ? f->job.validation_batch_size : batch;
    int64_t n_validation = f->validation != NULL ? (int64_t)ls_source_feed(f->validation)->n_samples : 0;
    ls_engine_options options = {
        .batch = batch < n ? batch : n,
        .eval_batch = eval_batch,
        .lanes = (int)f->job.lanes,
        .lanes_per_rank = (int)f->job.accumulation_steps,
        .sync_batch_norm = f->job.sync_batch_norm,
        .compute = f->job.bfloat16 ? LS_BF16 : LS_F32,
        .direct_convolution = f->job.direct_convolution,
        .dense_tables = !f->job.sparse,
        .wire_bfloat16 = f->job.wire_bfloat16,
        .seed = (uint64_t)f->job.seed,
        .bucket_bytes = (size_t)(f->job.bucket_mb * 1e6),
        .n_threads = (int)f->job.threads,
        .last_batch = n % batch,
        .last_eval_batch = n_validation % eval_batch,
        .sample_weights = ls_source_weighted(f->train) || (f->validation != NULL && ls_source_weighted(f->validation))};
    LS_TRY(ls_engine_create(&f->engine, f->team, f->model, &f->compile, &options, err));
    f->n_sums = ls_engine_n_sums(f->engine);
    f->sums = ls_xcalloc((size_t)f->n_sums + 1, sizeof *f->sums);
    size_t n_states = ls_engine_n_state_elems(f->engine);
    f->states = f->chief && n_states > 0 ? ls_xcalloc(n_states, sizeof *f->states) : NULL;
    f->step_sums = ls_xcalloc((size_t)f->n_sums + 1, sizeof *f->step_sums);
    f->hashes = ls_xcalloc((size_t)f->team->size, sizeof *f->hashes);
    return LS_OK;
}

static ls_status check_same_program(ls_fit *f, ls_err *err) {
    char mine[160];
    snprintf(mine, sizeof mine, "lockstep %s, oneDNN %s, %s", LOCKSTEP_VERSION, ls_dnn_version(), ls_dnn_isa());
    LS_TRY(ls_team_check_same(f->team, "the program", ls_hash64(mine, strlen(mine)), mine, err));
    return ls_team_check_same(f->team, "the job", ls_hash64(f->job_text, strlen(f->job_text)), f->job.name, err);
}

/* ---- what callbacks may ask for ---- */

static ls_status port_get(void *self, float *out, ls_err *err) {
    ls_fit *f = self;
    (void)err;
    for (int w = 0; f->chief && w < f->model->n_weights; w++) {
        ls_engine_get(f->engine, f->model->weights[w], -1, out);
        out += ls_shape_elems(&f->model->weights[w]->shape);
    }
    return LS_OK;
}

static ls_status port_set(void *self, const float *in, ls_err *err) {
    ls_fit *f = self;
    (void)err;
    for (int w = 0; f->chief && w < f->model->n_weights; w++) {
        ls_engine_set(f->engine, f->model->weights[w], -1, in);
        in += ls_shape_elems(&f->model->weights[w]->shape);
    }
    ls_engine_publish(f->engine);
    return LS_OK;
}

static ls_status port_save(void *self, const char *path, bool weights_only, ls_err *err) {
    return ls_fit_checkpoint(self, path, weights_only, err);
}

static void port_say(void *self, bool warning, const char *text) {
    ls_fit *f = self;
    if (warning) {
        ls_report_warning(f->report, text);
    } else {
        ls_report_say(f->report, "%s", text);
    }
}

static void port_share(void *self, void *bytes, size_t n_bytes) {
    ls_team_bcast(((ls_fit *)self)->team, 0, bytes, n_bytes);
}

static void open_port(ls_fit *f) {
    f->port = (ls_callback_port){.self = f,
                                 .run_folder = f->run_path,
                                 .get = port_get,
                                 .set = port_set,
                                 .save = port_save,
                                 .say = port_say,
                                 .share = port_share};
    for (int w = 0; w < f->model->n_weights; w++) {
        f->port.n_elems += (size_t)ls_shape_elems(&f->model->weights[w]->shape);
    }
    f->moment = (ls_moment){
        .chief = f->chief, .learning_rate = f->compile.optimizer.learning_rate, .logs = &f->logs, .port = &f->port};
}

/* ---- */

/* Whether a rank was asked to stop during set-up. Collective. */
static bool asked_to_stop(ls_fit *f) {
    bool mine = ls_stop_requested(), any = false;
    bool *all = ls_xcalloc((size_t)f->team->size, sizeof *all);
    ls_team_allgather(f->team, &mine, sizeof mine, all);
    for (int r = 0; r < f->team->size; r++) {
        any = any || all[r];
    }
    free(all);
    return any;
}

static void say_what_is_run(ls_fit *f) {
    ls_engine_info info;
    char n_params[32], n_train[32], n_validation[48] = "";
    ls_engine_describe(f->engine, &info);
    const char *colon = strrchr(f->job.train, ':'), *data = f->job.train;
    for (const char *p = data; *p != '\0' && (colon == NULL || p < colon); p++) {
        data = *p == '/' ? p + 1 : data;
    }
    ls_count_text((double)f->port.n_elems, n_params, sizeof n_params);
    ls_count_text((double)f->n_samples, n_train, sizeof n_train);
    if (f->validation != NULL) {
        char n[32];
        snprintf(n_validation, sizeof n_validation, " (%s for validation)",
                 ls_count_text((double)ls_source_feed(f->validation)->n_samples, n, sizeof n));
    }
    ls_report_say(f->report,
                  "%s: %s, %s parameters; %s samples%s of %s%s; %d rank%s x %d thread%s, %s%d lane%s, %s, %s; %s",
                  f->job.name, f->model->name, n_params, n_train, n_validation, data,
                  ls_source_in_memory(f->train) ? "" : " (read from the file as needed)", f->team->size,
                  f->team->size == 1 ? "" : "s", info.n_threads, info.n_threads == 1 ? "" : "s",
                  f->job.lanes > 0 ? "" : "unfixed ", info.lanes, info.lanes == 1 ? "" : "s",
                  f->job.bfloat16 ? "bfloat16" : "float32", info.isa, f->run_path);
}

/* Whoever accumulates wants to save memory, which lanes that wait for each other in a step do not. */
static void warn_of_memory(ls_fit *f) {
    ls_engine_info info;
    ls_engine_describe(f->engine, &info);
    if (f->job.accumulation_steps > 1 && info.lanes_meet) {
        ls_report_warning(f->report,
                          "distribute.accumulation_steps saves no memory here: synchronized batch normalization and "
                          "losses of masked outputs need the activations of the whole batch at a time");
    }
}

/* Where the job names initial weights: rank 0 reads, all get them. A run that goes on from a checkpoint has others. */
static ls_status take_weights(ls_fit *f, ls_err *err) {
    if (f->job.weights == NULL) {
        return LS_OK;
    }
    ls_checkpoint file = {0};
    ls_status mine = f->chief ? ls_checkpoint_read(f->job.weights, &file, err) : LS_OK;
    if (f->chief && mine == LS_OK) {
        mine = ls_keras_set_weights(f->engine, f->model, &file, f->job.weights, err);
    }
    ls_checkpoint_release(&file);
    LS_TRY(ls_team_agree(f->team, mine, err));
    ls_engine_publish(f->engine);
    return LS_OK;
}

static ls_status start_state(ls_fit *f, ls_err *err) {
    ls_history_init(&f->history);
    f->epoch = f->job.initial_epoch;
    f->step = (uint64_t)(f->epoch * f->steps);
    snprintf(f->fault_step, sizeof f->fault_step, "rank%d.step", f->team->rank);
    snprintf(f->fault_nan, sizeof f->fault_nan, "rank%d.nan", f->team->rank);
    snprintf(f->fault_weights, sizeof f->fault_weights, "rank%d.weights", f->team->rank);
    snprintf(f->fault_validate, sizeof f->fault_validate, "rank%d.validate", f->team->rank);
    LS_TRY(ls_team_agree(f->team, ls_callbacks_call(&f->callbacks, LS_TRAIN_BEGIN, &f->moment, err), err));
    bool found = false;
    if (f->request->resume) {
        LS_TRY(ls_fit_resume(f, &found, err));
        LS_TRY(found ? LS_OK : take_weights(f, err));
    }
    ls_status mine = f->chief && f->job.every_steps > 0 ? ls_fit_reserve_snapshot(f, err) : LS_OK;
    if (mine == LS_OK && f->chief && f->request->resume) {
        mine = ls_run_folder_trim_history(&f->run, f->epoch, err);
    }
    LS_TRY(ls_team_agree(f->team, mine, err));
    if (f->chief) {
        say_what_is_run(f);
        warn_of_memory(f);
        ls_report_start(f->report, f->job.epochs, f->steps, f->resumed_from);
        if (found) {
            ls_report_say(f->report, "resumed from %s: epoch %lld, after %lld of %lld steps", f->resumed_from,
                          (long long)f->epoch + 1, (long long)f->batch, (long long)f->steps);
        } else if (f->request->resume) {
            ls_report_say(f->report, "%s holds no checkpoint yet: training begins at the start", f->run_path);
        }
    }
    return LS_OK;
}

ls_status ls_fit_setup(ls_fit *f, ls_err *err) {
    LS_TRY(load_job(f, err));
    LS_TRY(start_watchdog(f, err));
    LS_TRY(check_same_program(f, err));
    LS_TRY(ls_fit_load_plugins(f, f->job.plugins, f->job.folder, err));
    LS_TRY(ls_fit_build_model(f, err));
    LS_TRY(ls_team_agree(f->team, open_data(f, err), err));
    if (ls_schedule_needs_run(&f->schedule)) {
        ls_schedule_set_run(&f->schedule, (double)f->job.batch_size, (double)f->steps);
    }
    LS_TRY(create_engine(f, err));
    if (!f->request->resume) {
        LS_TRY(take_weights(f, err));
    }
    LS_TRY(open_outputs(f, err));
    open_port(f);
    LS_TRY(start_state(f, err));
    if (asked_to_stop(f)) {
        return ls_fail(err, LS_ESTOPPED, "stopped on request before the first step; go on with --resume --run-dir %s",
                       f->run_path);
    }
    return LS_OK;
}

void ls_fit_release(ls_fit *f) {
    ls_err ignored = LS_ERR_INIT;
    if (f->writer != NULL && ls_checkpoint_writer_destroy(f->writer, &ignored) != LS_OK) {
        ls_warn("%s", ignored.text);
    }
    ls_report_destroy(f->report);
    ls_run_folder_release(&f->run);
    if (f->engine != NULL) {
        ls_engine_destroy(f->engine);
    }
    ls_source_destroy(f->validation);
    ls_source_destroy(f->train);
    ls_callbacks_release(&f->callbacks);
    ls_schedule_release(&f->schedule);
    ls_compile_release(&f->compile);
    ls_model_destroy(f->model);
    ls_callbacks_drop_added();
    ls_plugins_release(&f->plugins); /* when nothing is left that its code made */
    ls_json_release(&f->plugin_words);
    ls_tables_release(&f->tables);
    ls_job_release(&f->job);
    if (f->history.lists != NULL) {
        ls_history_release(&f->history);
    }
    for (int i = f->n_names; i < f->n_columns - 1; i++) { /* val_...; the last is "lr" */
        free((char *)f->columns[i]);
    }
    free(f->columns);
    free(f->names);
    free(f->job_text);
    free(f->sums);
    free(f->states);
    free(f->step_sums);
    free(f->hashes);
    free(f->order);
    free(f->in_order);
    free(f->last_good);
    free(f->resumed_from);
    ls_checkpoint_release(&f->snapshot);
    free(f->constant_state);
    free(f->epoch_state);
    free(f->training_config);
}
