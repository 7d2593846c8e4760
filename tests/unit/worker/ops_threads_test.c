/* Lanes side by side: plans of one model that run in several threads at once give the bits that each gives alone, and
 * a plan's own element-wise kernels give the same bits with any number of threads. */
#include <pthread.h>

#include "ops_fixture.h"

static void build(fixture *f, int n_threads) {
    static const ls_conv_attr conv = {.n_spatial = 2,
                                      .kernel = {3, 3},
                                      .stride = {1, 1},
                                      .dilation = {1, 1},
                                      .pad_before = {1, 1},
                                      .pad_after = {1, 1},
                                      .groups = 1};
    static const ls_act_attr tanh_attr = {.kind = LS_ACT_TANH};
    static const ls_dropout_attr dropout = {0.25, 7};
    fx_init(f, 8);
    f->n_threads = n_threads;
    ls_shape s = fx_shape(3, 16, 16, 16);
    ls_weight *w[] = {fx_weight(f, fx_shape(4, 3, 3, 16, 16)), fx_weight(f, fx_shape(1, 16)), NULL};
    ls_tensor *t = fx_node(f, &ls_op_conv, &conv, (ls_tensor *[]){fx_input(f, s), NULL}, w, s);
    t = fx_unary(f, &ls_op_activation, &fx_relu, t, s);
    t = fx_unary(f, &ls_op_dropout, &dropout, t, s);
    fx_unary(f, &ls_op_activation, &tanh_attr, t, s);
}

enum { LANES = 3, STEPS = 5 };

static void step(fixture *f) {
    static const uint32_t index[8] = {5, 6, 7, 8, 9, 10, 11, 12};
    ls_run run = {8, f->n_threads, 0.125f, 1.0f, 7, 3, index};
    for (size_t i = 0; i < f->n_in[0]; i++) {
        ((float *)ls_plan_input(f->plan, 0))[i] = (float)f->in[0][i];
    }
    for (size_t i = 0; i < f->n_out; i++) {
        ((float *)ls_plan_target(f->plan, 0))[i] = (float)f->target[i];
    }
    ls_plan_run_prepare(f->plan, &run);
    ls_plan_run_forward(f->plan, &run);
    ls_plan_run_backward(f->plan, &run, NULL, NULL);
}

static void *run_lane(void *f) {
    for (int i = 0; i < STEPS; i++) {
        step(f);
    }
    return NULL;
}

static void test_lanes_side_by_side(void **state) {
    (void)state;
    fixture alone, lane[LANES];
    pthread_t thread[LANES];
    build(&alone, 1);
    fx_run(&alone);
    step(&alone);
    for (int i = 0; i < LANES; i++) {
        build(&lane[i], 1);
        fx_run(&lane[i]);
        memset(lane[i].gradients, 0, lane[i].arena->n_reduced * sizeof(float));
    }
    for (int i = 0; i < LANES; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, run_lane, &lane[i]), 0);
    }
    for (int i = 0; i < LANES; i++) {
        pthread_join(thread[i], NULL);
        const ls_arena_slot *slot = lane[i].arena->slot;
        for (int w = 0; w < 2; w++) {
            assert_memory_equal(lane[i].gradients + slot[w].offset, alone.gradients + slot[w].offset,
                                slot[w].n_elems * sizeof(float));
        }
        assert_memory_equal(ls_plan_output(lane[i].plan, 0), ls_plan_output(alone.plan, 0),
                            alone.n_out * sizeof(float));
        fx_release(&lane[i]);
    }
    fx_release(&alone);
}

static void build_elementwise(fixture *f, int n_threads) {
    static const ls_act_attr softmax = {.kind = LS_ACT_SOFTMAX, .axis = 0}, gelu = {.kind = LS_ACT_GELU};
    static const ls_merge_attr multiply = {LS_MERGE_MULTIPLY};
    static const ls_dropout_attr dropout = {0.4, 1};
    fx_init(f, 40);
    f->n_threads = n_threads;
    ls_shape s = fx_shape(1, 1003);
    ls_tensor *x = fx_input(f, s);
    ls_tensor *a = fx_unary(f, &ls_op_activation, &gelu, x, s);
    ls_tensor *b = fx_unary(f, &ls_op_dropout, &dropout, x, s);
    a = fx_node(f, &ls_op_merge, &multiply, (ls_tensor *[]){a, b, NULL}, NULL, s);
    fx_unary(f, &ls_op_activation, &softmax, a, s);
}

static void test_any_number_of_threads(void **state) {
    (void)state;
    fixture one, three;
    build_elementwise(&one, 1);
    build_elementwise(&three, 3);
    fx_run(&one);
    fx_run(&three);
    assert_memory_equal(ls_plan_output(one.plan, 0), ls_plan_output(three.plan, 0), one.n_out * sizeof(float));
    assert_memory_equal(ls_plan_input_gradient(one.plan, 0), ls_plan_input_gradient(three.plan, 0),
                        one.n_in[0] * sizeof(float));
    fx_release(&one);
    fx_release(&three);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lanes_side_by_side),
        cmocka_unit_test(test_any_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
