#include "worker/reduce/progress.h"

#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

#include "common/clock.h"
#include "common/trace.h"

/*
 * Turns of a wait before it sleeps. A pause takes some tens of nanoseconds: a rank that arrives within a hundred
 * microseconds or so costs no wake-up. A yield is for ranks that share a core. Where each has its own it would hand the
 * core to whatever else runs on the machine, for a whole time slice however little that is worth; one who wakes from a
 * sleep takes it back at once.
 */
enum { SPIN_TURNS = 4000, CROWDED_YIELD_TURNS = 60, SLEEP_NS = 20000, CROWDED_SLEEP_NS = 60000, SLACK_NS = 1000 };

void ls_progress_phase(ls_progress *row, ls_doing doing, uint64_t step) {
    atomic_store_explicit(&row->bucket, -1, memory_order_relaxed);
    atomic_store_explicit(&row->step, step, memory_order_relaxed);
    atomic_store_explicit(&row->since_ns, ls_now_ns(), memory_order_relaxed);
    atomic_store_explicit(&row->doing, (int32_t)doing, memory_order_release);
}

void ls_progress_bucket(ls_progress *row, int bucket) {
    atomic_store_explicit(&row->bucket, bucket, memory_order_relaxed);
    atomic_store_explicit(&row->since_ns, ls_now_ns(), memory_order_release);
}

void ls_progress_alive(ls_progress *row) {
    atomic_store_explicit(&row->since_ns, ls_now_ns(), memory_order_release);
}

ls_wait ls_wait_begin(ls_progress *row, bool oversubscribed) {
    return (ls_wait){.row = row, .rank = LS_ANYBODY, .wanted = -1, .oversubscribed = oversubscribed};
}

static void publish(const ls_wait *w) {
    atomic_store_explicit(&w->row->hearsay, w->hearsay, memory_order_relaxed);
    atomic_store_explicit(&w->row->wanted, w->wanted, memory_order_relaxed);
    atomic_store_explicit(&w->row->waiting, w->rank, memory_order_release);
}

void ls_wait_for(ls_wait *w, int rank, bool hearsay) {
    w->rank = rank;
    w->hearsay = hearsay;
    if (w->idle_since_ns != 0) {
        publish(w);
    }
}

void ls_wait_reset(ls_wait *w) {
    if (w->idle_since_ns == 0) {
        return;
    }
    int64_t now = ls_now_ns();
    if (ls_trace_is_on) {
        ls_trace_event("wait", "wait for rank", NULL, atomic_load_explicit(&w->row->waiting, memory_order_relaxed),
                       w->idle_since_ns, now);
    }
    atomic_store_explicit(&w->row->wait_ns, w->row->wait_ns + now - w->idle_since_ns, memory_order_relaxed);
    if (w->account != NULL) {
        *w->account += now - w->idle_since_ns;
    }
    atomic_store_explicit(&w->row->since_ns, now, memory_order_relaxed);
    atomic_store_explicit(&w->row->waiting, LS_NOBODY, memory_order_release);
    w->idle_since_ns = 0;
    w->turns = 0;
}

/* Linux lets a sleep last 50 us longer than it was asked to, unless told otherwise, by each thread for itself. */
static void sleep_ns(long ns) {
    static _Thread_local bool precise;
    if (!precise) {
        (void)prctl(PR_SET_TIMERSLACK, (unsigned long)SLACK_NS, 0, 0, 0);
        precise = true;
    }
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

static inline void breathe(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

void ls_wait_pause(ls_wait *w) {
    if (w->idle_since_ns == 0) {
        w->idle_since_ns = ls_now_ns();
        atomic_store_explicit(&w->row->since_ns, w->idle_since_ns, memory_order_relaxed);
        publish(w);
    }
    if (w->turns >= (w->oversubscribed ? CROWDED_YIELD_TURNS : SPIN_TURNS)) {
        sleep_ns(w->oversubscribed ? CROWDED_SLEEP_NS : SLEEP_NS);
        return;
    }
    w->turns++;
    if (w->oversubscribed) {
        sched_yield();
    } else {
        breathe();
    }
}

void ls_wait_end(ls_wait *w) {
    ls_wait_reset(w);
}
