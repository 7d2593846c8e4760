/* The seam over HDF5: what is written is read again, what h5py writes is read (h5py_spellings.h5, written by h5py 3.7
 * with one attribute for each spelling of text and one array for each type), and what is wrong is said. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>
#include <time.h>

#include <cmocka.h>

#include "common/file.h"
#include "common/memory.h"
#include "storage/h5.h"
#include "tests/unit/storage/expect.h"
#include "tests/unit/storage/temporary.h"

static ls_h5 *spellings(void) {
    char *folder = ls_path_folder(__FILE__), *path = ls_path_join(folder, "h5py_spellings.h5");
    ls_h5 *file = NULL;
    OK(ls_h5_open(path, &file, err));
    free(folder);
    free(path);
    return file;
}

static void writes_and_reads_arrays(void **state) {
    (void)state;
    ls_h5 *file = NULL;
    OK(ls_h5_create(temporary("arrays.h5"), &file, err));
    const float x[2][3] = {{1, 2.5f, -3}, {4, 5, 6}};
    const uint64_t dims[] = {2, 3};
    OK(ls_h5_write(file, "/a/b/x", LS_H5_F32, 2, dims, x, NULL, err));
    const double scalar = 7.25;
    OK(ls_h5_write(file, "scalar", LS_H5_F64, 0, NULL, &scalar, NULL, err));
    const uint64_t none[] = {0, 3};
    OK(ls_h5_write(file, "/none", LS_H5_I8, 2, none, NULL, NULL, err));
    const uint8_t flags[] = {0, 1, 1, 0};
    const uint64_t four[] = {4};
    OK(ls_h5_write(file, "/flags", LS_H5_BOOL, 1, four, flags, NULL, err));
    FAILS(EINPUT, "/a/b/x: exists already", ls_h5_write(file, "/a/b/x", LS_H5_F32, 2, dims, x, NULL, err));
    OK(ls_h5_close(file, err));

    OK(ls_h5_open(temporary("arrays.h5"), &file, err));
    ls_h5_info info;
    OK(ls_h5_info_of(file, "/a/b/x", &info, err));
    assert_int_equal(info.type, LS_H5_F32);
    assert_int_equal(info.rank, 2);
    assert_int_equal(info.dims[0], 2);
    assert_int_equal(info.dims[1], 3);
    assert_int_equal(info.n_elems, 6);
    assert_int_equal(info.row_bytes, 12);
    assert_int_equal(info.chunk_rows, 0);
    float back[6];
    OK(ls_h5_read(file, "/a/b/x", LS_H5_F32, 6, back, err));
    assert_memory_equal(back, x, sizeof back);
    int64_t as_int[6];
    OK(ls_h5_read(file, "/a/b/x", LS_H5_I64, 6, as_int, err));
    assert_int_equal(as_int[2], -3);
    FAILS(EINPUT, "holds 6 elements; 5 were expected", ls_h5_read(file, "/a/b/x", LS_H5_F32, 5, back, err));
    double one = 0;
    OK(ls_h5_read(file, "/scalar", LS_H5_F64, 1, &one, err));
    assert_true(one == 7.25);
    OK(ls_h5_info_of(file, "/none", &info, err));
    assert_int_equal(info.n_elems, 0);
    assert_int_equal(info.row_bytes, 3);
    OK(ls_h5_info_of(file, "/flags", &info, err));
    assert_int_equal(info.type, LS_H5_BOOL);
    float as_float[4];
    OK(ls_h5_read(file, "/flags", LS_H5_F32, 4, as_float, err));
    assert_true(as_float[0] == 0 && as_float[1] == 1 && as_float[2] == 1 && as_float[3] == 0);
    OK(ls_h5_close(file, err));
}

static void reads_rows(void **state) {
    (void)state;
    ls_h5 *file = spellings();
    ls_h5_array *array = NULL;
    OK(ls_h5_array_open(file, "/arrays/gzip", &array, err));
    assert_int_equal(ls_h5_array_info(array)->chunk_rows, 16);
    int32_t rows[20];
    OK(ls_h5_array_read(array, LS_H5_I32, 31, 2, rows, err));
    for (int i = 0; i < 20; i++) {
        assert_int_equal(rows[i], 310 + i);
    }
    FAILS(EINPUT, "rows 99 to 101 were asked for, but it has 100",
          ls_h5_array_read(array, LS_H5_I32, 99, 2, rows, err));
    FAILS(EINPUT, "rows", ls_h5_array_read(array, LS_H5_I32, UINT64_MAX, 2, rows, err));
    OK(ls_h5_array_read(array, LS_H5_I32, 100, 0, NULL, err));
    OK(ls_h5_array_close(array, err));
    ls_h5_discard(file);
}

static void compresses_block_by_block(void **state) {
    (void)state;
    ls_h5 *file = NULL;
    ls_h5_array *array = NULL;
    const ls_h5_storage storage = {.gzip = 6, .shuffle = true, .fletcher32 = true};
    const uint64_t dims[] = {350, 100};
    uint16_t block[50][100];
    OK(ls_h5_create(temporary("blocks.h5"), &file, err));
    OK(ls_h5_array_create(file, "/x", LS_H5_U16, 2, dims, &storage, &array, err));
    for (int part = 0; part < 7; part++) {
        for (int i = 0; i < 5000; i++) {
            block[i / 100][i % 100] = (uint16_t)(part * 1000 + i / 100);
        }
        OK(ls_h5_array_write(array, (uint64_t)part * 50, 50, block, err));
    }
    OK(ls_h5_array_write(array, 0, 1, block, err));
    OK(ls_h5_array_close(array, err));
    OK(ls_h5_flush(file, err));
    OK(ls_h5_close(file, err));

    OK(ls_h5_open(temporary("blocks.h5"), &file, err));
    OK(ls_h5_array_open(file, "/x", &array, err));
    assert_int_equal(ls_h5_array_info(array)->n_rows, 350);
    assert_in_range(ls_h5_array_info(array)->stored_bytes, 1, 35000);
    OK(ls_h5_array_read(array, LS_H5_U16, 349, 1, block, err));
    assert_int_equal(block[0][99], 6049);
    OK(ls_h5_array_read(array, LS_H5_U16, 0, 1, block, err));
    assert_int_equal(block[0][0], 6000);
    OK(ls_h5_array_close(array, err));
    OK(ls_h5_close(file, err));
}

/* Rows of a chunk of 4 MB, one at a time: with HDF5's own cache each of the 4,000 would unpack the whole chunk, which
 * takes the processor more than ten seconds. */
