#include "trainer/daemon/http.h"

#include <fcntl.h>
#include <inttypes.h>
#include <libwebsockets.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/memory.h"
#include "trainer/daemon/api.h"
#include "trainer/daemon/listener.h"

enum { MAX_CALLERS = 256, ARRIVE_S = 10, TAKE_S = 30, PIECE = 16 * 1024, PENDING_MAX = 4 * 1024 * 1024, KICK_MS = 250 };

/* One request and its reply; hangs on its connection. */
typedef struct exchange {
    struct exchange *next, *previous;
    struct lws *wsi;
    char method[16];
    char *path, *offset, *follow;
    char *body;
    size_t n_body, body_expected;
    ls_reply reply; /* reply.body[sent..n_bytes) is still to be sent */
    size_t sent;
    bool answered, headers_sent, over; /* over: a stream has all that it will get */
    bool hang_up;                      /* close after the reply: the rest of the request will not be read */
} exchange;

struct ls_http {
    ls_loop *loop;
    ls_supervisor *supervisor;
    ls_listener *listener;
    ls_loop_watch *timer;
    struct lws_context *context;
    struct lws_vhost *vhost;
    exchange *exchanges;
    int n_callers;
};

/* libwebsockets' own memory of a connection */
typedef struct connection {
    exchange *exchange;
    bool counted;
} connection;

static void drop_exchange(ls_http *http, exchange *x) {
    if (x == NULL) {
        return;
    }
    if (x->previous != NULL) {
        x->previous->next = x->next;
    } else {
        http->exchanges = x->next;
    }
    if (x->next != NULL) {
        x->next->previous = x->previous;
    }
    free(x->path);
    free(x->offset);
    free(x->follow);
    free(x->body);
    free(x->reply.body);
    free(x);
}

static exchange *new_exchange(ls_http *http, struct lws *wsi) {
    exchange *x = ls_xcalloc(1, sizeof *x);
    x->wsi = wsi;
    x->next = http->exchanges;
    if (x->next != NULL) {
        x->next->previous = x;
    }
    http->exchanges = x;
    return x;
}

/* One argument of the query, freed by the caller; NULL when it is not there. */
static char *query(struct lws *wsi, const char *key_and_equals) {
    char buffer[256];
    const char *value = lws_get_urlarg_by_name(wsi, key_and_equals, buffer, sizeof buffer);
    return value != NULL ? ls_xstrdup(value) : NULL;
}

static void answer(ls_http *http, exchange *x) {
    ls_request request = {
        .method = x->method, .path = x->path, .offset = x->offset, .follow = x->follow, .body = x->body ? x->body : ""};
    ls_api_handle(http->supervisor, &request, &x->reply);
    x->answered = true;
    lws_set_timeout(x->wsi, PENDING_TIMEOUT_HTTP_CONTENT, TAKE_S);
    lws_callback_on_writable(x->wsi);
}

static void refuse(exchange *x, int status, const char *sentence) {
    ls_api_refuse(&x->reply, status, "%s", sentence);
    x->answered = true;
    x->hang_up = true;
    lws_set_timeout(x->wsi, PENDING_TIMEOUT_HTTP_CONTENT, TAKE_S);
    lws_callback_on_writable(x->wsi);
}

/* A request's head is there. */
static int begin(ls_http *http, struct lws *wsi, connection *link, const char *path) {
    static const char *const methods[] = {"GET",    "POST",    "OPTIONS", "PUT",  "PATCH",
                                          "DELETE", "CONNECT", "HEAD",    "OTHER"};
    char *uri = NULL, length[24] = "";
    int n = 0, method = lws_http_get_uri_and_method(wsi, &uri, &n);
    drop_exchange(http, link->exchange);
    exchange *x = link->exchange = new_exchange(http, wsi);
    snprintf(x->method, sizeof x->method, "%s", methods[method >= 0 && method < 9 ? method : 8]);
    x->path = ls_xstrdup(path);
    x->offset = query(wsi, "offset=");
    x->follow = query(wsi, "follow=");
    if (lws_hdr_copy(wsi, length, sizeof length, WSI_TOKEN_HTTP_CONTENT_LENGTH) > 0) {
        x->body_expected = strtoull(length, NULL, 10);
    }
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0) {
        refuse(x, 411, "a request's body needs a Content-Length; chunks are not taken");
    } else if (x->body_expected > LS_API_BODY_MAX) {
        refuse(x, 413, "the request's body is too large: at most 1 MiB is taken");
    } else if (x->body_expected > 0) {
        x->body = ls_xcalloc(1, x->body_expected + 1);
        lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, ARRIVE_S);
    } else {
        answer(http, x);
    }
    return 0;
}

