#include "trainer/fit/infer.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"
#include "storage/checkpoint_folder.h"
#include "trainer/fit/fit_private.h"
#include "trainer/fit/keras_file.h"

/* ---- the checkpoint: rank 0 reads, the others are told its texts ---- */

/* Rank 0's text or NULL to all. */
static void share_text(ls_team *team, char **text) {
    bool present = *text != NULL;
    ls_team_bcast(team, 0, &present, sizeof present);
    if (present) {
        size_t n = *text != NULL ? strlen(*text) : 0;
        ls_team_bcast_text(team, 0, text, &n);
    }
}

/* What the model was compiled with: as the job says, else as Keras does. */
static ls_status read_compile(ls_fit *f, const ls_checkpoint *c, const char *file, ls_err *err) {
    json_t *state = c->state != NULL ? json_loads(c->state, 0, NULL) : NULL;
    json_t *own = json_object_get(json_object_get(state, "job"), "compile");
    char *name = ls_xprintf("%s: %s", file, own != NULL ? "compile" : "training_config");
    ls_status status = LS_OK;
    if (own != NULL) {
        ls_json_wrap(&f->job.doc, name, own);
    } else if (c->training_config == NULL) {
        status = ls_fail(err, LS_EINPUT,
                         "%s: was saved without loss and metrics (training_config), so there is nothing "
                         "to evaluate it with",
                         file);
    } else {
        status = ls_json_parse(&f->job.doc, name, c->training_config, err);
    }
    json_decref(state);
    free(name);
    return status;
}

/* Metrics asked for besides, of each output that has a loss. */
static ls_status want_metrics(ls_fit *f, const ls_infer_request *r, ls_err *err) {
    ls_status status = LS_OK;
    for (size_t i = 0; i < r->n_metrics; i++) {
        ls_json_doc doc = {0};
        json_t *word = json_string(r->metrics[i]);
        ls_json_wrap(&doc, "--metric", word);
        for (int o = 0; status == LS_OK && o < f->model->n_outputs; o++) {
            if (f->compile.losses[o].class_ != NULL) {
                status = ls_compile_want_metric(&f->compile, f->model, o, ls_json_root(&doc), err);
            }
        }
        json_decref(word);
        ls_json_release(&doc);
    }
    return status;
}

static ls_status build(ls_fit *f, const ls_checkpoint *c, const char *file, const ls_infer_request *r, bool compiled,
                       ls_err *err) {
    ls_json_doc doc = {0};
    LS_TRY(ls_json_parse(&doc, file, c->model_config, err));
    LS_TRY(ls_fit_build_for(&f->model, &doc, r->data, err));
    if (!compiled) {
        f->compile.n_outputs = f->model->n_outputs;
        f->compile.losses = ls_xcalloc((size_t)f->model->n_outputs, sizeof *f->compile.losses);
        f->compile.loss_weights = ls_xcalloc((size_t)f->model->n_outputs, sizeof *f->compile.loss_weights);
        return LS_OK;
    }
    LS_TRY(read_compile(f, c, file, err));
    /* Evaluation needs no optimizer: one that Lockstep does not know is no obstacle. */
    if (json_is_object(f->job.doc.root)) {
        json_object_del(f->job.doc.root, "optimizer_config");
        json_object_set_new(f->job.doc.root, "optimizer", json_string("SGD"));
    }
    LS_TRY(ls_compile_parse(ls_json_root(&f->job.doc), f->model, &f->compile, err));
    LS_TRY(want_metrics(f, r, err));
    return ls_fit_name_logs(f, err);
}

static void input_scale(const ls_checkpoint *c, double *scale, double *offset) {
    json_t *state = c->state != NULL ? json_loads(c->state, 0, NULL) : NULL;
    json_t *data = json_object_get(json_object_get(state, "job"), "data");
    json_t *s = json_object_get(data, "scale"), *o = json_object_get(data, "offset");
    *scale = json_is_number(s) ? json_number_value(s) : NAN;
    *offset = json_is_number(o) ? json_number_value(o) : NAN;
    json_decref(state);
}

static ls_status create_engine(ls_fit *f, const ls_infer_request *r, ls_err *err) {
    int64_t n = (int64_t)ls_source_feed(f->train)->n_samples, batch = r->batch < n ? r->batch : n;
    ls_engine_options options = {.batch = batch,
                                 .eval_batch = batch,
                                 .last_eval_batch = n % batch,
                                 .compute = LS_F32,
                                 .inference = true,
                                 .sample_weights = ls_source_weighted(f->train)};
    return ls_engine_create(&f->engine, f->team, f->model, &f->compile, &options, err);
}

