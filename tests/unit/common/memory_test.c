/* Copies past the caches: every byte arrives and no other, wherever they lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdint.h>
#include <string.h>

#include "common/memory.h"

static void test_copy_past(void **state) {
    (void)state;
    enum { ROOM = 256 };
    _Alignas(64) unsigned char from[ROOM], to[ROOM];
    for (size_t at = 0; at < 80; at += 3) {
        for (size_t n = 0; n < 120; n++) {
            for (size_t i = 0; i < ROOM; i++) {
                from[i] = (unsigned char)(i * 7 + n);
                to[i] = 0xEE;
            }
            ls_copy_past(to + at, from + n % 17, n);
            ls_copy_past_fence();
            assert_memory_equal(to + at, from + n % 17, n);
            for (size_t i = 0; i < ROOM; i++) {
                assert_true((i >= at && i < at + n) || to[i] == 0xEE);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy_past),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