static void take_body(exchange *x, const void *bytes, size_t n) {
    if (x == NULL || x->answered || x->body == NULL) {
        return;
    }
    size_t room = x->body_expected - x->n_body;
    n = n < room ? n : room;
    memcpy(x->body + x->n_body, bytes, n);
    x->n_body += n;
}

static int send_headers(exchange *x) {
    unsigned char buffer[LWS_PRE + 1024], *start = buffer + LWS_PRE, *p = start, *end = buffer + sizeof buffer;
    bool stream = x->reply.kind != LS_REPLY_WHOLE;
    if (lws_add_http_header_status(x->wsi, (unsigned)x->reply.status, &p, end) ||
        lws_add_http_header_by_token(x->wsi, WSI_TOKEN_HTTP_CONTENT_TYPE, (const unsigned char *)x->reply.type,
                                     (int)strlen(x->reply.type), &p, end) ||
        lws_add_http_header_by_token(x->wsi, WSI_TOKEN_HTTP_CACHE_CONTROL, (const unsigned char *)"no-store", 8, &p,
                                     end)) {
        return -1;
    }
    if ((stream || x->hang_up) &&
        lws_add_http_header_by_token(x->wsi, WSI_TOKEN_CONNECTION, (const unsigned char *)"close", 5, &p, end)) {
        return -1;
    }
    if (!stream && lws_add_http_header_content_length(x->wsi, x->reply.n_bytes, &p, end)) {
        return -1;
    }
    if (lws_finalize_http_header(x->wsi, &p, end)) {
        return -1;
    }
    x->headers_sent = true;
    return lws_write(x->wsi, start, (size_t)(p - start), LWS_WRITE_HTTP_HEADERS) < 0 ? -1 : 0;
}

/* The next piece of a log, into the reply. Sets over when the file has no more and the job is over or not followed. */
static void read_log(ls_http *http, exchange *x) {
    ls_job *job = ls_registry_find(http->supervisor->registry, x->reply.job_id);
    bool last =
        !x->reply.follow || job == NULL || ls_job_over(job); /* asked before reading: what came by then counts */
    ssize_t n = 0;
    if (job != NULL) {
        char *path = ls_job_path(job, LS_JOB_LOG);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        free(path);
        char *piece = ls_xrealloc(NULL, PIECE);
        n = fd >= 0 ? pread(fd, piece, PIECE, x->reply.offset) : 0;
        if (fd >= 0) {
            close(fd);
        }
        free(x->reply.body);
        x->reply.body = piece;
        x->reply.n_bytes = n > 0 ? (size_t)n : 0;
        x->reply.offset += n > 0 ? n : 0;
        x->sent = 0;
    }
    x->over = n <= 0 && last;
}

