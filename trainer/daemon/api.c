#include "trainer/daemon/api.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"
#include "trainer/daemon/api_files.h"

#define JOBS "/api/v1/jobs"
enum { MAX_RANKS = 65536 };

static const struct {
    const char *method, *part;
    bool with_id;
} routes[] = {
#define X(name, method, part, with_id) {method, part, with_id},
    LS_ROUTE_LIST(X)
#undef X
};

/* "/17/log" to 17 and "log"; false when it is not of that form. */
static bool split_path(const char *rest, bool *with_id, int64_t *id, const char **part) {
    *with_id = rest[0] == '/' && rest[1] != '\0';
    *part = "";
    if (!*with_id) {
        return rest[0] == '\0' || rest[1] == '\0';
    }
    size_t digits = strspn(rest + 1, "0123456789");
    const char *after = rest + 1 + digits;
    if (digits == 0 || digits > 15 || (*after != '\0' && *after != '/')) {
        return false;
    }
    *id = strtoll(rest + 1, NULL, 10);
    *part = *after == '/' ? after + 1 : after;
    return true;
}

ls_route ls_api_route(const char *method, const char *path, int64_t *id) {
    size_t n = strlen(JOBS);
    bool with_id;
    const char *part;
    if (strcmp(path, "/healthz") == 0) {
        return strcmp(method, "GET") == 0 ? LS_ROUTE_HEALTH : LS_ROUTE_WRONG_METHOD;
    }
    if (strncmp(path, JOBS, n) != 0 || (path[n] != '\0' && path[n] != '/') ||
        !split_path(path + n, &with_id, id, &part)) {
        return LS_ROUTE_UNKNOWN;
    }
    bool there = false;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (routes[i].with_id == with_id && strcmp(routes[i].part, part) == 0) {
            if (strcmp(routes[i].method, method) == 0) {
                return (ls_route)i;
            }
            there = true;
        }
    }
    return there ? LS_ROUTE_WRONG_METHOD : LS_ROUTE_UNKNOWN;
}

static void answer(ls_reply *reply, int status, json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    *reply = (ls_reply){.status = status, .type = "application/json"};
    reply->body = ls_xprintf("%s\n", text != NULL ? text : "{}");
    reply->n_bytes = strlen(reply->body);
    free(text);
}

void ls_api_refuse(ls_reply *reply, int status, const char *format, ...) {
    char text[1024];
    LS_FORMAT(text, format);
    for (char *p = text; *p != '\0'; p++) { /* what came with the request may not be UTF-8, which JSON must be */
        *p = (unsigned char)*p < 0x80 ? *p : '?';
    }
    answer(reply, status, json_pack("{s:s}", "error", text));
}

char *ls_api_sse(const char *name, const char *json_text) {
    return ls_xprintf("event: %s\ndata: %s\n\n", name, json_text);
}

static void answer_failure(ls_reply *reply, ls_status status, int if_input, const ls_err *err) {
    ls_api_refuse(reply, status == LS_EINPUT ? if_input : 500, "%s", err->text);
}

static void answer_job(ls_reply *reply, int status, const ls_job *job) {
    answer(reply, status, ls_job_to_json(job));
}

static void list(ls_supervisor *supervisor, ls_reply *reply) {
    json_t *jobs = json_array();
    for (size_t i = 0; i < supervisor->registry->n_jobs; i++) {
        json_array_append_new(jobs, ls_job_to_json(supervisor->registry->jobs[i]));
    }
    answer(reply, 200, json_pack("{s:o}", "jobs", jobs));
}

static void health(ls_supervisor *supervisor, ls_reply *reply) {
    int counts[LS_JOB_STATE_COUNT] = {0};
    for (size_t i = 0; i < supervisor->registry->n_jobs; i++) {
        counts[supervisor->registry->jobs[i]->state]++;
    }
    json_t *jobs = json_object();
    for (int s = 0; s < LS_JOB_STATE_COUNT; s++) {
        json_object_set_new(jobs, ls_job_state_word((ls_job_state)s), json_integer(counts[s]));
    }
    answer(reply, 200,
           json_pack("{s:s, s:s, s:i, s:o}", "status", "ok", "version", LOCKSTEP_VERSION, "pid", (int)getpid(), "jobs",
                     jobs));
}

