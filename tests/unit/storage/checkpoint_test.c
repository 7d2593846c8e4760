#include "storage/checkpoint.h"

#include <math.h>
#include <stdio.h>

#include "tests/unit/storage/checkpoint_sample.h"

static void assert_same_array(const ls_checkpoint_array *a, const ls_checkpoint_array *b) {
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->rank, b->rank);
    assert_memory_equal(a->dims, b->dims, sizeof a->dims);
    assert_int_equal(a->n_bytes, b->n_bytes);
    assert_memory_equal(a->data, b->data, a->n_bytes);
}

static void everything_comes_back(void **state) {
    char *path = ls_path_join(*state, "a.h5");
    ls_checkpoint c = sample(3, 1500), back;
    assert_ok(ls_checkpoint_write(&c, path, err));
    assert_ok(ls_checkpoint_read(path, &back, err));
    assert_string_equal(back.model_config, c.model_config);
    assert_string_equal(back.training_config, c.training_config);
    assert_string_equal(back.state, c.state);
    assert_string_equal(back.keras_version, "2.15.0");
    assert_true(back.has_state && back.epoch == 3 && back.step == 1500);
    assert_int_equal(back.n_layers, 3);
    for (size_t l = 0; l < 3; l++) {
        assert_string_equal(back.layers[l].name, c.layers[l].name);
        assert_int_equal(back.layers[l].n_weights, c.layers[l].n_weights);
        for (size_t w = 0; w < c.layers[l].n_weights; w++) {
            assert_same_array(&back.layers[l].weights[w], &c.layers[l].weights[w]);
        }
    }
    assert_int_equal(back.n_slots, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(back.slots[i].slot, c.slots[i].slot);
        assert_string_equal(back.slots[i].layer, c.slots[i].layer);
        assert_same_array(&back.slots[i].array, &c.slots[i].array);
    }
    assert_int_equal(back.n_arrays, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_same_array(&back.arrays[i], &c.arrays[i]);
    }
    double x;
    assert_true(ls_checkpoint_get_scalar(&back, "iterations", &x) && x == 1234567);
    assert_true(ls_checkpoint_get_scalar(&back, "learning_rate", &x) && x == 1e-3);
    assert_false(ls_checkpoint_get_scalar(&back, "beta", &x));
    assert_string_equal(digest_of(&c), digest_of(&back));
    ls_checkpoint_release(&back);
    ls_checkpoint_release(&c);
    free(path);
}

