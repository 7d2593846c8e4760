/* C++'s operator new and delete as the program replaces them: what is handed out again, to whom, and in what state. */
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/memory.h"
#include "worker/dnn/dnn_private.h"

#if LS_DNN_KEEPS_SMALL_OBJECTS

enum { LARGEST = 512, MANY = 1000, MOST = 64, STEP = 16 };

/* ---- the heap, watched: what a thread takes from it while it watches, and whether that comes back, from whomever ----
 */

void *__libc_malloc(size_t n_bytes);
void __libc_free(void *p);

static _Thread_local bool watching;
static _Thread_local int n_taken, n_given; /* blocks that this thread has taken and given back since */
static void *_Atomic taken[4 * MANY];      /* those that are not given back yet */

static int n_left(void) {
    int n = 0;
    for (int i = 0; i < 4 * MANY; i++) {
        n += taken[i] != NULL;
    }
    return n;
}

static void watch(void) {
    watching = true;
    n_taken = n_given = 0;
}

void *malloc(size_t n_bytes) {
    void *p = __libc_malloc(n_bytes), *none = NULL;
    for (int i = 0; watching && i < 4 * MANY; i++, none = NULL) {
        if (atomic_compare_exchange_strong(&taken[i], &none, p)) {
            n_taken++;
            break;
        }
    }
    return p;
}

void free(void *p) {
    for (int i = 0; p != NULL && i < 4 * MANY; i++) {
        void *same = p;
        if (atomic_load_explicit(&taken[i], memory_order_relaxed) == p &&
            atomic_compare_exchange_strong(&taken[i], &same, NULL)) {
            break;
        }
    }
    n_given += watching;
    __libc_free(p);
}

/* In a thread of its own, whose lists are empty at first. It returns what did not hold, since cmocka's asserts are for
 * the test's thread alone. */
static void in_a_thread(void *(*run)(void *), void *arg) {
    pthread_t thread;
    void *broken = NULL;
    assert_int_equal(pthread_create(&thread, NULL, run, arg), 0);
    assert_int_equal(pthread_join(thread, &broken), 0);
    if (broken != NULL) {
        fail_msg("%s", (const char *)broken);
    }
}
#define HOLDS(condition)     \
    if (!(condition)) {      \
        return (#condition); \
    }

/* ---- tests ---- */

static void test_block_is_handed_out_again(void **state) {
    (void)state;
    ls_dnn_engine();
    for (size_t n = 0; n <= LARGEST; n++) {
        void *a = ls_operator_new(n);
        assert_int_equal((uintptr_t)a % 16, 0);
        memset(a, 0xa5, n);
        ls_operator_delete_sized(a, n);
        assert_ptr_equal(ls_operator_new(n), a);
        ls_operator_delete(a);
    }
}

/* Blocks of all sizes at once keep their bytes, and a block of one size never serves a larger one. */
static void test_blocks_do_not_overlap(void **state) {
    (void)state;
    unsigned char *block[MANY];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            size_t n = (size_t)(i * 7 + round) % (LARGEST + 100) + 1;
            block[i] = ls_operator_new(n);
            memset(block[i], i % 251, n);
        }
        for (int i = 0; i < MANY; i++) {
            size_t n = (size_t)(i * 7 + round) % (LARGEST + 100) + 1;
            for (size_t k = 0; k < n; k++) {
                assert_int_equal(block[i][k], i % 251);
            }
            ls_operator_delete(block[i]);
        }
    }
}

/* Blocks of malloc may end in delete, and new ones in free, as when a library has its own operator new. */
static void test_blocks_of_others(void **state) {
    (void)state;
    for (size_t n = 1; n < 2 * LARGEST; n++) {
        unsigned char *a = ls_xcalloc(1, n);
        ls_operator_delete(a);
        unsigned char *b = ls_operator_new(n);
        memset(b, 1, n);
        free(b);
    }
    ls_operator_delete(NULL);
}

typedef struct heap {
    void *block[MANY];
} heap;

static void *free_all(void *arg) {
    heap *h = arg;
    for (int i = 0; i < MANY; i++) {
        ls_operator_delete(h->block[i]);
    }
    for (int i = 0; i < MANY; i++) {
        h->block[i] = ls_operator_new((size_t)i % LARGEST + 1);
        memset(h->block[i], 2, (size_t)i % LARGEST + 1);
    }
    return NULL;
}

