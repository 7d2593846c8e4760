/*
 * HTTP/1.1 on lockstepd's unix socket: requests to ls_api_handle, replies and streams back. The only file that knows
 * libwebsockets is http.c; the library runs on the daemon's own loop and is handed connections that the listener took.
 *
 * Limits, so that no caller can hurt another: MAX_CALLERS connections, a time limit for a request to arrive and for a
 * reply to be taken, LS_API_BODY_MAX bytes of body, and what a stream's reader has not read yet: past that it is cut
 * off.
 */
#ifndef LS_DAEMON_HTTP_H
#define LS_DAEMON_HTTP_H

#include "trainer/daemon/supervisor.h"

typedef struct ls_http ls_http;

/* Serves on path. The caller's, for ls_http_destroy. Errors as ls_listener_create. */
ls_status ls_http_create(ls_http **out, ls_loop *loop, ls_supervisor *supervisor, const char *path,
                         ls_err *err) LS_MUST_CHECK;
/* Closes all connections. The loop must still be there, not running. NULL is legal. */
void ls_http_destroy(ls_http *http);

/* An ls_event_fn, context an ls_http: passes an event on to those who watch the job. */
void ls_http_notify(void *context, ls_job *job, const char *name, const char *text);

#endif
