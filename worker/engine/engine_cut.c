/* How gradients are cut into buckets: by the size of a bucket, in each of the sizes that may be used. */
#include <stdlib.h>

#include "worker/engine/engine_internal.h"

enum { USUAL_BYTES = 1 << 20, ALONE_BYTES = 1 << 17, MOST_BUCKETS = 8192 };
static const size_t sizes[LS_TUNED_SIZES] = {USUAL_BYTES, 1 << 18, 1 << 22, 1 << 24};

/* A rank that is alone has nobody to talk to about a bucket: small ones are still in its caches when they are applied.
 */
static size_t usual_bytes(const ls_engine *e) {
    const size_t alone = (size_t)e->at_once * (size_t)e->plan_threads * ALONE_BYTES;
    return e->team->size > 1 || alone > USUAL_BYTES ? USUAL_BYTES : alone;
}

/* Buckets of about `bytes`: whole weights where they are small, pieces of whole chunks where they are large; the moving
 * statistics in one of their own at the end. */
static engine_cut cut(const ls_engine *e, size_t bytes) {
    engine_cut c = {.bytes = bytes};
    size_t want = bytes / sizeof(float), least = e->arena->n_reduced / MOST_BUCKETS;
    want = (want > least ? want : least) / LS_REDUCE_CHUNK * LS_REDUCE_CHUNK;
    want = want > 0 ? want : LS_REDUCE_CHUNK;
    int cap = 0;
    LS_PUSH(c.buckets, c.n_buckets, cap, 0);
    for (int k = 0; k < e->n_segments; k++) {
        const segment *s = &e->segments[k];
        size_t begin = c.buckets[c.n_buckets - 1];
        if (s->statistic && s->first == e->arena->n_trainable && s->first > begin) {
            LS_PUSH(c.buckets, c.n_buckets, cap, s->first);
            begin = s->first;
        }
        if (s->statistic) {
            continue;
        }
        if (s->sparse || s->last - s->first > want) { /* starts its own buckets */
            if (s->first > begin) {
                LS_PUSH(c.buckets, c.n_buckets, cap, s->first);
            }
            for (size_t at = s->first + want; at < s->last; at += want) {
                LS_PUSH(c.buckets, c.n_buckets, cap, at);
            }
            if (s->sparse) { /* and has them to itself */
                LS_PUSH(c.buckets, c.n_buckets, cap, s->last);
            }
        } else if (s->last - begin >= want) {
            LS_PUSH(c.buckets, c.n_buckets, cap, s->last);
        }
    }
    if (e->arena->n_reduced > c.buckets[c.n_buckets - 1]) {
        LS_PUSH(c.buckets, c.n_buckets, cap, e->arena->n_reduced);
    }
    c.n_buckets--; /* from boundaries to buckets */
    return c;
}

static bool is_new(const ls_engine *e, int n_buckets) {
    for (int i = 0; i < e->n_cuts; i++) {
        if (e->cuts[i].n_buckets == n_buckets) {
            return false;
        }
    }
    return true;
}

/* With more than a few nodes there are two ways for them to exchange: as many directly as the team says, or few. Fewer
 * messages, but one after the other. */
static void choose_fans(ls_engine *e, bool fixed) {
    enum { FEW = 4 };
    e->n_fans = 1;
    e->fans[0] = e->team->fan_in;
    if (!fixed && !e->team->fan_in_said && e->team->n_nodes > FEW && e->team->fan_in > FEW) {
        e->fans[e->n_fans++] = FEW;
    }
}

void ls_engine_cut_buckets(ls_engine *e) {
    const bool fixed = e->options.bucket_bytes > 0 || e->options.inference || e->team->size == 1 ||
                       e->arena->n_reduced * sizeof(float) <= USUAL_BYTES; /* nothing to choose from */
    int most = 0;
    e->cuts[e->n_cuts++] = cut(e, e->options.bucket_bytes > 0 ? e->options.bucket_bytes : usual_bytes(e));
    for (int i = 1; !fixed && i < LS_TUNED_SIZES; i++) {
        engine_cut c = cut(e, sizes[i]);
        if (is_new(e, c.n_buckets)) {
            e->cuts[e->n_cuts++] = c;
        } else {
            free(c.buckets);
        }
    }
    for (int i = 0; i < e->n_cuts; i++) {
        most = e->cuts[i].n_buckets > most ? e->cuts[i].n_buckets : most;
    }
    choose_fans(e, fixed);
    e->bucket_done = ls_xcalloc((size_t)most + 1, sizeof *e->bucket_done);
}

void ls_engine_find_bucket_calls(const ls_engine *e, engine_plan *ep) {
    for (int i = 0; i < e->n_cuts; i++) {
        const engine_cut *c = &e->cuts[i];
        int last = -1;
        ep->bucket_call[i] = ls_xcalloc((size_t)c->n_buckets + 1, sizeof(int));
        for (int b = 0; ep->training && b < c->n_buckets; b++) {
            for (int k = 0; k < e->n_segments; k++) {
                const segment *s = &e->segments[k];
                if (s->first < c->buckets[b + 1] && s->last > c->buckets[b]) {
                    const size_t upto = (s->last < c->buckets[b + 1] ? s->last : c->buckets[b + 1]) - s->first;
                    int ready = s->statistic ? ls_plan_n_backward(ep->plan)
                                             : ls_plan_ready_call_upto(ep->plan, s->weight, upto);
                    last = ready > last ? ready : last;
                }
            }
            ep->bucket_call[i][b] = last;
        }
    }
}
