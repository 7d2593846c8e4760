/*
 * The event loop of lockstepd: timers, signals, readable descriptors, child processes. The only file that knows libuv
 * is loop.c. One thread; every callback runs on it.
 */
#ifndef LS_DAEMON_LOOP_H
#define LS_DAEMON_LOOP_H

#include "common/status.h"

typedef struct ls_loop ls_loop;
typedef struct ls_loop_watch ls_loop_watch;

typedef void (*ls_loop_fn)(void *context);
typedef void (*ls_loop_signal_fn)(void *context, int signal_number);
/* signal_number is 0 for a process that ended by itself. */
typedef void (*ls_loop_exit_fn)(void *context, int pid, int exit_code, int signal_number);

/* The caller's, for ls_loop_destroy. */
ls_loop *ls_loop_create(void);
/* Ends what is left open and frees the loop. Children run on. */
void ls_loop_destroy(ls_loop *loop);
/* Runs until ls_loop_stop. */
void ls_loop_run(ls_loop *loop);
void ls_loop_stop(ls_loop *loop);
/* Runs callbacks that are due, without waiting. */
void ls_loop_turn(ls_loop *loop);
/* The uv_loop_t, for the HTTP library, which lives on the same loop. */
void *ls_loop_native(ls_loop *loop);

/* Calls fn every period_ms until ls_loop_unwatch. */
ls_loop_watch *ls_loop_every(ls_loop *loop, unsigned period_ms, ls_loop_fn fn, void *context);
/* Calls fn at a signal, until the loop is destroyed. */
void ls_loop_on_signal(ls_loop *loop, int signal_number, ls_loop_signal_fn fn, void *context);

/* Calls fn whenever fd is readable. NULL when the descriptor cannot be watched. The descriptor stays the caller's, and
 * may be closed right after ls_loop_unwatch, which ends the calls at once (NULL is legal). */
ls_loop_watch *ls_loop_watch_fd(ls_loop *loop, int fd, ls_loop_fn fn, void *context);
void ls_loop_unwatch(ls_loop_watch *watch);

/* Starts a program, searched for in PATH, from an argument vector (argv[argc] is NULL), without a shell, in a session
 * of its own, so that it outlives the daemon; standard input is empty, standard output and error go to output_fd. fn
 * may be called at its end, if the loop still runs then. LS_EIO: it could not be started, and why. */
ls_status ls_loop_spawn(ls_loop *loop, char **argv, const char *folder, int output_fd, ls_loop_exit_fn fn,
                        void *context, int *pid, ls_err *err) LS_MUST_CHECK;

#endif
