/* A gradient that is made in several calls: what is said to be complete is, and its weight is not read any more. */
#include "ops_fixture.h"

enum { IN = 272, UNITS = 512, SAMPLES = 24 };

typedef struct watch {
    fixture *f;
    const ls_weight *w;
    const float *wanted; /* the gradient of the whole pass */
    size_t n;            /* floats that were complete so far */
    int n_pieces;
} watch;

/* What the engine would do with a complete piece: it changes the weight. */
static void use_piece(void *context, int call) {
    watch *t = context;
    const ls_arena_slot *slot = &t->f->arena->slot[t->w->id];
    const size_t n = ls_plan_ready_after(t->f->plan, t->w, call), upto = n < slot->n_elems ? n : slot->n_elems;
    assert_true(upto >= t->n);
    assert_memory_equal(t->f->gradients + slot->offset, t->wanted, upto * sizeof *t->wanted);
    if (upto > t->n) {
        assert_int_equal(ls_plan_ready_call_upto(t->f->plan, t->w, upto), call);
        assert_int_equal(ls_plan_ready_call_upto(t->f->plan, t->w, t->n + 1), call);
        t->n_pieces++;
    }
    for (; t->n < upto; t->n++) {
        t->f->values[slot->offset + t->n] = NAN;
    }
}

static void *copy_of(const float *x, size_t n) {
    return memcpy(ls_xcalloc(n, sizeof *x), x, n * sizeof *x);
}

/* One dense layer; or two that share their weights. */
static void check(ls_dtype compute, int n_threads, bool shared, int least_pieces) {
    fixture f;
    fx_init(&f, SAMPLES);
    f.compute = compute;
    f.n_threads = n_threads;
    const int in = shared ? UNITS : IN;
    ls_weight *kernel = fx_weight(&f, fx_shape(2, in, UNITS)), *bias = fx_weight(&f, fx_shape(1, UNITS));
    ls_tensor *first = fx_input(&f, fx_shape(1, in));
    fx_node(&f, &ls_op_dense, NULL, (ls_tensor *[]){first, NULL}, (ls_weight *[]){kernel, bias, NULL},
            fx_shape(1, UNITS));
    if (shared) {
        fx_node(&f, &ls_op_dense, NULL, (ls_tensor *[]){f.nodes[0]->out[0], NULL}, (ls_weight *[]){kernel, bias, NULL},
                fx_shape(1, UNITS));
    }
    fx_run(&f);
    const ls_arena_slot *slot = &f.arena->slot[kernel->id];
    float *dw = copy_of(f.gradients + slot->offset, slot->n_elems);
    float *dx = copy_of(ls_plan_input_gradient(f.plan, 0), (size_t)SAMPLES * (size_t)in);
    memset(f.gradients + slot->offset, 0xFF, slot->n_elems * sizeof *dw);
    watch t = {.f = &f, .w = kernel, .wanted = dw};
    ls_run run = {.n_samples = SAMPLES, .n_threads = n_threads, .grad_scale = 1.0f / SAMPLES, .stat_scale = 1};
    for (size_t i = 0; i < f.n_in[0]; i++) {
        ((float *)ls_plan_input(f.plan, 0))[i] = (float)f.in[0][i];
    }
    for (size_t i = 0; i < f.n_out; i++) {
        ((float *)ls_plan_target(f.plan, 0))[i] = (float)f.target[i];
    }
    ls_plan_run_forward(f.plan, &run);
    ls_plan_run_backward(f.plan, &run, use_piece, &t);
    assert_int_equal(t.n, slot->n_elems);
    assert_true(t.n_pieces >= least_pieces);
    assert_true(!shared || t.n_pieces == 1);
    assert_memory_equal(dx, ls_plan_input_gradient(f.plan, 0), (size_t)SAMPLES * (size_t)in * sizeof *dx);
    free(dw);
    free(dx);
    fx_release(&f);
}

/* 32768 floats a thread make a piece (outer.c). */
static int pieces(int n_threads, bool bf16) {
    const char *isa = ls_dnn_isa();
    const char *wanted = bf16 ? "avx512_core_bf16" : "avx512_core";
    return strncmp(isa, wanted, strlen(wanted)) == 0 ? IN * UNITS / 32768 / n_threads : 1;
}

static void test_float32(void **state) {
    (void)state;
    check(LS_F32, 1, false, pieces(1, false));
    check(LS_F32, 2, false, pieces(2, false));
}

static void test_bfloat16(void **state) {
    (void)state;
    check(LS_BF16, 1, false, pieces(1, true));
}

/* The sum of both is complete at the end alone. */
static void test_shared(void **state) {
    (void)state;
    check(LS_F32, 1, true, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_float32), cmocka_unit_test(test_bfloat16),
                                       cmocka_unit_test(test_shared)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
