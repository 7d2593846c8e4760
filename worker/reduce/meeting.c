#include "worker/reduce/meeting.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/reduce/exchange.h"
#include "worker/reduce/lanes.h"
#include "worker/reduce/shared.h"
#include "worker/reduce/sum.h"

enum { UNIT = LS_EXCHANGE_UNIT / sizeof(double) };

/* A rank's counter in shared memory: meetings that it has come to. The first rank's: also, those in which it has heard
 * the other nodes. */
typedef struct {
    _Alignas(64) _Atomic uint64_t here;
    _Alignas(64) _Atomic uint64_t heard;
} line;

/* The messages of meetings of one size, by node; -1 for the own one. */
typedef struct {
    size_t n;
    int *send, *receive; /* (n_nodes) */
} mail;

struct ls_meeting {
    ls_team *team;
    ls_meeting_options o; /* sizes are a copy */
    size_t most;          /* the largest size, and the distance between rows: whole units */
    uint64_t n_held;

    ls_shared shared;
    line *lines;     /* (n_local) */
    double *rows[2]; /* by the parity of the meeting: (root.n_leaves, most) */

    /* own: this rank's lanes to its rows; node: the node's rows to what it sends; root: all rows to the sums */
    ls_sum own, node, root;
    int own_row;     /* the first of this rank's own.n_out rows; the node's ranks have rows [0, node.n_leaves) */
    int *node_row;   /* (n_nodes) first row of another node's */
    int *node_count; /* (n_nodes) how many */

    double *zeros, *scratch;    /* (most), (the largest n_scratch, most) */
    const double **leaf, **out; /* pointers of the sum under way */

    ls_exchange *exchange; /* first ranks of nodes, where there are several; else NULL */
    mail *mails;           /* (n_sizes) */
    double *sending;       /* (node.n_out, most) */
    double **received;     /* (n_nodes) (node_count, most) */
};

static int first_lane(const ls_meeting *m, int rank) {
    return ls_lanes_first(m->o.n_lanes, m->team->size, rank);
}

/* ---- making ---- */

/* Who adds what. Leaves are in lane order; the own node's rows come first in memory (node_row 0), wherever its lanes
 * are. */
static void compile_sums(ls_meeting *m) {
    const ls_team *t = m->team;
    const size_t n_lanes = (size_t)m->o.n_lanes;
    ls_branch *mine = ls_xcalloc(n_lanes, sizeof *mine), *node = ls_xcalloc(n_lanes, sizeof *node);
    ls_branch *all = ls_xcalloc(n_lanes, sizeof *all), fragments[LS_MAX_FRAGMENTS];
    int first = first_lane(m, t->rank), last = first_lane(m, t->rank + 1), n_node = 0, n_all = 0;
    for (int lane = first; lane < last; lane++) {
        mine[lane - first] = (ls_branch){lane, 1};
    }
    ls_sum_init(&m->own, m->o.n_lanes, mine, last - first, false);
    for (int r = t->node_first[t->node]; r < t->node_first[t->node + 1]; r++) {
        m->own_row = r == t->rank ? n_node : m->own_row;
        n_node += ls_lanes_fragments(m->o.n_lanes, first_lane(m, r), first_lane(m, r + 1), node + n_node);
    }
    ls_sum_init(&m->node, m->o.n_lanes, node, n_node, false);
    m->node_row = ls_xcalloc((size_t)t->n_nodes, sizeof *m->node_row);
    m->node_count = ls_xcalloc((size_t)t->n_nodes, sizeof *m->node_count);
    int next_row = n_node;
    for (int k = 0; k < t->n_nodes; k++) {
        if (k == t->node) {
            memcpy(all + n_all, node, (size_t)n_node * sizeof *all);
            m->node_count[k] = n_node;
        } else {
            m->node_row[k] = next_row;
            m->node_count[k] = ls_lanes_fragments(m->o.n_lanes, first_lane(m, t->node_first[k]),
                                                  first_lane(m, t->node_first[k + 1]), all + n_all);
            next_row += m->node_count[k];
        }
        n_all += m->node_count[k];
    }
    ls_sum_init(&m->root, m->o.n_lanes, all, n_all, false);
    LS_ASSERT(m->root.n_out == 1 && m->own.n_out == ls_lanes_fragments(m->o.n_lanes, first, last, fragments));
    free(mine);
    free(node);
    free(all);
}

static int most_of(int a, int b, int c) {
    int ab = a > b ? a : b;
    return ab > c ? ab : c;
}

static void allocate_private(ls_meeting *m) {
    size_t n_leaves = (size_t)most_of(m->own.n_leaves, m->node.n_leaves, m->root.n_leaves);
    size_t n_scratch = (size_t)most_of(m->own.n_scratch, m->node.n_scratch, m->root.n_scratch);
    m->zeros = ls_xcalloc(m->most, sizeof *m->zeros);
    m->scratch = ls_xcalloc(n_scratch * m->most, sizeof *m->scratch);
    m->leaf = ls_xcalloc(n_leaves, sizeof *m->leaf);
    m->out = ls_xcalloc(n_leaves, sizeof *m->out);
}

