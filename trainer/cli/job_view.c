#include "trainer/cli/job_view.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"

enum { MAX_COLUMNS = 10, CELL = 128 };

const char *ls_view_text(const json_t *job, const char *key) {
    const char *text = json_string_value(json_object_get(job, key));
    return text != NULL ? text : "";
}

double ls_view_number(const json_t *object, const char *key, double otherwise) {
    json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

bool ls_view_over(const json_t *job) {
    static const char *const live[] = {"queued", "starting", "running", "stopping"};
    for (size_t i = 0; i < sizeof live / sizeof live[0]; i++) {
        if (strcmp(ls_view_text(job, "state"), live[i]) == 0) {
            return false;
        }
    }
    return true;
}

const char *ls_view_part(char *out, size_t size, const json_t *progress, const char *part, const char *whole) {
    double n = ls_view_number(progress, part, NAN), of = ls_view_number(progress, whole, NAN);
    if (isnan(n)) {
        snprintf(out, size, "-");
    } else if (isnan(of)) {
        snprintf(out, size, "%.0f", n);
    } else {
        snprintf(out, size, "%.0f/%.0f", n, of);
    }
    return out;
}

const char *ls_view_moment(char *out, size_t size, double seconds) {
    time_t then = (time_t)seconds, now = (time_t)ls_wall_seconds();
    struct tm a, b;
    if (seconds <= 0) {
        snprintf(out, size, "-");
        return out;
    }
    localtime_r(&then, &a);
    localtime_r(&now, &b);
    bool today = a.tm_year == b.tm_year && a.tm_yday == b.tm_yday;
    strftime(out, size, today ? "%H:%M:%S" : "%Y-%m-%d %H:%M", &a);
    return out;
}

static void append(char *out, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void append(char *out, size_t size, const char *format, ...) {
    size_t used = strlen(out);
    va_list args;
    va_start(args, format);
    vsnprintf(out + used, size - used, format, args);
    va_end(args);
}

void ls_view_metrics(char *out, size_t size, const json_t *metrics) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metrics, name, value) {
        double number = json_number_value(value);
        if (json_is_number(value) && (number == 0 || fabs(number) >= 1e-3)) {
            append(out, size, "  %s %.4f", name, number);
        } else if (json_is_number(value)) {
            append(out, size, "  %s %.3g", name, number);
        }
    }
}

void ls_view_progress(char *out, size_t size, const json_t *progress, bool over) {
    char part[64];
    double loss = ls_view_number(progress, "loss", NAN), speed = ls_view_number(progress, "samples_per_s", NAN);
    double left = ls_view_number(progress, "eta_s", NAN);
    snprintf(out, size, "epoch %s", ls_view_part(part, sizeof part, progress, "epoch", "epochs"));
    append(out, size, "  step %s", ls_view_part(part, sizeof part, progress, "step", "steps"));
    const json_t *metrics = json_object_get(progress, "metrics");
    if (!isnan(loss) && json_object_get(metrics, "loss") == NULL) {
        append(out, size, "  loss %.4f", loss);
    }
    ls_view_metrics(out, size, metrics);
    if (!isnan(speed)) {
        append(out, size, "  %.0f samples/s", speed);
    }
    if (!isnan(left) && !over) {
        append(out, size, "  %s left", ls_format_duration(part, sizeof part, left));
    }
}

/* Columns as wide as their widest cell, two blanks apart; the last one is not padded. */
static void print_table(char (*cells)[MAX_COLUMNS][CELL], size_t n_rows, int n_columns) {
    int width[MAX_COLUMNS] = {0};
    for (size_t r = 0; r < n_rows; r++) {
        for (int c = 0; c < n_columns; c++) {
            int n = (int)strlen(cells[r][c]);
            width[c] = n > width[c] ? n : width[c];
        }
    }
    for (size_t r = 0; r < n_rows; r++) {
        for (int c = 0; c < n_columns - 1; c++) {
            printf("%-*s  ", width[c], cells[r][c]);
        }
        printf("%s\n", cells[r][n_columns - 1]);
    }
}

static void cell_number(char *cell, const char *format, double value) {
    if (isnan(value)) {
        snprintf(cell, CELL, "-");
    } else {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(cell, CELL, format, value);
#pragma GCC diagnostic pop
    }
}

