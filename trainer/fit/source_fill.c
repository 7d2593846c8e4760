/* Raw samples into what the engine wants. Called from several threads at once. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "storage/convert.h"
#include "trainer/fit/source_private.h"

static size_t sample_bytes(const ls_source *s, const ls_binding *b) {
    return s->store->dataset->arrays[b->array].sample_bytes;
}
static ls_h5_type type_of(const ls_source *s, const ls_binding *b) {
    return s->store->dataset->arrays[b->array].type;
}

enum { BLOCK = 256 }; /* elements that are converted at once for a check */

static ls_status check_classes(const ls_source *s, const ls_binding *b, const char *raw, uint64_t at, size_t n,
                               ls_err *err) {
    const ls_data_array *a = &s->store->dataset->arrays[b->array];
    size_t total = n * b->elems, elem_bytes = sample_bytes(s, b) / b->elems;
    int32_t label[BLOCK];
    for (size_t i = 0; i < total; i += BLOCK) {
        size_t m = total - i < BLOCK ? total - i : BLOCK;
        size_t good = ls_convert_to_i32(a->type, raw + i * elem_bytes, m, label);
        if (good < m) {
            return ls_fail(err, LS_EINPUT, "%s: sample %llu of \"%s\" is not a whole number; class numbers are wanted",
                           s->store->dataset->name, (unsigned long long)(at + (i + good) / b->elems), a->name);
        }
        for (size_t k = 0; k < m; k++) {
            if ((label[k] < 0 || label[k] >= b->n_classes) && !(b->ignores && label[k] == b->ignored)) {
                return ls_fail(
                    err, LS_EINPUT,
                    "%s: sample %llu of \"%s\" is class %d, but the model's output has the classes 0 to %lld",
                    s->store->dataset->name, (unsigned long long)(at + (i + k) / b->elems), a->name, label[k],
                    (long long)b->n_classes - 1);
            }
        }
    }
    return LS_OK;
}

static ls_status check_finite(const ls_source *s, const ls_binding *b, const char *raw, uint64_t at, size_t n,
                              ls_err *err) {
    const ls_data_array *a = &s->store->dataset->arrays[b->array];
    if (a->type != LS_H5_F32 && a->type != LS_H5_F64 && a->type != LS_H5_F16) {
        return LS_OK;
    }
    size_t total = n * b->elems, elem_bytes = sample_bytes(s, b) / b->elems;
    float value[BLOCK];
    for (size_t i = 0; i < total; i += BLOCK) {
        size_t m = total - i < BLOCK ? total - i : BLOCK;
        ls_convert_to_f32(a->type, raw + i * elem_bytes, m, b->scale, b->offset, value);
        float sum = 0; /* NaN if any is not finite: 0 * inf is NaN */
        for (size_t k = 0; k < m; k++) {
            sum += value[k] * 0.0f;
        }
        for (size_t k = 0; sum != 0 && k < m; k++) {
            if (!isfinite(value[k])) {
                return ls_fail(err, LS_EINPUT, "%s: sample %llu of \"%s\" holds %s at element %zu; remove or mend it",
                               s->store->dataset->name, (unsigned long long)(at + (i + k) / b->elems), a->name,
                               isnan(value[k]) ? "a NaN" : "an infinite value", (i + k) % b->elems);
            }
        }
    }
    return LS_OK;
}

ls_status ls_binding_check(const ls_source *s, const ls_binding *b, const void *raw, uint64_t at, size_t n,
                           ls_err *err) {
    return b->kind == LS_BIND_CLASSES ? check_classes(s, b, raw, at, n, err) : check_finite(s, b, raw, at, n, err);
}

/* One raw sample into out; how many elements of out it makes. */
static size_t convert_sample(const ls_source *s, const ls_binding *b, ls_dtype want, const char *raw, void *out,
                             size_t i) {
    ls_h5_type type = type_of(s, b);
    if (want == LS_I32) {
        ls_convert_to_i32(type, raw, b->elems, (int32_t *)out + i * b->elems);
        return b->elems;
    }
    if (b->kind == LS_BIND_NUMBERS) {
        ls_convert_to_f32(type, raw, b->elems, b->scale, b->offset, (float *)out + i * b->elems);
        return b->elems;
    }
    size_t n = (size_t)b->n_classes;
    float *row = (float *)out + i * b->elems * n;
    memset(row, 0, b->elems * n * sizeof *row);
    for (size_t k = 0; k < b->elems; k++) {
        int32_t label = 0;
        ls_convert_to_i32(type, raw + k * ls_h5_type_bytes(type), 1, &label);
        row[k * n + (size_t)label] = 1.0f;
    }
    return b->elems * n;
}

