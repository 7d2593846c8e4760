/* lockstep data import | info: makes data sets from other files, and tells what is in one. */
#include <errno.h>
#include <getopt.h>
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
#include "trainer/cli/verbs.h"

static const char usage[] =
    "usage: lockstep data import idx OUT.h5 FOLDER|FILE... [--gzip 0..9] [--source TEXT] [--licence TEXT]\n"
    "       lockstep data import csv OUT.h5 FILE.csv[.gz] [--label last|none|COLUMN] [--shape H,W,C]\n"
    "                [--scale NUMBER] [--test ROWS] [--gzip 0..9] [--source TEXT] [--licence TEXT]\n"
    "       lockstep data import text OUT.h5 FILE.txt [--window N] [--stride N] [--vocabulary FILE] [--test WINDOWS]\n"
    "                [--gzip 0..9] [--source TEXT] [--licence TEXT]\n"
    "       lockstep data info FILE.h5[:/SPLIT] [--json]\n";

/* ---- arguments ---- */

static ls_status parse_int(const char *option, const char *text, long min, long max, long *out, ls_err *err) {
    char *end;
    errno = 0;
    *out = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || *out < min || *out > max) {
        return ls_fail(err, LS_EINPUT, "--%s %s: a whole number from %ld to %ld was expected", option, text, min, max);
    }
    return LS_OK;
}

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
    const char *at = text;
    for (options->rank = 0; options->rank < LS_H5_RANK_MAX - 1;) {
        char *end;
        long length = strtol(at, &end, 10);
        if (end == at || length < 1 || (*end != ',' && *end != '\0')) {
            break;
        }
        options->shape[options->rank++] = (uint64_t)length;
        if (*end == '\0') {
            return LS_OK;
        }
        at = end + 1;
    }
    return ls_fail(err, LS_EINPUT,
                   "--shape %s: 1 to %d lengths of 1 and more with commas between them were expected, such "
                   "as 8,8,1",
                   text, LS_H5_RANK_MAX - 1);
}

static ls_status parse_label(const char *text, int *label, ls_err *err) {
    long column;
    if (strcmp(text, "last") == 0 || strcmp(text, "none") == 0) {
        *label = text[0] == 'l' ? LS_CSV_LABEL_LAST : LS_CSV_LABEL_NONE;
        return LS_OK;
    }
    if (parse_int("label", text, 1, INT32_MAX, &column, NULL) != LS_OK) {
        return ls_fail(err, LS_EINPUT, "--label %s: last, none or a column counted from 1 was expected", text);
    }
    *label = (int)column - 1;
    return LS_OK;
}

enum {
    OPTION_GZIP = 256,
    OPTION_SOURCE,
    OPTION_LICENCE,
    OPTION_LABEL,
    OPTION_SHAPE,
    OPTION_SCALE,
    OPTION_WINDOW,
    OPTION_STRIDE,
    OPTION_VOCABULARY,
    OPTION_TEST,
    OPTION_JSON
};

static const struct option common_options[] = {{"gzip", required_argument, NULL, OPTION_GZIP},
                                               {"source", required_argument, NULL, OPTION_SOURCE},
                                               {"licence", required_argument, NULL, OPTION_LICENCE},
                                               {NULL, 0, NULL, 0}};
static const struct option csv_options[] = {
    {"gzip", required_argument, NULL, OPTION_GZIP},       {"source", required_argument, NULL, OPTION_SOURCE},
    {"licence", required_argument, NULL, OPTION_LICENCE}, {"label", required_argument, NULL, OPTION_LABEL},
    {"shape", required_argument, NULL, OPTION_SHAPE},     {"scale", required_argument, NULL, OPTION_SCALE},
    {"test", required_argument, NULL, OPTION_TEST},       {NULL, 0, NULL, 0}};
static const struct option text_options[] = {
    {"gzip", required_argument, NULL, OPTION_GZIP},       {"source", required_argument, NULL, OPTION_SOURCE},
    {"licence", required_argument, NULL, OPTION_LICENCE}, {"window", required_argument, NULL, OPTION_WINDOW},
    {"stride", required_argument, NULL, OPTION_STRIDE},   {"vocabulary", required_argument, NULL, OPTION_VOCABULARY},
    {"test", required_argument, NULL, OPTION_TEST},       {NULL, 0, NULL, 0}};
static const struct option info_options[] = {{"json", no_argument, NULL, OPTION_JSON}, {NULL, 0, NULL, 0}};

/* getopt_long without its own printing; -1 at the end, '?' after writing the sentence. */
static int next_option(int argc, char **argv, const struct option *options, ls_err *err) {
    opterr = 0;
    int at = optind ? optind : 1, code = getopt_long(argc, argv, ":", options, NULL);
    if (code == ':') {
        ls_status s = ls_fail(err, LS_EINPUT, "%s needs a value after it", argv[optind - 1]);
        (void)s;
        return '?';
    }
    if (code == '?') {
        const char *words[16], *wrong = argv[optind > at ? optind - 1 : at];
        size_t n = 0;
        for (; options[n].name != NULL; n++) {
            words[n] = options[n].name;
        }
        const char *near = ls_nearest(wrong + strspn(wrong, "-"), words, n);
        ls_status s = ls_fail(err, LS_EINPUT, "%s is not an option here%s%s%s", wrong, near ? "; did you mean --" : "",
                              near ? near : "", near ? "?" : "; \"lockstep data\" lists them");
        (void)s;
    }
    return code;
}

