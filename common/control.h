/*
 * How a run reports to lockstepd: the client side, in rank 0.
 *
 * lockstepd listens on two unix sockets: SOCKET, where people ask (HTTP), and SOCKET.push, where runs tell. A run
 * connects to SOCKET.push and writes JSON lines, one object a line; nothing comes back. The first line of each
 * connection says which run speaks:
 *
 *   {"event": "hello", "version": 1, "run_dir": "/abs/runs/mnist-1", "job": "/abs/mnist.json", "pid": 4711,
 *    "start_time": 8812345, "ranks": 2, "host": "node1", "dropped": 0, "time": 1700000000.5}
 *
 * (pid and start_time as in common/process.h: rank 0's own; dropped: lines lost so far.) After it come the same events
 * that go to the run folder's events.jsonl. That file is the truth; lockstepd reads it as well, so a line lost here is
 * a delay of a moment, never a loss.
 *
 * Training is never held up. Lines go into a fixed buffer and from there to the socket as far as it takes them at once;
 * what does not fit is dropped whole and counted. No daemon, or a dead one, costs one failed connect after 0.5 s, 1 s,
 * 2 s ... up to 30 s. Nothing is allocated after ls_control_create. One thread at a time per ls_control; local, never
 * communicates with other ranks.
 */
#ifndef LS_COMMON_CONTROL_H
#define LS_COMMON_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum { LS_CONTROL_VERSION = 1, LS_CONTROL_LINE_MAX = 32 * 1024, LS_CONTROL_PATH_MAX = 108 };

typedef struct ls_control ls_control;

/* Who speaks; the texts are copied. */
typedef struct ls_control_run {
    const char *run_dir; /* absolute */
    const char *job;     /* absolute path of the job file, or NULL */
    const char *host;
    int ranks;
} ls_control_run;

/* socket_path is the daemon's SOCKET. Tries to connect at once; that nobody answers is no error. LS_EINPUT: the path is
 * too long for a socket. On success *out is the caller's, for ls_control_destroy. */
ls_status ls_control_create(ls_control **out, const char *socket_path, const ls_control_run *run,
                            ls_err *err) LS_MUST_CHECK;

/* Queues one JSON object (n_bytes of text without a newline) and sends what can be sent without waiting. Lines longer
 * than LS_CONTROL_LINE_MAX, or for which there is no room, are dropped. */
void ls_control_push(ls_control *control, const char *line, size_t n_bytes);

/* Sends, or connects again, without a new line: for a moment when there is nothing to tell. Does not wait. */
void ls_control_poll(ls_control *control);

/* Lines dropped so far. */
uint64_t ls_control_dropped(const ls_control *control);

/* Waits up to linger_ms for queued lines to leave, if connected, and frees everything. NULL is legal. */
void ls_control_destroy(ls_control *control, int linger_ms);

/* Where lockstepd listens unless told otherwise: $XDG_RUNTIME_DIR/lockstepd.sock, or /tmp/lockstepd-UID/lockstepd.sock
 * where that is not set. LS_EINPUT: the path is too long for a socket. */
ls_status ls_control_default_socket(char out[LS_CONTROL_PATH_MAX], ls_err *err) LS_MUST_CHECK;

/* SOCKET.push of a SOCKET. LS_EINPUT as above. */
ls_status ls_control_push_socket(const char *socket_path, char out[LS_CONTROL_PATH_MAX], ls_err *err) LS_MUST_CHECK;

#endif
