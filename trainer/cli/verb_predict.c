/* lockstep predict CHECKPOINT|RUN --data FILE:/split --out FILE.h5 */
#include "trainer/cli/infer_args.h"
#include "trainer/cli/option.h"
#include "trainer/cli/verbs.h"

static ls_status predict(ls_team *team, const ls_rank_args *args, ls_err *err) {
    ls_infer_request request;
    LS_TRY(ls_infer_args_read(args, &request, err));
    if (args->value[LS_RANK_ARG_OUT] == NULL) {
        return ls_option_fail(args->verb, err, "--out FILE.h5 is missing, where the predictions go");
    }
    return ls_infer_predict(team, &request, args->value[LS_RANK_ARG_OUT], err);
}

ls_status ls_verb_predict(int argc, char **argv, ls_err *err) {
    return ls_rank_main(argc, argv, "the CHECKPOINT or RUN", LS_INFER_ARGS | LS_RANK_ARG(OUT), predict, err);
}