static void same_content_same_bytes(void **state) {
    char *paths[2] = {ls_path_join(*state, "a.h5"), ls_path_join(*state, "b.h5")}, *bytes[2];
    size_t n[2];
    for (int i = 0; i < 2; i++) {
        ls_checkpoint c = sample(3, 1500);
        assert_ok(ls_checkpoint_write(&c, paths[i], err));
        assert_ok(ls_file_read(paths[i], &bytes[i], &n[i], err));
        ls_checkpoint_release(&c);
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    for (int i = 0; i < 2; i++) {
        free(bytes[i]);
        free(paths[i]);
    }
}

static void inspect_keeps_shapes_only(void **state) {
    char *path = ls_path_join(*state, "a.h5");
    ls_checkpoint c = sample(1, 2), seen;
    assert_ok(ls_checkpoint_write(&c, path, err));
    assert_ok(ls_checkpoint_inspect(path, &seen, err));
    const ls_checkpoint_array *kernel = ls_checkpoint_find_weight(&seen, "dense", "dense/kernel:0");
    assert_non_null(kernel);
    assert_true(kernel->rank == 2 && kernel->dims[0] == 5 && kernel->dims[1] == 3 && kernel->data == NULL);
    assert_null(ls_checkpoint_find_weight(&seen, "dense", "dense/kernel"));
    assert_non_null(ls_checkpoint_find_slot(&seen, "v", "dense", "dense/bias:0"));
    assert_null(ls_checkpoint_find_slot(&seen, "w", "dense", "dense/bias:0"));
    assert_non_null(ls_checkpoint_find_array(&seen, "mask"));
    ls_checkpoint_release(&seen);
    ls_checkpoint_release(&c);
    free(path);
}

static void special_values_survive(void **state) {
    char *path = ls_path_join(*state, "a.h5");
    ls_checkpoint c = {.has_state = true}, back;
    const uint64_t none[] = {0, 4};
    float *x, *nothing;
    assert_ok(ls_checkpoint_add_layer(&c, "outer/inner", err));
    assert_ok(ls_checkpoint_add_weight(&c, "count:0", 0, NULL, &x, err));
    *x = -0.0f;
    assert_ok(ls_checkpoint_add_weight(&c, "empty:0", 2, none, &nothing, err));
    ls_checkpoint_set_scalar(&c, "best", INFINITY);
    ls_checkpoint_set_scalar(&c, "last", NAN);
    assert_ok(ls_checkpoint_write(&c, path, err));
    assert_ok(ls_checkpoint_read(path, &back, err));
    double best, last;
    assert_true(ls_checkpoint_get_scalar(&back, "best", &best) && isinf(best));
    assert_true(ls_checkpoint_get_scalar(&back, "last", &last) && isnan(last));
    assert_true(signbit(*(float *)ls_checkpoint_find_weight(&back, "outer/inner", "count:0")->data));
    assert_int_equal(ls_checkpoint_find_weight(&back, "outer/inner", "empty:0")->n_elems, 0);
    assert_null(back.model_config);
    assert_string_equal(back.state, "{}");
    ls_checkpoint_release(&back);
    ls_checkpoint_release(&c);
    free(path);
}

/* More than one slice of 8 MiB, the last one smaller. */
static void a_large_array_comes_back(void **state) {
    char *path = ls_path_join(*state, "a.h5");
    ls_checkpoint c = {.has_state = true}, back;
    const uint64_t dims[] = {5000, 500};
    float *x;
    assert_ok(ls_checkpoint_add_layer(&c, "dense", err));
    assert_ok(ls_checkpoint_add_weight(&c, "kernel:0", 2, dims, &x, err));
    for (size_t i = 0; i < 2500000; i++) {
        x[i] = (float)i;
    }
    assert_ok(ls_checkpoint_write(&c, path, err));
    assert_ok(ls_checkpoint_read(path, &back, err));
    assert_same_array(&back.layers[0].weights[0], &c.layers[0].weights[0]);
    ls_checkpoint_release(&back);
    ls_checkpoint_release(&c);
    free(path);
}

/* 64,512 bytes is where Keras cuts a list of names; a model_config may be of any length. */
static void long_lists_and_texts(void **state) {
    char *path = ls_path_join(*state, "a.h5"), name[128];
    enum { N = 1200 };
    ls_checkpoint c = {.has_state = true}, back;
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "a_layer_with_a_rather_long_name_so_that_the_list_must_be_cut_%06d", i);
        assert_ok(ls_checkpoint_add_layer(&c, name, err));
    }
    size_t n_text = 300000;
    c.model_config = malloc(n_text + 1);
    memset(c.model_config, 'x', n_text);
    c.model_config[n_text] = '\0';
    assert_ok(ls_checkpoint_write(&c, path, err));
    assert_ok(ls_checkpoint_inspect(path, &back, err));
    assert_int_equal(back.n_layers, N);
    for (int i = 0; i < N; i++) {
        assert_string_equal(back.layers[i].name, c.layers[i].name);
    }
    assert_string_equal(back.model_config, c.model_config);
    ls_h5 *file;
    assert_ok(ls_h5_open(path, &file, err));
    assert_false(ls_h5_attr_has(file, "/model_weights", "layer_names"));
    assert_true(ls_h5_attr_has(file, "/model_weights", "layer_names1"));
    ls_h5_discard(file);
    ls_checkpoint_release(&back);
    ls_checkpoint_release(&c);
    free(path);
}

/* Recipe for a file that Keras 2 and Keras 3 both load. */
static void the_layout_is_keras(void **state) {
    char *path = ls_path_join(*state, "a.h5");
    ls_checkpoint c = sample(1, 2);
    ls_h5 *file;
    ls_h5_info info;
    ls_h5_names names;
    assert_ok(ls_checkpoint_write(&c, path, err));
    assert_ok(ls_h5_open(path, &file, err));
    assert_int_equal(ls_h5_kind_of(file, "/optimizer_weights"), LS_H5_NOTHING);
    assert_ok(ls_h5_info_of(file, "/model_weights/dense/dense/kernel:0", &info, err));
    assert_true(info.type == LS_H5_F32 && info.rank == 2 && info.chunk_rows == 0);
    assert_ok(ls_h5_attr_get_strings(file, "/model_weights/flatten", "weight_names", &names, err));
    assert_int_equal(names.n, 0);
    ls_h5_names_release(&names);
    assert_ok(ls_h5_attr_get_strings(file, "/model_weights/norm", "weight_names", &names, err));
    assert_int_equal(names.n, 4);
    assert_string_equal(names.items[3], "norm/moving_variance:0");
    ls_h5_names_release(&names);
    assert_true(ls_h5_attr_has(file, "/model_weights/top_level_model_weights", "weight_names"));
    ls_h5_discard(file);
    ls_checkpoint_release(&c);
    free(path);
}

