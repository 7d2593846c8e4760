#include "trainer/daemon/job.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "common/memory.h"

static const struct {
    const char *word;
    bool over;
} states[LS_JOB_STATE_COUNT] = {
#define X(name, word, over) {word, over},
    LS_JOB_STATE_LIST(X)
#undef X
};

const char *ls_job_state_word(ls_job_state state) {
    return (unsigned)state < LS_JOB_STATE_COUNT ? states[state].word : "?";
}

bool ls_job_over(const ls_job *job) {
    return states[job->state].over;
}

/* The members that are plain texts, numbers and times, once for writing and reading: kind, member. */
#define JOB_TEXTS(X) X(name) X(job) X(run_dir) X(folder) X(host) X(message)
#define JOB_TIMES(X) X(submitted) X(started) X(ended) X(stop_by)

ls_job *ls_job_create(void) {
    ls_job *job = ls_xcalloc(1, sizeof *job);
#define X(member) job->member = ls_xstrdup("");
    JOB_TEXTS(X)
#undef X
    job->set = json_array();
    job->command = json_array();
    job->progress = json_object();
    return job;
}

void ls_job_destroy(ls_job *job) {
    if (job == NULL) {
        return;
    }
#define X(member) free(job->member);
    JOB_TEXTS(X)
#undef X
    free(job->end_status);
    free(job->end_message);
    json_decref(job->set);
    json_decref(job->command);
    json_decref(job->progress);
    free(job);
}

void ls_job_set_text(char **text, const char *format, ...) {
    va_list args;
    char *fresh = NULL;
    va_start(args, format);
    int n = vasprintf(&fresh, format, args);
    va_end(args);
    LS_ASSERT(n >= 0);
    free(*text);
    *text = fresh;
}

char *ls_job_path(const ls_job *job, const char *name) {
    return ls_path_join(job->run_dir, name);
}

/* A text that may not be UTF-8 (a folder's name, say) still gets into the record, with its odd bytes replaced. */
static json_t *text_value(const char *text) {
    json_t *value = json_string(text);
    if (value == NULL) {
        char *plain = ls_xstrdup(text);
        for (char *p = plain; *p != '\0'; p++) {
            *p = (unsigned char)*p < 0x80 ? *p : '?';
        }
        value = json_string(plain);
        free(plain);
    }
    return value;
}

json_t *ls_job_to_json(const ls_job *job) {
    json_t *out = json_object();
    json_object_set_new(out, "id", json_integer(job->id));
#define X(member) json_object_set_new(out, #member, text_value(job->member));
    JOB_TEXTS(X)
#undef X
    json_object_set_new(out, "state", json_string(ls_job_state_word(job->state)));
    json_object_set_new(out, "origin", json_string(job->external ? "external" : "daemon"));
    json_object_set_new(out, "ranks", json_integer(job->ranks));
    json_object_set_new(out, "restarts", json_integer(job->restarts));
    json_object_set_new(out, "pid", json_integer(job->process.pid));
    json_object_set_new(out, "start_time", json_integer((json_int_t)job->process.start));
    json_object_set_new(out, "boot", json_string(job->boot));
    json_object_set_new(out, "exit_code", job->has_exit_code ? json_integer(job->exit_code) : json_null());
    json_object_set_new(out, "events_from", json_integer(job->events_from));
#define X(member) json_object_set_new(out, #member, json_real(job->member));
    JOB_TIMES(X)
#undef X
    json_object_set(out, "set", job->set);
    json_object_set(out, "command", job->command);
    json_object_set_new(out, "progress", json_deep_copy(job->progress));
    return out;
}

/* A member that is an array or object replaces what the job has, when it is of the same type. */
static void take(json_t **into, json_t *record, const char *key) {
    json_t *value = json_object_get(record, key);
    if (value != NULL && json_typeof(value) == json_typeof(*into)) {
        json_decref(*into);
        *into = json_incref(value);
    }
}

static ls_status read_members(ls_job *job, ls_json at, ls_err *err) {
    static const char *const words[] = {
#define X(name, word, over) word,
        LS_JOB_STATE_LIST(X)
#undef X
    };
    static const char *const origins[] = {"daemon", "external"};
    const char *boot = "";
    int64_t ranks = 0, restarts = 0, pid = 0, start = 0, exit_code = 0;
    int state = LS_JOB_LOST, origin = 0;
    LS_TRY(ls_json_expect_object(at, err));
    LS_TRY(ls_json_get_int(at, "id", 1, INT64_MAX, &job->id, err));
    LS_TRY(ls_json_get_choice(at, "state", words, LS_JOB_STATE_COUNT, &state, err));
    LS_TRY(ls_json_get_choice(at, "origin", origins, 2, &origin, err));
    LS_TRY(ls_json_get_int(at, "ranks", 0, INT32_MAX, &ranks, err));
    LS_TRY(ls_json_get_int(at, "restarts", 0, INT32_MAX, &restarts, err));
    LS_TRY(ls_json_get_int(at, "pid", 0, INT32_MAX, &pid, err));
    LS_TRY(ls_json_get_int(at, "start_time", 0, INT64_MAX, &start, err));
    LS_TRY(ls_json_get_int(at, "exit_code", INT32_MIN, INT32_MAX, &exit_code, err));
    LS_TRY(ls_json_get_int(at, "events_from", 0, INT64_MAX, &job->events_from, err));
    LS_TRY(ls_json_get_string(at, "boot", &boot, err));
#define X(member) LS_TRY(ls_json_get_double(at, #member, 0, 1e15, &job->member, err));
    JOB_TIMES(X)
#undef X
#define X(member)                                            \
    {                                                        \
        const char *text = "";                               \
        LS_TRY(ls_json_get_string(at, #member, &text, err)); \
        ls_job_set_text(&job->member, "%s", text);           \
    }
    JOB_TEXTS(X)
#undef X
    job->state = (ls_job_state)state;
    job->external = origin == 1;
    job->ranks = (int)ranks;
    job->restarts = (int)restarts;
    job->process = (ls_process){(int)pid, (uint64_t)start};
    job->has_exit_code = ls_json_present(ls_json_member(at, "exit_code"));
    job->exit_code = (int)exit_code;
    snprintf(job->boot, sizeof job->boot, "%s", boot);
    take(&job->set, at.value, "set");
    take(&job->command, at.value, "command");
    take(&job->progress, at.value, "progress");
    if (job->id == 0 || job->run_dir[0] != '/') {
        return ls_json_fail(at, err, "not a job's record: it has no \"id\" or no absolute \"run_dir\"");
    }
    return LS_OK;
}

ls_status ls_job_from_json(ls_job **out, const char *name, const char *text, ls_err *err) {
    ls_json_doc doc;
    LS_TRY(ls_json_parse(&doc, name, text, err));
    ls_job *job = ls_job_create();
    ls_status status = read_members(job, ls_json_root(&doc), err);
    ls_json_release(&doc);
    if (status != LS_OK) {
        ls_job_destroy(job);
        return status;
    }
    *out = job;
    return LS_OK;
}
