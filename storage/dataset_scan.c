/* What is in a data set: ranges, class counts, fingerprint. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "storage/dataset.h"
#include "storage/hash.h"

enum {
    BLOCK_BYTES = 1 << 20, /* read at once */
    SAMPLED_BLOCKS = 1024, /* of an array that is too large to be hashed whole */
    SAMPLED_BLOCK_BYTES = 64 << 10,
};

static uint64_t rows_of(size_t n_bytes, size_t row_bytes, uint64_t n_rows) {
    uint64_t rows = n_bytes / row_bytes;
    rows = rows < n_rows ? rows : n_rows;
    return rows > 0 ? rows : 1;
}

/* ---- ranges and classes ---- */

static void add_values(ls_data_summary *summary, const double *values, size_t n, bool *any) {
    for (size_t i = 0; i < n; i++) {
        double v = values[i];
        if (!isfinite(v)) {
            summary->n_nonfinite++;
            continue;
        }
        summary->min = *any && summary->min < v ? summary->min : v;
        summary->max = *any && summary->max > v ? summary->max : v;
        *any = true;
    }
}

/* Counts classes while every value can be one; n_classes is settled at the end. */
static bool add_classes(ls_data_summary *summary, const double *values, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!(values[i] >= 0 && values[i] < LS_DATA_CLASSES_MAX && values[i] == nearbyint(values[i]))) {
            return false;
        }
        summary->class_count[(size_t)values[i]]++;
    }
    return true;
}

ls_status ls_dataset_summarise(ls_dataset *dataset, size_t array, ls_data_summary *summary, ls_err *err) {
    const ls_data_array *a = &dataset->arrays[array];
    *summary = (ls_data_summary){0};
    uint64_t block = rows_of(BLOCK_BYTES / sizeof(double), a->sample_elems, dataset->n_samples);
    double *values = ls_calloc(block * a->sample_elems, sizeof *values);
    bool any = false, classes = a->sample_elems == 1;
    summary->class_count = classes ? ls_xcalloc(LS_DATA_CLASSES_MAX, sizeof *summary->class_count) : NULL;
    ls_status s = values ? LS_OK : ls_fail(err, LS_ENOMEM, "%s: no memory for one sample", dataset->name);
    for (uint64_t first = 0; s == LS_OK && first < dataset->n_samples; first += block) {
        uint64_t count = dataset->n_samples - first < block ? dataset->n_samples - first : block;
        s = ls_h5_array_read(a->handle, LS_H5_F64, first, count, values, err);
        if (s == LS_OK) {
            add_values(summary, values, count * a->sample_elems, &any);
            classes = classes && add_classes(summary, values, count);
        }
    }
    free(values);
    if (s == LS_OK && classes) {
        summary->n_classes = (uint32_t)summary->max + 1;
    } else {
        free(summary->class_count);
        summary->class_count = NULL;
    }
    return s;
}

void ls_data_summary_release(ls_data_summary *summary) {
    free(summary->class_count);
    *summary = (ls_data_summary){0};
}

/* ---- fingerprint ---- */

static void hash_description(ls_hash *hash, const ls_dataset *dataset, const ls_data_array *a) {
    const char *type = ls_h5_type_name(a->type);
    uint64_t numbers[2 + LS_H5_RANK_MAX] = {dataset->n_samples, (uint64_t)a->rank};
    memcpy(numbers + 2, a->shape, (size_t)a->rank * sizeof *numbers);
    ls_hash_add(hash, a->name, strlen(a->name) + 1);
    ls_hash_add(hash, type, strlen(type) + 1);
    ls_hash_add(hash, numbers, (2 + (size_t)a->rank) * sizeof *numbers);
    ls_hash_add(hash, &a->scale, sizeof a->scale);
    ls_hash_add(hash, &a->offset, sizeof a->offset);
}

static ls_status hash_array(ls_hash *hash, ls_dataset *dataset, size_t array, ls_err *err) {
    const ls_data_array *a = &dataset->arrays[array];
    uint64_t n = dataset->n_samples;
    bool sampled = n * a->sample_bytes > LS_FINGERPRINT_WHOLE_BYTES;
    uint64_t block = rows_of(sampled ? SAMPLED_BLOCK_BYTES : BLOCK_BYTES, a->sample_bytes, n);
    uint64_t n_blocks = (n + block - 1) / block;
    n_blocks = sampled && n_blocks > SAMPLED_BLOCKS ? SAMPLED_BLOCKS : n_blocks;
    char *bytes = ls_calloc(block, a->sample_bytes);
    ls_status s = bytes ? LS_OK : ls_fail(err, LS_ENOMEM, "%s: no memory for one sample", dataset->name);
    for (uint64_t k = 0; s == LS_OK && k < n_blocks; k++) {
        uint64_t first =
            sampled && n_blocks > 1 ? (uint64_t)((__uint128_t)(n - block) * k / (n_blocks - 1)) : k * block;
        uint64_t count = n - first < block ? n - first : block;
        s = ls_dataset_read(dataset, array, first, count, bytes, err);
        if (s == LS_OK) {
            ls_hash_add(hash, bytes, count * a->sample_bytes);
        }
    }
    free(bytes);
    return s;
}

ls_status ls_dataset_fingerprint(ls_dataset *dataset, uint64_t *fingerprint, ls_err *err) {
    ls_hash *hash = ls_hash_start();
    ls_status s = LS_OK;
    for (size_t i = 0; s == LS_OK && i < dataset->n_arrays; i++) {
        hash_description(hash, dataset, &dataset->arrays[i]);
        s = hash_array(hash, dataset, i, err);
    }
    unsigned char bytes[LS_HASH_BYTES];
    ls_hash_finish(hash, bytes);
    *fingerprint = 0;
    for (int i = 0; i < 8; i++) {
        *fingerprint = *fingerprint << 8 | bytes[i];
    }
    return s;
}
