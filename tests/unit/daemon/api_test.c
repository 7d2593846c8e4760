#include "trainer/daemon/api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/daemon/launch.h"

#include <cmocka.h>

static void paths_become_routes(void **state) {
    (void)state;
    static const struct {
        const char *method, *path;
        ls_route route;
        int64_t id;
    } rows[] = {
        {"GET", "/healthz", LS_ROUTE_HEALTH, 0},
        {"GET", "/api/v1/jobs", LS_ROUTE_LIST, 0},
        {"GET", "/api/v1/jobs/", LS_ROUTE_LIST, 0},
        {"POST", "/api/v1/jobs", LS_ROUTE_SUBMIT, 0},
        {"GET", "/api/v1/jobs/17", LS_ROUTE_SHOW, 17},
        {"DELETE", "/api/v1/jobs/17", LS_ROUTE_REMOVE, 17},
        {"GET", "/api/v1/jobs/17/log", LS_ROUTE_LOG, 17},
        {"POST", "/api/v1/jobs/17/stop", LS_ROUTE_STOP, 17},
        {"GET", "/api/v1/jobs/17/stop", LS_ROUTE_WRONG_METHOD, 17},
        {"PUT", "/healthz", LS_ROUTE_WRONG_METHOD, 0},
        {"DELETE", "/api/v1/jobs", LS_ROUTE_WRONG_METHOD, 0},
        {"GET", "/api/v1/jobs/17/nothing", LS_ROUTE_UNKNOWN, 17},
        {"GET", "/api/v1/jobs/x", LS_ROUTE_UNKNOWN, 0},
        {"GET", "/api/v1/jobs/-1", LS_ROUTE_UNKNOWN, 0},
        {"GET", "/api/v1/jobs/1x/log", LS_ROUTE_UNKNOWN, 0},
        {"GET", "/api/v1/jobs/99999999999999999999", LS_ROUTE_UNKNOWN, 0},
        {"GET", "/api/v1/jobsters", LS_ROUTE_UNKNOWN, 0},
        {"GET", "/", LS_ROUTE_UNKNOWN, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t id = 0;
        assert_int_equal(ls_api_route(rows[i].method, rows[i].path, &id), rows[i].route);
        assert_int_equal(id, rows[i].id);
    }
}

static void history_becomes_rows(void **state) {
    (void)state;
    json_t *json = ls_api_history("epoch,loss,note\n1,0.5,\n2,nan,a b\r\n3,0.25\n4,0.");
    json_t *expected =
        json_pack("{s:[s,s,s], s:[[f,f,n],[f,n,s]]}", "columns", "epoch", "loss", "note", "rows", 1.0, 0.5, 2.0, "a b");
    assert_true(json_equal(json, expected));
    json_decref(json);
    json_decref(expected);
    json = ls_api_history("");
    assert_int_equal(json_array_size(json_object_get(json, "columns")), 0);
    json_decref(json);
}

static void a_command_line_is_an_argument_vector(void **state) {
    (void)state;
    ls_launcher launcher = {
        .mpirun = "mpirun", .lockstep = "/bin/lockstep", .control = "/s", .n_cores = 4, .root = true};
    ls_job *job = ls_job_create();
    ls_job_set_text(&job->job, "/jobs/a b.json");
    ls_job_set_text(&job->run_dir, "/runs/1");
    job->ranks = 2;
    json_array_append_new(job->set, json_string("fit.epochs=3; rm -rf x"));
    json_t *command = ls_launch_command(&launcher, job, true);
    char *text = json_dumps(command, JSON_COMPACT);
    assert_string_equal(
        text,
        "[\"mpirun\",\"-n\",\"2\",\"--map-by\",\"slot:PE=2\",\"--bind-to\",\"core\","
        "\"--allow-run-as-root\",\"/bin/lockstep\",\"train\",\"/jobs/a b.json\",\"--run-dir\",\"/runs/1\","
        "\"--control\",\"/s\",\"--resume\",\"--set\",\"fit.epochs=3; rm -rf x\"]");
    free(text);
    json_decref(command);
    job->ranks = 5;
    launcher.root = false;
    command = ls_launch_command(&launcher, job, false);
    text = json_dumps(command, JSON_COMPACT);
    assert_ptr_equal(
        strstr(text, "[\"mpirun\",\"-n\",\"5\",\"--oversubscribe\",\"--bind-to\",\"none\",\"/bin/lockstep\""), text);
    assert_null(strstr(text, "--resume"));
    free(text);
    json_decref(command);
    ls_job_destroy(job);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_become_routes),
        cmocka_unit_test(history_becomes_rows),
        cmocka_unit_test(a_command_line_is_an_argument_vector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
