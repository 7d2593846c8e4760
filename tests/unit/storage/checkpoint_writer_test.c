#include "storage/checkpoint_writer.h"

#include <stdio.h>

#include "common/fault.h"
#include "common/log.h"
#include "tests/unit/storage/checkpoint_sample.h"

static void writes_in_the_background(void **state) {
    ls_checkpoint_writer *w;
    ls_checkpoint c = sample(1, 10);
    ls_checkpoint_written written;
    const void *kernel = c.layers[1].weights[0].data;
    assert_ok(ls_checkpoint_writer_create(&w, *state, 2, err));
    assert_false(ls_checkpoint_writer_busy(w));
    assert_false(ls_checkpoint_writer_collect(w, &written));
    assert_false(ls_checkpoint_writer_reclaim(w, &c));
    assert_true(ls_checkpoint_writer_idle_within(w, 0));
    assert_ok(ls_checkpoint_writer_submit(w, &c, NULL, err));
    assert_int_equal(c.n_layers, 0);
    while (!ls_checkpoint_writer_idle_within(w, 1e-6)) {
    }
    assert_false(ls_checkpoint_writer_busy(w));
    assert_ok(ls_checkpoint_writer_wait(w, err));
    assert_false(ls_checkpoint_writer_busy(w));
    assert_true(ls_checkpoint_writer_collect(w, &written));
    assert_true(written.epoch == 1 && written.step == 10 && written.seconds > 0);
    assert_non_null(strstr(written.path, "ckpt-000001-00000010.h5"));
    assert_ok(ls_checkpoint_verify(written.path, err));
    free(written.path);
    assert_false(ls_checkpoint_writer_collect(w, &written));
    /* the snapshot comes back with its memory where it was */
    assert_true(ls_checkpoint_writer_reclaim(w, &c));
    assert_ptr_equal(c.layers[1].weights[0].data, kernel);
    assert_false(ls_checkpoint_writer_reclaim(w, &c));
    c.step = 20;
    assert_ok(ls_checkpoint_writer_submit(w, &c, NULL, err));
    c = sample(1, 30);
    assert_ok(ls_checkpoint_writer_submit(w, &c, NULL, err)); /* waits for the one before */
    assert_ok(ls_checkpoint_writer_destroy(w, err));
    ls_checkpoint_list list;
    assert_ok(ls_checkpoint_list_folder(*state, &list, err));
    assert_int_equal(list.n, 2);
    assert_int_equal(list.items[0].step, 20);
    assert_int_equal(list.items[1].step, 30);
    ls_checkpoint_list_release(&list);
}

static void writes_to_a_given_path(void **state) {
    char *path = ls_path_join(*state, "deep/er/best.h5"); /* folders that are not there yet */
    ls_checkpoint_writer *w;
    ls_checkpoint c = sample(1, 10);
    ls_checkpoint_written written;
    assert_ok(ls_checkpoint_writer_create(&w, *state, 2, err));
    assert_ok(ls_checkpoint_writer_submit(w, &c, path, err));
    assert_ok(ls_checkpoint_writer_wait(w, err));
    assert_true(ls_checkpoint_writer_collect(w, &written));
    assert_string_equal(written.path, path);
    free(written.path);
    assert_ok(ls_checkpoint_writer_destroy(w, err));
    assert_ok(ls_checkpoint_verify(path, err));
    free(path);
}

static void an_error_is_reported_once(void **state) {
    ls_checkpoint_writer *w;
    ls_checkpoint c = sample(1, 10), more = sample(1, 20);
    ls_err e = LS_ERR_INIT;
    assert_ok(ls_checkpoint_writer_create(&w, *state, 2, err));
    ls_fault_set("checkpoint:3:full");
    assert_ok(ls_checkpoint_writer_submit(w, &c, NULL, err));
    assert_int_equal(ls_checkpoint_writer_submit(w, &more, NULL, &e), LS_EIO);
    assert_non_null(strstr(e.text, "No space left"));
    assert_int_equal(more.step, 20); /* still the caller's */
    ls_fault_set(NULL);
    assert_ok(ls_checkpoint_writer_submit(w, &more, NULL, err));
    assert_ok(ls_checkpoint_writer_wait(w, err));
    assert_true(ls_checkpoint_writer_reclaim(w, &c));
    ls_fault_set("checkpoint:1:fail");
    assert_ok(ls_checkpoint_writer_submit(w, &c, NULL, err));
    assert_int_equal(ls_checkpoint_writer_destroy(w, &e), LS_EIO);
    ls_fault_set(NULL);
}

int main(void) {
    ls_log_set_level(LS_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(writes_in_the_background, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(writes_to_a_given_path, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(an_error_is_reported_once, folder_setup, folder_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
