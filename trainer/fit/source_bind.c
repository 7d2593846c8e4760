#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "trainer/fit/source_private.h"

static const char *array_names(const ls_dataset *d, char *out, size_t size) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < d->n_arrays && used < size; i++) {
        used += (size_t)snprintf(out + used, size - used, "%s\"%s\"", i ? ", " : "", d->arrays[i].name);
    }
    return out;
}

static ls_status find_array(const ls_dataset *d, const char *what, const char *name, const char *alias, int *out,
                            ls_err *err) {
    *out = ls_dataset_find(d, name);
    if (*out < 0 && alias != NULL) {
        *out = ls_dataset_find(d, alias);
    }
    if (*out >= 0) {
        return LS_OK;
    }
    char names[400];
    return ls_fail(err, LS_EINPUT, "%s: there is no array for the model's %s \"%s\"; expected \"%s\"%s%s%s, found %s",
                   d->name, what, name, name, alias ? " or \"" : "", alias ? alias : "", alias ? "\"" : "",
                   array_names(d, names, sizeof names));
}

static const char *array_shape(const ls_data_array *a, char *out, size_t size) {
    ls_shape s = {.rank = a->rank < LS_MAX_RANK ? a->rank : LS_MAX_RANK};
    for (int i = 0; i < s.rank; i++) {
        s.dim[i] = (int64_t)a->shape[i];
    }
    return ls_shape_text(&s, false, out, size);
}

/* Equal but for axes of length 1: (28, 28) serves as (28, 28, 1). */
static bool same_shape(const ls_data_array *a, const int64_t *dim, int rank) {
    int i = 0, k = 0;
    for (;;) {
        while (i < a->rank && a->shape[i] == 1) {
            i++;
        }
        while (k < rank && dim[k] == 1) {
            k++;
        }
        if (i == a->rank || k == rank) {
            return i == a->rank && k == rank;
        }
        if ((int64_t)a->shape[i++] != dim[k++]) {
            return false;
        }
    }
}

ls_shape ls_source_whole_shape(const ls_tensor *t) {
    ls_shape s = t->shape;
    if (t->rows > 1 && s.rank < LS_MAX_RANK) {
        memmove(s.dim + 1, s.dim, (size_t)s.rank * sizeof s.dim[0]);
        s.dim[0] = t->rows;
        s.rank++;
    }
    return s;
}

static bool whole_numbers(ls_h5_type t) {
    return t != LS_H5_F32 && t != LS_H5_F64 && t != LS_H5_F16;
}

static void take(ls_source *s, int binding, int array) {
    const ls_data_array *a = &s->store->dataset->arrays[array];
    s->bindings[binding] =
        (ls_binding){.array = array, .elems = a->sample_elems, .scale = a->scale, .offset = a->offset};
}

static ls_status bind_input(ls_source *s, const ls_model *model, int i, const ls_source_options *o, ls_err *err) {
    const ls_dataset *d = s->store->dataset;
    int array;
    LS_TRY(find_array(d, "input", model->input_names[i], model->n_inputs == 1 ? "x" : NULL, &array, err));
    const ls_data_array *a = &d->arrays[array];
    ls_shape want = ls_source_whole_shape(model->inputs[i]);
    char have_text[96], want_text[96];
    if (!same_shape(a, want.dim, want.rank)) {
        return ls_fail(err, LS_EINPUT, "%s: a sample of \"%s\" has the shape %s, but the model's input \"%s\" wants %s",
                       d->name, a->name, array_shape(a, have_text, sizeof have_text), model->input_names[i],
                       ls_shape_text(&want, false, want_text, sizeof want_text));
    }
    take(s, i, array);
    if (model->inputs[i]->dtype == LS_F32) {
        s->bindings[i].scale = isnan(o->scale) ? a->scale : o->scale;
        s->bindings[i].offset = isnan(o->offset) ? a->offset : o->offset;
    }
    return LS_OK;
}

