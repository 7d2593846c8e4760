#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/trace.h"
#include "trainer/fit/fit_private.h"

/* In seconds: how often the chief says that it still waits for a disk, and how long it does at most. */
#define SIGN_OF_LIFE_S 0.25
enum { WRITE_S = 600 };

const ls_layer *ls_fit_group_of(const ls_weight *w) {
    const ls_layer *layer = w->layer;
    while (layer->parent != NULL) {
        layer = layer->parent;
    }
    return layer;
}

static bool has_slots(const ls_weight *w) {
    return w->role == LS_WEIGHT_PARAM && w->trainable;
}

static const char *const *slot_names(const ls_fit *f) {
    return f->compile.optimizer.class_->slots(&f->compile.optimizer);
}

/* "callback0.best": its number in the list. */
static void kept_name(int callback, char *out, size_t size) {
    snprintf(out, size, "callback%d.weights", callback);
}

static float *kept_weights(const ls_fit *f, int callback, bool **present) {
    ls_callback *cb = f->callbacks.item[callback];
    return cb->class_->weights != NULL ? cb->class_->weights(cb, present) : NULL;
}

/* ---- the layout of a checkpoint ---- */

static ls_status lay_out_weights(const ls_fit *f, ls_checkpoint *c, ls_err *err) {
    for (int l = 0, w = 0; l < f->model->n_layers; l++) {
        const ls_layer *layer = f->model->layers[l];
        if (layer->builtin_input && f->model->sequential) {
            continue;
        }
        LS_TRY(ls_checkpoint_add_layer(c, layer->name, err));
        for (; w < f->model->n_weights && ls_fit_group_of(f->model->weights[w]) == layer; w++) {
            const ls_weight *weight = f->model->weights[w];
            uint64_t dims[LS_MAX_RANK];
            float *data;
            for (int i = 0; i < weight->shape.rank; i++) {
                dims[i] = (uint64_t)weight->shape.dim[i];
            }
            LS_TRY(ls_checkpoint_add_weight(c, weight->path, weight->shape.rank, dims, &data, err));
        }
    }
    return LS_OK;
}

static ls_status lay_out(const ls_fit *f, ls_checkpoint *c, bool weights_only, ls_err *err) {
    LS_TRY(lay_out_weights(f, c, err));
    if (weights_only) {
        return LS_OK;
    }
    const char *const *slots = slot_names(f);
    for (int s = 0; slots[s] != NULL; s++) {
        for (int w = 0; w < f->model->n_weights; w++) {
            const ls_weight *weight = f->model->weights[w];
            float *data;
            if (has_slots(weight)) {
                LS_TRY(ls_checkpoint_add_slot(c, slots[s], ls_fit_group_of(weight)->name, weight->path, &data, err));
            }
        }
    }
    uint64_t n_sums = (uint64_t)f->n_sums, n_elems = f->port.n_elems;
    void *data;
    LS_TRY(ls_checkpoint_add_array(c, "sums", LS_H5_F64, 1, &n_sums, &data, err));
    uint64_t n_states = (uint64_t)ls_engine_n_state_elems(f->engine);
    if (n_states > 0) {
        LS_TRY(ls_checkpoint_add_array(c, "states", LS_H5_F32, 1, &n_states, &data, err));
    }
    for (int k = 0; k < f->callbacks.n; k++) {
        bool *present;
        char name[48];
        kept_name(k, name, sizeof name);
        if (kept_weights(f, k, &present) != NULL) {
            LS_TRY(ls_checkpoint_add_array(c, name, LS_H5_F32, 1, &n_elems, &data, err));
        }
    }
    char *config = ls_model_config_text(f->model);
    ls_checkpoint_set_text(&c->model_config, config);
    free(config);
    c->has_state = true;
    return LS_OK;
}

