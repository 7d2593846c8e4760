#include "tests/oracle/case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "storage/h5.h"
#include "storage/hash.h"
#include "worker/engine/engine.h"

enum { MAX_IO = 8 };

typedef struct {
    ls_h5_info info;
    void *data; /* f32, or i32 */
    bool is_int;
} array;

typedef struct {
    const char *path;
    ls_team *team;
    ls_h5 *file;
    ls_model *model;
    ls_compile compile;
    bool trains;
    int n_lanes;
    ls_engine *engine;
    array inputs[MAX_IO], targets[MAX_IO];
    size_t n_samples;
    case_result *result;
} run;

/* ---- comparing ---- */

static void compare(run *r, const char *where, const float *a, const float *b, size_t n, double tolerance) {
    double largest = 0.01, difference = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        largest = fabs(b[i]) > largest ? fabs(b[i]) : largest;
        difference = d > difference || isnan(d) ? d : difference;
    }
    double error = difference / largest;
    if (!(error / tolerance <= r->result->worst)) {
        r->result->worst = isnan(error) ? INFINITY : error / tolerance;
        r->result->worst_error = error;
        snprintf(r->result->where, sizeof r->result->where, "%.200s", where);
    }
}

static float *read_floats(run *r, const char *path, size_t n, ls_err *err) {
    float *values = ls_xcalloc(n + 1, sizeof *values);
    if (ls_h5_read(r->file, path, LS_H5_F32, n, values, err) != LS_OK) {
        free(values);
        return NULL;
    }
    return values;
}

/* Compares with the array at path when it is there. */
static ls_status check(run *r, const char *path, const float *mine, size_t n, double tolerance, ls_err *err) {
    if (ls_h5_kind_of(r->file, path) != LS_H5_ARRAY) {
        return LS_OK;
    }
    float *golden = read_floats(r, path, n, err);
    if (golden == NULL) {
        return err->status;
    }
    compare(r, path, mine, golden, n, tolerance);
    free(golden);
    return LS_OK;
}

/* ---- weights, by Keras's order within each top layer ---- */

typedef ls_status (*weight_visitor)(run *r, const ls_weight *w, const char *path, double tolerance, ls_err *err);

static const ls_layer *top_layer(const ls_weight *w) {
    const ls_layer *l = w->layer;
    while (l->parent != NULL) {
        l = l->parent;
    }
    return l;
}

static ls_status visit_layer(run *r, const char *group, const char *layer, weight_visitor visit, double tolerance,
                             ls_err *err) {
    char path[512];
    ls_h5_names names = {0};
    snprintf(path, sizeof path, "%s/%s", group, layer);
    LS_TRY(ls_h5_attr_get_strings(r->file, path, "weight_names", &names, err));
    ls_status s = LS_OK;
    size_t k = 0;
    for (int i = 0; i < r->model->n_weights && s == LS_OK; i++) {
        const ls_weight *w = r->model->weights[i];
        if (strcmp(top_layer(w)->name, layer) != 0) {
            continue;
        }
        /* gradients hold trainable weights only */
        const char *last = k < names.n && strrchr(names.items[k], '/') != NULL ? strrchr(names.items[k], '/') + 1
                           : k < names.n                                       ? names.items[k]
                                                                               : "";
        if (strncmp(group, "gradients", 9) == 0 && (w->role == LS_WEIGHT_STAT || !w->trainable)) {
            continue;
        }
        if (k >= names.n || strstr(last, w->name) == NULL) {
            s = ls_fail(err, LS_EINPUT, "layer %s: weight %s is not where the file has %s", layer, w->path,
                        k < names.n ? names.items[k] : "nothing");
            break;
        }
        snprintf(path, sizeof path, "%s/%s/%s", group, layer, names.items[k++]);
        s = visit(r, w, path, tolerance, err);
    }
    if (s == LS_OK && k != names.n) {
        s = ls_fail(err, LS_EINPUT, "layer %s: the file has %zu weights, the model %zu", layer, names.n, k);
    }
    ls_h5_names_release(&names);
    return s;
}

