#include "tests/bench/scale/loggp.h"

#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/reduce/lanes.h"
#include "worker/reduce/levels.h"
#include "worker/reduce/reducer.h"

/* What a rank has to do when it next polls at `at` or later. */
typedef enum { UP, DOWN, ANSWER, RELEASE } kind;
typedef struct event {
    double at;
    kind what; /* fragments, parameters are here; a long message is announced, may be sent */
    kind then; /* ANSWER, RELEASE: what arrives */
    int bucket, level;
    double n, bytes; /* messages and bytes of each: ANSWER, RELEASE */
} event;

typedef struct walk {
    const schedule *s;
    const network *net;
    const cluster *c;
    ls_levels levels;
    int *fragments; /* (levels.n + 1) of a group of the level */
    double t;       /* of the processor */
    double link;    /* free again */
    double overhead, messages, link_bytes;
    event *pending;
    int n_pending, cap;
} walk;

static void await(walk *w, event e) {
    LS_PUSH(w->pending, w->n_pending, w->cap, e);
}

/* How many parts a bucket has on a level: as there are, or fewer where it is small, or more where it is large. */
static double n_parts(const walk *w, int bucket, int level) {
    const ls_levels *l = &w->levels;
    const double floats = (double)w->s->floats[bucket], all = (double)l->n_parts[l->n],
                 here = (double)l->n_parts[level];
    const size_t least = w->c->least_floats, most = w->c->most_floats;
    if (l->n > 0 && w->s->used[bucket] < 1 && floats < all * LS_REDUCE_CHUNK) {
        return fmin(here, ceil(floats / LS_REDUCE_CHUNK)); /* tables are cut at chunks */
    }
    if (l->n > 0 && w->s->used[bucket] == 1 && floats < all * (double)least) {
        return fmin(here, fmax(1, floor(floats / (double)least)));
    }
    return l->n > 0 && most > 0 && floats > all * (double)most ? here * ceil(floats / all / (double)most) : here;
}

/* What one rank does of n messages to or from a part of the level, if all take turns. */
static double turn(const walk *w, int bucket, int level, double n) {
    return n * n_parts(w, bucket, level) / (double)w->levels.n_parts[level];
}

/* Bytes of a part of a level, at so many a float. */
static double part_bytes(const walk *w, int bucket, int level, double each) {
    return (double)w->s->floats[bucket] * each / n_parts(w, bucket, level);
}

/* The share of a table's blocks that so many ranks have used, each its own batch. */
static double used_by(const walk *w, int bucket, double n_ranks) {
    const double used = w->s->used[bucket];
    return used < 1 && !w->c->whole_tables ? 1 - pow(1 - used, w->c->batch / w->s->batch * n_ranks) : 1;
}

/* A message of gradients: what the ranks below have used. A word a chunk says which blocks those are. */
static double up_bytes(const walk *w, int bucket, int level) {
    const double ranks = (double)w->c->ranks / w->levels.n_groups[level - 1], share = used_by(w, bucket, ranks);
    return w->fragments[level - 1] * part_bytes(w, bucket, level, w->c->wire_bfloat16 ? 2 : 4) * share +
           (share < 1 ? part_bytes(w, bucket, level, 8.0 / LS_REDUCE_CHUNK) : 0);
}

/* Parameters come back whole, or as what anybody has used, with the words again. */
static double down_bytes(const walk *w, int bucket, int level) {
    const double share = w->c->idle ? used_by(w, bucket, w->c->ranks) : 1;
    return part_bytes(w, bucket, level, 4) * share +
           (share < 1 ? part_bytes(w, bucket, level, 8.0 / LS_REDUCE_CHUNK) : 0);
}

static void pay(walk *w, double n, double bytes) {
    double cost = n * (w->net->overhead_s + bytes * w->net->cpu_byte_s);
    w->t += cost;
    w->overhead += cost;
}