/* An absolute path, or nothing where the key is absent. */
static ls_status get_path(ls_json at, const char *key, const char **out, ls_err *err) {
    LS_TRY(ls_json_get_string(at, key, out, err));
    if (*out != NULL && (*out)[0] != '/') {
        return ls_json_fail(ls_json_member(at, key), err, "expected an absolute path, found \"%s\"", *out);
    }
    return LS_OK;
}

static ls_status read_set(ls_json at, const json_t **out, ls_err *err) {
    ls_json set = ls_json_member(at, "set");
    if (!ls_json_present(set)) {
        return LS_OK;
    }
    if (!json_is_array(set.value)) {
        return ls_json_fail(set, err, "expected a list of \"key=value\" texts");
    }
    for (size_t i = 0; i < ls_json_length(set); i++) {
        ls_json element = ls_json_element(set, i);
        const char *text = json_string_value(element.value);
        if (text == NULL || strchr(text, '=') == NULL || text[0] == '=') {
            return ls_json_fail(element, err, "expected a text like \"fit.epochs=3\"");
        }
    }
    *out = set.value;
    return LS_OK;
}

static ls_status read_submission(ls_json at, ls_submission *out, ls_err *err) {
    static const char *const keys[] = {"job", "ranks", "name", "run_dir", "folder", "set", "resume"};
    int64_t ranks = 0;
    LS_TRY(ls_json_expect_object(at, err));
    LS_TRY(ls_json_only_keys(at, keys, sizeof keys / sizeof keys[0], err));
    LS_TRY(get_path(at, "job", &out->job, err));
    LS_TRY(get_path(at, "run_dir", &out->run_dir, err));
    LS_TRY(get_path(at, "folder", &out->folder, err));
    LS_TRY(ls_json_get_int(at, "ranks", 1, MAX_RANKS, &ranks, err));
    LS_TRY(ls_json_get_string(at, "name", &out->name, err));
    LS_TRY(ls_json_get_bool(at, "resume", &out->resume, err));
    LS_TRY(read_set(at, &out->set, err));
    if (out->job == NULL) {
        return ls_json_fail(at, err, "the key \"job\" is missing: the absolute path of a job file");
    }
    if (ranks == 0) {
        return ls_json_fail(at, err, "the key \"ranks\" is missing: how many processes are to train");
    }
    if (!ls_file_exists(out->job) || access(out->job, R_OK) != 0) {
        return ls_json_fail(ls_json_member(at, "job"), err, "there is no readable file %s", out->job);
    }
    if (out->folder != NULL && !ls_folder_exists(out->folder)) {
        return ls_json_fail(ls_json_member(at, "folder"), err, "there is no folder %s", out->folder);
    }
    if (out->name != NULL && (out->name[0] == '\0' || strpbrk(out->name, "/\n\t") != NULL || strlen(out->name) > 100)) {
        return ls_json_fail(ls_json_member(at, "name"), err,
                            "expected 1 to 100 characters without a slash, tab or line break");
    }
    out->ranks = (int)ranks;
    return LS_OK;
}

static void submit(ls_supervisor *supervisor, const ls_request *request, ls_reply *reply) {
    ls_err err = LS_ERR_INIT;
    ls_json_doc doc;
    ls_submission what = {0};
    ls_job *job = NULL;
    ls_status status = ls_json_parse(&doc, "the request", request->body, &err);
    if (status != LS_OK) {
        answer_failure(reply, status, 400, &err);
        return;
    }
    status = read_submission(ls_json_root(&doc), &what, &err);
    if (status != LS_OK) {
        answer_failure(reply, status, 400, &err);
    } else if ((status = ls_supervisor_submit(supervisor, &what, &job, &err)) != LS_OK) {
        answer_failure(reply, status, 409, &err);
    } else {
        answer_job(reply, 201, job);
    }
    ls_json_release(&doc);
}

static void stop(ls_supervisor *supervisor, ls_job *job, const ls_request *request, ls_reply *reply) {
    static const char *const keys[] = {"now"};
    ls_err err = LS_ERR_INIT;
    ls_json_doc doc;
    bool now = false;
    ls_status status = LS_OK;
    if (request->body[0] != '\0') {
        status = ls_json_parse(&doc, "the request", request->body, &err);
        if (status == LS_OK) {
            status = ls_json_expect_object(ls_json_root(&doc), &err);
            status = status == LS_OK ? ls_json_only_keys(ls_json_root(&doc), keys, 1, &err) : status;
            status = status == LS_OK ? ls_json_get_bool(ls_json_root(&doc), "now", &now, &err) : status;
            ls_json_release(&doc);
        }
    }
    if (status != LS_OK) {
        answer_failure(reply, status, 400, &err);
    } else if ((status = ls_supervisor_stop(supervisor, job, now, &err)) != LS_OK) {
        answer_failure(reply, status, 409, &err);
    } else {
        answer_job(reply, 202, job);
    }
}

