#include "storage/run_folder.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <sys/wait.h>

#include "common/log.h"
#include "tests/unit/storage/checkpoint_sample.h"

static void assert_file(const char *folder, const char *name, const char *expected) {
    char *path = ls_path_join(folder, name), *text;
    assert_ok(ls_file_read(path, &text, NULL, err));
    assert_string_equal(text, expected);
    free(text);
    free(path);
}

static const char *const columns[] = {"loss", "val_loss"};

static void row(const ls_run_folder *run, int64_t epoch, double loss, double val_loss) {
    assert_ok(ls_run_folder_history(run, epoch, 2, columns, (double[]){loss, val_loss}, err));
}

static void makes_everything(void **state) {
    char *path = ls_path_join(*state, "runs/first");
    ls_run_folder run;
    assert_ok(ls_run_folder_open(&run, path, LS_RUN_NEW, 0, err));
    assert_true(ls_folder_exists(run.checkpoints) && ls_folder_exists(run.logs));
    assert_ok(ls_run_folder_write_job(&run, "{}\n", err));
    assert_ok(ls_run_folder_event(&run, "{\"event\":\"start\"}", 17, err));
    assert_ok(ls_run_folder_event(&run, "{\"event\":\"end\"}xxx", 15, err));
    row(&run, 1, 0.5, NAN);
    row(&run, 2, 1.0 / 3, INFINITY);
    ls_run_folder_release(&run);
    assert_file(path, "job.json", "{}\n");
    assert_file(path, "events.jsonl", "{\"event\":\"start\"}\n{\"event\":\"end\"}\n");
    assert_file(path, "history.csv", "epoch,loss,val_loss\n1,0.5,nan\n2,0.333333333,inf\n");
    free(path);
}

/* What a killed process was writing goes when the run goes on; what only looks alike stays. */
static void leftovers_of_the_dead_are_removed(void **state) {
    static const char *const left[] = {"history.csv.tmp.71", "final.h5.tmp.1", "a.tmp.2.tmp.3",
                                       "checkpoints/ckpt-000001-00000004.h5.tmp.9"},
                             *const kept[] = {"a.tmp.", "b.tmp.7x", "c.tmp", "d.tmp.7.h5"};
    ls_run_folder run = {0};
    assert_ok(ls_run_folder_open(&run, *state, LS_RUN_NEW, 0, err));
    ls_run_folder_release(&run);
    for (int i = 0; i < 4; i++) {
        char *one = ls_path_join(*state, left[i]), *other = ls_path_join(*state, kept[i]);
        assert_ok(ls_file_write_atomic(one, "x", 1, err));
        assert_ok(ls_file_write_atomic(other, "x", 1, err));
        free(one);
        free(other);
    }
    assert_ok(ls_run_folder_open(&run, *state, LS_RUN_NEW, 0, err));
    ls_run_folder_release(&run);
    for (int i = 0; i < 4; i++) {
        char *one = ls_path_join(*state, left[i]), *other = ls_path_join(*state, kept[i]);
        assert_false(ls_file_exists(one));
        assert_true(ls_file_exists(other));
        free(one);
        free(other);
    }
}

static void an_existing_run_is_not_overwritten(void **state) {
    ls_run_folder run = {0};
    ls_err e = LS_ERR_INIT;
    assert_ok(ls_run_folder_open(&run, *state, LS_RUN_NEW, 0, err));
    assert_ok(ls_run_folder_write_job(&run, "{}", err));
    ls_run_folder_release(&run);
    /* it had come to nothing */
    assert_ok(ls_run_folder_open(&run, *state, LS_RUN_NEW, 0, err));
    row(&run, 1, 0.5, 0.25);
    ls_run_folder_release(&run);
    assert_int_equal(ls_run_folder_open(&run, *state, LS_RUN_NEW, 0, &e), LS_EINPUT);
    assert_non_null(strstr(e.text, "already holds a run; add --resume"));
    assert_null(run.path);
    assert_ok(ls_run_folder_open(&run, *state, LS_RUN_RESUME, 0, err));
    row(&run, 2, 0.5, 0.25);
    assert_int_equal(unlink(run.history), 0);
    char *best = ls_path_join(run.checkpoints, "best.h5");
    assert_ok(ls_file_write_atomic(best, "x", 1, err));
    free(best);
    ls_run_folder_release(&run);
    assert_int_equal(ls_run_folder_open(&run, *state, LS_RUN_NEW, 0, &e), LS_EINPUT);
}

