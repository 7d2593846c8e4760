#include "trainer/daemon/api_files.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/memory.h"

static json_t *field_value(const char *text, size_t n) {
    char plain[64];
    if (n == 0) {
        return json_null();
    }
    if (n < sizeof plain) {
        char *end;
        memcpy(plain, text, n);
        plain[n] = '\0';
        double value = strtod(plain, &end);
        if (*end == '\0') {
            return isfinite(value) ? json_real(value) : json_null();
        }
    }
    json_t *value = json_stringn(text, n);
    return value != NULL ? value : json_null();
}

json_t *ls_api_history(const char *csv) {
    json_t *columns = json_array(), *rows = json_array();
    bool first = true;
    for (const char *line = csv, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        json_t *row = first ? json_incref(columns) : json_array();
        const char *stop = end > line && end[-1] == '\r' ? end - 1 : end;
        for (const char *at = line; at <= stop;) {
            const char *comma = memchr(at, ',', (size_t)(stop - at));
            size_t n = (size_t)((comma != NULL ? comma : stop) - at);
            json_array_append_new(row, first ? json_stringn(at, n) : field_value(at, n));
            at += n + 1;
        }
        if (!first && json_array_size(row) == json_array_size(columns)) {
            json_array_append(rows, row);
        }
        json_decref(row);
        first = false;
    }
    return json_pack("{s:o, s:o}", "columns", columns, "rows", rows);
}

ls_status ls_api_read_history(const ls_job *job, json_t **out, ls_err *err) {
    char *path = ls_job_path(job, "history.csv"), *text = NULL;
    ls_status status = LS_OK;
    if (ls_file_exists(path)) {
        status = ls_file_read(path, &text, NULL, err);
    }
    free(path);
    LS_TRY(status);
    *out = ls_api_history(text != NULL ? text : "");
    free(text);
    return LS_OK;
}

typedef struct {
    char *path;
    struct stat st;
} found_file;

static int by_time(const void *a, const void *b) {
    const found_file *x = a, *y = b;
    if (x->st.st_mtim.tv_sec != y->st.st_mtim.tv_sec) {
        return x->st.st_mtim.tv_sec < y->st.st_mtim.tv_sec ? -1 : 1;
    }
    if (x->st.st_mtim.tv_nsec != y->st.st_mtim.tv_nsec) {
        return x->st.st_mtim.tv_nsec < y->st.st_mtim.tv_nsec ? -1 : 1;
    }
    return strcmp(x->path, y->path);
}

ls_status ls_api_read_checkpoints(const ls_job *job, json_t **out, ls_err *err) {
    char *path = ls_job_path(job, "checkpoints");
    DIR *folder = opendir(path);
    if (folder == NULL && errno != ENOENT) {
        ls_status status = ls_fail(err, LS_EIO, "%s: cannot be read: %s", path, strerror(errno));
        free(path);
        return status;
    }
    found_file *files = NULL;
    size_t n = 0, cap = 0;
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        size_t length = strlen(entry->d_name);
        found_file file = {.path = ls_path_join(path, entry->d_name)};
        if (length > 3 && strcmp(entry->d_name + length - 3, ".h5") == 0 && stat(file.path, &file.st) == 0 &&
            S_ISREG(file.st.st_mode)) {
            LS_PUSH(files, n, cap, file);
        } else {
            free(file.path);
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
    free(path);
    if (n > 0) {
        qsort(files, n, sizeof *files, by_time);
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *name = json_string(files[i].path);
        double modified = (double)files[i].st.st_mtim.tv_sec + 1e-9 * (double)files[i].st.st_mtim.tv_nsec;
        json_array_append_new(list, json_pack("{s:o, s:I, s:f}", "path", name != NULL ? name : json_null(), "bytes",
                                              (json_int_t)files[i].st.st_size, "modified", modified));
        free(files[i].path);
    }
    free(files);
    *out = json_pack("{s:o}", "checkpoints", list);
    return LS_OK;
}

ls_status ls_api_log(const ls_job *job, int64_t offset, bool follow, ls_reply *reply, ls_err *err) {
    char *path = ls_job_path(job, LS_JOB_LOG);
    bool there = ls_file_exists(path);
    free(path);
    if (!there) {
        return ls_fail(
            err, LS_EINPUT, "job %" PRId64 " has no log here%s", job->id,
            job->external ? ": it was not started by lockstepd, so its output is where mpirun was started" : "");
    }
    *reply = (ls_reply){.status = 200, .type = "text/plain; charset=utf-8", .kind = LS_REPLY_LOG, .job_id = job->id};
    reply->offset = offset;
    reply->follow = follow;
    return LS_OK;
}
