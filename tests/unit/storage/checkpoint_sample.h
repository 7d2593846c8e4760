/* A folder that is there for one test, and a small checkpoint. */
#ifndef LS_TESTS_CHECKPOINT_SAMPLE_H
#define LS_TESTS_CHECKPOINT_SAMPLE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <ftw.h>

#include "common/file.h"
#include "storage/checkpoint.h"

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static inline int folder_setup(void **state) {
    char *folder = strdup("/tmp/lockstep-test-XXXXXX");
    *state = folder;
    return folder != NULL && mkdtemp(folder) != NULL ? 0 : -1;
}

static inline int folder_teardown(void **state) {
    int failed = nftw(*state, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return failed;
}

#define assert_ok(call)                              \
    do {                                             \
        ls_err ok_err = LS_ERR_INIT, *err = &ok_err; \
        if ((call) != LS_OK) {                       \
            fail_msg("%s: %s", #call, ok_err.text);  \
        }                                            \
    } while (0)

static inline void fill(float *x, size_t n, float from) {
    for (size_t i = 0; i < n; i++) {
        x[i] = from + 0.25f * (float)i;
    }
}

/* flatten (no weights), dense (kernel (5, 3), bias (3)), norm (four of (3)); Adam; one extra array of each kind. */
static inline ls_checkpoint sample(int64_t epoch, int64_t step) {
    ls_checkpoint c = {.has_state = true, .epoch = epoch, .step = step};
    const uint64_t kernel[] = {5, 3}, three[] = {3};
    float *x;
    void *any;
    ls_checkpoint_set_text(&c.model_config, "{\"class_name\":\"Sequential\"}");
    ls_checkpoint_set_text(&c.training_config, "{\"loss\":\"mean_squared_error\"}");
    ls_checkpoint_set_text(&c.state, "{\"seed\":7,\"history\":[{\"epoch\":1,\"loss\":0.5}]}");
    assert_ok(ls_checkpoint_add_layer(&c, "flatten", err));
    assert_ok(ls_checkpoint_add_layer(&c, "dense", err));
    assert_ok(ls_checkpoint_add_weight(&c, "dense/kernel:0", 2, kernel, &x, err));
    fill(x, 15, 1.0f);
    assert_ok(ls_checkpoint_add_weight(&c, "dense/bias:0", 1, three, &x, err));
    fill(x, 3, -2.0f);
    assert_ok(ls_checkpoint_add_layer(&c, "norm", err));
    static const char *const norm[] = {"norm/gamma:0", "norm/beta:0", "norm/moving_mean:0", "norm/moving_variance:0"};
    for (int i = 0; i < 4; i++) {
        assert_ok(ls_checkpoint_add_weight(&c, norm[i], 1, three, &x, err));
        fill(x, 3, (float)i);
    }
    static const char *const slots[] = {"m", "v"};
    for (int i = 0; i < 2; i++) {
        assert_ok(ls_checkpoint_add_slot(&c, slots[i], "dense", "dense/kernel:0", &x, err));
        fill(x, 15, 10.0f * (float)i);
        assert_ok(ls_checkpoint_add_slot(&c, slots[i], "dense", "dense/bias:0", &x, err));
        fill(x, 3, 20.0f * (float)i);
    }
    ls_checkpoint_set_scalar(&c, "iterations", 1234567);
    ls_checkpoint_set_scalar(&c, "learning_rate", 1e-3);
    assert_ok(ls_checkpoint_add_array(&c, "early_stopping/best/dense/bias:0", LS_H5_F32, 1, three, &any, err));
    fill(any, 3, 5.0f);
    assert_ok(ls_checkpoint_add_array(&c, "metrics/sums", LS_H5_F64, 1, three, &any, err));
    ((double *)any)[1] = 0.1;
    assert_ok(ls_checkpoint_add_array(&c, "metrics/count", LS_H5_I64, 0, NULL, &any, err));
    *(int64_t *)any = INT64_MIN;
    assert_ok(ls_checkpoint_add_array(&c, "mask", LS_H5_U8, 1, three, &any, err));
    ((uint8_t *)any)[2] = 255;
    return c;
}

static inline char *digest_of(const ls_checkpoint *c) {
    static char text[2][LS_CHECKPOINT_DIGEST_CHARS];
    static int turn;
    turn = !turn;
    ls_checkpoint_digest(c, text[turn]);
    return text[turn];
}

#endif