static void first_cells(char (*row)[CELL], const json_t *job) {
    snprintf(row[0], CELL, "%.0f", ls_view_number(job, "id", 0));
    snprintf(row[1], CELL, "%s", ls_view_text(job, "name"));
    snprintf(row[2], CELL, "%s", ls_view_text(job, "state"));
    snprintf(row[3], CELL, "%.0f", ls_view_number(job, "ranks", 0));
}

static void status_row(char (*row)[CELL], const json_t *job) {
    const json_t *progress = json_object_get(job, "progress");
    double left = ls_view_number(progress, "eta_s", NAN);
    bool over = ls_view_over(job);
    first_cells(row, job);
    ls_view_part(row[4], CELL, progress, "epoch", "epochs");
    ls_view_part(row[5], CELL, progress, "step", "steps");
    cell_number(row[6], "%.4f", ls_view_number(progress, "loss", NAN));
    cell_number(row[7], "%.0f", ls_view_number(progress, "samples_per_s", NAN));
    snprintf(row[8], CELL, "-");
    if (!over && !isnan(left)) {
        ls_format_duration(row[8], CELL, left);
    }
    ls_view_moment(row[9], CELL, ls_view_number(job, "started", 0));
}

static void list_row(char (*row)[CELL], const json_t *job) {
    first_cells(row, job);
    ls_view_moment(row[4], CELL, ls_view_number(job, "started", 0));
    snprintf(row[5], CELL, "%s", ls_view_text(job, "run_dir"));
}

static void table_of(const json_t *jobs, const char *const *heads, int n_columns,
                     void (*fill)(char (*row)[CELL], const json_t *job)) {
    size_t n = json_array_size(jobs);
    char(*cells)[MAX_COLUMNS][CELL] = ls_xcalloc(n + 1, sizeof *cells);
    for (int c = 0; c < n_columns; c++) {
        snprintf(cells[0][c], CELL, "%s", heads[c]);
    }
    for (size_t i = 0; i < n; i++) {
        fill(cells[i + 1], json_array_get(jobs, i));
    }
    print_table(cells, n + 1, n_columns);
    free(cells);
}

void ls_view_status_table(const json_t *jobs) {
    static const char *const heads[] = {"ID",   "NAME", "STATE",     "RANKS",     "EPOCH",
                                        "STEP", "LOSS", "SAMPLES/S", "TIME LEFT", "STARTED"};
    table_of(jobs, heads, 10, status_row);
}

void ls_view_list_table(const json_t *jobs) {
    static const char *const heads[] = {"ID", "NAME", "STATE", "RANKS", "STARTED", "RUN FOLDER"};
    table_of(jobs, heads, 6, list_row);
}

static void print_line(const char *what, const char *text) {
    if (text[0] != '\0') {
        printf("  %-12s %s\n", what, text);
    }
}

void ls_view_details(const json_t *job) {
    const json_t *progress = json_object_get(job, "progress"), *code = json_object_get(job, "exit_code");
    char text[512];
    printf("job %.0f (%s): %s\n", ls_view_number(job, "id", 0), ls_view_text(job, "name"), ls_view_text(job, "state"));
    print_line("message", ls_view_text(job, "message"));
    ls_view_progress(text, sizeof text, progress, ls_view_over(job));
    print_line("progress", json_object_size(progress) > 0 ? text : "");
    snprintf(text, sizeof text, "%.0f on %s, %s %.0f", ls_view_number(job, "ranks", 0), ls_view_text(job, "host"),
             strcmp(ls_view_text(job, "origin"), "external") == 0 ? "started by hand; rank 0 is process"
                                                                  : "mpirun is process",
             ls_view_number(job, "pid", 0));
    print_line("ranks", text);
    print_line("started", ls_view_moment(text, sizeof text, ls_view_number(job, "started", 0)));
    if (ls_view_over(job)) {
        print_line("ended", ls_view_moment(text, sizeof text, ls_view_number(job, "ended", 0)));
    }
    snprintf(text, sizeof text, "%.0f", json_number_value(code));
    print_line("exit code", json_is_integer(code) ? text : "");
    snprintf(text, sizeof text, "%.0f", ls_view_number(job, "restarts", 0));
    print_line("restarts", strcmp(text, "0") != 0 ? text : "");
    print_line("checkpoint", ls_view_text(progress, "last_checkpoint"));
    print_line("job file", ls_view_text(job, "job"));
    print_line("run folder", ls_view_text(job, "run_dir"));
}
