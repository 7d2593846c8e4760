/* The tree of lanes: the same bits whoever owns what, computed in groups of any size. */
#include "worker/reduce/lanes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/reduce/sum.h"

enum { MAX_LANES = 40, MAX_RANKS = 9, ELEMS = 37 };

/* Values whose sums round differently in nearly every other order. */
static float value(int lane, int i) {
    uint32_t h = (uint32_t)(lane * 7919 + i * 104729 + 1);
    h ^= h >> 15;
    h *= 0x2c1b3c6du;
    h ^= h >> 12;
    h *= 0x297a2d39u;
    h ^= h >> 15;
    return ((float)(h & 0xffffff) / 16777216.0f - 0.5f) * (float)(1 << (h >> 28));
}

/* The definition, written down a second time. */
static float tree(int first, int count, int i) {
    if (count == 1) {
        return value(first, i);
    }
    int p = 1;
    while (p * 2 < count) {
        p *= 2;
    }
    return tree(first, p, i) + tree(first + p, count - p, i);
}

/* Runs a rank's schedule on ELEMS floats a slot, as an engine would. */
static float *run_schedule(const ls_lane_schedule *s) {
    float *slots = calloc((size_t)s->n_slots * ELEMS + 1, sizeof *slots);
    int next = s->first;
    for (int g = 0; g < s->n_groups; g++) {
        const ls_lane_group *group = &s->groups[g];
        assert_int_equal(group->first, next);
        assert_in_range(group->count, 1, s->at_once);
        for (int j = 0; j < group->count; j++) {
            assert_in_range(group->slot[j], 0, s->n_slots - 1);
            for (int i = 0; i < ELEMS; i++) {
                slots[group->slot[j] * ELEMS + i] = value(group->first + j, i);
            }
        }
        for (int m = 0; m < group->n_merges; m++) {
            for (int i = 0; i < ELEMS; i++) {
                slots[group->merges[m].dst * ELEMS + i] += slots[group->merges[m].src * ELEMS + i];
            }
        }
        next += group->count;
    }
    assert_int_equal(next, s->last);
    return slots;
}

/* All ranks' fragments added as the nodes' leaders and the owner would, with n_local ranks a node. */
static void reduce(int n_lanes, int n_ranks, int at_once, int n_local, float *out) {
    ls_lane_schedule s[MAX_RANKS];
    float *slots[MAX_RANKS];
    ls_branch all[MAX_LANES] = {{0, 0}};
    const float *where[MAX_LANES] = {NULL};
    float *partial[MAX_RANKS] = {0};
    int n_all = 0;
    for (int r = 0; r < n_ranks; r++) {
        ls_lane_schedule_init(&s[r], n_lanes, ls_lanes_first(n_lanes, n_ranks, r),
                              ls_lanes_first(n_lanes, n_ranks, r + 1), at_once);
        slots[r] = run_schedule(&s[r]);
    }
    for (int node = 0; node * n_local < n_ranks; node++) {
        ls_branch mine[MAX_LANES];
        const float *leaf[MAX_LANES], *sums[MAX_LANES];
        int n_mine = 0;
        for (int r = node * n_local; r < n_ranks && r < (node + 1) * n_local; r++) {
            for (int f = 0; f < s[r].n_fragments; f++) {
                mine[n_mine] = s[r].fragments[f].node;
                leaf[n_mine++] = slots[r] + s[r].fragments[f].slot * ELEMS;
            }
        }
        ls_sum sum;
        ls_sum_init(&sum, n_lanes, mine, n_mine, false);
        partial[node] = calloc((size_t)sum.n_scratch * ELEMS + 1, sizeof(float));
        ls_sum_run(&sum, leaf, ELEMS, partial[node], ELEMS, sums);
        for (int k = 0; k < sum.n_out; k++) {
            all[n_all] = sum.node[k];
            where[n_all++] = sums[k];
        }
        ls_sum_release(&sum);
    }
    ls_sum root;
    ls_sum_init(&root, n_lanes, all, n_all, false);
    assert_int_equal(root.n_out, 1);
    float scratch[MAX_LANES * ELEMS];
    const float *result;
    ls_sum_run(&root, where, ELEMS, scratch, ELEMS, &result);
    memcpy(out, result, ELEMS * sizeof *out);
    ls_sum_release(&root);
    for (int r = 0; r < n_ranks; r++) {
        ls_lane_schedule_release(&s[r]);
        free(slots[r]);
        free(partial[r]);
    }
}

