/* Reading a checkpoint of Lockstep's, or a Keras HDF5 file. Nothing in a file is believed. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "storage/checkpoint.h"
#include "storage/checkpoint_private.h"
#include "storage/hash.h"
#include "storage/seal.h"

typedef struct {
    const char *path;
    ls_h5 *file;
    bool keep_data;
    json_t *checksums; /* NULL: a file of another program, which has none */
    size_t n_checked;
    void *slice; /* of an array that is not kept */
    size_t slice_bytes;
    ls_checkpoint ckpt;
} reading;

static ls_status damaged(const reading *r, ls_err *err, const char *where, const char *what) {
    return ls_fail(err, LS_ECORRUPT, "%s:%s: is damaged: %s", r->path, where, what);
}

static ls_status check_sum(reading *r, const char *path, uint64_t hash, ls_err *err) {
    if (r->checksums == NULL) {
        return LS_OK;
    }
    char hex[17];
    snprintf(hex, sizeof hex, "%016" PRIx64, hash);
    const char *expected = json_string_value(json_object_get(r->checksums, path));
    if (expected == NULL) {
        return damaged(r, err, path, "there is no checksum for it");
    }
    if (strcmp(expected, hex) != 0) {
        return damaged(r, err, path, "its contents do not match their checksum");
    }
    r->n_checked++;
    return LS_OK;
}

/* Deflate cannot shrink by more than 1032; what claims to is a lie about its size. */
static ls_status check_size(const reading *r, const char *path, const ls_h5_info *info, ls_err *err) {
    double n_bytes = (double)info->n_elems * (double)ls_h5_type_bytes(info->type);
    if (n_bytes > 4096.0 + 1040.0 * (double)info->stored_bytes) {
        return damaged(r, err, path, "it claims a size that is not in the file");
    }
    return LS_OK;
}

/* Room for the slices of arrays that are not kept: one memory for all of them. */
static ls_status take_slice(reading *r, size_t n_bytes, ls_err *err) {
    if (n_bytes > r->slice_bytes) {
        free(r->slice);
        r->slice = ls_calloc(n_bytes, 1);
        r->slice_bytes = r->slice != NULL ? n_bytes : 0;
    }
    return r->slice != NULL || n_bytes == 0 ? LS_OK
                                            : ls_fail(err, LS_ENOMEM, "no memory for %zu bytes of an array", n_bytes);
}

static ls_status read_slices(reading *r, ls_h5_array *from, const char *path, ls_checkpoint_array *array, ls_hash *hash,
                             ls_err *err) {
    const ls_h5_info *info = ls_h5_array_info(from);
    if (info->n_elems != array->n_elems) {
        return ls_fail(err, LS_EINPUT, "%s: holds %" PRIu64 " elements; %zu were expected", path, info->n_elems,
                       array->n_elems);
    }
    uint64_t slice = ls_ckpt_slice_rows(info), n;
    size_t row_bytes = info->n_rows > 0 ? array->n_bytes / info->n_rows : 0; /* in memory, after conversion */
    slice = slice < info->n_rows ? slice : info->n_rows;
    LS_TRY(r->keep_data ? ls_ckpt_allocate(array, err) : take_slice(r, slice * row_bytes, err));
    for (uint64_t row = 0; row < info->n_rows; row += n) {
        n = info->n_rows - row < slice ? info->n_rows - row : slice;
        void *to = r->keep_data ? (char *)array->data + row * row_bytes : r->slice;
        LS_TRY(ls_h5_array_read(from, array->type, row, n, to, err));
        ls_hash_add(hash, to, n * row_bytes);
    }
    return LS_OK;
}

/* The values of a described array. */
static ls_status read_values(reading *r, const char *path, ls_checkpoint_array *array, ls_err *err) {
    ls_h5_array *from;
    LS_TRY(ls_h5_array_open(r->file, path, &from, err));
    ls_hash *hash = ls_hash_start();
    ls_status s = read_slices(r, from, path, array, hash, err);
    uint64_t sum = ls_hash_finish64(hash);
    ls_h5_array_discard(from);
    return s == LS_OK ? check_sum(r, path, sum, err) : s;
}

