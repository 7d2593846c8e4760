/* watch and logs: what lockstepd streams. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/memory.h"
#include "common/text.h"
#include "trainer/cli/client.h"
#include "trainer/cli/job_args.h"
#include "trainer/cli/job_view.h"
#include "trainer/cli/verbs.h"

typedef struct {
    bool terminal; /* one line that is written over, else a line for what is worth one */
    bool raw;      /* each event as JSON */
    json_t *job;   /* as last told */
    json_t *progress;
    char *text; /* of the stream: what has not made a whole event yet */
    size_t n_text;
} watcher;

static void clear_line(const watcher *w) {
    if (w->terminal) {
        fputs("\r\033[K", stdout);
    }
}

static void show_line(const watcher *w) {
    char line[512];
    struct winsize size = {0};
    int n = snprintf(line, sizeof line, "job %.0f (%s) %s  ", ls_view_number(w->job, "id", 0),
                     ls_view_text(w->job, "name"), ls_view_text(w->job, "state"));
    n = n < (int)sizeof line ? n : (int)sizeof line - 1;
    ls_view_progress(line + n, sizeof line - (size_t)n, w->progress, false);
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 && size.ws_col - 1u < sizeof line) {
        line[size.ws_col - 1] = '\0'; /* a line that wraps cannot be written over */
    }
    clear_line(w);
    fputs(line, stdout);
}

static void show_epoch(const watcher *w, const json_t *event) {
    char line[512] = "", part[64];
    double seconds = ls_view_number(event, "seconds", NAN);
    ls_view_metrics(line, sizeof line, json_object_get(event, "metrics"));
    clear_line(w);
    printf("epoch %.0f/%.0f%s", ls_view_number(event, "epoch", 0), ls_view_number(w->progress, "epochs", 0), line);
    printf(isnan(seconds) ? "\n" : "  in %s\n", ls_format_duration(part, sizeof part, seconds));
}

static void take_job(watcher *w, json_t *job) {
    bool changed = strcmp(ls_view_text(job, "state"), ls_view_text(w->job, "state")) != 0;
    json_decref(w->job);
    w->job = json_incref(job);
    json_t *progress = json_object_get(job, "progress");
    if (json_is_object(progress)) {
        json_object_update(w->progress, progress);
    }
    if (changed && !w->raw && (!w->terminal || ls_view_over(job))) {
        clear_line(w);
        printf("job %.0f (%s) is %s\n", ls_view_number(job, "id", 0), ls_view_text(job, "name"),
               ls_view_text(job, "state"));
    }
}

static void take_event(watcher *w, const char *name, const char *data) {
    json_t *event = json_loads(data, 0, NULL);
    if (!json_is_object(event)) {
        json_decref(event);
        return;
    }
    if (w->raw) {
        printf("%s\n", data);
    }
    if (strcmp(name, "job") == 0) {
        take_job(w, event);
    } else if (strcmp(name, "warning") == 0 && !w->raw) {
        clear_line(w);
        printf("warning: %s\n", ls_view_text(event, "message"));
    } else {
        json_object_update(w->progress, event);
        if (strcmp(name, "epoch") == 0 && !w->raw) {
            show_epoch(w, event);
        }
    }
    if (w->terminal && !w->raw && w->job != NULL && !ls_view_over(w->job)) {
        show_line(w);
    }
    fflush(stdout);
    json_decref(event);
}

/* "event: NAME\ndata: JSON" */
static void take_block(watcher *w, char *block) {
    char *name = NULL, *data = NULL, *save = NULL;
    for (char *line = strtok_r(block, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "event: ", 7) == 0) {
            name = line + 7;
        } else if (strncmp(line, "data: ", 6) == 0) {
            data = line + 6;
        }
    }
    if (name != NULL && data != NULL) {
        take_event(w, name, data);
    }
}

