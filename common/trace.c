#include "common/trace.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/memory.h"

typedef struct {
    const char *category, *name, *detail;
    int64_t number, start_ns, end_ns;
    int thread;
} event;

bool ls_trace_is_on;

static struct {
    event *events;
    size_t capacity;
    _Atomic size_t n; /* announced; may pass the capacity */
    int64_t zero_ns;
    _Atomic int n_threads;
} trace;

static _Thread_local int my_thread; /* from 1, in the order of first events */

ls_status ls_trace_start(size_t n_events, ls_err *err) {
    trace.events = ls_calloc(n_events, sizeof *trace.events);
    if (trace.events == NULL) {
        return ls_fail(err, LS_ENOMEM, "out of memory: a trace of %zu events", n_events);
    }
    trace.capacity = n_events;
    trace.n = 0;
    trace.zero_ns = ls_now_ns();
    ls_trace_is_on = true;
    return LS_OK;
}

void ls_trace_event(const char *category, const char *name, const char *detail, int64_t number, int64_t start_ns,
                    int64_t end_ns) {
    if (!ls_trace_is_on) {
        return;
    }
    size_t i = atomic_fetch_add_explicit(&trace.n, 1, memory_order_relaxed);
    if (i >= trace.capacity) {
        return;
    }
    if (my_thread == 0) {
        my_thread = 1 + atomic_fetch_add_explicit(&trace.n_threads, 1, memory_order_relaxed);
    }
    trace.events[i] = (event){category, name, detail, number, start_ns, end_ns, my_thread};
}

/* Threads by what they did first: "thread 2: checkpoint". */
static void name_threads(FILE *out, int process, size_t n) {
    int n_threads = trace.n_threads;
    for (int t = 1; t <= n_threads; t++) {
        size_t i = 0;
        while (i < n && (trace.events[i].thread != t || trace.events[i].category == NULL)) {
            i++;
        }
        if (i < n) {
            fprintf(out, ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":%d,", process, t);
            fprintf(out, "\"args\":{\"name\":\"thread %d: %s\"}}", t, trace.events[i].category);
        }
    }
}

char *ls_trace_text(int process, const char *process_name, size_t *n_dropped) {
    size_t n = trace.n < trace.capacity ? trace.n : trace.capacity, size = 0;
    char *text = NULL;
    FILE *out = open_memstream(&text, &size);
    *n_dropped = trace.n - n;
    if (out == NULL) {
        return ls_xstrdup("");
    }
    fprintf(out, "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"name\":\"%s\"}}", process,
            process_name);
    name_threads(out, process, n);
    for (size_t i = 0; i < n; i++) {
        const event *e = &trace.events[i];
        if (e->category == NULL || e->start_ns < trace.zero_ns) {
            continue;
        }
        fprintf(out, ",\n{\"ph\":\"X\",\"cat\":\"%s\",\"name\":\"%s\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f",
                e->category, e->name, process, e->thread, (double)(e->start_ns - trace.zero_ns) / 1e3,
                (double)(e->end_ns - e->start_ns) / 1e3);
        if (e->detail != NULL || e->number >= 0) {
            fprintf(out, ",\"args\":{");
            if (e->detail != NULL) {
                fprintf(out, "\"of\":\"%s\"%s", e->detail, e->number >= 0 ? "," : "");
            }
            if (e->number >= 0) {
                fprintf(out, "\"number\":%lld", (long long)e->number);
            }
            fputc('}', out);
        }
        fputc('}', out);
    }
    fclose(out);
    return text;
}

void ls_trace_stop(void) {
    ls_trace_is_on = false;
    free(trace.events);
    trace.events = NULL;
    trace.capacity = 0;
}