static void large_chunks_are_unpacked_once(void **state) {
    (void)state;
    enum { ROWS = 4000, ROW = 500 };
    ls_h5 *file = NULL;
    ls_h5_array *array = NULL;
    const ls_h5_storage storage = {.gzip = 1, .chunk_rows = ROWS};
    uint16_t *data = ls_xcalloc(ROWS * ROW, sizeof *data), row[ROW];
    for (int i = 0; i < ROWS * ROW; i++) {
        data[i] = (uint16_t)(i / ROW);
    }
    OK(ls_h5_create(temporary("chunk.h5"), &file, err));
    OK(ls_h5_write(file, "/x", LS_H5_U16, 2, (uint64_t[]){ROWS, ROW}, data, &storage, err));
    OK(ls_h5_array_open(file, "/x", &array, err));
    clock_t start = clock();
    for (uint64_t i = 0; i < ROWS; i++) {
        OK(ls_h5_array_read(array, LS_H5_U16, i, 1, row, err));
        assert_int_equal(row[ROW - 1], i);
    }
    assert_true(clock() - start < 5 * CLOCKS_PER_SEC);
    OK(ls_h5_array_close(array, err));
    OK(ls_h5_close(file, err));
    free(data);
}

static void damage_is_found_by_checksum(void **state) {
    (void)state;
    ls_h5 *file = NULL;
    const ls_h5_storage storage = {.fletcher32 = true};
    const uint64_t dims[] = {64};
    uint64_t data[64];
    for (int i = 0; i < 64; i++) {
        data[i] = 0x1122334455667788u;
    }
    OK(ls_h5_create(temporary("damage.h5"), &file, err));
    OK(ls_h5_write(file, "/x", LS_H5_U64, 1, dims, data, &storage, err));
    OK(ls_h5_close(file, err));
    char *bytes = NULL;
    size_t n = 0;
    OK(ls_file_read(temporary("damage.h5"), &bytes, &n, err));
    char *at = memmem(bytes, n, data, 64);
    assert_non_null(at);
    at[3] ^= 1;
    temporary_write("damage.h5", bytes, n);
    free(bytes);
    OK(ls_h5_open(temporary("damage.h5"), &file, err));
    FAILS(ECORRUPT, "damage.h5:/x: rows 0 to 64 cannot be read", ls_h5_read(file, "/x", LS_H5_U64, 64, data, err));
    ls_h5_discard(file);
}

