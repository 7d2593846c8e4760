/* C++'s operator new and delete as the program replaces them: what is handed out again, to whom, and in what state. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "worker/dnn/dnn_private.h"

#if LS_DNN_KEEPS_SMALL_OBJECTS

enum { LARGEST = 512, MANY = 1000 };

static void test_block_is_handed_out_again(void **state) {
    (void)state;
    ls_dnn_engine();
    for (size_t n = 0; n <= LARGEST; n++) {
        void *a = _Znwm(n);
        assert_int_equal((uintptr_t)a % 16, 0);
        memset(a, 0xa5, n);
        _ZdlPvm(a, n);
        assert_ptr_equal(_Znwm(n), a);
        _ZdlPv(a);
    }
}

/* Blocks of all sizes at once keep their bytes, and a block of one size never serves a larger one. */
static void test_blocks_do_not_overlap(void **state) {
    (void)state;
    unsigned char *block[MANY];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            size_t n = (size_t)(i * 7 + round) % (LARGEST + 100) + 1;
            block[i] = _Znwm(n);
            memset(block[i], i % 251, n);
        }
        for (int i = 0; i < MANY; i++) {
            size_t n = (size_t)(i * 7 + round) % (LARGEST + 100) + 1;
            for (size_t k = 0; k < n; k++) {
                assert_int_equal(block[i][k], i % 251);
            }
            _ZdlPv(block[i]);
        }
    }
}

/* Blocks of malloc may end in delete, and new ones in free, as when a library has its own operator new. */
static void test_blocks_of_others(void **state) {
    (void)state;
    for (size_t n = 1; n < 2 * LARGEST; n++) {
        unsigned char *a = ls_xcalloc(1, n);
        _ZdlPv(a);
        unsigned char *b = _Znwm(n);
        memset(b, 1, n);
        free(b);
    }
    _ZdlPv(NULL);
}

typedef struct heap {
    void *block[MANY];
} heap;

static void *free_all(void *arg) {
    heap *h = arg;
    for (int i = 0; i < MANY; i++) {
        _ZdlPv(h->block[i]);
    }
    for (int i = 0; i < MANY; i++) {
        h->block[i] = _Znwm((size_t)i % LARGEST + 1);
        memset(h->block[i], 2, (size_t)i % LARGEST + 1);
    }
    return NULL;
}

/* One thread's blocks are freed by another, which ends; its own are freed by the first. */
static void test_blocks_change_threads(void **state) {
    (void)state;
    heap h;
    for (int i = 0; i < MANY; i++) {
        h.block[i] = _Znwm((size_t)i % LARGEST + 1);
    }
    for (int n = 0; n < 3; n++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, free_all, &h), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    for (int i = 0; i < MANY; i++) {
        _ZdlPv(h.block[i]);
    }
}

static pthread_key_t late;
static void *late_block;

static void free_late(void *block) {
    _ZdlPv(block);
    late_block = _Znwm(40);
}

static void *use_and_leave(void *unused) {
    (void)unused;
    _ZdlPv(_Znwm(40));
    assert_int_equal(pthread_setspecific(late, _Znwm(40)), 0);
    return NULL;
}

/* A thread's last objects are freed by a destructor that runs after its lists were given back. */
static void test_after_the_end_of_a_thread(void **state) {
    (void)state;
    ls_dnn_engine(); /* its key comes first, and so does that key's destructor */
    assert_int_equal(pthread_key_create(&late, free_late), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, use_and_leave, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    memset(late_block, 3, 40);
    _ZdlPv(late_block);
    assert_int_equal(pthread_key_delete(late), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_is_handed_out_again), cmocka_unit_test(test_blocks_do_not_overlap),
        cmocka_unit_test(test_blocks_of_others),          cmocka_unit_test(test_blocks_change_threads),
        cmocka_unit_test(test_after_the_end_of_a_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void test_nothing_is_replaced(void **state) {
    (void)state;
    skip(); /* the sanitizer's own are at work */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_is_replaced)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