/* n messages leave; by symmetry, as many arrive here when the last of them does elsewhere. */
static void transmit(walk *w, event arrives, double n, double bytes) {
    double total = n * bytes * w->c->ranks_per_node;
    w->link = fmax(w->t, w->link) + total * w->net->byte_s;
    w->link_bytes += total;
    arrives.at = w->link + w->net->latency_s;
    await(w, arrives);
}

static void post(walk *w, kind what, int bucket, int level, double n, double bytes) {
    event e = {.what = what, .then = what, .bucket = bucket, .level = level, .n = n, .bytes = bytes};
    pay(w, n, bytes);
    w->messages += n;
    if (bytes > (double)w->net->eager_bytes) {
        e.what = ANSWER;
        e.at = w->t + w->net->latency_s;
        await(w, e);
    } else {
        transmit(w, e, n, bytes);
    }
}

/* A job has all that it adds: it adds, and tells the next level, or updates and tells the level below. */
static void go_up(walk *w, int bucket, int level) {
    const ls_levels *l = &w->levels;
    const cluster *c = w->c;
    double mine = turn(w, bucket, level, part_bytes(w, bucket, level, sizeof(float))), read = 0;
    mine *= used_by(w, bucket, (double)c->ranks / l->n_groups[level]);
    read = level == 0 ? c->ranks_per_node : 0;
    if (level > 0) {
        double children = l->width[level];
        pay(w, turn(w, bucket, level, children - 1), up_bytes(w, bucket, level));
        read = (children - 1) * w->fragments[level - 1] + (level == 1 ? c->ranks_per_node : w->fragments[level - 1]);
    }
    if (level < l->n) {
        double width = l->width[level + 1];
        w->t += mine * (level == 0 ? (width - 1) / width : 1) * (read + 2 * w->fragments[level]) * c->add_byte_s;
        post(w, UP, bucket, level + 1, turn(w, bucket, level + 1, width - 1), up_bytes(w, bucket, level + 1));
        return;
    }
    double update = w->s->update_s / (double)w->s->n_floats / sizeof(float);
    w->t += mine * ((level > 0 || c->ranks_per_node > 1 ? read * c->add_byte_s : 0) + update / fmin(c->speed, 8));
    if (l->n > 0) {
        post(w, DOWN, bucket, l->n - 1, turn(w, bucket, l->n, l->width[l->n] - 1), down_bytes(w, bucket, l->n));
    }
}

static void go_down(walk *w, int bucket, int level) {
    const ls_levels *l = &w->levels;
    pay(w, turn(w, bucket, level + 1, l->width[level + 1] - 1), down_bytes(w, bucket, level + 1));
    if (level > 0) {
        post(w, DOWN, bucket, level - 1, turn(w, bucket, level, l->width[level] - 1), down_bytes(w, bucket, level));
    }
}

static void handle(walk *w, event e) {
    switch (e.what) {
        case UP: go_up(w, e.bucket, e.level); break;
        case DOWN: go_down(w, e.bucket, e.level); break;
        case ANSWER:
            w->t += e.n * w->net->overhead_s;
            w->overhead += e.n * w->net->overhead_s;
            e.what = RELEASE;
            e.at = w->t + w->net->latency_s;
            await(w, e);
            break;
        case RELEASE:
            w->t += e.n * w->net->overhead_s;
            w->overhead += e.n * w->net->overhead_s;
            e.what = e.then;
            transmit(w, e, e.n, e.bytes);
            break;
    }
}

static int earliest(const walk *w) {
    int first = 0;
    for (int i = 1; i < w->n_pending; i++) {
        first = w->pending[i].at < w->pending[first].at ? i : first;
    }
    return first;
}

/* Handles all that has arrived. */
static void poll(walk *w) {
    int i;
    while (w->n_pending > 0 && w->pending[i = earliest(w)].at <= w->t) {
        event e = w->pending[i];
        w->pending[i] = w->pending[--w->n_pending];
        handle(w, e);
    }
}