static ls_status read_info(reading *r, const char *path, ls_h5_info *info, ls_err *err) {
    LS_TRY(ls_h5_info_of(r->file, path, info, err));
    return check_size(r, path, info, err);
}

/* ---- the Keras part ---- */

static ls_status read_weight(reading *r, const char *path, const char *name, ls_err *err) {
    ls_h5_info info;
    ls_checkpoint_array *array;
    LS_TRY(read_info(r, path, &info, err));
    LS_TRY(ls_ckpt_describe_weight(&r->ckpt, name, info.rank, info.dims, &array, err));
    return read_values(r, path, array, err);
}

static ls_status read_layer(reading *r, const char *weights_group, const char *name, ls_err *err) {
    LS_TRY(ls_checkpoint_add_layer(&r->ckpt, name, err));
    char *group = ls_xprintf("%s/%s", weights_group, name);
    ls_h5_names names = {NULL, 0};
    ls_status s = ls_h5_attr_get_strings(r->file, group, "weight_names", &names, err);
    for (size_t i = 0; s == LS_OK && i < names.n; i++) {
        char *path = ls_xprintf("%s/%s", group, names.items[i]);
        s = read_weight(r, path, names.items[i], err);
        free(path);
    }
    ls_h5_names_release(&names);
    free(group);
    return s;
}

static bool has_names(reading *r, const char *group) {
    return ls_h5_attr_has(r->file, group, "layer_names") || ls_h5_attr_has(r->file, group, "layer_names0");
}

static ls_status read_weights(reading *r, ls_err *err) {
    const char *group = ""; /* of a file of weights only, the root */
    if (!has_names(r, "/")) {
        group = LS_CKPT_WEIGHTS;
        if (!has_names(r, group)) {
            bool keras3 = ls_h5_kind_of(r->file, "/layers") == LS_H5_GROUP;
            return ls_fail(
                err, LS_EINPUT, "%s: is not a Keras model in HDF5: neither / nor %s has layer_names%s", r->path,
                LS_CKPT_WEIGHTS,
                keras3 ? "; it looks like a .weights.h5 of Keras 3: save the model with model.save(\"x.h5\")" : "");
        }
    }
    ls_h5_names layers = {NULL, 0};
    LS_TRY(ls_h5_attr_get_strings(r->file, group[0] ? group : "/", "layer_names", &layers, err));
    ls_status s = LS_OK;
    for (size_t i = 0; s == LS_OK && i < layers.n; i++) {
        s = read_layer(r, group, layers.items[i], err);
    }
    ls_h5_names_release(&layers);
    return s;
}

/* A missing attribute gives NULL. */
static ls_status read_text(reading *r, const char *group, const char *name, char **text, ls_err *err) {
    return ls_h5_attr_has(r->file, group, name) ? ls_h5_attr_get_string(r->file, group, name, text, err) : LS_OK;
}

static ls_status read_keras_texts(reading *r, ls_err *err) {
    LS_TRY(read_text(r, "/", "model_config", &r->ckpt.model_config, err));
    LS_TRY(read_text(r, "/", "training_config", &r->ckpt.training_config, err));
    return read_text(r, "/", "keras_version", &r->ckpt.keras_version, err);
}

/* ---- the group /lockstep ---- */

static ls_status read_slots(reading *r, const json_t *slots, ls_err *err) {
    for (size_t i = 0; i < json_array_size(slots); i++) {
        const json_t *entry = json_array_get(slots, i);
        const char *slot = json_string_value(json_array_get(entry, 0));
        const char *layer = json_string_value(json_array_get(entry, 1));
        const char *weight = json_string_value(json_array_get(entry, 2));
        if (slot == NULL || layer == NULL || weight == NULL) {
            return damaged(r, err, LS_CKPT_OURS, "its index of optimizer slots");
        }
        ls_checkpoint_array *array;
        LS_TRY(ls_ckpt_describe_slot(&r->ckpt, slot, layer, weight, &array, err));
        char *path = ls_xprintf("%s/%s/%s/%s", LS_CKPT_OPTIMIZER, slot, layer, weight);
        ls_status s = read_values(r, path, array, err);
        free(path);
        LS_TRY(s);
    }
    return LS_OK;
}

