#include "trainer/fit/report.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/control.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "trainer/fit/number.h"

enum { LINE_MAX_BYTES = 16 * 1024, LINGER_MS = 500 };
static const int64_t event_ns = 1000000000, redraw_ns = 100000000;

struct ls_report {
    const ls_run_folder *run;
    const char *const *columns;
    char *host;
    int n_columns, ranks;
    bool quiet, drawn, events_failed;
    int terminal; /* descriptor; -1: none */
    int log;      /* of the run folder: descriptor of logs/rank0.log; -1: none */
    ls_control *control;
    int64_t last_event_ns, last_draw_ns;
    char line[LINE_MAX_BYTES];
    size_t used;
};

/* ---- JSON without allocation ---- */

static void put(ls_report *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(ls_report *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = r->used < LINE_MAX_BYTES ? vsnprintf(r->line + r->used, LINE_MAX_BYTES - r->used, format, args) : 0;
    va_end(args);
    r->used += n > 0 ? (size_t)n : 0;
}

static void put_text(ls_report *r, const char *text) {
    put(r, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\') {
            put(r, "\\%c", *p);
        } else if (*p < 0x20) {
            put(r, "\\u%04x", *p);
        } else {
            put(r, "%c", *p);
        }
    }
    put(r, "\"");
}

static void put_number(ls_report *r, double x) {
    char text[40];
    put(r, "%s", isfinite(x) ? ls_number_text(x, text, sizeof text) : "null");
}

static void begin(ls_report *r, const char *event) {
    r->used = 0;
    put(r, "{\"event\": \"%s\", \"time\": %.3f", event, ls_wall_seconds());
}

static void put_metrics(ls_report *r, const ls_logs *logs) {
    put(r, ", \"metrics\": {");
    for (int i = 0; i < logs->n; i++) {
        put(r, i ? ", " : "");
        put_text(r, logs->item[i].name);
        put(r, ": ");
        put_number(r, logs->item[i].value);
    }
    put(r, "}");
}

/* A line that does not fit is dropped whole: half a JSON object is worth nothing. */
static void send_event(ls_report *r) {
    put(r, "}");
    if (r->used + 1 >= LINE_MAX_BYTES) {
        return;
    }
    if (r->control != NULL) {
        ls_control_push(r->control, r->line, r->used);
    }
    ls_err err = LS_ERR_INIT;
    if (!r->events_failed && ls_run_folder_event(r->run, r->line, r->used, &err) != LS_OK) {
        r->events_failed = true; /* said once: a full disk would say it a thousand times */
        ls_warn("%s; no more events are recorded", err.text);
    }
}

/* ---- the terminal ---- */

static void wipe(ls_report *r) {
    if (r->drawn) {
        fputs("\r\033[K", stdout);
        r->drawn = false;
    }
}

/* The terminal that people look at, -1: none. Open MPI gives each rank a pseudo-terminal of its own and copies it to
 * mpirun's standard output, so under mpirun it is the parent's that counts. */
