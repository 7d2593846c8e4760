/*
 * Files in the spellings of Keras and h5py through the years, written by h5py 3.7:
 *   keras3_model.h5    variable strings, names without ":0", an empty list as float64, gzip + shuffle + fletcher32, an
 *                      integer scalar, optimizer_weights; layers in an order that is not that of their names
 *   keras2_model.h5    as h5py 2 wrote it: fixed strings; float64, float16 and big-endian weights
 *   keras_weights.h5   save_weights(): names at the root, lists cut in parts, padded with spaces and with nulls
 */
#include "common/file.h"
#include "storage/checkpoint.h"
#include "tests/unit/storage/checkpoint_sample.h"

static ls_checkpoint read_beside(const char *name) {
    char *folder = ls_path_folder(__FILE__), *path = ls_path_join(folder, name);
    ls_checkpoint c = {0};
    assert_ok(ls_checkpoint_read(path, &c, err));
    assert_false(c.has_state);
    assert_int_equal(c.n_slots + c.n_scalars + c.n_arrays, 0);
    free(folder);
    free(path);
    return c;
}

/* The weight holds from, from + 0.25, ... */
static void assert_weight(const ls_checkpoint *c, size_t layer, size_t weight, const char *name, int rank, uint64_t d0,
                          uint64_t d1, float from) {
    const ls_checkpoint_array *a = &c->layers[layer].weights[weight];
    assert_string_equal(a->name, name);
    assert_int_equal(a->type, LS_H5_F32);
    assert_int_equal(a->rank, rank);
    assert_int_equal(a->dims[0], d0);
    assert_int_equal(a->dims[1], d1);
    for (size_t i = 0; i < a->n_elems; i++) {
        assert_true(((float *)a->data)[i] == from + 0.25f * (float)i);
    }
}

static void keras3_model(void **state) {
    (void)state;
    ls_checkpoint c = read_beside("keras3_model.h5");
    assert_string_equal(c.keras_version, "3.9.2");
    assert_non_null(strstr(c.model_config, "Functional"));
    assert_non_null(strstr(c.training_config, "mean_squared_error"));
    assert_int_equal(c.n_layers, 3);
    assert_string_equal(c.layers[0].name, "input_layer");
    assert_int_equal(c.layers[0].n_weights, 0);
    assert_string_equal(c.layers[1].name, "zeta");
    assert_int_equal(c.layers[1].n_weights, 2);
    assert_weight(&c, 1, 0, "functional/zeta/kernel", 2, 4, 3, 1);
    assert_weight(&c, 1, 1, "functional/zeta/bias", 1, 3, 0, -2);
    assert_string_equal(c.layers[2].name, "alpha");
    assert_weight(&c, 2, 0, "functional/alpha/mean", 1, 3, 0, 7);
    assert_weight(&c, 2, 1, "functional/alpha/count", 0, 0, 0, 12);
    ls_checkpoint_release(&c);
}

static void keras2_model(void **state) {
    (void)state;
    ls_checkpoint c = read_beside("keras2_model.h5");
    assert_string_equal(c.keras_version, "2.2.4");
    assert_non_null(strstr(c.model_config, "Sequential"));
    assert_null(c.training_config);
    assert_int_equal(c.n_layers, 3);
    assert_string_equal(c.layers[0].name, "dense_1");
    assert_weight(&c, 0, 0, "dense_1/kernel:0", 2, 2, 2, 1);
    assert_weight(&c, 0, 1, "dense_1/bias:0", 1, 2, 0, 0.5f);
    assert_string_equal(c.layers[1].name, "flatten");
    assert_int_equal(c.layers[1].n_weights, 0);
    assert_weight(&c, 2, 0, "lstm/lstm_cell/kernel:0", 2, 2, 8, 3);
    ls_checkpoint_release(&c);
}

static void keras_weights(void **state) {
    (void)state;
    ls_checkpoint c = read_beside("keras_weights.h5");
    static const char *const names[][3] = {{"one", "one/kernel:0", "one/bias:0"},
                                           {"two", "two/kernel:0", "two/bias:0"},
                                           {"three", "three/kernel:0", "three/bias:0"}};
    assert_null(c.model_config);
    assert_int_equal(c.n_layers, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(c.layers[i].name, names[i][0]);
        assert_int_equal(c.layers[i].n_weights, 2);
        assert_weight(&c, i, 0, names[i][1], 1, 2, 0, 10.0f * (float)i);
        assert_weight(&c, i, 1, names[i][2], 0, 0, 0, (float)i);
    }
    ls_checkpoint_release(&c);
}

/* What was read from Keras can be written again, as ours. */
static void a_keras_file_becomes_ours(void **state) {
    char *path = ls_path_join(*state, "a.h5");
    ls_checkpoint c = read_beside("keras3_model.h5"), back;
    assert_ok(ls_checkpoint_write(&c, path, err));
    assert_ok(ls_checkpoint_read(path, &back, err));
    assert_true(back.has_state);
    assert_string_equal(digest_of(&c), digest_of(&back));
    ls_checkpoint_release(&back);
    ls_checkpoint_release(&c);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keras3_model),
        cmocka_unit_test(keras2_model),
        cmocka_unit_test(keras_weights),
        cmocka_unit_test_setup_teardown(a_keras_file_becomes_ours, folder_setup, folder_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
