/* lockstep data import | info: makes data sets from other files, and tells what is in one. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/json.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/dataset.h"
#include "storage/import.h"
#include "trainer/cli/option.h"
#include "trainer/cli/verbs.h"

/* ---- arguments ---- */

static ls_status parse_scale(const char *text, double *scale, ls_err *err) {
    char *end;
    *scale = strtod(text, &end);
    if (end != text && *end == '/') { /* a fraction, 1/255 */
        char *from = end + 1;
        *scale /= strtod(from, &end);
        end = end == from ? (char *)text : end;
    }
    return end != text && *end == '\0' && isfinite(*scale) && *scale != 0
               ? LS_OK
               : ls_fail(err, LS_EINPUT, "--scale %s: a number that is not 0 was expected, such as 0.0625 or 1/255",
                         text);
}

static ls_status parse_shape(const char *text, ls_import_csv_options *options, ls_err *err) {
    int64_t lengths[LS_H5_RANK_MAX - 1];
    LS_TRY(ls_option_lengths("--shape", text, LS_H5_RANK_MAX - 1, lengths, &options->rank, err));
    for (int i = 0; i < options->rank; i++) {
        options->shape[i] = (uint64_t)lengths[i];
    }
    return LS_OK;
}

static ls_status parse_label(const char *text, int *label, ls_err *err) {
    int64_t column;
    if (strcmp(text, "last") == 0 || strcmp(text, "none") == 0) {
        *label = text[0] == 'l' ? LS_CSV_LABEL_LAST : LS_CSV_LABEL_NONE;
        return LS_OK;
    }
    if (ls_option_int("--label", text, 1, INT32_MAX, &column, NULL) != LS_OK) {
        return ls_fail(err, LS_EINPUT, "--label %s: last, none or a column counted from 1 was expected", text);
    }
    *label = (int)column - 1;
    return LS_OK;
}

/* name, word, whether it takes a value */
#define OPTION_LIST(X)             \
    X(GZIP, "gzip", 1)             \
    X(SOURCE, "source", 1)         \
    X(LICENCE, "licence", 1)       \
    X(LABEL, "label", 1)           \
    X(SHAPE, "shape", 1)           \
    X(SCALE, "scale", 1)           \
    X(WINDOW, "window", 1)         \
    X(STRIDE, "stride", 1)         \
    X(VOCABULARY, "vocabulary", 1) \
    X(TEST, "test", 1)             \
    X(JSON, "json", 0)

enum {
#define X(name, word, value) OPTION_##name,
    OPTION_LIST(X)
#undef X
        N_OPTIONS
};
static const ls_option known_options[N_OPTIONS] = {
#define X(name, word, value) {word, 0, value},
    OPTION_LIST(X)
#undef X
};
#define TAKES(name) (UINT32_C(1) << OPTION_##name)
#define TAKES_ALWAYS (TAKES(GZIP) | TAKES(SOURCE) | TAKES(LICENCE))

/* What import and info take; each reads its own. */
typedef struct {
    ls_import_csv_options csv; /* common and n_test are all importers' */
    int64_t window, stride;    /* stride 0: as window */
    const char *vocabulary;
    bool json;
    size_t n_files;
    char **files; /* [n_files], room for all of argv */
} arguments;

static ls_status take_option(void *context, int option, const char *value, ls_err *err) {
    arguments *a = context;
    int64_t number = 0;
    switch (option) {
        case OPTION_GZIP:
            LS_TRY(ls_option_int("--gzip", value, 0, 9, &number, err));
            a->csv.common.gzip = (int)number;
            return LS_OK;
        case OPTION_SOURCE: a->csv.common.source = value; return LS_OK;
        case OPTION_LICENCE: a->csv.common.licence = value; return LS_OK;
        case OPTION_LABEL: return parse_label(value, &a->csv.label, err);
        case OPTION_SHAPE: return parse_shape(value, &a->csv, err);
        case OPTION_SCALE: return parse_scale(value, &a->csv.scale, err);
        case OPTION_WINDOW: return ls_option_int("--window", value, 1, 1 << 24, &a->window, err);
        case OPTION_STRIDE: return ls_option_int("--stride", value, 1, 1 << 24, &a->stride, err);
        case OPTION_VOCABULARY: a->vocabulary = value; return LS_OK;
        case OPTION_TEST:
            LS_TRY(ls_option_int("--test", value, 0, INT64_MAX, &number, err));
            a->csv.n_test = (uint64_t)number;
            return LS_OK;
        default: a->json = true; return LS_OK;
    }
}