static ls_status open_all(ls_fit *f, const ls_infer_request *r, ls_checkpoint *c, char **file, bool compiled,
                          ls_err *err) {
    ls_status mine = f->chief ? ls_keras_read(r->checkpoint, c, file, err) : LS_OK;
    LS_TRY(ls_team_agree(f->team, mine, err));
    share_text(f->team, file);
    share_text(f->team, &c->model_config);
    share_text(f->team, &c->training_config);
    share_text(f->team, &c->state);
    LS_TRY(ls_plugins_words(r->plugins, r->n_plugins, &f->plugin_words, err));
    LS_TRY(ls_fit_load_plugins(f, ls_json_root(&f->plugin_words), "", err));
    mine = build(f, c, *file, r, compiled, err);
    LS_TRY(ls_team_agree(f->team, mine == LS_OK ? LS_OK : ls_fit_name_plugin(&f->plugins, c, *file, err), err));
    ls_source_options options = {.no_targets = !compiled};
    input_scale(c, &options.scale, &options.offset);
    LS_TRY(ls_source_open(&f->train, f->team, r->data, f->model, compiled ? &f->compile : NULL, &options, err));
    LS_TRY(create_engine(f, r, err));
    mine = f->chief ? ls_keras_set_weights(f->engine, f->model, c, *file, err) : LS_OK;
    LS_TRY(ls_team_agree(f->team, mine, err));
    ls_engine_publish(f->engine);
    size_t n = ls_source_feed(f->train)->n_samples;
    f->in_order = ls_xcalloc(n, sizeof *f->in_order);
    for (size_t i = 0; i < n; i++) {
        f->in_order[i] = (uint32_t)i;
    }
    return LS_OK;
}

/* Opens, does the work, and closes. */
static ls_status with_model(ls_team *team, const ls_infer_request *r, bool compiled,
                            ls_status (*work)(ls_fit *f, int64_t batch, void *context, ls_err *err), void *context,
                            ls_err *err) {
    ls_fit *f = ls_xcalloc(1, sizeof *f);
    ls_checkpoint c = {0};
    char *file = NULL;
    f->team = team;
    f->chief = team->rank == 0;
    ls_status status = open_all(f, r, &c, &file, compiled, err);
    if (status == LS_OK) {
        int64_t n = (int64_t)ls_source_feed(f->train)->n_samples;
        status = work(f, r->batch < n ? r->batch : n, context, err);
    }
    ls_checkpoint_release(&c);
    free(file);
    ls_fit_release(f);
    free(f);
    return status;
}

/* ---- evaluation ---- */

typedef struct {
    ls_logs *logs;
    ls_tables *tables;
    size_t *n_samples;
} evaluation;

static ls_status evaluate(ls_fit *f, int64_t batch, void *context, ls_err *err) {
    evaluation *e = context;
    const ls_feed *feed = ls_source_feed(f->train);
    f->n_sums = ls_engine_n_sums(f->engine);
    f->sums = ls_xcalloc((size_t)f->n_sums + 1, sizeof *f->sums);
    f->step_sums = ls_xcalloc((size_t)f->n_sums + 1, sizeof *f->step_sums);
    ls_walk walk = {.order = f->in_order, .n_samples = feed->n_samples, .batch = (size_t)batch};
    for (size_t first = 0; first < feed->n_samples; first += (size_t)batch) {
        ls_walk_ahead(&walk, f->engine, f->train, first);
        size_t n = feed->n_samples - first < (size_t)batch ? feed->n_samples - first : (size_t)batch;
        ls_verdict v = {.sums = f->step_sums};
        LS_TRY(ls_engine_evaluate_step(f->engine, feed, f->in_order + first, n, 0, &v, err));
        for (int i = 0; i < f->n_sums; i++) {
            f->sums[i] += f->step_sums[i];
        }
    }
    ls_fit_logs(f, f->sums, "", e->logs);
    ls_fit_tables(f, f->sums, "", e->tables);
    *e->n_samples = feed->n_samples;
    return LS_OK;
}