static int open_terminal(void) {
    char link[64], path[256];
    if (!isatty(STDOUT_FILENO)) {
        return -1;
    }
    snprintf(link, sizeof link, "/proc/%d/fd/1",
             getenv("OMPI_COMM_WORLD_RANK") != NULL ? (int)getppid() : (int)getpid());
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    int fd = strncmp(path, "/dev/", 5) == 0 ? open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK) : -1;
    if (fd >= 0 && !isatty(fd)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int columns_of(int terminal) {
    struct winsize w;
    return ioctl(terminal, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

/* What people are told stays in the run folder too, wherever mpirun's output goes. */
static void keep(ls_report *r, const char *format, va_list args) {
    if (r->log >= 0 && (vdprintf(r->log, format, args) < 0 || dprintf(r->log, "\n") < 0)) {
        close(r->log);
        r->log = -1;
        ls_warn("%s/rank0.log cannot be written: %s", r->run->logs, strerror(errno));
    }
}

static void keep_line(ls_report *r, const char *before, const char *message) {
    if (r->log >= 0) {
        dprintf(r->log, "%s%s\n", before, message);
    }
}

void ls_report_say(ls_report *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    keep(r, format, args);
    va_end(args);
    if (r->quiet) {
        return;
    }
    va_start(args, format);
    wipe(r);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

/* ---- */

ls_status ls_report_create(ls_report **out, const ls_report_options *o, ls_err *err) {
    ls_report *r = ls_xcalloc(1, sizeof *r);
    r->run = o->run;
    r->host = ls_xstrdup(o->host);
    r->ranks = o->ranks;
    r->quiet = o->quiet;
    r->terminal = o->quiet ? -1 : open_terminal();
    r->n_columns = o->n_columns;
    r->columns = o->columns;
    char *log = ls_path_join(o->run->logs, "rank0.log");
    r->log = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    free(log);
    if (o->control != NULL) {
        ls_control_run run = {.run_dir = o->run->path, .job = o->job_path, .host = r->host, .ranks = o->ranks};
        if (ls_control_create(&r->control, o->control, &run, err) != LS_OK) {
            ls_report_destroy(r);
            return err->status;
        }
    }
    *out = r;
    return LS_OK;
}

void ls_report_destroy(ls_report *r) {
    if (r == NULL) {
        return;
    }
    ls_control_destroy(r->control, LINGER_MS);
    if (r->log >= 0) {
        close(r->log);
    }
    if (r->terminal >= 0) {
        close(r->terminal);
    }
    free(r->host);
    free(r);
}

void ls_report_start(ls_report *r, int64_t epochs, int64_t steps_per_epoch, const char *resumed_from) {
    begin(r, "start");
    put(r, ", \"run_dir\": ");
    put_text(r, r->run->path);
    put(r, ", \"pid\": %d, \"ranks\": %d, \"host\": ", (int)getpid(), r->ranks);
    put_text(r, r->host);
    put(r, ", \"epochs\": %lld, \"steps_per_epoch\": %lld", (long long)epochs, (long long)steps_per_epoch);
    if (resumed_from != NULL) {
        put(r, ", \"resumed_from\": ");
        put_text(r, resumed_from);
    }
    send_event(r);
}

void ls_report_step(ls_report *r, const ls_bar *bar) {
    int64_t now = ls_now_ns();
    if (now - r->last_event_ns >= event_ns || bar->step == bar->steps) {
        r->last_event_ns = now;
        begin(r, "progress");
        put(r, ", \"epoch\": %lld, \"step\": %lld, \"steps\": %lld, \"samples_per_s\": %.1f, \"eta_s\": %.1f",
            (long long)bar->epoch, (long long)bar->step, (long long)bar->steps, bar->samples_per_s, bar->eta_s);
        const double *loss = ls_logs_find(bar->logs, "loss");
        put(r, ", \"loss\": ");
        put_number(r, loss != NULL ? *loss : NAN);
        put_metrics(r, bar->logs);
        send_event(r);
    }
    if (r->terminal >= 0 && (now - r->last_draw_ns >= redraw_ns || bar->step == bar->steps)) {
        char line[1024];
        r->last_draw_ns = now;
        printf("\r%s\033[K", ls_bar_line(bar, columns_of(r->terminal), line, sizeof line));
        fflush(stdout);
        r->drawn = true;
    }
}

void ls_report_epoch(ls_report *r, const ls_bar *bar, double learning_rate) {
    char line[2048];
    ls_report_say(r, "%s", ls_bar_epoch(bar, line, sizeof line));
    begin(r, "epoch");
    put(r, ", \"epoch\": %lld, \"seconds\": %.3f, \"learning_rate\": ", (long long)bar->epoch, bar->seconds);
    put_number(r, learning_rate);
    put_metrics(r, bar->logs);
    send_event(r);
    double *values = ls_xcalloc((size_t)r->n_columns + 1, sizeof *values);
    for (int i = 0; i < r->n_columns; i++) {
        const double *value = ls_logs_find(bar->logs, r->columns[i]);
        values[i] = value != NULL ? *value : NAN;
    }
    ls_err err = LS_ERR_INIT;
    if (ls_run_folder_history(r->run, bar->epoch, (size_t)r->n_columns, r->columns, values, &err) != LS_OK) {
        ls_report_warning(r, err.text);
    }
    free(values);
}

void ls_report_checkpoint(ls_report *r, const char *path, int64_t epoch, int64_t step) {
    begin(r, "checkpoint");
    put(r, ", \"path\": ");
    put_text(r, path);
    put(r, ", \"epoch\": %lld, \"step\": %lld", (long long)epoch, (long long)step);
    send_event(r);
}

static void put_way(ls_report *r, const ls_way *way) {
    put(r, "\"bucket_bytes\": %zu, \"order\": \"%s\", \"fan_in\": %d", way->bucket_bytes,
        way->newest_first ? "need" : "ready", way->fan_in);
}

void ls_report_tuned(ls_report *r, const ls_tuned *tuned) {
    begin(r, "tuned");
    put(r, ", ");
    put_way(r, &tuned->used);
    put(r, ", \"steps\": %d, \"tried\": [", tuned->n_steps);
    for (int i = 0; i < tuned->n_tried; i++) {
        put(r, i > 0 ? ", {" : "{");
        put_way(r, &tuned->tried[i]);
        put(r, ", \"exposed_ms\": ");
        put_number(r, tuned->tried[i].exposed_ms);
        put(r, "}");
    }
    put(r, "]");
    send_event(r);
}

void ls_report_warning(ls_report *r, const char *message) {
    wipe(r);
    fflush(stdout);
    ls_warn("%s", message);
    keep_line(r, "warning: ", message);
    begin(r, "warning");
    put(r, ", \"message\": ");
    put_text(r, message);
    send_event(r);
}

void ls_report_end(ls_report *r, ls_status status, const char *message) {
    wipe(r);
    fflush(stdout);
    if (status != LS_OK) {
        keep_line(r, "", message);
    }
    begin(r, "end");
    put(r, ", \"status\": \"%s\", \"exit_code\": %d, \"message\": ",
        status == LS_OK         ? "done"
        : status == LS_ESTOPPED ? "stopped"
                                : "failed",
        ls_status_exit_code(status));
    put_text(r, message);
    send_event(r);
}
