#include "worker/reduce/watchdog.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/memory.h"
#include "common/text.h"
#include "worker/reduce/shared.h"

#define SECOND ((int64_t)1000000000)

/* How much longer than the limit, in seconds: what a watchdog sees with its own eyes comes first, then what is known
 * from hearsay, so that the one who knows best speaks. Once one has spoken, mpirun takes two or three seconds to end
 * the ranks of other hosts: from one to the next there are four. */
enum { GRACE_OWN = 1, GRACE_REMOTE = 4, GRACE_HEARSAY = 8, GRACE_ANYBODY = 12, GRACE_TOLD = 10 };

/* What the watchdogs of a node share. */
typedef struct {
    _Alignas(64) _Atomic int64_t told_ns; /* when one of them spoke; 0: not yet */
    ls_progress rows[];                   /* (n_local) */
} board;

typedef struct ls_watchdog {
    ls_team *team;
    ls_shared shared;
    board *board;
    int64_t limit_ns[LS_DOING_COUNT];
    int64_t period_ns;
    int64_t resumed_ns; /* when this thread last came back from being stopped */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool started, stop;
} ls_watchdog;

static const struct {
    const char *word, *text;
    double limit_s;
} phases[LS_DOING_COUNT] = {
#define X(name, word, text) {word, text, 600},
    LS_PHASE_LIST(X)
#undef X
};

void ls_watchdog_options_init(ls_watchdog_options *o) {
    for (int i = 0; i < LS_DOING_COUNT; i++) {
        o->limit_s[i] = phases[i].limit_s;
    }
    o->limit_s[LS_DOING_TRAIN] = o->limit_s[LS_DOING_VALIDATE] = 60;
}

/* A row, read once. */
typedef struct {
    int rank, pid, doing, bucket, waiting, wanted;
    bool hearsay;
    uint64_t step;
    int64_t age_ns, limit_ns; /* limit 0: none */
} seen;

static seen look(const ls_watchdog *d, int local, int64_t now) {
    const ls_progress *row = &d->board->rows[local];
    seen s = {.rank = d->team->node_first[d->team->node] + local};
    s.doing = atomic_load_explicit(&row->doing, memory_order_acquire);
    s.waiting = atomic_load_explicit(&row->waiting, memory_order_acquire);
    s.pid = row->pid;
    s.bucket = row->bucket;
    s.wanted = row->wanted;
    s.hearsay = row->hearsay != 0;
    s.step = row->step;
    int64_t since = row->since_ns;
    s.age_ns = now - (since > d->resumed_ns ? since : d->resumed_ns);
    s.limit_ns = s.doing >= 0 && s.doing < LS_DOING_COUNT ? d->limit_ns[s.doing] : 0;
    return s;
}

static bool late(const seen *s, int grace_s) {
    return s->limit_ns > 0 && s->age_ns > s->limit_ns + grace_s * SECOND;
}

static void say_where(char *out, size_t size, const seen *s, int bucket) {
    unsigned long long step = (unsigned long long)s->step + 1;
    if (s->doing == LS_DOING_TRAIN && bucket >= 0) {
        snprintf(out, size, "reached bucket %d of step %llu", bucket, step);
    } else if (s->doing == LS_DOING_TRAIN) {
        snprintf(out, size, "reached the end of step %llu", step);
    } else {
        snprintf(out, size, "%s", phases[s->doing].text);
    }
}

static const char *how_long(char out[32], const seen *s) {
    return ls_format_duration(out, 32, (double)s->age_ns / 1e9);
}

/* One rank that is to blame, and the sentence. */
typedef struct {
    int pid; /* 0: on another node, or nobody in particular */
    char sentence[512];
} blame;

static void blame_rank(const ls_watchdog *d, blame *b, int rank, int pid, const seen *s, int bucket) {
    char where[128], took[32];
    say_where(where, sizeof where, s, bucket);
    b->pid = pid;
    snprintf(b->sentence, sizeof b->sentence, "rank %d on %s has not %s for %s", rank, d->team->hosts[rank], where,
             how_long(took, s));
}

/* A rank that is late and waits for nobody. */
static bool find_stuck(const ls_watchdog *d, int64_t now, blame *b) {
    for (int l = 0; l < d->team->n_local; l++) {
        seen s = look(d, l, now);
        bool own = l == d->team->local && d->team->n_local > 1; /* better told by a neighbour */
        if (s.waiting == LS_NOBODY && late(&s, own ? GRACE_OWN : 0)) {
            blame_rank(d, b, s.rank, s.pid, &s, s.bucket);
            return true;
        }
    }
    return false;
}

/* One whom somebody here waits for: a neighbour that has left, or a rank of another node. */
static bool find_awaited(const ls_watchdog *d, int64_t now, blame *b) {
    const ls_team *t = d->team;
    for (int l = 0; l < t->n_local; l++) {
        seen s = look(d, l, now);
        if (s.waiting < 0) {
            continue;
        }
        if (t->node_of[s.waiting] != t->node) {
            if (late(&s, s.hearsay ? GRACE_HEARSAY : GRACE_REMOTE)) {
                blame_rank(d, b, s.waiting, 0, &s, s.wanted);
                return true;
            }
            continue;
        }
        seen other = look(d, s.waiting - t->node_first[t->node], now);
        if (other.doing == LS_DOING_NOTHING && late(&s, 0)) {
            char where[128], took[32];
            say_where(where, sizeof where, &s, s.wanted);
            b->pid = other.pid;
            snprintf(b->sentence, sizeof b->sentence,
                     "rank %d on %s has left while rank %d waits for it, which has not %s for %s", other.rank,
                     t->hosts[other.rank], s.rank, where, how_long(took, &s));
            return true;
        }
    }
    return false;
}

