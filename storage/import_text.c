/* A text as windows of characters, each with the characters that follow. */
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "storage/import.h"
#include "storage/import_output.h"
#include "storage/vocabulary.h"

enum { BLOCK_BYTES = 1 << 20 };

/* n windows from the first on, each moved by `shift` characters, as rows of the array. */
static ls_status write_windows(ls_import_array *array, ls_h5_type type, const int32_t *classes, uint64_t first,
                               uint64_t n, size_t shift, const ls_import_text_options *options, ls_err *err) {
    size_t window = (size_t)options->window, width = ls_h5_type_bytes(type);
    uint64_t most = BLOCK_BYTES / (window * width) + 1, count;
    char *block = ls_xcalloc(most * window, width);
    ls_status s = LS_OK;
    for (uint64_t row = 0; s == LS_OK && row < n; row += count) {
        count = n - row < most ? n - row : most;
        for (uint64_t r = 0; r < count; r++) {
            const int32_t *from = classes + (first + row + r) * options->stride + shift;
            for (size_t t = 0; t < window; t++) {
                if (type == LS_H5_U8) {
                    ((uint8_t *)block)[r * window + t] = (uint8_t)from[t];
                } else {
                    ((int32_t *)block)[r * window + t] = from[t];
                }
            }
        }
        s = ls_import_rows(array, count, block, err);
    }
    free(block);
    return s;
}

static ls_status write_split(ls_import_output *output, const char *split, const int32_t *classes, uint64_t first,
                             uint64_t n, ls_h5_type type, const ls_import_text_options *options, ls_err *err) {
    static const char *const names[] = {"x", "y"};
    const uint64_t dims[] = {n, options->window};
    for (size_t shift = 0; shift < 2; shift++) {
        ls_import_array *array;
        char *path = ls_xprintf("/%s/%s", split, names[shift]);
        ls_status s = ls_import_add(output, path, type, 2, dims, &array, err);
        free(path);
        LS_TRY(s);
        LS_TRY(write_windows(array, type, classes, first, n, shift, options, err));
    }
    return LS_OK;
}

static ls_status write_all(ls_import_output *output, const ls_vocabulary *v, const int32_t *classes, uint64_t n,
                           const ls_import_text_options *options, ls_err *err) {
    ls_h5_type type = v->n <= 256 ? LS_H5_U8 : LS_H5_I32;
    char *text = ls_vocabulary_text(v);
    ls_status s = ls_h5_attr_set_string(output->file, "/", LS_VOCABULARY_ATTRIBUTE, text, LS_H5_VARIABLE, err);
    free(text);
    LS_TRY(s);
    uint64_t n_train = n - options->n_test;
    LS_TRY(write_split(output, "train", classes, 0, n_train, type, options, err));
    return options->n_test > 0 ? write_split(output, "test", classes, n_train, options->n_test, type, options, err)
                               : LS_OK;
}

static ls_status count_windows(const char *input, size_t n_chars, const ls_import_text_options *options, uint64_t *n,
                               ls_err *err) {
    if (n_chars <= options->window) {
        return ls_fail(err, LS_EINPUT, "%s: holds %zu characters; windows of %llu need at least one more", input,
                       n_chars, (unsigned long long)options->window);
    }
    *n = (n_chars - options->window - 1) / options->stride + 1;
    return options->n_test < *n
               ? LS_OK
               : ls_fail(err, LS_EINPUT, "%s: makes %llu windows; %llu cannot be set aside for the test", input,
                         (unsigned long long)*n, (unsigned long long)options->n_test);
}

static ls_status convert(const char *path, const char *input, const char *text, size_t n_bytes, const ls_vocabulary *v,
                         const ls_import_text_options *options, ls_err *err) {
    int32_t *classes;
    size_t n_chars;
    uint64_t n = 0;
    ls_import_output output;
    LS_TRY(ls_vocabulary_encode(v, input, text, n_bytes, &classes, &n_chars, err));
    ls_status s = count_windows(input, n_chars, options, &n, err);
    if (s == LS_OK) {
        s = ls_import_begin(&output, path, &options->common, err);
    }
    if (s != LS_OK) {
        free(classes);
        return s;
    }
    s = write_all(&output, v, classes, n, options, err);
    free(classes);
    if (s == LS_OK) {
        return ls_import_commit(&output, err);
    }
    ls_import_abandon(&output);
    return s;
}

ls_status ls_import_text(const char *path, const char *input, const ls_import_text_options *options, ls_err *err) {
    char *text;
    size_t n_bytes;
    ls_vocabulary v = {0};
    LS_TRY(ls_file_read(input, &text, &n_bytes, err));
    ls_status s = options->vocabulary != NULL ? ls_vocabulary_load(&v, options->vocabulary, err)
                                              : ls_vocabulary_of_text(&v, input, text, n_bytes, err);
    if (s == LS_OK) {
        s = convert(path, input, text, n_bytes, &v, options, err);
    }
    ls_vocabulary_release(&v);
    free(text);
    return s;
}
