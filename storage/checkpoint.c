/* The struct: building it, finding in it, its digest. */
#include "storage/checkpoint.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/checkpoint_private.h"
#include "storage/hash.h"

static void release_arrays(ls_checkpoint_array *arrays, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(arrays[i].data);
    }
    free(arrays);
}

void ls_checkpoint_release(ls_checkpoint *ckpt) {
    for (size_t i = 0; i < ckpt->n_layers; i++) {
        release_arrays(ckpt->layers[i].weights, ckpt->layers[i].n_weights);
    }
    for (size_t i = 0; i < ckpt->n_slots; i++) {
        free(ckpt->slots[i].array.data);
    }
    release_arrays(ckpt->arrays, ckpt->n_arrays);
    free(ckpt->layers);
    free(ckpt->slots);
    free(ckpt->scalars);
    free(ckpt->model_config);
    free(ckpt->training_config);
    free(ckpt->keras_version);
    free(ckpt->state);
    ls_pool_release(&ckpt->pool);
    *ckpt = (ls_checkpoint){0};
}

void ls_checkpoint_set_text(char **field, const char *text) {
    char *copy = text != NULL ? ls_xstrdup(text) : NULL;
    free(*field);
    *field = copy;
}

char *ls_checkpoint_state_room(ls_checkpoint *ckpt, size_t n_bytes) {
    if (ckpt->state_room < n_bytes) {
        enum { SPARE = 4096 }; /* it grows by an epoch's history now and then */
        free(ckpt->state);
        ckpt->state = ls_xcalloc(1, n_bytes + SPARE);
        ckpt->state_room = n_bytes + SPARE;
    }
    return ckpt->state;
}

/* ---- building ---- */

/* A name is one or more parts between '/', none of them empty, "." or "..". */
static ls_status check_name(const char *what, const char *name, ls_err *err) {
    for (const char *p = name;; p++) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n <= 2 && strspn(p, ".") >= n)) {
            return ls_fail(err, LS_EINPUT, "%s \"%s\": is not a name that an HDF5 file can hold", what, name);
        }
        p += n;
        if (*p == '\0') {
            return LS_OK;
        }
    }
}

static ls_status check_new(const char *what, const char *name, bool there, ls_err *err) {
    LS_TRY(check_name(what, name, err));
    return there ? ls_fail(err, LS_EINPUT, "%s \"%s\": is there twice", what, name) : LS_OK;
}

static ls_status set_shape(ls_checkpoint_array *array, const char *name, ls_h5_type type, int rank,
                           const uint64_t *dims, ls_err *err) {
    if (rank < 0 || rank > LS_H5_RANK_MAX) {
        return ls_fail(err, LS_EINPUT, "array \"%s\": has %d axes; 0 to %d are possible", name, rank, LS_H5_RANK_MAX);
    }
    size_t n_elems = 1;
    bool overflow = false;
    for (int i = 0; i < rank; i++) {
        overflow = __builtin_mul_overflow(n_elems, dims[i], &n_elems) || overflow;
        array->dims[i] = dims[i];
    }
    if (overflow || __builtin_mul_overflow(n_elems, ls_h5_type_bytes(type), &array->n_bytes)) {
        return ls_fail(err, LS_EINPUT, "array \"%s\": is larger than memory can be", name);
    }
    array->type = type;
    array->rank = rank;
    array->n_elems = n_elems;
    return LS_OK;
}

ls_status ls_ckpt_allocate(ls_checkpoint_array *array, ls_err *err) {
    array->data = ls_calloc(array->n_bytes, 1);
    if (array->data == NULL) {
        return ls_fail(err, LS_ENOMEM, "array \"%s\": no memory for its %zu bytes", array->name, array->n_bytes);
    }
    return LS_OK;
}

static const ls_checkpoint_layer *find_layer(const ls_checkpoint *ckpt, const char *name) {
    for (size_t i = 0; i < ckpt->n_layers; i++) {
        if (strcmp(ckpt->layers[i].name, name) == 0) {
            return &ckpt->layers[i];
        }
    }
    return NULL;
}

static const ls_checkpoint_array *find_in(const ls_checkpoint_array *arrays, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(arrays[i].name, name) == 0) {
            return &arrays[i];
        }
    }
    return NULL;
}

ls_status ls_checkpoint_add_layer(ls_checkpoint *ckpt, const char *name, ls_err *err) {
    LS_TRY(check_new("layer", name, find_layer(ckpt, name) != NULL, err));
    ls_checkpoint_layer layer = {.name = ls_pool_strdup(&ckpt->pool, name)};
    LS_PUSH(ckpt->layers, ckpt->n_layers, ckpt->cap_layers, layer);
    return LS_OK;
}

