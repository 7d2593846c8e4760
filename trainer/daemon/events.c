#include "trainer/daemon/events.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/memory.h"

enum { CHUNK = 256 * 1024, CHUNKS_A_CALL = 16, FAR_BEHIND = 1024 * 1024 };

/* FNV-1a: any good 64-bit hash does; two different events of one run must not be taken for one. */
static uint64_t hash_of(const char *text, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (unsigned char)text[i]) * 0x100000001b3u;
    }
    return h;
}

static bool seen_before(ls_job *job, uint64_t hash) {
    unsigned n = job->n_seen < LS_JOB_SEEN ? job->n_seen : LS_JOB_SEEN;
    for (unsigned i = 0; i < n; i++) {
        if (job->seen[i] == hash) {
            return true;
        }
    }
    job->seen[job->n_seen++ % LS_JOB_SEEN] = hash;
    return false;
}

/* Copies the named members that are numbers. */
static void copy_numbers(json_t *to, const json_t *from, const char *const *keys) {
    for (; *keys != NULL; keys++) {
        json_t *value = json_object_get(from, *keys);
        if (json_is_number(value)) {
            json_object_set(to, *keys, value);
        }
    }
}

/* false: the slower of the two ways brought it after a newer one. */
static bool take_progress(ls_job *job, const json_t *event) {
    static const char *const keys[] = {"epoch", "step", "steps", "samples_per_s", "eta_s", "loss", "time", NULL};
    double now = json_number_value(json_object_get(event, "time"));
    if (now < json_number_value(json_object_get(job->progress, "time"))) {
        return false;
    }
    copy_numbers(job->progress, event, keys);
    json_t *metrics = json_object_get(event, "metrics");
    if (json_is_object(metrics)) {
        json_object_set(job->progress, "metrics", metrics);
    }
    return true;
}

static void take_epoch(ls_job *job, const json_t *event) {
    static const char *const keys[] = {"epoch", "learning_rate", "time", NULL};
    static const char *const metric_keys[] = {"loss", "val_loss", NULL};
    if (take_progress(job, event)) {
        copy_numbers(job->progress, event, keys);
        copy_numbers(job->progress, json_object_get(event, "metrics"), metric_keys);
    }
}

static void take_start(ls_job *job, const json_t *event) {
    static const char *const keys[] = {"epochs", "steps_per_epoch", NULL};
    copy_numbers(job->progress, event, keys);
    json_t *ranks = json_object_get(event, "ranks");
    if (json_is_integer(ranks) && job->external) {
        job->ranks = (int)json_integer_value(ranks);
    }
    free(job->end_status); /* an end before it belongs to an earlier run in the folder */
    job->end_status = NULL;
}

static void take_end(ls_job *job, const json_t *event) {
    const char *status = json_string_value(json_object_get(event, "status"));
    const char *message = json_string_value(json_object_get(event, "message"));
    if (status != NULL &&
        (strcmp(status, "done") == 0 || strcmp(status, "failed") == 0 || strcmp(status, "stopped") == 0)) {
        ls_job_set_text(&job->end_status, "%s", status);
        ls_job_set_text(&job->end_message, "%s", message != NULL ? message : "");
        json_t *code = json_object_get(event, "exit_code");
        if (json_is_integer(code) && !job->has_exit_code) {
            job->exit_code = (int)json_integer_value(code);
            job->has_exit_code = true;
        }
    }
}

bool ls_events_apply(ls_job *job, const char *line, size_t n_bytes, ls_event_fn fn, void *context) {
    json_t *event = json_loadb(line, n_bytes, 0, NULL);
    const char *name = json_string_value(json_object_get(event, "event"));
    double time = json_number_value(json_object_get(event, "time"));
    /* A run that reported by itself began at a known moment on this machine: older events are an earlier run's. */
    bool fresh = name != NULL && (!job->external || time >= job->started - 2);
    if (!fresh || seen_before(job, hash_of(line, n_bytes))) {
        json_decref(event);
        return false;
    }
    if (strcmp(name, "start") == 0) {
        take_start(job, event);
    } else if (strcmp(name, "progress") == 0) {
        take_progress(job, event);
    } else if (strcmp(name, "epoch") == 0) {
        take_epoch(job, event);
    } else if (strcmp(name, "checkpoint") == 0 && json_is_string(json_object_get(event, "path"))) {
        json_object_set(job->progress, "last_checkpoint", json_object_get(event, "path"));
    } else if (strcmp(name, "warning") == 0 && json_is_string(json_object_get(event, "message"))) {
        ls_job_set_text(&job->message, "warning: %s", json_string_value(json_object_get(event, "message")));
    } else if (strcmp(name, "end") == 0) {
        take_end(job, event);
    }
    if (job->state == LS_JOB_STARTING) {
        job->state = LS_JOB_RUNNING;
    }
    char *text = json_dumps(event, JSON_COMPACT);
    if (fn != NULL && text != NULL) {
        fn(context, job, name, text);
    }
    free(text);
    json_decref(event);
    return true;
}

/* The whole lines of buffer[n]; returns how many bytes they take. */
static size_t apply_lines(ls_job *job, const char *buffer, size_t n, size_t *n_new, ls_event_fn fn, void *context) {
    size_t at = 0;
    for (const char *end; (end = memchr(buffer + at, '\n', n - at)) != NULL; at = (size_t)(end - buffer) + 1) {
        *n_new += ls_events_apply(job, buffer + at, (size_t)(end - buffer) - at, fn, context);
    }
    return at;
}

size_t ls_events_read(ls_job *job, ls_event_fn fn, void *context) {
    char *path = ls_job_path(job, "events.jsonl");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    free(path);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == job->events_at) {
        if (fd >= 0) {
            close(fd);
        }
        return 0;
    }
    if (st.st_size < job->events_at) {
        job->events_at = 0; /* the file was begun anew */
    }
    if (st.st_size - job->events_at > FAR_BEHIND) {
        job->events_at = st.st_size - FAR_BEHIND; /* the piece of a line there is no JSON and so ignored */
    }
    size_t n_new = 0;
    char *buffer = ls_xrealloc(NULL, CHUNK);
    for (int i = 0; i < CHUNKS_A_CALL; i++) {
        ssize_t n = pread(fd, buffer, CHUNK, job->events_at);
        if (n <= 0) {
            break;
        }
        size_t used = apply_lines(job, buffer, (size_t)n, &n_new, fn, context);
        if (used == 0 && n == CHUNK) {
            used = (size_t)n; /* no line is that long: skip to where one begins */
        }
        job->events_at += (int64_t)used;
        if (used == 0) {
            break;
        }
    }
    free(buffer);
    close(fd);
    return n_new;
}

void ls_events_restart(ls_job *job) {
    char *path = ls_job_path(job, "events.jsonl");
    struct stat st;
    job->events_from = stat(path, &st) == 0 ? st.st_size : 0;
    job->events_at = job->events_from;
    free(path);
    free(job->end_status);
    free(job->end_message);
    job->end_status = job->end_message = NULL;
    job->n_seen = 0;
    job->has_exit_code = false;
    json_object_clear(job->progress);
}
