#include "storage/run_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"

void ls_run_folder_release(ls_run_folder *run) {
    if (run->path != NULL) {
        close(run->events);
        close(run->lock);
    }
    free(run->path);
    free(run->checkpoints);
    free(run->logs);
    free(run->job);
    free(run->history);
    *run = (ls_run_folder){0};
}

/* ---- the lock ---- */

/* Who holds it, as that process wrote it there: "process 4711 on node1". */
static void read_holder(int fd, char *out, size_t size) {
    ssize_t n = pread(fd, out, size - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    if (out[0] == '\0') {
        snprintf(out, size, "another process");
    }
}

static void write_holder(int fd) {
    char host[64] = "", text[128];
    gethostname(host, sizeof host - 1);
    int n = snprintf(text, sizeof text, "process %d on %s\n", (int)getpid(), host);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n) {
        ls_debug("the holder of a run folder's lock could not be noted: %s", strerror(errno));
    }
}

static ls_status take_lock(const char *path, int wait_ms, int *out, ls_err *err) {
    char *name = ls_path_join(path, ".lock");
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    ls_status s =
        fd < 0 ? ls_fail(err, ls_write_status(errno), "%s: cannot be opened: %s", name, strerror(errno)) : LS_OK;
    free(name);
    LS_TRY(s);
    const int64_t deadline = ls_now_ns() + (int64_t)wait_ms * 1000000;
    int got;
    while ((got = flock(fd, LOCK_EX | LOCK_NB)) != 0 && (errno == EWOULDBLOCK || errno == EINTR) &&
           ls_now_ns() < deadline) {
        usleep(20000);
    }
    if (got != 0 && errno == EWOULDBLOCK) {
        char holder[160];
        read_holder(fd, holder, sizeof holder);
        close(fd);
        return ls_fail(err, LS_EINPUT, "%s: is in use by %s; stop that run, or choose another folder with --run-dir",
                       path, holder);
    }
    /* Another error: a file system that has no locks. The run goes on without. */
    write_holder(fd);
    *out = fd;
    return LS_OK;
}

/* ---- opening ---- */

