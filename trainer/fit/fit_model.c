#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "trainer/fit/fit_private.h"
#include "trainer/fit/keras_file.h"

/* A fresh copy of the model's text: rank 0 has the file and so the lines, the others the resolved job. */
static ls_status model_doc(const ls_fit *f, ls_json_doc *doc, ls_err *err) {
    if (f->job.model_path != NULL) {
        return ls_keras_load_model(doc, f->job.model_path, err);
    }
    char *name = ls_xprintf("%s: model", f->job.doc.name);
    ls_json_wrap(doc, name, f->job.model.value);
    free(name);
    return LS_OK;
}

/* Another doc of the same text, so that lines are found in it too. */
static ls_status copy_doc(const ls_json_doc *doc, ls_json_doc *copy, ls_err *err) {
    if (doc->text != NULL) {
        return ls_json_parse(copy, doc->name, doc->text, err);
    }
    ls_json_wrap(copy, doc->name, doc->root);
    return LS_OK;
}

ls_status ls_fit_build_for(ls_model **out, ls_json_doc *doc, const char *data, ls_err *err) {
    ls_err first = LS_ERR_INIT, second = LS_ERR_INIT;
    ls_json_doc copy = {0};
    LS_TRY(copy_doc(doc, &copy, err));
    if (ls_model_build(out, doc, NULL, 0, &first) == LS_OK) {
        ls_json_release(&copy);
        return LS_OK;
    }
    ls_shape shape;
    bool known = ls_source_input_shape(data, &shape, &second) == LS_OK && shape.rank > 0;
    if (known && ls_model_build(out, &copy, &shape, 1, &second) == LS_OK) {
        return LS_OK;
    }
    ls_json_release(&copy);
    *err = first;
    return first.status;
}

static ls_status build(ls_fit *f, ls_err *err) {
    ls_json_doc doc;
    LS_TRY(model_doc(f, &doc, err));
    return ls_fit_build_for(&f->model, &doc, f->job.train, err);
}

/* The metrics that callbacks call for. */
static ls_status add_metrics(ls_fit *f, ls_err *err) {
    for (int i = 0; i < f->callbacks.n; i++) {
        const ls_callback_class *c = f->callbacks.item[i]->class_;
        for (const char *at = c->metrics; at != NULL && *at != '\0';) {
            size_t n = strcspn(at, " ");
            ls_json word = {.doc = f->job.doc.root != NULL ? &f->job.doc : NULL, .value = json_stringn(at, n)};
            snprintf(word.path, sizeof word.path, "fit.callbacks[%d]", i);
            ls_status status = ls_compile_want_metric(&f->compile, f->model, 0, word, err);
            json_decref(word.value);
            if (status != LS_OK) {
                return ls_err_context(err, "callback %s calls for the metric \"%.*s\"", c->name, (int)n, at);
            }
            at += n + (at[n] == ' ');
        }
    }
    return LS_OK;
}

static ls_status compile(ls_fit *f, ls_err *err) {
    ls_json root = ls_json_root(&f->job.doc);
    LS_TRY(ls_compile_parse(ls_json_member(root, "compile"), f->model, &f->compile, err));
    ls_json config = ls_json_member(f->job.optimizer, "config");
    ls_json rate = ls_json_member(config, "learning_rate");
    if (!ls_json_present(rate)) {
        rate = ls_json_member(config, "lr");
    }
    if (json_is_object(rate.value)) {
        LS_TRY(ls_schedule_parse(rate, NAN, &f->schedule, err));
        f->compile.optimizer.learning_rate = ls_schedule_rate(&f->schedule, 0);
    }
    LS_TRY(ls_callbacks_parse(f->job.callbacks, f->compile.optimizer.learning_rate, &f->callbacks, err));
    return add_metrics(f, err);
}

ls_status ls_fit_build_model(ls_fit *f, ls_err *err) {
    ls_status mine = build(f, err);
    if (mine == LS_OK) {
        mine = compile(f, err);
    }
    if (mine == LS_OK) {
        mine = ls_fit_name_logs(f, err);
    }
    return ls_team_agree(f->team, mine, err);
}
