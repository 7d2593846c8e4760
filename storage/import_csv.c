/* Tables of numbers as text, read twice: once for counts and types, once for the values. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/memory.h"
#include "storage/import.h"
#include "storage/import_output.h"

enum { LINE_MAX_BYTES = 64 << 20, BLOCK_BYTES = 1 << 20 };

typedef struct {
    const char *path;
    gzFile stream;
    char *line;
    size_t line_cap;
    uint64_t line_number; /* of the line in hand, from 1 */
    char separator;
    double *values; /* [n_columns] of the line in hand */
    size_t n_columns;
} csv_reader;

/* What the first reading finds. */
typedef struct {
    uint64_t n_rows;
    bool x_is_byte, y_is_byte, y_is_int;
} csv_survey;

/* ---- lines and fields ---- */

/* The next line without its end into reader->line; *got is false at the end of the file. */
static ls_status read_line(csv_reader *reader, bool *got, ls_err *err) {
    size_t used = 0;
    for (;;) {
        if (reader->line_cap - used < 2) {
            if (reader->line_cap >= LINE_MAX_BYTES) {
                return ls_fail(err, LS_EINPUT, "%s:%llu: the line is longer than %d MiB; this is no table of numbers",
                               reader->path, (unsigned long long)reader->line_number + 1, LINE_MAX_BYTES >> 20);
            }
            reader->line_cap = reader->line_cap ? 2 * reader->line_cap : 4096;
            reader->line = ls_xrealloc(reader->line, reader->line_cap);
        }
        if (gzgets(reader->stream, reader->line + used, (int)(reader->line_cap - used)) == NULL) {
            break;
        }
        used += strlen(reader->line + used);
        if (used + 1 < reader->line_cap && !gzeof(reader->stream) && (used == 0 || reader->line[used - 1] != '\n')) {
            return ls_fail(err, LS_EINPUT, "%s:%llu: holds a zero byte; this is not text", reader->path,
                           (unsigned long long)reader->line_number + 1);
        }
        if (used > 0 && reader->line[used - 1] == '\n') {
            break;
        }
    }
    int code = Z_OK;
    const char *reason = gzerror(reader->stream, &code);
    if (code != Z_OK && code != Z_STREAM_END) {
        return ls_fail(err, LS_EINPUT, "%s: cannot be unpacked after line %llu: %s", reader->path,
                       (unsigned long long)reader->line_number, code == Z_BUF_ERROR ? "it ends too early" : reason);
    }
    while (used > 0 && (reader->line[used - 1] == '\n' || reader->line[used - 1] == '\r')) {
        used--;
    }
    *got = used > 0 || !gzeof(reader->stream);
    reader->line[used] = '\0';
    reader->line_number++;
    return LS_OK;
}

static bool parse_number(const char *from, const char *end, double *value) {
    while (from < end && *from == ' ') {
        from++;
    }
    while (end > from && end[-1] == ' ') {
        end--;
    }
    char *stop;
    *value = strtod(from, &stop);
    return end > from && stop == end && isfinite(*value);
}

/* The line's fields into values, at most n of them; returns how many fields there are, and in *bad the first that is no
 * number (from 1; 0: none). */
static size_t parse_line(const char *line, char separator, double *values, size_t n, size_t *bad) {
    size_t column = 0;
    *bad = 0;
    for (const char *at = line;; at++) {
        const char *end = strchrnul(at, separator);
        double value = 0;
        if (!parse_number(at, end, &value) && *bad == 0) {
            *bad = column + 1;
        }
        if (column < n) {
            values[column] = value;
        }
        column++;
        at = end;
        if (*end == '\0') {
            return column;
        }
    }
}

static ls_status fail_field(const csv_reader *reader, size_t column, ls_err *err) {
    const char *at = reader->line;
    for (size_t i = 1; i < column; i++) {
        at = strchrnul(at, reader->separator) + 1;
    }
    int n = (int)(strchrnul(at, reader->separator) - at);
    return ls_fail(err, LS_EINPUT, "%s:%llu: column %zu is \"%.*s\"; a finite number was expected", reader->path,
                   (unsigned long long)reader->line_number, column, n < 40 ? n : 40, at);
}

/* The next row's values; empty lines are passed over. */
static ls_status read_row(csv_reader *reader, bool *got, ls_err *err) {
    do {
        LS_TRY(read_line(reader, got, err));
    } while (*got && reader->line[0] == '\0');
    if (!*got) {
        return LS_OK;
    }
    size_t bad = 0, found = parse_line(reader->line, reader->separator, reader->values, reader->n_columns, &bad);
    if (found != reader->n_columns) {
        return ls_fail(err, LS_EINPUT, "%s:%llu: has %zu fields; the lines before it have %zu", reader->path,
                       (unsigned long long)reader->line_number, found, reader->n_columns);
    }
    return bad ? fail_field(reader, bad, err) : LS_OK;
}

