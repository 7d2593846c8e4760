/* Writing a checkpoint: all of it under its name, or nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/fault.h"
#include "common/file.h"
#include "common/json.h"
#include "common/text.h"
#include "storage/checkpoint.h"
#include "storage/checkpoint_private.h"
#include "storage/h5_sink.h"
#include "storage/hash.h"
#include "storage/seal.h"

/* What Keras reads as "a Keras 2 file": its major version decides about conversions. */
static const char keras_version[] = "2.15.0";
static const char keras_backend[] = "tensorflow";
static const char top_level[] = "top_level_model_weights";

typedef struct {
    const ls_checkpoint *ckpt;
    ls_h5 *file;
    int write_error; /* errno of the first failed write */
    json_t *checksums;
} writing;

static ls_status write_slices(ls_h5_array *to, const ls_checkpoint_array *array, ls_hash *hash, ls_err *err) {
    const ls_h5_info *info = ls_h5_array_info(to);
    uint64_t slice = ls_ckpt_slice_rows(info), n;
    for (uint64_t row = 0; row < info->n_rows; row += n) {
        n = info->n_rows - row < slice ? info->n_rows - row : slice;
        const char *data = (const char *)array->data + row * info->row_bytes;
        ls_hash_add(hash, data, n * info->row_bytes);
        LS_TRY(ls_h5_array_write(to, row, n, data, err));
    }
    return LS_OK;
}

static ls_status write_array(writing *w, const char *path, const ls_checkpoint_array *array, ls_err *err) {
    LS_ASSERT(array->data != NULL);
    char hex[17];
    ls_h5_array *to;
    LS_TRY(ls_h5_array_create(w->file, path, array->type, array->rank, array->dims, NULL, &to, err));
    ls_hash *hash = ls_hash_start();
    ls_status s = write_slices(to, array, hash, err);
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)ls_hash_finish64(hash));
    json_object_set_new(w->checksums, path, json_string(hex));
    ls_status closed = ls_h5_array_close(to, s == LS_OK ? err : NULL);
    LS_TRY(s != LS_OK ? s : closed);
    return w->write_error == 0 ? LS_OK : LS_EIO; /* the sentence is made when all is closed */
}

/* array at "folder/name" */
static ls_status write_array_in(writing *w, const char *folder, const ls_checkpoint_array *array, ls_err *err) {
    char *path = ls_xprintf("%s/%s", folder, array->name);
    ls_status s = write_array(w, path, array, err);
    free(path);
    return s;
}

static ls_status write_layer(writing *w, const ls_checkpoint_layer *layer, ls_err *err) {
    if (strcmp(layer->name, top_level) == 0) {
        return ls_fail(err, LS_EINPUT, "layer \"%s\": Keras keeps this name for itself; rename the layer", layer->name);
    }
    char *group = ls_xprintf("%s/%s", LS_CKPT_WEIGHTS, layer->name);
    const char **names = ls_xcalloc(layer->n_weights, sizeof *names);
    for (size_t i = 0; i < layer->n_weights; i++) {
        names[i] = layer->weights[i].name;
    }
    ls_status s = ls_h5_group_create(w->file, group, err);
    if (s == LS_OK) {
        s = ls_h5_attr_set_strings(w->file, group, "weight_names", names, layer->n_weights, err);
    }
    for (size_t i = 0; s == LS_OK && i < layer->n_weights; i++) {
        s = write_array_in(w, group, &layer->weights[i], err);
    }
    free(names);
    free(group);
    return s;
}

static ls_status write_keras_names(writing *w, const char *group, ls_err *err) {
    LS_TRY(ls_h5_attr_set_string(w->file, group, "keras_version", keras_version, LS_H5_FIXED, err));
    return ls_h5_attr_set_string(w->file, group, "backend", keras_backend, LS_H5_FIXED, err);
}

