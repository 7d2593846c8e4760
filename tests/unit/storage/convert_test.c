/* Conversions: every type, every half, exact bits, and refusals of what is no whole number. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "storage/convert.h"

enum { N = 37 }; /* a vector body and a tail */

#define CHECK_TYPE(TYPE, ctype)                                              \
    do {                                                                     \
        ctype raw[N];                                                        \
        float out[N];                                                        \
        int32_t whole[N];                                                    \
        for (int i = 0; i < N; i++) {                                        \
            raw[i] = (ctype)(3 * i + 1);                                     \
        }                                                                    \
        ls_convert_to_f32(LS_H5_##TYPE, raw, N, 0.5, -2, out);               \
        assert_int_equal(ls_convert_to_i32(LS_H5_##TYPE, raw, N, whole), N); \
        for (int i = 0; i < N; i++) {                                        \
            assert_true(out[i] == (3 * i + 1) * 0.5f - 2);                   \
            assert_int_equal(whole[i], 3 * i + 1);                           \
        }                                                                    \
    } while (0)

static void every_type(void **state) {
    (void)state;
    CHECK_TYPE(F32, float);
    CHECK_TYPE(F64, double);
    CHECK_TYPE(I8, int8_t);
    CHECK_TYPE(I16, int16_t);
    CHECK_TYPE(I32, int32_t);
    CHECK_TYPE(I64, int64_t);
    CHECK_TYPE(U8, uint8_t);
    CHECK_TYPE(U16, uint16_t);
    CHECK_TYPE(U32, uint32_t);
    CHECK_TYPE(U64, uint64_t);
    CHECK_TYPE(BOOL, uint8_t);
}

static void bytes_by_255(void **state) {
    (void)state;
    uint8_t raw[256];
    float out[256];
    for (int i = 0; i < 256; i++) {
        raw[i] = (uint8_t)i;
    }
    ls_convert_to_f32(LS_H5_U8, raw, 256, 1.0 / 255, 0, out);
    for (int i = 0; i < 256; i++) {
        assert_true(out[i] == (float)i * (float)(1.0 / 255));
        assert_true(fabs(out[i] - i / 255.0) < 1e-7);
    }
}

/* Wide types lose nothing before the one rounding: 2^53 - 1 less 2^53 is -1. */
static void wide_types_in_double(void **state) {
    (void)state;
    const int64_t raw[] = {((int64_t)1 << 53) - 1};
    const double reals[] = {1e300};
    float out[1];
    ls_convert_to_f32(LS_H5_I64, raw, 1, 1, -9007199254740992.0, out);
    assert_true(out[0] == -1);
    ls_convert_to_f32(LS_H5_F64, reals, 1, 1e-300, 0, out);
    assert_true(out[0] == 1);
}

static float exact_half(uint16_t half) {
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    float sign = half & 0x8000 ? -1 : 1;
    if (exponent == 31) {
        return mantissa ? NAN : sign * INFINITY;
    }
    return sign * (exponent ? ldexpf((float)(1024 + mantissa), exponent - 25) : ldexpf((float)mantissa, -24));
}

static void every_half(void **state) {
    (void)state;
    static uint16_t raw[65536];
    static float out[65536];
    for (int i = 0; i < 65536; i++) {
        raw[i] = (uint16_t)i;
    }
    ls_convert_to_f32(LS_H5_F16, raw, 65536, 1, 0, out);
    for (int i = 0; i < 65536; i++) {
        float expected = exact_half((uint16_t)i);
        assert_true(isnan(expected) ? isnan(out[i]) : out[i] == expected);
    }
    int32_t whole[2];
    assert_int_equal(ls_convert_to_i32(LS_H5_F16, (const uint16_t[]){0x4200, 0x4300}, 2, whole), 1);
    assert_int_equal(whole[0], 3);
}

static void a_plain_copy_keeps_the_bits(void **state) {
    (void)state;
    const float raw[] = {-0.0f, INFINITY, 1e-45f, NAN};
    float out[4];
    ls_convert_to_f32(LS_H5_F32, raw, 4, 1, 0, out);
    assert_memory_equal(raw, out, sizeof out);
}

static void no_whole_number(void **state) {
    (void)state;
    int32_t out[3];
    assert_int_equal(ls_convert_to_i32(LS_H5_F32, (const float[]){1, 2.5f, 3}, 3, out), 1);
    assert_int_equal(ls_convert_to_i32(LS_H5_F32, (const float[]){1, 2, NAN}, 3, out), 2);
    assert_int_equal(ls_convert_to_i32(LS_H5_F64, (const double[]){2147483648.0, 2, 3}, 3, out), 0);
    assert_int_equal(ls_convert_to_i32(LS_H5_F64, (const double[]){-2147483648.0, 2147483647.0, 3}, 3, out), 3);
    assert_int_equal(out[0], INT32_MIN);
    assert_int_equal(ls_convert_to_i32(LS_H5_I64, (const int64_t[]){1, INT64_MIN, 3}, 3, out), 1);
    assert_int_equal(ls_convert_to_i32(LS_H5_U32, (const uint32_t[]){1, 2, UINT32_MAX}, 3, out), 2);
    assert_int_equal(ls_convert_to_i32(LS_H5_U64, (const uint64_t[]){UINT64_MAX, 2, 3}, 3, out), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type),
        cmocka_unit_test(bytes_by_255),
        cmocka_unit_test(wide_types_in_double),
        cmocka_unit_test(every_half),
        cmocka_unit_test(a_plain_copy_keeps_the_bits),
        cmocka_unit_test(no_whole_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
