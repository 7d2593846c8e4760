#include "storage/checkpoint_diff.h"

#include <math.h>

#include "tests/unit/storage/checkpoint_sample.h"

static char *diff_text(const ls_checkpoint *a, const ls_checkpoint *b, size_t expected) {
    char *text = NULL;
    size_t n;
    FILE *to = open_memstream(&text, &n);
    assert_non_null(to);
    assert_int_equal(ls_checkpoint_print_diff(a, b, to), expected);
    assert_int_equal(fclose(to), 0);
    return text;
}

static void same(void **state) {
    (void)state;
    ls_checkpoint a = sample(1, 2), b = sample(1, 2);
    ((float *)a.layers[1].weights[0].data)[2] = ((float *)b.layers[1].weights[0].data)[2] = NAN;
    char *text = diff_text(&a, &b, 0);
    assert_string_equal(text, "all 16 arrays and scalars are the same\n");
    free(text);
    ls_checkpoint_release(&a);
    ls_checkpoint_release(&b);
}

static void each_kind(void **state) {
    (void)state;
    ls_checkpoint a = sample(1, 2), b = sample(3, 4);
    void *any;
    ((float *)b.layers[1].weights[0].data)[2] += 1;
    ((float *)b.layers[1].weights[0].data)[4] -= 0.5f;
    ((float *)b.layers[2].weights[3].data)[0] = INFINITY;
    ((float *)b.slots[0].array.data)[1] += 2;
    *(int64_t *)b.arrays[2].data = 0;
    ls_checkpoint_set_scalar(&b, "iterations", 5);
    ls_checkpoint_set_scalar(&b, "momentum", 5);
    ls_checkpoint_set_text(&b.state, "{}");
    assert_ok(ls_checkpoint_add_array(&a, "extra", LS_H5_U8, 0, NULL, &any, err));
    a.layers[1].weights[1].dims[0] = 1;
    char *text = diff_text(&a, &b, 8);
    assert_string_equal(text,
                        "layer dense, weight dense/kernel:0: 2 of 15 values differ, by at most 1; the first at 2: 1.5, "
                        "2.5\n"
                        "layer dense, weight dense/bias:0: has another shape or type\n"
                        "layer norm, weight norm/moving_variance:0: 1 of 3 values differ, by at most inf (some are not "
                        "finite); the first at 0: 3, inf\n"
                        "layer dense, slot m of dense/kernel:0: 1 of 15 values differ, by at most 2; the first at 1: "
                        "0.25, 2.25\n"
                        "scalar iterations: 1234567, 5\n"
                        "scalar momentum: only in b\n"
                        "array metrics/count: 1 of 1 values differ, by at most 9.22337204e+18; the first at 0: "
                        "-9.22337204e+18, 0\n"
                        "array extra: only in a\n"
                        "epoch and step: 1, 2 and 3, 4\n"
                        "state: not the same text\n"
                        "8 of 18 arrays and scalars differ\n");
    free(text);
    a.layers[1].weights[1].dims[0] = 3;
    ls_checkpoint_release(&a);
    ls_checkpoint_release(&b);
}

static void another_model(void **state) {
    (void)state;
    ls_checkpoint a = sample(1, 2), b = {0};
    char *text = diff_text(&a, &b, 16);
    assert_non_null(strstr(text, "layer norm, weight norm/beta:0: only in a\n"));
    free(text);
    text = diff_text(&b, &a, 16);
    assert_non_null(strstr(text, "layer dense, slot v of dense/bias:0: only in b\n"));
    free(text);
    ls_checkpoint_release(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same), cmocka_unit_test(each_kind),
                                       cmocka_unit_test(another_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
