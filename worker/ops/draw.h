/*
 * Draws for dropout: a pure function of seed, step, layer, the sample's index in the data set and the element's place
 * in the sample, whichever rank, lane or thread makes them.
 */
#ifndef LS_WORKER_DRAW_H
#define LS_WORKER_DRAW_H

#include "worker/plan/plan.h"

enum { LS_DRAW_GROUP = 128 };

/* What 16 drawn bits must reach for an element to be kept. */
uint32_t ls_draw_threshold(double rate);
/* keep[e] = 1 with probability 1 - rate, else 0, for e < n; keep has room for n rounded up to LS_DRAW_GROUP. `sample`
 * counts within the run; first_group separates several masks of one layer. */
void ls_draw_keep(const ls_run *run, int layer, size_t sample, uint32_t first_group, uint32_t threshold, size_t n,
                  uint8_t *keep);

#endif