static void bits_depend_on_lanes_alone(void **state) {
    (void)state;
    for (int n_lanes = 1; n_lanes <= MAX_LANES; n_lanes++) {
        float expected[ELEMS], got[ELEMS];
        for (int i = 0; i < ELEMS; i++) {
            expected[i] = tree(0, n_lanes, i);
        }
        for (int n_ranks = 1; n_ranks <= MAX_RANKS; n_ranks++) {
            for (int at_once = 1; at_once <= 4; at_once++) {
                for (int n_local = 1; n_local <= 4; n_local++) {
                    reduce(n_lanes, n_ranks, at_once, n_local, got);
                    assert_memory_equal(got, expected, sizeof got);
                }
            }
        }
    }
}

static void another_order_gives_other_bits(void **state) {
    (void)state;
    int differ = 0;
    for (int i = 0; i < ELEMS; i++) {
        float serial = 0;
        for (int lane = 0; lane < 8; lane++) {
            serial += value(lane, i);
        }
        differ += serial != tree(0, 8, i);
    }
    assert_true(differ > 0);
}

static void fragments_are_maximal_nodes(void **state) {
    (void)state;
    for (int n = 1; n <= MAX_LANES; n++) {
        for (int a = 0; a <= n; a++) {
            for (int b = a; b <= n; b++) {
                ls_branch f[LS_MAX_FRAGMENTS];
                int k = ls_lanes_fragments(n, a, b, f), at = a;
                for (int i = 0; i < k; i++) {
                    assert_int_equal(f[i].first, at);
                    assert_true(ls_lanes_is_node(n, f[i].first, f[i].count));
                    at += f[i].count;
                    for (int larger = f[i].count + 1; f[i].first + larger <= b; larger++) {
                        assert_false(ls_lanes_is_node(n, f[i].first, larger));
                    }
                }
                assert_int_equal(at, b);
            }
        }
    }
    assert_true(ls_lanes_is_node(6, 0, 4));
    assert_true(ls_lanes_is_node(6, 4, 2));
    assert_false(ls_lanes_is_node(6, 2, 4));
    assert_false(ls_lanes_is_node(6, 1, 2));
    assert_false(ls_lanes_is_node(6, 3, 0));
}

static void slots_grow_with_the_logarithm(void **state) {
    (void)state;
    ls_lane_schedule s;
    ls_lane_schedule_init(&s, 1, 0, 1, 1);
    assert_int_equal(s.n_slots, 1);
    ls_lane_schedule_release(&s);
    ls_lane_schedule_init(&s, 64, 0, 64, 1);
    assert_in_range(s.n_slots, 2, 7);
    ls_lane_schedule_release(&s);
    ls_lane_schedule_init(&s, 64, 0, 64, 4);
    assert_in_range(s.n_slots, 4, 10);
    ls_lane_schedule_release(&s);
    ls_lane_schedule_init(&s, 3, 2, 2, 2); /* more ranks than lanes */
    assert_int_equal(s.n_slots, 0);
    assert_int_equal(s.n_fragments, 0);
    ls_lane_schedule_release(&s);
}

static void rows_follow_the_tree(void **state) {
    (void)state;
    for (int n = 1; n <= MAX_LANES; n++) {
        double rows[MAX_LANES][2], left[MAX_LANES];
        for (int l = 0; l < n; l++) {
            rows[l][0] = value(l, 0) * 1e-9 + 1.0 / (l + 3);
            rows[l][1] = l;
            left[l] = rows[l][0];
        }
        ls_lanes_sum_rows(&rows[0][0], n, 2);
        assert_true(rows[0][1] == n * (n - 1) / 2);
        if (n == 3) {
            assert_true(rows[0][0] == (left[0] + left[1]) + left[2]);
        }
        if (n == 6) {
            assert_true(rows[0][0] == ((left[0] + left[1]) + (left[2] + left[3])) + (left[4] + left[5]));
        }
    }
}

static void non_finite_is_found(void **state) {
    (void)state;
    float x[ELEMS] = {0};
    x[3] = 3.4e38f;
    assert_true(ls_sum_finite(x, ELEMS));
    for (int i = 0; i < ELEMS; i++) {
        x[i] = i % 2 ? -__builtin_inff() : __builtin_nanf("");
        assert_false(ls_sum_finite(x, ELEMS));
        x[i] = 0;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_depend_on_lanes_alone),  cmocka_unit_test(another_order_gives_other_bits),
        cmocka_unit_test(fragments_are_maximal_nodes), cmocka_unit_test(slots_grow_with_the_logarithm),
        cmocka_unit_test(rows_follow_the_tree),        cmocka_unit_test(non_finite_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
