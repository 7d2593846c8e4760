/* --trace FILE: what every rank and thread did, gathered by the chief into one file of Chrome's trace format. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/trace.h"
#include "trainer/fit/fit_private.h"
#include "trainer/fit/profile.h"
#include "worker/reduce/team.h"

/* Events of a rank: some thousand steps of a small network, 15 MiB. */
enum { TRACE_EVENTS = 1 << 18 };

static const char head[] = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";

ls_status ls_fit_trace_check(const ls_fit *f, const char *run, ls_err *err) {
    if (f->request->trace == NULL) {
        return LS_OK;
    }
    char *whole = ls_path_absolute(f->request->trace), *folder = ls_path_folder(whole);
    bool comes_with_run = strcmp(folder, run) == 0 && !ls_folder_exists(run);
    free(whole);
    free(folder);
    return comes_with_run ? LS_OK : ls_file_check_output(f->request->trace, "a trace", head, err);
}

ls_status ls_fit_trace_begin(ls_fit *f, ls_err *err) {
    if (f->request->trace == NULL) {
        return LS_OK;
    }
    ls_team_barrier(f->team); /* times count from here on every rank */
    ls_engine_profile(f->engine, true);
    return ls_team_agree(f->team, ls_trace_start(TRACE_EVENTS, err), err);
}

/* The table beside the file: what the trace adds up to. */
static void print_table(ls_fit *f) {
    ls_peaks peaks;
    ls_err err = LS_ERR_INIT;
    if (ls_profile_measure_peaks(f->engine, f->team, &peaks, &err) != LS_OK) { /* alike on all ranks */
        ls_warn("%s", err.text);
    } else if (f->chief) {
        ls_profile_print(stderr, f->engine, ls_profile_peak(&peaks, f->job.bfloat16 ? LS_BF16 : LS_F32));
    }
    ls_engine_profile(f->engine, false);
}

static void write_file(const ls_fit *f, const char *events, size_t n_bytes) {
    static const char tail[] = "\n]}\n";
    ls_err err = LS_ERR_INIT;
    size_t total = sizeof head - 1 + n_bytes + sizeof tail - 1;
    char *text = ls_xrealloc(NULL, total);
    memcpy(text, head, sizeof head - 1);
    memcpy(text + sizeof head - 1, events, n_bytes);
    memcpy(text + sizeof head - 1 + n_bytes, tail, sizeof tail - 1);
    if (ls_file_write_atomic(f->request->trace, text, total, &err) != LS_OK) {
        ls_warn("%s", err.text);
    }
    free(text);
}

void ls_fit_trace_end(ls_fit *f, ls_status status) {
    if (!ls_trace_is_on) {
        return;
    }
    if (status == LS_OK) {
        print_table(f);
    }
    char name[96];
    size_t n_dropped, all_bytes = 0, *n_bytes = ls_xcalloc((size_t)f->team->size, sizeof *n_bytes);
    snprintf(name, sizeof name, "rank %d on %s", f->team->rank, f->team->hosts[f->team->rank]);
    char *events = ls_trace_text(f->team->rank, name, &n_dropped);
    ls_trace_stop();
    size_t mine = strlen(events) + 2;
    events = ls_xrealloc(events, mine + 1);
    memcpy(events + mine - 2, ",\n", 3);
    mine -= f->team->rank == f->team->size - 1 ? 2 : 0; /* a comma between ranks, none after the last */
    ls_team_allgather(f->team, &mine, sizeof mine, n_bytes);
    for (int r = 0; r < f->team->size; r++) {
        all_bytes += n_bytes[r];
    }
    char *all = f->chief ? ls_xrealloc(NULL, all_bytes + 1) : NULL;
    ls_team_gatherv(f->team, 0, events, n_bytes, all);
    if (f->chief) {
        write_file(f, all, all_bytes);
        if (n_dropped > 0) {
            ls_warn("%s: the first %d events of each rank; %zu more of rank 0 did not fit", f->request->trace,
                    TRACE_EVENTS, n_dropped);
        }
    }
    free(all);
    free(events);
    free(n_bytes);
}