ls_status ls_source_gather(ls_source *s, int array, const uint32_t *index, size_t n, char *raw, ls_err *err) {
    ls_store *st = s->store;
    if (n > st->cap_wanted) {
        st->wanted = ls_xrealloc(st->wanted, n * sizeof *st->wanted);
        st->cap_wanted = n;
    }
    for (size_t i = 0; i < n; i++) {
        st->wanted[i] = s->first + index[i];
    }
    LS_TRY(ls_dataset_gather(st->dataset, (size_t)array, st->wanted, n, raw, err));
    size_t bytes = st->dataset->arrays[array].sample_bytes;
    for (int k = 0; k < s->n_bindings; k++) {
        for (size_t i = 0; s->bindings[k].array == array && i < n; i++) {
            LS_TRY(ls_binding_check(s, &s->bindings[k], raw + i * bytes, st->wanted[i], 1, err));
        }
    }
    return LS_OK;
}

static void convert_samples(const ls_source *s, const ls_binding *b, ls_dtype want, const char *raw, size_t n,
                            void *out) {
    for (size_t i = 0; i < n; i++) {
        convert_sample(s, b, want, raw + i * sample_bytes(s, b), out, i);
    }
}

/* Samples that nobody announced: read now, under the store's lock. */
static ls_status read_now(ls_source *s, const ls_binding *b, ls_dtype want, const uint32_t *index, size_t n, void *out,
                          ls_err *err) {
    ls_store *st = s->store;
    size_t bytes = n * sample_bytes(s, b);
    pthread_mutex_lock(&st->lock);
    if (bytes > st->scratch_bytes) {
        free(st->scratch);
        st->scratch = ls_xcalloc(1, bytes);
        st->scratch_bytes = bytes;
    }
    ls_status status = ls_source_gather(s, b->array, index, n, st->scratch, err);
    if (status == LS_OK) {
        convert_samples(s, b, want, st->scratch, n, out);
    }
    pthread_mutex_unlock(&st->lock);
    return status;
}

static ls_status fill_binding(ls_source *s, const ls_binding *b, ls_dtype want, const uint32_t *index, size_t n,
                              void *out, ls_err *err) {
    if (b->raw != NULL) {
        for (size_t i = 0; i < n; i++) {
            convert_sample(s, b, want, b->raw + (s->first + index[i]) * sample_bytes(s, b), out, i);
        }
        return LS_OK;
    }
    const char *raw = NULL;
    LS_TRY(ls_ahead_find(s, b->array, index, n, &raw, err));
    if (raw == NULL) {
        return read_now(s, b, want, index, n, out, err);
    }
    convert_samples(s, b, want, raw, n, out);
    return LS_OK;
}

static ls_status fill_weights(ls_source *s, const uint32_t *index, size_t n, float *out, ls_err *err) {
    for (size_t i = 0; i < n; i++) {
        out[i] = 1.0f;
    }
    if (s->weight_of >= 0) {
        LS_TRY(fill_binding(s, &s->bindings[s->weight_of], LS_F32, index, n, out, err));
    }
    for (size_t i = 0; s->n_class_weights > 0 && i < n; i++) {
        int32_t label = 0;
        LS_TRY(fill_binding(s, &s->bindings[s->n_inputs], LS_I32, index + i, 1, &label, err));
        out[i] *= (size_t)label < s->n_class_weights ? (float)s->class_weight[label] : 1.0f;
    }
    return LS_OK;
}

ls_status ls_source_fill(void *self, int array, ls_dtype want, const uint32_t *index, size_t n, void *out,
                         ls_err *err) {
    ls_source *s = self;
    if (array >= s->n_inputs + s->n_outputs) {
        return fill_weights(s, index, n, out, err);
    }
    if (atomic_exchange(&s->spoil_fail, 0)) {
        return ls_fail(err, LS_EINPUT, "%s: sample %u cannot be used (LOCKSTEP_FAULT asked for a bad sample)",
                       s->store->dataset->name, (unsigned)(s->first + index[0]));
    }
    const ls_binding *b = &s->bindings[array];
    LS_TRY(fill_binding(s, b, want, index, n, out, err));
    if (array < s->n_inputs && want == LS_F32 && atomic_exchange(&s->spoil_nan, 0)) {
        ((float *)out)[0] = NAN;
    }
    return LS_OK;
}