static void nothing_to_resume_is_said(void **state) {
    char *path = ls_path_join(*state, "none");
    ls_run_folder run;
    ls_err e = LS_ERR_INIT;
    assert_int_equal(ls_run_folder_open(&run, path, LS_RUN_RESUME, 0, &e), LS_EINPUT);
    assert_non_null(strstr(e.text, "holds no run to resume"));
    assert_false(ls_folder_exists(path));
    assert_ok(ls_file_write_atomic(path, "x", 1, err));
    assert_int_equal(ls_run_folder_open(&run, path, LS_RUN_NEW, 0, &e), LS_EINPUT);
    assert_non_null(strstr(e.text, path));
    free(path);
}

/* A second process is kept out as long as the first is alive, and no longer. */
static void one_run_at_a_time(void **state) {
    ls_run_folder run;
    ls_err e = LS_ERR_INIT;
    int ready[2], quit[2], status;
    char byte = 'x', who[64];
    assert_int_equal(pipe(ready) + pipe(quit), 0);
    pid_t child = fork();
    if (child == 0) {
        close(quit[1]);
        bool good = ls_run_folder_open(&run, *state, LS_RUN_NEW, 0, &e) == LS_OK && write(ready[1], "x", 1) == 1;
        _exit(good && read(quit[0], &byte, 1) == 0 ? 0 : 1); /* without giving the lock up */
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(ls_run_folder_open(&run, *state, LS_RUN_NEW, 0, &e), LS_EINPUT);
    snprintf(who, sizeof who, "is in use by process %d on ", (int)child);
    assert_non_null(strstr(e.text, who));
    close(quit[1]);
    assert_ok(ls_run_folder_open(&run, *state, LS_RUN_NEW, 20000, err)); /* waits for it to be gone */
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    ls_run_folder_release(&run);
    close(ready[0]);
    close(ready[1]);
    close(quit[0]);
}

static void history_is_taken_back(void **state) {
    ls_run_folder run;
    assert_ok(ls_run_folder_open(&run, *state, LS_RUN_NEW, 0, err));
    assert_ok(ls_run_folder_trim_history(&run, 5, err));
    for (int i = 1; i <= 12; i++) {
        row(&run, i, i, -i);
    }
    int fd = open(run.history, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "13,0.", 5), 5); /* cut short */
    close(fd);
    assert_ok(ls_run_folder_trim_history(&run, 12, err));
    row(&run, 13, 13, -13);
    assert_ok(ls_run_folder_trim_history(&run, 2, err));
    assert_file(*state, "history.csv", "epoch,loss,val_loss\n1,1,-1\n2,2,-2\n");
    assert_ok(ls_run_folder_trim_history(&run, 0, err));
    assert_file(*state, "history.csv", "epoch,loss,val_loss\n");
    ls_run_folder_release(&run);
}

static void changed_columns_begin_a_new_file(void **state) {
    ls_run_folder run;
    ls_err e = LS_ERR_INIT;
    const char *const other[] = {"loss", "accuracy"}, *const bad[] = {"a,b", "c"};
    const double values[] = {1, 2};
    assert_ok(ls_run_folder_open(&run, *state, LS_RUN_NEW, 0, err));
    row(&run, 1, 1, 1);
    assert_ok(ls_run_folder_history(&run, 2, 2, other, values, err));
    assert_file(*state, "history.csv", "epoch,loss,accuracy\n2,1,2\n");
    assert_file(*state, "history.previous.csv", "epoch,loss,val_loss\n1,1,1\n");
    assert_int_equal(ls_run_folder_history(&run, 3, 2, bad, values, &e), LS_EINPUT);
    ls_run_folder_release(&run);
}

static void a_cut_event_does_not_swallow_the_next(void **state) {
    ls_run_folder run;
    char *path = ls_path_join(*state, "events.jsonl");
    assert_ok(ls_file_write_atomic(path, "{\"eve", 5, err));
    assert_ok(ls_run_folder_open(&run, *state, LS_RUN_NEW, 0, err));
    assert_ok(ls_run_folder_event(&run, "{}", 2, err));
    ls_run_folder_release(&run);
    assert_file(*state, "events.jsonl", "{\"eve\n{}\n");
    free(path);
}

int main(void) {
    ls_log_set_level(LS_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(makes_everything, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(leftovers_of_the_dead_are_removed, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(an_existing_run_is_not_overwritten, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(nothing_to_resume_is_said, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(one_run_at_a_time, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(history_is_taken_back, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(changed_columns_begin_a_new_file, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(a_cut_event_does_not_swallow_the_next, folder_setup, folder_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