static bool on_events(void *context, const char *bytes, size_t n_bytes) {
    watcher *w = context;
    w->text = ls_xrealloc(w->text, w->n_text + n_bytes + 1);
    memcpy(w->text + w->n_text, bytes, n_bytes);
    w->n_text += n_bytes;
    w->text[w->n_text] = '\0';
    for (char *end; (end = strstr(w->text, "\n\n")) != NULL;) {
        *end = '\0';
        take_block(w, w->text);
        w->n_text -= (size_t)(end + 2 - w->text);
        memmove(w->text, end + 2, w->n_text + 1);
    }
    return true;
}

/* The job that is meant when none is named: the newest that runs, else the newest. */
static ls_status choose(const ls_job_args *args, int64_t *id, ls_err *err) {
    json_t *reply = NULL;
    LS_TRY(ls_client_request(args->socket, "GET", "/api/v1/jobs", NULL, NULL, &reply, err));
    json_t *jobs = json_object_get(reply, "jobs"), *job;
    size_t i;
    bool found_live = false;
    json_array_foreach(jobs, i, job) {
        bool live = !ls_view_over(job);
        if (live || !found_live) {
            *id = (int64_t)ls_view_number(job, "id", 0);
            found_live = live;
        }
    }
    json_decref(reply);
    return *id > 0 ? LS_OK : ls_fail(err, LS_EINPUT, "there is no job to watch; start one with \"lockstep submit\"");
}

/* What the job's end means for the exit code. */
static ls_status verdict(const watcher *w, ls_err *err) {
    const char *state = ls_view_text(w->job, "state"), *message = ls_view_text(w->job, "message");
    double id = ls_view_number(w->job, "id", 0);
    if (strcmp(state, "done") == 0) {
        return LS_OK;
    }
    if (strcmp(state, "stopped") == 0) {
        return ls_fail(err, LS_ESTOPPED, "job %.0f was stopped%s%s; \"lockstep resume %.0f\" goes on with it", id,
                       message[0] != '\0' ? ": " : "", message, id);
    }
    if (w->job == NULL || !ls_view_over(w->job)) {
        return ls_fail(err, LS_EIO, "lockstepd closed the connection; the job runs on without it");
    }
    return ls_fail(err, LS_EIO, "job %.0f is %s%s%s", id, state, message[0] != '\0' ? ": " : "", message);
}

ls_status ls_verb_watch(int argc, char **argv, ls_err *err) {
    ls_job_args args;
    watcher w = {.terminal = isatty(STDOUT_FILENO), .progress = json_object()};
    ls_status status = ls_job_args_parse(&args, argc, argv, LS_TAKES(JSON), LS_OPERAND_ID_OR_NONE, err);
    if (status == LS_OK && args.id == 0) {
        status = choose(&args, &args.id, err);
    }
    if (status == LS_OK) {
        char *path = ls_xprintf("/api/v1/jobs/%" PRId64 "/events", args.id);
        w.raw = args.json;
        status = ls_client_stream(args.socket, path, on_events, &w, err);
        free(path);
    }
    if (w.terminal && w.job != NULL && !ls_view_over(w.job)) {
        putchar('\n');
    }
    if (status == LS_OK) {
        status = verdict(&w, err);
    }
    free(w.text);
    json_decref(w.job);
    json_decref(w.progress);
    ls_job_args_release(&args);
    return status;
}

static bool on_log(void *context, const char *bytes, size_t n_bytes) {
    (void)context;
    return fwrite(bytes, 1, n_bytes, stdout) == n_bytes && fflush(stdout) == 0;
}

ls_status ls_verb_logs(int argc, char **argv, ls_err *err) {
    ls_job_args args;
    ls_status status = ls_job_args_parse(&args, argc, argv, LS_TAKES(FOLLOW), LS_OPERAND_ID, err);
    if (status == LS_OK) {
        char *path = ls_xprintf("/api/v1/jobs/%" PRId64 "/log%s", args.id, args.follow ? "?follow=1" : "");
        status = ls_client_stream(args.socket, path, on_log, NULL, err);
        free(path);
    }
    ls_job_args_release(&args);
    return status;
}