static void resume(ls_supervisor *supervisor, ls_job *job, ls_reply *reply) {
    ls_err err = LS_ERR_INIT;
    ls_status status = ls_supervisor_resume(supervisor, job, &err);
    if (status != LS_OK) {
        answer_failure(reply, status, 409, &err);
    } else {
        answer_job(reply, 202, job);
    }
}

static void remove_job(ls_supervisor *supervisor, ls_job *job, ls_reply *reply) {
    ls_err err = LS_ERR_INIT;
    int64_t id = job->id;
    ls_status status = ls_supervisor_remove(supervisor, job, &err);
    if (status != LS_OK) {
        answer_failure(reply, status, 409, &err);
    } else {
        answer(reply, 200, json_pack("{s:I}", "removed", (json_int_t)id));
    }
}

static void events(ls_job *job, ls_reply *reply) {
    json_t *json = ls_job_to_json(job);
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    *reply = (ls_reply){.status = 200, .type = "text/event-stream", .kind = LS_REPLY_EVENTS, .job_id = job->id};
    reply->body = ls_api_sse("job", text);
    reply->n_bytes = strlen(reply->body);
    free(text);
}

static void log_text(ls_job *job, const ls_request *request, ls_reply *reply) {
    ls_err err = LS_ERR_INIT;
    char *end = NULL;
    int64_t offset = request->offset != NULL ? strtoll(request->offset, &end, 10) : 0;
    if (request->offset != NULL && (end == request->offset || *end != '\0' || offset < 0)) {
        ls_api_refuse(reply, 400, "offset: expected a number of bytes, found \"%s\"", request->offset);
        return;
    }
    bool follow = request->follow != NULL && strcmp(request->follow, "0") != 0;
    ls_status status = ls_api_log(job, offset, follow, reply, &err);
    if (status != LS_OK) {
        answer_failure(reply, status, 404, &err);
    }
}

static void table(const ls_job *job, ls_status (*read)(const ls_job *, json_t **, ls_err *), ls_reply *reply) {
    ls_err err = LS_ERR_INIT;
    json_t *json = NULL;
    ls_status status = read(job, &json, &err);
    if (status != LS_OK) {
        answer_failure(reply, status, 404, &err);
    } else {
        answer(reply, 200, json);
    }
}

void ls_api_handle(ls_supervisor *supervisor, const ls_request *request, ls_reply *reply) {
    int64_t id = 0;
    ls_route route = ls_api_route(request->method, request->path, &id);
    ls_supervisor_refresh(supervisor);
    ls_job *job = id > 0 ? ls_registry_find(supervisor->registry, id) : NULL;
    if (route == LS_ROUTE_UNKNOWN) {
        ls_api_refuse(reply, 404, "there is nothing at %s; jobs are at " JOBS, request->path);
        return;
    }
    if (route == LS_ROUTE_WRONG_METHOD) {
        ls_api_refuse(reply, 405, "%s is not possible at %s", request->method, request->path);
        return;
    }
    switch (route) {
        case LS_ROUTE_LIST: list(supervisor, reply); return;
        case LS_ROUTE_SUBMIT: submit(supervisor, request, reply); return;
        case LS_ROUTE_HEALTH: health(supervisor, reply); return;
        default: break; /* what follows is about a job */
    }
    if (job == NULL) {
        ls_api_refuse(reply, 404, "there is no job %" PRId64 "; \"lockstep list\" shows all", id);
        return;
    }
    switch (route) {
        case LS_ROUTE_SHOW: answer_job(reply, 200, job); break;
        case LS_ROUTE_REMOVE: remove_job(supervisor, job, reply); break;
        case LS_ROUTE_EVENTS: events(job, reply); break;
        case LS_ROUTE_STOP: stop(supervisor, job, request, reply); break;
        case LS_ROUTE_RESUME: resume(supervisor, job, reply); break;
        case LS_ROUTE_LOG: log_text(job, request, reply); break;
        case LS_ROUTE_HISTORY: table(job, ls_api_read_history, reply); break;
        default: table(job, ls_api_read_checkpoints, reply); break;
    }
}