static void every_type_of_h5py(void **state) {
    (void)state;
    static const struct {
        const char *path;
        ls_h5_type type;
    } cases[] = {{"/arrays/f2", LS_H5_F16},    {"/arrays/f4", LS_H5_F32}, {"/arrays/f8", LS_H5_F64},
                 {"/arrays/i1", LS_H5_I8},     {"/arrays/i2", LS_H5_I16}, {"/arrays/i4", LS_H5_I32},
                 {"/arrays/i8", LS_H5_I64},    {"/arrays/u1", LS_H5_U8},  {"/arrays/u2", LS_H5_U16},
                 {"/arrays/u4", LS_H5_U32},    {"/arrays/u8", LS_H5_U64}, {"/arrays/be_f4", LS_H5_F32},
                 {"/arrays/be_i2", LS_H5_I16}, {"/soft", LS_H5_F32}};
    ls_h5 *file = spellings();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ls_h5_info info;
        OK(ls_h5_info_of(file, cases[i].path, &info, err));
        assert_int_equal(info.type, cases[i].type);
        assert_int_equal(info.n_elems, 6);
        float values[6];
        OK(ls_h5_read(file, cases[i].path, LS_H5_F32, 6, values, err));
        for (int k = 0; k < 6; k++) {
            assert_true(values[k] == (float)k);
        }
    }
    uint8_t flags[6];
    const uint8_t expected[6] = {1, 0, 0, 1, 1, 1};
    OK(ls_h5_read(file, "/arrays/bool", LS_H5_BOOL, 6, flags, err));
    assert_memory_equal(flags, expected, 6);
    uint16_t halves[6];
    OK(ls_h5_read(file, "/arrays/f2", LS_H5_F16, 6, halves, err));
    assert_int_equal(halves[1], 0x3c00);
    ls_h5_info info;
    OK(ls_h5_info_of(file, "/arrays/scalar", &info, err));
    assert_int_equal(info.rank, 0);
    assert_int_equal(info.n_rows, 1);
    OK(ls_h5_info_of(file, "/arrays/empty", &info, err));
    assert_int_equal(info.n_elems, 0);
    FAILS(EINPUT, "not numbers", ls_h5_info_of(file, "/arrays/text", &info, err));
    FAILS(EINPUT, "not numbers", ls_h5_info_of(file, "/arrays/compound", &info, err));
    ls_h5_discard(file);
}

