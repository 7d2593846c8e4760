#include "worker/engine/compile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The value for output i: one for all, by position, or by name. present is false when there is none for it. */
static ls_status for_output(ls_json all, const ls_model *model, int i, bool list_is_per_output, ls_json *out,
                            ls_err *err) {
    *out = (ls_json){.doc = all.doc};
    if (!ls_json_present(all)) {
        return LS_OK;
    }
    bool serialized = json_object_get(all.value, "class_name") != NULL;
    if (json_is_object(all.value) && !serialized) {
        LS_TRY(ls_json_only_keys(all, model->output_names, (size_t)model->n_outputs, err));
        *out = ls_json_member(all, model->output_names[i]);
    } else if (json_is_array(all.value) && list_is_per_output) {
        if (ls_json_length(all) != (size_t)model->n_outputs) {
            return ls_json_fail(all, err, "expected one entry for each of the model's %d outputs, found %zu",
                                model->n_outputs, ls_json_length(all));
        }
        *out = ls_json_element(all, (size_t)i);
    } else {
        *out = all;
    }
    return LS_OK;
}

static ls_status parse_losses(ls_json config, const ls_model *model, ls_compile *out, ls_err *err) {
    ls_json all = ls_json_member(config, "loss"), weights = ls_json_member(config, "loss_weights");
    if (!ls_json_present(all)) {
        return ls_json_fail(config, err, "\"loss\" is missing, for example \"loss\": \"categorical_crossentropy\"");
    }
    for (int i = 0; i < model->n_outputs; i++) {
        ls_json at, weight;
        LS_TRY(for_output(all, model, i, true, &at, err));
        if (ls_json_present(at)) {
            LS_TRY(ls_loss_parse(at, &out->losses[i], err));
        }
        out->loss_weights[i] = 1.0;
        LS_TRY(for_output(weights, model, i, true, &weight, err));
        if (ls_json_present(weight)) {
            if (!json_is_number(weight.value)) {
                return ls_json_fail(weight, err, "expected a number");
            }
            out->loss_weights[i] = json_number_value(weight.value);
        }
    }
    return LS_OK;
}

/* A class that the loss ignores may be none of the output's: it must not reach what looks for its score. Accuracies
 * count it as missed, as Keras does; a confusion matrix has no row for it. */
static ls_status check_ignored(ls_json at, const ls_loss *loss, const ls_metric *m, ls_err *err) {
    bool outside = loss->ignores && (loss->ignored < 0 || loss->ignored >= m->n_classes);
    bool same = m->loss.ignores && m->loss.ignored == loss->ignored;
    if (outside && m->class_->sparse && !same && (m->loss.class_ != NULL || !ls_metric_built_in(m->class_))) {
        return ls_json_fail(at, err, "metric \"%s\" cannot take class %d, which the loss ignores%s", m->name,
                            loss->ignored, m->loss.class_ != NULL ? "; give it the same \"ignore_class\"" : "");
    }
    return LS_OK;
}

static ls_status add_metric(ls_json at, const ls_model *model, int output, bool weighted, ls_compile *out, int *cap,
                            ls_err *err) {
    ls_metric m;
    const ls_loss *loss = &out->losses[output];
    LS_TRY(ls_metric_parse(at, &model->outputs[output]->shape, loss->class_ != NULL && loss->class_->sparse, &m, err));
    ls_status status = check_ignored(at, loss, &m, err);
    if (status != LS_OK) {
        ls_metric_release(&m);
        return status;
    }
    m.weighted = weighted;
    if (model->n_outputs > 1) {
        char name[sizeof m.name];
        snprintf(name, sizeof name, "%.30s_%.32s", model->output_names[output], m.name);
        memcpy(m.name, name, sizeof name);
    }
    if (out->n_metrics == *cap) {
        *cap = *cap > 0 ? 2 * *cap : 8;
        out->metrics = ls_xrealloc(out->metrics, (size_t)*cap * sizeof *out->metrics);
        out->metric_output = ls_xrealloc(out->metric_output, (size_t)*cap * sizeof *out->metric_output);
    }
    out->metrics[out->n_metrics] = m;
    out->metric_output[out->n_metrics++] = output;
    return LS_OK;
}

