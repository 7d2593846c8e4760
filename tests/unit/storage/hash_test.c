/* storage/hash.c: hashing piece by piece gives what hashing at once does. */
#include "storage/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void pieces_give_the_same(void **state) {
    unsigned char bytes[5000];
    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (unsigned char)(i * i >> 3);
    }
    const size_t lengths[] = {0, 1, 16, 17, 128, 129, 240, 241, 1024, 4999, sizeof bytes};
    for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++) {
        for (size_t piece = 1; piece <= 1000; piece *= 10) {
            ls_hash *hash = ls_hash_start();
            for (size_t at = 0; at < lengths[k]; at += piece) {
                ls_hash_add(hash, bytes + at, lengths[k] - at < piece ? lengths[k] - at : piece);
            }
            assert_true(ls_hash_finish64(hash) == ls_hash64(bytes, lengths[k]));
        }
    }
}

/* Files are compared by these values for ever: the published ones of XXH3 for no bytes. */
static void the_values_are_xxh3s(void **state) {
    static const unsigned char none[LS_HASH_BYTES] = {0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8,
                                                      0x60, 0x01, 0xc3, 0x24, 0x46, 0x8d, 0x49, 0x7f};
    unsigned char out[LS_HASH_BYTES];
    (void)state;
    assert_true(ls_hash64("", 0) == 0x2d06800538d394c2u);
    ls_hash_finish(ls_hash_start(), out);
    assert_memory_equal(out, none, sizeof out);
}

static void a_text_borrows_nothing_from_the_next(void **state) {
    unsigned char out[2][LS_HASH_BYTES];
    static const char *const texts[2][2] = {{"ab", "c"}, {"a", "bc"}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        ls_hash *hash = ls_hash_start();
        ls_hash_add_text(hash, texts[i][0]);
        ls_hash_add_text(hash, texts[i][1]);
        ls_hash_finish(hash, out[i]);
    }
    assert_memory_not_equal(out[0], out[1], sizeof out[0]);
}

/* On every machine: eight bytes, the least significant first. */
static void numbers_are_little_endian(void **state) {
    static const unsigned char bytes[] = {2, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 8, 7, 6, 5, 4, 3, 2, 1};
    (void)state;
    ls_hash *hash = ls_hash_start();
    ls_hash_add_text(hash, "ab");
    ls_hash_add_u64(hash, 0x0102030405060708u);
    assert_true(ls_hash_finish64(hash) == ls_hash64(bytes, sizeof bytes));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_give_the_same),
        cmocka_unit_test(the_values_are_xxh3s),
        cmocka_unit_test(a_text_borrows_nothing_from_the_next),
        cmocka_unit_test(numbers_are_little_endian),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