static ls_status write_keras_part(writing *w, ls_err *err) {
    const ls_checkpoint *c = w->ckpt;
    LS_TRY(write_keras_names(w, "/", err));
    if (c->model_config != NULL) {
        LS_TRY(ls_h5_attr_set_string(w->file, "/", "model_config", c->model_config, LS_H5_VARIABLE, err));
    }
    if (c->training_config != NULL) {
        LS_TRY(ls_h5_attr_set_string(w->file, "/", "training_config", c->training_config, LS_H5_VARIABLE, err));
    }
    LS_TRY(ls_h5_group_create(w->file, LS_CKPT_WEIGHTS "/top_level_model_weights", err));
    LS_TRY(ls_h5_attr_set_strings(w->file, LS_CKPT_WEIGHTS "/top_level_model_weights", "weight_names", NULL, 0, err));
    LS_TRY(write_keras_names(w, LS_CKPT_WEIGHTS, err));
    const char **names = ls_xcalloc(c->n_layers, sizeof *names);
    for (size_t i = 0; i < c->n_layers; i++) {
        names[i] = c->layers[i].name;
    }
    ls_status s = ls_h5_attr_set_strings(w->file, LS_CKPT_WEIGHTS, "layer_names", names, c->n_layers, err);
    free(names);
    for (size_t i = 0; s == LS_OK && i < c->n_layers; i++) {
        s = write_layer(w, &c->layers[i], err);
    }
    return s;
}

/* The JSON that gives order and names back; the paths alone could be cut at '/' in several ways. Freed by the caller.
 */
static char *index_text(const ls_checkpoint *c) {
    json_t *slots = json_array(), *scalars = json_array(), *arrays = json_array();
    for (size_t i = 0; i < c->n_slots; i++) {
        json_array_append_new(slots, json_pack("[sss]", c->slots[i].slot, c->slots[i].layer, c->slots[i].weight));
    }
    for (size_t i = 0; i < c->n_scalars; i++) {
        json_array_append_new(scalars, json_string(c->scalars[i].name));
    }
    for (size_t i = 0; i < c->n_arrays; i++) {
        json_array_append_new(arrays, json_string(c->arrays[i].name));
    }
    json_t *index = json_pack("{s:o,s:o,s:o}", "slots", slots, "scalars", scalars, "arrays", arrays);
    char *text = json_dumps(index, JSON_COMPACT);
    json_decref(index);
    return text;
}

static ls_status write_optimizer(writing *w, ls_err *err) {
    const ls_checkpoint *c = w->ckpt;
    for (size_t i = 0; i < c->n_slots; i++) {
        char *group = ls_xprintf("%s/%s/%s", LS_CKPT_OPTIMIZER, c->slots[i].slot, c->slots[i].layer);
        ls_status s = write_array_in(w, group, &c->slots[i].array, err);
        free(group);
        LS_TRY(s);
    }
    if (c->n_scalars == 0) {
        return LS_OK;
    }
    double *values = ls_xcalloc(c->n_scalars, sizeof *values);
    for (size_t i = 0; i < c->n_scalars; i++) {
        values[i] = c->scalars[i].value;
    }
    ls_checkpoint_array all = {.name = "scalars",
                               .type = LS_H5_F64,
                               .rank = 1,
                               .dims = {c->n_scalars},
                               .n_elems = c->n_scalars,
                               .n_bytes = c->n_scalars * sizeof *values,
                               .data = values};
    ls_status s = write_array(w, LS_CKPT_SCALARS, &all, err);
    free(values);
    return s;
}

static ls_status write_texts(writing *w, const char *index, ls_err *err) {
    const ls_checkpoint *c = w->ckpt;
    const char *state = c->state != NULL ? c->state : "{}";
    LS_TRY(ls_h5_attr_set_int(w->file, LS_CKPT_OURS, "format", LS_CKPT_FORMAT, err));
    LS_TRY(ls_h5_attr_set_string(w->file, LS_CKPT_OURS, "lockstep_version", LOCKSTEP_VERSION, LS_H5_FIXED, err));
    LS_TRY(ls_h5_attr_set_int(w->file, LS_CKPT_OURS, "epoch", c->epoch, err));
    LS_TRY(ls_h5_attr_set_int(w->file, LS_CKPT_OURS, "step", c->step, err));
    LS_TRY(ls_h5_attr_set_string(w->file, LS_CKPT_OURS, "state", state, LS_H5_VARIABLE, err));
    LS_TRY(ls_h5_attr_set_string(w->file, LS_CKPT_OURS, "index", index, LS_H5_VARIABLE, err));
    char hex[17];
    snprintf(
        hex, sizeof hex, "%016llx",
        (unsigned long long)ls_ckpt_hash_texts(c->model_config, c->training_config, state, index, c->epoch, c->step));
    json_object_set_new(w->checksums, "texts", json_string(hex));
    char *sums = json_dumps(w->checksums, JSON_COMPACT);
    LS_ASSERT(sums != NULL);
    ls_status s = ls_h5_group_create(w->file, LS_CKPT_CHECKSUMS, err);
    if (s == LS_OK) {
        s = ls_h5_attr_set_string(w->file, LS_CKPT_CHECKSUMS, LS_CKPT_CHECKSUM_ATTR, sums, LS_H5_VARIABLE, err);
    }
    free(sums);
    return s;
}