static void finds_objects(void **state) {
    (void)state;
    ls_h5 *file = spellings();
    assert_int_equal(ls_h5_kind_of(file, "/"), LS_H5_GROUP);
    assert_int_equal(ls_h5_kind_of(file, "arrays"), LS_H5_GROUP);
    assert_int_equal(ls_h5_kind_of(file, "/arrays/"), LS_H5_GROUP);
    assert_int_equal(ls_h5_kind_of(file, "/arrays/f4"), LS_H5_ARRAY);
    assert_int_equal(ls_h5_kind_of(file, "/soft"), LS_H5_ARRAY);
    assert_int_equal(ls_h5_kind_of(file, "/soft_broken"), LS_H5_NOTHING);
    assert_int_equal(ls_h5_kind_of(file, "/arrays/f4/deeper"), LS_H5_NOTHING);
    assert_int_equal(ls_h5_kind_of(file, "/x/y/z"), LS_H5_NOTHING);
    assert_int_equal(ls_h5_kind_of(file, ""), LS_H5_NOTHING);
    ls_h5_names names;
    OK(ls_h5_members(file, "/", &names, err));
    assert_int_equal(names.n, 3);
    assert_string_equal(names.items[0], "arrays");
    assert_string_equal(names.items[2], "soft_broken");
    ls_h5_names_release(&names);
    ls_h5_info info;
    FAILS(EINPUT,
          "h5py_spellings.h5:/train/x: there is no such array: \"train/x\" is not in /, which holds arrays, soft",
          ls_h5_info_of(file, "/train/x", &info, err));
    FAILS(EINPUT, "\"x\" is not in /arrays, which holds be_f4", ls_h5_info_of(file, "/arrays/x", &info, err));
    FAILS(EINPUT, "/arrays: is a group; an array was expected", ls_h5_info_of(file, "/arrays", &info, err));
    FAILS(EINPUT, "there is no such group", ls_h5_members(file, "/nowhere", &names, err));
    FAILS(EINPUT, "is not a group", ls_h5_members(file, "/arrays/f4", &names, err));
    ls_h5_discard(file);
}

static void check_string(ls_h5 *file, const char *name, const char *expected) {
    char *text = NULL;
    OK(ls_h5_attr_get_string(file, "/", name, &text, err));
    assert_string_equal(text, expected);
    free(text);
}

static void check_strings(ls_h5 *file, const char *name, size_t n, const char *const *expected) {
    ls_h5_names names;
    OK(ls_h5_attr_get_strings(file, "/", name, &names, err));
    assert_int_equal(names.n, n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(names.items[i], expected[i]);
    }
    ls_h5_names_release(&names);
}

static void attributes_of_h5py(void **state) {
    (void)state;
    ls_h5 *file = spellings();
    check_string(file, "vlen_utf8", "Z\xc3\xbcrich");
    check_string(file, "vlen_ascii", "plain");
    check_string(file, "fixed", "fixed");
    check_string(file, "nullterm", "term");
    check_string(file, "spacepad", "space");
    check_strings(file, "list_fixed", 3, (const char *[]){"dense", "conv2d", ""});
    check_strings(file, "list_vlen", 3, (const char *[]){"dense", "conv2d", ""});
    check_strings(file, "cut", 3, (const char *[]){"a", "b", "c"});
    check_strings(file, "empty_float", 0, NULL);
    check_strings(file, "empty_null", 0, NULL);
    check_strings(file, "fixed", 1, (const char *[]){"fixed"});
    int64_t number = 0;
    OK(ls_h5_attr_get_int(file, "/", "i32", &number, err));
    assert_int_equal(number, -7);
    OK(ls_h5_attr_get_int(file, "/", "be", &number, err));
    assert_int_equal(number, 258);
    int64_t three[3];
    OK(ls_h5_attr_get_ints(file, "/", "u8_list", 3, three, err));
    assert_int_equal(three[2], 3);
    double real = 0;
    OK(ls_h5_attr_get_double(file, "/", "f32", &real, err));
    assert_true(real == 0.5);
    OK(ls_h5_attr_get_double(file, "/", "i32", &real, err));
    assert_true(real == -7);
    char *text = NULL;
    ls_h5_names names;
    FAILS(EINPUT, "\"f32\" is not an integer", ls_h5_attr_get_int(file, "/", "f32", &number, err));
    FAILS(EINPUT, "\"fixed\" is not a number", ls_h5_attr_get_double(file, "/", "fixed", &real, err));
    FAILS(EINPUT, "holds 3 numbers; 1 were expected", ls_h5_attr_get_int(file, "/", "u8_list", &number, err));
    FAILS(EINPUT, "\"i32\" is not text", ls_h5_attr_get_string(file, "/", "i32", &text, err));
    FAILS(EINPUT, "is a list of 3", ls_h5_attr_get_string(file, "/", "list_vlen", &text, err));
    FAILS(EINPUT, "has no attribute \"no\"", ls_h5_attr_get_strings(file, "/", "no", &names, err));
    FAILS(EINPUT, "no such object", ls_h5_attr_get_string(file, "/no", "no", &text, err));
    assert_true(ls_h5_attr_has(file, "/", "f32"));
    assert_false(ls_h5_attr_has(file, "/", "f33"));
    assert_false(ls_h5_attr_has(file, "/none", "f32"));
    ls_h5_discard(file);
}

