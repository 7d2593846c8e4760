/* Data sets: what is opened and refused, ranges, gathers, summaries and fingerprints. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/file.h"
#include "common/memory.h"
#include "storage/dataset.h"
#include "tests/unit/storage/expect.h"
#include "tests/unit/storage/temporary.h"

enum { N = 300 };

/* Sample i of x is 100 i, 100 i + 1, ... (3 x 2), of y it is i modulo 7. */
static void write_split(ls_h5 *file, const char *x_path, const char *y_path, const ls_h5_storage *storage) {
    int32_t x[N][3][2];
    uint8_t y[N];
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 6; k++) {
            x[i][k / 2][k % 2] = 100 * i + k;
        }
        y[i] = (uint8_t)(i % 7);
    }
    OK(ls_h5_write(file, x_path, LS_H5_I32, 3, (uint64_t[]){N, 3, 2}, x, storage, err));
    OK(ls_h5_write(file, y_path, LS_H5_U8, 1, (uint64_t[]){N}, y, storage, err));
}

static const char *good_file(void) {
    const char *path = temporary("good.h5");
    const ls_h5_storage packed = {.gzip = 1, .chunk_rows = 16};
    ls_h5 *file = NULL;
    OK(ls_h5_create(path, &file, err));
    write_split(file, "/train/x", "/train/y", NULL);
    write_split(file, "/folds/0/x", "/folds/0/y", &packed);
    OK(ls_h5_attr_set_double(file, "/train/x", "scale", 0.25, err));
    OK(ls_h5_attr_set_int(file, "/train/x", "offset", -3, err));
    OK(ls_h5_close(file, err));
    return path;
}

static ls_dataset *open_split(const char *path, const char *split) {
    char *name = ls_xprintf("%s:%s", path, split);
    ls_dataset *dataset = NULL;
    OK(ls_dataset_open(name, &dataset, err));
    free(name);
    return dataset;
}

