/* lockstep predict CHECKPOINT|RUN --data FILE:/split --out FILE.h5 */
#include "trainer/cli/rank_args.h"
#include "trainer/cli/verbs.h"
#include "trainer/fit/infer.h"

static const char usage[] =
    "usage: lockstep predict CHECKPOINT|RUN --data FILE.h5:/SPLIT --out FILE.h5 [--batch N] [--plugin FILE.so]...";

static ls_status predict(ls_team *team, const ls_rank_args *args, ls_err *err) {
    ls_infer_request request;
    LS_TRY(ls_infer_request_read(&request, args->operand, args->value[LS_ARG_DATA], args->value[LS_ARG_BATCH], err));
    request.plugins = args->plugins;
    request.n_plugins = args->n_plugins;
    if (args->value[LS_ARG_OUT] == NULL) {
        return ls_fail(err, LS_EINPUT, "--out FILE.h5 is missing: where the predictions go; %s", usage);
    }
    return ls_infer_predict(team, &request, args->value[LS_ARG_OUT], err);
}

ls_status ls_verb_predict(int argc, char **argv, ls_err *err) {
    return ls_rank_main(argc, argv, usage, LS_ARG(DATA) | LS_ARG(OUT) | LS_ARG(BATCH) | LS_ARG(PLUGIN), predict, err);
}