/* One thread's blocks are freed by another, which ends; its own are freed by the first. */
static void test_blocks_change_threads(void **state) {
    (void)state;
    heap h;
    for (int i = 0; i < MANY; i++) {
        h.block[i] = ls_operator_new((size_t)i % LARGEST + 1);
    }
    for (int n = 0; n < 3; n++) {
        in_a_thread(free_all, &h);
    }
    for (int i = 0; i < MANY; i++) {
        ls_operator_delete(h.block[i]);
    }
}

static pthread_key_t late;
static void *late_block;

static void free_late(void *block) {
    ls_operator_delete(block);
    late_block = ls_operator_new(40);
    ls_operator_delete(
        ls_operator_new(100)); /* its spare too goes to the heap: nobody would empty the lists any more */
}

static void *use_and_leave(void *unused) {
    (void)unused;
    watch();
    ls_operator_delete(ls_operator_new(40));
    HOLDS(pthread_setspecific(late, ls_operator_new(40)) == 0);
    return NULL;
}

/* A thread's last objects are freed by a destructor that runs after its lists were given back. */
static void test_after_the_end_of_a_thread(void **state) {
    (void)state;
    ls_dnn_engine(); /* its key comes first, and so does that key's destructor */
    assert_int_equal(pthread_key_create(&late, free_late), 0);
    int before = n_left();
    in_a_thread(use_and_leave, NULL);
    memset(late_block, 3, 40);
    ls_operator_delete(late_block);
    free(ls_operator_new(40)); /* the block, which this thread has kept */
    assert_int_equal(n_left(), before);
    assert_int_equal(pthread_key_delete(late), 0);
}

/* What malloc gives comes with a spare, once for each block more than there have been at a time. */
static void *take_spares(void *unused) {
    (void)unused;
    void *block[4];
    watch();
    for (int i = 0; i < 4; i++) {
        block[i] = ls_operator_new(200);
        HOLDS(n_taken == (i < 2 ? 2 : 4));
    }
    for (int round = 0; round < 3 * MOST; round++) { /* there and back: nothing from the heap, nothing to it */
        for (int i = 0; i < 4; i++) {
            ls_operator_delete(block[i]);
        }
        for (int i = 0; i < 4; i++) {
            block[i] = ls_operator_new(200);
        }
    }
    HOLDS(n_taken == 4);
    HOLDS(n_given == 0);
    for (int i = 0; i < 4; i++) {
        ls_operator_delete(block[i]);
    }
    return NULL;
}

static void test_spares(void **state) {
    (void)state;
    ls_dnn_engine();
    int before = n_left();
    in_a_thread(take_spares, NULL);
    assert_int_equal(n_left(), before); /* the end of the thread gave them back */
}

/* A thread that only frees keeps so many of a size, and gives the rest to the heap. */
static void *only_free(void *arg) {
    heap *h = arg;
    int n[LARGEST] = {0}, n_more = 0;
    watch();
    for (int i = 0; i < MANY; i++) {
        n_more += n[malloc_usable_size(h->block[i]) / STEP]++ >= MOST;
        ls_operator_delete(h->block[i]);
    }
    HOLDS(n_more >= MANY / 2 && n_given == n_more);
    return NULL;
}

static void test_most_that_is_kept(void **state) {
    (void)state;
    heap h;
    ls_dnn_engine();
    for (int i = 0; i < MANY; i++) {
        h.block[i] = ls_xcalloc(1, 4 * STEP);
    }
    in_a_thread(only_free, &h);
}

/* A small object takes no block that is more than a step too large. */
static void *take_small(void *unused) {
    (void)unused;
    void *large = ls_operator_new(LARGEST - STEP);
    ls_operator_delete(large);
    for (size_t n = STEP; n < LARGEST - 3 * STEP; n += STEP) {
        HOLDS(ls_operator_new(n) != large);
    }
    return NULL;
}

static void test_no_block_that_is_far_too_large(void **state) {
    (void)state;
    ls_dnn_engine();
    in_a_thread(take_small, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_is_handed_out_again), cmocka_unit_test(test_blocks_do_not_overlap),
        cmocka_unit_test(test_blocks_of_others),          cmocka_unit_test(test_blocks_change_threads),
        cmocka_unit_test(test_after_the_end_of_a_thread), cmocka_unit_test(test_spares),
        cmocka_unit_test(test_most_that_is_kept),         cmocka_unit_test(test_no_block_that_is_far_too_large),
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
