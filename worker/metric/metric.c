#include "worker/metric/metric.h"

#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "worker/metric/metric_rows.h"

static const ls_metric_class *const classes[] = {
    &ls_metric_binary_accuracy,     &ls_metric_categorical_accuracy, &ls_metric_sparse_categorical_accuracy,
    &ls_metric_mean_absolute_error, &ls_metric_mean_squared_error,   NULL,
};

static const ls_metric_class *accuracy_for(const ls_shape *output, bool sparse_target) {
    if (sparse_target) {
        return &ls_metric_sparse_categorical_accuracy;
    }
    return output->rank == 0 || output->dim[output->rank - 1] == 1 ? &ls_metric_binary_accuracy
                                                                   : &ls_metric_categorical_accuracy;
}

static ls_status find(ls_json at, const char *name, const ls_shape *output, bool sparse, const ls_metric_class **out,
                      ls_err *err) {
    if (ls_word_listed("accuracy acc Accuracy", name)) {
        *out = accuracy_for(output, sparse);
        return LS_OK;
    }
    const char *names[sizeof classes / sizeof classes[0] + 1] = {"accuracy"};
    size_t n = 1;
    for (size_t i = 0; classes[i] != NULL; i++) {
        names[n++] = classes[i]->name;
        if (strcmp(classes[i]->name, name) == 0 || ls_word_listed(classes[i]->aliases, name)) {
            *out = classes[i];
            return LS_OK;
        }
    }
    const char *near = ls_nearest(name, names, n);
    return ls_json_fail(at, err, "\"%s\" is not a metric that Lockstep knows%s%s%s", name,
                        near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

ls_status ls_metric_parse(ls_json at, const ls_shape *output, bool sparse_target, ls_metric *out, ls_err *err) {
    *out = (ls_metric){.threshold = 0.5, .k = 5};
    const char *name = NULL, *shown = NULL;
    if (json_is_string(at.value)) {
        name = json_string_value(at.value);
        LS_TRY(find(at, name, output, sparse_target, &out->class_, err));
    } else {
        LS_TRY(ls_json_expect_object(at, err));
        LS_TRY(ls_json_get_string(at, "class_name", &name, err));
        if (name == NULL) {
            return ls_json_fail(at, err, "a metric needs a \"class_name\"");
        }
        LS_TRY(find(ls_json_member(at, "class_name"), name, output, sparse_target, &out->class_, err));
        ls_json config = ls_json_member(at, "config");
        const char *key;
        json_t *value;
        json_object_foreach(config.value, key, value) {
            if (!ls_word_listed("name dtype fn", key) && !ls_word_listed(out->class_->keys, key)) {
                return ls_json_fail(ls_json_member(config, key), err, "unknown key of metric %s", out->class_->name);
            }
        }
        LS_TRY(ls_json_get_string(config, "name", &shown, err));
        LS_TRY(ls_json_get_double(config, "threshold", 0, 1, &out->threshold, err));
        LS_TRY(ls_json_get_int(config, "k", 1, INT64_MAX, &out->k, err));
        name = out->class_->name;
    }
    snprintf(out->name, sizeof out->name, "%s", shown != NULL ? shown : name);
    return LS_OK;
}