static ls_status bind_target(ls_source *s, const ls_model *model, const ls_loss *loss, int i, ls_err *err) {
    const ls_dataset *d = s->store->dataset;
    int array, at = model->n_inputs + i;
    LS_TRY(find_array(d, "output", model->output_names[i], model->n_outputs == 1 ? "y" : NULL, &array, err));
    const ls_data_array *a = &d->arrays[array];
    ls_shape out = ls_source_whole_shape(model->outputs[i]);
    int64_t classes = out.rank > 0 ? out.dim[out.rank - 1] : 1;
    char have_text[96], want_text[96];
    bool fits = same_shape(a, out.dim, out.rank);
    bool labels = out.rank > 0 && same_shape(a, out.dim, out.rank - 1);
    take(s, at, array);
    if (loss->class_->sparse || (!fits && labels && whole_numbers(a->type))) {
        s->bindings[at].kind = LS_BIND_CLASSES;
        s->bindings[at].n_classes = classes;
        s->bindings[at].ignores = loss->ignores;
        s->bindings[at].ignored = loss->ignored;
        if (labels) {
            return LS_OK;
        }
        ls_shape rows = {.rank = out.rank > 0 ? out.rank - 1 : 0};
        memcpy(rows.dim, out.dim, sizeof rows.dim);
        return ls_fail(err, LS_EINPUT,
                       "%s: a sample of \"%s\" has the shape %s, but the loss \"%s\" of output \"%s\" wants class "
                       "numbers of the shape %s",
                       d->name, a->name, array_shape(a, have_text, sizeof have_text), loss->class_->name,
                       model->output_names[i], ls_shape_text(&rows, false, want_text, sizeof want_text));
    }
    if (!fits) {
        return ls_fail(err, LS_EINPUT,
                       "%s: a sample of \"%s\" has the shape %s, but the model's output \"%s\" gives %s", d->name,
                       a->name, array_shape(a, have_text, sizeof have_text), model->output_names[i],
                       ls_shape_text(&out, false, want_text, sizeof want_text));
    }
    return LS_OK;
}

static ls_status bind_weights(ls_source *s, const ls_source_options *o, ls_err *err) {
    const ls_dataset *d = s->store->dataset;
    int array = ls_dataset_find(d, "sample_weight");
    s->weight_of = -1;
    if (array >= 0) {
        s->weight_of = s->n_inputs + s->n_outputs;
        if (d->arrays[array].sample_elems != 1) {
            return ls_fail(err, LS_EINPUT, "%s: \"sample_weight\" has %zu numbers a sample, expected one", d->name,
                           d->arrays[array].sample_elems);
        }
        take(s, s->weight_of, array);
    }
    if (o->n_class_weights > 0) {
        const ls_binding *y = &s->bindings[s->n_inputs];
        if (y->array < 0 || y->kind != LS_BIND_CLASSES || y->elems != 1) {
            return ls_json_fail(o->class_weight_at, err,
                                "needs one class number a sample, and \"%s\" of %s does not hold that",
                                y->array >= 0 ? d->arrays[y->array].name : "y", d->name);
        }
        if ((int64_t)o->n_class_weights > y->n_classes) {
            char key[24];
            snprintf(key, sizeof key, "%zu", o->n_class_weights - 1);
            return ls_json_fail(ls_json_member(o->class_weight_at, key), err,
                                "the model's output has the classes 0 to %lld", (long long)y->n_classes - 1);
        }
        s->n_class_weights = o->n_class_weights;
        s->class_weight = o->class_weight;
    }
    s->feed.has_sample_weights = s->weight_of >= 0 || s->n_class_weights > 0;
    return LS_OK;
}

ls_status ls_source_bind(ls_source *s, const ls_model *model, const ls_compile *compile, const ls_source_options *o,
                         ls_err *err) {
    s->n_inputs = model->n_inputs;
    s->n_outputs = model->n_outputs;
    s->n_bindings = s->n_inputs + s->n_outputs + 1;
    s->weight_of = -1;
    s->bindings = ls_xcalloc((size_t)s->n_bindings, sizeof *s->bindings);
    for (int i = 0; i < s->n_bindings; i++) {
        s->bindings[i].array = -1;
    }
    if (s->store->dataset->n_samples > UINT32_MAX) {
        return ls_fail(err, LS_EINPUT, "%s: has %llu samples; more than 4,294,967,295 cannot be counted",
                       s->store->dataset->name, (unsigned long long)s->store->dataset->n_samples);
    }
    for (int i = 0; i < s->n_inputs; i++) {
        LS_TRY(bind_input(s, model, i, o, err));
    }
    if (o->no_targets) {
        return LS_OK;
    }
    for (int i = 0; i < s->n_outputs; i++) {
        if (compile->losses[i].class_ != NULL) {
            LS_TRY(bind_target(s, model, &compile->losses[i], i, err));
        }
    }
    return bind_weights(s, o, err);
}

ls_status ls_source_input_shape(const char *name, ls_shape *shape, ls_err *err) {
    ls_dataset *d;
    *shape = (ls_shape){0};
    LS_TRY(ls_dataset_open(name, &d, err));
    int array = ls_dataset_find(d, "x");
    if (array >= 0 && d->arrays[array].rank <= LS_MAX_RANK) {
        shape->rank = d->arrays[array].rank;
        for (int i = 0; i < shape->rank; i++) {
            shape->dim[i] = (int64_t)d->arrays[array].shape[i];
        }
    }
    ls_dataset_destroy(d);
    return LS_OK;
}
