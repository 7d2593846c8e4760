/* The push socket: runs introduce themselves and tell their events (common/control.h says how). */
#ifndef LS_DAEMON_PUSH_H
#define LS_DAEMON_PUSH_H

#include "trainer/daemon/supervisor.h"

typedef struct ls_push ls_push;

/* Listens on path (SOCKET.push). The caller's, for ls_push_destroy. Errors as ls_listener_create. */
ls_status ls_push_create(ls_push **out, ls_loop *loop, ls_supervisor *supervisor, const char *path,
                         ls_err *err) LS_MUST_CHECK;
void ls_push_destroy(ls_push *push); /* NULL is legal */

#endif