static void cuts_names(void **state) {
    (void)state;
    static const char *const cases[][3] = {{"a.h5:/train", "a.h5", "/train"},
                                           {"a.h5", "a.h5", NULL},
                                           {"/x:/y/a.h5:/b/c", "/x:/y/a.h5", "/b/c"},
                                           {"a:b.h5", "a:b.h5", NULL},
                                           {"a.h5:/", "a.h5", "/"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *path, *group;
        ls_dataset_split_name(cases[i][0], &path, &group);
        assert_string_equal(path, cases[i][1]);
        if (cases[i][2] == NULL) {
            assert_null(group);
        } else {
            assert_string_equal(group, cases[i][2]);
        }
        free(path);
        free(group);
    }
}

static void describes_arrays(void **state) {
    (void)state;
    ls_dataset *d = open_split(good_file(), "/train");
    assert_int_equal(d->n_samples, N);
    assert_int_equal(d->n_arrays, 2);
    assert_int_equal(ls_dataset_find(d, "x"), 0);
    assert_int_equal(ls_dataset_find(d, "y"), 1);
    assert_int_equal(ls_dataset_find(d, "z"), -1);
    const ls_data_array *x = &d->arrays[0], *y = &d->arrays[1];
    assert_string_equal(x->name, "x");
    assert_int_equal(x->type, LS_H5_I32);
    assert_int_equal(x->rank, 2);
    assert_int_equal(x->shape[0], 3);
    assert_int_equal(x->shape[1], 2);
    assert_int_equal(x->sample_elems, 6);
    assert_int_equal(x->sample_bytes, 24);
    assert_true(x->scale == 0.25 && x->offset == -3);
    assert_int_equal(y->rank, 0);
    assert_int_equal(y->sample_elems, 1);
    assert_true(y->scale == 1 && y->offset == 0);
    ls_dataset_destroy(d);
    d = open_split(temporary("good.h5"), "/folds/0");
    assert_int_equal(d->arrays[0].chunk_samples, 16);
    ls_dataset_destroy(d);
}

static void reads_any_part(void **state) {
    (void)state;
    ls_dataset *d = open_split(good_file(), "/train");
    int32_t x[N][6];
    OK(ls_dataset_read(d, 0, 0, 100, x, err));
    OK(ls_dataset_read(d, 0, 100, 200, x + 100, err));
    for (int i = 0; i < N; i++) {
        assert_int_equal(x[i][0], 100 * i);
        assert_int_equal(x[i][5], 100 * i + 5);
    }
    FAILS(EINPUT, "rows 299 to 301 were asked for, but it has 300", ls_dataset_read(d, 0, 299, 2, x, err));
    ls_dataset_destroy(d);
}

static void check_gather(const char *split) {
    ls_dataset *d = open_split(good_file(), split);
    uint64_t indices[N + 3];
    int32_t x[N + 3][6];
    uint8_t y[N + 3];
    for (uint64_t i = 0; i < N; i++) {
        indices[i] = i * 77 % N; /* a permutation: 77 and 300 have no common divisor */
    }
    indices[N] = indices[N + 1] = 299;
    indices[N + 2] = 0;
    OK(ls_dataset_gather(d, 0, indices, N + 3, x, err));
    OK(ls_dataset_gather(d, 1, indices, N + 3, y, err));
    for (int i = 0; i < N + 3; i++) {
        assert_int_equal(x[i][0], 100 * indices[i]);
        assert_int_equal(x[i][5], 100 * indices[i] + 5);
        assert_int_equal(y[i], indices[i] % 7);
    }
    OK(ls_dataset_gather(d, 0, (const uint64_t[]){250, 3}, 2, x, err));
    assert_int_equal(x[0][0], 25000);
    assert_int_equal(x[1][0], 300);
    OK(ls_dataset_gather(d, 0, NULL, 0, NULL, err));
    FAILS(EINPUT, "sample 300 was asked for, but it has 300",
          ls_dataset_gather(d, 0, (const uint64_t[]){0, 300}, 2, x, err));
    ls_dataset_destroy(d);
}

static void gathers(void **state) {
    (void)state;
    check_gather("/train");
    check_gather("/folds/0");
}

/* Rows larger than what a gather reads at once. */
static void gathers_large_samples(void **state) {
    (void)state;
    enum { ROW = 200000 };
    ls_h5 *file = NULL;
    double *x = ls_xcalloc(4 * ROW, sizeof *x), *out = ls_xcalloc(3 * ROW, sizeof *out);
    for (int i = 0; i < 4 * ROW; i++) {
        x[i] = i;
    }
    OK(ls_h5_create(temporary("large.h5"), &file, err));
    OK(ls_h5_write(file, "/x", LS_H5_F64, 2, (uint64_t[]){4, ROW}, x, NULL, err));
    OK(ls_h5_close(file, err));
    ls_dataset *d = open_split(temporary("large.h5"), "/");
    OK(ls_dataset_gather(d, 0, (const uint64_t[]){3, 2, 3}, 3, out, err));
    assert_memory_equal(out, x + 3 * ROW, ROW * sizeof *x);
    assert_memory_equal(out + ROW, x + 2 * ROW, ROW * sizeof *x);
    assert_memory_equal(out + 2 * ROW, x + 3 * ROW, ROW * sizeof *x);
    ls_dataset_destroy(d);
    free(x);
    free(out);
}

static void finds_splits(void **state) {
    (void)state;
    ls_h5 *file = NULL;
    ls_h5_names splits;
    OK(ls_h5_open(good_file(), &file, err));
    OK(ls_dataset_splits(file, &splits, err));
    assert_int_equal(splits.n, 2);
    assert_string_equal(splits.items[0], "/folds/0");
    assert_string_equal(splits.items[1], "/train");
    ls_h5_names_release(&splits);
    ls_h5_discard(file);
}

static void check_refused(const char *name, const char *words) {
    ls_dataset *d = NULL;
    FAILS(EINPUT, words, ls_dataset_open(name, &d, err));
    assert_null(d);
}

static void refuses_names(void **state) {
    (void)state;
    const char *good = good_file();
    char name[600];
    snprintf(name, sizeof name, "%s:/valid", good);
    check_refused(name, "good.h5:/valid: there is no such split; ");
    check_refused(name, "good.h5 holds the splits /folds/0, /train");
    check_refused(good, "no arrays in this group");
    snprintf(name, sizeof name, "%s:/train/x", good);
    check_refused(name, "is an array, not a split");
    check_refused(temporary("none.h5"), "No such file");
    temporary_write("text.h5", "x,y\n1,2\n", 8);
    check_refused(temporary("text.h5"), "text.h5: is not an HDF5 file");
    ls_h5 *file = NULL;
    OK(ls_h5_create(temporary("empty.h5"), &file, err));
    OK(ls_h5_close(file, err));
    check_refused(temporary("empty.h5"), "holds no split");
    char *bytes = NULL;
    size_t n = 0;
    OK(ls_file_read(good_file(), &bytes, &n, err));
    temporary_write("short.h5", bytes, n / 2);
    free(bytes);
    check_refused(temporary("short.h5"), "short.h5: is damaged or truncated");
}

static void refuses_contents(void **state) {
    (void)state;
    ls_h5 *file = NULL;
    const float one[12] = {0};
    OK(ls_h5_create(temporary("bad.h5"), &file, err));
    OK(ls_h5_write(file, "/lengths/x", LS_H5_F32, 2, (uint64_t[]){4, 3}, one, NULL, err));
    OK(ls_h5_write(file, "/lengths/y", LS_H5_F32, 1, (uint64_t[]){5}, one, NULL, err));
    OK(ls_h5_write(file, "/scalar/x", LS_H5_F32, 0, NULL, one, NULL, err));
    OK(ls_h5_write(file, "/none/x", LS_H5_F32, 2, (uint64_t[]){0, 3}, one, NULL, err));
    OK(ls_h5_write(file, "/flat/x", LS_H5_F32, 2, (uint64_t[]){3, 0}, one, NULL, err));
    OK(ls_h5_write(file, "/nan/x", LS_H5_F32, 1, (uint64_t[]){3}, one, NULL, err));
    OK(ls_h5_attr_set_double(file, "/nan/x", "offset", NAN, err));
    OK(ls_h5_write(file, "/zero/x", LS_H5_F32, 1, (uint64_t[]){3}, one, NULL, err));
    OK(ls_h5_attr_set_int(file, "/zero/x", "scale", 0, err));
    OK(ls_h5_write(file, "/text/x", LS_H5_F32, 1, (uint64_t[]){3}, one, NULL, err));
    OK(ls_h5_attr_set_string(file, "/text/x", "scale", "1/255", LS_H5_FIXED, err));
    OK(ls_h5_close(file, err));
    static const char *const cases[][2] = {
        {"/lengths", "\"x\" has 4 samples and \"y\" has 5; all arrays of a split must have the same first axis"},
        {"/scalar", "/scalar/x: is a single number"},
        {"/none", "/none/x: is empty"},
        {"/flat", "/flat/x: is empty"},
        {"/nan", "\"offset\" is nan"},
        {"/zero", "\"scale\" is 0"},
        {"/text", "\"scale\" is not a number"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[600];
        snprintf(name, sizeof name, "%s:%s", temporary("bad.h5"), cases[i][0]);
        check_refused(name, cases[i][1]);
    }
    char *folder = ls_path_folder(__FILE__), *name = ls_xprintf("%s/h5py_spellings.h5:/arrays", folder);
    check_refused(name, "/arrays/compound: holds elements that are not numbers");
    free(folder);
    free(name);
}

static void summarises(void **state) {
    (void)state;
    ls_dataset *d = open_split(good_file(), "/train");
    ls_data_summary summary;
    OK(ls_dataset_summarise(d, 0, &summary, err));
    assert_true(summary.min == 0 && summary.max == 29905);
    assert_int_equal(summary.n_nonfinite, 0);
    assert_int_equal(summary.n_classes, 0);
    ls_data_summary_release(&summary);
    OK(ls_dataset_summarise(d, 1, &summary, err));
    assert_true(summary.min == 0 && summary.max == 6);
    assert_int_equal(summary.n_classes, 7);
    assert_int_equal(summary.class_count[5], 43);
    assert_int_equal(summary.class_count[6], 42);
    ls_data_summary_release(&summary);
    ls_dataset_destroy(d);

    ls_h5 *file = NULL;
    OK(ls_h5_create(temporary("odd.h5"), &file, err));
    OK(ls_h5_write(file, "/a", LS_H5_F32, 1, (uint64_t[]){4}, (float[]){-2, NAN, INFINITY, 5}, NULL, err));
    OK(ls_h5_write(file, "/b", LS_H5_F32, 1, (uint64_t[]){4}, (float[]){1, 2, 0.5f, 1}, NULL, err));
    OK(ls_h5_write(file, "/c", LS_H5_F32, 1, (uint64_t[]){4}, (float[]){1, 2, 0, 1}, NULL, err));
    OK(ls_h5_write(file, "/d", LS_H5_I32, 1, (uint64_t[]){4}, (int32_t[]){1, 2, -1, 1}, NULL, err));
    OK(ls_h5_close(file, err));
    d = open_split(temporary("odd.h5"), "/");
    const uint32_t n_classes[] = {0, 0, 3, 0};
    const uint64_t n_nonfinite[] = {2, 0, 0, 0};
    for (size_t i = 0; i < 4; i++) {
        OK(ls_dataset_summarise(d, i, &summary, err));
        assert_int_equal(summary.n_classes, n_classes[i]);
        assert_int_equal(summary.n_nonfinite, n_nonfinite[i]);
        assert_true(i != 0 || (summary.min == -2 && summary.max == 5));
        ls_data_summary_release(&summary);
    }
    ls_dataset_destroy(d);
}

static uint64_t fingerprint_of(const char *split) {
    ls_dataset *d = open_split(temporary("prints.h5"), split);
    uint64_t value = 0;
    OK(ls_dataset_fingerprint(d, &value, err));
    ls_dataset_destroy(d);
    return value;
}

static void fingerprints(void **state) {
    (void)state;
    ls_h5 *file = NULL;
    const ls_h5_storage packed = {.gzip = 9, .shuffle = true, .chunk_rows = 7};
    OK(ls_h5_create(temporary("prints.h5"), &file, err));
    write_split(file, "/plain/x", "/plain/y", NULL);
    write_split(file, "/packed/x", "/packed/y", &packed);
    write_split(file, "/scaled/x", "/scaled/y", NULL);
    OK(ls_h5_attr_set_double(file, "/scaled/x", "scale", 2, err));
    write_split(file, "/named/x", "/named/z", NULL);
    write_split(file, "/changed/x", "/changed/y", NULL);
    ls_h5_array *y = NULL;
    OK(ls_h5_array_open(file, "/changed/y", &y, err));
    OK(ls_h5_array_write(y, 299, 1, &(uint8_t){200}, err));
    OK(ls_h5_array_close(y, err));
    OK(ls_h5_close(file, err));
    uint64_t plain = fingerprint_of("/plain");
    assert_true(plain == fingerprint_of("/packed"));
    assert_true(plain != fingerprint_of("/scaled"));
    assert_true(plain != fingerprint_of("/named"));
    assert_true(plain != fingerprint_of("/changed"));
    /* Checkpoints remember fingerprints, so the function must stay what it is. */
    assert_true(plain == 0xaddf71763656c631u);
}

/* 600 MB of zeros take no room in a sparse file; the last sample is always among those that are hashed. */
static void fingerprint_of_a_large_set_is_sampled(void **state) {
    (void)state;
    ls_h5 *file = NULL;
    ls_h5_array *x = NULL;
    const uint64_t dims[] = {600000, 250};
    uint64_t prints[3];
    for (int i = 0; i < 3; i++) {
        OK(ls_h5_create(temporary("prints.h5"), &file, err));
        OK(ls_h5_array_create(file, "/x", LS_H5_F32, 2, dims, NULL, &x, err));
        const float row[250] = {i < 2 ? 1 : 2};
        OK(ls_h5_array_write(x, 599999, 1, row, err));
        OK(ls_h5_array_close(x, err));
        OK(ls_h5_close(file, err));
        prints[i] = fingerprint_of("/");
    }
    assert_true(prints[0] == prints[1]);
    assert_true(prints[0] != prints[2]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_names),
        cmocka_unit_test(describes_arrays),
        cmocka_unit_test(reads_any_part),
        cmocka_unit_test(gathers),
        cmocka_unit_test(gathers_large_samples),
        cmocka_unit_test(finds_splits),
        cmocka_unit_test(refuses_names),
        cmocka_unit_test(refuses_contents),
        cmocka_unit_test(summarises),
        cmocka_unit_test(fingerprints),
        cmocka_unit_test(fingerprint_of_a_large_set_is_sampled),
    };
    return cmocka_run_group_tests(tests, temporary_setup, temporary_teardown);
}
