#include "worker/reduce/meeting.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/reduce/exchange.h"
#include "worker/reduce/lanes.h"
#include "worker/reduce/levels.h"
#include "worker/reduce/shared.h"
#include "worker/reduce/sum.h"

enum { UNIT = LS_EXCHANGE_UNIT / sizeof(double) };

/* A rank's counter in shared memory: meetings that it has come to. The first rank's: also, those in which it has heard
 * the other nodes. */
typedef struct {
    _Alignas(64) _Atomic uint64_t here;
    _Alignas(64) _Atomic uint64_t heard;
} line;

/* A level between nodes, as the first rank of a node sees it: its group's children. */
typedef struct {
    int n_children, own;
    int *fragments;    /* (n_children) rows that a child's lanes come to */
    int *from;         /* (n_children) the rank that tells what the child comes to; -1: the own child */
    double **received; /* (n_children) (fragments, most); the own child's is what is sent */
    int n_to;
    int *to;    /* (n_to) ranks that are told what the own child comes to */
    ls_sum sum; /* the children's rows to the group's */
} stage;

/* The messages of meetings of one size. */
typedef struct {
    size_t n;
    int **send, **receive; /* (levels)(n_to), (levels)(n_children) */
} mail;

struct ls_meeting {
    ls_team *team;
    ls_meeting_options o; /* sizes are a copy */
    ls_levels levels;
    size_t most; /* the largest size, and the distance between rows: whole units */
    uint64_t n_held;

    ls_shared shared;
    line *lines;     /* (n_local) */
    double *rows[2]; /* by the parity of the meeting: (node.n_leaves + 1, most), the last for the sum of all lanes */

    ls_sum own, node; /* this rank's lanes to its rows; the node's rows to what they come to */
    int own_row;      /* the first of this rank's own.n_out rows */

    double *zeros, *scratch;    /* (most), (the largest n_scratch, most) */
    const double **leaf, **out; /* pointers of the sum under way */

    ls_exchange *exchange; /* first ranks of nodes, where there are several; else NULL */
    stage *stages;         /* (levels.n) of the first rank of a node */
    mail *mails;           /* (n_sizes) */
};

static int first_lane(const ls_meeting *m, int rank) {
    return ls_lanes_first(m->o.n_lanes, m->team->size, rank);
}

/* ---- making ---- */

/* What the lanes of a group come to. */
static int fragments_of(const ls_meeting *m, int level, int group, ls_branch *out) {
    return ls_lanes_fragments(m->o.n_lanes, first_lane(m, ls_levels_first_rank(&m->levels, level, group)),
                              first_lane(m, ls_levels_first_rank(&m->levels, level, group + 1)), out);
}

/* Who adds what. Leaves are in lane order. */
static void compile_sums(ls_meeting *m) {
    const ls_team *t = m->team;
    const size_t n_lanes = (size_t)m->o.n_lanes;
    ls_branch *mine = ls_xcalloc(n_lanes, sizeof *mine), *node = ls_xcalloc(n_lanes, sizeof *node);
    int first = first_lane(m, t->rank), last = first_lane(m, t->rank + 1), n_node = 0;
    for (int lane = first; lane < last; lane++) {
        mine[lane - first] = (ls_branch){lane, 1};
    }
    ls_sum_init(&m->own, m->o.n_lanes, mine, last - first, false);
    for (int r = t->node_first[t->node]; r < t->node_first[t->node + 1]; r++) {
        m->own_row = r == t->rank ? n_node : m->own_row;
        n_node += ls_lanes_fragments(m->o.n_lanes, first_lane(m, r), first_lane(m, r + 1), node + n_node);
    }
    ls_sum_init(&m->node, m->o.n_lanes, node, n_node, false);
    LS_ASSERT(t->n_nodes > 1 || m->node.n_out == 1);
    free(mine);
    free(node);
}

static int nodes_of(const ls_levels *l, int level, int group, int *first) {
    *first = ls_levels_first_node(l, level, group);
    return ls_levels_first_node(l, level, group + 1) - *first;
}

/* Node k of the own child hears child c from node k mod (nodes of c) of it, and so tells those nodes j of c for which k
 * is j mod (nodes of the own child). */