ls_status ls_ckpt_describe_weight(ls_checkpoint *ckpt, const char *name, int rank, const uint64_t *dims,
                                  ls_checkpoint_array **array, ls_err *err) {
    LS_ASSERT(ckpt->n_layers > 0);
    ls_checkpoint_layer *layer = &ckpt->layers[ckpt->n_layers - 1];
    ls_checkpoint_array made = {0};
    LS_TRY(check_new("weight", name, find_in(layer->weights, layer->n_weights, name) != NULL, err));
    LS_TRY(set_shape(&made, name, LS_H5_F32, rank, dims, err));
    made.name = ls_pool_strdup(&ckpt->pool, name);
    LS_PUSH(layer->weights, layer->n_weights, layer->cap_weights, made);
    *array = &layer->weights[layer->n_weights - 1];
    return LS_OK;
}

ls_status ls_ckpt_describe_slot(ls_checkpoint *ckpt, const char *slot, const char *layer, const char *weight,
                                ls_checkpoint_array **array, ls_err *err) {
    const ls_checkpoint_array *owner = ls_checkpoint_find_weight(ckpt, layer, weight);
    if (owner == NULL) {
        return ls_fail(err, LS_EINPUT,
                       "optimizer slot \"%s\": belongs to weight \"%s\" of layer \"%s\", which is not there", slot,
                       weight, layer);
    }
    LS_TRY(check_new("optimizer slot", slot, ls_checkpoint_find_slot(ckpt, slot, layer, weight) != NULL, err));
    ls_checkpoint_slot made = {ls_pool_strdup(&ckpt->pool, slot), find_layer(ckpt, layer)->name, owner->name, *owner};
    made.array.data = NULL;
    LS_PUSH(ckpt->slots, ckpt->n_slots, ckpt->cap_slots, made);
    *array = &ckpt->slots[ckpt->n_slots - 1].array;
    return LS_OK;
}

ls_status ls_ckpt_describe_array(ls_checkpoint *ckpt, const char *name, ls_h5_type type, int rank, const uint64_t *dims,
                                 ls_checkpoint_array **array, ls_err *err) {
    ls_checkpoint_array made = {0};
    LS_TRY(check_new("array", name, ls_checkpoint_find_array(ckpt, name) != NULL, err));
    LS_TRY(set_shape(&made, name, type, rank, dims, err));
    made.name = ls_pool_strdup(&ckpt->pool, name);
    LS_PUSH(ckpt->arrays, ckpt->n_arrays, ckpt->cap_arrays, made);
    *array = &ckpt->arrays[ckpt->n_arrays - 1];
    return LS_OK;
}

ls_status ls_checkpoint_add_weight(ls_checkpoint *ckpt, const char *name, int rank, const uint64_t *dims, float **data,
                                   ls_err *err) {
    ls_checkpoint_array *array;
    LS_TRY(ls_ckpt_describe_weight(ckpt, name, rank, dims, &array, err));
    LS_TRY(ls_ckpt_allocate(array, err));
    *data = array->data;
    return LS_OK;
}

ls_status ls_checkpoint_add_slot(ls_checkpoint *ckpt, const char *slot, const char *layer, const char *weight,
                                 float **data, ls_err *err) {
    ls_checkpoint_array *array;
    LS_TRY(ls_ckpt_describe_slot(ckpt, slot, layer, weight, &array, err));
    LS_TRY(ls_ckpt_allocate(array, err));
    *data = array->data;
    return LS_OK;
}

ls_status ls_checkpoint_add_array(ls_checkpoint *ckpt, const char *name, ls_h5_type type, int rank,
                                  const uint64_t *dims, void **data, ls_err *err) {
    ls_checkpoint_array *array;
    LS_TRY(ls_ckpt_describe_array(ckpt, name, type, rank, dims, &array, err));
    LS_TRY(ls_ckpt_allocate(array, err));
    *data = array->data;
    return LS_OK;
}

void ls_checkpoint_set_scalar(ls_checkpoint *ckpt, const char *name, double value) {
    for (size_t i = 0; i < ckpt->n_scalars; i++) {
        if (strcmp(ckpt->scalars[i].name, name) == 0) {
            ckpt->scalars[i].value = value;
            return;
        }
    }
    ls_checkpoint_scalar made = {ls_pool_strdup(&ckpt->pool, name), value};
    LS_PUSH(ckpt->scalars, ckpt->n_scalars, ckpt->cap_scalars, made);
}

/* ---- finding ---- */

const ls_checkpoint_array *ls_checkpoint_find_weight(const ls_checkpoint *ckpt, const char *layer, const char *weight) {
    const ls_checkpoint_layer *found = find_layer(ckpt, layer);
    return found != NULL ? find_in(found->weights, found->n_weights, weight) : NULL;
}

const ls_checkpoint_array *ls_checkpoint_find_slot(const ls_checkpoint *ckpt, const char *slot, const char *layer,
                                                   const char *weight) {
    for (size_t i = 0; i < ckpt->n_slots; i++) {
        const ls_checkpoint_slot *s = &ckpt->slots[i];
        if (strcmp(s->slot, slot) == 0 && strcmp(s->layer, layer) == 0 && strcmp(s->weight, weight) == 0) {
            return &s->array;
        }
    }
    return NULL;
}

