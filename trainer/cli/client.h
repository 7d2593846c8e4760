/*
 * Talking to lockstepd (trainer/daemon/api.h lists what it answers): one request at a time over its unix socket. The
 * only file that knows libcurl is client.c.
 */
#ifndef LS_CLI_CLIENT_H
#define LS_CLI_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/json.h"

/* Sends a request and takes the whole reply. body is sent as JSON, NULL: none. On success *text, when text is not NULL,
 * is the reply as it came and *json, when json is not NULL, what it holds; both the caller's.
 * LS_EINPUT: nobody answers at the socket, or lockstepd refuses (the sentence is its own). LS_EIO: it failed, or its
 * reply makes no sense. */
ls_status ls_client_request(const char *socket_path, const char *method, const char *path, const json_t *body,
                            char **text, json_t **json, ls_err *err) LS_MUST_CHECK;

/* Takes a piece of a stream; false ends it. */
typedef bool (*ls_client_fn)(void *context, const char *bytes, size_t n_bytes);

/* GETs a stream, handing on each piece as it comes, until it ends or fn ends it. Errors as above; LS_EIO besides when
 * the connection breaks off. */
ls_status ls_client_stream(const char *socket_path, const char *path, ls_client_fn fn, void *context,
                           ls_err *err) LS_MUST_CHECK;

#endif
