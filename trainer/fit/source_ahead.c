/*
 * Reading ahead, for data that does not fit in memory.
 *
 * A thread a source fills a ring of LS_SOURCE_AHEAD places, one an announcement: the raw samples of every array that
 * the model asks for, checked. The training thread waits only for a place that is not filled yet. A place is used again
 * LS_SOURCE_AHEAD announcements later, when the step that it was for is over.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"
#include "common/trace.h"
#include "trainer/fit/source_private.h"

typedef struct {
    const uint32_t *from; /* the caller's list, for finding the place of a part of it */
    uint32_t *index;      /* [n] a copy */
    size_t n, capacity;
    char **raw; /* [n_arrays], (n, sample_bytes) each; NULL: not asked for */
    ls_status status;
    ls_err err;
} place;

struct ls_ahead {
    ls_source *source;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    uint64_t announced, read; /* counts of announcements; number k is in place k % LS_SOURCE_AHEAD */
    bool quit;
    place places[LS_SOURCE_AHEAD]; /* those from `read` to `announced` are the thread's */
};

static bool used(const ls_source *s, size_t array) {
    for (int i = 0; i < s->n_bindings; i++) {
        if (s->bindings[i].array == (int)array) {
            return true;
        }
    }
    return false;
}

/* Without the lock. */
static void read_place(ls_source *s, place *p) {
    ls_store *st = s->store;
    int64_t start = ls_now_ns();
    p->status = LS_OK;
    p->err = (ls_err)LS_ERR_INIT;
    pthread_mutex_lock(&st->lock);
    if (ls_fault_at(s->fault_data) != 0) {
        p->status = ls_fail(&p->err, LS_EIO, "%s: cannot be read (LOCKSTEP_FAULT asked for that)", st->dataset->name);
    }
    for (size_t a = 0; a < st->dataset->n_arrays && p->status == LS_OK; a++) {
        if (p->raw[a] != NULL) {
            p->status = ls_source_gather(s, (int)a, p->index, p->n, p->raw[a], &p->err);
        }
    }
    pthread_mutex_unlock(&st->lock);
    ls_trace_event("data", "read ahead", NULL, (int64_t)p->n, start, ls_now_ns());
}

static void *run(void *context) {
    ls_ahead *a = context;
    pthread_mutex_lock(&a->lock);
    while (!a->quit) {
        if (a->read == a->announced) {
            pthread_cond_wait(&a->changed, &a->lock);
            continue;
        }
        place *p = &a->places[a->read % LS_SOURCE_AHEAD];
        pthread_mutex_unlock(&a->lock);
        read_place(a->source, p);
        pthread_mutex_lock(&a->lock);
        a->read++;
        pthread_cond_broadcast(&a->changed);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* Under the lock: until announcement number k (from 0) has been read. A disk that does not answer cannot be talked
 * to, nor can a thread that waits for it be ended: all ranks are. */
static void wait_for(ls_ahead *a, uint64_t k) {
    const ls_source *s = a->source;
    int64_t start = ls_now_ns(), end = start + (int64_t)(s->deadline_s * 1e9);
    const struct timespec until = {.tv_sec = (time_t)(end / 1000000000), .tv_nsec = (long)(end % 1000000000)};
    bool waited = false;
    while (a->read <= k) {
        waited = true;
        if (s->deadline_s <= 0) {
            pthread_cond_wait(&a->changed, &a->lock);
        } else if (pthread_cond_timedwait(&a->changed, &a->lock, &until) == ETIMEDOUT && a->read <= k) {
            char sentence[512], took[32];
            snprintf(sentence, sizeof sentence,
                     "%.300s: the samples of a step have not been read for %s; look after the disk or the network "
                     "that they lie on, or give more distribute.watchdog_seconds",
                     s->store->dataset->name, ls_format_duration(took, sizeof took, s->deadline_s));
            ls_team_abort(s->store->team, LS_ESTALLED, sentence);
        }
    }
    if (waited) {
        ls_trace_event("wait", "data", NULL, -1, start, ls_now_ns());
    }
}

static void reserve(const ls_source *s, place *p, size_t n) {
    const ls_dataset *d = s->store->dataset;
    if (n <= p->capacity) {
        return;
    }
    free(p->index);
    p->index = ls_xcalloc(n, sizeof *p->index);
    if (p->raw == NULL) {
        p->raw = ls_xcalloc(d->n_arrays, sizeof *p->raw);
    }
    for (size_t i = 0; i < d->n_arrays; i++) {
        free(p->raw[i]);
        p->raw[i] = used(s, i) ? ls_xcalloc(n, d->arrays[i].sample_bytes) : NULL;
    }
    p->capacity = n;
}

static ls_ahead *start(ls_source *s) {
    ls_ahead *a = ls_xcalloc(1, sizeof *a);
    a->source = s;
    snprintf(s->fault_data, sizeof s->fault_data, "rank%d.data", s->store->team->rank);
    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&a->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    /* Signals are the training thread's business. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&a->thread, NULL, run, a);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0) {
        return a;
    }
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->changed);
    free(a);
    ls_warn("%s: no thread can be started that reads ahead (%s): each step waits for its samples",
            s->store->dataset->name, strerror(error));
    s->feed.expect = NULL;
    return NULL;
}

void ls_source_expect(void *self, const uint32_t *index, size_t n) {
    ls_source *s = self;
    if (s->ahead == NULL && (s->ahead = start(s)) == NULL) {
        return;
    }
    ls_ahead *a = s->ahead;
    pthread_mutex_lock(&a->lock);
    if (a->announced >= LS_SOURCE_AHEAD) {
        wait_for(a, a->announced - LS_SOURCE_AHEAD);
    }
    place *p = &a->places[a->announced % LS_SOURCE_AHEAD];
    reserve(s, p, n);
    p->from = index;
    p->n = n;
    memcpy(p->index, index, n * sizeof *index);
    a->announced++;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

ls_status ls_ahead_find(ls_source *s, int array, const uint32_t *index, size_t n, const char **raw, ls_err *err) {
    ls_ahead *a = s->ahead;
    *raw = NULL;
    if (a == NULL) {
        return LS_OK;
    }
    ls_status status = LS_OK;
    pthread_mutex_lock(&a->lock);
    uint64_t oldest = a->announced > LS_SOURCE_AHEAD ? a->announced - LS_SOURCE_AHEAD : 0;
    for (uint64_t k = oldest; k < a->announced && *raw == NULL && status == LS_OK; k++) {
        const place *p = &a->places[k % LS_SOURCE_AHEAD];
        size_t first = (size_t)(index - p->from);
        if (index < p->from || first >= p->n || n > p->n - first ||
            memcmp(index, p->index + first, n * sizeof *index) != 0) {
            continue;
        }
        wait_for(a, k);
        if (p->status != LS_OK) {
            *err = p->err;
            status = p->status;
        } else {
            *raw = p->raw[array] + first * s->store->dataset->arrays[array].sample_bytes;
        }
    }
    pthread_mutex_unlock(&a->lock);
    return status;
}

void ls_ahead_destroy(ls_ahead *a) {
    if (a == NULL) {
        return;
    }
    pthread_mutex_lock(&a->lock);
    a->quit = true;
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    for (int i = 0; i < LS_SOURCE_AHEAD; i++) {
        place *p = &a->places[i];
        for (size_t k = 0; p->raw != NULL && k < a->source->store->dataset->n_arrays; k++) {
            free(p->raw[k]);
        }
        free(p->raw);
        free(p->index);
    }
    pthread_mutex_destroy(&a->lock);
    pthread_cond_destroy(&a->changed);
    free(a);
}