static ls_status take_file(void *context, const char *word, ls_err *err) {
    (void)err;
    arguments *a = context;
    a->files[a->n_files++] = (char *)word;
    return LS_OK;
}

/* ---- info ---- */

/* One split and what a pass over its arrays found. */
typedef struct {
    ls_dataset *dataset;
    const char *path; /* "/train" */
    uint64_t fingerprint;
    ls_data_summary *summaries; /* [dataset->n_arrays] */
} split_report;

static ls_status report_fill(split_report *report, const char *file, const char *split, ls_err *err) {
    char *name = ls_xprintf("%s:%s", file, split);
    *report = (split_report){.path = split};
    ls_status s = ls_dataset_open(name, &report->dataset, err);
    free(name);
    LS_TRY(s);
    report->summaries = ls_xcalloc(report->dataset->n_arrays, sizeof *report->summaries);
    for (size_t i = 0; i < report->dataset->n_arrays; i++) {
        LS_TRY(ls_dataset_summarise(report->dataset, i, &report->summaries[i], err));
    }
    return ls_dataset_fingerprint(report->dataset, &report->fingerprint, err);
}

static void report_release(split_report *report) {
    for (size_t i = 0; report->summaries != NULL && i < report->dataset->n_arrays; i++) {
        ls_data_summary_release(&report->summaries[i]);
    }
    free(report->summaries);
    ls_dataset_destroy(report->dataset);
}

static void print_array(const ls_data_array *a, const ls_data_summary *summary, uint64_t n_samples) {
    char shape[200] = "one a sample", size[32];
    for (int i = 0, used = 0; i < a->rank && used < (int)sizeof shape - 24; i++) {
        used += snprintf(shape + used, sizeof shape - (size_t)used, "%s%llu", i ? " x " : "",
                         (unsigned long long)a->shape[i]);
    }
    printf("  %-10s %-8s %-16s %s", a->name, ls_h5_type_name(a->type), shape,
           ls_format_bytes(size, sizeof size, (double)n_samples * (double)a->sample_bytes));
    if (a->stored_bytes < n_samples * a->sample_bytes) {
        printf(" (%s in the file)", ls_format_bytes(size, sizeof size, (double)a->stored_bytes));
    }
    printf("\n    values %.9g to %.9g", summary->min, summary->max);
    if (a->scale != 1 || a->offset != 0) {
        double low = summary->min * a->scale + a->offset, high = summary->max * a->scale + a->offset;
        printf("; with scale %.9g and offset %.9g: %.9g to %.9g", a->scale, a->offset, low < high ? low : high,
               low < high ? high : low);
    }
    if (summary->n_nonfinite > 0) {
        printf("; %llu are NaN or infinite", (unsigned long long)summary->n_nonfinite);
    }
    printf("\n");
    enum { CLASSES_SHOWN = 20 };
    if (summary->n_classes > 0) {
        printf("    %u classes:", summary->n_classes);
        for (uint32_t i = 0; i < summary->n_classes && i < CLASSES_SHOWN; i++) {
            printf(" %llu", (unsigned long long)summary->class_count[i]);
        }
        printf("%s\n", summary->n_classes > CLASSES_SHOWN ? " ..." : "");
    }
}

static void print_report(const split_report *report) {
    printf("\n%s: %llu samples, fingerprint %016llx\n", report->path, (unsigned long long)report->dataset->n_samples,
           (unsigned long long)report->fingerprint);
    for (size_t i = 0; i < report->dataset->n_arrays; i++) {
        print_array(&report->dataset->arrays[i], &report->summaries[i], report->dataset->n_samples);
    }
}