static ls_status visit_weights(run *r, const char *group, weight_visitor visit, double tolerance, ls_err *err) {
    ls_h5_names layers = {0};
    if (ls_h5_kind_of(r->file, group) != LS_H5_GROUP) {
        return LS_OK;
    }
    LS_TRY(ls_h5_attr_get_strings(r->file, group, "layer_names", &layers, err));
    ls_status s = LS_OK;
    for (size_t i = 0; i < layers.n && s == LS_OK; i++) {
        s = visit_layer(r, group, layers.items[i], visit, tolerance, err);
    }
    ls_h5_names_release(&layers);
    return s;
}

static ls_status set_weight(run *r, const ls_weight *w, const char *path, double tolerance, ls_err *err) {
    (void)tolerance;
    float *values = read_floats(r, path, (size_t)ls_shape_elems(&w->shape), err);
    if (values == NULL) {
        return err->status;
    }
    ls_engine_set(r->engine, w, -1, values);
    free(values);
    return LS_OK;
}

static ls_status check_weight(run *r, const ls_weight *w, const char *path, double tolerance, ls_err *err) {
    size_t n = (size_t)ls_shape_elems(&w->shape);
    float *mine = ls_xcalloc(n, sizeof *mine);
    ls_engine_get(r->engine, w, -1, mine);
    ls_status s = check(r, path, mine, n, tolerance, err);
    free(mine);
    return s;
}

static ls_status check_gradient(run *r, const ls_weight *w, const char *path, double tolerance, ls_err *err) {
    size_t n = (size_t)ls_shape_elems(&w->shape);
    float *mine = ls_xcalloc(n, sizeof *mine), *before = NULL;
    ls_engine_probe_gradient(r->engine, w, mine);
    if (w->regularizer.l1 != 0 || w->regularizer.l2 != 0) { /* the engine adds penalties in the update */
        char was[512];
        snprintf(was, sizeof was, "weights_before%s", strchr(path, '/'));
        before = read_floats(r, was, n, err);
        for (size_t i = 0; before != NULL && i < n; i++) {
            mine[i] +=
                (float)(2 * w->regularizer.l2 * before[i] + w->regularizer.l1 * ((before[i] > 0) - (before[i] < 0)));
        }
        free(before);
    }
    ls_status s = check(r, path, mine, n, tolerance, err);
    free(mine);
    return s;
}

/* ---- data ---- */

static ls_status load_array(run *r, const char *group, int i, array *a, ls_err *err) {
    char path[64];
    snprintf(path, sizeof path, "%s/%d", group, i);
    LS_TRY(ls_h5_info_of(r->file, path, &a->info, err));
    a->is_int = a->info.type != LS_H5_F32;
    a->data = ls_xcalloc(a->info.n_elems + 1, 4);
    return ls_h5_read(r->file, path, a->is_int ? LS_H5_I32 : LS_H5_F32, a->info.n_elems, a->data, err);
}

static ls_status fill(void *self, int k, ls_dtype want, const uint32_t *index, size_t n, void *out, ls_err *err) {
    run *r = self;
    const array *a = k < r->model->n_inputs ? &r->inputs[k] : &r->targets[k - r->model->n_inputs];
    size_t row = a->info.n_elems / r->n_samples;
    (void)err;
    for (size_t s = 0; s < n; s++) {
        for (size_t i = 0; i < row; i++) {
            size_t from = index[s] * row + i;
            if (want == LS_I32) {
                ((int32_t *)out)[s * row + i] =
                    a->is_int ? ((int32_t *)a->data)[from] : (int32_t)((float *)a->data)[from];
            } else {
                ((float *)out)[s * row + i] = a->is_int ? (float)((int32_t *)a->data)[from] : ((float *)a->data)[from];
            }
        }
    }
    return LS_OK;
}

/* ---- the stages of a case ---- */

