#include "storage/dataset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

enum {
    SPLIT_DEPTH = 4,         /* how deep splits are looked for */
    GAP_BYTES = 16 << 10,    /* reading this much for nothing costs less than one more call into HDF5 */
    SCRATCH_BYTES = 1 << 20, /* a gather reads about this much at once */
};

/* ---- names and splits ---- */

void ls_dataset_split_name(const char *name, char **path, char **group) {
    const char *colon = NULL;
    for (const char *at = name; (at = strstr(at, ":/")) != NULL; at++) {
        colon = at;
    }
    *path = colon ? ls_xprintf("%.*s", (int)(colon - name), name) : ls_xstrdup(name);
    *group = colon ? ls_xstrdup(colon + 1) : NULL;
}

static char *path_in(const char *group, const char *name) {
    size_t n = strlen(group);
    return ls_xprintf("%s%s%s", group, n > 0 && group[n - 1] == '/' ? "" : "/", name);
}

static ls_status find_splits(ls_h5 *file, const char *group, int depth, ls_h5_names *splits, ls_err *err) {
    ls_h5_names members;
    LS_TRY(ls_h5_members(file, group, &members, err));
    bool has_arrays = false;
    ls_status s = LS_OK;
    for (size_t i = 0; i < members.n; i++) {
        char *path = path_in(group, members.items[i]);
        has_arrays = has_arrays || ls_h5_kind_of(file, path) == LS_H5_ARRAY;
        free(path);
    }
    if (has_arrays) {
        splits->items = ls_xrealloc(splits->items, (splits->n + 1) * sizeof *splits->items);
        splits->items[splits->n++] = ls_xstrdup(group);
    }
    for (size_t i = 0; s == LS_OK && depth > 1 && i < members.n; i++) {
        char *path = path_in(group, members.items[i]);
        if (ls_h5_kind_of(file, path) == LS_H5_GROUP) {
            s = find_splits(file, path, depth - 1, splits, err);
        }
        free(path);
    }
    ls_h5_names_release(&members);
    return s;
}

ls_status ls_dataset_splits(ls_h5 *file, ls_h5_names *splits, ls_err *err) {
    *splits = (ls_h5_names){NULL, 0};
    ls_status s = find_splits(file, "/", SPLIT_DEPTH, splits, err);
    if (s != LS_OK) {
        ls_h5_names_release(splits);
    }
    return s;
}

/* "NAME: <trouble>; FILE holds the splits /test, /train" */
static ls_status fail_split(ls_h5 *file, const char *name, const char *trouble, ls_err *err) {
    ls_h5_names splits;
    char list[512] = "";
    LS_TRY(ls_dataset_splits(file, &splits, err));
    size_t used = 0;
    for (size_t i = 0; i < splits.n && used < sizeof list; i++) {
        int n = snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", splits.items[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    ls_status s = ls_fail(err, LS_EINPUT, "%s: %s; %s %s%s", name, trouble, ls_h5_path(file),
                          splits.n ? "holds the splits " : "holds no split (a group with arrays in it)", list);
    ls_h5_names_release(&splits);
    return s;
}

/* ---- opening ---- */

static ls_status read_number(ls_h5 *file, const char *path, const char *attribute, double *value, ls_err *err) {
    if (!ls_h5_attr_has(file, path, attribute)) {
        return LS_OK;
    }
    LS_TRY(ls_h5_attr_get_double(file, path, attribute, value, err));
    if (!isfinite(*value)) {
        return ls_fail(err, LS_EINPUT, "%s:%s: attribute \"%s\" is %g; a finite number was expected", ls_h5_path(file),
                       path, attribute, *value);
    }
    return LS_OK;
}

