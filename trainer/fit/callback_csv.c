/*
 * CSVLogger: a line an epoch; epoch counts from 0, as Keras's does, and the other columns are in alphabetical order.
 * After a resume the file goes on where it stood at the checkpoint: lines of epochs that are run again are cut off.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"
#include "trainer/fit/callback_private.h"
#include "trainer/fit/number.h"

typedef struct {
    ls_callback base;
    const char *filename, *separator;
    bool append;
    FILE *file; /* the chief's */
    char *path;
    /* state */
    int64_t n_bytes; /* of the file after the last line */
    int n_keys;      /* 0: not known before the first epoch's end */
    char keys[LS_LOGS_MAX][LS_LOGS_NAME];
} csv_logger;

static ls_status csv_parse(ls_callback *base, ls_json config, double learning_rate, ls_err *err) {
    (void)learning_rate;
    csv_logger *cb = (csv_logger *)base;
    cb->separator = ",";
    LS_TRY(ls_json_get_string(config, "filename", &cb->filename, err));
    if (cb->filename == NULL) {
        return ls_json_fail(config, err, "\"filename\" is missing, for example \"log.csv\"");
    }
    LS_TRY(ls_json_get_string(config, "separator", &cb->separator, err));
    if (strlen(cb->separator) != 1) {
        return ls_json_fail(ls_json_member(config, "separator"), err, "expected one character, found \"%s\"",
                            cb->separator);
    }
    return ls_json_get_bool(config, "append", &cb->append, err);
}

/* On the chief only, at the first line, so that a resumed run can cut the file before. */
static ls_status open_file(csv_logger *cb, const ls_moment *m, ls_err *err) {
    cb->path = ls_path_join(m->port->run_folder, cb->filename);
    bool go_on = cb->append || cb->n_bytes > 0;
    if (cb->n_bytes > 0 && ls_file_exists(cb->path) && truncate(cb->path, cb->n_bytes) != 0) {
        return ls_fail(err, LS_EIO, "%s: cannot be cut to where the checkpoint left it: %s", cb->path, strerror(errno));
    }
    cb->file = fopen(cb->path, go_on ? "ae" : "we");
    if (cb->file == NULL) {
        return ls_fail(err, ls_write_status(errno), "%s: cannot be opened for writing: %s", cb->path, strerror(errno));
    }
    return LS_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

static void learn_keys(csv_logger *cb, const ls_logs *logs) {
    for (int i = 0; i < logs->n; i++) {
        snprintf(cb->keys[cb->n_keys++], LS_LOGS_NAME, "%s", logs->item[i].name);
    }
    qsort(cb->keys, (size_t)cb->n_keys, sizeof cb->keys[0], by_name);
}

static ls_status csv_epoch_end(ls_callback *base, ls_moment *m, ls_err *err) {
    csv_logger *cb = (csv_logger *)base;
    bool first = cb->n_keys == 0;
    if (first) {
        learn_keys(cb, m->logs);
    }
    if (!m->chief) {
        return LS_OK;
    }
    if (cb->file == NULL) {
        LS_TRY(open_file(cb, m, err));
    }
    if (first && ftello(cb->file) == 0) {
        fprintf(cb->file, "epoch");
        for (int i = 0; i < cb->n_keys; i++) {
            fprintf(cb->file, "%s%s", cb->separator, cb->keys[i]);
        }
        fputc('\n', cb->file);
    }
    fprintf(cb->file, "%lld", (long long)m->epoch);
    for (int i = 0; i < cb->n_keys; i++) {
        char text[40] = "NA";
        const double *value = ls_logs_find(m->logs, cb->keys[i]);
        fprintf(cb->file, "%s%s", cb->separator, value != NULL ? ls_number_text(*value, text, sizeof text) : text);
    }
    fputc('\n', cb->file);
    if (fflush(cb->file) != 0 || ferror(cb->file)) {
        return ls_fail(err, LS_EIO, "%s: cannot be written: %s", cb->path, strerror(errno));
    }
    cb->n_bytes = ftello(cb->file);
    return LS_OK;
}

static json_t *csv_save(const ls_callback *base) {
    const csv_logger *cb = (const csv_logger *)base;
    json_t *keys = json_array();
    for (int i = 0; i < cb->n_keys; i++) {
        json_array_append_new(keys, json_string(cb->keys[i]));
    }
    return json_pack("{s:I, s:o}", "n_bytes", (json_int_t)cb->n_bytes, "keys", keys);
}

static ls_status csv_restore(ls_callback *base, ls_json state, ls_err *err) {
    csv_logger *cb = (csv_logger *)base;
    LS_TRY(ls_json_get_int(state, "n_bytes", 0, INT64_MAX, &cb->n_bytes, err));
    ls_json keys = ls_json_member(state, "keys");
    cb->n_keys = 0;
    for (size_t i = 0; i < ls_json_length(keys) && i < LS_LOGS_MAX; i++) {
        const char *key = json_string_value(ls_json_element(keys, i).value);
        snprintf(cb->keys[cb->n_keys++], LS_LOGS_NAME, "%s", key != NULL ? key : "");
    }
    return LS_OK;
}

static void csv_release(ls_callback *base) {
    csv_logger *cb = (csv_logger *)base;
    if (cb->file != NULL) {
        fclose(cb->file);
    }
    free(cb->path);
}

static const char *const csv_keys[] = {"filename", "separator", "append", NULL};

const ls_callback_class ls_callback_csv_logger = {
    .name = "CSVLogger",
    .keys = csv_keys,
    .n_bytes = sizeof(csv_logger),
    .parse = csv_parse,
    .epoch_end = csv_epoch_end,
    .save = csv_save,
    .restore = csv_restore,
    .release = csv_release,
};
