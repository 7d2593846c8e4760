/* The bar, numbers, file name patterns, and the history. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "trainer/fit/bar.h"
#include "trainer/fit/history.h"
#include "trainer/fit/number.h"
#include "trainer/fit/pattern.h"

static void numbers(void **state) {
    (void)state;
    char text[40];
    assert_string_equal(ls_number_text(0.1, text, sizeof text), "0.1");
    assert_string_equal(ls_number_text(1.0 / 3, text, sizeof text), "0.3333333333333333");
    assert_string_equal(ls_number_text(1e-5, text, sizeof text), "1e-05");
    assert_string_equal(ls_number_text(NAN, text, sizeof text), "nan");
    assert_string_equal(ls_number_text(-INFINITY, text, sizeof text), "-inf");
    assert_string_equal(ls_count_text(999, text, sizeof text), "999");
    assert_string_equal(ls_count_text(1234567, text, sizeof text), "1,234,567");
    assert_string_equal(ls_count_text(-123456, text, sizeof text), "-123,456");
}

static void bar(void **state) {
    (void)state;
    char line[400];
    ls_logs logs = {0};
    ls_logs_set(&logs, "loss", 0.123456);
    ls_logs_set(&logs, "lr", 0.00001);
    ls_bar b = {.epoch = 3,
                .epochs = 12,
                .step = 234,
                .steps = 468,
                .samples_per_s = 12345.4,
                .eta_s = 65,
                .seconds = 4.06,
                .logs = &logs};
    assert_string_equal(ls_bar_line(&b, 200, line, sizeof line),
                        "epoch 3/12  [============>           ]  234/468  12,345 samples/s  1 min 05 s left  loss "
                        "0.1235  lr 1e-05");
    assert_int_equal(strlen(ls_bar_line(&b, 40, line, sizeof line)), 39);
    assert_string_equal(ls_bar_epoch(&b, line, sizeof line),
                        "epoch 3/12  4.1 s  12,345 samples/s  loss 0.1235  lr 1e-05");
    b.step = b.steps;
    ls_bar_line(&b, 200, line, sizeof line);
    assert_non_null(strstr(line, "[========================]  468/468"));
    char tiny[16];
    assert_int_equal(strlen(ls_bar_epoch(&b, tiny, sizeof tiny)), 15);
}

static void expect_name(const char *pattern, const char *name) {
    ls_logs logs = {0};
    char out[200];
    ls_err err = LS_ERR_INIT;
    ls_logs_set(&logs, "val_loss", 0.12345);
    if (ls_pattern_fill(pattern, 3, 7, &logs, out, sizeof out, &err) != LS_OK) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(out, name);
}

static void expect_no_name(const char *pattern, const char *message) {
    ls_logs logs = {0};
    char out[24];
    ls_err err = LS_ERR_INIT;
    ls_logs_set(&logs, "val_loss", 0.12345);
    assert_int_equal(ls_pattern_fill(pattern, 3, 0, &logs, out, sizeof out, &err), LS_EINPUT);
    assert_string_equal(err.text, message);
}

static void patterns(void **state) {
    (void)state;
    expect_name("best.h5", "best.h5");
    expect_name("w.{epoch:02d}-{val_loss:.2f}.h5", "w.03-0.12.h5");
    expect_name("{epoch}/{batch:04d}/{val_loss}.h5", "3/0007/0.12345.h5");
    expect_name("{{{epoch:3d}}}.h5", "{  3}.h5");
    expect_name("{val_loss:8.3e}.h5", "1.235e-01.h5");
    expect_no_name("{epoch:02d", "\"{epoch:02d\": a \"{\" without its \"}\"");
    expect_no_name("{batch}.h5", "\"{batch}.h5\": there is no \"batch\" to put in; there are: epoch, val_loss");
    expect_no_name("{epoch:s}.h5",
                   "\"{epoch:s}.h5\": \"s\" is not a format; write, for example, {epoch:02d} or {loss:.2f}");
    expect_no_name("{epoch:99999999999d}.h5",
                   "\"{epoch:99999999999d}.h5\": \"99999999999d\" is not a format; write, "
                   "for example, {epoch:02d} or {loss:.2f}");
    expect_no_name("{val_loss:d}.h5", "\"{val_loss:d}.h5\": \"val_loss\" is not a whole number; write {val_loss:.2f}");
    expect_no_name("a-name-that-is-much-too-long.h5",
                   "\"a-name-that-is-much-too-long.h5\": the name becomes longer than 23 characters");
}

static void history_keeps_rows_aligned(void **state) {
    (void)state;
    ls_history h, again;
    ls_err err = LS_ERR_INIT;
    ls_logs first = {0}, second = {0};
    ls_history_init(&h);
    ls_logs_set(&first, "loss", 0.5);
    ls_history_add(&h, 1, &first);
    ls_logs_set(&second, "loss", NAN);
    ls_logs_set(&second, "val_loss", 0.25);
    ls_history_add(&h, 2, &second);
    ls_history_add(&h, 3, &first);
    assert_int_equal(ls_history_length(&h), 3);
    json_t *saved = ls_history_save(&h);
    json_t *expected =
        json_loads("{\"epoch\": [1, 2, 3], \"loss\": [0.5, null, 0.5], \"val_loss\": [null, 0.25, null]}", 0, NULL);
    assert_true(json_equal(saved, expected));

    ls_json_doc doc;
    ls_history_init(&again);
    ls_json_wrap(&doc, "state", saved);
    assert_int_equal(ls_history_restore(&again, ls_json_root(&doc), &err), LS_OK);
    assert_true(json_equal(again.lists, expected));
    json_array_remove(json_object_get(saved, "loss"), 0);
    assert_int_equal(ls_history_restore(&again, ls_json_root(&doc), &err), LS_EINPUT);
    assert_string_equal(err.text, "state: loss: expected a list of 3 numbers");
    ls_json_release(&doc);
    json_decref(saved);
    json_decref(expected);
    ls_history_release(&h);
    ls_history_release(&again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(bar),
        cmocka_unit_test(patterns),
        cmocka_unit_test(history_keeps_rows_aligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