static void make_stage(ls_meeting *m, stage *v, int level) {
    const ls_team *t = m->team;
    const ls_levels *l = &m->levels;
    int group = ls_levels_group(l, level, t->rank), child = l->first[level][group], first, there, cap = 0, n = 0;
    int mine = nodes_of(l, level - 1, ls_levels_group(l, level - 1, t->rank), &first), k = t->node - first;
    ls_branch *all = ls_xcalloc((size_t)m->o.n_lanes, sizeof *all);
    v->n_children = l->first[level][group + 1] - child;
    v->own = ls_levels_group(l, level - 1, t->rank) - child;
    v->fragments = ls_xcalloc((size_t)v->n_children, sizeof *v->fragments);
    v->from = ls_xcalloc((size_t)v->n_children, sizeof *v->from);
    v->received = ls_xcalloc((size_t)v->n_children, sizeof *v->received);
    for (int c = 0; c < v->n_children; c++) {
        ls_branch branches[LS_MAX_FRAGMENTS];
        v->fragments[c] = fragments_of(m, level - 1, child + c, branches);
        memcpy(all + n, branches, (size_t)v->fragments[c] * sizeof *all);
        n += v->fragments[c];
        v->received[c] = ls_xcalloc((size_t)v->fragments[c] * m->most, sizeof(double));
        int theirs = nodes_of(l, level - 1, child + c, &there);
        v->from[c] = c == v->own ? -1 : t->node_first[there + k % theirs];
        for (int j = k; c != v->own && j < theirs; j += mine) {
            LS_PUSH(v->to, v->n_to, cap, t->node_first[there + j]);
        }
    }
    ls_sum_init(&v->sum, m->o.n_lanes, all, n, false);
    free(all);
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

static void allocate_private(ls_meeting *m) {
    int n_leaves = larger(m->own.n_leaves, m->node.n_leaves), n_scratch = larger(m->own.n_scratch, m->node.n_scratch);
    for (int s = 0; m->stages != NULL && s < m->levels.n; s++) {
        n_leaves = larger(n_leaves, m->stages[s].sum.n_leaves);
        n_scratch = larger(n_scratch, m->stages[s].sum.n_scratch);
    }
    m->zeros = ls_xcalloc(m->most, sizeof *m->zeros);
    m->scratch = ls_xcalloc((size_t)n_scratch * m->most, sizeof *m->scratch);
    m->leaf = ls_xcalloc((size_t)n_leaves, sizeof *m->leaf);
    m->out = ls_xcalloc((size_t)n_leaves, sizeof *m->out);
}

/* A size's tag is its number: two leaders meet on one level only, and of two messages between the same ranks with one
 * tag the first sent is the first taken. */
static void describe_mail(ls_meeting *m) {
    const size_t n_levels = (size_t)m->levels.n;
    m->mails = ls_xcalloc((size_t)m->o.n_sizes, sizeof *m->mails);
    for (int i = 0; i < m->o.n_sizes; i++) {
        size_t row_bytes = ls_align_up(m->o.sizes[i], UNIT) * sizeof(double);
        mail *at = &m->mails[i];
        *at = (mail){m->o.sizes[i], ls_xcalloc(n_levels, sizeof(int *)), ls_xcalloc(n_levels, sizeof(int *))};
        for (int s = 0; s < m->levels.n; s++) {
            const stage *v = &m->stages[s];
            at->send[s] = ls_xcalloc((size_t)v->n_to, sizeof(int));
            at->receive[s] = ls_xcalloc((size_t)v->n_children, sizeof(int));
            for (int k = 0; k < v->n_to; k++) {
                at->send[s][k] = ls_exchange_send(m->exchange, v->to[k], i, v->received[v->own],
                                                  (size_t)v->fragments[v->own] * row_bytes);
            }
            for (int c = 0; c < v->n_children; c++) {
                at->receive[s][c] = c == v->own ? -1
                                                : ls_exchange_receive(m->exchange, v->from[c], i, v->received[c],
                                                                      (size_t)v->fragments[c] * row_bytes);
            }
        }
    }
}

static ls_status check_same(const ls_meeting *m, ls_err *err) {
    uint64_t h = 0xcbf29ce484222325u ^ (uint64_t)m->o.n_lanes;
    for (int i = 0; i < m->o.n_sizes; i++) {
        h = (h ^ m->o.sizes[i]) * 0x100000001b3u; /* FNV-1a */
    }
    char words[96];
    snprintf(words, sizeof words, "%d lanes, meetings of %d sizes up to %zu numbers", m->o.n_lanes, m->o.n_sizes,
             m->most);
    return ls_team_check_same(m->team, "the table of meetings", h, words, err);
}

static ls_status allocate_shared(ls_meeting *m, ls_err *err) {
    size_t n_rows = (size_t)m->node.n_leaves + 1, n_local = (size_t)m->team->n_local, row_bytes = 0, n_bytes = 0;
    bool overflow = __builtin_mul_overflow(m->most, 2 * sizeof(double), &row_bytes) ||
                    __builtin_mul_overflow(n_rows, row_bytes, &n_bytes) ||
                    __builtin_add_overflow(n_bytes, n_local * sizeof(line), &n_bytes);
    ls_status s = overflow ? ls_fail(err, LS_ENOMEM, "the statistics of %zu numbers in %d lanes fit no memory", m->most,
                                     m->o.n_lanes)
                           : LS_OK;
    LS_TRY(ls_team_agree(m->team, s, err));
    LS_TRY(ls_shared_create(&m->shared, m->team, n_bytes, LS_SHARED_BEST, err));
    m->lines = m->shared.base;
    m->rows[0] = (double *)(void *)((char *)m->shared.base + n_local * sizeof(line));
    m->rows[1] = m->rows[0] + n_rows * m->most;
    return LS_OK;
}

ls_status ls_meeting_create(ls_meeting **out, ls_team *team, const ls_meeting_options *options, ls_err *err) {
    ls_meeting *m = ls_xcalloc(1, sizeof *m);
    m->team = team;
    m->o = *options;
    size_t *sizes = ls_xcalloc((size_t)options->n_sizes, sizeof *sizes);
    for (int i = 0; i < options->n_sizes; i++) {
        sizes[i] = options->sizes[i];
        m->most = ls_align_up(sizes[i], UNIT) > m->most ? ls_align_up(sizes[i], UNIT) : m->most;
    }
    m->o.sizes = sizes;
    ls_levels_init(&m->levels, team->n_nodes, team->node_first, team->fan_in);
    compile_sums(m);
    ls_status s = check_same(m, err);
    if (s == LS_OK) {
        s = allocate_shared(m, err);
    }
    if (s != LS_OK) {
        ls_meeting_destroy(m);
        return s;
    }
    if (team->n_nodes > 1) {
        m->exchange = ls_exchange_create(team);
        if (team->local == 0) {
            m->stages = ls_xcalloc((size_t)m->levels.n, sizeof *m->stages);
            for (int i = 0; i < m->levels.n; i++) {
                make_stage(m, &m->stages[i], i + 1);
            }
            describe_mail(m);
        }
    }
    allocate_private(m);
    *out = m;
    return LS_OK;
}

static void free_stage(stage *v) {
    for (int c = 0; c < v->n_children; c++) {
        free(v->received[c]);
    }
    free(v->fragments);
    free(v->from);
    free(v->received);
    free(v->to);
    ls_sum_release(&v->sum);
}

void ls_meeting_destroy(ls_meeting *m) {
    if (m == NULL) {
        return;
    }
    ls_exchange_destroy(m->exchange);
    for (int i = 0; m->mails != NULL && i < m->o.n_sizes; i++) {
        for (int s = 0; s < m->levels.n; s++) {
            free(m->mails[i].send[s]);
            free(m->mails[i].receive[s]);
        }
        free(m->mails[i].send);
        free(m->mails[i].receive);
    }
    for (int s = 0; m->stages != NULL && s < m->levels.n; s++) {
        free_stage(&m->stages[s]);
    }
    ls_levels_release(&m->levels);
    ls_sum_release(&m->own);
    ls_sum_release(&m->node);
    ls_shared_release(&m->shared);
    void *const blocks[] = {(void *)m->o.sizes, m->zeros,  m->scratch, (void *)m->leaf,
                            (void *)m->out,     m->stages, m->mails};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        free(blocks[i]);
    }
    free(m);
}

