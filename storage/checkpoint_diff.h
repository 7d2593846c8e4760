/* What differs between two checkpoints, for people. */
#ifndef LS_STORAGE_CHECKPOINT_DIFF_H
#define LS_STORAGE_CHECKPOINT_DIFF_H

#include <stdio.h>

#include "storage/checkpoint.h"

/* Prints a line for each array (weight, optimizer slot, extra array) or scalar that differs, is in one only, or has
 * another shape, in the order of a, the first 20 of them; then what texts, epoch and step say; then a last line with
 * the counts. Compares bits: NaN equals the same NaN. Returns how many arrays and scalars differ; differences of
 * epoch, step and texts are told but do not count. Both must have their data. */
size_t ls_checkpoint_print_diff(const ls_checkpoint *a, const ls_checkpoint *b, FILE *to);

#endif
