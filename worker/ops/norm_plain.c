/* The loops of batch normalisation for whatever the compiler is told to compile for; see norm_body.h. */
#define V 4
#define NAME ls_norm_plain
#include "worker/ops/norm_body.h"
