#include "common/trace.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/json.h"

static void *add_one(void *unused) {
    (void)unused;
    int64_t now = ls_now_ns();
    ls_trace_event("wait", "wait for rank", NULL, 3, now, now + 2000);
    return NULL;
}

static void events_are_json_by_process_and_thread(void **state) {
    (void)state;
    ls_err err = LS_ERR_INIT;
    pthread_t thread;
    size_t n_dropped;
    ls_trace_event("op", "before the start", NULL, -1, 0, 1);
    assert_int_equal(ls_trace_start(3, &err), LS_OK);
    int64_t now = ls_now_ns();
    ls_trace_event("op", "conv.forward", "block/conv2d", -1, now, now + 1500);
    pthread_create(&thread, NULL, add_one, NULL);
    pthread_join(thread, NULL);
    ls_trace_event("op", "third", NULL, -1, now, now);
    ls_trace_event("op", "one too many", NULL, -1, now, now);
    char *events = ls_trace_text(7, "rank 7 on here", &n_dropped), *text = malloc(strlen(events) + 3);
    ls_trace_stop();
    assert_int_equal(n_dropped, 1);
    strcat(strcat(strcpy(text, "["), events), "]");
    ls_json_doc doc;
    assert_int_equal(ls_json_parse(&doc, "trace", text, &err), LS_OK);
    ls_json root = ls_json_root(&doc), first = ls_json_element(root, 3), second = ls_json_element(root, 4);
    assert_int_equal(ls_json_length(root), 6); /* the process's name, two threads', three events */
    ls_json thread_name = ls_json_member(ls_json_member(ls_json_element(root, 1), "args"), "name");
    assert_string_equal(json_string_value(thread_name.value), "thread 1: op");
    assert_string_equal(json_string_value(ls_json_member(first, "name").value), "conv.forward");
    assert_string_equal(json_string_value(ls_json_member(ls_json_member(first, "args"), "of").value), "block/conv2d");
    assert_float_equal(json_number_value(ls_json_member(first, "dur").value), 1.5, 1e-9);
    assert_int_equal(json_integer_value(ls_json_member(first, "pid").value), 7);
    assert_int_equal(json_integer_value(ls_json_member(ls_json_member(second, "args"), "number").value), 3);
    assert_int_not_equal(json_integer_value(ls_json_member(first, "tid").value),
                         json_integer_value(ls_json_member(second, "tid").value));
    ls_json_release(&doc);
    free(text);
    free(events);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(events_are_json_by_process_and_thread)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