static bool holds_checkpoint(const char *folder) {
    DIR *dir = opendir(folder);
    bool found = false;
    for (struct dirent *d; dir != NULL && !found && (d = readdir(dir)) != NULL;) {
        size_t n = strlen(d->d_name);
        found = n > 3 && strcmp(d->d_name + n - 3, ".h5") == 0;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return found;
}

/* More than a header. */
static bool holds_history(const char *path) {
    char *text = NULL;
    if (!ls_file_exists(path) || ls_file_read(path, &text, NULL, NULL) != LS_OK) {
        return false;
    }
    const char *end = strchr(text, '\n');
    bool found = end != NULL && end[1] != '\0';
    free(text);
    return found;
}

static ls_status check_mode(const ls_run_folder *run, ls_run_mode mode, ls_err *err) {
    if (mode == LS_RUN_NEW && (holds_checkpoint(run->checkpoints) || holds_history(run->history))) {
        return ls_fail(err, LS_EINPUT,
                       "%s: already holds a run; add --resume to go on with it, or choose another folder with "
                       "--run-dir",
                       run->path);
    }
    if (mode == LS_RUN_RESUME && !ls_file_exists(run->job)) {
        return ls_fail(err, LS_EINPUT,
                       "%s: holds no run to resume (no job.json); check --run-dir, or leave --resume out to start one",
                       run->path);
    }
    return LS_OK;
}

/* A line that a crash of the machine cut short must not swallow the next one. */
static void end_last_line(int events) {
    char last = '\n';
    off_t size = lseek(events, 0, SEEK_END);
    if (size > 0 && pread(events, &last, 1, size - 1) == 1 && last != '\n' && write(events, "\n", 1) != 1) {
        ls_debug("the last event could not be ended: %s", strerror(errno));
    }
}

static ls_status open_files(ls_run_folder *run, ls_err *err) {
    LS_TRY(ls_folder_create(run->checkpoints, err));
    LS_TRY(ls_folder_create(run->logs, err));
    ls_folder_remove_temporaries(run->path);
    ls_folder_remove_temporaries(run->checkpoints);
    char *name = ls_path_join(run->path, "events.jsonl");
    run->events = open(name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    ls_status s = run->events < 0
                      ? ls_fail(err, ls_write_status(errno), "%s: cannot be opened: %s", name, strerror(errno))
                      : LS_OK;
    free(name);
    LS_TRY(s);
    end_last_line(run->events);
    return LS_OK;
}

ls_status ls_run_folder_open(ls_run_folder *run, const char *path, ls_run_mode mode, int wait_ms, ls_err *err) {
    ls_run_folder opened = {.path = ls_xstrdup(path),
                            .checkpoints = ls_path_join(path, "checkpoints"),
                            .logs = ls_path_join(path, "logs"),
                            .job = ls_path_join(path, "job.json"),
                            .history = ls_path_join(path, "history.csv"),
                            .lock = -1,
                            .events = -1};
    ls_status s = check_mode(&opened, mode, err); /* before anything is made */
    s = s == LS_OK ? ls_folder_create(path, err) : s;
    s = s == LS_OK ? take_lock(path, wait_ms, &opened.lock, err) : s;
    s = s == LS_OK ? check_mode(&opened, mode, err) : s; /* again: another run may have been there until now */
    s = s == LS_OK ? open_files(&opened, err) : s;
    if (s != LS_OK) {
        ls_run_folder_release(&opened);
        return s;
    }
    *run = opened;
    return LS_OK;
}

/* ---- job and events ---- */

ls_status ls_run_folder_write_job(const ls_run_folder *run, const char *json, ls_err *err) {
    return ls_file_write_atomic(run->job, json, strlen(json), err);
}

static ls_status append(int fd, const char *path, const char *text, size_t n_bytes, ls_err *err) {
    struct iovec parts[] = {{(void *)text, n_bytes}, {"\n", 1}};
    ssize_t n;
    do {
        n = writev(fd, parts, 2);
    } while (n < 0 && errno == EINTR);
    if (n < 0 || (size_t)n != n_bytes + 1) {
        return ls_fail(err, LS_EIO, "%s: cannot be appended to: %s", path, strerror(n < 0 ? errno : ENOSPC));
    }
    return LS_OK;
}

ls_status ls_run_folder_event(const ls_run_folder *run, const char *line, size_t n_bytes, ls_err *err) {
    LS_ASSERT(memchr(line, '\n', n_bytes) == NULL);
    ls_status s = append(run->events, "events.jsonl", line, n_bytes, err);
    return s != LS_OK && err != NULL ? ls_err_context(err, "%s", run->path) : s;
}

/* ---- history ---- */

/* "epoch,loss,val_loss"; NULL, with the sentence, when a name cannot be a column. */
static char *header_text(size_t n, const char *const *names, ls_err *err) {
    size_t size = 8;
    for (size_t i = 0; i < n; i++) {
        if (names[i][0] == '\0' || strpbrk(names[i], ",\"\r\n") != NULL) {
            ls_fail(err, LS_EINPUT, "history.csv: \"%s\" cannot be the name of a column", names[i]);
            return NULL;
        }
        size += strlen(names[i]) + 1;
    }
    char *text = ls_xcalloc(size, 1), *end = stpcpy(text, "epoch");
    for (size_t i = 0; i < n; i++) {
        *end++ = ',';
        end = stpcpy(end, names[i]);
    }
    return text;
}

static char *row_text(int64_t epoch, size_t n, const double *values) {
    size_t size = 24 + 32 * n;
    char *text = ls_xcalloc(size, 1);
    size_t used = (size_t)snprintf(text, size, "%" PRId64, epoch);
    for (size_t i = 0; i < n; i++) {
        used += (size_t)snprintf(text + used, size - used, ",%.9g", values[i]);
    }
    return text;
}

/* Leaves a history.csv that begins with this header. */
static ls_status prepare_history(const ls_run_folder *run, const char *header, ls_err *err) {
    if (ls_file_exists(run->history)) {
        char *text;
        LS_TRY(ls_file_read(run->history, &text, NULL, err));
        text[strcspn(text, "\r\n")] = '\0';
        bool same = strcmp(text, header) == 0;
        free(text);
        if (same) {
            return LS_OK;
        }
        char *previous = ls_path_join(run->path, "history.previous.csv");
        ls_status s = LS_OK;
        if (rename(run->history, previous) != 0) {
            s = ls_fail(err, LS_EIO, "%s: cannot be renamed: %s", run->history, strerror(errno));
        } else {
            ls_warn("%s: the columns have changed; the rows until now are in %s", run->history, previous);
        }
        free(previous);
        LS_TRY(s);
    }
    char *line = ls_xprintf("%s\n", header);
    ls_status s = ls_file_write_atomic(run->history, line, strlen(line), err);
    free(line);
    return s;
}

ls_status ls_run_folder_history(const ls_run_folder *run, int64_t epoch, size_t n, const char *const *names,
                                const double *values, ls_err *err) {
    char *header = header_text(n, names, err);
    if (header == NULL) {
        return LS_EINPUT;
    }
    ls_status s = prepare_history(run, header, err);
    free(header);
    LS_TRY(s);
    int fd = open(run->history, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0) {
        return ls_fail(err, ls_write_status(errno), "%s: cannot be opened: %s", run->history, strerror(errno));
    }
    char *row = row_text(epoch, n, values);
    s = append(fd, run->history, row, strlen(row), err);
    free(row);
    close(fd);
    return s;
}

ls_status ls_run_folder_trim_history(const ls_run_folder *run, int64_t last_epoch, ls_err *err) {
    if (!ls_file_exists(run->history)) {
        return LS_OK;
    }
    char *text;
    size_t n_bytes;
    LS_TRY(ls_file_read(run->history, &text, &n_bytes, err));
    char *from = strchr(text, '\n'), *to = from != NULL ? from + 1 : text;
    for (char *row = to, *end; from != NULL && (end = strchr(row, '\n')) != NULL; row = end + 1) {
        char *number_end;
        int64_t epoch = strtoll(row, &number_end, 10);
        if (number_end != row && epoch <= last_epoch) {
            memmove(to, row, (size_t)(end + 1 - row));
            to += end + 1 - row;
        }
    }
    size_t kept = (size_t)(to - text);
    ls_status s = kept == n_bytes ? LS_OK : ls_file_write_atomic(run->history, text, kept, err);
    free(text);
    return s;
}
