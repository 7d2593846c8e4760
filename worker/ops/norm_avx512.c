/* The loops of batch normalisation for AVX-512; see norm_body.h. */
#include "worker/ops/norm_kernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define V 16
#define NAME ls_norm_avx512
#include "worker/ops/norm_body.h"
#else
const ls_norm_kernels *const ls_norm_avx512 = NULL;
#endif
