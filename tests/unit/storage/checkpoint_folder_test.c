#include "storage/checkpoint_folder.h"

#include <stdio.h>

#include "common/log.h"
#include "tests/unit/storage/checkpoint_sample.h"

static char *save(const char *folder, int64_t epoch, int64_t step, int keep) {
    char *path;
    ls_checkpoint c = sample(epoch, step);
    assert_ok(ls_checkpoint_save(&c, folder, keep, &path, err));
    ls_checkpoint_release(&c);
    return path;
}

static size_t count(const char *folder) {
    ls_checkpoint_list list;
    assert_ok(ls_checkpoint_list_folder(folder, &list, err));
    size_t n = list.n;
    ls_checkpoint_list_release(&list);
    return n;
}

static void flip(const char *path, long offset) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, offset, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, offset, SEEK_SET), 0);
    assert_int_equal(fputc(c ^ 4, f), c ^ 4);
    assert_int_equal(fclose(f), 0);
}

static void names(void **state) {
    (void)state;
    int64_t epoch = -1, step = -1;
    char *name = ls_checkpoint_file_name(3, 1500);
    assert_string_equal(name, "ckpt-000003-00001500.h5");
    assert_true(ls_checkpoint_parse_name(name, &epoch, &step) && epoch == 3 && step == 1500);
    free(name);
    name = ls_checkpoint_file_name(12345678, 1234567890123);
    assert_true(ls_checkpoint_parse_name(name, &epoch, &step) && epoch == 12345678 && step == 1234567890123);
    free(name);
    static const char *const others[] = {"best.h5",
                                         "ckpt-3-1500.h5",
                                         "ckpt-000003-00001500.h5.tmp.12",
                                         "ckpt-000003-00001500",
                                         "xckpt-000003-00001500.h5",
                                         "ckpt-00000a-00001500.h5"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(ls_checkpoint_parse_name(others[i], &epoch, &step));
    }
    assert_int_equal(epoch, 12345678);
}

static void keeps_the_newest_and_the_best(void **state) {
    char *best = ls_path_join(*state, "best.h5"), *leftover = ls_path_join(*state, "ckpt-000001-00000001.h5.tmp.99");
    ls_checkpoint c = sample(0, 0);
    assert_ok(ls_checkpoint_write(&c, best, err));
    assert_ok(ls_file_write_atomic(leftover, "x", 1, err));
    ls_checkpoint_release(&c);
    for (int i = 1; i <= 6; i++) {
        free(save(*state, 1 + i / 4, i, 3));
    }
    ls_checkpoint_list list;
    assert_ok(ls_checkpoint_list_folder(*state, &list, err));
    assert_int_equal(list.n, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(list.items[i].step, 4 + i);
        assert_true(list.items[i].n_bytes > 1000);
    }
    ls_checkpoint_list_release(&list);
    assert_true(ls_file_exists(best));
    assert_false(ls_file_exists(leftover));
    free(save(*state, 2, 7, 0)); /* never fewer than two */
    assert_int_equal(count(*state), 2);
    free(best);
    free(leftover);
}

/* By (epoch, step), not by the time of writing: a run that was taken back writes names that sort before others. */
static void the_one_just_written_stays(void **state) {
    free(save(*state, 5, 50, 2));
    free(save(*state, 6, 60, 2));
    char *path = save(*state, 2, 20, 2);
    assert_true(ls_file_exists(path));
    assert_int_equal(count(*state), 2);
    free(path);
}

static void a_cut_file_is_not_one_of_the_kept(void **state) {
    free(save(*state, 1, 1, 2));
    char *cut = save(*state, 2, 2, 2);
    assert_int_equal(truncate(cut, 5000), 0);
    free(save(*state, 3, 3, 2));
    assert_int_equal(count(*state), 3);
    free(save(*state, 4, 4, 2));
    ls_checkpoint c;
    assert_ok(ls_checkpoint_read_newest(*state, &c, NULL, err));
    assert_int_equal(c.step, 4);
    ls_checkpoint_release(&c);
    free(cut);
}

static void damaged_ones_are_skipped(void **state) {
    char *paths[3], *found;
    for (int i = 0; i < 3; i++) {
        paths[i] = save(*state, 1, 1 + i, 3);
    }
    ls_checkpoint c;
    ls_err e = LS_ERR_INIT;
    flip(paths[2], 2000);
    assert_int_equal(truncate(paths[1], 20000), 0);
    assert_ok(ls_checkpoint_read_newest(*state, &c, &found, err));
    assert_string_equal(found, paths[0]);
    assert_int_equal(c.step, 1);
    ls_checkpoint_release(&c);
    free(found);
    flip(paths[0], 30000);
    assert_int_equal(ls_checkpoint_read_newest(*state, &c, NULL, &e), LS_ECORRUPT);
    assert_non_null(strstr(e.text, "none of its 3 checkpoints can be used"));
    assert_non_null(strstr(e.text, "ckpt-000001-00000003.h5: is damaged"));
    for (int i = 0; i < 3; i++) {
        free(paths[i]);
    }
}

static void resolves_what_people_mean(void **state) {
    char *inner = ls_path_join(*state, "checkpoints"), *found;
    ls_err e = LS_ERR_INIT;
    assert_int_equal(ls_checkpoint_resolve(*state, &found, &e), LS_EINPUT);
    assert_non_null(strstr(e.text, "holds no checkpoint"));
    assert_ok(ls_folder_create(inner, err));
    free(save(inner, 1, 1, 2));
    char *newest = save(inner, 1, 2, 2);
    const char *const ways[] = {newest, inner, *state};
    for (int i = 0; i < 3; i++) {
        assert_ok(ls_checkpoint_resolve(ways[i], &found, err));
        assert_string_equal(found, newest);
        free(found);
    }
    free(newest);
    free(inner);
}

int main(void) {
    ls_log_set_level(LS_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test_setup_teardown(keeps_the_newest_and_the_best, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(the_one_just_written_stays, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(a_cut_file_is_not_one_of_the_kept, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(damaged_ones_are_skipped, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(resolves_what_people_mean, folder_setup, folder_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
