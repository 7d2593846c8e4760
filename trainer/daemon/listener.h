/*
 * A unix socket that only its owner may use (mode 0600), and what comes in through it.
 *
 * The socket of a dead daemon is replaced; a live one, or a file that is no socket, is refused. Every accepted
 * descriptor is non-blocking and closed on exec. When the process runs out of descriptors, callers are turned away
 * instead of being left in the queue, where they would wake the loop for ever.
 */
#ifndef LS_DAEMON_LISTENER_H
#define LS_DAEMON_LISTENER_H

#include "trainer/daemon/loop.h"

typedef struct ls_listener ls_listener;
typedef void (*ls_listener_fn)(void *context, int fd); /* fd is the callee's from here on */

/* The caller's, for ls_listener_destroy. LS_EINPUT: the path is in use or cannot be; the sentence says by whom. */
ls_status ls_listener_create(ls_listener **out, ls_loop *loop, const char *path, ls_listener_fn fn, void *context,
                             ls_err *err) LS_MUST_CHECK;
/* Closes it and removes the socket file. NULL is legal. */
void ls_listener_destroy(ls_listener *listener);

#endif
