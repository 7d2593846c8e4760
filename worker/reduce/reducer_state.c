/* Parameters and optimizer slots between nodes, between steps: for checkpoints, resumes and first values. */
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/reduce/reducer_private.h"

void ls_reducer_broadcast_params(ls_reducer *r) {
    if (r->team->local == 0) {
        ls_team_leaders_bcast(r->team, r->params, r->o.n_params * sizeof(float));
    }
    ls_team_node_barrier(r->team);
}

/* ---- optimizer slots ---- */

/* Floats [first, last) of all slots go from one rank to another. Begins the messages, if they concern this rank. */
static void move(ls_reducer *r, int *n, size_t first, size_t last, int from, int to) {
    const ls_team *t = r->team;
    if (first >= last || t->node_of[from] == t->node_of[to] || (t->rank != from && t->rank != to)) {
        return;
    }
    for (int i = 0; i < r->o.n_slots; i++) {
        float *at = r->slots[i] + first;
        const size_t n_bytes = (last - first) * sizeof(float);
        int message = t->rank == from ? ls_exchange_send(r->moves, to, i, at, n_bytes)
                                      : ls_exchange_receive(r->moves, from, i, at, n_bytes);
        LS_ASSERT(message == *n);
        ls_exchange_start(r->moves, message);
        LS_PUSH(r->peers, *n, r->cap_peers, t->rank == from ? to : from);
    }
}

/* Walks over the parts of a scheme's highest level: in the order of the arena. */
typedef struct {
    int bucket;
    size_t part;
    ls_slice slice;
    int owner;
} part_walk;

static bool walk_on(ls_reducer *r, ls_scheme *c, part_walk *w) {
    const ls_levels *l = &c->levels;
    ls_scheme *used = r->scheme;
    r->scheme = c;
    do {
        if (++w->part == l->n_parts[l->n]) {
            w->part = 0;
            w->bucket++;
        }
        if (w->bucket < c->n_buckets) {
            w->slice = ls_reducer_slice(r, w->bucket, l->n, w->part);
            w->owner = ls_reducer_agent(r, w->bucket, l->n, 0, w->part);
        }
    } while (w->bucket < c->n_buckets && w->slice.n == 0);
    r->scheme = used;
    return w->bucket < c->n_buckets;
}

static bool walk_begin(ls_reducer *r, ls_scheme *c, part_walk *w) {
    *w = (part_walk){.part = (size_t)-1};
    return walk_on(r, c, w);
}

/* Between their owners on other nodes and the agents of their parts on rank 0's node. */
static void start_gather(ls_reducer *r, bool gather, int *n) {
    const ls_levels *l = &r->scheme->levels;
    const size_t below = l->n_parts[l->n] / l->n_parts[0];
    part_walk w;
    for (bool more = walk_begin(r, r->scheme, &w); more; more = walk_on(r, r->scheme, &w)) {
        int keeper = ls_reducer_agent(r, w.bucket, 0, 0, w.part / below);
        move(r, n, w.slice.first, w.slice.first + w.slice.n, gather ? w.owner : keeper, gather ? keeper : w.owner);
    }
}

/* From the owners of one scheme to those of another: where the parts of both overlap. */
static void start_change(ls_reducer *r, ls_scheme *from, ls_scheme *to, int *n) {
    part_walk a, b;
    bool more = walk_begin(r, from, &a) && walk_begin(r, to, &b);
    while (more) {
        size_t a_end = a.slice.first + a.slice.n, b_end = b.slice.first + b.slice.n;
        move(r, n, a.slice.first > b.slice.first ? a.slice.first : b.slice.first, a_end < b_end ? a_end : b_end,
             a.owner, b.owner);
        more = a_end <= b_end ? walk_on(r, from, &a) && (a_end < b_end || walk_on(r, to, &b)) : walk_on(r, to, &b);
    }
}

static void wait_moves(ls_reducer *r, int n) {
    ls_wait w = ls_wait_begin(r->team->progress, r->team->oversubscribed);
    for (int i = 0; i < n; i++) {
        ls_wait_for(&w, r->peers[i], true);
        while (!ls_exchange_done(r->moves, i)) {
            ls_wait_pause(&w);
        }
        ls_wait_reset(&w);
    }
    ls_wait_end(&w);
    ls_exchange_clear(r->moves);
}

static void move_slots(ls_reducer *r, bool gather) {
    int n = 0;
    ls_team_node_barrier(r->team); /* what neighbours wrote is there */
    if (r->team->n_nodes > 1) {
        start_gather(r, gather, &n);
        wait_moves(r, n);
    }
    ls_team_node_barrier(r->team);
}

void ls_reducer_gather_slots(ls_reducer *r) {
    /* On one node all is there: a rank comes to the verdict after its updates, and none updates anything before all,
     * the reader among them, have made the next step's first bucket ready. */
    if (r->team->n_nodes > 1) {
        move_slots(r, true);
    }
}
/* Other ranks own the blocks, or something was written into the slots: which of them are zero is not known any more. */
static void forget_blocks(ls_reducer *r) {
    memset(r->woken, 0, (r->o.n_gradient - r->o.n_reduced) / 2 * sizeof *r->woken);
}

void ls_reducer_scatter_slots(ls_reducer *r) {
    move_slots(r, false);
    forget_blocks(r);
}

void ls_reducer_use(ls_reducer *r, int cut, ls_order order) {
    LS_ASSERT(r->next_ready == 0 && cut >= 0 && cut < r->n_schemes && r->schemes[cut].slices != NULL);
    ls_scheme *to = &r->schemes[cut];
    r->newest_first = order == LS_ORDER_NEED;
    if (to != r->scheme) {
        /* Who sends has written what it sends, and on the same node the next step's first bucket tells the new owner
         * that the old one is done: no barrier. */
        int n = 0;
        if (r->team->n_nodes > 1) {
            start_change(r, r->scheme, to, &n);
            wait_moves(r, n);
        }
        r->scheme = to;
        forget_blocks(r);
    }
}