static void fill(const ls_fit *f, ls_checkpoint *c) {
    for (int w = 0; w < f->model->n_weights; w++) {
        const ls_weight *weight = f->model->weights[w];
        const char *group = ls_fit_group_of(weight)->name;
        ls_engine_get(f->engine, weight, -1, ls_checkpoint_find_weight(c, group, weight->path)->data);
    }
    if (!c->has_state) {
        return;
    }
    const char *const *slots = slot_names(f);
    for (int s = 0; slots[s] != NULL; s++) {
        for (int w = 0; w < f->model->n_weights; w++) {
            const ls_weight *weight = f->model->weights[w];
            if (has_slots(weight)) {
                ls_engine_get(f->engine, weight, s,
                              ls_checkpoint_find_slot(c, slots[s], ls_fit_group_of(weight)->name, weight->path)->data);
            }
        }
    }
    memcpy(ls_checkpoint_find_array(c, "sums")->data, f->sums, (size_t)f->n_sums * sizeof *f->sums);
    if (f->states != NULL) {
        memcpy(ls_checkpoint_find_array(c, "states")->data, f->states,
               ls_engine_n_state_elems(f->engine) * sizeof *f->states);
    }
    for (int k = 0; k < f->callbacks.n; k++) {
        bool *present;
        char name[48];
        kept_name(k, name, sizeof name);
        const float *kept = kept_weights(f, k, &present);
        if (kept != NULL) {
            memcpy(ls_checkpoint_find_array(c, name)->data, kept, f->port.n_elems * sizeof *kept);
        }
    }
    ls_fit_state_text(f, c);
    if (c->training_config == NULL || strcmp(c->training_config, f->training_config) != 0) {
        ls_checkpoint_set_text(&c->training_config, f->training_config);
    }
    ls_checkpoint_set_scalar(c, "iterations", (double)ls_engine_iterations(f->engine));
    c->epoch = f->epoch;
    c->step = (int64_t)f->step;
}

/* ---- writing ---- */

void ls_fit_collect(ls_fit *f) {
    ls_checkpoint_written written;
    while (f->writer != NULL && ls_checkpoint_writer_collect(f->writer, &written)) {
        ls_report_checkpoint(f->report, written.path, written.epoch, written.step);
        free(f->last_good);
        f->last_good = written.path;
    }
}

ls_status ls_fit_reserve_snapshot(ls_fit *f, ls_err *err) {
    LS_TRY(lay_out(f, &f->snapshot, false, err));
    ls_fit_state_settle(f);
    fill(f, &f->snapshot); /* whatever is made when it is first needed is made now */
    return LS_OK;
}

/* A snapshot with the layout that is wanted: the one that was written last, the reserve, or a new one. */
static ls_status take_snapshot(ls_fit *f, ls_checkpoint *c, bool weights_only, ls_err *err) {
    bool again = ls_checkpoint_writer_reclaim(f->writer, c);
    if (again && c->has_state == weights_only) {
        ls_checkpoint_release(c);
        again = false;
    }
    if (!again && !weights_only && f->snapshot.has_state) {
        *c = f->snapshot;
        f->snapshot = (ls_checkpoint){0};
        again = true;
    }
    return again ? LS_OK : lay_out(f, c, weights_only, err);
}

/* The chief alone. */
static ls_status submit(ls_fit *f, const char *path, bool weights_only, ls_err *err) {
    ls_checkpoint c = {0};
    ls_status status = take_snapshot(f, &c, weights_only, err);
    if (status == LS_OK) {
        if ((!f->settled || f->moment.stop) && !weights_only) {
            ls_fit_state_settle(f);
        }
        fill(f, &c);
        status = ls_checkpoint_writer_submit(f->writer, &c, path, err);
        if (status != LS_OK) { /* of the write before; this one may do better */
            ls_report_warning(f->report, err->text);
            *err = (ls_err)LS_ERR_INIT;
            status = ls_checkpoint_writer_submit(f->writer, &c, path, err);
        }
    }
    ls_fit_collect(f);
    ls_checkpoint_release(&c);
    return status;
}

/* Collective. Until what was submitted before has been written. Several times a second all ranks hear from each other,
 * so that one that is lost meanwhile is noticed within the limit of a step, not of a disk. */
