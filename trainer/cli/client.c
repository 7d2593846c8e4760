#include "trainer/cli/client.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

enum { REPLY_MAX = 256 * 1024 * 1024, CONNECT_S = 10, REPLY_S = 60 };

typedef struct {
    CURL *curl;
    char *text; /* of a whole reply, or of a refusal */
    size_t n_text;
    ls_client_fn fn; /* of a stream */
    void *context;
    bool ended; /* by fn */
} call;

static size_t take(char *bytes, size_t size, size_t n, void *user) {
    call *c = user;
    long status = 0;
    n *= size;
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    if (c->fn != NULL && status < 300) {
        c->ended = !c->fn(c->context, bytes, n);
        return c->ended ? 0 : n;
    }
    if (c->n_text + n > REPLY_MAX) {
        return 0;
    }
    c->text = ls_xrealloc(c->text, c->n_text + n + 1);
    memcpy(c->text + c->n_text, bytes, n);
    c->n_text += n;
    c->text[c->n_text] = '\0';
    return n;
}

/* What a failed transfer means to the person who asked. */
static ls_status explain(CURLcode code, const char *socket_path, ls_err *err) {
    if (code == CURLE_COULDNT_CONNECT) {
        return ls_fail(err, LS_EINPUT,
                       "no lockstepd answers at %s; start one with \"lockstepd\", or name its socket with --socket",
                       socket_path);
    }
    return ls_fail(err, LS_EIO, "the talk with lockstepd at %s broke off: %s", socket_path, curl_easy_strerror(code));
}

/* The sentence of a refusal. */
static ls_status refusal(const call *c, long http, const char *socket_path, ls_err *err) {
    json_t *json = c->text != NULL ? json_loads(c->text, 0, NULL) : NULL;
    const char *sentence = json_string_value(json_object_get(json, "error"));
    ls_status status = sentence == NULL
                           ? ls_fail(err, LS_EIO, "what answers at %s (HTTP %ld) is not lockstepd", socket_path, http)
                           : ls_fail(err, http < 500 ? LS_EINPUT : LS_EIO, "%s", sentence);
    json_decref(json);
    return status;
}

static ls_status perform(call *c, const char *socket_path, const char *method, const char *path, const char *body,
                         ls_err *err) {
    c->curl = curl_easy_init();
    if (c->curl == NULL) {
        return ls_fail(err, LS_ELIBRARY, "libcurl cannot be started");
    }
    char *url = ls_xprintf("http://lockstepd%s", path);
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:"); /* no asking first whether a body may come */
    headers = curl_slist_append(headers, "Content-Type: application/json");
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
    curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
    if (c->fn == NULL) {
        curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, (long)REPLY_S);
    }
    if (body != NULL || strcmp(method, "POST") == 0) {
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body != NULL ? body : "");
    }
    curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
    CURLcode code = curl_easy_perform(c->curl);
    long http = 0;
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &http);
    ls_status status = LS_OK;
    if (code != CURLE_OK && !c->ended) {
        status = explain(code, socket_path, err);
    } else if (http >= 300) {
        status = refusal(c, http, socket_path, err);
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(c->curl);
    free(url);
    return status;
}

ls_status ls_client_request(const char *socket_path, const char *method, const char *path, const json_t *body,
                            char **text, json_t **json, ls_err *err) {
    call c = {0};
    char *body_text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    ls_status status = perform(&c, socket_path, method, path, body_text, err);
    free(body_text);
    json_t *parsed = status == LS_OK && c.text != NULL ? json_loads(c.text, 0, NULL) : NULL;
    if (status == LS_OK && parsed == NULL) {
        status = ls_fail(err, LS_EIO, "what answers at %s is not lockstepd", socket_path);
    }
    if (status == LS_OK && text != NULL) {
        *text = c.text;
        c.text = NULL;
    }
    if (status == LS_OK && json != NULL) {
        *json = json_incref(parsed);
    }
    json_decref(parsed);
    free(c.text);
    return status;
}

ls_status ls_client_stream(const char *socket_path, const char *path, ls_client_fn fn, void *context, ls_err *err) {
    call c = {.fn = fn, .context = context};
    ls_status status = perform(&c, socket_path, "GET", path, NULL, err);
    free(c.text);
    return status;
}
