/* IDX files become data sets, and nothing is left of those that cannot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <zlib.h>

#include "common/memory.h"
#include "storage/dataset.h"
#include "storage/import.h"
#include "tests/unit/storage/expect.h"
#include "tests/unit/storage/temporary.h"

static const ls_import_options plain;

/* An IDX file: the header from rank and dims, then n_bytes of data. */
static void write_idx(const char *name, uint8_t code, int rank, const uint32_t *dims, const void *data,
                      size_t n_bytes) {
    uint8_t bytes[4096] = {0, 0, code, (uint8_t)rank};
    size_t n = 4;
    for (int i = 0; i < rank; i++) {
        for (int shift = 24; shift >= 0; shift -= 8) {
            bytes[n++] = (uint8_t)(dims[i] >> shift);
        }
    }
    memcpy(bytes + n, data, n_bytes);
    n += n_bytes;
    size_t length = strlen(name);
    if (length > 3 && strcmp(name + length - 3, ".gz") == 0) {
        gzFile out = gzopen(temporary(name), "wb");
        assert_int_equal(gzwrite(out, bytes, (unsigned)n), n);
        assert_int_equal(gzclose(out), Z_OK);
    } else {
        temporary_write(name, bytes, n);
    }
}

static const uint8_t pixels[] = {0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255};

static void write_mnist(const char *images, const char *labels) {
    write_idx(images, 8, 3, (uint32_t[]){2, 3, 2}, pixels, 12);
    write_idx(labels, 8, 1, (uint32_t[]){2}, (uint8_t[]){7, 9}, 2);
}

static ls_dataset *open_split(const char *split) {
    char *name = ls_xprintf("%s:%s", temporary("out.h5"), split);
    ls_dataset *d = NULL;
    OK(ls_dataset_open(name, &d, err));
    free(name);
    return d;
}

static void check_split(const char *split) {
    ls_dataset *d = open_split(split);
    uint8_t x[12], y[2];
    assert_int_equal(d->n_samples, 2);
    assert_int_equal(d->arrays[0].type, LS_H5_U8);
    assert_int_equal(d->arrays[0].rank, 3);
    assert_int_equal(d->arrays[0].shape[0], 3);
    assert_int_equal(d->arrays[0].shape[1], 2);
    assert_int_equal(d->arrays[0].shape[2], 1);
    assert_true(d->arrays[0].scale == 1.0 / 255);
    assert_true(d->arrays[1].scale == 1);
    OK(ls_dataset_read(d, 0, 0, 2, x, err));
    OK(ls_dataset_read(d, 1, 0, 2, y, err));
    assert_memory_equal(x, pixels, 12);
    assert_int_equal(y[0], 7);
    assert_int_equal(y[1], 9);
    ls_dataset_destroy(d);
}

static void imports_a_folder(void **state) {
    (void)state;
    write_mnist("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz");
    write_mnist("t10k-images.idx3-ubyte.gz", "T10K-LABELS");
    const ls_import_options options = {.gzip = 5, .source = "here", .licence = "none"};
    OK(ls_import_idx(temporary("out.h5"), (const char *[]){temporary_folder}, 1, &options, err));
    check_split("/train");
    check_split("/test");
    ls_h5 *file = NULL;
    char *text = NULL;
    OK(ls_h5_open(temporary("out.h5"), &file, err));
    OK(ls_h5_attr_get_string(file, "/", "source", &text, err));
    assert_string_equal(text, "here");
    free(text);
    ls_h5_discard(file);
    assert_int_equal(temporary_count(), 5);
    /* Once more, over the old one. */
    OK(ls_import_idx(temporary("out.h5"), (const char *[]){temporary_folder}, 1, &plain, err));
    check_split("/train");
    assert_int_equal(temporary_count(), 5);
}

static void imports_other_shapes_and_types(void **state) {
    (void)state;
    write_idx("valid-images", 0x0d, 4, (uint32_t[]){1, 1, 2, 1}, (uint8_t[]){0x3f, 0x80, 0, 0, 0xc0, 0x20, 0, 0}, 8);
    write_idx("valid-labels", 0x0b, 1, (uint32_t[]){1}, (uint8_t[]){1, 2}, 2);
    const char *inputs[] = {temporary("valid-images"), temporary("valid-labels")};
    OK(ls_import_idx(temporary("out.h5"), inputs, 2, &plain, err));
    ls_dataset *d = open_split("/validation");
    float x[2];
    int16_t y;
    assert_int_equal(d->arrays[0].type, LS_H5_F32);
    assert_int_equal(d->arrays[0].rank, 3);
    assert_true(d->arrays[0].scale == 1);
    OK(ls_dataset_read(d, 0, 0, 1, x, err));
    OK(ls_dataset_read(d, 1, 0, 1, &y, err));
    assert_true(x[0] == 1 && x[1] == -2.5f);
    assert_int_equal(y, 258);
    ls_dataset_destroy(d);
    write_idx("test-images", 8, 2, (uint32_t[]){2, 6}, pixels, 12);
    write_idx("test-labels", 8, 1, (uint32_t[]){2}, pixels, 2);
    const char *flat[] = {temporary("test-images"), temporary("test-labels")};
    OK(ls_import_idx(temporary("out.h5"), flat, 2, &plain, err));
    d = open_split("/test");
    assert_int_equal(d->arrays[0].rank, 1);
    ls_dataset_destroy(d);
}

