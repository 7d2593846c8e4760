/* Parameters and optimizer slots between nodes, between steps: for checkpoints, resumes and first values. */
#include "worker/reduce/reducer_private.h"

void ls_reducer_broadcast_params(ls_reducer *r) {
    if (r->team->local == 0) {
        ls_team_leaders_bcast(r->team, r->params, r->o.n_params * sizeof(float));
    }
    ls_team_node_barrier(r->team);
}

/* One optimizer slot's slices between their owners on other nodes and those who help these on rank 0's node. */
static void move_slot(ls_reducer *r, float *slot, bool gather) {
    ls_team *t = r->team;
    ls_exchange *x = ls_exchange_create(t);
    int n = 0;
    for (int b = 0; b < r->o.n_buckets; b++) {
        for (int owner = t->node_first[1]; owner < t->size; owner++) {
            ls_slice s = ls_reducer_slice(r, b, owner);
            int keeper = ls_reducer_helper(t, owner, 0), from = gather ? owner : keeper, to = gather ? keeper : owner;
            if (s.n == 0 || (t->rank != from && t->rank != to)) {
                continue;
            }
            int message = t->rank == from ? ls_exchange_send(x, to, b, slot + s.first, s.n * sizeof(float))
                                          : ls_exchange_receive(x, from, b, slot + s.first, s.n * sizeof(float));
            ls_exchange_start(x, message);
            n++;
        }
    }
    ls_wait w = ls_wait_begin(t->progress, t->oversubscribed);
    ls_wait_for(&w, t->rank == 0 ? LS_ANYBODY : 0, true);
    for (int i = 0; i < n; i++) {
        while (!ls_exchange_done(x, i)) {
            ls_wait_pause(&w);
        }
    }
    ls_wait_end(&w);
    ls_exchange_destroy(x);
}

static void move_slots(ls_reducer *r, bool gather) {
    ls_team_node_barrier(r->team); /* what neighbours wrote is there */
    for (int i = 0; r->team->n_nodes > 1 && i < r->o.n_slots; i++) {
        move_slot(r, r->slots[i], gather);
    }
    ls_team_node_barrier(r->team);
}

void ls_reducer_gather_slots(ls_reducer *r) {
    move_slots(r, true);
}
void ls_reducer_scatter_slots(ls_reducer *r) {
    move_slots(r, false);
}
