#include "worker/reduce/levels.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/status.h"

enum { MAX_LEVELS = 32 };

/* The least w whose n-th power is at least count. */
static int root(int count, int n) {
    for (int w = 1;; w++) {
        long power = 1;
        for (int i = 0; i < n && power < count; i++) {
            power *= w;
        }
        if (power >= count) {
            return w;
        }
    }
}

static bool divides_well(int count, int w, int n) {
    return w >= 2 && count % w == 0 && count / w >= 2 && root(count / w, n - 1) <= 2 * root(count, n);
}

/* How many children a group has, for `count` of them and n levels to go: a divisor that leaves the levels about even,
 * so that all groups are alike; where there is none nearby, the root, and some groups have one child more. */
static int choose_width(int count, int n) {
    int w = root(count, n);
    for (int off = 0; n > 1 && off <= w / 2; off++) {
        if (divides_well(count, w + off, n)) {
            return w + off;
        }
        if (divides_well(count, w - off, n)) {
            return w - off;
        }
    }
    return w;
}

static void add_level(ls_levels *l, int s, int n_groups, int n_children) {
    l->n_groups[s] = n_groups;
    l->first[s] = ls_xcalloc((size_t)n_groups + 1, sizeof *l->first[s]);
    for (int g = 0; g <= n_groups; g++) {
        l->first[s][g] = (int)((long)g * n_children / n_groups);
    }
}

void ls_levels_init(ls_levels *l, int n_nodes, const int *node_first, int fan_in) {
    LS_ASSERT(n_nodes >= 1 && fan_in >= 2);
    *l = (ls_levels){.n_ranks = node_first[n_nodes]};
    l->n_groups = ls_xcalloc(MAX_LEVELS, sizeof *l->n_groups);
    l->width = ls_xcalloc(MAX_LEVELS, sizeof *l->width);
    l->n_parts = ls_xcalloc(MAX_LEVELS, sizeof *l->n_parts);
    l->first = ls_xcalloc(MAX_LEVELS, sizeof *l->first);
    add_level(l, 0, n_nodes, l->n_ranks);
    memcpy(l->first[0], node_first, ((size_t)n_nodes + 1) * sizeof *node_first);
    while (l->n_groups[l->n] > 1) {
        int count = l->n_groups[l->n], to_go = 1;
        while (root(count, to_go) > fan_in) {
            to_go++;
        }
        LS_ASSERT(l->n + 1 < MAX_LEVELS);
        int width = choose_width(count, to_go);
        LS_ASSERT(width > 0);
        add_level(l, ++l->n, to_go == 1 ? 1 : count / width, count);
    }
    for (int s = 0; s <= l->n; s++) {
        for (int g = 0; g < l->n_groups[s]; g++) {
            int children = l->first[s][g + 1] - l->first[s][g];
            l->width[s] = children > l->width[s] ? children : l->width[s];
        }
        l->n_parts[s] = (size_t)l->width[s] * (s > 0 ? l->n_parts[s - 1] : 1);
    }
}

void ls_levels_release(ls_levels *l) {
    for (int s = 0; l->first != NULL && s <= l->n; s++) {
        free(l->first[s]);
    }
    free(l->first);
    free(l->n_groups);
    free(l->width);
    free(l->n_parts);
    *l = (ls_levels){0};
}

int ls_levels_group(const ls_levels *l, int level, int rank) {
    int g = rank;
    for (int s = 0; s <= level; s++) {
        int low = 0, high = l->n_groups[s] - 1;
        while (low < high) {
            int middle = (low + high + 1) / 2;
            if (l->first[s][middle] <= g) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        g = low;
    }
    return g;
}

int ls_levels_first_node(const ls_levels *l, int level, int group) {
    for (int s = level; s > 0; s--) {
        group = l->first[s][group];
    }
    return group;
}

int ls_levels_first_rank(const ls_levels *l, int level, int group) {
    return l->first[0][ls_levels_first_node(l, level, group)];
}

/* By how much digit s of a bucket is turned: the last digit, which tells children of the whole apart, turns first. */
static size_t turn_of(const ls_levels *l, int s, int bucket) {
    return (size_t)bucket / (l->n_parts[l->n] / l->n_parts[s]) % (size_t)l->width[s];
}

int ls_levels_agent(const ls_levels *l, int level, int group, size_t part, int bucket, bool turned) {
    int g = group;
    for (int s = level; s >= 0; s--) {
        int n = l->first[s][g + 1] - l->first[s][g], width = l->width[s];
        int digit = (int)((part + (turned ? turn_of(l, s, bucket) : 0)) % (size_t)width);
        g = l->first[s][g] + (n == width ? digit : (digit + bucket) % n);
        part /= (size_t)width;
    }
    return g;
}

/* Where part q of the last level begins, in n_ranks times as many pieces as there are parts a level higher up: a child
 * of the whole has as much as it has ranks. */
static size_t begin_of(const ls_levels *l, size_t q) {
    size_t w = (size_t)l->width[l->n];
    int child = (int)(q % w), first = l->n > 0 ? ls_levels_first_rank(l, l->n - 1, child) : child;
    return q / w * (size_t)l->n_ranks + (size_t)first;
}

void ls_levels_cut(const ls_levels *l, int level, size_t part, size_t n, size_t *lo, size_t *hi) {
    size_t below = l->n_parts[l->n] / l->n_parts[level];
    size_t pieces = l->n_parts[l->n] / (size_t)l->width[l->n] * (size_t)l->n_ranks;
    *lo = n * begin_of(l, part * below) / pieces;
    *hi = n * begin_of(l, (part + 1) * below) / pieces;
}