static ls_status read_scalars(reading *r, const json_t *names, ls_err *err) {
    size_t n = json_array_size(names);
    if (n == 0) {
        return LS_OK;
    }
    double *values = ls_xcalloc(n, sizeof *values);
    ls_status s = ls_h5_read(r->file, LS_CKPT_SCALARS, LS_H5_F64, n, values, err);
    if (s == LS_OK) {
        s = check_sum(r, LS_CKPT_SCALARS, ls_hash64(values, n * sizeof *values), err);
    }
    for (size_t i = 0; s == LS_OK && i < n; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name == NULL) {
            s = damaged(r, err, LS_CKPT_OURS, "its index of scalars");
        } else {
            ls_checkpoint_set_scalar(&r->ckpt, name, values[i]);
        }
    }
    free(values);
    return s;
}

static ls_status read_arrays(reading *r, const json_t *names, ls_err *err) {
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (name == NULL) {
            return damaged(r, err, LS_CKPT_OURS, "its index of arrays");
        }
        ls_h5_info info;
        ls_checkpoint_array *array;
        char *path = ls_xprintf("%s/%s", LS_CKPT_ARRAYS, name);
        ls_status s = read_info(r, path, &info, err);
        if (s == LS_OK) {
            s = ls_ckpt_describe_array(&r->ckpt, name, info.type, info.rank, info.dims, &array, err);
        }
        if (s == LS_OK) {
            s = read_values(r, path, array, err);
        }
        free(path);
        LS_TRY(s);
    }
    return LS_OK;
}

/* Before anything else is read: is it ours, of a format that is known here, and are all texts as they were written?
 * *index is the caller's. */
static ls_status read_our_texts(reading *r, json_t **index, ls_err *err) {
    int64_t format = 0;
    char *index_text = NULL, *sums = NULL;
    LS_TRY(ls_h5_attr_get_int(r->file, LS_CKPT_OURS, "format", &format, err));
    if (format != LS_CKPT_FORMAT) {
        return ls_fail(err, LS_EUNSUPPORTED,
                       "%s: is a checkpoint of format %" PRId64 "; this lockstep (%s) reads format %d: use a newer one",
                       r->path, format, LOCKSTEP_VERSION, LS_CKPT_FORMAT);
    }
    LS_TRY(ls_h5_attr_get_int(r->file, LS_CKPT_OURS, "epoch", &r->ckpt.epoch, err));
    LS_TRY(ls_h5_attr_get_int(r->file, LS_CKPT_OURS, "step", &r->ckpt.step, err));
    LS_TRY(ls_h5_attr_get_string(r->file, LS_CKPT_OURS, "state", &r->ckpt.state, err));
    LS_TRY(ls_h5_attr_get_string(r->file, LS_CKPT_CHECKSUMS, LS_CKPT_CHECKSUM_ATTR, &sums, err));
    r->checksums = json_loads(sums, JSON_REJECT_DUPLICATES, NULL);
    free(sums);
    if (!json_is_object(r->checksums)) {
        return damaged(r, err, LS_CKPT_CHECKSUMS, "its list of checksums");
    }
    LS_TRY(ls_h5_attr_get_string(r->file, LS_CKPT_OURS, "index", &index_text, err));
    uint64_t hash = ls_ckpt_hash_texts(r->ckpt.model_config, r->ckpt.training_config, r->ckpt.state, index_text,
                                       r->ckpt.epoch, r->ckpt.step);
    *index = json_loads(index_text, 0, NULL);
    free(index_text);
    r->ckpt.has_state = true;
    LS_TRY(check_sum(r, "texts", hash, err));
    return *index != NULL ? LS_OK : damaged(r, err, LS_CKPT_OURS, "its index");
}

