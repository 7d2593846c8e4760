#include "common/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void the_nearest_word_is_named(void **state) {
    (void)state;
    static const char *const known[] = {"relu", "sigmoid", "tanh"};
    char hint[LS_HINT_MAX];
    assert_string_equal(ls_hint(hint, "Sigmiod", known, 3, ""), "; did you mean \"sigmoid\"?");
    assert_string_equal(ls_hint(hint, "rleu", known, 3, "--"), "; did you mean \"--relu\"?");
}

static void where_none_is_near_all_are_named_if_they_fit(void **state) {
    (void)state;
    static const char *const known[] = {"relu", "sigmoid"};
    const char *many[100];
    char hint[LS_HINT_MAX];
    assert_string_equal(ls_hint(hint, "gaussian", known, 2, ""), "; known are \"relu\", \"sigmoid\"");
    assert_string_equal(ls_hint(hint, "gaussian", known, 0, ""), "");
    for (int i = 0; i < 100; i++) {
        many[i] = "sigmoid";
    }
    assert_string_equal(ls_hint(hint, "gaussian", many, 100, ""), "");
}

static void a_word_of_a_list_is_a_whole_one(void **state) {
    (void)state;
    assert_true(ls_word_listed("lr learning_rate", "lr"));
    assert_true(ls_word_listed("lr learning_rate", "learning_rate"));
    assert_false(ls_word_listed("lr learning_rate", "rate"));
    assert_false(ls_word_listed("lr", ""));
    assert_false(ls_word_listed(NULL, "lr"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_nearest_word_is_named),
                                       cmocka_unit_test(where_none_is_near_all_are_named_if_they_fit),
                                       cmocka_unit_test(a_word_of_a_list_is_a_whole_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