static json_t *array_json(const ls_data_array *a, const ls_data_summary *summary) {
    json_t *shape = json_array();
    for (int i = 0; i < a->rank; i++) {
        json_array_append_new(shape, json_integer((json_int_t)a->shape[i]));
    }
    json_t *out = json_pack("{s:s, s:s, s:o, s:f, s:f, s:f, s:f, s:I, s:I, s:I}", "name", a->name, "type",
                            ls_h5_type_name(a->type), "shape", shape, "scale", a->scale, "offset", a->offset, "min",
                            summary->min, "max", summary->max, "nonfinite", (json_int_t)summary->n_nonfinite,
                            "sample_bytes", (json_int_t)a->sample_bytes, "stored_bytes", (json_int_t)a->stored_bytes);
    if (summary->n_classes > 0) {
        json_t *counts = json_array();
        for (uint32_t i = 0; i < summary->n_classes; i++) {
            json_array_append_new(counts, json_integer((json_int_t)summary->class_count[i]));
        }
        json_object_set_new(out, "class_counts", counts);
    }
    return out;
}

static json_t *report_json(const split_report *report) {
    json_t *arrays = json_array();
    for (size_t i = 0; i < report->dataset->n_arrays; i++) {
        json_array_append_new(arrays, array_json(&report->dataset->arrays[i], &report->summaries[i]));
    }
    char fingerprint[20];
    snprintf(fingerprint, sizeof fingerprint, "%016llx", (unsigned long long)report->fingerprint);
    return json_pack("{s:s, s:I, s:s, s:o}", "split", report->path, "samples", (json_int_t)report->dataset->n_samples,
                     "fingerprint", fingerprint, "arrays", arrays);
}

/* The file's own words about itself; json NULL: printed. */
static ls_status tell_origin(ls_h5 *file, json_t *json, ls_err *err) {
    static const char *const words[] = {"source", "licence"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        char *text = NULL;
        if (!ls_h5_attr_has(file, "/", words[i])) {
            continue;
        }
        LS_TRY(ls_h5_attr_get_string(file, "/", words[i], &text, err));
        if (json != NULL) {
            json_object_set_new(json, words[i], json_string(text));
        } else {
            printf("%s: %s\n", words[i], text);
        }
        free(text);
    }
    return LS_OK;
}

static ls_status tell_splits(ls_h5 *file, const ls_h5_names *splits, json_t *json, ls_err *err) {
    LS_TRY(tell_origin(file, json, err));
    json_t *list = json_array();
    ls_status s = LS_OK;
    for (size_t i = 0; s == LS_OK && i < splits->n; i++) {
        split_report report;
        s = report_fill(&report, ls_h5_path(file), splits->items[i], err);
        if (s == LS_OK && json != NULL) {
            json_array_append_new(list, report_json(&report));
        } else if (s == LS_OK) {
            print_report(&report);
        }
        report_release(&report);
    }
    if (json != NULL) {
        json_object_set(json, "splits", list);
    }
    json_decref(list);
    return s;
}

static ls_status tell_file(const char *path, const char *split, json_t *json, ls_err *err) {
    ls_h5 *file = NULL;
    struct stat st = {0};
    char size[32];
    ls_h5_names splits = {NULL, 0};
    ls_status s = ls_h5_open(path, &file, err);
    if (s != LS_OK) {
        return s == LS_ECORRUPT ? LS_EINPUT : s; /* a damaged data file is bad input, as in ls_dataset_open */
    }
    if (split != NULL) {
        splits = (ls_h5_names){ls_xcalloc(1, sizeof *splits.items), 1};
        splits.items[0] = ls_xstrdup(split);
    } else {
        s = ls_dataset_splits(file, &splits, err);
    }
    if (s == LS_OK && splits.n == 0) {
        s = ls_fail(err, LS_EINPUT, "%s: holds no split (a group with arrays in it)", path);
    }
    if (s == LS_OK && json == NULL && stat(path, &st) == 0) {
        printf("%s: HDF5, %s\n", path, ls_format_bytes(size, sizeof size, (double)st.st_size));
    }
    s = s == LS_OK ? tell_splits(file, &splits, json, err) : s;
    ls_h5_names_release(&splits);
    ls_h5_discard(file);
    return s;
}

