/* The loops of batch normalisation for AVX2; see norm_body.h. */
#include "worker/ops/norm_kernels.h"

#if defined(__AVX2__) && defined(__FMA__)
#define V 8
#define NAME ls_norm_avx2
#include "worker/ops/norm_body.h"
#else
const ls_norm_kernels *const ls_norm_avx2 = NULL;
#endif