static ls_status open_array(ls_dataset *dataset, const char *path, const char *name, ls_err *err) {
    ls_data_array *array = &dataset->arrays[dataset->n_arrays];
    *array = (ls_data_array){.scale = 1};
    LS_TRY(ls_h5_array_open(dataset->file, path, &array->handle, err));
    array->name = ls_xstrdup(name);
    dataset->n_arrays++; /* from here on destroy closes it */
    const ls_h5_info *info = ls_h5_array_info(array->handle);
    const char *file = ls_h5_path(dataset->file);
    if (info->rank == 0) {
        return ls_fail(err, LS_EINPUT,
                       "%s:%s: is a single number; an array with the samples on its first axis was expected", file,
                       path);
    }
    if (info->n_elems == 0) {
        return ls_fail(err, LS_EINPUT, "%s:%s: is empty (an axis of length 0)", file, path);
    }
    array->type = info->type;
    array->rank = info->rank - 1;
    memcpy(array->shape, info->dims + 1, (size_t)array->rank * sizeof *array->shape);
    array->sample_bytes = info->row_bytes;
    array->sample_elems = info->row_bytes / ls_h5_type_bytes(info->type);
    array->chunk_samples = info->chunk_rows;
    array->stored_bytes = info->stored_bytes;
    LS_TRY(read_number(dataset->file, path, "scale", &array->scale, err));
    LS_TRY(read_number(dataset->file, path, "offset", &array->offset, err));
    if (array->scale == 0) {
        return ls_fail(err, LS_EINPUT, "%s:%s: attribute \"scale\" is 0, which would make all values equal", file,
                       path);
    }
    const ls_data_array *first = &dataset->arrays[0];
    if (array == first) {
        dataset->n_samples = info->n_rows;
    } else if (info->n_rows != dataset->n_samples) {
        return ls_fail(err, LS_EINPUT,
                       "%s: \"%s\" has %llu samples and \"%s\" has %llu; all arrays of a split must have "
                       "the same first axis",
                       dataset->name, first->name, (unsigned long long)dataset->n_samples, array->name,
                       (unsigned long long)info->n_rows);
    }
    return LS_OK;
}

static ls_status open_group(ls_dataset *dataset, const char *group, ls_err *err) {
    ls_h5_kind kind = ls_h5_kind_of(dataset->file, group);
    if (kind != LS_H5_GROUP) {
        return fail_split(dataset->file, dataset->name,
                          kind == LS_H5_NOTHING ? "there is no such split" : "is an array, not a split", err);
    }
    ls_h5_names members;
    LS_TRY(ls_h5_members(dataset->file, group, &members, err));
    dataset->arrays = ls_xcalloc(members.n + 1, sizeof *dataset->arrays);
    ls_status s = LS_OK;
    for (size_t i = 0; s == LS_OK && i < members.n; i++) {
        char *path = path_in(group, members.items[i]);
        if (ls_h5_kind_of(dataset->file, path) == LS_H5_ARRAY) {
            s = open_array(dataset, path, members.items[i], err);
        }
        free(path);
    }
    ls_h5_names_release(&members);
    if (s == LS_OK && dataset->n_arrays == 0) {
        s = fail_split(dataset->file, dataset->name, "no arrays in this group", err);
    }
    return s;
}

ls_status ls_dataset_open(const char *name, ls_dataset **dataset, ls_err *err) {
    ls_dataset *opened = ls_xcalloc(1, sizeof *opened);
    char *path, *group;
    opened->name = ls_xstrdup(name);
    ls_dataset_split_name(name, &path, &group);
    ls_err found = LS_ERR_INIT;
    ls_status s = ls_h5_open(path, &opened->file, &found);
    if (s == LS_OK) {
        s = open_group(opened, group ? group : "/", &found);
    }
    free(path);
    free(group);
    if (s != LS_OK) {
        ls_dataset_destroy(opened);
        /* A damaged data file is the user's to replace: bad input, like a missing one. */
        return ls_fail(err, s == LS_ECORRUPT ? LS_EINPUT : s, "%s", found.text);
    }
    *dataset = opened;
    return LS_OK;
}

void ls_dataset_destroy(ls_dataset *dataset) {
    if (dataset == NULL) {
        return;
    }
    for (size_t i = 0; i < dataset->n_arrays; i++) {
        ls_h5_array_discard(dataset->arrays[i].handle);
        free(dataset->arrays[i].name);
    }
    ls_h5_discard(dataset->file);
    free(dataset->arrays);
    free(dataset->scratch);
    free(dataset->name);
    free(dataset);
}

