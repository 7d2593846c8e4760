/* A step takes nothing from the heap: every way to allocate is counted while a plan runs. */
#include "ops_fixture.h"

#include <errno.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)

static void test_no_allocation(void **state) {
    (void)state;
    skip(); /* a sanitizer has its own allocator */
}

#else

static bool counting;
static int n_allocations;

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n) {
    n_allocations += counting;
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
    n_allocations += counting;
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n) {
    n_allocations += counting;
    return __libc_realloc(p, n);
}
void *aligned_alloc(size_t align, size_t n) {
    n_allocations += counting;
    return __libc_memalign(align, n);
}
int posix_memalign(void **out, size_t align, size_t n) {
    n_allocations += counting;
    *out = __libc_memalign(align, n);
    return *out == NULL ? ENOMEM : 0;
}

static void build(fixture *f, ls_dtype compute) {
    static const ls_conv_attr conv = {
        .n_spatial = 2, .kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1};
    static const ls_batch_norm_attr norm = {.axis = 2, .epsilon = 1e-3f, .scale = true, .center = true};
    static const ls_pool_attr pool = {.n_spatial = 2, .kernel = {2, 2}, .stride = {2, 2}};
    static const ls_dropout_attr dropout = {0.25, 7};
    static const ls_act_attr softmax = {.kind = LS_ACT_SOFTMAX, .axis = 0};
    fx_init(f, 4);
    f->compute = compute;
    ls_shape per_channel = fx_shape(1, 16), wide = fx_shape(3, 8, 8, 16), half = fx_shape(3, 4, 4, 16);
    ls_tensor *t = fx_input(f, fx_shape(3, 10, 10, 3));
    ls_weight *w[] = {fx_weight(f, fx_shape(4, 3, 3, 3, 16)), fx_weight(f, per_channel), NULL};
    t = fx_node(f, &ls_op_conv, &conv, (ls_tensor *[]){t, NULL}, w, wide);
    t = fx_unary(f, &ls_op_activation, &fx_relu, t, wide);
    ls_weight *n[] = {fx_weight(f, per_channel), fx_weight(f, per_channel), fx_stat(f, per_channel),
                      fx_stat(f, per_channel), NULL};
    t = fx_node(f, &ls_op_batch_norm, &norm, (ls_tensor *[]){t, NULL}, n, wide);
    t = fx_unary(f, &ls_op_pool, &pool, t, half);
    t = fx_unary(f, &ls_op_dropout, &dropout, t, half);
    t = fx_unary(f, &ls_op_view, NULL, t, fx_shape(1, 256));
    ls_weight *d[] = {fx_weight(f, fx_shape(2, 256, 10)), fx_weight(f, fx_shape(1, 10)), NULL};
    t = fx_node(f, &ls_op_dense, NULL, (ls_tensor *[]){t, NULL}, d, fx_shape(1, 10));
    fx_unary(f, &ls_op_activation, &softmax, t, fx_shape(1, 10));
}

static void check(ls_dtype compute) {
    static const uint32_t index[4] = {1, 2, 3, 4};
    fixture f;
    build(&f, compute);
    fx_run(&f);
    ls_run run = {4, 1, 0.25f, 1.0f, 7, 3, index};
    n_allocations = 0;
    counting = true;
    for (int step = 0; step < 3; step++) {
        ls_plan_run_prepare(f.plan, &run);
        ls_plan_run_forward(f.plan, &run);
        ls_plan_run_backward(f.plan, &run, NULL, NULL);
    }
    counting = false;
    assert_int_equal(n_allocations, 0);
    fx_release(&f);
}

static void test_no_allocation(void **state) {
    (void)state;
    counting = true;
    free(ls_xcalloc(1, 1));
    counting = false;
    assert_true(n_allocations > 0); /* the counter counts */
    if (strncmp(ls_dnn_isa(), "avx512", 6) != 0) {
        skip(); /* oneDNN's matrix products for older processors pack into memory that they allocate themselves */
    }
    check(LS_F32);
    if (ls_dnn_has_bf16()) {
        check(LS_BF16);
    }
}

#endif

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