/* Nobody in particular: ranks that wait and do not know for whom, or for each other. */
static bool find_waiting(const ls_watchdog *d, int64_t now, blame *b) {
    for (int l = 0; l < d->team->n_local; l++) {
        seen s = look(d, l, now);
        if (s.waiting != LS_NOBODY && late(&s, GRACE_ANYBODY)) {
            char where[128], took[32], whom[32] = "other ranks";
            say_where(where, sizeof where, &s, s.wanted);
            if (s.waiting >= 0) {
                snprintf(whom, sizeof whom, "rank %d", s.waiting);
            }
            b->pid = 0;
            snprintf(b->sentence, sizeof b->sentence, "rank %d on %s has waited for %s and not %s for %s", s.rank,
                     d->team->hosts[s.rank], whom, where, how_long(took, &s));
            return true;
        }
    }
    return false;
}

/* One round: speaks and ends the job if there is somebody to blame, once a node. */
static void watch(ls_watchdog *d, int64_t now) {
    int64_t told = atomic_load(&d->board->told_ns);
    if (told != 0) {
        if (now - told > GRACE_TOLD * SECOND) {
            _exit(ls_status_exit_code(LS_ESTALLED)); /* the one that spoke could not end the job */
        }
        return;
    }
    blame b;
    if (!find_stuck(d, now, &b) && !find_awaited(d, now, &b) && !find_waiting(d, now, &b)) {
        return;
    }
    if (atomic_compare_exchange_strong(&d->board->told_ns, &told, now)) {
        ls_team_abort_with(d->team, LS_ESTALLED, b.sentence, b.pid != getpid() ? b.pid : 0);
    }
}

static void *run(void *argument) {
    ls_watchdog *d = argument;
    int64_t last = ls_now_ns();
    pthread_mutex_lock(&d->lock);
    while (!d->stop) {
        int64_t until = ls_now_ns() + d->period_ns;
        struct timespec t = {until / SECOND, until % SECOND};
        int woken = pthread_cond_timedwait(&d->wake, &d->lock, &t);
        if (woken != ETIMEDOUT) {
            continue;
        }
        int64_t now = ls_now_ns();
        if (now - last > d->period_ns + 3 * SECOND) {
            d->resumed_ns = now;
        }
        last = now;
        watch(d, now);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static void set_limits(ls_watchdog *d, const ls_watchdog_options *options) {
    ls_watchdog_options usual;
    ls_watchdog_options_init(&usual);
    d->period_ns = SECOND / 4;
    for (int i = 0; i < LS_DOING_COUNT; i++) {
        double limit = options->limit_s[i] >= 0 ? options->limit_s[i] : usual.limit_s[i];
        d->limit_ns[i] = (int64_t)(limit * 1e9);
        if (d->limit_ns[i] > 0 && d->limit_ns[i] / 8 < d->period_ns) {
            d->period_ns = d->limit_ns[i] / 8;
        }
    }
}

static ls_status start_thread(ls_watchdog *d, ls_err *err) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&d->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&d->lock, NULL);
    int failed = pthread_create(&d->thread, NULL, run, d);
    return failed == 0 ? LS_OK
                       : ls_fail(err, LS_ELIBRARY, "the watchdog's thread cannot be started: %s; see ulimit -u",
                                 strerror(failed));
}

ls_status ls_watchdog_start(ls_team *team, const ls_watchdog_options *options, ls_err *err) {
    LS_ASSERT(team->watchdog == NULL);
    ls_watchdog *d = ls_xcalloc(1, sizeof *d);
    size_t n_bytes = sizeof(board) + (size_t)team->n_local * sizeof(ls_progress);
    ls_status status = ls_shared_create(&d->shared, team, n_bytes, LS_SHARED_BEST, err);
    if (status != LS_OK) {
        free(d);
        return status;
    }
    d->team = team;
    d->board = d->shared.base;
    set_limits(d, options);
    ls_progress *row = &d->board->rows[team->local];
    row->pid = getpid();
    row->waiting = LS_NOBODY;
    row->wait_ns = team->progress->wait_ns;
    ls_progress_phase(row, LS_DOING_SETUP, 0);
    ls_team_node_barrier(team); /* every row is there before anyone reads one */
    team->progress = row;
    team->watchdog = d;
    d->started = start_thread(d, err) == LS_OK;
    status = ls_team_agree(team, d->started ? LS_OK : LS_ELIBRARY, err);
    if (status != LS_OK) {
        ls_watchdog_stop(team);
    }
    return status;
}

void ls_watchdog_stop(ls_team *team) {
    ls_watchdog *d = team->watchdog;
    if (d == NULL) {
        return;
    }
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
    if (d->started) {
        pthread_join(d->thread, NULL);
    }
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->wake);
    atomic_store_explicit(&team->progress->doing, LS_DOING_NOTHING, memory_order_release);
    ls_team_forget_progress(team);
    team->watchdog = NULL;
    ls_shared_release(&d->shared);
    free(d);
}