ls_status ls_infer_evaluate(struct ls_team *team, const ls_infer_request *request, ls_logs *logs, ls_tables *tables,
                            size_t *n_samples, ls_err *err) {
    evaluation e = {logs, tables, n_samples};
    return with_model(team, request, true, evaluate, &e, err);
}

/* ---- prediction ---- */

typedef struct {
    char *temporary;
    ls_h5 *file;
    ls_h5_array **arrays; /* [n_outputs] */
    float **out;          /* [n_outputs] one batch */
} prediction;

static ls_status create_file(ls_fit *f, prediction *p, const char *path, int64_t batch, ls_err *err) {
    LS_TRY(ls_file_check_output(path, LS_H5_FILE, err));
    LS_TRY(ls_h5_create(p->temporary, &p->file, err));
    for (int o = 0; o < f->model->n_outputs; o++) {
        ls_shape s = ls_source_whole_shape(f->model->outputs[o]);
        uint64_t dims[LS_MAX_RANK + 1] = {ls_source_feed(f->train)->n_samples};
        for (int i = 0; i < s.rank; i++) {
            dims[i + 1] = (uint64_t)s.dim[i];
        }
        LS_TRY(ls_h5_array_create(p->file, f->model->output_names[o], LS_H5_F32, s.rank + 1, dims, NULL, &p->arrays[o],
                                  err));
        p->out[o] = ls_xcalloc((size_t)(batch * ls_shape_elems(&s)), sizeof(float));
    }
    return LS_OK;
}

static ls_status write_batch(const ls_fit *f, prediction *p, size_t first, size_t n, ls_err *err) {
    for (int o = 0; o < f->model->n_outputs; o++) {
        LS_TRY(ls_h5_array_write(p->arrays[o], first, n, p->out[o], err));
    }
    return LS_OK;
}

/* Gives up, or puts the file under its name. */
static ls_status close_file(const ls_fit *f, prediction *p, const char *path, ls_status status, ls_err *err) {
    for (int o = 0; o < f->model->n_outputs; o++) {
        if (status == LS_OK) {
            status = ls_h5_array_close(p->arrays[o], err);
        } else {
            ls_h5_array_discard(p->arrays[o]);
        }
        free(p->out[o]);
    }
    if (status == LS_OK) {
        status = ls_h5_close(p->file, err);
    } else {
        ls_h5_discard(p->file);
    }
    if (status == LS_OK) {
        status = ls_file_sync(p->temporary, err);
    }
    if (status == LS_OK && rename(p->temporary, path) != 0) {
        status = ls_fail(err, LS_EIO, "%s: cannot be put in place: %s", path, strerror(errno));
    }
    if (status != LS_OK) {
        unlink(p->temporary);
    }
    return status;
}

static ls_status predict(ls_fit *f, int64_t batch, void *context, ls_err *err) {
    const char *path = context;
    const ls_feed *feed = ls_source_feed(f->train);
    prediction p = {.temporary = ls_xprintf("%s.tmp-%d", path, (int)getpid()),
                    .arrays = ls_xcalloc((size_t)f->model->n_outputs, sizeof *p.arrays),
                    .out = ls_xcalloc((size_t)f->model->n_outputs, sizeof *p.out)};
    ls_status status = ls_team_agree(f->team, f->chief ? create_file(f, &p, path, batch, err) : LS_OK, err);
    ls_walk walk = {.order = f->in_order, .n_samples = feed->n_samples, .batch = (size_t)batch};
    for (size_t first = 0; status == LS_OK && first < feed->n_samples; first += (size_t)batch) {
        ls_walk_ahead(&walk, f->engine, f->train, first);
        size_t n = feed->n_samples - first < (size_t)batch ? feed->n_samples - first : (size_t)batch;
        status = ls_engine_predict_step(f->engine, feed, f->in_order + first, n, p.out, err);
        if (status == LS_OK) {
            status = ls_team_agree(f->team, f->chief ? write_batch(f, &p, first, n, err) : LS_OK, err);
        }
    }
    if (f->chief) {
        status = close_file(f, &p, path, status, err);
    }
    status = ls_team_agree(f->team, status, err);
    free(p.temporary);
    free(p.arrays);
    free(p.out);
    return status;
}

ls_status ls_infer_predict(struct ls_team *team, const ls_infer_request *request, const char *out, ls_err *err) {
    return with_model(team, request, false, predict, (void *)out, err);
}
