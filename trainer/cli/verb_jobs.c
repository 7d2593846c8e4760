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

/* What is printed of the reply, unless --json. */
typedef void (*print_fn)(const json_t *reply);

static ls_status ask(const ls_job_args *args, const char *method, const char *tail, const json_t *body, print_fn print,
                     ls_err *err) {
    char *path = args->id > 0 ? ls_xprintf("/api/v1/jobs/%" PRId64 "%s", args->id, tail) : ls_xstrdup("/api/v1/jobs");
    char *text = NULL;
    json_t *json = NULL;
    ls_status status = ls_client_request(args->socket, method, path, body, &text, &json, err);
    if (status == LS_OK && args->json) {
        fputs(text, stdout);
    } else if (status == LS_OK) {
        print(json);
    }
    free(path);
    free(text);
    json_decref(json);
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

ls_status ls_verb_list(int argc, char **argv, ls_err *err) {
    ls_job_args args;
    ls_status status = ls_job_args_parse(&args, argc, argv, LS_TAKES(JSON), LS_OPERAND_NONE, err);
    if (status == LS_OK) {
        status = ask(&args, "GET", "", NULL, print_list, err);
    }
    ls_job_args_release(&args);
    return status;
}

ls_status ls_verb_status(int argc, char **argv, ls_err *err) {
    ls_job_args args;
    ls_status status = ls_job_args_parse(&args, argc, argv, LS_TAKES(JSON), LS_OPERAND_ID_OR_NONE, err);
    if (status == LS_OK) {
        status = ask(&args, "GET", "", NULL, print_status, err);
    }
    ls_job_args_release(&args);
    return status;
}

ls_status ls_verb_stop(int argc, char **argv, ls_err *err) {
    ls_job_args args;
    ls_status status = ls_job_args_parse(&args, argc, argv, LS_TAKES(JSON) | LS_TAKES(NOW), LS_OPERAND_ID, err);
    if (status == LS_OK) {
        json_t *body = json_pack("{s:b}", "now", args.now);
        status = ask(&args, "POST", "/stop", body, print_stop, err);
        json_decref(body);
    }
    ls_job_args_release(&args);
    return status;
}

ls_status ls_verb_resume(int argc, char **argv, ls_err *err) {
    ls_job_args args;
    ls_status status = ls_job_args_parse(&args, argc, argv, LS_TAKES(JSON), LS_OPERAND_ID, err);
    if (status == LS_OK) {
        status = ask(&args, "POST", "/resume", NULL, print_stop, err);
    }
    ls_job_args_release(&args);
    return status;
}

ls_status ls_verb_remove(int argc, char **argv, ls_err *err) {
    ls_job_args args;
    ls_status status = ls_job_args_parse(&args, argc, argv, LS_TAKES(JSON), LS_OPERAND_ID, err);
    if (status == LS_OK) {
        status = ask(&args, "DELETE", "", NULL, print_removed, err);
    }
    ls_job_args_release(&args);
    return status;
}
