#include "trainer/fit/job.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"
#include "trainer/fit/keras_file.h"

typedef enum { INT, BOOL, REAL, AUTO } kind; /* AUTO: a number, or "auto" for 0 */

typedef struct {
    const char *section, *key;
    kind kind;
    double standard, least, most;
    size_t at;
} row;

static const row rows[] = {
#define X(section, key, kind, standard, least, most, what) \
    {#section, #key, kind, standard, least, most, offsetof(ls_job, key)},
    LS_JOB_LIST(X)
#undef X
};
enum { N_ROWS = sizeof rows / sizeof rows[0], MAX_KEYS = 32 };

/* Sections and the keys that are not in the table. */
static const struct {
    const char *name;
    const char *keys[6];
} sections[] = {
    {"data", {"train", "validation", "validation_split", "scale", "offset"}},
    {"compile", {"loss", "metrics", "weighted_metrics", "optimizer", "loss_weights"}},
    {"fit", {"class_weight", "callbacks"}},
    {"distribute", {"precision", "convolution", "wire"}},
    {"checkpoint", {NULL}},
};
enum { N_SECTIONS = sizeof sections / sizeof sections[0] };

static ls_status check_keys(ls_json root, ls_err *err) {
    static const char *const top[] = {"model", "weights",    "name",       "data",   "compile",
                                      "fit",   "distribute", "checkpoint", "plugins"};
    LS_TRY(ls_json_only_keys(root, top, sizeof top / sizeof top[0], err));
    for (int s = 0; s < N_SECTIONS; s++) {
        ls_json section = ls_json_member(root, sections[s].name);
        const char *keys[MAX_KEYS];
        size_t n = 0;
        while (n < 6 && sections[s].keys[n] != NULL) {
            keys[n] = sections[s].keys[n];
            n++;
        }
        for (int i = 0; i < N_ROWS; i++) {
            if (strcmp(rows[i].section, sections[s].name) == 0) {
                keys[n++] = rows[i].key;
            }
        }
        if (ls_json_present(section)) {
            LS_TRY(ls_json_only_keys(section, keys, n, err));
        }
    }
    return LS_OK;
}

/* A number, or "auto", which is 0. */
static ls_status read_auto(ls_json at, const row *r, double *out, ls_err *err) {
    const char *word = json_string_value(at.value);
    double value = json_number_value(at.value);
    char found[96];
    if (!ls_json_present(at)) {
        return LS_OK;
    }
    if (word != NULL ? strcmp(word, "auto") != 0
                     : !json_is_number(at.value) || !(value >= r->least && value <= r->most)) {
        return ls_json_fail(at, err, "expected a number from %g to %g, or \"auto\", found %s", r->least, r->most,
                            ls_json_describe(at.value, found, sizeof found));
    }
    *out = value;
    return LS_OK;
}

static ls_status read_rows(ls_job *job, ls_json root, ls_err *err) {
    for (int i = 0; i < N_ROWS; i++) {
        const row *r = &rows[i];
        ls_json section = ls_json_member(root, r->section);
        void *at = (char *)job + r->at;
        if (r->kind == INT) {
            int64_t value = (int64_t)r->standard;
            LS_TRY(ls_json_get_int(section, r->key, (int64_t)r->least, (int64_t)r->most, &value, err));
            memcpy(at, &value, sizeof value);
        } else if (r->kind == REAL || r->kind == AUTO) {
            double value = r->standard;
            LS_TRY(r->kind == AUTO ? read_auto(ls_json_member(section, r->key), r, &value, err)
                                   : ls_json_get_double(section, r->key, r->least, r->most, &value, err));
            memcpy(at, &value, sizeof value);
        } else {
            bool value = r->standard != 0;
            LS_TRY(ls_json_get_bool(section, r->key, &value, err));
            memcpy(at, &value, sizeof value);
        }
    }
    if (job->initial_epoch >= job->epochs) {
        return ls_json_fail(ls_json_member(ls_json_member(root, "fit"), "initial_epoch"), err,
                            "%lld epochs count as done and training ends after epoch %lld: nothing is left to do",
                            (long long)job->initial_epoch, (long long)job->epochs);
    }
    return LS_OK;
}

static ls_status read_data(ls_job *job, ls_json data, ls_err *err) {
    const char *train = NULL, *validation = NULL;
    LS_TRY(ls_json_get_string(data, "train", &train, err));
    LS_TRY(ls_json_get_string(data, "validation", &validation, err));
    if (train == NULL) {
        return ls_json_fail(data, err, "\"train\" is missing: the training data, for example \"mnist.h5:/train\"");
    }
    LS_TRY(ls_json_get_double(data, "validation_split", 0, 1, &job->validation_split, err));
    if (job->validation_split >= 1) {
        return ls_json_fail(ls_json_member(data, "validation_split"), err, "expected a fraction below 1, found %g",
                            job->validation_split);
    }
    if (validation != NULL && job->validation_split > 0) {
        return ls_json_fail(ls_json_member(data, "validation_split"), err,
                            "there is \"validation\" as well; give one of the two");
    }
    job->scale = job->offset = NAN;
    LS_TRY(ls_json_get_double(data, "scale", -1e300, 1e300, &job->scale, err));
    LS_TRY(ls_json_get_double(data, "offset", -1e300, 1e300, &job->offset, err));
    if (job->scale == 0) {
        return ls_json_fail(ls_json_member(data, "scale"), err, "a scale of 0 would erase the data");
    }
    job->train = ls_path_join(job->folder, train);
    job->validation = validation != NULL ? ls_path_join(job->folder, validation) : NULL;
    return LS_OK;
}

static ls_status read_class_weight(ls_job *job, ls_json at, ls_err *err) {
    if (!ls_json_present(at)) {
        return LS_OK;
    }
    LS_TRY(ls_json_expect_object(at, err));
    job->class_weight_at = at;
    const char *key;
    json_t *value;
    for (int pass = 0; pass < 2; pass++) {
        json_object_foreach(at.value, key, value) {
            char *end;
            unsigned long n = strtoul(key, &end, 10);
            if (*key < '0' || *key > '9' || *end != '\0' || n >= 1 << 20) {
                return ls_json_fail(ls_json_member(at, key), err, "expected class numbers such as \"0\" as keys");
            }
            if (pass == 0) {
                job->n_class_weights = n + 1 > job->n_class_weights ? n + 1 : job->n_class_weights;
            } else {
                LS_TRY(ls_json_get_double(at, key, 0, 1e300, &job->class_weight[n], err));
            }
        }
        if (pass == 0) {
            job->class_weight = ls_xcalloc(job->n_class_weights + 1, sizeof *job->class_weight);
            for (size_t i = 0; i < job->n_class_weights; i++) {
                job->class_weight[i] = 1;
            }
        }
    }
    return LS_OK;
}

static ls_status read_model(ls_job *job, ls_json root, ls_err *err) {
    ls_json model = ls_json_member(root, "model");
    const char *weights = NULL;
    LS_TRY(ls_json_get_string(root, "weights", &weights, err));
    job->weights = weights != NULL ? ls_path_join(job->folder, weights) : NULL;
    if (json_is_string(model.value)) {
        job->model_path = ls_path_join(job->folder, json_string_value(model.value));
        if (job->weights == NULL && ls_keras_is_hdf5(job->model_path)) {
            job->weights = ls_xstrdup(job->model_path);
        }
        return LS_OK;
    }
    if (json_is_object(model.value)) {
        job->model = model;
        return LS_OK;
    }
    char found[96];
    return ls_json_fail(model, err, "expected the path of a Keras JSON file, or the model itself, found %s",
                        ls_json_describe(model.value, found, sizeof found));
}

static ls_status read_rest(ls_job *job, ls_json root, ls_err *err) {
    static const char *const precisions[] = {"float32", "bfloat16", "mixed_bfloat16"};
    ls_json compile = ls_json_member(root, "compile"), fit = ls_json_member(root, "fit");
    static const char *const convolutions[] = {"auto", "direct"};
    ls_json distribute = ls_json_member(root, "distribute");
    int precision = 0, convolution = 0, wire = 0;
    LS_TRY(ls_json_get_choice(distribute, "precision", precisions, 3, &precision, err));
    LS_TRY(ls_json_get_choice(distribute, "convolution", convolutions, 2, &convolution, err));
    LS_TRY(ls_json_get_choice(distribute, "wire", precisions, 2, &wire, err));
    job->bfloat16 = precision > 0;
    job->wire_bfloat16 = wire > 0;
    job->direct_convolution = convolution == 1;
    job->loss = ls_json_member(compile, "loss");
    job->metrics = ls_json_member(compile, "metrics");
    job->weighted_metrics = ls_json_member(compile, "weighted_metrics");
    job->optimizer = ls_json_member(compile, "optimizer");
    job->loss_weights = ls_json_member(compile, "loss_weights");
    job->callbacks = ls_json_member(fit, "callbacks");
    job->plugins = ls_json_member(root, "plugins");
    if (!ls_json_present(job->loss)) {
        return ls_json_fail(compile, err, "\"loss\" is missing, for example \"sparse_categorical_crossentropy\"");
    }
    if (!ls_json_present(job->optimizer)) {
        return ls_json_fail(compile, err, "\"optimizer\" is missing, for example \"adam\"");
    }
    return read_class_weight(job, ls_json_member(fit, "class_weight"), err);
}

/* "fit.epochs=3" */
static ls_status apply_set(ls_job *job, const char *set, ls_err *err) {
    const char *equals = strchr(set, '=');
    if (equals == NULL || equals == set) {
        return ls_fail(err, LS_EINPUT, "--set %s: expected KEY=VALUE, for example --set fit.epochs=3", set);
    }
    char *origin = ls_xprintf("--set %s", set), *path = ls_xprintf("%.*s", (int)(equals - set), set);
    json_t *value = json_loads(equals + 1, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    if (value == NULL && strchr("{[\"", equals[1]) != NULL && equals[1] != '\0') {
        ls_status status = ls_fail(err, LS_EINPUT, "%s: the value is not valid JSON", origin);
        free(origin);
        free(path);
        return status;
    }
    if (value == NULL) {
        value = json_string(equals + 1);
    }
    ls_status status = value != NULL ? ls_json_set(&job->doc, path, value, origin, err)
                                     : ls_fail(err, LS_EINPUT, "%s: the value is not valid UTF-8", origin);
    free(origin);
    free(path);
    return status;
}

static ls_status read_all(ls_job *job, char *const *sets, size_t n_sets, ls_err *err) {
    ls_json root = ls_json_root(&job->doc);
    LS_TRY(ls_json_expect_object(root, err));
    for (size_t i = 0; i < n_sets; i++) {
        LS_TRY(apply_set(job, sets[i], err));
    }
    LS_TRY(check_keys(root, err));
    const char *name = job->name;
    LS_TRY(ls_json_get_string(root, "name", &name, err));
    if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL) {
        return ls_json_fail(ls_json_member(root, "name"), err, "expected a name that can be part of a file name");
    }
    char *copy = ls_xstrdup(name);
    free(job->name);
    job->name = copy;
    LS_TRY(read_model(job, root, err));
    LS_TRY(read_data(job, ls_json_member(root, "data"), err));
    LS_TRY(read_rows(job, root, err));
    return read_rest(job, root, err);
}

static char *name_of(const char *path) {
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    return ls_xprintf("%.*s", (int)(dot != NULL && dot > base ? dot - base : (long)strlen(base)), base);
}

static ls_status finish(ls_job *job, char *const *sets, size_t n_sets, ls_err *err) {
    ls_status status = read_all(job, sets, n_sets, err);
    if (status != LS_OK) {
        ls_job_release(job);
    }
    return status;
}

ls_status ls_job_parse(ls_job *job, const char *name, const char *folder, const char *text, char *const *sets,
                       size_t n_sets, ls_err *err) {
    *job = (ls_job){0};
    LS_TRY(ls_json_parse(&job->doc, name, text, err));
    job->folder = ls_xstrdup(folder);
    job->name = name_of(name);
    return finish(job, sets, n_sets, err);
}

ls_status ls_job_load(ls_job *job, const char *path, char *const *sets, size_t n_sets, ls_err *err) {
    *job = (ls_job){0};
    LS_TRY(ls_json_load(&job->doc, path, err));
    job->folder = ls_path_folder(path);
    job->name = name_of(path);
    return finish(job, sets, n_sets, err);
}

void ls_job_release(ls_job *job) {
    ls_json_release(&job->doc);
    free(job->folder);
    free(job->name);
    free(job->model_path);
    free(job->weights);
    free(job->train);
    free(job->validation);
    free(job->class_weight);
    *job = (ls_job){0};
}

/* The path of "FILE:/GROUP" made absolute. */
static json_t *absolute(const char *path) {
    char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);
    char *whole = cwd != NULL ? ls_path_join(cwd, path) : ls_xstrdup(path);
    json_t *text = json_string(whole);
    free(cwd);
    free(whole);
    return text;
}