static void attributes_written(void **state) {
    (void)state;
    ls_h5 *file = NULL;
    size_t big = 300000;
    char *text = ls_xcalloc(big + 1, 1);
    memset(text, 'q', big);
    OK(ls_h5_create(temporary("attributes.h5"), &file, err));
    OK(ls_h5_attr_set_string(file, "/", "big", text, LS_H5_VARIABLE, err));
    FAILS(EIO, "\"big2\" cannot be written", ls_h5_attr_set_string(file, "/", "big2", text, LS_H5_FIXED, err));
    OK(ls_h5_attr_set_string(file, "/", "fixed", "first", LS_H5_FIXED, err));
    OK(ls_h5_attr_set_string(file, "/", "fixed", "second, longer", LS_H5_FIXED, err));
    OK(ls_h5_attr_set_string(file, "/", "nothing", "", LS_H5_FIXED, err));
    OK(ls_h5_attr_set_strings(file, "/", "list", (const char *[]){"a", "", "ccc"}, 3, err));
    OK(ls_h5_attr_set_strings(file, "/", "empty", NULL, 0, err));
    OK(ls_h5_group_create(file, "/g/h", err));
    OK(ls_h5_group_create(file, "/g", err));
    OK(ls_h5_attr_set_int(file, "/g/h", "least", INT64_MIN, err));
    OK(ls_h5_attr_set_double(file, "/g/h", "third", 1.0 / 3, err));
    FAILS(EINPUT, "no such object", ls_h5_attr_set_int(file, "/nowhere", "n", 1, err));
    OK(ls_h5_close(file, err));

    OK(ls_h5_open_writable(temporary("attributes.h5"), &file, err));
    check_string(file, "big", text);
    check_string(file, "fixed", "second, longer");
    check_string(file, "nothing", "");
    check_strings(file, "list", 3, (const char *[]){"a", "", "ccc"});
    check_strings(file, "empty", 0, NULL);
    int64_t least;
    double third;
    OK(ls_h5_attr_get_int(file, "/g/h", "least", &least, err));
    assert_true(least == INT64_MIN);
    OK(ls_h5_attr_get_double(file, "/g/h", "third", &third, err));
    assert_true(third == 1.0 / 3);
    OK(ls_h5_close(file, err));
    free(text);
}

/* 4,000 names of 40 bytes are 160,000 bytes: three parts of 1334, 1333 and 1333. */
static void long_lists_are_cut(void **state) {
    (void)state;
    ls_h5 *file = NULL;
    enum { N = 4000 };
    char **names = ls_xcalloc(N, sizeof *names);
    for (int i = 0; i < N; i++) {
        names[i] = ls_xprintf("layer_with_a_long_name_of_forty_bytes_%02d", i % 100);
    }
    OK(ls_h5_create(temporary("lists.h5"), &file, err));
    OK(ls_h5_attr_set_strings(file, "/", "names", (const char *const *)names, N, err));
    assert_false(ls_h5_attr_has(file, "/", "names"));
    assert_true(ls_h5_attr_has(file, "/", "names2"));
    assert_false(ls_h5_attr_has(file, "/", "names3"));
    ls_h5_names first;
    OK(ls_h5_attr_get_strings(file, "/", "names0", &first, err));
    assert_int_equal(first.n, 1334);
    ls_h5_names_release(&first);
    check_strings(file, "names", N, (const char *const *)names);
    OK(ls_h5_attr_set_strings(file, "/", "names", (const char *const *)names, 2, err));
    check_strings(file, "names", 2, (const char *const *)names);
    assert_false(ls_h5_attr_has(file, "/", "names0"));
    OK(ls_h5_close(file, err));
    for (int i = 0; i < N; i++) {
        free(names[i]);
    }
    free(names);
}

