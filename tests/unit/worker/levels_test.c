/* The levels of the exchange: for any number of nodes, of any sizes, every part has one agent in every group, who is
 * one of the agents of the children too, and the owners' parts are about as large for every rank. */
#include "worker/reduce/levels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MAX_NODES = 4096 };

static int node_first[MAX_NODES + 1];

/* Nodes of `ranks` each; of `last` the last one. */
static ls_levels make(int n_nodes, int ranks, int last, int fan_in) {
    for (int i = 0; i <= n_nodes; i++) {
        node_first[i] = i * ranks - (i == n_nodes ? ranks - last : 0);
    }
    ls_levels l;
    ls_levels_init(&l, n_nodes, node_first, fan_in);
    return l;
}

static void check_groups(const ls_levels *l, int n_nodes) {
    assert_int_equal(l->n_groups[0], n_nodes);
    assert_int_equal(l->n_groups[l->n], 1);
    for (int s = 1; s <= l->n; s++) {
        assert_int_equal(l->first[s][0], 0);
        assert_int_equal(l->first[s][l->n_groups[s]], l->n_groups[s - 1]);
        for (int g = 0; g < l->n_groups[s]; g++) {
            int n = l->first[s][g + 1] - l->first[s][g];
            assert_in_range(n, 2, l->width[s]);
            assert_true(l->width[s] - n <= 1);
        }
    }
    for (int rank = 0; rank < l->n_ranks; rank += 1 + rank / 7) {
        for (int s = 0; s <= l->n; s++) {
            int g = ls_levels_group(l, s, rank);
            assert_in_range(rank, ls_levels_first_rank(l, s, g), ls_levels_first_rank(l, s, g + 1) - 1);
        }
    }
}

/* The agent of a part in a group is that of the part around it in one of the children, and nobody else there is. */
static void check_agents(const ls_levels *l, int bucket) {
    for (int s = 1; s <= l->n; s++) {
        for (int g = 0; g < l->n_groups[s]; g += 1 + g / 3) {
            for (size_t p = 0; p < l->n_parts[s]; p += 1 + p / 5) {
                int agent = ls_levels_agent(l, s, g, p, bucket, bucket % 2 == 1), found = 0;
                for (int c = l->first[s][g]; c < l->first[s][g + 1]; c++) {
                    int below = ls_levels_agent(l, s - 1, c, p / (size_t)l->width[s], bucket, bucket % 2 == 1);
                    assert_int_equal(ls_levels_group(l, s - 1, below), c);
                    found += below == agent;
                }
                assert_int_equal(found, 1);
            }
        }
    }
}

/* Parts lie one after the other and cover all; a rank's share over several buckets is at most `most` of an even one. */
static void check_cut(const ls_levels *l, double most) {
    enum { BUCKETS = 12 };
    size_t n = (size_t)l->n_ranks * 1000 + 17, lo, hi;
    size_t *share = calloc((size_t)l->n_ranks, sizeof *share);
    assert_non_null(share);
    for (int s = 0; s <= l->n; s++) {
        size_t at = 0;
        for (size_t p = 0; p < l->n_parts[s]; p++) {
            ls_levels_cut(l, s, p, n, &lo, &hi);
            assert_int_equal(lo, at);
            assert_true(hi >= lo);
            at = hi;
            for (int b = 0; s == l->n && b < BUCKETS; b++) {
                share[ls_levels_agent(l, s, 0, p, b, false)] += hi - lo;
            }
        }
        assert_int_equal(at, n);
    }
    for (int rank = 0; rank < l->n_ranks; rank++) {
        assert_in_range(share[rank], 1, (uintmax_t)(most * 1000 * BUCKETS) + 20 * BUCKETS);
    }
    free(share);
}

static void check(int n_nodes, int ranks, int last, int fan_in, double most) {
    ls_levels l = make(n_nodes, ranks, last, fan_in);
    check_groups(&l, n_nodes);
    check_agents(&l, 0);
    check_agents(&l, 5);
    check_cut(&l, most);
    ls_levels_release(&l);
}

static void any_number_of_nodes(void **state) {
    (void)state;
    for (int n = 1; n <= 40; n++) {
        for (int fan = 2; fan <= 5; fan++) {
            check(n, 1, 1, fan, 3);
        }
        check(n, 1, 1, 64, 1);
        check(n, 3, 3, 16, 2);
    }
    check(257, 1, 1, 16, 2);
}

/* Where one level is enough, ranks have even shares even if nodes have not. */
static void nodes_of_unequal_sizes(void **state) {
    (void)state;
    check(2, 16, 4, 16, 1.01);
    check(3, 2, 1, 16, 1.01);
    check(7, 5, 2, 16, 1.01);
    check(20, 4, 1, 16, 4); /* the lone rank of the last node stands for four */
}

static void expect_widths(int n_nodes, int n, int messages) {
    ls_levels l = make(n_nodes, 1, 1, LS_FAN_IN);
    int sum = 0;
    for (int s = 1; s <= l.n; s++) {
        sum += l.width[s] - 1;
    }
    assert_int_equal(l.n, n);
    assert_int_equal(sum, messages);
    ls_levels_release(&l);
}

/* How many levels, and messages a bucket and rank each way. */
static void levels_of_round_numbers(void **state) {
    (void)state;
    expect_widths(1, 0, 0);
    expect_widths(2, 1, 1);
    expect_widths(16, 1, 15);
    expect_widths(64, 2, 14);
    expect_widths(100, 2, 18);
    expect_widths(256, 2, 30);
    expect_widths(1024, 3, 29);
    expect_widths(4096, 3, 45);
}

/* A bucket of one part goes to another rank each time, and to each of them as often. */
static void lone_parts_take_turns(void **state) {
    (void)state;
    const int shapes[][3] = {{8, 1, 16}, {4, 2, 16}, {9, 1, 3}, {16, 3, 4}};
    for (int i = 0; i < 4; i++) {
        ls_levels l = make(shapes[i][0], shapes[i][1], shapes[i][1], shapes[i][2]);
        int *owned = calloc((size_t)l.n_ranks, sizeof *owned);
        assert_non_null(owned);
        for (int b = 0; b < 3 * l.n_ranks; b++) {
            owned[ls_levels_agent(&l, l.n, 0, l.n_parts[l.n] - 1, b, true)]++;
        }
        for (int r = 0; r < l.n_ranks; r++) {
            assert_int_equal(owned[r], 3);
        }
        free(owned);
        ls_levels_release(&l);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_nodes),
        cmocka_unit_test(nodes_of_unequal_sizes),
        cmocka_unit_test(levels_of_round_numbers),
        cmocka_unit_test(lone_parts_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