/* A size's tag is its number: of two messages between the same ranks with one tag the first sent is the first taken. */
static void describe_mail(ls_meeting *m) {
    const ls_team *t = m->team;
    const size_t n_nodes = (size_t)t->n_nodes;
    m->sending = ls_xcalloc((size_t)m->node.n_out * m->most, sizeof *m->sending);
    m->received = ls_xcalloc(n_nodes, sizeof *m->received);
    for (int k = 0; k < t->n_nodes; k++) {
        m->received[k] = ls_xcalloc((size_t)m->node_count[k] * m->most, sizeof(double));
    }
    m->mails = ls_xcalloc((size_t)m->o.n_sizes, sizeof *m->mails);
    for (int i = 0; i < m->o.n_sizes; i++) {
        mail *at = &m->mails[i];
        size_t row_bytes = ls_align_up(m->o.sizes[i], UNIT) * sizeof(double);
        *at = (mail){m->o.sizes[i], ls_xcalloc(n_nodes, sizeof(int)), ls_xcalloc(n_nodes, sizeof(int))};
        for (int k = 0; k < t->n_nodes; k++) {
            if (k != t->node) {
                at->send[k] =
                    ls_exchange_send(m->exchange, t->node_first[k], i, m->sending, (size_t)m->node.n_out * row_bytes);
                at->receive[k] = ls_exchange_receive(m->exchange, t->node_first[k], i, m->received[k],
                                                     (size_t)m->node_count[k] * row_bytes);
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
    size_t n_rows = (size_t)m->root.n_leaves, n_local = (size_t)m->team->n_local, row_bytes = 0, n_bytes = 0;
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
    compile_sums(m);
    ls_status s = check_same(m, err);
    if (s == LS_OK) {
        s = allocate_shared(m, err);
    }
    if (s != LS_OK) {
        ls_meeting_destroy(m);
        return s;
    }
    allocate_private(m);
    if (team->n_nodes > 1) {
        m->exchange = ls_exchange_create(team);
        if (team->local == 0) {
            describe_mail(m);
        }
    }
    *out = m;
    return LS_OK;
}

void ls_meeting_destroy(ls_meeting *m) {
    if (m == NULL) {
        return;
    }
    ls_exchange_destroy(m->exchange);
    for (int i = 0; m->mails != NULL && i < m->o.n_sizes; i++) {
        free(m->mails[i].send);
        free(m->mails[i].receive);
    }
    for (int k = 0; m->received != NULL && k < m->team->n_nodes; k++) {
        free(m->received[k]);
    }
    ls_sum_release(&m->own);
    ls_sum_release(&m->node);
    ls_sum_release(&m->root);
    ls_shared_release(&m->shared);
    void *const blocks[] = {(void *)m->o.sizes, m->node_row,    m->node_count, m->zeros,   m->scratch,
                            (void *)m->leaf,    (void *)m->out, m->mails,      m->sending, m->received};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        free(blocks[i]);
    }
    free(m);
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

/* Sends this node's rows, and waits until they have left and all others' are there. */
static void swap(const ls_meeting *m, const mail *at) {
    const ls_team *t = m->team;
    for (int k = 0; k < t->n_nodes; k++) {
        if (k != t->node) {
            ls_exchange_start(m->exchange, at->receive[k]);
            ls_exchange_start(m->exchange, at->send[k]);
        }
    }
    ls_wait w = ls_wait_begin(t->progress, t->oversubscribed);
    for (int k = 0; k < t->n_nodes; k++) {
        if (k != t->node) {
            ls_wait_for(&w, t->node_first[k], false);
            while (!ls_exchange_done(m->exchange, at->receive[k]) || !ls_exchange_done(m->exchange, at->send[k])) {
                wait_on(m, &w);
            }
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

/* Step b, on the first rank of a node. */
static void hear_others(ls_meeting *m, size_t n) {
    const mail *at = m->mails;
    size_t stride = ls_align_up(n, UNIT);
    while (at->n != n) {
        at++;
    }
    for (int i = 0; i < m->node.n_leaves; i++) {
        m->leaf[i] = row(m, i);
    }
    ls_sum_run_f64(&m->node, m->leaf, n, m->scratch, m->most, m->out);
    for (int f = 0; f < m->node.n_out; f++) {
        memcpy(m->sending + (size_t)f * stride, m->out[f], n * sizeof(double));
    }
    swap(m, at);
    for (int k = 0; k < m->team->n_nodes; k++) {
        for (int f = 0; k != m->team->node && f < m->node_count[k]; f++) {
            memcpy(row(m, m->node_row[k] + f), m->received[k] + (size_t)f * stride, n * sizeof(double));
        }
    }
}

void ls_meeting_sum(ls_meeting *m, double *const *lane, size_t n) {
    const ls_team *t = m->team;
    LS_ASSERT(n <= m->most);
    /* Nobody reads the rows of this parity any more: all have come to the meeting after that one. */
    m->n_held++;
    give_own(m, lane, n);
    atomic_store_explicit(&m->lines[t->local].here, m->n_held, memory_order_release);
    wait_node(m);
    if (t->n_nodes > 1) {
        if (t->local == 0) {
            hear_others(m, n);
            atomic_store_explicit(&m->lines[0].heard, m->n_held, memory_order_release);
        }
        wait_first(m);
    }
    int n_leaves = 0;
    for (int k = 0; k < t->n_nodes; k++) {
        for (int f = 0; f < m->node_count[k]; f++) {
            m->leaf[n_leaves++] = row(m, m->node_row[k] + f);
        }
    }
    ls_sum_run_f64(&m->root, m->leaf, n, m->scratch, m->most, m->out);
    for (int i = 0; i < m->own.n_leaves; i++) {
        if (lane[i] != NULL) {
            memcpy(lane[i], m->out[0], n * sizeof(double));
        }
    }
    ls_progress_alive(t->progress);
}