static ls_status open_model(run *r, ls_err *err) {
    char *text = NULL, *kind = NULL;
    ls_json_doc doc = {0};
    ls_shape shapes[MAX_IO];
    int n_shapes = 0;
    LS_TRY(ls_h5_open(r->path, &r->file, err));
    LS_TRY(ls_h5_attr_get_string(r->file, "/", "kind", &kind, err));
    snprintf(r->result->kind, sizeof r->result->kind, "%.60s", kind);
    free(kind);
    for (; n_shapes < MAX_IO; n_shapes++) {
        char path[64];
        snprintf(path, sizeof path, "inputs/%d", n_shapes);
        if (ls_h5_kind_of(r->file, path) != LS_H5_ARRAY) {
            break;
        }
        LS_TRY(load_array(r, "inputs", n_shapes, &r->inputs[n_shapes], err));
        const ls_h5_info *info = &r->inputs[n_shapes].info;
        shapes[n_shapes].rank = info->rank - 1;
        for (int d = 1; d < info->rank; d++) {
            shapes[n_shapes].dim[d - 1] = (int64_t)info->dims[d];
        }
    }
    r->n_samples = (size_t)r->inputs[0].info.dims[0];
    LS_TRY(ls_h5_attr_get_string(r->file, "/", "model_config", &text, err));
    ls_status s = ls_json_parse(&doc, r->path, text, err);
    free(text);
    LS_TRY(s);
    LS_TRY(ls_model_build(&r->model, &doc, shapes, n_shapes, err));
    r->trains = ls_h5_attr_has(r->file, "/", "training_config");
    if (!r->trains) {
        return LS_OK;
    }
    LS_TRY(ls_h5_attr_get_string(r->file, "/", "training_config", &text, err));
    s = ls_json_parse(&doc, r->path, text, err);
    free(text);
    if (s == LS_OK) {
        s = ls_compile_parse(ls_json_root(&doc), r->model, &r->compile, err);
        ls_json_release(&doc);
    }
    for (int i = 0; i < r->model->n_outputs && s == LS_OK; i++) {
        s = load_array(r, "targets", i, &r->targets[i], err);
    }
    return s;
}

static ls_status check_outputs(run *r, const ls_feed *feed, const uint32_t *index, ls_err *err) {
    float *out[MAX_IO] = {NULL};
    size_t n[MAX_IO];
    ls_status s;
    for (int o = 0; o < r->model->n_outputs; o++) {
        const ls_tensor *t = r->model->outputs[o];
        n[o] = r->n_samples * (size_t)(t->rows * ls_shape_elems(&t->shape));
        out[o] = ls_xcalloc(n[o], sizeof(float));
    }
    s = ls_engine_predict_step(r->engine, feed, index, r->n_samples, out, err);
    for (int o = 0; o < r->model->n_outputs; o++) {
        char path[64];
        snprintf(path, sizeof path, "outputs/%d", o);
        s = s == LS_OK ? check(r, path, out[o], n[o], 5e-5, err) : s;
        free(out[o]);
    }
    return s;
}

static ls_status check_metrics(run *r, const ls_feed *feed, const uint32_t *index, double *sums, ls_err *err) {
    ls_verdict v = {.sums = sums};
    LS_TRY(ls_engine_evaluate_step(r->engine, feed, index, r->n_samples, 0, &v, err));
    for (int k = 0; k < r->compile.n_metrics; k++) {
        char path[128];
        float mine = (float)ls_engine_metric(r->engine, k, sums);
        snprintf(path, sizeof path, "metrics/%s", r->compile.metrics[k].name);
        LS_TRY(check(r, path, &mine, 1, 5e-5, err));
    }
    return LS_OK;
}

/* What the first step's lane has left. */
static ls_status check_probes(run *r, ls_err *err) {
    char path[64];
    for (int o = 0; o < r->model->n_outputs; o++) {
        const ls_tensor *t = r->model->outputs[o];
        snprintf(path, sizeof path, "outputs_training/%d", o);
        LS_TRY(check(r, path, ls_engine_probe_output(r->engine, o),
                     r->n_samples * (size_t)(t->rows * ls_shape_elems(&t->shape)), 5e-5, err));
    }
    for (int i = 0; i < r->model->n_inputs; i++) {
        const float *gradient = ls_engine_probe_input_gradient(r->engine, i);
        snprintf(path, sizeof path, "input_gradients/%d", i);
        if (gradient != NULL) {
            LS_TRY(check(r, path, gradient, r->inputs[i].info.n_elems, 5e-5, err));
        } else if (ls_h5_kind_of(r->file, path) == LS_H5_ARRAY) {
            return ls_fail(err, LS_EINTERNAL, "no %s", path);
        }
    }
    return visit_weights(r, "gradients", check_gradient, 5e-5, err);
}