/* Sends one piece of what waits. */
static int send_piece(exchange *x) {
    unsigned char buffer[LWS_PRE + PIECE];
    size_t left = x->reply.n_bytes - x->sent, n = left < PIECE ? left : PIECE;
    bool final = x->reply.kind == LS_REPLY_WHOLE && n == left;
    memcpy(buffer + LWS_PRE, x->reply.body + x->sent, n);
    x->sent += n;
    lws_set_timeout(x->wsi, PENDING_TIMEOUT_HTTP_CONTENT, TAKE_S);
    return lws_write(x->wsi, buffer + LWS_PRE, n, final ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < 0 ? -1 : 0;
}

/* The connection takes more. Non-zero closes it. */
static int go_on(ls_http *http, connection *link) {
    exchange *x = link->exchange;
    if (x == NULL || !x->answered) {
        return 0;
    }
    if (!x->headers_sent) {
        lws_callback_on_writable(x->wsi);
        return send_headers(x);
    }
    if (x->sent == x->reply.n_bytes && x->reply.kind == LS_REPLY_LOG && !x->over) {
        read_log(http, x);
    }
    if (x->sent < x->reply.n_bytes) {
        lws_callback_on_writable(x->wsi);
        if (send_piece(x) != 0) {
            return -1;
        }
        if (x->sent < x->reply.n_bytes || x->reply.kind != LS_REPLY_WHOLE) {
            return 0;
        }
    }
    if (x->reply.kind != LS_REPLY_WHOLE && !x->over) {
        lws_set_timeout(x->wsi, NO_PENDING_TIMEOUT, 0); /* a quiet stream may be quiet for hours */
        return 0;
    }
    struct lws *wsi = x->wsi;
    bool close_it = x->reply.kind != LS_REPLY_WHOLE || x->hang_up;
    drop_exchange(http, x);
    link->exchange = NULL;
    return close_it || lws_http_transaction_completed(wsi) ? -1 : 0;
}

/* Adds text to a stream; a reader who does not read is cut off. */
static void append(exchange *x, const char *text) {
    size_t left = x->reply.n_bytes - x->sent, n = strlen(text);
    if (left + n > PENDING_MAX) {
        ls_warn("a reader of the events of job %" PRId64 " does not read and is cut off", x->reply.job_id);
        x->over = true;
        lws_set_timeout(x->wsi, PENDING_TIMEOUT_HTTP_CONTENT, LWS_TO_KILL_ASYNC);
        return;
    }
    if (x->sent > 0) {
        memmove(x->reply.body, x->reply.body + x->sent, left);
        x->sent = 0;
    }
    x->reply.body = ls_xrealloc(x->reply.body, left + n + 1);
    memcpy(x->reply.body + left, text, n + 1);
    x->reply.n_bytes = left + n;
}

void ls_http_notify(void *context, ls_job *job, const char *name, const char *text) {
    ls_http *http = context;
    char *event = NULL;
    for (exchange *x = http->exchanges; x != NULL; x = x->next) {
        if (!x->answered || x->over || x->reply.job_id != job->id || x->reply.kind == LS_REPLY_WHOLE) {
            continue;
        }
        if (x->reply.kind == LS_REPLY_EVENTS) {
            if (event == NULL && text != NULL) {
                event = ls_api_sse(name, text);
            } else if (event == NULL) {
                json_t *json = ls_job_to_json(job);
                char *whole = json_dumps(json, JSON_COMPACT);
                event = ls_api_sse(name, whole);
                free(whole);
                json_decref(json);
            }
            append(x, event);
            x->over = x->over || ls_job_over(job);
        }
        lws_callback_on_writable(x->wsi);
    }
    free(event);
}

/* Logs grow without an event: those who follow one look again. Streams of a removed job end. */
static void on_kick(void *context) {
    ls_http *http = context;
    for (exchange *x = http->exchanges; x != NULL; x = x->next) {
        if (!x->answered || x->reply.kind == LS_REPLY_WHOLE) {
            continue;
        }
        ls_job *job = ls_registry_find(http->supervisor->registry, x->reply.job_id);
        bool ended = job == NULL || ls_job_over(job);
        if (x->reply.kind == LS_REPLY_EVENTS && ended) {
            x->over = true;
        }
        if (x->reply.kind == LS_REPLY_LOG || ended) {
            lws_callback_on_writable(x->wsi);
        }
    }
}

static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t n) {
    connection *link = user;
    struct lws_vhost *vhost = lws_get_vhost(wsi);
    ls_http *http = vhost != NULL ? lws_get_vhost_user(vhost) : NULL;
    if (http == NULL) { /* of the library's own, before there is a host */
        return 0;
    }
    switch (reason) {
        case LWS_CALLBACK_HTTP: return begin(http, wsi, link, in);
        case LWS_CALLBACK_HTTP_BODY: take_body(link->exchange, in, n); return 0;
        case LWS_CALLBACK_HTTP_BODY_COMPLETION:
            if (link->exchange != NULL && !link->exchange->answered) {
                answer(http, link->exchange);
            }
            return 0;
        case LWS_CALLBACK_HTTP_WRITEABLE: return go_on(http, link);
        case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
        case LWS_CALLBACK_CLOSED_HTTP:
            if (link != NULL) {
                drop_exchange(http, link->exchange);
                link->exchange = NULL;
            }
            return 0;
        case LWS_CALLBACK_WSI_CREATE: http->n_callers++; return 0;
        case LWS_CALLBACK_WSI_DESTROY: http->n_callers--; return 0;
        default: return 0;
    }
}