/* What the importers take besides; each reads its own. */
typedef struct {
    ls_import_csv_options csv; /* common and n_test are all importers' */
    long window, stride;       /* stride 0: as window */
    const char *vocabulary;
} import_options;

static ls_status parse_import(int argc, char **argv, const struct option *known, import_options *all, ls_err *err) {
    long number;
    ls_import_csv_options *options = &all->csv;
    optind = 0;
    for (int code; (code = next_option(argc, argv, known, err)) != -1;) {
        switch (code) {
            case OPTION_GZIP:
                LS_TRY(parse_int("gzip", optarg, 0, 9, &number, err));
                options->common.gzip = (int)number;
                break;
            case OPTION_SOURCE: options->common.source = optarg; break;
            case OPTION_LICENCE: options->common.licence = optarg; break;
            case OPTION_LABEL: LS_TRY(parse_label(optarg, &options->label, err)); break;
            case OPTION_SHAPE: LS_TRY(parse_shape(optarg, options, err)); break;
            case OPTION_SCALE: LS_TRY(parse_scale(optarg, &options->scale, err)); break;
            case OPTION_WINDOW: LS_TRY(parse_int("window", optarg, 1, 1 << 24, &all->window, err)); break;
            case OPTION_STRIDE: LS_TRY(parse_int("stride", optarg, 1, 1 << 24, &all->stride, err)); break;
            case OPTION_VOCABULARY: all->vocabulary = optarg; break;
            case OPTION_TEST:
                LS_TRY(parse_int("test", optarg, 0, INT64_MAX, &number, err));
                options->n_test = (uint64_t)number;
                break;
            default: return LS_EINPUT;
        }
    }
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

static ls_status run_info(int argc, char **argv, ls_err *err) {
    bool as_json = false;
    optind = 0;
    for (int code; (code = next_option(argc, argv, info_options, err)) != -1;) {
        if (code != OPTION_JSON) {
            return LS_EINPUT;
        }
        as_json = true;
    }
    if (argc - optind != 1) {
        return ls_fail(err, LS_EINPUT, "data info takes one FILE.h5 or FILE.h5:/SPLIT");
    }
    char *path, *split;
    ls_dataset_split_name(argv[optind], &path, &split);
    json_t *json = as_json ? json_pack("{s:s}", "file", path) : NULL;
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

static ls_status import_idx(char *const *files, size_t n, const import_options *o, ls_err *err) {
    return ls_import_idx(files[0], (const char *const *)(files + 1), n - 1, &o->csv.common, err);
}

static ls_status import_csv(char *const *files, size_t n, const import_options *o, ls_err *err) {
    (void)n;
    return ls_import_csv(files[0], files[1], &o->csv, err);
}

static ls_status import_text(char *const *files, size_t n, const import_options *o, ls_err *err) {
    (void)n;
    const ls_import_text_options options = {.common = o->csv.common,
                                            .window = (uint64_t)o->window,
                                            .stride = (uint64_t)(o->stride > 0 ? o->stride : o->window),
                                            .n_test = o->csv.n_test,
                                            .vocabulary = o->vocabulary};
    return ls_import_text(files[0], files[1], &options, err);
}

static const struct {
    const char *word, *inputs;
    bool many;
    const struct option *options;
    ls_status (*run)(char *const *files, size_t n, const import_options *o, ls_err *err);
} formats[] = {{"idx", "a folder or files", true, common_options, import_idx},
               {"csv", "one FILE.csv", false, csv_options, import_csv},
               {"text", "one FILE.txt", false, text_options, import_text}};

static ls_status run_import(int argc, char **argv, ls_err *err) {
    size_t f = 0, n_formats = sizeof formats / sizeof formats[0];
    while (f < n_formats && (argc < 2 || strcmp(argv[1], formats[f].word) != 0)) {
        f++;
    }
    if (f == n_formats) {
        return ls_fail(err, LS_EINPUT, "data import: \"%s\" is not a format; there are idx, csv and text",
                       argc > 1 ? argv[1] : "");
    }
    import_options options = {.csv = {.label = LS_CSV_LABEL_LAST}, .window = 64};
    LS_TRY(parse_import(argc - 1, argv + 1, formats[f].options, &options, err));
    char **rest = argv + 1 + optind;
    int n = argc - 1 - optind;
    if (n < 2 || (!formats[f].many && n != 2)) {
        return ls_fail(err, LS_EINPUT, "data import %s takes OUT.h5 and then %s", argv[1], formats[f].inputs);
    }
    LS_TRY(formats[f].run(rest, (size_t)n, &options, err));
    return tell_file(rest[0], NULL, NULL, err);
}

ls_status ls_verb_data(int argc, char **argv, ls_err *err) {
    if (argc > 1 && strcmp(argv[1], "import") == 0) {
        return run_import(argc - 1, argv + 1, err);
    }
    if (argc > 1 && strcmp(argv[1], "info") == 0) {
        return run_info(argc - 1, argv + 1, err);
    }
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
        fputs(usage, stdout);
        return LS_OK;
    }
    fputs(usage, stderr);
    return argc > 1 ? ls_fail(err, LS_EINPUT, "\"%s\" is not something data can do; there are import and info", argv[1])
                    : ls_fail(err, LS_EINPUT, "data needs to be told what to do: import or info");
}
