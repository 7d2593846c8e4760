/*
 * Where a training step's time goes: a table of operations, totals by kind, and shares of the machine's own peak.
 */
#ifndef LS_FIT_PROFILE_H
#define LS_FIT_PROFILE_H

#include <stdio.h>

#include "worker/engine/engine.h"
#include "worker/reduce/team.h"

/* What a matrix product of 1024 x 1024 x 1024 reaches on one rank's threads while all ranks run it, GFLOP/s. */
typedef struct ls_peaks {
    double f32, bf16; /* bf16: 0 where the processor has none */
} ls_peaks;

/* Collective; rank 0's figures on every rank. Takes 0.3 s. */
ls_status ls_profile_measure_peaks(const ls_engine *engine, ls_team *team, ls_peaks *peaks, ls_err *err) LS_MUST_CHECK;

/* The peak of a precision. */
static inline double ls_profile_peak(const ls_peaks *peaks, ls_dtype compute) {
    return compute == LS_BF16 ? peaks->bf16 : peaks->f32;
}

/* Local: prints the engine's profile (ls_engine_profile). peak: of the precision that heavy operations compute in. */
void ls_profile_print(FILE *out, ls_engine *engine, double peak);

#endif
