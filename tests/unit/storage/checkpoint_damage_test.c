/* Damaged and foreign files: a sentence that names the file, never a crash, never wrong weights. */
#include <fcntl.h>
#include <stdio.h>

#include "common/log.h"
#include "storage/checkpoint.h"
#include "storage/checkpoint_private.h"
#include "storage/seal.h"
#include "tests/unit/storage/checkpoint_sample.h"

typedef struct {
    char *path, *bytes;
    size_t n;
} original;

static original make(const char *folder) {
    original o = {.path = ls_path_join(folder, "a.h5")};
    ls_checkpoint c = sample(3, 1500);
    assert_ok(ls_checkpoint_write(&c, o.path, err));
    assert_ok(ls_file_read(o.path, &o.bytes, &o.n, err));
    ls_checkpoint_release(&c);
    return o;
}

static void unmake(original *o) {
    free(o->bytes);
    free(o->path);
}

static void put(const char *path, const void *bytes, size_t n) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    assert_int_equal(close(fd), 0);
}

static ls_status read_status(const char *path, ls_err *e) {
    ls_checkpoint c;
    ls_status s = ls_checkpoint_read(path, &c, e);
    if (s == LS_OK) {
        ls_checkpoint_release(&c);
    } else {
        assert_non_null(strstr(e->text, path));
    }
    return s;
}

static void every_cut_is_found(void **state) {
    original o = make(*state);
    for (size_t n = 0; n < o.n; n += n + 100 < o.n ? 331 : 1) {
        ls_err e = LS_ERR_INIT;
        put(o.path, o.bytes, n);
        ls_status s = read_status(o.path, &e);
        assert_true(s == LS_ECORRUPT || (s == LS_EINPUT && n < 2048));
    }
    put(o.path, o.bytes, o.n);
    assert_ok(ls_checkpoint_verify(o.path, err));
    unmake(&o);
}

static void every_flipped_byte_is_found(void **state) {
    original o = make(*state);
    for (size_t i = 0; i < o.n; i += i + 100 < o.n ? 61 : 1) {
        ls_err e = LS_ERR_INIT;
        o.bytes[i] ^= 16;
        put(o.path, o.bytes, o.n);
        assert_int_equal(read_status(o.path, &e), LS_ECORRUPT);
        assert_non_null(strstr(e.text, "is damaged"));
        o.bytes[i] ^= 16;
    }
    unmake(&o);
}

/* Where `bytes` lie in the file. */
static size_t find(const original *o, const void *bytes, size_t n) {
    char *at = memmem(o->bytes, o->n, bytes, n);
    assert_non_null(at);
    return (size_t)(at - o->bytes);
}

/* A seal that was made over damaged contents: the checksums of arrays and texts are the second line. */
static void checksums_find_what_a_seal_hides(void **state) {
    original o = make(*state);
    float kernel[15], slot[15];
    const double count[] = {1234567, 1e-3};
    fill(kernel, 15, 1.0f);
    fill(slot, 15, 10.0f);
    const struct {
        size_t at;
        const char *where;
    } damages[] = {
        {find(&o, kernel, sizeof kernel) + 7, "/model_weights/dense/dense/kernel:0"},
        {find(&o, slot, sizeof slot) + 59, "/lockstep/optimizer/v/dense/dense/kernel:0"},
        {find(&o, count, sizeof count) + 6, "/lockstep/scalars"},
        {find(&o, "\"seed\":7", 8) + 7, "texts"},
        {find(&o, "mean_squared_error", 18), "texts"},
        {find(&o, "\"texts\":\"", 9) + 9, "texts"},
    };
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        ls_err e = LS_ERR_INIT;
        o.bytes[damages[i].at] ^= 1;
        put(o.path, o.bytes, o.n - LS_SEAL_BYTES);
        assert_ok(ls_seal_write(o.path, NULL, err));
        assert_int_equal(read_status(o.path, &e), LS_ECORRUPT);
        assert_non_null(strstr(e.text, damages[i].where));
        assert_non_null(strstr(e.text, "checksum"));
        o.bytes[damages[i].at] ^= 1;
    }
    unmake(&o);
}

/* Arrays of several slices are hashed slice by slice; what is read back after a write needs no seal to tell. */
static void damage_in_any_slice_is_found(void **state) {
    enum { ROWS = 700, COLUMNS = 1000 };
    char *path = ls_path_join(*state, "a.h5"), *bytes;
    const uint64_t dims[] = {ROWS, COLUMNS};
    ls_checkpoint c = {.has_state = true}, back;
    float *x;
    size_t n;
    _Static_assert(ROWS * COLUMNS * sizeof *x > 2 * LS_CKPT_SLICE_BYTES, "three slices");
    assert_ok(ls_checkpoint_add_layer(&c, "dense", err));
    assert_ok(ls_checkpoint_add_weight(&c, "kernel:0", 2, dims, &x, err));
    fill(x, (size_t)ROWS * COLUMNS, 1.0f);
    assert_ok(ls_checkpoint_write(&c, path, err));
    assert_ok(ls_checkpoint_read(path, &back, err));
    assert_memory_equal(back.layers[0].weights[0].data, x, ROWS * COLUMNS * sizeof *x);
    ls_checkpoint_release(&back);
    assert_ok(ls_ckpt_verify_written(path, err));
    assert_ok(ls_file_read(path, &bytes, &n, err));
    for (size_t i = COLUMNS / 2; i < (size_t)ROWS * COLUMNS; i += (size_t)ROWS * COLUMNS / 3) {
        ls_err e = LS_ERR_INIT;
        char *at = memmem(bytes, n, &x[i], 4 * sizeof *x);
        assert_non_null(at);
        at[1] ^= 1;
        put(path, bytes, n);
        assert_int_equal(ls_ckpt_verify_written(path, &e), LS_ECORRUPT);
        assert_non_null(strstr(e.text, "kernel:0: is damaged: its contents do not match their checksum"));
        at[1] ^= 1;
    }
    put(path, bytes, n - 1);
    assert_int_equal(ls_ckpt_verify_written(path, NULL), LS_ECORRUPT); /* the seal is cut */
    ls_checkpoint_release(&c);
    free(bytes);
    free(path);
}

