/* Tables become data sets: types, shapes, splits, headings; and what is wrong is said with its line and column. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <zlib.h>

#include "common/fault.h"
#include "common/memory.h"
#include "storage/dataset.h"
#include "storage/import.h"
#include "storage/import_output.h"
#include "tests/unit/storage/expect.h"
#include "tests/unit/storage/temporary.h"

static const ls_import_csv_options last = {.label = LS_CSV_LABEL_LAST};

static void import_text(const char *text, const ls_import_csv_options *options) {
    temporary_write("in.csv", text, strlen(text));
    OK(ls_import_csv(temporary("out.h5"), temporary("in.csv"), options, err));
}

/* The split's array as float32, n values of it; the stored type is checked. */
static void check_array(const char *split, const char *name, ls_h5_type type, size_t n, const float *expected) {
    char *path = ls_xprintf("%s/%s", split, name);
    float values[64];
    ls_h5 *file = NULL;
    ls_h5_info info;
    OK(ls_h5_open(temporary("out.h5"), &file, err));
    OK(ls_h5_info_of(file, path, &info, err));
    assert_int_equal(info.type, type);
    OK(ls_h5_read(file, path, LS_H5_F32, n, values, err));
    assert_memory_equal(values, expected, n * sizeof *values);
    ls_h5_discard(file);
    free(path);
}

static void imports_bytes_and_a_shape(void **state) {
    (void)state;
    const ls_import_csv_options options = {
        .label = LS_CSV_LABEL_LAST, .rank = 3, .shape = {2, 1, 1}, .scale = 0.0625, .n_test = 1};
    import_text("0,16,3\n1,15,2\r\n\n255,0,1", &options);
    check_array("/train", "x", LS_H5_U8, 4, (float[]){0, 16, 1, 15});
    check_array("/train", "y", LS_H5_U8, 2, (float[]){3, 2});
    check_array("/test", "x", LS_H5_U8, 2, (float[]){255, 0});
    check_array("/test", "y", LS_H5_U8, 1, (float[]){1});
    char *name = ls_xprintf("%s:/train", temporary("out.h5"));
    ls_dataset *d = NULL;
    OK(ls_dataset_open(name, &d, err));
    assert_int_equal(d->arrays[0].rank, 3);
    assert_true(d->arrays[0].scale == 0.0625);
    ls_dataset_destroy(d);
    free(name);
}

static void imports_headings_separators_and_types(void **state) {
    (void)state;
    import_text("width;height;class\n1.5; -2 ;300\n1e-3;4;-1\n", &last);
    check_array("/train", "x", LS_H5_F32, 4, (float[]){1.5f, -2, 1e-3f, 4});
    check_array("/train", "y", LS_H5_I32, 2, (float[]){300, -1});
    const ls_import_csv_options first = {.label = 0}, none = {.label = LS_CSV_LABEL_NONE};
    import_text("0.5\t1\t2\n", &first);
    check_array("/train", "y", LS_H5_F32, 1, (float[]){0.5f});
    check_array("/train", "x", LS_H5_U8, 2, (float[]){1, 2});
    import_text("7\n8\n", &none);
    check_array("/train", "x", LS_H5_U8, 2, (float[]){7, 8});
    ls_h5 *file = NULL;
    OK(ls_h5_open(temporary("out.h5"), &file, err));
    assert_int_equal(ls_h5_kind_of(file, "/train/y"), LS_H5_NOTHING);
    ls_h5_discard(file);
}

static void imports_a_gzipped_table_in_blocks(void **state) {
    (void)state;
    enum { N = 70000 };
    gzFile out = gzopen(temporary("in.csv.gz"), "wb1");
    for (int i = 0; i < N; i++) {
        gzprintf(out, "%d,%d,%d,%d,%d\n", i % 256, i / 256 % 256, i / 65536, 5, i % 10);
    }
    assert_int_equal(gzclose(out), Z_OK);
    OK(ls_import_csv(temporary("out.h5"), temporary("in.csv.gz"), &last, err));
    uint8_t *x = ls_xcalloc(N, 4);
    ls_h5 *file = NULL;
    OK(ls_h5_open(temporary("out.h5"), &file, err));
    OK(ls_h5_read(file, "/train/x", LS_H5_U8, 4 * N, x, err));
    for (int i = 0; i < N; i++) {
        assert_int_equal(x[4 * i] + 256 * x[4 * i + 1] + 65536 * x[4 * i + 2], i);
    }
    ls_h5_discard(file);
    free(x);
}

static void check_refused(const char *text, const ls_import_csv_options *options, const char *words) {
    temporary_write("in.csv", text, strlen(text));
    FAILS(EINPUT, words, ls_import_csv(temporary("out.h5"), temporary("in.csv"), options, err));
    assert_int_equal(temporary_count(), 1);
}

