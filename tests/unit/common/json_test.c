#include "common/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const char *const text =
    "{\n"
    "  \"fit\": {\n"
    "    \"epochs\": \"three\",\n"
    "    \"note\": \"a \\\"quoted\\\" word: {\",\n"
    "    \"callbacks\": [ {\"class_name\": \"A\"},\n"
    "                   {\"class_name\": \"B\", \"config\": {\"patience\": -1}} ]\n"
    "  },\n"
    "  \"modle\": 1\n"
    "}\n";

static void names_file_line_path_and_expectation(void **state) {
    (void)state;
    ls_json_doc doc;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_json_parse(&doc, "job.json", text, &err), LS_OK);
    ls_json fit = ls_json_member(ls_json_root(&doc), "fit");
    int64_t n = 5;
    assert_int_equal(ls_json_get_int(fit, "epochs", 1, INT64_MAX, &n, &err), LS_EINPUT);
    assert_string_equal(err.text,
                        "job.json:3: fit.epochs: expected a whole number of at least 1, found the text \"three\"");
    assert_int_equal(n, 5);
    ls_json config = ls_json_member(ls_json_element(ls_json_member(fit, "callbacks"), 1), "config");
    assert_int_equal(ls_json_get_int(config, "patience", 0, 10, &n, &err), LS_EINPUT);
    assert_string_equal(
        err.text,
        "job.json:6: fit.callbacks[1].config.patience: expected a whole number from 0 to 10, found the number -1");
    ls_json_release(&doc);
}

static void unknown_key_names_the_nearest(void **state) {
    (void)state;
    ls_json_doc doc;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_json_parse(&doc, "job.json", text, &err), LS_OK);
    static const char *const keys[] = {"model", "data", "fit"};
    assert_int_equal(ls_json_only_keys(ls_json_root(&doc), keys, 3, &err), LS_EINPUT);
    assert_string_equal(err.text, "job.json:8: modle: unknown key; did you mean \"model\"?");
    ls_json_release(&doc);
}

static void syntax_error_has_line(void **state) {
    (void)state;
    ls_json_doc doc;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_json_parse(&doc, "job.json", "{\n \"a\": 1,\n}", &err), LS_EINPUT);
    assert_non_null(strstr(err.text, "job.json:3:"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_file_line_path_and_expectation),
        cmocka_unit_test(unknown_key_names_the_nearest),
        cmocka_unit_test(syntax_error_has_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
