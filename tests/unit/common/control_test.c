#include "common/control.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"

#include <cmocka.h>

static char folder[] = "/tmp/lockstep-control-XXXXXX";
static char path[64], push_path[80];

static int listen_there(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", push_path);
    unlink(push_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

/* Everything until the other end closes. */
static char *read_all(int fd) {
    char *text = calloc(1, 1 << 20);
    size_t used = 0;
    for (ssize_t n; (n = read(fd, text + used, (1 << 20) - 1 - used)) > 0;) {
        used += (size_t)n;
    }
    return text;
}

static ls_control *create(void) {
    ls_control_run run = {.run_dir = "/runs/a", .job = "/a.json", .host = "here", .ranks = 3};
    ls_control *control = NULL;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_control_create(&control, path, &run, &err), LS_OK);
    return control;
}

static void introduces_itself_and_tells(void **state) {
    (void)state;
    int listener = listen_there();
    ls_control *control = create();
    ls_control_push(control, "{\"event\":\"x\"}", 13);
    int fd = accept(listener, NULL, NULL);
    ls_control_destroy(control, 1000);
    char *text = read_all(fd), *end = strchr(text, '\n');
    assert_non_null(end);
    assert_string_equal(end + 1, "{\"event\":\"x\"}\n");
    *end = '\0';
    ls_json_doc doc;
    ls_err err = LS_ERR_INIT;
    assert_int_equal(ls_json_parse(&doc, "hello", text, &err), LS_OK);
    assert_string_equal(json_string_value(json_object_get(doc.root, "event")), "hello");
    assert_string_equal(json_string_value(json_object_get(doc.root, "run_dir")), "/runs/a");
    assert_string_equal(json_string_value(json_object_get(doc.root, "job")), "/a.json");
    assert_int_equal(json_integer_value(json_object_get(doc.root, "pid")), getpid());
    assert_true(json_integer_value(json_object_get(doc.root, "start_time")) > 0);
    assert_int_equal(json_integer_value(json_object_get(doc.root, "ranks")), 3);
    ls_json_release(&doc);
    free(text);
    close(fd);
    close(listener);
}

/* Nobody reads: lines are dropped and counted, whole, and no call waits. */
static void never_waits_for_a_reader(void **state) {
    (void)state;
    int listener = listen_there();
    ls_control *control = create();
    char line[1000];
    memset(line, 'y', sizeof line);
    int64_t begin = ls_now_ns();
    for (int i = 0; i < 3000; i++) {
        ls_control_push(control, line, sizeof line);
    }
    const char *patience = getenv("LOCKSTEP_TEST_PATIENCE"); /* the factor of limits in a sanitized build */
    assert_true(ls_now_ns() - begin < 2000000000 * (patience != NULL ? atoll(patience) : 1));
    uint64_t dropped = ls_control_dropped(control);
    assert_in_range(dropped, 1000, 2999);
    ls_control_destroy(control, 0);
    int fd = accept(listener, NULL, NULL);
    char *text = read_all(fd);
    size_t whole = 0;
    for (char *p = strchr(text, '\n'); p != NULL && p[1] != '\0'; p = strchr(p + 1, '\n')) {
        whole += strchr(p + 1, '\n') == p + 1 + sizeof line;
    }
    assert_true(whole > 0 && whole <= 3000 - dropped);
    free(text);
    close(fd);
    close(listener);
}

/* The daemon dies and comes back: the run introduces itself again, and what waited comes after that. */
static void connects_again(void **state) {
    (void)state;
    int listener = listen_there();
    ls_control *control = create();
    close(accept(listener, NULL, NULL));
    close(listener);
    ls_control_push(control, "one", 3); /* finds the connection closed, and nobody there */
    listener = listen_there();
    int fd = -1;
    for (int64_t limit = ls_now_ns() + 5000000000; fd < 0 && ls_now_ns() < limit;) {
        ls_control_poll(control); /* tries again after half a second */
        struct pollfd wait = {.fd = listener, .events = POLLIN};
        fd = poll(&wait, 1, 10) == 1 ? accept(listener, NULL, NULL) : -1;
    }
    assert_true(fd >= 0);
    ls_control_destroy(control, 1000);
    char *text = read_all(fd), *end = strchr(text, '\n');
    assert_non_null(end);
    assert_memory_equal(text, "{\"event\":", 9);
    assert_string_equal(end + 1, "one\n");
    free(text);
    close(fd);
    close(listener);
}

static void a_long_path_is_named(void **state) {
    (void)state;
    char long_path[200], out[LS_CONTROL_PATH_MAX];
    ls_err err = LS_ERR_INIT;
    memset(long_path, 'p', sizeof long_path);
    long_path[103] = '\0';
    assert_int_equal(ls_control_push_socket(long_path, out, &err), LS_EINPUT);
    assert_non_null(strstr(err.text, "at most 102 characters"));
    long_path[102] = '\0';
    assert_int_equal(ls_control_push_socket(long_path, out, &err), LS_OK);
    assert_int_equal(strlen(out), LS_CONTROL_PATH_MAX - 1);
}

static int set_up(void **state) {
    (void)state;
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/s", folder);
    snprintf(push_path, sizeof push_path, "%s.push", path);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(push_path);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(introduces_itself_and_tells),
        cmocka_unit_test(never_waits_for_a_reader),
        cmocka_unit_test(connects_again),
        cmocka_unit_test(a_long_path_is_named),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