static void bad_files(void **state) {
    (void)state;
    ls_h5 *file = NULL;
    FAILS(EINPUT, "No such file", ls_h5_open(temporary("none.h5"), &file, err));
    FAILS(EINPUT, "is not a file", ls_h5_open(temporary_folder, &file, err));
    temporary_write("empty.h5", "", 0);
    FAILS(EINPUT, "is not an HDF5 file", ls_h5_open(temporary("empty.h5"), &file, err));
    temporary_write("foreign.h5", "PK\3\4 something else entirely", 28);
    FAILS(EINPUT, "foreign.h5: is not an HDF5 file", ls_h5_open(temporary("foreign.h5"), &file, err));
    FAILS(EINPUT, "cannot be created", ls_h5_create(temporary("no/folder.h5"), &file, err));
    assert_null(file);

    float data[1000] = {1};
    const uint64_t dims[] = {1000};
    OK(ls_h5_create(temporary("whole.h5"), &file, err));
    OK(ls_h5_write(file, "/x", LS_H5_F32, 1, dims, data, NULL, err));
    OK(ls_h5_close(file, err));
    char *bytes = NULL;
    size_t n = 0;
    OK(ls_file_read(temporary("whole.h5"), &bytes, &n, err));
    temporary_write("cut.h5", bytes, n - 100);
    free(bytes);
    file = NULL;
    FAILS(ECORRUPT, "cut.h5: is damaged or truncated", ls_h5_open(temporary("cut.h5"), &file, err));
    assert_null(file);
}

/* Take the places of the C library's in this program, HDF5 included: every look at the date is an hour later. */
static time_t next_hour(void) {
    static time_t now = 1000000000;
    return now += 3600;
}

time_t time(time_t *now) {
    time_t value = next_hour();
    if (now != NULL) {
        *now = value;
    }
    return value;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    *now = (struct timeval){.tv_sec = next_hour()};
    return 0;
}

static void same_calls_same_bytes(void **state) {
    (void)state;
    char *bytes[2];
    size_t n[2];
    for (int i = 0; i < 2; i++) {
        ls_h5 *file = NULL;
        const uint64_t dims[] = {3};
        OK(ls_h5_create(temporary("same.h5"), &file, err));
        OK(ls_h5_group_create(file, "/g", err));
        OK(ls_h5_write(file, "/g/h/x", LS_H5_F32, 1, dims, (float[]){1, 2, 3}, NULL, err));
        OK(ls_h5_attr_set_string(file, "/g", "text", "words", LS_H5_VARIABLE, err));
        OK(ls_h5_close(file, err));
        OK(ls_file_read(temporary("same.h5"), &bytes[i], &n[i], err));
    }
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    free(bytes[0]);
    free(bytes[1]);
}

static void *read_much(void *file) {
    for (int i = 0; i < 200; i++) {
        float values[6];
        ls_err err = LS_ERR_INIT;
        ls_h5_names names;
        if (ls_h5_read(file, "/arrays/be_f4", LS_H5_F32, 6, values, &err) != LS_OK || values[5] != 5 ||
            ls_h5_members(file, "/nowhere", &names, &err) != LS_EINPUT) {
            return "failed";
        }
    }
    return NULL;
}

static void many_threads(void **state) {
    (void)state;
    ls_h5 *file = spellings();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_much, file), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
    ls_h5_discard(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_and_reads_arrays),
        cmocka_unit_test(reads_rows),
        cmocka_unit_test(compresses_block_by_block),
        cmocka_unit_test(damage_is_found_by_checksum),
        cmocka_unit_test(every_type_of_h5py),
        cmocka_unit_test(finds_objects),
        cmocka_unit_test(attributes_of_h5py),
        cmocka_unit_test(attributes_written),
        cmocka_unit_test(long_lists_are_cut),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(large_chunks_are_unpacked_once),
        cmocka_unit_test(same_calls_same_bytes),
        cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, temporary_setup, temporary_teardown);
}