/* Every refusal leaves no output and no temporary file. */
static void check_refused(const char *words) {
    const char *inputs[] = {temporary("train-images"), temporary("train-labels")};
    FAILS(EINPUT, words, ls_import_idx(temporary("out.h5"), inputs, 2, &plain, err));
    assert_int_equal(temporary_count(), 2);
}

static void refuses_damaged_files(void **state) {
    (void)state;
    const uint32_t dims[] = {2, 3, 2};
    write_mnist("train-images", "train-labels");
    write_idx("train-images", 8, 3, dims, pixels, 11);
    check_refused("train-images: ends too early");
    write_idx("train-images", 8, 3, (uint32_t[]){2, 3, 1}, pixels, 12);
    check_refused("train-images: goes on after the 2 samples that its header announces");
    write_idx("train-images", 7, 3, dims, pixels, 12);
    check_refused("train-images: is not an IDX file: it begins with 00 00 07 03");
    temporary_write("train-images", "\x89HDF\r\n", 6);
    check_refused("is not an IDX file: it begins with 89 48 44 46");
    temporary_write("train-images", "", 0);
    check_refused("train-images: ends too early");
    temporary_write("train-images", "\0\0\10\3\0\0\0\2\0\0", 10);
    check_refused("train-images: ends too early");
    write_idx("train-images", 8, 1, (uint32_t[]){2}, pixels, 2);
    check_refused("train-images: has 1 axes; images have 2 to 4");
    write_idx("train-images", 8, 3, (uint32_t[]){2, 0, 2}, pixels, 0);
    check_refused("claims an axis of length 0");
    write_idx("train-images", 8, 3, (uint32_t[]){2, 0xffffffff, 0xffffffff}, pixels, 12);
    check_refused("claims an axis of length 4294967295");
    write_idx("train-images", 8, 3, (uint32_t[]){3, 2, 2}, pixels, 12);
    check_refused("holds 3 images, but");
    write_mnist("train-images", "train-labels");
    write_idx("train-labels", 0x0d, 1, (uint32_t[]){2}, pixels, 8);
    check_refused("train-labels: labels are whole numbers; these are float32");
    write_idx("train-labels", 8, 2, (uint32_t[]){2, 1}, pixels, 2);
    check_refused("train-labels: has 2 axes; labels have 1");
    write_idx("train-labels", 8, 1, (uint32_t[]){2}, pixels, 1);
    check_refused("train-labels: ends too early");
}

static void refuses_a_cut_archive(void **state) {
    (void)state;
    uint8_t noise[3000], bytes[4096];
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (uint8_t)(i * i * 2654435761u >> 13);
    }
    write_idx("whole.gz", 8, 2, (uint32_t[]){2, 1500}, noise, sizeof noise);
    FILE *file = fopen(temporary("whole.gz"), "rb");
    size_t n = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    temporary_write("train-images", bytes, n - 20);
    unlink(temporary("whole.gz"));
    write_idx("train-labels", 8, 1, (uint32_t[]){2}, pixels, 2);
    check_refused("train-images: ends too early");
    bytes[n / 2] ^= 0x55;
    temporary_write("train-images", bytes, n);
    check_refused("train-images: ends too early (");
}

static void refuses_sets_that_do_not_fit(void **state) {
    (void)state;
    const char *out = temporary("out.h5");
    write_mnist("train-images", "train-labels");
    FAILS(EINPUT, "train-images: the labels that belong to it are missing",
          ls_import_idx(out, (const char *[]){temporary("train-images")}, 1, &plain, err));
    FAILS(EINPUT, "train-labels: the images that belong to it are missing",
          ls_import_idx(out, (const char *[]){temporary("train-labels")}, 1, &plain, err));
    FAILS(EINPUT, "there is no such file or folder",
          ls_import_idx(out, (const char *[]){temporary("nothing")}, 1, &plain, err));
    write_mnist("train-images.gz", "pictures");
    FAILS(EINPUT, "are the images of /train by their names; name one of them",
          ls_import_idx(out, (const char *[]){temporary_folder}, 1, &plain, err));
    FAILS(EINPUT, "pictures: its name does not tell what it holds",
          ls_import_idx(out, (const char *[]){temporary("pictures")}, 1, &plain, err));
    const char *inputs[] = {temporary("train-images"), temporary("train-labels")};
    FAILS(EINPUT, "pictures: exists and is not an HDF5 file",
          ls_import_idx(temporary("pictures"), inputs, 2, &plain, err));
    FAILS(EINPUT, "no/out.h5: cannot be written, its folder",
          ls_import_idx(temporary("no/out.h5"), inputs, 2, &plain, err));
    assert_int_equal(temporary_count(), 4);
}

static void refuses_an_empty_folder(void **state) {
    (void)state;
    FAILS(EINPUT, "holds no IDX files; names like train-images-idx3-ubyte",
          ls_import_idx(temporary("out.h5"), (const char *[]){temporary_folder}, 1, &plain, err));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, temporary_setup, temporary_teardown)
    const struct CMUnitTest tests[] = {
        TEST(imports_a_folder),      TEST(imports_other_shapes_and_types), TEST(refuses_damaged_files),
        TEST(refuses_a_cut_archive), TEST(refuses_sets_that_do_not_fit),   TEST(refuses_an_empty_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