static void refuses_bad_tables(void **state) {
    (void)state;
    check_refused("1,2\n3,x\n", &last, "in.csv:2: column 2 is \"x\"; a finite number was expected");
    check_refused("1,2\n\n3,\n", &last, "in.csv:3: column 2 is \"\"");
    check_refused("a,b\n1,2\nnan,2\n", &last, "in.csv:3: column 1 is \"nan\"");
    check_refused("nan,2\n", &last, "in.csv:1: column 1 is \"nan\"");
    check_refused("NA,2\n", &last, "in.csv:1: column 1 is \"NA\"");
    check_refused("1,1e999\n", &last, "in.csv:1: column 2 is \"1e999\"");
    check_refused("1,2\n1,2,3\n", &last, "in.csv:2: has 3 fields; the lines before it have 2");
    check_refused("1,2\n1\n", &last, "in.csv:2: has 1 fields");
    check_refused("", &last, "in.csv: is empty");
    check_refused("\n\n", &last, "in.csv: is empty");
    check_refused("a,b\n", &last, "holds a heading and no rows");
    check_refused("1\n2\n", &last, "has one column, the labels");
    temporary_write("in.csv", "1,2\n3\0,4\n", 10);
    FAILS(EINPUT, "in.csv:2: holds a zero byte; this is not text",
          ls_import_csv(temporary("out.h5"), temporary("in.csv"), &last, err));
}

static void refuses_what_does_not_fit(void **state) {
    (void)state;
    const ls_import_csv_options shape = {.label = LS_CSV_LABEL_LAST, .rank = 2, .shape = {2, 2}},
                                empty = {.label = LS_CSV_LABEL_LAST, .rank = 1, .shape = {0}}, column = {.label = 3},
                                test = {.label = LS_CSV_LABEL_LAST, .n_test = 2};
    check_refused("1,2,3\n", &shape, "has 2 columns besides the labels; the shape asked for needs 4");
    check_refused("1,2,3\n", &empty, "a shape needs axes of 1 and more");
    check_refused("1,2,3\n", &column, "has 3 columns; the labels cannot be in column 4");
    check_refused("1,2\n3,4\n", &test, "holds 2 rows; 2 cannot be set aside for the test");
    FAILS(EINPUT, "cannot be opened", ls_import_csv(temporary("out.h5"), temporary("none.csv"), &last, err));
    FAILS(EINPUT, "in.csv: exists and is not an HDF5 file",
          ls_import_csv(temporary("in.csv"), temporary("in.csv"), &last, err));
}

static void refuses_a_cut_archive(void **state) {
    (void)state;
    uint8_t bytes[65536];
    gzFile out = gzopen(temporary("in.csv"), "wb");
    for (int i = 0; i < 5000; i++) {
        gzprintf(out, "%d,%d\n", i * i, i);
    }
    gzclose(out);
    FILE *file = fopen(temporary("in.csv"), "rb");
    size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    temporary_write("in.csv", bytes, n - 100);
    FAILS(EINPUT, "it ends too early", ls_import_csv(temporary("out.h5"), temporary("in.csv"), &last, err));
    assert_int_equal(temporary_count(), 1);
}

/* Whichever write fails, whichever way: a sentence, the older set is whole, and nothing else is left. */
static void every_failing_write(const char *action, const char *words) {
    import_text("1,2\n3,4\n", &last);
    temporary_write("in.csv", "5,6\n7,8\n9,10\n", 13);
    int k = 0;
    for (bool struck = true; struck; ls_fault_set(NULL)) {
        char spec[32];
        snprintf(spec, sizeof spec, "import:%d:%s", ++k, action);
        ls_fault_set(spec);
        ls_err e = LS_ERR_INIT;
        ls_status s = ls_import_csv(temporary("out.h5"), temporary("in.csv"), &last, &e);
        struck = ls_fault_struck() > 0;
        assert_int_equal(s, struck ? LS_EIO : LS_OK);
        assert_true(!struck || (strstr(e.text, words) != NULL && strstr(e.text, "out.h5") != NULL));
        assert_int_equal(temporary_count(), 2);
        check_array("/train", "x", LS_H5_U8, struck ? 2 : 3, struck ? (float[]){1, 3} : (float[]){5, 7, 9});
    }
    assert_in_range(k, 6, 200); /* creation, writes, fsync, rename */
}

static void survives_failing_writes(void **state) {
    (void)state;
    every_failing_write("fail", "Input/output error");
    every_failing_write("full", "No space left on device");
}

/* What lies in the file is not what was given: changed here behind the importer's back, by a failing disk elsewhere. */
static void notices_what_reads_back_differently(void **state) {
    (void)state;
    ls_import_output output;
    ls_import_array *array = NULL;
    ls_h5_array *again = NULL;
    const ls_import_options options = {0};
    const uint8_t bytes[] = {1, 2, 3}, other[] = {9};
    OK(ls_import_begin(&output, temporary("out.h5"), &options, err));
    OK(ls_import_add(&output, "/x", LS_H5_U8, 1, (uint64_t[]){3}, &array, err));
    OK(ls_import_rows(array, 3, bytes, err));
    OK(ls_h5_array_open(output.file, "/x", &again, err));
    OK(ls_h5_array_write(again, 1, 1, other, err));
    OK(ls_h5_array_close(again, err));
    FAILS(EIO, "/x: reads back differently from what was written", ls_import_commit(&output, err));
    assert_int_equal(temporary_count(), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, temporary_setup, temporary_teardown)
    const struct CMUnitTest tests[] = {
        TEST(imports_bytes_and_a_shape),         TEST(imports_headings_separators_and_types),
        TEST(imports_a_gzipped_table_in_blocks), TEST(refuses_bad_tables),
        TEST(refuses_what_does_not_fit),         TEST(refuses_a_cut_archive),
        TEST(survives_failing_writes),           TEST(notices_what_reads_back_differently),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