int ls_dataset_find(const ls_dataset *dataset, const char *name) {
    for (size_t i = 0; i < dataset->n_arrays; i++) {
        if (strcmp(dataset->arrays[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* ---- reading ---- */

ls_status ls_dataset_read(ls_dataset *dataset, size_t array, uint64_t first, uint64_t count, void *out, ls_err *err) {
    const ls_data_array *a = &dataset->arrays[array];
    return ls_h5_array_read(a->handle, a->type, first, count, out, err);
}

/* Where a sample comes from and where it goes. */
typedef struct {
    uint64_t from;
    uint64_t to;
} move;

/* By where they come from; `room` for n moves. A merge sort of its own, for the C library's takes memory. */
static void sort_moves(move *moves, move *room, size_t n) {
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t from = 0; from < n; from += 2 * width) {
            size_t middle = from + width < n ? from + width : n, end = middle + width < n ? middle + width : n;
            for (size_t i = from, k = middle, to = from; to < end; to++) {
                room[to] = k >= end || (i < middle && moves[i].from <= moves[k].from) ? moves[i++] : moves[k++];
            }
        }
        memcpy(moves, room, n * sizeof *moves);
    }
}

/* Room for n_bytes. */
static ls_status reserve(ls_dataset *dataset, size_t n_bytes, ls_err *err) {
    if (n_bytes <= dataset->scratch_bytes) {
        return LS_OK;
    }
    free(dataset->scratch);
    dataset->scratch = ls_calloc(n_bytes, 1);
    dataset->scratch_bytes = dataset->scratch ? n_bytes : 0;
    return dataset->scratch ? LS_OK
                            : ls_fail(err, LS_ENOMEM, "%s: no memory to read %zu bytes", dataset->name, n_bytes);
}

/* How many of the moves, from the first on, one read serves: near each other in the file and together within limit. */
static size_t run_length(const move *moves, size_t n, size_t row_bytes, size_t limit) {
    size_t i = 1;
    while (i < n && (moves[i].from - moves[i - 1].from) <= GAP_BYTES / row_bytes + 1 &&
           (moves[i].from - moves[0].from + 1) <= limit / row_bytes) {
        i++;
    }
    return i;
}

ls_status ls_dataset_gather(ls_dataset *dataset, size_t array, const uint64_t *indices, size_t n, void *out,
                            ls_err *err) {
    const ls_data_array *a = &dataset->arrays[array];
    size_t row = a->sample_bytes, moves_bytes = ls_align_up(2 * n * sizeof(move), LS_ALIGN);
    LS_TRY(reserve(dataset, moves_bytes + SCRATCH_BYTES, err));
    move *moves = (move *)dataset->scratch;
    char *rows = dataset->scratch + moves_bytes;
    for (size_t i = 0; i < n; i++) {
        if (indices[i] >= dataset->n_samples) {
            return ls_fail(err, LS_EINPUT, "%s: sample %llu was asked for, but it has %llu", dataset->name,
                           (unsigned long long)indices[i], (unsigned long long)dataset->n_samples);
        }
        moves[i] = (move){indices[i], i};
    }
    sort_moves(moves, moves + n, n);
    for (size_t i = 0; i < n;) {
        size_t length = run_length(moves + i, n - i, row, SCRATCH_BYTES);
        ls_h5_array_will_read(a->handle, moves[i].from, moves[i + length - 1].from - moves[i].from + 1);
        i += length;
    }
    for (size_t i = 0; i < n;) {
        size_t length = run_length(moves + i, n - i, row, SCRATCH_BYTES);
        uint64_t first = moves[i].from, count = moves[i + length - 1].from - first + 1;
        if (length == 1) {
            LS_TRY(ls_dataset_read(dataset, array, first, 1, (char *)out + moves[i].to * row, err));
        } else {
            LS_TRY(ls_dataset_read(dataset, array, first, count, rows, err));
            for (size_t k = i; k < i + length; k++) {
                memcpy((char *)out + moves[k].to * row, rows + (moves[k].from - first) * row, row);
            }
        }
        i += length;
    }
    return LS_OK;
}
