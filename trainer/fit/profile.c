#include "trainer/fit/profile.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/dnn/dnn.h"

ls_status ls_profile_measure_peaks(const ls_engine *engine, ls_team *team, ls_peaks *peaks, ls_err *err) {
    ls_engine_info info;
    ls_engine_describe(engine, &info);
    *peaks = (ls_peaks){0};
    ls_team_barrier(team); /* side by side, as in training: cores share clocks and memory */
    ls_status s = ls_dnn_peak_gflops(LS_F32, info.n_threads, &peaks->f32, err);
    if (s == LS_OK && ls_dnn_has_bf16()) {
        s = ls_dnn_peak_gflops(LS_BF16, info.n_threads, &peaks->bf16, err);
    }
    LS_TRY(ls_team_agree(team, s, err));
    ls_team_bcast(team, 0, peaks, sizeof *peaks);
    return LS_OK;
}

static void print_row(FILE *out, const char *label, const char *layer, double ms, double gflops, double total,
                      double peak) {
    fprintf(out, "%-26s %-28s %10.4f %6.1f%%", label, layer, ms, total > 0 ? 100 * ms / total : 0);
    if (gflops > 0 && ms > 0) {
        double rate = gflops / ms * 1e3;
        fprintf(out, " %10.1f", rate);
        if (peak > 0) {
            fprintf(out, " %6.1f%%", 100 * rate / peak);
        }
    }
    fputc('\n', out);
}

static int slowest_first(const void *a, const void *b) {
    double x = ((const ls_engine_profile_row *)a)->ms, y = ((const ls_engine_profile_row *)b)->ms;
    return (x < y) - (x > y);
}

/* Rows of the same label as one, in place; how many are left. */
static int by_kind(ls_engine_profile_row *rows, int n) {
    int n_kinds = 0;
    for (int i = 0; i < n; i++) {
        int k = 0;
        while (k < n_kinds && strcmp(rows[k].label, rows[i].label) != 0) {
            k++;
        }
        if (k == n_kinds) {
            rows[n_kinds++] = rows[i];
        } else {
            rows[k].ms += rows[i].ms;
            rows[k].gflops += rows[i].gflops;
        }
    }
    qsort(rows, (size_t)n_kinds, sizeof *rows, slowest_first);
    return n_kinds;
}

void ls_profile_print(FILE *out, ls_engine *engine, double peak) {
    ls_engine_profile_row *rows;
    uint64_t n_steps;
    int n = ls_engine_profile_rows(engine, &rows, &n_steps);
    double total = 0, gflops = 0;
    for (int i = 0; i < n; i++) {
        rows[i].ms /= n_steps > 0 ? (double)n_steps : 1;
        rows[i].gflops /= n_steps > 0 ? (double)n_steps : 1;
        total += rows[i].ms;
        gflops += rows[i].gflops;
    }
    fprintf(out, "%-26s %-28s %10s %7s %10s %7s\n", "operation", "layer", "ms a step", "share", "GFLOP/s", "of peak");
    for (int i = 0; i < n; i++) {
        print_row(out, rows[i].label, rows[i].layer, rows[i].ms, rows[i].gflops, total, peak);
    }
    n = by_kind(rows, n);
    fprintf(out, "\n%-26s %-28s %10s %7s %10s %7s\n", "by kind", "", "ms a step", "share", "GFLOP/s", "of peak");
    for (int i = 0; i < n; i++) {
        print_row(out, rows[i].label, "", rows[i].ms, rows[i].gflops, total, peak);
    }
    print_row(out, "step", "", total, gflops, total, peak);
    fprintf(out, "%llu steps of rank 0; peak: a matrix product of 1024 x 1024 x 1024 reaches %.1f GFLOP/s\n",
            (unsigned long long)n_steps, peak);
    free(rows);
}
