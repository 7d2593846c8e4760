#include "trainer/fit/keras_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "storage/checkpoint_folder.h"
#include "trainer/fit/fit_private.h"

bool ls_keras_is_hdf5(const char *path) {
    char start[8] = "";
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return false;
    }
    bool is = fread(start, 1, sizeof start, file) == sizeof start && memcmp(start, "\x89HDF\r\n\x1a\n", 8) == 0;
    fclose(file);
    return is;
}

ls_status ls_keras_load_model(ls_json_doc *doc, const char *path, ls_err *err) {
    if (!ls_keras_is_hdf5(path)) {
        return ls_json_load(doc, path, err);
    }
    ls_checkpoint file = {0};
    LS_TRY(ls_checkpoint_inspect(path, &file, err));
    ls_status status =
        file.model_config != NULL
            ? ls_json_parse(doc, path, file.model_config, err)
            : ls_fail(err, LS_EINPUT,
                      "%s: holds weights only; the model's JSON file or a full-model file (model.save, not "
                      "save_weights) is needed",
                      path);
    ls_checkpoint_release(&file);
    return status;
}

static ls_status find_file(const char *path, char **file, ls_err *err) {
    char *final = ls_path_join(path, "final.h5");
    if (ls_folder_exists(path) && ls_file_exists(final)) {
        *file = final;
        return LS_OK;
    }
    free(final);
    return ls_checkpoint_resolve(path, file, err);
}

ls_status ls_keras_build_model(ls_model **out, const char *path, const ls_shape *input_shapes, int n_shapes,
                               ls_err *err) {
    ls_json_doc doc;
    LS_TRY(ls_keras_load_model(&doc, path, err));
    return ls_model_build(out, &doc, input_shapes, n_shapes, err);
}

ls_status ls_keras_read(const char *path, ls_checkpoint *out, char **file, ls_err *err) {
    LS_TRY(find_file(path, file, err));
    LS_TRY(ls_checkpoint_read(*file, out, err));
    if (out->model_config == NULL) {
        return ls_fail(err, LS_EINPUT, "%s: holds weights only; a full model (model.save, not save_weights) is needed",
                       *file);
    }
    return LS_OK;
}

/* ---- weights ---- */

static bool same_shape(const ls_checkpoint_array *a, const ls_shape *s) {
    bool same = a->rank == s->rank;
    for (int i = 0; same && i < s->rank; i++) {
        same = a->dims[i] == (uint64_t)s->dim[i];
    }
    return same;
}

static const char *shape_text(const ls_checkpoint_array *a, char *out, size_t size) {
    ls_shape shape = {.rank = a->rank < LS_MAX_RANK ? a->rank : LS_MAX_RANK};
    for (int i = 0; i < shape.rank; i++) {
        shape.dim[i] = (int64_t)a->dims[i];
    }
    return ls_shape_text(&shape, false, out, size);
}

/* How many weights from w on lie in the same layer's group. */
static int group_size(const ls_model *model, int w) {
    int n = 1;
    while (w + n < model->n_weights && ls_fit_group_of(model->weights[w + n]) == ls_fit_group_of(model->weights[w])) {
        n++;
    }
    return n;
}

static ls_status check_layer(const ls_model *model, int w, const ls_checkpoint_layer *layer, const char *path,
                             ls_err *err) {
    int n = group_size(model, w);
    const char *name = ls_fit_group_of(model->weights[w])->name;
    if (layer->n_weights != (size_t)n) {
        return ls_fail(err, LS_EINPUT, "%s: its layer \"%s\" has %zu weights where the model's layer \"%s\" has %d",
                       path, layer->name, layer->n_weights, name, n);
    }
    for (int i = 0; i < n; i++) {
        const ls_weight *mine = model->weights[w + i];
        const ls_checkpoint_array *theirs = &layer->weights[i];
        char a[96], b[96];
        if (!same_shape(theirs, &mine->shape)) {
            return ls_fail(err, LS_EINPUT,
                           "%s: \"%s\" of layer \"%s\" has the shape %s where \"%s\" of the model's layer \"%s\" has "
                           "%s",
                           path, theirs->name, layer->name, shape_text(theirs, a, sizeof a), mine->path, name,
                           ls_shape_text(&mine->shape, false, b, sizeof b));
        }
    }
    return LS_OK;
}

static int count_layers(const ls_model *model) {
    int n = 0;
    for (int w = 0; w < model->n_weights; w += group_size(model, w)) {
        n++;
    }
    return n;
}

/* The file's layers that have weights go with the model's, one by one. With engine NULL they are only compared. */
static ls_status walk(ls_engine *engine, const ls_model *model, const ls_checkpoint *from, const char *path,
                      ls_err *err) {
    int w = 0;
    for (size_t l = 0; l < from->n_layers; l++) {
        const ls_checkpoint_layer *layer = &from->layers[l];
        if (layer->n_weights == 0) {
            continue;
        }
        if (engine == NULL) {
            LS_TRY(check_layer(model, w, layer, path, err));
        }
        for (size_t i = 0; engine != NULL && i < layer->n_weights; i++) {
            ls_engine_set(engine, model->weights[w + (int)i], -1, layer->weights[i].data);
        }
        w += group_size(model, w);
    }
    return LS_OK;
}

ls_status ls_keras_set_weights(ls_engine *engine, const ls_model *model, const ls_checkpoint *from, const char *path,
                               ls_err *err) {
    int theirs = 0, mine = count_layers(model);
    for (size_t l = 0; l < from->n_layers; l++) {
        theirs += from->layers[l].n_weights > 0;
    }
    if (theirs != mine) {
        return ls_fail(err, LS_EINPUT, "%s: holds weights of %d layers; the model has %d layers with weights", path,
                       theirs, mine);
    }
    LS_TRY(walk(NULL, model, from, path, err));
    return walk(engine, model, from, path, err);
}