static ls_status parse_metrics(ls_json all, bool weighted, const ls_model *model, ls_compile *out, int *cap,
                               ls_err *err) {
    /* A list of metrics is for every output; a list of lists is by output. */
    bool nested = model->n_outputs > 1 && json_is_array(json_array_get(all.value, 0));
    for (int i = 0; i < model->n_outputs; i++) {
        ls_json at;
        LS_TRY(for_output(all, model, i, nested, &at, err));
        if (!ls_json_present(at)) {
            continue;
        }
        if (json_is_array(at.value) && ls_json_length(at) == 1 && json_is_array(json_array_get(at.value, 0))) {
            at = ls_json_element(at, 0);
        }
        if (!json_is_array(at.value)) {
            LS_TRY(add_metric(at, model, i, weighted, out, cap, err));
        }
        for (size_t k = 0; json_is_array(at.value) && k < ls_json_length(at); k++) {
            LS_TRY(add_metric(ls_json_element(at, k), model, i, weighted, out, cap, err));
        }
    }
    return LS_OK;
}

ls_status ls_compile_want_metric(ls_compile *compile, const ls_model *model, int output, ls_json at, ls_err *err) {
    int cap = compile->n_metrics;
    LS_TRY(add_metric(at, model, output, false, compile, &cap, err));
    const ls_metric *m = &compile->metrics[compile->n_metrics - 1];
    const ls_loss_class *loss = compile->losses[output].class_;
    if (loss != NULL && loss->sparse != m->class_->sparse) {
        return ls_json_fail(at, err,
                            "metric \"%s\": its targets are %s, those of the loss \"%s\" are %s; use another loss",
                            m->name, m->class_->sparse ? "class numbers" : "one number an output", loss->name,
                            loss->sparse ? "class numbers" : "one number an output");
    }
    const char *name = m->name;
    for (int i = 0; i + 1 < compile->n_metrics; i++) {
        if (strcmp(compile->metrics[i].name, name) == 0) {
            ls_metric_release(&compile->metrics[--compile->n_metrics]);
            return LS_OK;
        }
    }
    return LS_OK;
}

ls_status ls_compile_parse(ls_json config, const ls_model *model, ls_compile *out, ls_err *err) {
    static const char *const keys[] = {"loss",
                                       "loss_weights",
                                       "metrics",
                                       "weighted_metrics",
                                       "optimizer",
                                       "optimizer_config",
                                       "sample_weight_mode",
                                       "run_eagerly",
                                       "steps_per_execution",
                                       "jit_compile"};
    *out = (ls_compile){.n_outputs = model->n_outputs};
    out->losses = ls_xcalloc((size_t)model->n_outputs, sizeof *out->losses);
    out->loss_weights = ls_xcalloc((size_t)model->n_outputs, sizeof *out->loss_weights);
    LS_TRY(ls_json_only_keys(config, keys, sizeof keys / sizeof keys[0], err));
    LS_TRY(parse_losses(config, model, out, err));
    int cap = 0;
    LS_TRY(parse_metrics(ls_json_member(config, "metrics"), false, model, out, &cap, err));
    LS_TRY(parse_metrics(ls_json_member(config, "weighted_metrics"), true, model, out, &cap, err));
    ls_json optimizer = ls_json_member(config, "optimizer");
    if (!ls_json_present(optimizer)) {
        optimizer = ls_json_member(config, "optimizer_config");
    }
    if (!ls_json_present(optimizer)) {
        return ls_json_fail(config, err, "\"optimizer\" is missing, for example \"optimizer\": \"Adam\"");
    }
    return ls_optimizer_parse(optimizer, &out->optimizer, err);
}

void ls_compile_release(ls_compile *compile) {
    for (int i = 0; i < compile->n_metrics; i++) {
        ls_metric_release(&compile->metrics[i]);
    }
    free(compile->losses);
    free(compile->loss_weights);
    free(compile->metrics);
    free(compile->metric_output);
    *compile = (ls_compile){0};
}
