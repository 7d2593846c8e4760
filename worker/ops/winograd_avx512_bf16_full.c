/* Winograd's kernels for AVX-512 with products of f32, where results become bf16 by an instruction; see
 * winograd_body.h.
 */
#include "worker/ops/winograd_kernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512BF16__)
#define V 16
#define ROWS 12
#define ROWS_T 8
#define NAME ls_wino_avx512_bf16_full
#include "worker/ops/winograd_body.h"
#else
const ls_wino_kernels *const ls_wino_avx512_bf16_full = NULL;
#endif