const ls_checkpoint_array *ls_checkpoint_find_array(const ls_checkpoint *ckpt, const char *name) {
    return find_in(ckpt->arrays, ckpt->n_arrays, name);
}

bool ls_checkpoint_get_scalar(const ls_checkpoint *ckpt, const char *name, double *value) {
    for (size_t i = 0; i < ckpt->n_scalars; i++) {
        if (strcmp(ckpt->scalars[i].name, name) == 0) {
            *value = ckpt->scalars[i].value;
            return true;
        }
    }
    return false;
}

/* ---- hashing ---- */

static void hash_array(ls_hash *h, const ls_checkpoint_array *array) {
    LS_ASSERT(array->data != NULL);
    ls_hash_add_text(h, array->name);
    ls_hash_add_u64(h, (uint64_t)array->rank);
    for (int i = 0; i < array->rank; i++) {
        ls_hash_add_u64(h, array->dims[i]);
    }
    ls_hash_add(h, array->data, array->n_bytes);
}

uint64_t ls_ckpt_hash_texts(const char *model_config, const char *training_config, const char *state, const char *index,
                            int64_t epoch, int64_t step) {
    ls_hash *h = ls_hash_start();
    ls_hash_add_text(h, model_config);
    ls_hash_add_text(h, training_config);
    ls_hash_add_text(h, state);
    ls_hash_add_text(h, index);
    ls_hash_add_u64(h, (uint64_t)epoch);
    ls_hash_add_u64(h, (uint64_t)step);
    unsigned char hash[LS_HASH_BYTES];
    uint64_t first;
    ls_hash_finish(h, hash);
    memcpy(&first, hash, sizeof first);
    return be64toh(first);
}

static int by_slot_name(const void *a, const void *b) {
    return strcmp((*(const ls_checkpoint_slot *const *)a)->slot, (*(const ls_checkpoint_slot *const *)b)->slot);
}

static int by_scalar_name(const void *a, const void *b) {
    return strcmp(((const ls_checkpoint_scalar *)a)->name, ((const ls_checkpoint_scalar *)b)->name);
}

static void hash_slots_of(ls_hash *h, const ls_checkpoint *ckpt, const char *layer, const char *weight,
                          const ls_checkpoint_slot **found) {
    size_t n = 0;
    for (size_t i = 0; i < ckpt->n_slots; i++) {
        if (strcmp(ckpt->slots[i].layer, layer) == 0 && strcmp(ckpt->slots[i].weight, weight) == 0) {
            found[n++] = &ckpt->slots[i];
        }
    }
    qsort(found, n, sizeof *found, by_slot_name);
    for (size_t i = 0; i < n; i++) {
        ls_hash_add_text(h, found[i]->slot);
        hash_array(h, &found[i]->array);
    }
}

void ls_checkpoint_digest(const ls_checkpoint *ckpt, char out[LS_CHECKPOINT_DIGEST_CHARS]) {
    ls_hash *h = ls_hash_start();
    ls_hash_add_u64(h, ckpt->n_layers);
    for (size_t l = 0; l < ckpt->n_layers; l++) {
        ls_hash_add_text(h, ckpt->layers[l].name);
        ls_hash_add_u64(h, ckpt->layers[l].n_weights);
        for (size_t w = 0; w < ckpt->layers[l].n_weights; w++) {
            hash_array(h, &ckpt->layers[l].weights[w]);
        }
    }
    const ls_checkpoint_slot **found = ls_xcalloc(ckpt->n_slots, sizeof *found);
    ls_hash_add_u64(h, ckpt->n_slots);
    for (size_t l = 0; l < ckpt->n_layers; l++) {
        for (size_t w = 0; w < ckpt->layers[l].n_weights; w++) {
            hash_slots_of(h, ckpt, ckpt->layers[l].name, ckpt->layers[l].weights[w].name, found);
        }
    }
    ls_checkpoint_scalar *scalars = ls_xcalloc(ckpt->n_scalars, sizeof *scalars);
    for (size_t i = 0; i < ckpt->n_scalars; i++) {
        scalars[i] = ckpt->scalars[i];
    }
    qsort(scalars, ckpt->n_scalars, sizeof *scalars, by_scalar_name);
    ls_hash_add_u64(h, ckpt->n_scalars);
    for (size_t i = 0; i < ckpt->n_scalars; i++) {
        ls_hash_add_text(h, scalars[i].name);
        ls_hash_add(h, &scalars[i].value, sizeof scalars[i].value);
    }
    unsigned char hash[LS_HASH_BYTES];
    ls_hash_finish(h, hash);
    for (size_t i = 0; i < sizeof hash; i++) {
        snprintf(out + 2 * i, 3, "%02x", hash[i]);
    }
    free(scalars);
    free(found);
}