static ls_status check_training(run *r, const ls_feed *feed, const uint32_t *index, ls_err *err) {
    bool optimizer_case = strncmp(r->result->kind, "opt_", 4) == 0;
    double *sums = ls_xcalloc((size_t)ls_engine_n_sums(r->engine), sizeof *sums);
    ls_status s = check_metrics(r, feed, index, sums, err);
    for (uint64_t step = 0; step < 5 && s == LS_OK; step++) {
        ls_verdict v = {.sums = sums};
        s = ls_engine_train_step(r->engine, feed, index, r->n_samples, step, r->compile.optimizer.learning_rate, 0, &v,
                                 err);
        if (s == LS_OK && step == 0) {
            float loss = (float)ls_engine_loss(r->engine, sums);
            s = check(r, "loss", &loss, 1, 5e-5, err);
            s = s == LS_OK && r->n_lanes == 1 ? check_probes(r, err) : s;
            s = s == LS_OK ? visit_weights(r, "weights_after/1", check_weight, optimizer_case ? 2e-5 : 5e-5, err) : s;
        }
    }
    s = s == LS_OK ? visit_weights(r, "weights_after/5", check_weight, optimizer_case ? 2e-5 : 1e-4, err) : s;
    free(sums);
    return s;
}

static ls_status run_case(run *r, bool *built, ls_err *err) {
    LS_TRY(open_model(r, err));
    ls_engine_options o = {
        .batch = (int64_t)r->n_samples,
        .lanes = r->n_lanes,
        .sync_batch_norm = true,
        .seed = 1,
        .n_threads = 1,
        .inference = !r->trains,
        .input_gradients = r->n_lanes == 1 && ls_h5_kind_of(r->file, "input_gradients") == LS_H5_GROUP};
    LS_TRY(ls_engine_create(&r->engine, r->team, r->model, r->trains ? &r->compile : NULL, &o, err));
    *built = true;
    LS_TRY(visit_weights(r, "weights_before", set_weight, 0, err));
    ls_engine_publish(r->engine);
    uint32_t *index = ls_xcalloc(r->n_samples, sizeof *index);
    for (size_t i = 0; i < r->n_samples; i++) {
        index[i] = (uint32_t)i;
    }
    ls_feed feed = {.self = r, .n_samples = r->n_samples, .fill = fill};
    ls_status s = check_outputs(r, &feed, index, err);
    if (s == LS_OK && r->trains) {
        s = check_training(r, &feed, index, err);
    }
    free(index);
    return s;
}

static void release(run *r) {
    ls_engine_destroy(r->engine);
    ls_compile_release(&r->compile);
    ls_model_destroy(r->model);
    for (int i = 0; i < MAX_IO; i++) {
        free(r->inputs[i].data);
        free(r->targets[i].data);
    }
    if (r->file != NULL) {
        ls_h5_discard(r->file);
    }
}

void case_run(const char *path, ls_team *team, int n_lanes, case_result *result) {
    *result = (case_result){.outcome = CASE_PASSED};
    run r = {.path = path, .team = team, .n_lanes = n_lanes, .result = result};
    ls_err err = LS_ERR_INIT;
    bool built = false;
    ls_status s = run_case(&r, &built, &err);
    if (s != LS_OK) {
        result->outcome = built ? CASE_FAILED : CASE_UNSUPPORTED;
        snprintf(result->where, sizeof result->where, "%.250s", err.text);
    } else if (result->worst > 1) {
        result->outcome = CASE_FAILED;
    }
    release(&r);
}