static json_t *section_of(json_t *root, const char *name) {
    json_t *section = json_object_get(root, name);
    if (!json_is_object(section)) {
        section = json_object();
        json_object_set_new(root, name, section);
    }
    return section;
}

/* Paths of plugins made absolute. What is wrong with the list is said where it is loaded. */
static void resolve_plugins(const ls_job *job, json_t *plugins) {
    for (size_t i = 0; i < json_array_size(plugins); i++) {
        json_t *at = json_array_get(plugins, i), *path = json_is_object(at) ? json_object_get(at, "path") : at;
        if (!json_is_string(path)) {
            continue;
        }
        char *whole = ls_path_join(job->folder, json_string_value(path));
        if (json_is_object(at)) {
            json_object_set_new(at, "path", absolute(whole));
        } else {
            json_array_set_new(plugins, i, absolute(whole));
        }
        free(whole);
    }
}

ls_status ls_job_text(const ls_job *job, char **text, ls_err *err) {
    json_t *root = json_deep_copy(job->doc.root);
    json_object_set_new(root, "name", json_string(job->name));
    if (job->model_path != NULL) {
        ls_json_doc model;
        ls_status status = ls_keras_load_model(&model, job->model_path, err);
        if (status != LS_OK) {
            json_decref(root);
            return status;
        }
        json_object_set(root, "model", model.root);
        ls_json_release(&model);
    }
    if (job->weights != NULL) {
        json_object_set_new(root, "weights", absolute(job->weights));
    }
    json_t *data = section_of(root, "data");
    json_object_set_new(data, "train", absolute(job->train));
    if (job->validation != NULL) {
        json_object_set_new(data, "validation", absolute(job->validation));
    }
    resolve_plugins(job, json_object_get(root, "plugins"));
    for (int i = 0; i < N_ROWS; i++) {
        const row *r = &rows[i];
        const void *at = (const char *)job + r->at;
        json_object_set_new(section_of(root, r->section), r->key,
                            r->kind == INT                                ? json_integer(*(const int64_t *)at)
                            : r->kind == AUTO && *(const double *)at == 0 ? json_string("auto")
                            : r->kind != BOOL                             ? json_real(*(const double *)at)
                                                                          : json_boolean(*(const bool *)at));
    }
    json_object_set_new(section_of(root, "distribute"), "precision",
                        json_string(job->bfloat16 ? "bfloat16" : "float32"));
    json_object_set_new(section_of(root, "distribute"), "wire",
                        json_string(job->wire_bfloat16 ? "bfloat16" : "float32"));
    json_object_set_new(section_of(root, "distribute"), "convolution",
                        json_string(job->direct_convolution ? "direct" : "auto"));
    *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    return *text != NULL ? LS_OK : ls_fail(err, LS_ENOMEM, "out of memory for the job's text");
}