uint64_t ls_meeting_sent(const ls_meeting *m) {
    uint64_t n_messages = 0, n_bytes = 0;
    if (m->exchange != NULL) {
        ls_exchange_sent(m->exchange, &n_messages, &n_bytes);
    }
    return n_messages;
}

/* ---- a meeting ---- */

static void wait_on(const ls_meeting *m, ls_wait *w) {
    if (m->o.meanwhile != NULL) {
        m->o.meanwhile(m->o.context);
    }
    ls_wait_pause(w);
}

/* Until all ranks of the node have come. */
static void wait_node(const ls_meeting *m) {
    const ls_team *t = m->team;
    ls_wait w = ls_wait_begin(t->progress, t->oversubscribed);
    for (int l = 0; l < t->n_local; l++) {
        ls_wait_for(&w, t->node_first[t->node] + l, false);
        while (atomic_load_explicit(&m->lines[l].here, memory_order_acquire) < m->n_held) {
            wait_on(m, &w);
        }
    }
    ls_wait_end(&w);
}

/* Until the node's first rank has heard the others. */
static void wait_first(const ls_meeting *m) {
    const ls_team *t = m->team;
    ls_wait w = ls_wait_begin(t->progress, t->oversubscribed);
    ls_wait_for(&w, t->node_first[t->node], true);
    while (atomic_load_explicit(&m->lines[0].heard, memory_order_acquire) < m->n_held) {
        wait_on(m, &w);
    }
    ls_wait_end(&w);
}

