/* Winograd's kernels for AVX2 with fused multiply-adds; see winograd_body.h. */
#include "worker/ops/winograd_kernels.h"

#if defined(__AVX2__) && defined(__FMA__)
#define V 8
#define ROWS 4
#define ROWS_T 4
#define NAME ls_wino_avx2
#include "worker/ops/winograd_body.h"
#else
const ls_wino_kernels *const ls_wino_avx2 = NULL;
#endif