static void reader_release(csv_reader *reader) {
    if (reader->stream != NULL) {
        gzclose(reader->stream);
    }
    free(reader->line);
    free(reader->values);
}

/* A heading: a first line without any number in it. One with some is a row, and its words are complained about. */
static bool is_heading(const csv_reader *reader) {
    for (const char *at = reader->line;; at++) {
        const char *end = strchrnul(at, reader->separator);
        char *stop;
        strtod(at, &stop);
        if (stop != at) {
            return false;
        }
        if (*end == '\0') {
            return true;
        }
        at = end;
    }
}

/* Opens and reads past a heading; the rows follow. */
static ls_status reader_open(csv_reader *reader, const char *path, ls_err *err) {
    *reader = (csv_reader){.path = path, .stream = gzopen(path, "rb")};
    if (reader->stream == NULL) {
        return ls_fail(err, LS_EINPUT, "%s: cannot be opened: %s", path, strerror(errno));
    }
    gzbuffer(reader->stream, 256 << 10);
    bool got = false;
    size_t bad;
    do {
        LS_TRY(read_line(reader, &got, err));
    } while (got && reader->line[0] == '\0');
    if (!got) {
        return ls_fail(err, LS_EINPUT, "%s: is empty; a table of numbers was expected", path);
    }
    const char *separator = strpbrk(reader->line, ",;\t");
    reader->separator = separator ? *separator : ',';
    reader->n_columns = parse_line(reader->line, reader->separator, NULL, 0, &bad);
    reader->values = ls_xcalloc(reader->n_columns, sizeof *reader->values);
    if (!is_heading(reader)) {
        gzrewind(reader->stream);
        reader->line_number = 0;
    }
    return LS_OK;
}

/* ---- first reading ---- */

static bool is_byte(double value) {
    return value >= 0 && value <= 255 && value == nearbyint(value);
}

static bool is_int(double value) {
    return value >= INT32_MIN && value <= INT32_MAX && value == nearbyint(value);
}

/* The column of y, or n_columns when there is none. */
static size_t label_column(const ls_import_csv_options *options, size_t n_columns) {
    return options->label == LS_CSV_LABEL_LAST   ? n_columns - 1
           : options->label == LS_CSV_LABEL_NONE ? n_columns
                                                 : (size_t)options->label;
}

static ls_status check_columns(const csv_reader *reader, const ls_import_csv_options *options, ls_err *err) {
    size_t n = reader->n_columns, label = label_column(options, n), n_x = n - (options->label != LS_CSV_LABEL_NONE);
    if (options->label >= 0 && label >= n) {
        return ls_fail(err, LS_EINPUT, "%s: has %zu columns; the labels cannot be in column %zu", reader->path, n,
                       label + 1);
    }
    if (n_x == 0) {
        return ls_fail(err, LS_EINPUT, "%s: has one column, the labels, and nothing to learn them from", reader->path);
    }
    uint64_t n_elems = 1;
    for (int i = 0; i < options->rank; i++) {
        if (options->shape[i] == 0 || __builtin_mul_overflow(n_elems, options->shape[i], &n_elems)) {
            return ls_fail(err, LS_EINPUT, "a shape needs axes of 1 and more");
        }
    }
    if (options->rank > 0 && n_elems != n_x) {
        return ls_fail(err, LS_EINPUT, "%s: has %zu columns besides the labels; the shape asked for needs %llu",
                       reader->path, n_x, (unsigned long long)n_elems);
    }
    return LS_OK;
}

static ls_status survey(const char *path, const ls_import_csv_options *options, csv_survey *found, ls_err *err) {
    csv_reader reader;
    *found = (csv_survey){0, true, true, true};
    ls_status s = reader_open(&reader, path, err);
    s = s == LS_OK ? check_columns(&reader, options, err) : s;
    size_t label = s == LS_OK ? label_column(options, reader.n_columns) : 0;
    for (bool got = true; s == LS_OK;) {
        s = read_row(&reader, &got, err);
        if (s != LS_OK || !got) {
            break;
        }
        found->n_rows++;
        for (size_t i = 0; i < reader.n_columns; i++) {
            double value = reader.values[i];
            if (i == label) {
                found->y_is_byte = found->y_is_byte && is_byte(value);
                found->y_is_int = found->y_is_int && is_int(value);
            } else {
                found->x_is_byte = found->x_is_byte && is_byte(value);
            }
        }
    }
    reader_release(&reader);
    if (s == LS_OK && found->n_rows == 0) {
        return ls_fail(err, LS_EINPUT, "%s: holds a heading and no rows", path);
    }
    if (s == LS_OK && options->n_test >= found->n_rows) {
        return ls_fail(err, LS_EINPUT, "%s: holds %llu rows; %llu cannot be set aside for the test", path,
                       (unsigned long long)found->n_rows, (unsigned long long)options->n_test);
    }
    return s;
}

/* ---- second reading ---- */