static void await_writer(ls_fit *f) {
    const int64_t start = ls_now_ns();
    for (double busy = 1; busy > 0;) {
        busy = f->chief && !ls_checkpoint_writer_idle_within(f->writer, SIGN_OF_LIFE_S) ? 1 : 0;
        if (busy > 0 && f->job.watchdog_seconds > 0 && ls_now_ns() - start > WRITE_S * INT64_C(1000000000)) {
            ls_team_abort(f->team, LS_ESTALLED,
                          ls_xprintf("rank 0 on %s has waited %d s for a checkpoint in %s to be written",
                                     f->team->hosts[0], WRITE_S, f->run_path));
        }
        ls_team_sum(f->team, &busy, 1);
        ls_progress_alive(f->team->progress);
    }
}

ls_status ls_fit_checkpoint(ls_fit *f, const char *path, bool weights_only, ls_err *err) {
    int64_t start = ls_now_ns();
    if (!weights_only) {
        ls_engine_gather(f->engine);
        ls_engine_gather_states(f->engine, f->states);
    }
    await_writer(f);
    (void)err; /* a checkpoint that cannot be written is no reason to lose the run: said now, and again at the end */
    ls_err mine = LS_ERR_INIT;
    if (f->chief && submit(f, path, weights_only, &mine) != LS_OK) {
        ls_report_warning(f->report, mine.text);
    }
    ls_trace_event("checkpoint", "snapshot", NULL, (int64_t)f->step, start, ls_now_ns());
    return LS_OK;
}

ls_status ls_fit_flush(ls_fit *f, ls_err *err) {
    await_writer(f);
    ls_status mine = f->chief ? ls_checkpoint_writer_wait(f->writer, err) : LS_OK;
    if (f->chief) {
        ls_fit_collect(f);
    }
    return ls_team_agree(f->team, mine, err);
}

/* ---- reading ---- */

static ls_status fail_model(const ls_fit *f, const char *path, const ls_weight *w, const ls_checkpoint_array *found,
                            ls_err *err) {
    char shape[96];
    (void)f;
    return ls_fail(err, LS_EINPUT,
                   "%s: is of another model than the job's: %s the weight \"%s\" of layer \"%s\", %s; resume with the "
                   "same model, or start a new run",
                   path, found != NULL ? "it has in another shape" : "it lacks", w->path, ls_fit_group_of(w)->name,
                   ls_shape_text(&w->shape, false, shape, sizeof shape));
}

static bool same_shape(const ls_checkpoint_array *a, const ls_shape *s) {
    bool same = a->rank == s->rank;
    for (int i = 0; same && i < s->rank; i++) {
        same = a->dims[i] == (uint64_t)s->dim[i];
    }
    return same;
}

static ls_status set_weights(ls_fit *f, const ls_checkpoint *c, const char *path, ls_err *err) {
    const char *const *slots = slot_names(f);
    for (int w = 0; w < f->model->n_weights; w++) {
        const ls_weight *weight = f->model->weights[w];
        const char *group = ls_fit_group_of(weight)->name;
        const ls_checkpoint_array *a = ls_checkpoint_find_weight(c, group, weight->path);
        if (a == NULL || !same_shape(a, &weight->shape)) {
            return fail_model(f, path, weight, a, err);
        }
        ls_engine_set(f->engine, weight, -1, a->data);
        for (int s = 0; has_slots(weight) && slots[s] != NULL; s++) {
            a = ls_checkpoint_find_slot(c, slots[s], group, weight->path);
            if (a == NULL || !same_shape(a, &weight->shape)) {
                return ls_fail(err, LS_EINPUT,
                               "%s: lacks the optimizer's \"%s\" of \"%s\"; resume with the optimizer that it was "
                               "trained with",
                               path, slots[s], weight->path);
            }
            ls_engine_set(f->engine, weight, s, a->data);
        }
    }
    return LS_OK;
}

static ls_status check_config(const ls_fit *f, const ls_checkpoint *c, const char *path, ls_err *err) {
    char *mine = ls_model_config_text(f->model);
    json_t *a = json_loads(mine, 0, NULL), *b = c->model_config ? json_loads(c->model_config, 0, NULL) : NULL;
    bool same = json_equal(a, b) != 0;
    json_decref(a);
    json_decref(b);
    free(mine);
    return same
               ? LS_OK
               : ls_fail(err, LS_EINPUT,
                         "%s: is of another model than the job's: its layers are configured otherwise; resume with the "
                         "same model, or start a new run",
                         path);
}

