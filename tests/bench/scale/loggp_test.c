/* The model against cases that can be written down: one bucket, ready at the end, one thing that costs at a time. */
#include "tests/bench/scale/loggp.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { FLOATS = 1 << 22 };

static double call_s[] = {0.25, 0.5};
static size_t floats[] = {FLOATS};
static int after[] = {2};
static double used[] = {1};
static const schedule late = {.batch = 4,
                              .forward_s = 0.125,
                              .backward_s = 0.75,
                              .n_calls = 2,
                              .n_buckets = 1,
                              .call_s = call_s,
                              .floats = floats,
                              .after = after,
                              .used = used,
                              .n_floats = FLOATS};
static const double bytes = 4.0 * FLOATS;

static cluster make(int ranks, int a_node, int fan_in) {
    return (cluster){.ranks = ranks, .ranks_per_node = a_node, .fan_in = fan_in, .speed = 1, .batch = 4};
}

/* Exposed seconds of a cluster. */
static double exposed(network net, cluster c) {
    return predict(&late, &net, &c).exposed_s;
}

static void one_rank_waits_for_nobody(void **state) {
    (void)state;
    network net = {"", 1, 1, 1, 1, 0};
    cluster c = make(1, 1, 16);
    prediction p = predict(&late, &net, &c);
    assert_float_equal(p.step_s, 0.875, 1e-12);
    assert_float_equal(p.efficiency, 1, 1e-12);
    c.batch = 8;
    c.speed = 4;
    assert_float_equal(predict(&late, &net, &c).step_s, 0.875 / 2, 1e-12);
}

/* Fragments up and parameters down: (n - 1) / n of the bytes each way, by levels or not, and of each node for all of
 * its ranks together. The verdicts' 80 bytes a node come on top. */
static void bandwidth(void **state) {
    (void)state;
    network net = {.byte_s = 1e-9, .eager_bytes = SIZE_MAX};
    const int nodes[] = {2, 4, 8, 64, 256};
    for (int i = 0; i < 5; i++) {
        double expected = 2e-9 * bytes * (nodes[i] - 1) / nodes[i];
        assert_float_equal(exposed(net, make(nodes[i], 1, 1 << 20)), expected, 1e-9 * 80 * nodes[i] + 1e-9);
        assert_float_equal(exposed(net, make(nodes[i], 1, 2)), expected, 1e-9 * 80 * nodes[i] + 1e-9);
        assert_float_equal(exposed(net, make(16 * nodes[i], 16, 16)), expected, 1e-9 * 320 * nodes[i] + 1e-9);
    }
}

/* One latency a level up, one down, one of the verdict; three where a message is announced and answered first. */
static void latency(void **state) {
    (void)state;
    network net = {.latency_s = 1e-3, .eager_bytes = SIZE_MAX};
    assert_float_equal(exposed(net, make(16, 1, 16)), 3e-3, 1e-12);
    assert_float_equal(exposed(net, make(256, 1, 16)), 6e-3, 1e-12);
    assert_float_equal(exposed(net, make(4096, 1, 16)), 9e-3, 1e-12);
    net.eager_bytes = 0;
    assert_float_equal(exposed(net, make(16, 1, 16)), 7e-3, 1e-12);
}

/* Each message costs who sends and who receives it: n - 1 up and n - 1 down as an agent, as many to the agents and
 * back, and the verdict's. */
static void overhead(void **state) {
    (void)state;
    network net = {.overhead_s = 1e-6, .eager_bytes = SIZE_MAX};
    assert_float_equal(exposed(net, make(8, 1, 16)), 6 * 7 * 1e-6, 1e-12);
    assert_float_equal(exposed(net, make(4096, 1, 1 << 20)), 6 * 4095 * 1e-6, 1e-12);
    assert_float_equal(exposed(net, make(4096, 1, 16)), 6 * 45 * 1e-6, 1e-12);
    cluster c = make(4096, 1, 16);
    assert_float_equal(predict(&late, &net, &c).messages, 3 * 45, 1e-12);
    c.fan_in = 1 << 20;
    assert_float_equal(predict(&late, &net, &c).messages, 3 * 4095, 1e-12);
}

