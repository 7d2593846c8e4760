/* A good checkpoint is there whatever fails, and whenever the process dies. */
#include "common/fault.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/log.h"
#include "storage/checkpoint_folder.h"
#include "tests/unit/storage/checkpoint_sample.h"

enum { KEEP = 2 };

static void save(const char *folder, int64_t epoch) {
    ls_checkpoint c = sample(epoch, 10 * epoch);
    assert_ok(ls_checkpoint_save(&c, folder, KEEP, NULL, err));
    ls_checkpoint_release(&c);
}

/* Entries of the folder whose name contains `part`. */
static size_t count(const char *folder, const char *part) {
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    size_t n = 0;
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        n += d->d_name[0] != '.' && strstr(d->d_name, part) != NULL;
    }
    closedir(dir);
    return n;
}

static int64_t newest_epoch(const char *folder) {
    ls_checkpoint c;
    assert_ok(ls_checkpoint_read_newest(folder, &c, NULL, err));
    int64_t epoch = c.epoch;
    ls_checkpoint_release(&c);
    return epoch;
}

static void every_failing_write(const char *folder, const char *action, const char *word) {
    int k = 0;
    save(folder, 1);
    save(folder, 2);
    ls_checkpoint c = sample(3, 30);
    size_t n_open = count("/proc/self/fd", "");
    for (bool struck = true; struck; ls_fault_set(NULL)) {
        char spec[48];
        ls_err e = LS_ERR_INIT;
        snprintf(spec, sizeof spec, "checkpoint:%d:%s", ++k, action);
        ls_fault_set(spec);
        ls_status s = ls_checkpoint_save(&c, folder, KEEP, NULL, &e);
        struck = ls_fault_struck() > 0;
        if (!struck) {
            assert_int_equal(s, LS_OK);
        }
        if (s != LS_OK) {
            assert_int_equal(s, LS_EIO);
            assert_non_null(strstr(e.text, word));
            assert_non_null(strstr(e.text, folder));
            assert_null(strstr(e.text, ".tmp."));
        } else if (struck) { /* only a removal may fail without failing the checkpoint */
            assert_int_equal(count(folder, "ckpt-"), KEEP + 1);
        }
        assert_int_equal(count(folder, ".tmp."), 0);
        assert_int_equal(count("/proc/self/fd", ""), n_open);
        assert_true(count(folder, "ckpt-") >= KEEP);
        assert_true(newest_epoch(folder) == (count(folder, "ckpt-000003") > 0 ? 3 : 2));
    }
    /* open, several data and metadata writes, seal, two flushes, rename, retire */
    assert_true(k > 10);
    assert_int_equal(newest_epoch(folder), 3);
    assert_int_equal(count(folder, ""), KEEP);
    ls_checkpoint_release(&c);
}

static void a_failing_write_loses_nothing(void **state) {
    every_failing_write(*state, "fail", "Input/output error");
}

static void a_full_disk_loses_nothing(void **state) {
    every_failing_write(*state, "full", "No space left");
}

static int run_child(const char *folder, int64_t epoch, const char *spec) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        ls_err e = LS_ERR_INIT;
        ls_checkpoint c = sample(epoch, 10 * epoch);
        ls_fault_set(spec);
        _exit(ls_checkpoint_save(&c, folder, KEEP, NULL, &e) == LS_OK ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void a_killed_writer_loses_nothing(void **state) {
    const char *folder = *state;
    int k = 0, status;
    int64_t epoch = 2;
    size_t leftovers = 0;
    save(folder, 1);
    save(folder, 2);
    do {
        char spec[48];
        snprintf(spec, sizeof spec, "checkpoint:%d:kill", ++k);
        status = run_child(folder, epoch + 1, spec);
        leftovers += count(folder, ".tmp.");
        assert_true(count(folder, ".tmp.") <= 1); /* each run removes what the one before left */
        assert_true(count(folder, "ckpt-") - count(folder, ".tmp.") >= KEEP);
        int64_t now = newest_epoch(folder);
        assert_true(now == epoch || now == epoch + 1);
        epoch = now;
        assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    } while (WIFSIGNALED(status));
    assert_true(k > 10);
    assert_true(leftovers > 5);
    assert_int_equal(count(folder, ""), KEEP);
}

/* The same with an operating system that really refuses. */
static void a_file_that_may_not_grow(void **state) {
    const char *folder = *state;
    struct rlimit before, limit;
    save(folder, 1);
    save(folder, 2);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    ls_checkpoint c = sample(3, 30);
    bool done = false;
    for (rlim_t n = 0; !done; n += 1024) {
        ls_err e = LS_ERR_INIT;
        limit = before;
        limit.rlim_cur = n;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        ls_status s = ls_checkpoint_save(&c, folder, KEEP, NULL, &e);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        done = s == LS_OK;
        if (!done) {
            assert_int_equal(s, LS_EIO);
            assert_non_null(strstr(e.text, "cannot be written: File too large (about "));
            assert_int_equal(newest_epoch(folder), 2);
        }
        assert_int_equal(count(folder, ".tmp."), 0);
        assert_true(n < 1 << 20);
    }
    assert_int_equal(newest_epoch(folder), 3);
    ls_checkpoint_release(&c);
}

static void a_missing_folder_is_said(void **state) {
    char *folder = ls_path_join(*state, "nowhere");
    ls_err e = LS_ERR_INIT;
    ls_checkpoint c = sample(1, 1);
    assert_int_equal(ls_checkpoint_save(&c, folder, KEEP, NULL, &e), LS_EIO);
    assert_non_null(strstr(e.text, "nowhere/ckpt-000001-00000001.h5: cannot be written: No such file or directory"));
    ls_checkpoint_release(&c);
    free(folder);
}

int main(void) {
    ls_log_set_level(LS_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_failing_write_loses_nothing, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_loses_nothing, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(a_killed_writer_loses_nothing, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(a_file_that_may_not_grow, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(a_missing_folder_is_said, folder_setup, folder_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