static ls_status write_everything(writing *w, ls_err *err) {
    char *index = index_text(w->ckpt);
    if (index == NULL) {
        return ls_fail(err, LS_EINPUT, "a name of a slot, scalar or array is not UTF-8 text");
    }
    ls_status s = write_keras_part(w, err);
    if (s == LS_OK) {
        s = ls_h5_group_create(w->file, LS_CKPT_OURS, err);
    }
    if (s == LS_OK) {
        s = write_optimizer(w, err);
    }
    for (size_t i = 0; s == LS_OK && i < w->ckpt->n_arrays; i++) {
        s = write_array_in(w, LS_CKPT_ARRAYS, &w->ckpt->arrays[i], err);
    }
    if (s == LS_OK) {
        s = write_texts(w, index, err);
    }
    free(index);
    return s;
}

static double bytes_needed(const ls_checkpoint *c) {
    double n = 65536;
    for (size_t l = 0; l < c->n_layers; l++) {
        for (size_t i = 0; i < c->layers[l].n_weights; i++) {
            n += (double)c->layers[l].weights[i].n_bytes;
        }
    }
    for (size_t i = 0; i < c->n_slots; i++) {
        n += (double)c->slots[i].array.n_bytes;
    }
    for (size_t i = 0; i < c->n_arrays; i++) {
        n += (double)c->arrays[i].n_bytes;
    }
    return n;
}

/* The sentence for a write that the operating system refused. */
static ls_status fail_write(const writing *w, const char *path, int error, ls_err *err) {
    char needed[32], free_text[32];
    char *folder = ls_path_folder(path);
    struct statvfs fs;
    ls_status s;
    if ((error == ENOSPC || error == EDQUOT || error == EFBIG) && statvfs(folder, &fs) == 0) {
        s = ls_fail(err, LS_EIO,
                    "%s: cannot be written: %s (about %s are needed, %s are free there); make room, or keep fewer "
                    "checkpoints",
                    path, strerror(error), ls_format_bytes(needed, sizeof needed, bytes_needed(w->ckpt)),
                    ls_format_bytes(free_text, sizeof free_text, (double)fs.f_bavail * (double)fs.f_frsize));
    } else {
        s = ls_fail(err, LS_EIO, "%s: cannot be written: %s", path, strerror(error));
    }
    free(folder);
    return s;
}

/* The sealed file at `temporary`; messages name `path`. */
static ls_status write_sealed(const ls_checkpoint *ckpt, const char *temporary, const char *path, ls_err *err) {
    writing w = {.ckpt = ckpt};
    ls_status s = ls_h5_create_watched(temporary, "checkpoint", &w.write_error, &w.file, err);
    if (s == LS_OK) {
        w.checksums = json_object();
        s = write_everything(&w, err);
        ls_status closed = ls_h5_close(w.file, s == LS_OK ? err : NULL);
        s = s == LS_OK ? closed : s;
        json_decref(w.checksums);
    }
    if (s == LS_OK && w.write_error == 0) {
        s = ls_seal_write(temporary, &w.write_error, err);
    }
    if (w.write_error != 0) {
        unlink(temporary); /* before the free room is told */
        s = fail_write(&w, path, w.write_error, err);
    }
    return s;
}

ls_status ls_checkpoint_write(const ls_checkpoint *ckpt, const char *path, ls_err *err) {
    char *temporary = ls_xprintf("%s.tmp.%d", path, (int)getpid());
    char *folder = ls_path_folder(path);
    ls_status s = write_sealed(ckpt, temporary, path, err);
    if (s == LS_OK && (s = ls_ckpt_verify_written(temporary, err)) != LS_OK) {
        ls_err_context(err, "%s: what was written cannot be read back", path);
    }
    if (s == LS_OK) {
        int fault = ls_fault_at(LS_CKPT_FAULT);
        if (fault != 0 || rename(temporary, path) != 0) {
            s = ls_fail(err, LS_EIO, "%s: cannot be given its name: %s", path, strerror(fault ? fault : errno));
        }
    }
    if (s != LS_OK) {
        unlink(temporary);
    } else {
        int fault = ls_fault_at(LS_CKPT_FAULT);
        s = fault ? ls_fail(err, LS_EIO, "%s: cannot be flushed to disk: %s", folder, strerror(fault))
                  : ls_folder_sync(folder, err);
    }
    free(folder);
    free(temporary);
    return s;
}
