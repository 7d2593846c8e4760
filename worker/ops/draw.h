/*
 * Draws for dropout and for the augmentation of images: a pure function of seed, step, layer, the sample's index in the
 * data set and the element's place in the sample, whichever rank, lane or thread makes them.
 */
#ifndef LS_WORKER_DRAW_H
#define LS_WORKER_DRAW_H

#include "common/rng.h"
#include "worker/plan/plan.h"

enum { LS_DRAW_GROUP = 128 };
#define LS_DRAW_BATCH SIZE_MAX /* the sample, where all of a step share their draws */

/* What 16 drawn bits must reach for an element to be kept. */
uint32_t ls_draw_threshold(double rate);
/* keep[e] = 1 with probability 1 - rate, else 0, for e < n; keep has room for n rounded up to LS_DRAW_GROUP. `sample`
 * counts within the run, or is LS_DRAW_BATCH; first_group separates several masks of one layer. */
void ls_draw_keep(const ls_run *run, int layer, size_t sample, uint32_t first_group, uint32_t threshold, size_t n,
                  uint8_t *keep);

/* Four words for one of the rows (of `rows` a sample) of a run, and a number from [low, high) made of one. */
static inline ls_philox ls_draw_row(const ls_run *run, int layer, size_t row, size_t rows) {
    uint64_t key = ls_rng_key(run->seed, LS_STREAM_AUGMENT, (uint64_t)layer);
    return ls_philox4x32(key, row % rows, run->step << 32 | run->sample_index[row / rows]);
}
static inline double ls_draw_between(uint32_t word, double low, double high) {
    return low + (high - low) * ((double)word / 4294967296.0);
}

#endif
