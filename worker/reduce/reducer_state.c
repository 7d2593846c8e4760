/* Parameters and optimizer slots between nodes, between steps: for checkpoints, resumes and first values. */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/reduce/reducer_private.h"

void ls_reducer_broadcast_params(ls_reducer *r) {
    if (r->team->local == 0) {
        ls_team_leaders_bcast(r->team, r->params, r->o.n_params * sizeof(float));
    }
    ls_team_node_barrier(r->team);
}

/* Begins to move one optimizer slot's slices between their owners on other nodes and the agents of their parts on rank
 * 0's node; appends the other side of each message to peers. */
static void start_slot(ls_reducer *r, float *slot, bool gather, int **peers, int *n, int *cap) {
    ls_team *t = r->team;
    const ls_levels *l = &r->levels;
    size_t below = l->n_parts[l->n] / l->n_parts[0];
    for (int b = 0; b < r->o.n_buckets; b++) {
        for (size_t p = 0; p < l->n_parts[l->n]; p++) {
            ls_slice s = ls_reducer_slice(r, b, l->n, p);
            int owner = ls_levels_agent(l, l->n, 0, p, b), keeper = ls_levels_agent(l, 0, 0, p / below, b);
            int from = gather ? owner : keeper, to = gather ? keeper : owner;
            if (s.n == 0 || t->node_of[owner] == 0 || (t->rank != from && t->rank != to)) {
                continue;
            }
            int message = t->rank == from ? ls_exchange_send(r->moves, to, b, slot + s.first, s.n * sizeof(float))
                                          : ls_exchange_receive(r->moves, from, b, slot + s.first, s.n * sizeof(float));
            LS_ASSERT(message == *n);
            ls_exchange_start(r->moves, message);
            LS_PUSH(*peers, *n, *cap, t->rank == from ? to : from);
        }
    }
}

static void move_slots(ls_reducer *r, bool gather) {
    ls_team *t = r->team;
    ls_team_node_barrier(t); /* what neighbours wrote is there */
    int *peers = NULL, n = 0, cap = 0;
    for (int i = 0; t->n_nodes > 1 && i < r->o.n_slots; i++) {
        start_slot(r, r->slots[i], gather, &peers, &n, &cap);
    }
    ls_wait w = ls_wait_begin(t->progress, t->oversubscribed);
    for (int i = 0; i < n; i++) {
        ls_wait_for(&w, peers[i], true);
        while (!ls_exchange_done(r->moves, i)) {
            ls_wait_pause(&w);
        }
        ls_wait_reset(&w);
    }
    ls_wait_end(&w);
    free(peers);
    if (t->n_nodes > 1) {
        ls_exchange_clear(r->moves);
    }
    ls_team_node_barrier(t);
}

void ls_reducer_gather_slots(ls_reducer *r) {
    /* On one node all is there: a rank comes to the verdict after its updates, and none updates anything before all,
     * the reader among them, have made the next step's first bucket ready. */
    if (r->team->n_nodes > 1) {
        move_slots(r, true);
    }
}
void ls_reducer_scatter_slots(ls_reducer *r) {
    move_slots(r, false);
}