/* The first ranks of nodes tell each other what all say, level by level. */
static void verdict(walk *w) {
    const ls_levels *l = &w->levels;
    double bytes = 64 + 16.0 * w->c->ranks_per_node;
    for (int s = 1; s <= l->n; s++) {
        double n = l->width[s] - 1;
        pay(w, 2 * n, bytes);
        w->t += w->net->latency_s + n * bytes * w->net->byte_s + w->c->wake_s;
        w->messages += n / w->c->ranks_per_node;
        bytes *= l->width[s];
    }
}

static void begin(walk *w) {
    int n_nodes = (w->c->ranks + w->c->ranks_per_node - 1) / w->c->ranks_per_node;
    int *first = ls_xcalloc((size_t)n_nodes + 1, sizeof *first);
    for (int i = 0; i <= n_nodes; i++) {
        first[i] = i < n_nodes ? i * w->c->ranks_per_node : w->c->ranks;
    }
    ls_levels_init(&w->levels, n_nodes, first, w->c->fan_in);
    free(first);
    w->fragments = ls_xcalloc((size_t)w->levels.n + 1, sizeof *w->fragments);
    for (int s = 0; s <= w->levels.n; s++) {
        for (int g = 0; g < w->levels.n_groups[s]; g++) {
            ls_branch unused[LS_MAX_FRAGMENTS];
            int k = ls_lanes_fragments(w->c->ranks, ls_levels_first_rank(&w->levels, s, g),
                                       ls_levels_first_rank(&w->levels, s, g + 1), unused);
            w->fragments[s] = k > w->fragments[s] ? k : w->fragments[s];
        }
    }
}

/* Seconds of a step but for the wait for slow ranks; what all of them know. */
static double follow(const schedule *s, const network *net, const cluster *c, prediction *p) {
    walk w = {.s = s, .net = net, .c = c};
    double scale = c->batch / s->batch / c->speed;
    begin(&w);
    w.t = s->forward_s * scale;
    for (int i = 0, b = 0; i <= s->n_calls; i++) {
        w.t += i > 0 ? s->call_s[i - 1] * scale : 0;
        for (; b < s->n_buckets && s->after[b] <= i; b++) {
            await(&w, (event){.at = w.t, .what = UP, .bucket = b});
        }
        if (i < s->n_calls) {
            poll(&w);
        }
    }
    double computed = w.t;
    while (w.n_pending > 0) {
        double at = w.pending[earliest(&w)].at;
        w.t = at > w.t ? at + c->wake_s : w.t;
        poll(&w);
    }
    verdict(&w);
    if (p != NULL) {
        p->exposed_s = w.t - computed;
        p->overhead_s = w.overhead;
        p->messages = w.messages;
        p->node_bytes = w.link_bytes;
    }
    ls_levels_release(&w.levels);
    free(w.fragments);
    free(w.pending);
    return w.t;
}

/* How much later than a usual one the slowest of n ranks is, in standard deviations (normal, asymptotically). */
static double slowest(int n) {
    return n > 1 ? sqrt(2 * log(n)) : 0;
}

prediction predict(const schedule *s, const network *net, const cluster *c) {
    prediction p = {.limit = "none"};
    const cluster one = {.ranks = 1, .ranks_per_node = 1, .fan_in = 2, .speed = c->speed, .batch = c->batch};
    p.alone_s = follow(s, net, &one, NULL);
    double step = follow(s, net, c, &p);
    p.skew_s = c->jitter * p.alone_s * slowest(c->ranks);
    p.step_s = step + p.skew_s;
    p.efficiency = p.alone_s / p.step_s;
    network fast[3] = {*net, *net, *net};
    fast[0].byte_s = 0;
    fast[1].overhead_s = fast[1].cpu_byte_s = 0;
    fast[2].latency_s = 0;
    const char *const names[] = {"bandwidth", "messages", "latency"};
    p.limit = "skew";
    p.limit_s = p.skew_s;
    for (int i = 0; i < 3; i++) {
        double gain = step - follow(s, &fast[i], c, NULL);
        if (gain > p.limit_s) {
            p.limit = names[i];
            p.limit_s = gain;
        }
    }
    return p;
}
