/*
 * What the nodes tell each other, level by level: in a group, whoever leads a node knows the news of its own child and
 * fetches those of each other child from one leader there, so that after the highest level all know all. With one level
 * every leader hears every other directly.
 */
#include <stdlib.h>

#include "common/memory.h"
#include "worker/reduce/reducer_private.h"

static int nodes_of(const ls_levels *l, int level, int group, int *first) {
    *first = ls_levels_first_node(l, level, group);
    return ls_levels_first_node(l, level, group + 1) - *first;
}

/* The messages of one level. Node k of the own child hears child c from node k mod (nodes of c) of it, and so tells
 * those nodes k' of c for which k is k' mod (nodes of the own child). */
static void describe_level(ls_reducer *r, ls_news *news, int tag, int level) {
    const ls_team *t = r->team;
    const ls_levels *l = &r->scheme->levels;
    ls_news_level *v = &news->levels[level - 1];
    int own = ls_levels_group(l, level - 1, t->rank), group = ls_levels_group(l, level, t->rank), first, there;
    int mine = nodes_of(l, level - 1, own, &first), k = t->node - first, caps[3] = {0};
    for (int c = l->first[level][group]; c < l->first[level][group + 1]; c++) {
        if (c == own) {
            continue;
        }
        int theirs = nodes_of(l, level - 1, c, &there), from = t->node_first[there + k % theirs], n = v->n_receive;
        size_t n_in = news->at[there + theirs] - news->at[there], n_out = news->at[first + mine] - news->at[first];
        LS_PUSH(v->from, n, caps[0], from);
        LS_PUSH(v->receive, v->n_receive, caps[1],
                ls_exchange_receive(r->mail, from, tag, news->table + news->at[there], n_in));
        for (int j = k; j < theirs; j += mine) {
            LS_PUSH(v->send, v->n_send, caps[2],
                    ls_exchange_send(r->mail, t->node_first[there + j], tag, news->table + news->at[first], n_out));
        }
    }
}

void ls_news_describe(ls_reducer *r, ls_news *news, int tag, size_t (*n_bytes)(const ls_reducer *r, int node)) {
    size_t n_nodes = (size_t)r->team->n_nodes;
    news->at = ls_xcalloc(n_nodes + 1, sizeof *news->at);
    for (size_t i = 0; i < n_nodes; i++) {
        news->at[i + 1] = news->at[i] + n_bytes(r, (int)i);
    }
    news->table = ls_xcalloc(1, news->at[n_nodes]);
    news->n_levels = r->scheme->levels.n;
    news->levels = ls_xcalloc((size_t)news->n_levels, sizeof *news->levels);
    for (int level = 1; level <= news->n_levels; level++) {
        describe_level(r, news, tag, level);
    }
}

void ls_news_free(ls_news *news) {
    for (int s = 0; s < news->n_levels; s++) {
        free(news->levels[s].send);
        free(news->levels[s].receive);
        free(news->levels[s].from);
    }
    free(news->levels);
    free(news->table);
    free(news->at);
}

void ls_news_swap(ls_reducer *r, ls_news *news) {
    for (int s = 0; s < news->n_levels; s++) {
        for (int i = 0; i < news->levels[s].n_receive; i++) {
            ls_exchange_start(r->mail, news->levels[s].receive[i]);
        }
    }
    ls_wait w = ls_wait_begin(r->team->progress, r->team->oversubscribed);
    w.account = &r->times.network_ns;
    for (int s = 0; s < news->n_levels; s++) {
        const ls_news_level *v = &news->levels[s];
        for (int i = 0; i < v->n_send; i++) {
            ls_exchange_start(r->mail, v->send[i]);
        }
        for (int i = 0; i < v->n_receive; i++) {
            ls_wait_for(&w, v->from[i], s > 0); /* who has heard others before it waits for them */
            while (!ls_exchange_done(r->mail, v->receive[i])) {
                ls_wait_pause(&w);
            }
        }
    }
    ls_wait_for(&w, LS_ANYBODY, true);
    for (int s = 0; s < news->n_levels; s++) {
        for (int i = 0; i < news->levels[s].n_send; i++) {
            while (!ls_exchange_done(r->mail, news->levels[s].send[i])) {
                ls_wait_pause(&w);
            }
        }
    }
    ls_wait_end(&w);
}
