/* What a call must do: succeed without a word, or fail with a status and a sentence that holds some words. In the call,
 * `err` is the place for the sentence. Include after cmocka.h. */
#ifndef LS_TESTS_EXPECT_H
#define LS_TESTS_EXPECT_H

#include <string.h>

#include "common/status.h"

#define OK(call)                                     \
    do {                                             \
        ls_err ok_err = LS_ERR_INIT, *err = &ok_err; \
        if ((call) != LS_OK) {                       \
            fail_msg("%s: %s", #call, ok_err.text);  \
        }                                            \
        assert_string_equal(ok_err.text, "");        \
    } while (0)

#define FAILS(expected, words, call)                                              \
    do {                                                                          \
        ls_err fails_err = LS_ERR_INIT, *err = &fails_err;                        \
        assert_string_equal(ls_status_name(call), ls_status_name(LS_##expected)); \
        if (strstr(fails_err.text, words) == NULL) {                              \
            fail_msg("\"%s\" is not in \"%s\"", words, fails_err.text);           \
        }                                                                         \
    } while (0)

#endif