static void put(ls_h5_type type, void *to, size_t index, double value) {
    switch (type) {
        case LS_H5_U8: ((uint8_t *)to)[index] = (uint8_t)value; break;
        case LS_H5_I32: ((int32_t *)to)[index] = (int32_t)value; break;
        default: ((float *)to)[index] = (float)value; break;
    }
}

/* One split's arrays, with a block of rows on its way to each. */
typedef struct {
    ls_import_array *x, *y; /* y: NULL when there are no labels */
    ls_h5_type x_type, y_type;
    void *x_block, *y_block;
    uint64_t block_rows, n_held;
} split_writer;

static ls_status flush_block(split_writer *writer, ls_err *err) {
    LS_TRY(ls_import_rows(writer->x, writer->n_held, writer->x_block, err));
    if (writer->y != NULL) {
        LS_TRY(ls_import_rows(writer->y, writer->n_held, writer->y_block, err));
    }
    writer->n_held = 0;
    return LS_OK;
}

static ls_status copy_rows(split_writer *writer, csv_reader *reader, size_t label, uint64_t n_rows, ls_err *err) {
    size_t n_x = reader->n_columns - (writer->y != NULL);
    for (uint64_t row = 0; row < n_rows; row++) {
        bool got = false;
        LS_TRY(read_row(reader, &got, err));
        if (!got) {
            return ls_fail(err, LS_EINPUT, "%s: became shorter while it was read", reader->path);
        }
        for (size_t i = 0, to = (size_t)writer->n_held * n_x; i < reader->n_columns; i++) {
            if (i == label) {
                put(writer->y_type, writer->y_block, (size_t)writer->n_held, reader->values[i]);
            } else {
                put(writer->x_type, writer->x_block, to++, reader->values[i]);
            }
        }
        if (++writer->n_held == writer->block_rows) {
            LS_TRY(flush_block(writer, err));
        }
    }
    return writer->n_held > 0 ? flush_block(writer, err) : LS_OK;
}

static ls_status copy_split(ls_import_output *output, csv_reader *reader, const char *split, uint64_t n_rows,
                            const csv_survey *found, const ls_import_csv_options *options, ls_err *err) {
    size_t label = label_column(options, reader->n_columns), n_x = reader->n_columns - (label < reader->n_columns);
    uint64_t dims[LS_H5_RANK_MAX] = {n_rows, n_x};
    int rank = options->rank > 0 ? options->rank + 1 : 2;
    memcpy(dims + 1, options->rank > 0 ? options->shape : (uint64_t[]){n_x}, (size_t)(rank - 1) * sizeof *dims);
    split_writer writer = {.x_type = found->x_is_byte ? LS_H5_U8 : LS_H5_F32,
                           .y_type = found->y_is_byte  ? LS_H5_U8
                                     : found->y_is_int ? LS_H5_I32
                                                       : LS_H5_F32};
    char *x_path = ls_xprintf("/%s/x", split), *y_path = ls_xprintf("/%s/y", split);
    ls_status s = ls_import_add(output, x_path, writer.x_type, rank, dims, &writer.x, err);
    if (s == LS_OK && options->scale != 0 && options->scale != 1) {
        s = ls_h5_attr_set_double(output->file, x_path, "scale", options->scale, err);
    }
    if (s == LS_OK && label < reader->n_columns) {
        s = ls_import_add(output, y_path, writer.y_type, 1, dims, &writer.y, err);
    }
    if (s == LS_OK) {
        writer.block_rows = BLOCK_BYTES / (n_x * sizeof(float)) + 1;
        writer.x_block = ls_xcalloc(writer.block_rows, n_x * sizeof(float));
        writer.y_block = ls_xcalloc(writer.block_rows, sizeof(float));
        s = copy_rows(&writer, reader, label, n_rows, err);
    }
    free(writer.x_block);
    free(writer.y_block);
    free(x_path);
    free(y_path);
    return s;
}

static ls_status copy_table(ls_import_output *output, const char *input, const csv_survey *found,
                            const ls_import_csv_options *options, ls_err *err) {
    csv_reader reader;
    ls_status s = reader_open(&reader, input, err);
    if (s == LS_OK) {
        s = copy_split(output, &reader, "train", found->n_rows - options->n_test, found, options, err);
    }
    if (s == LS_OK && options->n_test > 0) {
        s = copy_split(output, &reader, "test", options->n_test, found, options, err);
    }
    reader_release(&reader);
    return s;
}

ls_status ls_import_csv(const char *path, const char *input, const ls_import_csv_options *options, ls_err *err) {
    csv_survey found;
    ls_import_output output;
    LS_TRY(survey(input, options, &found, err));
    LS_TRY(ls_import_begin(&output, path, &options->common, err));
    ls_status s = copy_table(&output, input, &found, options, err);
    if (s == LS_OK) {
        return ls_import_commit(&output, err);
    }
    ls_import_abandon(&output);
    return s;
}