/* Sends what the own child comes to, and waits until it has left and that of the other children is there. */
static void swap(const ls_meeting *m, const mail *at, int s) {
    const stage *v = &m->stages[s];
    ls_wait w = ls_wait_begin(m->team->progress, m->team->oversubscribed);
    for (int k = 0; k < v->n_to; k++) {
        ls_exchange_start(m->exchange, at->send[s][k]);
    }
    for (int c = 0; c < v->n_children; c++) {
        if (c != v->own) {
            ls_wait_for(&w, v->from[c], s > 0); /* above the first level it may itself wait for others */
            while (!ls_exchange_done(m->exchange, at->receive[s][c])) {
                wait_on(m, &w);
            }
        }
    }
    for (int k = 0; k < v->n_to; k++) {
        ls_wait_for(&w, v->to[k], true);
        while (!ls_exchange_done(m->exchange, at->send[s][k])) {
            wait_on(m, &w);
        }
    }
    ls_wait_end(&w);
}

static double *row(const ls_meeting *m, int i) {
    return m->rows[m->n_held & 1] + (size_t)i * m->most;
}

/* Step a. */
static void give_own(ls_meeting *m, double *const *lane, size_t n) {
    for (int i = 0; i < m->own.n_leaves; i++) {
        m->leaf[i] = lane[i] != NULL ? lane[i] : m->zeros;
    }
    ls_sum_run_f64(&m->own, m->leaf, n, m->scratch, m->most, m->out);
    for (int f = 0; f < m->own.n_out; f++) {
        memcpy(row(m, m->own_row + f), m->out[f], n * sizeof(double));
    }
}

/* The node's rows, added, into m->out. */
static void add_node(ls_meeting *m, size_t n) {
    for (int i = 0; i < m->node.n_leaves; i++) {
        m->leaf[i] = row(m, i);
    }
    ls_sum_run_f64(&m->node, m->leaf, n, m->scratch, m->most, m->out);
}

static void start_receives(const ls_meeting *m, const mail *at) {
    for (int s = 0; s < m->levels.n; s++) {
        for (int c = 0; c < m->stages[s].n_children; c++) {
            if (c != m->stages[s].own) {
                ls_exchange_start(m->exchange, at->receive[s][c]);
            }
        }
    }
}

/* Step c, on the first rank of a node. */
static void hear_others(ls_meeting *m, size_t n) {
    const mail *at = m->mails;
    size_t stride = ls_align_up(n, UNIT);
    while (at->n != n) {
        at++;
    }
    start_receives(m, at);
    add_node(m, n);
    for (int s = 0; s < m->levels.n; s++) {
        const stage *v = &m->stages[s];
        int n_leaves = 0;
        for (int f = 0; f < v->fragments[v->own]; f++) {
            memcpy(v->received[v->own] + (size_t)f * stride, m->out[f], n * sizeof(double));
        }
        swap(m, at, s);
        for (int c = 0; c < v->n_children; c++) {
            for (int f = 0; f < v->fragments[c]; f++) {
                m->leaf[n_leaves++] = v->received[c] + (size_t)f * stride;
            }
        }
        ls_sum_run_f64(&v->sum, m->leaf, n, m->scratch, m->most, m->out);
    }
    memcpy(row(m, m->node.n_leaves), m->out[0], n * sizeof(double));
}

void ls_meeting_sum(ls_meeting *m, double *const *lane, size_t n) {
    const ls_team *t = m->team;
    LS_ASSERT(n <= m->most);
    /* Nobody reads the rows of this parity any more: all have come to the meeting after that one. */
    m->n_held++;
    give_own(m, lane, n);
    atomic_store_explicit(&m->lines[t->local].here, m->n_held, memory_order_release);
    wait_node(m);
    const double *sum = row(m, m->node.n_leaves);
    if (t->n_nodes == 1) {
        add_node(m, n);
        sum = m->out[0];
    } else if (t->local == 0) {
        hear_others(m, n);
        atomic_store_explicit(&m->lines[0].heard, m->n_held, memory_order_release);
    }
    if (t->n_nodes > 1) {
        wait_first(m);
    }
    for (int i = 0; i < m->own.n_leaves; i++) {
        if (lane[i] != NULL) {
            memcpy(lane[i], sum, n * sizeof(double));
        }
    }
    ls_progress_alive(t->progress);
}