static const struct lws_protocols protocols[] = {
    {"http", on_http, sizeof(connection), 0, 0, NULL, 0},
    {NULL, NULL, 0, 0, 0, NULL, 0},
};

static void on_caller(void *context, int fd) {
    ls_http *http = context;
    if (http->n_callers >= MAX_CALLERS) {
        static const char body[] = "{\"error\": \"lockstepd has too many callers; try again\"}\n";
        char reply[256];
        int n = snprintf(reply, sizeof reply,
                         "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                         "Connection: close\r\n\r\n%s",
                         sizeof body - 1, body);
        (void)!write(fd, reply, (size_t)n);
        close(fd);
        return;
    }
    (void)lws_adopt_socket_vhost(http->vhost, fd); /* closes fd when it fails */
}

static void log_line(int level, const char *line) {
    size_t n = strcspn(line, "\n");
    (void)level;
    ls_debug("http: %.*s", (int)n, line);
}

ls_status ls_http_create(ls_http **out, ls_loop *loop, ls_supervisor *supervisor, const char *path, ls_err *err) {
    ls_http *http = ls_xcalloc(1, sizeof *http);
    void *native = ls_loop_native(loop);
    http->loop = loop;
    http->supervisor = supervisor;
    lws_set_log_level(LLL_ERR | LLL_WARN, log_line);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .options = LWS_SERVER_OPTION_LIBUV,
        .foreign_loops = &native,
        .pcontext = &http->context,
        .user = http,
        .gid = -1,
        .uid = -1,
        .timeout_secs = ARRIVE_S,
        .timeout_secs_ah_idle = ARRIVE_S,
        .keepalive_timeout = 30,
        .max_http_header_pool = MAX_CALLERS,
        .fd_limit_per_thread = 2 * MAX_CALLERS, /* else it makes tables for all descriptors that the process may open */
        .vhost_name = "lockstepd",
    };
    http->context = lws_create_context(&info);
    http->vhost = http->context != NULL ? lws_get_vhost_by_name(http->context, "lockstepd") : NULL;
    if (http->vhost == NULL) {
        ls_http_destroy(http);
        return ls_fail(err, LS_ELIBRARY,
                       "libwebsockets cannot be started on the daemon's loop (is its libuv part, "
                       "libwebsockets-evlib-uv, installed?)");
    }
    ls_status status = ls_listener_create(&http->listener, loop, path, on_caller, http, err);
    if (status != LS_OK) {
        ls_http_destroy(http);
        return status;
    }
    http->timer = ls_loop_every(loop, KICK_MS, on_kick, http);
    *out = http;
    return LS_OK;
}

void ls_http_destroy(ls_http *http) {
    if (http == NULL) {
        return;
    }
    ls_loop_unwatch(http->timer);
    ls_listener_destroy(http->listener);
    if (http->context != NULL) {
        lws_context_destroy(http->context); /* begins; on a foreign loop its handles close in the loop's next turns */
        for (int i = 0; i < 8; i++) {
            ls_loop_turn(http->loop);
        }
        if (http->context != NULL) { /* set to NULL by the library when it is done */
            lws_context_destroy(http->context);
        }
    }
    for (exchange *x = http->exchanges, *next; x != NULL; x = next) {
        next = x->next;
        drop_exchange(http, x);
    }
    free(http);
}