/* What is ready early is done while the rest is calculated; the limit is named. */
static void overlap(void **state) {
    (void)state;
    static int early[] = {1};
    schedule s = late;
    s.after = early;
    network net = {.byte_s = 0.2 / bytes, .eager_bytes = SIZE_MAX};
    cluster c = make(2, 1, 16);
    assert_true(predict(&s, &net, &c).exposed_s < exposed(net, c) - 0.05);
    assert_string_equal(predict(&late, &net, &c).limit, "bandwidth");
    c.jitter = 0.5;
    assert_string_equal(predict(&late, &net, &c).limit, "skew");
    net = (network){.overhead_s = 1e-3, .eager_bytes = SIZE_MAX};
    c = make(64, 1, 16);
    assert_string_equal(predict(&late, &net, &c).limit, "messages");
}

/* Gradients in two bytes: of what goes up and what comes down a quarter less. */
static void bfloat16(void **state) {
    (void)state;
    network net = {.byte_s = 1e-9, .eager_bytes = SIZE_MAX};
    cluster c = make(8, 1, 16);
    c.wire_bfloat16 = true;
    assert_float_equal(exposed(net, c), 1e-9 * bytes * 7 / 8 * 1.5, 1e-9 * 1000);
    c.fan_in = 2;
    assert_float_equal(exposed(net, c), 1e-9 * bytes * 7 / 8 * 1.5, 1e-9 * 1000);
}

/* A table of which each rank uses a hundredth: that goes up, and eight hundredths, less what several use, come down;
 * all of it where the update changes all of it. A word for 4,096 floats goes with it. */
static void sparse_tables(void **state) {
    (void)state;
    static double hundredth[] = {0.01};
    schedule s = late;
    s.used = hundredth;
    network net = {.byte_s = 1e-9, .eager_bytes = SIZE_MAX};
    cluster c = make(8, 1, 16);
    const double whole = 1e-9 * bytes * 7 / 8, words = whole * 2 / 4096;
    assert_float_equal(predict(&s, &net, &c).exposed_s, whole * (1 + 0.01) + words, 1e-6);
    c.idle = true;
    assert_float_equal(predict(&s, &net, &c).exposed_s, whole * (1 - pow(0.99, 8) + 0.01) + 2 * words, 1e-6);
    c.batch = 8; /* twice the samples that the schedule was measured with: the exposed part is of the same kind */
    assert_float_equal(predict(&s, &net, &c).exposed_s, whole * (2 - pow(0.99, 16) - pow(0.99, 2)) + 2 * words, 1e-6);
    c.batch = 4;
    c.fan_in = 2; /* a half, a quarter, an eighth go up, of one rank, of two, of four; what comes down is the same */
    assert_float_equal(predict(&s, &net, &c).exposed_s,
                       whole * 8 / 7 * (0.5 * 0.01 + 0.25 * (1 - pow(0.99, 2)) + 0.125 * (1 - pow(0.99, 4))) +
                           whole * (1 - pow(0.99, 8)) + 2 * words,
                       1e-6);
    c.whole_tables = true;
    assert_float_equal(predict(&s, &net, &c).exposed_s, 2 * whole, 1e-6);
}

/* Parts of at least, and of at most, so many floats: fewer messages or more, as many bytes. */
static void sizes_of_parts(void **state) {
    (void)state;
    network net = {.eager_bytes = SIZE_MAX};
    cluster c = make(8, 1, 16);
    const double verdict = 7;
    assert_float_equal(predict(&late, &net, &c).messages, 2 * 7 + verdict, 1e-9);
    c.least_floats = FLOATS / 2;
    assert_float_equal(predict(&late, &net, &c).messages, 2 * 7 * 2 / 8.0 + verdict, 1e-9);
    c.least_floats = 0;
    c.most_floats = FLOATS / 32;
    assert_float_equal(predict(&late, &net, &c).messages, 2 * 7 * 4 + verdict, 1e-9);
    net.byte_s = 1e-9;
    assert_float_equal(exposed(net, c), 2e-9 * bytes * 7 / 8, 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_rank_waits_for_nobody),
        cmocka_unit_test(bandwidth),
        cmocka_unit_test(latency),
        cmocka_unit_test(overhead),
        cmocka_unit_test(overlap),
        cmocka_unit_test(bfloat16),
        cmocka_unit_test(sparse_tables),
        cmocka_unit_test(sizes_of_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