static ls_status info(const arguments *a, ls_err *err) {
    char *path, *split;
    ls_dataset_split_name(a->files[0], &path, &split);
    json_t *json = a->json ? json_pack("{s:s}", "file", path) : NULL;
    ls_status s = tell_file(path, split, json, err);
    if (s == LS_OK && json != NULL) {
        json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
        printf("\n");
    }
    json_decref(json);
    free(path);
    free(split);
    return s;
}

/* ---- the verb ---- */

static ls_status import_idx(const arguments *a, ls_err *err) {
    return ls_import_idx(a->files[0], (const char *const *)(a->files + 1), a->n_files - 1, &a->csv.common, err);
}

static ls_status import_csv(const arguments *a, ls_err *err) {
    return ls_import_csv(a->files[0], a->files[1], &a->csv, err);
}

static ls_status import_text(const arguments *a, ls_err *err) {
    const ls_import_text_options options = {.common = a->csv.common,
                                            .window = (uint64_t)a->window,
                                            .stride = (uint64_t)(a->stride > 0 ? a->stride : a->window),
                                            .n_test = a->csv.n_test,
                                            .vocabulary = a->vocabulary};
    return ls_import_text(a->files[0], a->files[1], &options, err);
}

static const struct kind {
    const char *verb; /* as it is written */
    const char *operands;
    size_t min_files, max_files;
    uint32_t takes;
    ls_status (*run)(const arguments *a, ls_err *err);
} kinds[] = {
    {"data import idx", "OUT.h5 and then a folder or files", 2, SIZE_MAX, TAKES_ALWAYS, import_idx},
    {"data import csv", "OUT.h5 and then one FILE.csv", 2, 2,
     TAKES_ALWAYS | TAKES(LABEL) | TAKES(SHAPE) | TAKES(SCALE) | TAKES(TEST), import_csv},
    {"data import text", "OUT.h5 and then one FILE.txt", 2, 2,
     TAKES_ALWAYS | TAKES(WINDOW) | TAKES(STRIDE) | TAKES(VOCABULARY) | TAKES(TEST), import_text},
    {"data info", "one FILE.h5 or FILE.h5:/SPLIT", 1, 1, TAKES(JSON), info},
};

static ls_status find_kind(int argc, char **argv, const struct kind **out, ls_err *err) {
    const char *what = argc > 1 ? argv[1] : "", *format = argc > 2 ? argv[2] : "";
    char verb[64];
    if (strcmp(what, "import") == 0) {
        snprintf(verb, sizeof verb, "data import %s", format);
    } else {
        snprintf(verb, sizeof verb, "data %s", what);
    }
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        if (strcmp(verb, kinds[k].verb) == 0) {
            *out = &kinds[k];
            return LS_OK;
        }
    }
    return strcmp(what, "import") == 0
               ? ls_option_fail("data import", err, "\"%s\" is not a format; there are idx, csv and text", format)
               : ls_option_fail("data", err, "\"%s\" is not something data can do; there are import and info", what);
}

ls_status ls_verb_data(int argc, char **argv, ls_err *err) {
    const struct kind *k = NULL;
    LS_TRY(find_kind(argc, argv, &k, err));
    int n_words = k->run == info ? 1 : 2;
    arguments a = {.csv = {.label = LS_CSV_LABEL_LAST}, .window = 64};
    a.files = ls_xcalloc((size_t)argc, sizeof *a.files);
    const ls_option_table table = {k->verb, known_options, N_OPTIONS, k->takes};
    ls_status s = ls_options_read(&table, argc - n_words, argv + n_words, take_option, take_file, &a, err);
    if (s == LS_OK && (a.n_files < k->min_files || a.n_files > k->max_files)) {
        s = ls_option_fail(k->verb, err, "it takes %s", k->operands);
    }
    if (s == LS_OK) {
        s = k->run(&a, err);
    }
    if (s == LS_OK && k->run != info) {
        s = tell_file(a.files[0], NULL, NULL, err);
    }
    free(a.files);
    return s;
}
