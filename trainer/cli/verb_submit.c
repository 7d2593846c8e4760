#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "trainer/cli/client.h"
#include "trainer/cli/job_args.h"
#include "trainer/cli/job_view.h"
#include "trainer/cli/verbs.h"

/* The daemon has a working folder of its own, so paths go to it whole. */
static json_t *request(const ls_job_args *args, const char *folder) {
    char *job = ls_path_join(folder, args->job);
    char *run_dir = args->run_dir != NULL ? ls_path_join(folder, args->run_dir) : NULL;
    json_t *body =
        json_pack("{s:s, s:I, s:s, s:O, s:b, s:s*, s:s*}", "job", job, "ranks", (json_int_t)args->ranks, "folder",
                  folder, "set", args->set, "resume", args->resume, "name", args->name, "run_dir", run_dir);
    free(job);
    free(run_dir);
    return body;
}

/* It is on the list either way; that mpirun could not be started is a failure all the same. */
static ls_status report(const json_t *job, ls_err *err) {
    double id = ls_view_number(job, "id", 0);
    if (strcmp(ls_view_text(job, "state"), "failed") == 0) {
        return ls_fail(err, LS_EIO, "job %.0f could not be started: %s", id, ls_view_text(job, "message"));
    }
    printf("job %.0f (%s) is %s on %.0f rank%s; run folder %s\n\"lockstep watch %.0f\" shows how it goes\n", id,
           ls_view_text(job, "name"), ls_view_text(job, "state"), ls_view_number(job, "ranks", 0),
           ls_view_number(job, "ranks", 0) == 1 ? "" : "s", ls_view_text(job, "run_dir"), id);
    return LS_OK;
}

static ls_status submit(const ls_job_args *args, ls_err *err) {
    char folder[PATH_MAX], *text = NULL;
    json_t *job = NULL;
    if (args->ranks == 0) {
        return ls_fail(err, LS_EINPUT, "say on how many ranks: \"lockstep submit %s -n RANKS\"", args->job);
    }
    if (getcwd(folder, sizeof folder) == NULL) {
        return ls_fail(err, LS_EIO, "the working folder has no name any more: %s", strerror(errno));
    }
    json_t *body = request(args, folder);
    if (body == NULL) {
        return ls_fail(err, LS_EINPUT, "a path or a name is not UTF-8, which lockstepd cannot be told");
    }
    ls_status status = ls_client_request(args->socket, "POST", "/api/v1/jobs", body, &text, &job, err);
    json_decref(body);
    if (status == LS_OK && args->json) {
        fputs(text, stdout);
    } else if (status == LS_OK) {
        status = report(job, err);
    }
    free(text);
    json_decref(job);
    return status;
}

ls_status ls_verb_submit(int argc, char **argv, ls_err *err) {
    ls_job_args args;
    ls_status status = ls_job_args_parse(
        &args, argc, argv,
        LS_TAKES(RANKS) | LS_TAKES(RUN_DIR) | LS_TAKES(NAME) | LS_TAKES(SET) | LS_TAKES(RESUME) | LS_TAKES(JSON),
        LS_OPERAND_JOB, err);
    if (status == LS_OK) {
        status = submit(&args, err);
    }
    ls_job_args_release(&args);
    return status;
}
