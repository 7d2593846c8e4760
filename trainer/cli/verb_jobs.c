/* list, status, stop, resume, remove: one request each. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "trainer/cli/client.h"
#include "trainer/cli/job_args.h"
#include "trainer/cli/job_view.h"
#include "trainer/cli/verbs.h"

/* One verb: its options, what it is asked for with, and what is printed of the reply, unless --json. */
typedef struct {
    uint32_t takes;
    ls_operand operand;
    const char *method, *tail; /* of the job, or of all jobs */
    void (*print)(const json_t *reply);
    bool sends_now; /* "now" in the body, from --now */
} request;

static ls_status ask(const ls_job_args *args, const request *r, ls_err *err) {
    char *path =
        args->id > 0 ? ls_xprintf("/api/v1/jobs/%" PRId64 "%s", args->id, r->tail) : ls_xstrdup("/api/v1/jobs");
    char *text = NULL;
    json_t *json = NULL, *body = r->sends_now ? json_pack("{s:b}", "now", args->now) : NULL;
    ls_status status = ls_client_request(args->socket, r->method, path, body, &text, &json, err);
    if (status == LS_OK && args->json) {
        fputs(text, stdout);
    } else if (status == LS_OK) {
        r->print(json);
    }
    free(path);
    free(text);
    json_decref(json);
    json_decref(body);
    return status;
}

static ls_status run(int argc, char **argv, const request *r, ls_err *err) {
    ls_job_args args;
    ls_status status = ls_job_args_parse(&args, argc, argv, r->takes, r->operand, err);
    if (status == LS_OK) {
        status = ask(&args, r, err);
    }
    ls_job_args_release(&args);
    return status;
}

static void print_list(const json_t *reply) {
    ls_view_list_table(json_object_get(reply, "jobs"));
}
static void print_status(const json_t *reply) {
    const json_t *jobs = json_object_get(reply, "jobs");
    if (jobs != NULL) {
        ls_view_status_table(jobs);
    } else {
        ls_view_details(reply);
    }
}
static void print_stop(const json_t *reply) {
    printf("job %.0f (%s) is %s\n", ls_view_number(reply, "id", 0), ls_view_text(reply, "name"),
           ls_view_text(reply, "state"));
}
static void print_removed(const json_t *reply) {
    printf("job %.0f is off the list; its run folder is untouched\n", ls_view_number(reply, "removed", 0));
}

#define VERB(name, ...)                                            \
    ls_status ls_verb_##name(int argc, char **argv, ls_err *err) { \
        static const request r = {__VA_ARGS__};                    \
        return run(argc, argv, &r, err);                           \
    }

VERB(list, LS_TAKES(JSON), LS_OPERAND_NONE, "GET", "", print_list)
VERB(status, LS_TAKES(JSON), LS_OPERAND_ID_OR_NONE, "GET", "", print_status)
VERB(stop, LS_TAKES(JSON) | LS_TAKES(NOW), LS_OPERAND_ID, "POST", "/stop", print_stop, .sends_now = true)
VERB(resume, LS_TAKES(JSON), LS_OPERAND_ID, "POST", "/resume", print_stop)
VERB(remove, LS_TAKES(JSON), LS_OPERAND_ID, "DELETE", "", print_removed)