static void bad_names_are_refused(void **state) {
    char *path = ls_path_join(*state, "a.h5");
    ls_checkpoint c = {0};
    ls_err e = LS_ERR_INIT;
    float *x;
    static const char *const bad[] = {"", "/a", "a/", "a//b", ".", "a/../b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(ls_checkpoint_add_layer(&c, bad[i], &e), LS_EINPUT);
    }
    assert_ok(ls_checkpoint_add_layer(&c, "a", err));
    assert_int_equal(ls_checkpoint_add_layer(&c, "a", &e), LS_EINPUT);
    assert_non_null(strstr(e.text, "twice"));
    assert_ok(ls_checkpoint_add_weight(&c, "w:0", 0, NULL, &x, err));
    assert_int_equal(ls_checkpoint_add_weight(&c, "w:0", 0, NULL, &x, &e), LS_EINPUT);
    assert_int_equal(ls_checkpoint_add_slot(&c, "m", "a", "v:0", &x, &e), LS_EINPUT);
    const uint64_t huge[] = {1ull << 40, 1ull << 40};
    assert_int_equal(ls_checkpoint_add_weight(&c, "h:0", 2, huge, &x, &e), LS_EINPUT);
    assert_ok(ls_checkpoint_add_layer(&c, "top_level_model_weights", err));
    assert_int_equal(ls_checkpoint_write(&c, path, &e), LS_EINPUT);
    assert_false(ls_file_exists(path));
    ls_checkpoint_release(&c);
    free(path);
}

static void digest_is_stable(void **state) {
    (void)state;
    ls_checkpoint a = sample(3, 1500), b = sample(9, 9);
    char first[LS_CHECKPOINT_DIGEST_CHARS];
    ls_checkpoint_digest(&a, first);
    assert_int_equal(strlen(first), 32);
    /* what is not training state: time, texts, extra arrays, the order of slots and scalars */
    ls_checkpoint_set_text(&b.state, "{}");
    ((float *)b.arrays[0].data)[0] = 99;
    ls_checkpoint_slot slot = b.slots[0];
    b.slots[0] = b.slots[3];
    b.slots[3] = slot;
    ls_checkpoint_scalar scalar = b.scalars[0];
    b.scalars[0] = b.scalars[1];
    b.scalars[1] = scalar;
    assert_string_equal(digest_of(&b), first);
    ls_checkpoint_release(&a);
    ls_checkpoint_release(&b);
}

static void digest_feels_everything(void **state) {
    (void)state;
    ls_checkpoint c = sample(3, 1500);
    char before[LS_CHECKPOINT_DIGEST_CHARS];
    ls_checkpoint_digest(&c, before);
    for (size_t l = 0; l < c.n_layers; l++) {
        for (size_t w = 0; w < c.layers[l].n_weights; w++) {
            ls_checkpoint_array *array = &c.layers[l].weights[w];
            for (size_t i = 0; i < array->n_bytes; i++) {
                ((unsigned char *)array->data)[i] ^= 1;
                assert_string_not_equal(digest_of(&c), before);
                ((unsigned char *)array->data)[i] ^= 1;
            }
        }
    }
    for (size_t s = 0; s < c.n_slots; s++) {
        *(unsigned char *)c.slots[s].array.data ^= 1;
        assert_string_not_equal(digest_of(&c), before);
        *(unsigned char *)c.slots[s].array.data ^= 1;
    }
    c.scalars[0].value += 1;
    assert_string_not_equal(digest_of(&c), before);
    c.scalars[0].value -= 1;
    ls_checkpoint_array *kernel = &c.layers[1].weights[0];
    kernel->dims[0] = 3;
    kernel->dims[1] = 5;
    assert_string_not_equal(digest_of(&c), before);
    kernel->dims[0] = 5;
    kernel->dims[1] = 3;
    const char *name = kernel->name;
    kernel->name = "dense/kernel:1";
    assert_string_not_equal(digest_of(&c), before);
    kernel->name = name;
    assert_string_equal(digest_of(&c), before);
    ls_checkpoint_release(&c);
}

/* The value that a script may have written down: it must not change from one version to the next. */
static void digest_is_this_one(void **state) {
    (void)state;
    ls_checkpoint c = sample(3, 1500);
    assert_string_equal(digest_of(&c), "10a5c69b21ba2ae815c68e1266da5044");
    ls_checkpoint_release(&c);
}

/* A file of the first release's format, which every later one must read. */
static void format_1_is_read(void **state) {
    (void)state;
    char *folder = ls_path_folder(__FILE__), *path = ls_path_join(folder, "checkpoint_format1.h5");
    ls_checkpoint c;
    assert_ok(ls_checkpoint_read(path, &c, err));
    assert_string_equal(digest_of(&c), "10a5c69b21ba2ae815c68e1266da5044");
    assert_int_equal(c.n_arrays, 4);
    ls_checkpoint_release(&c);
    free(path);
    free(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_comes_back, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(same_content_same_bytes, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(inspect_keeps_shapes_only, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(special_values_survive, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(a_large_array_comes_back, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(long_lists_and_texts, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(the_layout_is_keras, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(bad_names_are_refused, folder_setup, folder_teardown),
        cmocka_unit_test(digest_is_stable),
        cmocka_unit_test(digest_feels_everything),
        cmocka_unit_test(digest_is_this_one),
        cmocka_unit_test(format_1_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