static void a_missing_seal_is_said(void **state) {
    original o = make(*state);
    ls_err e = LS_ERR_INIT;
    put(o.path, o.bytes, o.n - LS_SEAL_BYTES);
    assert_int_equal(read_status(o.path, &e), LS_ECORRUPT);
    assert_non_null(strstr(e.text, "its seal is missing"));
    assert_non_null(strstr(e.text, "remove the group /lockstep"));
    unmake(&o);
}

static void strangers_are_told(void **state) {
    char *path = ls_path_join(*state, "x.h5");
    ls_err e = LS_ERR_INIT;
    assert_int_equal(read_status(path, &e), LS_EINPUT);
    assert_non_null(strstr(e.text, "No such file"));
    assert_int_equal(read_status(*state, &e), LS_EINPUT);
    put(path, "", 0);
    assert_int_equal(read_status(path, &e), LS_EINPUT);
    assert_non_null(strstr(e.text, "is not an HDF5 file"));
    put(path, "PK\3\4 and more", 13);
    assert_int_equal(read_status(path, &e), LS_EINPUT);
    assert_non_null(strstr(e.text, ".keras archive"));
    ls_h5 *file;
    assert_ok(ls_h5_create(path, &file, err));
    assert_ok(ls_h5_group_create(file, "/layers/dense/vars", err));
    assert_ok(ls_h5_close(file, err));
    assert_int_equal(read_status(path, &e), LS_EINPUT);
    assert_non_null(strstr(e.text, "neither / nor /model_weights has layer_names"));
    assert_non_null(strstr(e.text, ".weights.h5 of Keras 3"));
    free(path);
}

/* A file of the given format number, otherwise empty. */
static void a_newer_format_is_said(void **state) {
    char *path = ls_path_join(*state, "x.h5");
    ls_err e = LS_ERR_INIT;
    ls_h5 *file;
    assert_ok(ls_h5_create(path, &file, err));
    assert_ok(ls_h5_group_create(file, "/lockstep", err));
    assert_ok(ls_h5_attr_set_int(file, "/lockstep", "format", 2, err));
    assert_ok(ls_h5_close(file, err));
    assert_ok(ls_seal_write(path, NULL, err));
    assert_int_equal(read_status(path, &e), LS_EUNSUPPORTED);
    assert_non_null(strstr(e.text, "format 2"));
    free(path);
}

/* A Keras file whose names lead nowhere, or to what is no array of numbers. */
static void names_without_arrays(void **state) {
    char *path = ls_path_join(*state, "x.h5");
    ls_err e = LS_ERR_INIT;
    ls_h5 *file;
    const char *layer = "dense", *weight = "dense/kernel:0";
    assert_ok(ls_h5_create(path, &file, err));
    assert_ok(ls_h5_attr_set_strings(file, "/", "layer_names", &layer, 1, err));
    assert_ok(ls_h5_close(file, err));
    assert_int_equal(read_status(path, &e), LS_EINPUT);
    assert_non_null(strstr(e.text, "/dense"));
    assert_ok(ls_h5_open_writable(path, &file, err));
    assert_ok(ls_h5_group_create(file, "/dense", err));
    assert_ok(ls_h5_attr_set_strings(file, "/dense", "weight_names", &weight, 1, err));
    assert_ok(ls_h5_close(file, err));
    assert_int_equal(read_status(path, &e), LS_EINPUT);
    assert_non_null(strstr(e.text, "/dense/dense/kernel:0"));
    free(path);
}

/* 1 TiB of nothing in a file of some KiB. */
static void a_claimed_size_is_not_believed(void **state) {
    char *path = ls_path_join(*state, "x.h5");
    ls_err e = LS_ERR_INIT;
    ls_h5 *file;
    ls_h5_array *array;
    const char *layer = "dense", *weight = "kernel";
    const uint64_t dims[] = {1u << 19, 1u << 19};
    const ls_h5_storage storage = {.gzip = 1, .chunk_rows = 1};
    assert_ok(ls_h5_create(path, &file, err));
    assert_ok(ls_h5_attr_set_strings(file, "/", "layer_names", &layer, 1, err));
    assert_ok(ls_h5_array_create(file, "/dense/kernel", LS_H5_F32, 2, dims, &storage, &array, err));
    assert_ok(ls_h5_array_close(array, err));
    assert_ok(ls_h5_attr_set_strings(file, "/dense", "weight_names", &weight, 1, err));
    assert_ok(ls_h5_close(file, err));
    assert_int_equal(read_status(path, &e), LS_ECORRUPT);
    assert_non_null(strstr(e.text, "claims a size"));
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_cut_is_found, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(every_flipped_byte_is_found, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(checksums_find_what_a_seal_hides, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(damage_in_any_slice_is_found, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(a_missing_seal_is_said, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(strangers_are_told, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(a_newer_format_is_said, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(names_without_arrays, folder_setup, folder_teardown),
        cmocka_unit_test_setup_teardown(a_claimed_size_is_not_believed, folder_setup, folder_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
