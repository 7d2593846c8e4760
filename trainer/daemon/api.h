/*
 * The routes of lockstepd, without the transport: a request in, a reply out.
 *
 *   GET    /healthz                       {"status": "ok", "version", "pid", "jobs": {state: count}}
 *   GET    /api/v1/jobs                   {"jobs": [job, ...]}
 *   POST   /api/v1/jobs                   submit: {"job", "ranks", "name"?, "run_dir"?, "folder"?, "set"?, "resume"?};
 * 201, job GET    /api/v1/jobs/ID                job GET    /api/v1/jobs/ID/history        {"columns": [name, ...],
 * "rows": [[number or null, ...], ...]}: history.csv GET    /api/v1/jobs/ID/log            text; ?offset=BYTES,
 * ?follow=1 goes on until the job is over GET    /api/v1/jobs/ID/checkpoints    {"checkpoints": [{"path", "bytes",
 * "modified"}, ...]}, oldest first GET    /api/v1/jobs/ID/events         server-sent events: "job" (the job) at first
 * and at each change of state, and every event of the run under its own name; ends when the job is over POST
 * /api/v1/jobs/ID/stop           {"now"?: bool}; 202, job POST   /api/v1/jobs/ID/resume         202, job DELETE
 * /api/v1/jobs/ID                takes an ended job off the list, leaves its run folder; 200, {"removed": ID}
 *
 * A job is as ls_job_to_json gives it. What cannot be done gives {"error": "one sentence"} with 400 (bad request), 404
 * (no such thing), 405 (no such method there), 409 (not in this state), 413 (too large) or 500.
 */
#ifndef LS_DAEMON_API_H
#define LS_DAEMON_API_H

#include "trainer/daemon/supervisor.h"

enum { LS_API_BODY_MAX = 1024 * 1024 }; /* bytes of a request's body */

/* name, method, the part of the path after /api/v1/jobs ("" for none); with_id: /ID comes before that part */
#define LS_ROUTE_LIST(X)                       \
    X(LIST, "GET", "", false)                  \
    X(SUBMIT, "POST", "", false)               \
    X(SHOW, "GET", "", true)                   \
    X(REMOVE, "DELETE", "", true)              \
    X(HISTORY, "GET", "history", true)         \
    X(LOG, "GET", "log", true)                 \
    X(CHECKPOINTS, "GET", "checkpoints", true) \
    X(EVENTS, "GET", "events", true)           \
    X(STOP, "POST", "stop", true)              \
    X(RESUME, "POST", "resume", true)

typedef enum {
#define X(name, method, part, with_id) LS_ROUTE_##name,
    LS_ROUTE_LIST(X)
#undef X
        LS_ROUTE_HEALTH,
    LS_ROUTE_WRONG_METHOD,
    LS_ROUTE_UNKNOWN
} ls_route;

typedef struct ls_request {
    const char *method; /* "GET" */
    const char *path;   /* decoded, without the query */
    const char *offset; /* of the query, or NULL */
    const char *follow;
    const char *body; /* ended by a '\0' */
} ls_request;

typedef enum { LS_REPLY_WHOLE, LS_REPLY_EVENTS, LS_REPLY_LOG } ls_reply_kind;

typedef struct ls_reply {
    int status;       /* HTTP */
    const char *type; /* content type */
    char *body;       /* the receiver's, to free(); what comes first, of a stream */
    size_t n_bytes;
    ls_reply_kind kind;
    int64_t job_id; /* of a stream */
    int64_t offset; /* where a log goes on */
    bool follow;
} ls_reply;

/* Which route a method and a path mean; *id is the job's where there is one. */
ls_route ls_api_route(const char *method, const char *path, int64_t *id);

/* Does what is asked. */
void ls_api_handle(ls_supervisor *supervisor, const ls_request *request, ls_reply *reply);

/* A reply {"error": ...}. */
void ls_api_refuse(ls_reply *reply, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The text of an error or of a job, as a server-sent event; freed by the caller. */
char *ls_api_sse(const char *name, const char *json_text);

/* history.csv as JSON, a new reference: numbers where a field is one, null where it is empty or not finite, else text.
 * Lines that are not whole yet are left out. */
json_t *ls_api_history(const char *csv);

#endif
