/* Texts become windows of class numbers with their vocabulary; and what is wrong is said with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/memory.h"
#include "storage/import.h"
#include "storage/vocabulary.h"
#include "tests/unit/storage/expect.h"
#include "tests/unit/storage/temporary.h"

static void import(const char *text, const ls_import_text_options *options) {
    temporary_write("in.txt", text, strlen(text));
    OK(ls_import_text(temporary("out.h5"), temporary("in.txt"), options, err));
}

static void check_array(const char *path, uint64_t n_rows, uint64_t window, const int32_t *expected) {
    int32_t values[64];
    ls_h5 *file = NULL;
    ls_h5_info info;
    OK(ls_h5_open(temporary("out.h5"), &file, err));
    OK(ls_h5_info_of(file, path, &info, err));
    assert_int_equal(info.type, LS_H5_U8);
    assert_int_equal(info.rank, 2);
    assert_int_equal(info.dims[0], n_rows);
    assert_int_equal(info.dims[1], window);
    OK(ls_h5_read(file, path, LS_H5_I32, n_rows * window, values, err));
    assert_memory_equal(values, expected, n_rows * window * sizeof *values);
    ls_h5_discard(file);
}

static void makes_windows_and_what_follows(void **state) {
    (void)state;
    const ls_import_text_options options = {.window = 3, .stride = 2, .n_test = 1};
    import("cabé\nbac", &options); /* classes: \n 0, a 1, b 2, c 3, é 4 */
    check_array("/train/x", 2, 3, (int32_t[]){3, 1, 2, 2, 4, 0});
    check_array("/train/y", 2, 3, (int32_t[]){1, 2, 4, 4, 0, 2});
    check_array("/test/x", 1, 3, (int32_t[]){0, 2, 1});
    check_array("/test/y", 1, 3, (int32_t[]){2, 1, 3});
    ls_vocabulary v;
    OK(ls_vocabulary_load(&v, temporary("out.h5"), err));
    char *text = ls_vocabulary_text(&v), c[5];
    assert_string_equal(text, "[\"\\n\",\"a\",\"b\",\"c\",\"é\"]");
    assert_int_equal(ls_vocabulary_decode(&v, 4, c), 2);
    assert_string_equal(c, "é");
    free(text);
    ls_vocabulary_release(&v);
}

/* Every window that fits, and none that lacks what follows. */
static void counts_windows(void **state) {
    (void)state;
    const ls_import_text_options each = {.window = 2, .stride = 1};
    import("aab", &each);
    check_array("/train/x", 1, 2, (int32_t[]){0, 0});
    check_array("/train/y", 1, 2, (int32_t[]){0, 1});
    import("aaba", &each);
    check_array("/train/x", 2, 2, (int32_t[]){0, 0, 0, 1});
    check_array("/train/y", 2, 2, (int32_t[]){0, 1, 1, 0});
}

static void takes_a_vocabulary(void **state) {
    (void)state;
    temporary_write("v.json", "[\"z\", \"b\", \"a\"]", 15);
    const ls_import_text_options options = {.window = 2, .stride = 2, .vocabulary = temporary("v.json")};
    import("abb", &options);
    check_array("/train/x", 1, 2, (int32_t[]){2, 1});
    check_array("/train/y", 1, 2, (int32_t[]){1, 1});
}

static void refuse(const char *text, size_t n, uint64_t window, const char *vocabulary, const char *message) {
    ls_err err = LS_ERR_INIT;
    const ls_import_text_options options = {.window = window, .stride = 1, .vocabulary = vocabulary};
    temporary_write("bad.txt", text, n);
    size_t files = temporary_count();
    assert_int_equal(ls_import_text(temporary("new.h5"), temporary("bad.txt"), &options, &err), LS_EINPUT);
    if (strstr(err.text, message) == NULL) {
        fail_msg("\"%s\" lacks \"%s\"", err.text, message);
    }
    assert_int_equal(temporary_count(), files);
}

static void errors_name_the_line(void **state) {
    (void)state;
    refuse("", 0, 2, NULL, "is empty");
    refuse("ab", 2, 2, NULL, "holds 2 characters; windows of 2 need at least one more");
    refuse("ab\ncd\xff", 6, 2, NULL, "bad.txt:2: is not UTF-8 text: byte 6 of the file is 0xff");
    refuse(
        "ab\xc0\x80"
        "cd",
        6, 2, NULL, "byte 3 of the file is 0xc0");                      /* overlong */
    refuse("ab\xed\xa0\x80", 5, 2, NULL, "byte 3 of the file is 0xed"); /* a surrogate */
    refuse("ab\xe2\x82", 4, 2, NULL, "byte 3 of the file is 0xe2");     /* cut off */
    temporary_write("v.json", "[\"a\", \"b\"]", 10);
    refuse("ab\nb", 4, 2, temporary("v.json"), "bad.txt:1: the character \"\n\" (U+000A) is not in the vocabulary");
    temporary_write("v.json", "[\"a\", \"bc\"]", 11);
    refuse("ab", 2, 1, temporary("v.json"), "a JSON list of characters");
    temporary_write("v.json", "[\"a\", \"a\"]", 10);
    refuse("ab", 2, 1, temporary("v.json"), "a JSON list of characters");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_windows_and_what_follows),
        cmocka_unit_test(counts_windows),
        cmocka_unit_test(takes_a_vocabulary),
        cmocka_unit_test(errors_name_the_line),
    };
    return cmocka_run_group_tests(tests, temporary_setup, temporary_teardown);
}