static ls_status take_arrays(ls_fit *f, const ls_checkpoint *c, const char *path, ls_err *err) {
    const ls_checkpoint_array *sums = ls_checkpoint_find_array(c, "sums");
    if (c->state == NULL || sums == NULL || sums->n_elems != (size_t)f->n_sums) {
        return ls_fail(err, LS_EINPUT,
                       "%s: does not hold the state of a run with this job's losses and metrics; resume with the same, "
                       "or start a new run",
                       path);
    }
    memcpy(f->sums, sums->data, (size_t)f->n_sums * sizeof *f->sums);
    const ls_checkpoint_array *states = ls_checkpoint_find_array(c, "states");
    size_t n_states = ls_engine_n_state_elems(f->engine);
    if ((states != NULL ? states->n_elems : 0) != n_states) {
        return ls_fail(err, LS_EINPUT,
                       "%s: holds %zu numbers of stateful layers' states, the job has %zu; resume with the same model, "
                       "batch_size and validation_batch_size, or start a new run",
                       path, states != NULL ? states->n_elems : 0, n_states);
    }
    if (n_states > 0) {
        memcpy(f->states, states->data, n_states * sizeof *f->states);
    }
    for (int k = 0; k < f->callbacks.n; k++) {
        bool *present;
        char name[48];
        kept_name(k, name, sizeof name);
        float *kept = kept_weights(f, k, &present);
        const ls_checkpoint_array *a = ls_checkpoint_find_array(c, name);
        if (kept != NULL && a != NULL && a->n_elems == f->port.n_elems) {
            memcpy(kept, a->data, f->port.n_elems * sizeof *kept);
        }
    }
    return LS_OK;
}

/* The chief alone: reads the file, puts weights, slots and sums in place and gives the state's text; NULL: there is no
 * checkpoint yet. */
static ls_status read_newest(ls_fit *f, char **state, ls_err *err) {
    ls_checkpoint_list list;
    LS_TRY(ls_checkpoint_list_folder(f->run.checkpoints, &list, err));
    bool any = list.n > 0;
    ls_checkpoint_list_release(&list);
    *state = NULL;
    if (!any) {
        return LS_OK;
    }
    ls_checkpoint c;
    LS_TRY(ls_checkpoint_read_newest(f->run.checkpoints, &c, &f->resumed_from, err));
    json_t *state_json = c.state != NULL ? json_loads(c.state, 0, NULL) : NULL;
    ls_status status = ls_fit_check_plugins(&f->plugins, state_json, f->resumed_from,
                                            "add its file to the job's \"plugins\", or start a new run", err);
    json_decref(state_json);
    if (status == LS_OK) {
        status = set_weights(f, &c, f->resumed_from, err);
    }
    if (status == LS_OK) {
        status = check_config(f, &c, f->resumed_from, err);
    }
    if (status == LS_OK) {
        status = take_arrays(f, &c, f->resumed_from, err);
    }
    if (status == LS_OK) {
        *state = ls_xstrdup(c.state);
        f->last_good = ls_xstrdup(f->resumed_from);
    }
    ls_checkpoint_release(&c);
    return status;
}

ls_status ls_fit_resume(ls_fit *f, bool *found, ls_err *err) {
    char *state = NULL;
    ls_status status = f->chief ? read_newest(f, &state, err) : LS_OK;
    LS_TRY(ls_team_agree(f->team, status, err));
    *found = state != NULL;
    ls_team_bcast(f->team, 0, found, sizeof *found);
    if (!*found) {
        return LS_OK;
    }
    size_t n = state != NULL ? strlen(state) : 0;
    ls_team_bcast_text(f->team, 0, &state, &n);
    ls_team_bcast(f->team, 0, f->sums, (size_t)f->n_sums * sizeof *f->sums);
    ls_engine_publish(f->engine);
    ls_engine_publish_states(f->engine, f->states);
    ls_json_doc doc = {0};
    status = ls_json_parse(&doc, f->chief ? f->resumed_from : "checkpoint", state, err);
    if (status == LS_OK) {
        status = ls_fit_state_restore(f, ls_json_root(&doc), err);
        ls_json_release(&doc);
    }
    free(state);
    return ls_team_agree(f->team, status, err);
}
