#include "storage/convert.h"

#include <math.h>
#include <string.h>

/* IEEE half to float: the exponent is moved by 112, and once more for infinities and NaN; a subnormal gets its value by
 * one float subtraction, so that the loop over it has no branches. */
static inline float half_to_float(uint16_t half) {
    union {
        uint32_t bits;
        float value;
    } out = {(uint32_t)(half & 0x7fff) << 13}, subnormal;
    uint32_t exponent = out.bits & 0x0f800000u;
    out.bits += 112u << 23;
    subnormal.bits = out.bits + (1u << 23);
    subnormal.value -= 6.103515625e-05f; /* 2^-14 */
    out.bits += exponent == 0x0f800000u ? 112u << 23 : 0;
    out.bits = exponent == 0 ? subnormal.bits : out.bits;
    out.bits |= (uint32_t)(half & 0x8000) << 16;
    return out.value;
}

/* The exact value of an element in the arithmetic of its type. */
#define EXACT(value) (value)

#define LOOP_F32(ctype, arithmetic, value_of)                           \
    do {                                                                \
        const ctype *restrict from = raw;                               \
        const arithmetic a = (arithmetic)scale, b = (arithmetic)offset; \
        for (size_t i = 0; i < n; i++) {                                \
            out[i] = (float)((arithmetic)value_of(from[i]) * a + b);    \
        }                                                               \
    } while (0)

void ls_convert_to_f32(ls_h5_type type, const void *restrict raw, size_t n, double scale, double offset,
                       float *restrict out) {
    switch (type) {
        case LS_H5_F32:
            if (scale == 1 && offset == 0) {
                memcpy(out, raw, n * sizeof *out);
            } else {
                LOOP_F32(float, float, EXACT);
            }
            return;
        case LS_H5_F16: LOOP_F32(uint16_t, float, half_to_float); return;
        case LS_H5_I8: LOOP_F32(int8_t, float, EXACT); return;
        case LS_H5_BOOL:
        case LS_H5_U8: LOOP_F32(uint8_t, float, EXACT); return;
        case LS_H5_I16: LOOP_F32(int16_t, float, EXACT); return;
        case LS_H5_U16: LOOP_F32(uint16_t, float, EXACT); return;
        case LS_H5_F64: LOOP_F32(double, double, EXACT); return;
        case LS_H5_I32: LOOP_F32(int32_t, double, EXACT); return;
        case LS_H5_U32: LOOP_F32(uint32_t, double, EXACT); return;
        case LS_H5_I64: LOOP_F32(int64_t, double, EXACT); return;
        case LS_H5_U64: LOOP_F32(uint64_t, double, EXACT); return;
        case LS_H5_TYPE_COUNT: break;
    }
    LS_ASSERT(!"a type of the list");
}

#define LOOP_I32(ctype, is_good)          \
    do {                                  \
        const ctype *restrict from = raw; \
        for (size_t i = 0; i < n; i++) {  \
            if (!(is_good)) {             \
                return i;                 \
            }                             \
            out[i] = (int32_t)from[i];    \
        }                                 \
    } while (0)

static inline int is_whole(double value) {
    return value >= INT32_MIN && value <= INT32_MAX && value == nearbyint(value);
}

size_t ls_convert_to_i32(ls_h5_type type, const void *restrict raw, size_t n, int32_t *restrict out) {
    switch (type) {
        case LS_H5_F32: LOOP_I32(float, is_whole(from[i])); break;
        case LS_H5_F64: LOOP_I32(double, is_whole(from[i])); break;
        case LS_H5_F16: {
            const uint16_t *from = raw;
            for (size_t i = 0; i < n; i++) {
                float value = half_to_float(from[i]);
                if (!is_whole(value)) {
                    return i;
                }
                out[i] = (int32_t)value;
            }
            break;
        }
        case LS_H5_I8: LOOP_I32(int8_t, 1); break;
        case LS_H5_I16: LOOP_I32(int16_t, 1); break;
        case LS_H5_I32: memcpy(out, raw, n * sizeof *out); break;
        case LS_H5_I64: LOOP_I32(int64_t, from[i] >= INT32_MIN && from[i] <= INT32_MAX); break;
        case LS_H5_BOOL:
        case LS_H5_U8: LOOP_I32(uint8_t, 1); break;
        case LS_H5_U16: LOOP_I32(uint16_t, 1); break;
        case LS_H5_U32: LOOP_I32(uint32_t, from[i] <= INT32_MAX); break;
        case LS_H5_U64: LOOP_I32(uint64_t, from[i] <= INT32_MAX); break;
        case LS_H5_TYPE_COUNT: LS_ASSERT(!"a type of the list");
    }
    return n;
}