/* Numbers for an input or a target: n_values of them below 5, or reals in [-1, 1). */
static void invent(array *a, size_t n, bool whole, uint64_t key) {
    a->info.n_elems = n;
    a->is_int = whole;
    a->data = ls_xcalloc(n + 1, 4);
    for (size_t i = 0; i < n; i++) {
        double x = ls_rng_uniform(key, i);
        if (whole) {
            ((int32_t *)a->data)[i] = (int32_t)(5 * x);
        } else {
            ((float *)a->data)[i] = (float)(2 * x - 1);
        }
    }
}

/* A model of its configuration alone, with invented data. */
static ls_status open_text(run *r, const char *config, ls_err *err) {
    static const char compile[] = "{\"loss\": \"mse\", \"optimizer\": \"adam\"}";
    ls_json_doc doc = {0};
    LS_TRY(ls_json_parse(&doc, r->path, config, err));
    LS_TRY(ls_model_build(&r->model, &doc, NULL, 0, err));
    LS_TRY(ls_json_parse(&doc, "compile", compile, err));
    ls_status s = ls_compile_parse(ls_json_root(&doc), r->model, &r->compile, err);
    ls_json_release(&doc);
    LS_TRY(s);
    r->trains = true;
    r->n_samples = 10;
    for (int i = 0; i < r->model->n_inputs; i++) {
        const ls_tensor *t = r->model->inputs[i];
        invent(&r->inputs[i], r->n_samples * (size_t)ls_shape_elems(&t->shape), t->dtype == LS_I32, (uint64_t)i);
    }
    const ls_tensor *out = r->model->outputs[0];
    invent(&r->targets[0], r->n_samples * (size_t)(out->rows * ls_shape_elems(&out->shape)), false, 100);
    return LS_OK;
}

static ls_status train_in_lanes(run *r, int n_lanes, ls_err *err) {
    if (!r->trains) {
        return ls_fail(err, LS_EUNSUPPORTED, "%s: the case does not train", r->path);
    }
    ls_engine_options o = {.batch = (int64_t)r->n_samples, .lanes = n_lanes, .seed = 7};
    LS_TRY(ls_engine_create(&r->engine, r->team, r->model, &r->compile, &o, err));
    uint32_t *index = ls_xcalloc(r->n_samples, sizeof *index);
    double *sums = ls_xcalloc((size_t)ls_engine_n_sums(r->engine), sizeof *sums);
    for (size_t i = 0; i < r->n_samples; i++) {
        index[i] = (uint32_t)i;
    }
    ls_feed feed = {.self = r, .n_samples = r->n_samples, .fill = fill};
    ls_status s = LS_OK;
    for (uint64_t step = 0; step < 3 && s == LS_OK; step++) {
        ls_verdict v = {.sums = sums};
        s = ls_engine_train_step(r->engine, &feed, index, r->n_samples, step, r->compile.optimizer.learning_rate, 0, &v,
                                 err);
    }
    free(index);
    free(sums);
    return s;
}

ls_status case_digest(const char *path, const char *config, ls_team *team, int n_lanes, uint64_t *digest, ls_err *err) {
    case_result unused = {0};
    run r = {.path = path, .team = team, .result = &unused};
    ls_status s = config != NULL ? open_text(&r, config, err) : open_model(&r, err);
    s = s == LS_OK ? train_in_lanes(&r, n_lanes, err) : s;
    if (s == LS_OK) {
        ls_hash *hash = ls_hash_start();
        unsigned char bytes[LS_HASH_BYTES];
        ls_engine_gather(r.engine);
        for (int i = 0; i < r.model->n_weights; i++) {
            const ls_weight *w = r.model->weights[i];
            size_t n = (size_t)ls_shape_elems(&w->shape);
            float *values = ls_xcalloc(n, sizeof *values);
            int slots = w->trainable ? ls_optimizer_n_slots(&r.compile.optimizer) : 0;
            for (int slot = -1; slot < (team->rank == 0 ? slots : 0); slot++) {
                ls_engine_get(r.engine, w, slot, values);
                ls_hash_add(hash, values, n * sizeof *values);
            }
            free(values);
        }
        ls_hash_finish(hash, bytes);
        memcpy(digest, bytes, sizeof *digest);
        ls_team_bcast(team, 0, digest, sizeof *digest);
    }
    release(&r);
    return s;
}
