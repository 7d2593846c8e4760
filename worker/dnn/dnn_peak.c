/* The machine's own matrix product, as a measure for everything else. */
#include <stdlib.h>

#include "common/clock.h"
#include "common/memory.h"
#include "worker/dnn/dnn.h"

enum { N = 1024, PEAK_MS = 150 };

/* Small whole numbers: no denormals, and the sums are exact in every type. */
static void fill(void *p, ls_dtype dtype, size_t n) {
    static const float values[4] = {1.0f, -1.0f, 2.0f, -2.0f};
    static const uint16_t halves[4] = {0x3F80, 0xBF80, 0x4000, 0xC000};
    for (size_t i = 0; i < n; i++) {
        if (dtype == LS_F32) {
            ((float *)p)[i] = values[i * 7 % 5 % 4];
        } else {
            ((uint16_t *)p)[i] = halves[i * 7 % 5 % 4];
        }
    }
}

ls_status ls_dnn_peak_gflops(ls_dtype dtype, int n_threads, double *gflops, ls_err *err) {
    ls_linear_desc d = {.src = ls_md_matrix(N, N, dtype), .dst = ls_md_matrix(N, N, dtype)};
    d.weights = (ls_md){.rank = 2, .dim = {N, N}, .stride = {1, N}, .dtype = dtype, .any = true};
    ls_prim *prim;
    void *pointers[LS_ARG_COUNT] = {0};
    LS_TRY(ls_prim_linear(&prim, &d, LS_PASS_INFERENCE, n_threads, err));
    int n_args = ls_prim_n_args(prim);
    for (int i = 0; i < n_args; i++) {
        bool written;
        size_t n_bytes;
        ls_prim_arg arg = ls_prim_arg_at(prim, i, &written, &n_bytes);
        pointers[i] = ls_xcalloc(1, n_bytes);
        if (arg == LS_ARG_SRC || arg == LS_ARG_WEIGHTS) {
            fill(pointers[i], dtype, n_bytes / ls_dtype_bytes(dtype));
        }
    }
    int64_t best = INT64_MAX, begin = ls_now_ns(), last = begin;
    while (last - begin < PEAK_MS * INT64_C(1000000)) {
        ls_prim_run(prim, pointers);
        int64_t now = ls_now_ns();
        best = now - last < best ? now - last : best;
        last = now;
    }
    *gflops = 2.0 * N * N * N / (double)best;
    for (int i = 0; i < n_args; i++) {
        free(pointers[i]);
    }
    ls_prim_destroy(prim);
    return LS_OK;
}
