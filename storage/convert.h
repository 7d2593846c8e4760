/*
 * Stored values as the engine wants them: pure functions over memory, no files.
 */
#ifndef LS_STORAGE_CONVERT_H
#define LS_STORAGE_CONVERT_H

#include <stddef.h>
#include <stdint.h>

#include "storage/h5.h"

/*
 * out[i] = raw[i] * scale + offset
 *
 *   raw  [n] of the type  read; aligned to its elements
 *   out  [n] f32          overwritten; must not overlap raw
 *
 * Numerics  types of up to 16 bits and float32 in float32 arithmetic (their values are exact there), the others in
 *           float64, rounded once; the same bits whatever n and wherever an element lies
 * Cost      a vector loop; memcpy for float32 with scale 1 and offset 0
 */
void ls_convert_to_f32(ls_h5_type type, const void *raw, size_t n, double scale, double offset, float *out);

/*
 * out[i] = raw[i], for labels and indexes; scale and offset do not apply.
 *
 * Returns n, or the index of the first element that is not a whole number within int32 (out is then undefined from
 * there on).
 */
size_t ls_convert_to_i32(ls_h5_type type, const void *raw, size_t n, int32_t *out);

#endif
