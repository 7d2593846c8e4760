#include "worker/reduce/lanes.h"

#include <stdlib.h>

#include "common/memory.h"
#include "common/status.h"

/* The lanes of a node's left child: the largest power of two below count > 1. */
static int left_count(int count) {
    int p = 1;
    while (2 * p < count) {
        p *= 2;
    }
    return p;
}

bool ls_lanes_is_node(int n_lanes, int first, int count) {
    int f = 0, c = n_lanes;
    while (f != first || c != count) {
        if (c <= 1 || first < f || first + count > f + c) {
            return false;
        }
        int p = left_count(c);
        if (first < f + p) {
            c = p;
        } else {
            f += p;
            c -= p;
        }
    }
    return count > 0;
}

static int collect(int f, int c, int first, int last, ls_branch *out, int n) {
    if (f >= last || f + c <= first) {
        return n;
    }
    if (f >= first && f + c <= last) {
        LS_ASSERT(n < LS_MAX_FRAGMENTS);
        out[n] = (ls_branch){f, c};
        return n + 1;
    }
    int p = left_count(c);
    n = collect(f, p, first, last, out, n);
    return collect(f + p, c - p, first, last, out, n);
}

int ls_lanes_fragments(int n_lanes, int first, int last, ls_branch *out) {
    return first < last ? collect(0, n_lanes, first, last, out, 0) : 0;
}

/* A binary counter: fragments in lane order; the last two become one whenever they are a node's two children. */
typedef struct {
    int n_lanes, n;
    ls_fragment *items;
} counter;

static bool carry(const counter *k) {
    if (k->n < 2) {
        return false;
    }
    ls_branch l = k->items[k->n - 2].node, r = k->items[k->n - 1].node;
    return ls_lanes_is_node(k->n_lanes, l.first, l.count + r.count) && left_count(l.count + r.count) == l.count;
}

/* Adds what the tree allows among the fragments, in lane order; writes the merges down and frees slots. */
static void merge_pending(counter *k, bool *taken, ls_lane_group *group) {
    int n_before = k->n, cap = 0;
    k->n = 0;
    for (int i = 0; i < n_before; i++) {
        k->items[k->n++] = k->items[i];
        while (carry(k)) {
            ls_fragment *l = &k->items[k->n - 2], *r = &k->items[k->n - 1];
            ls_merge merge = {l->slot, r->slot};
            LS_PUSH(group->merges, group->n_merges, cap, merge);
            taken[r->slot] = false;
            l->node.count += r->node.count;
            k->n--;
        }
    }
}

void ls_lane_schedule_init(ls_lane_schedule *s, int n_lanes, int first, int last, int at_once) {
    LS_ASSERT(at_once >= 1 && first >= 0 && first <= last && last <= n_lanes);
    *s = (ls_lane_schedule){.n_lanes = n_lanes, .first = first, .last = last, .at_once = at_once};
    s->n_groups = (last - first + at_once - 1) / at_once;
    s->groups = ls_xcalloc((size_t)s->n_groups, sizeof *s->groups);
    s->fragments = ls_xcalloc((size_t)(last - first), sizeof *s->fragments);
    counter k = {n_lanes, 0, s->fragments};
    bool *taken = ls_xcalloc((size_t)(last - first), sizeof *taken);
    for (int g = 0; g < s->n_groups; g++) {
        ls_lane_group *group = &s->groups[g];
        group->first = first + g * at_once;
        group->count = last - group->first < at_once ? last - group->first : at_once;
        group->slot = ls_xcalloc((size_t)group->count, sizeof *group->slot);
        for (int i = 0, slot = 0; i < group->count; i++) {
            while (taken[slot]) {
                slot++;
            }
            taken[slot] = true;
            group->slot[i] = slot;
            if (slot + 1 > s->n_slots) {
                s->n_slots = slot + 1;
            }
            k.items[k.n++] = (ls_fragment){{group->first + i, 1}, slot};
        }
        if (g + 1 < s->n_groups || at_once == 1) {
            merge_pending(&k, taken, group);
        }
    }
    s->n_fragments = k.n;
    free(taken);
}

void ls_lane_schedule_release(ls_lane_schedule *s) {
    for (int g = 0; g < s->n_groups; g++) {
        free(s->groups[g].slot);
        free(s->groups[g].merges);
    }
    free(s->groups);
    free(s->fragments);
    *s = (ls_lane_schedule){0};
}

const ls_fragment *ls_lane_schedule_fragment(const ls_lane_schedule *s, int lane) {
    int f = 0;
    while (s->fragments[f].node.first + s->fragments[f].node.count <= lane) {
        f++;
    }
    return &s->fragments[f];
}

static void sum_rows(double *sums, int first, int count, int n) {
    if (count <= 1) {
        return;
    }
    int p = left_count(count);
    sum_rows(sums, first, p, n);
    sum_rows(sums, first + p, count - p, n);
    double *dst = sums + (size_t)first * (size_t)n;
    const double *src = sums + (size_t)(first + p) * (size_t)n;
    for (int i = 0; i < n; i++) {
        dst[i] += src[i];
    }
}

void ls_lanes_sum_rows(double *sums, int n_lanes, int n) {
    sum_rows(sums, 0, n_lanes, n);
}
