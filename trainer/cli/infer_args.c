#include "trainer/cli/infer_args.h"

#include "trainer/cli/option.h"

ls_status ls_infer_args_read(const ls_rank_args *args, ls_infer_request *out, ls_err *err) {
    enum { DEFAULT_BATCH = 256, MAX_BATCH = 1 << 30 };
    const char *batch = args->value[LS_RANK_ARG_BATCH];
    *out = (ls_infer_request){.checkpoint = args->operand,
                              .data = args->value[LS_RANK_ARG_DATA],
                              .batch = DEFAULT_BATCH,
                              .metrics = args->metrics,
                              .n_metrics = args->n_metrics,
                              .plugins = args->plugins,
                              .n_plugins = args->n_plugins};
    if (out->data == NULL) {
        return ls_option_fail(args->verb, err, "--data FILE.h5:/SPLIT is missing, a data set such as mnist.h5:/test");
    }
    return batch != NULL ? ls_option_int("--batch", batch, 1, MAX_BATCH, &out->batch, err) : LS_OK;
}