static ls_status read_ours(reading *r, ls_err *err) {
    json_t *index = NULL;
    ls_status s = read_our_texts(r, &index, err);
    if (s == LS_OK) {
        s = read_weights(r, err);
    }
    if (s == LS_OK) {
        s = read_slots(r, json_object_get(index, "slots"), err);
    }
    if (s == LS_OK) {
        s = read_scalars(r, json_object_get(index, "scalars"), err);
    }
    if (s == LS_OK) {
        s = read_arrays(r, json_object_get(index, "arrays"), err);
    }
    json_decref(index);
    if (s == LS_OK && r->n_checked != json_object_size(r->checksums)) {
        s = damaged(r, err, LS_CKPT_CHECKSUMS, "there are checksums of arrays that are not there");
    }
    return s;
}

static ls_status read_file(reading *r, ls_seal seal, ls_err *err) {
    LS_TRY(read_keras_texts(r, err));
    if (ls_h5_kind_of(r->file, LS_CKPT_OURS) == LS_H5_NOTHING) {
        return read_weights(r, err);
    }
    if (seal == LS_SEAL_ABSENT) {
        return ls_fail(err, LS_ECORRUPT,
                       "%s: is damaged: its seal is missing, so it was cut short or changed by another program; to use "
                       "its weights all the same, remove the group %s from a copy",
                       r->path, LS_CKPT_OURS);
    }
    return read_ours(r, err);
}

/* Files that people mistake for a checkpoint, told by their first bytes; NULL: unknown. */
static const char *known_stranger(const char *path) {
    char head[4] = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : pread(fd, head, sizeof head, 0);
    if (fd >= 0) {
        close(fd);
    }
    if (n == 4 && memcmp(head, "PK\3\4", 4) == 0) {
        return "is a .keras archive; in Keras, save the model with model.save(\"x.h5\")";
    }
    return NULL;
}

static ls_status read_sealed(reading *r, ls_seal seal, ls_checkpoint *ckpt, ls_err *err) {
    const char *stranger = known_stranger(r->path);
    if (stranger != NULL) {
        return ls_fail(err, LS_EINPUT, "%s: %s", r->path, stranger);
    }
    LS_TRY(ls_h5_open(r->path, &r->file, err));
    ls_status s = read_file(r, seal, err);
    ls_h5_discard(r->file);
    json_decref(r->checksums);
    free(r->slice);
    if (s != LS_OK) {
        ls_checkpoint_release(&r->ckpt);
        /* what the struct itself refuses is named without the file */
        return err != NULL && strstr(err->text, r->path) == NULL ? ls_err_context(err, "%s", r->path) : s;
    }
    *ckpt = r->ckpt;
    return LS_OK;
}

ls_status ls_checkpoint_read(const char *path, ls_checkpoint *ckpt, ls_err *err) {
    reading r = {.path = path, .keep_data = true};
    ls_seal seal;
    LS_TRY(ls_seal_check(path, &seal, err));
    return read_sealed(&r, seal, ckpt, err);
}

ls_status ls_checkpoint_inspect(const char *path, ls_checkpoint *ckpt, ls_err *err) {
    reading r = {.path = path};
    ls_seal seal;
    LS_TRY(ls_seal_check(path, &seal, err));
    return read_sealed(&r, seal, ckpt, err);
}

ls_status ls_checkpoint_verify(const char *path, ls_err *err) {
    ls_checkpoint ckpt;
    LS_TRY(ls_checkpoint_inspect(path, &ckpt, err));
    ls_checkpoint_release(&ckpt);
    return LS_OK;
}

ls_status ls_ckpt_verify_written(const char *path, ls_err *err) {
    reading r = {.path = path};
    ls_checkpoint ckpt;
    LS_TRY(read_sealed(&r, ls_seal_looks_whole(path) ? LS_SEAL_GOOD : LS_SEAL_ABSENT, &ckpt, err));
    ls_checkpoint_release(&ckpt);
    return LS_OK;
}
