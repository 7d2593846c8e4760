#include "worker/metric/metric.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/additions.h"
#include "common/text.h"
#include "worker/metric/metric_rows.h"

static const ls_metric_class *const classes[] = {
#define X(name) &ls_metric_##name,
    LS_METRIC_LIST(X)
#undef X
        NULL,
};

static ls_additions added;

static const ls_metric_class *find_built_in(const char *name) {
    for (int i = 0; classes[i] != NULL; i++) {
        if (strcmp(classes[i]->name, name) == 0 || ls_word_listed(classes[i]->aliases, name)) {
            return classes[i];
        }
    }
    return NULL;
}

bool ls_metric_built_in(const ls_metric_class *class_) {
    for (int i = 0; classes[i] != NULL; i++) {
        if (classes[i] == class_) {
            return true;
        }
    }
    return false;
}

static bool built_in(const char *name) {
    return ls_word_listed("accuracy acc Accuracy", name) || find_built_in(name) != NULL || ls_loss_built_in(name);
}

ls_status ls_metric_class_add(const ls_metric_class *class_, const char *owner, ls_err *err) {
    const ls_addition row = {.name = class_->name, .aliases = class_->aliases, .owner = owner, .row = class_};
    return ls_additions_add(&added, "metric", built_in, &row, err);
}

void ls_metric_class_drop_added(void) {
    ls_additions_clear(&added);
}

static const ls_metric_class *accuracy_for(const ls_shape *output, bool sparse_target) {
    if (sparse_target) {
        return &ls_metric_sparse_categorical_accuracy;
    }
    return output->rank == 0 || output->dim[output->rank - 1] == 1 ? &ls_metric_binary_accuracy
                                                                   : &ls_metric_categorical_accuracy;
}

/* The class of a name: a row of the table, "accuracy" in its three forms, the confusion matrix in its two, or any loss.
 */
static ls_status find(ls_json at, const char *name, const ls_shape *output, bool sparse, ls_metric *m, ls_err *err) {
    if (ls_word_listed("accuracy acc Accuracy", name)) {
        m->class_ = accuracy_for(output, sparse);
        return LS_OK;
    }
    if (sparse && ls_word_listed("confusion_matrix ConfusionMatrix", name)) {
        m->class_ = &ls_metric_sparse_confusion_matrix;
        return LS_OK;
    }
    m->class_ = find_built_in(name);
    if (m->class_ == NULL) {
        m->class_ = ls_additions_find(&added, name);
    }
    if (m->class_ != NULL) {
        return LS_OK;
    }
    m->loss = (ls_loss){.class_ = ls_loss_class_find(name), .a = 1.0, .b = 1.0};
    if (m->loss.class_ != NULL) {
        m->class_ = m->loss.class_->sparse ? &ls_metric_sparse_loss : &ls_metric_loss;
        return LS_OK;
    }
    enum { MAX_NAMES = 128 };
    const char *names[MAX_NAMES] = {"accuracy"};
    size_t n = 1;
    for (size_t i = 0; classes[i] != NULL && n < MAX_NAMES; i++) {
        names[n++] = classes[i]->name;
    }
    for (size_t i = 0; ls_loss_classes()[i] != NULL && n < MAX_NAMES; i++) {
        names[n++] = ls_loss_classes()[i]->name;
    }
    n = ls_additions_names(&added, names, n, MAX_NAMES);
    n = ls_loss_class_added_names(names, n, MAX_NAMES);
    return ls_json_unknown(at, name, "a metric", names, n, err);
}

/* top_k: without a threshold every prediction among the largest counts. */
static ls_status parse_selection(ls_metric *m, ls_json config, ls_err *err) {
    int64_t class_id = -1;
    LS_TRY(ls_json_get_int(config, "class_id", 0, m->n_classes - 1, &class_id, err));
    m->class_id = class_id + 1;
    m->only_top_k = ls_json_present(ls_json_member(config, "top_k"));
    LS_TRY(ls_json_get_int(config, "top_k", 1, m->n_classes, &m->k, err));
    m->threshold = m->only_top_k ? -INFINITY : m->threshold;
    return LS_OK;
}

static ls_status parse_config(ls_metric *m, ls_json config, ls_err *err) {
    static const char *const averages[] = {"macro", "micro", "weighted"};
    const ls_loss_class *loss = m->loss.class_; /* a loss brings its own keys */
    const char *const keys[] = {loss != NULL ? loss->keys : m->class_->keys,
                                loss != NULL ? "name dtype fn axis" : "name dtype fn"};
    LS_TRY(ls_json_only_listed(config, keys, 2, "metric", loss != NULL ? loss->name : m->class_->name, err));
    if (loss != NULL) {
        return ls_loss_configure(&m->loss, config, err);
    }
    if (m->class_->configure != NULL) {
        return m->class_->configure(m, config, err);
    }
    if (m->class_ == &ls_metric_precision || m->class_ == &ls_metric_recall) {
        LS_TRY(parse_selection(m, config, err));
    }
    ls_json thresholds = ls_json_member(config, "thresholds");
    if (json_is_array(thresholds.value) && ls_json_length(thresholds) == 1) {
        thresholds = ls_json_element(thresholds, 0);
    }
    if (ls_json_present(thresholds)) {
        if (!json_is_number(thresholds.value)) {
            return ls_json_fail(thresholds, err, "expected one number: a metric has one value in the log");
        }
        m->threshold = json_number_value(thresholds.value);
    }
    LS_TRY(ls_json_get_double(config, "threshold", 0, 1, &m->threshold, err));
    LS_TRY(ls_json_get_choice(config, "average", averages, 3, &m->mode, err));
    return ls_json_get_int(config, "k", 1, INT64_MAX, &m->k, err);
}

ls_status ls_metric_parse(ls_json at, const ls_shape *output, bool sparse_target, ls_metric *out, ls_err *err) {
    *out = (ls_metric){0};
    const char *name = NULL, *shown = NULL;
    ls_json config = {.doc = at.doc};
    if (json_is_string(at.value)) {
        name = json_string_value(at.value);
        LS_TRY(find(at, name, output, sparse_target, out, err));
    } else {
        LS_TRY(ls_json_expect_object(at, err));
        LS_TRY(ls_json_get_string(at, "class_name", &name, err));
        if (name == NULL) {
            return ls_json_fail(at, err, "a metric needs a \"class_name\"");
        }
        LS_TRY(find(ls_json_member(at, "class_name"), name, output, sparse_target, out, err));
        config = ls_json_member(at, "config");
        LS_TRY(ls_json_get_string(config, "name", &shown, err));
        name = out->class_ == &ls_metric_loss || out->class_ == &ls_metric_sparse_loss ? out->loss.class_->name
                                                                                       : out->class_->name;
    }
    out->k = 5;
    out->n_classes = output->rank > 0 ? output->dim[output->rank - 1] : 1;
    /* F1 and IoU take the largest class unless a threshold is given. */
    out->threshold = out->class_ == &ls_metric_f1_score || out->class_ == &ls_metric_mean_iou ? -1 : 0.5;
    out->n_labels = 1;
    ls_status status = parse_config(out, config, err);
    if (status != LS_OK) {
        ls_metric_release(out);
        return status;
    }
    snprintf(out->name, sizeof out->name, "%s", shown != NULL ? shown : name);
    return LS_OK;
}

void ls_metric_release(ls_metric *m) {
    free(m->thresholds);
    free(m->label_weights);
    m->thresholds = m->label_weights = NULL;
}
