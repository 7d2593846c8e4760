/*
 * What each rank is doing, in memory that its neighbours can read, and how a rank waits.
 *
 * Every rank has one row. It writes its own row only; the watchdogs of its node read all rows. Before
 * ls_watchdog_start gives a rank a shared row it writes into a private one, so that callers never ask.
 * Local, lock-free, cheap enough for the hot loop.
 */
#ifndef LS_WORKER_PROGRESS_H
#define LS_WORKER_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Phase, and the words that follow "has" in a watchdog's sentence. */
#define LS_PHASE_LIST(X)                                  \
    X(SETUP, "setup", "finished setting up")              \
    X(TRAIN, "train", "reached the end of a step")        \
    X(VALIDATE, "validate", "finished a validation step") \
    X(FINISH, "finish", "finished")

typedef enum {
#define X(name, word, text) LS_DOING_##name,
    LS_PHASE_LIST(X)
#undef X
        LS_DOING_COUNT,
    LS_DOING_NOTHING = LS_DOING_COUNT /* left politely, or not watched */
} ls_doing;

enum { LS_NOBODY = -1, LS_ANYBODY = -2 };

typedef struct ls_progress {
    _Alignas(64) _Atomic int32_t doing; /* ls_doing */
    _Atomic int32_t pid;
    _Atomic int32_t bucket;  /* next bucket that this rank has to make ready; -1 outside the backward pass */
    _Atomic int32_t waiting; /* the rank it waits for, LS_NOBODY while it computes, LS_ANYBODY when it cannot tell */
    _Atomic int32_t hearsay; /* the rank waited for may itself be waiting (it answers for others) */
    _Atomic int32_t wanted;  /* the bucket it waits for; -1: something else */
    _Atomic uint64_t step;
    _Atomic int64_t since_ns; /* when it last got on (ls_now_ns) */
    _Atomic int64_t wait_ns;  /* time spent waiting, in all; written by the rank itself */
} ls_progress;

/* The rank got on: a new phase or step (counted from 0), or one more sign of life in the same one. Resets the clock
 * that the watchdog reads. */
void ls_progress_phase(ls_progress *row, ls_doing doing, uint64_t step);
void ls_progress_bucket(ls_progress *row, int bucket);
void ls_progress_alive(ls_progress *row); /* a sign of life, nothing else new */

/*
 * One wait:  ls_wait w = ls_wait_begin(row, oversubscribed);
 *            ls_wait_for(&w, rank, false);
 *            while (!condition) { if (did something useful) ls_wait_reset(&w); else ls_wait_pause(&w); }
 *            ls_wait_end(&w);
 * Spins a hundred microseconds or so, then sleeps some tens of microseconds at a time; on an oversubscribed node it
 * yields at once instead of spinning. The time between begin and end that was not reset away is added to row->wait_ns.
 */
typedef struct ls_wait {
    ls_progress *row;
    int rank; /* whom it waits for; LS_ANYBODY until named */
    bool hearsay, oversubscribed;
    int wanted; /* bucket, for the watchdog's sentence; -1 */
    int turns;
    int64_t idle_since_ns; /* 0: not idle */
    int64_t *account;      /* the time is added here too; NULL: nowhere else. The caller's to change */
} ls_wait;
ls_wait ls_wait_begin(ls_progress *row, bool oversubscribed);
void ls_wait_for(ls_wait *w, int rank, bool hearsay); /* names (or renames) whom it waits for */
void ls_wait_reset(ls_wait *w);
void ls_wait_pause(ls_wait *w);
void ls_wait_end(ls_wait *w);

#endif
