/* lockstep train JOB */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "trainer/cli/rank_args.h"
#include "trainer/cli/verbs.h"
#include "trainer/fit/fit.h"
#include "worker/reduce/team.h"

static ls_status train(ls_team *team, const ls_rank_args *args, ls_err *err) {
    ls_fit_request request = {.job_path = args->operand,
                              .sets = args->sets,
                              .n_sets = args->n_sets,
                              .run_dir = args->value[LS_RANK_ARG_RUN_DIR],
                              .resume = args->value[LS_RANK_ARG_RESUME] != NULL,
                              .quiet = args->value[LS_RANK_ARG_QUIET] != NULL,
                              .control = args->value[LS_RANK_ARG_CONTROL],
                              .trace = args->value[LS_RANK_ARG_TRACE]};
    if (request.control == NULL) {
        request.control = getenv("LOCKSTEP_CONTROL");
    }
    if (request.control != NULL && request.control[0] == '\0') {
        request.control = NULL;
    }
    if (request.resume && request.run_dir == NULL) {
        return ls_fail(err, LS_EINPUT, "--resume needs --run-dir DIR, the folder of the run that is to go on");
    }
    return ls_fit_run(team, &request, err);
}

ls_status ls_verb_train(int argc, char **argv, ls_err *err) {
    return ls_rank_main(argc, argv, "the JOB file",
                        LS_RANK_ARG(RUN_DIR) | LS_RANK_ARG(RESUME) | LS_RANK_ARG(SET) | LS_RANK_ARG(QUIET) |
                            LS_RANK_ARG(CONTROL) | LS_RANK_ARG(TRACE),
                        train, err);
}
