/* What evaluate and predict take alike. */
#ifndef LS_CLI_INFER_ARGS_H
#define LS_CLI_INFER_ARGS_H

#include "trainer/cli/rank_args.h"
#include "trainer/fit/infer.h"

#define LS_INFER_ARGS (LS_RANK_ARG(DATA) | LS_RANK_ARG(BATCH) | LS_RANK_ARG(PLUGIN))

/* Texts are borrowed from args. LS_EINPUT. */
ls_status ls_infer_args_read(const ls_rank_args *args, ls_infer_request *out, ls_err *err) LS_MUST_CHECK;

#endif
