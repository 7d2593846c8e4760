/* Meetings: sums over all lanes, the same on every rank and in the order of the tree. Run as any number of ranks. */
#include "worker/reduce/meeting.h"
#include "check.h"
#include "worker/reduce/lanes.h"
#include "worker/reduce/levels.h"

enum { MOST = 700 };

/* What a lane gives; sums of it are inexact, so that another order gives other bits. */
static double value(int lane, size_t i, int round) {
    return 1.0 / (double)(3 + lane) + (double)(i % 17) / 7.0 + (double)round * 1e-3;
}

static bool absent(int lane, int round) {
    return lane % 5 == 3 && round % 2 == 1;
}

static int n_waits;
static void count_waits(void *context) {
    *(int *)context += 1;
}

/* What the first rank of a node sends in a meeting: to each leader of the other children of its groups that hears its
 * own child from it. Counted from the other side. */
static uint64_t expected_messages(const ls_team *t) {
    ls_levels l;
    uint64_t n = 0;
    ls_levels_init(&l, t->n_nodes, t->node_first, t->fan_in);
    for (int s = 1; s <= l.n; s++) {
        int own = ls_levels_group(&l, s - 1, t->rank), group = ls_levels_group(&l, s, t->rank);
        int first = ls_levels_first_node(&l, s - 1, own), mine = ls_levels_first_node(&l, s - 1, own + 1) - first;
        for (int node = ls_levels_first_node(&l, s, group); node < ls_levels_first_node(&l, s, group + 1); node++) {
            int child = ls_levels_group(&l, s - 1, t->node_first[node]);
            n += child != own && (node - ls_levels_first_node(&l, s - 1, child)) % mine == t->node - first;
        }
    }
    ls_levels_release(&l);
    return t->local == 0 ? n : 0;
}

static void meet(ls_team *t, int n_lanes) {
    static const size_t sizes[] = {1, MOST, 7, 64};
    ls_meeting_options o = {.n_lanes = n_lanes, .n_sizes = 4, .sizes = sizes, .meanwhile = count_waits};
    o.context = &n_waits;
    ls_err err = LS_ERR_INIT;
    ls_meeting *m = NULL;
    ls_status s = ls_meeting_create(&m, t, &o, &err);
    CHECK(s == LS_OK, "%s", err.text);
    int first = ls_lanes_first(n_lanes, t->size, t->rank), here = ls_lanes_first(n_lanes, t->size, t->rank + 1) - first;
    double(*own)[MOST] = calloc((size_t)here + 1, sizeof *own), **lane = calloc((size_t)here + 1, sizeof *lane);
    double *rows = calloc((size_t)n_lanes * MOST, sizeof *rows);
    for (int round = 0; round < 60; round++) {
        size_t n = sizes[round % 4];
        for (int l = 0; l < n_lanes; l++) {
            for (size_t i = 0; i < n; i++) {
                rows[(size_t)l * n + i] = absent(l, round) ? 0 : value(l, i, round);
            }
        }
        ls_lanes_sum_rows(rows, n_lanes, (int)n);
        for (int l = 0; l < here; l++) {
            lane[l] = absent(first + l, round) ? NULL : own[l];
            for (size_t i = 0; i < MOST; i++) {
                own[l][i] = i < n ? value(first + l, i, round) : -1;
            }
        }
        ls_meeting_sum(m, lane, n);
        for (int l = 0; l < here; l++) {
            CHECK(lane[l] == NULL || memcmp(own[l], rows, n * sizeof(double)) == 0,
                  "lane %d of %d in round %d: %.17g, not %.17g", first + l, n_lanes, round, own[l][0], rows[0]);
            CHECK(n == MOST || own[l][n] == -1, "lane %d: written beyond %zu numbers", first + l, n);
        }
    }
    CHECK(ls_meeting_sent(m) == 60 * expected_messages(t), "%d messages in 60 meetings, not 60 times %d",
          (int)ls_meeting_sent(m), (int)expected_messages(t));
    ls_meeting_destroy(m);
    free(own);
    free(lane);
    free(rows);
}

/* Ranks that would meet otherwise are told so, all of them. */
static void differ(ls_team *t) {
    const size_t size = t->rank == 0 ? 3 : 4;
    ls_meeting_options o = {.n_lanes = t->size, .n_sizes = 1, .sizes = &size};
    ls_err err = LS_ERR_INIT;
    ls_meeting *m = NULL;
    ls_status s = ls_meeting_create(&m, t, &o, &err);
    CHECK(s == (t->size > 1 ? LS_EINPUT : LS_OK), "sizes differ: %s", ls_status_name(s));
    CHECK(t->size == 1 || strstr(err.text, "the table of meetings") != NULL, "\"%s\"", err.text);
    ls_meeting_destroy(m);
}

int main(int argc, char **argv) {
    ls_team *team = ranks_begin(argc, argv);
    static const int lanes[] = {1, 2, 3, 5, 8, 13, 16};
    for (size_t i = 0; i < sizeof lanes / sizeof lanes[0]; i++) {
        meet(team, lanes[i]);
    }
    differ(team);
    return ranks_end(team);
}
