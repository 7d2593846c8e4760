/* lockstep evaluate CHECKPOINT|RUN --data FILE:/split */
#include <stdio.h>
#include <stdlib.h>

#include "common/json.h"
#include "trainer/cli/rank_args.h"
#include "trainer/cli/verbs.h"
#include "trainer/fit/infer.h"

static const char usage[] =
    "usage: lockstep evaluate CHECKPOINT|RUN --data FILE.h5:/SPLIT [--batch N] [--plugin FILE.so]... [--json]";

static void print_text(const ls_logs *logs, size_t n_samples) {
    printf("%zu samples", n_samples);
    for (int i = 0; i < logs->n; i++) {
        printf("  %s %.6g", logs->item[i].name, logs->item[i].value);
    }
    printf("\n");
}

static void print_json(const ls_logs *logs, size_t n_samples) {
    json_t *out = json_pack("{s:I}", "samples", (json_int_t)n_samples);
    for (int i = 0; i < logs->n; i++) {
        json_t *value = json_real(logs->item[i].value);
        json_object_set_new(out, logs->item[i].name, value != NULL ? value : json_null());
    }
    char *text = json_dumps(out, JSON_COMPACT);
    printf("%s\n", text);
    free(text);
    json_decref(out);
}

static ls_status evaluate(ls_team *team, const ls_rank_args *args, ls_err *err) {
    ls_infer_request request;
    LS_TRY(ls_infer_request_read(&request, args->operand, args->value[LS_ARG_DATA], args->value[LS_ARG_BATCH], err));
    request.plugins = args->plugins;
    request.n_plugins = args->n_plugins;
    ls_logs logs = {0};
    size_t n_samples = 0;
    LS_TRY(ls_infer_evaluate(team, &request, &logs, &n_samples, err));
    if (team->rank == 0) {
        (args->value[LS_ARG_JSON] != NULL ? print_json : print_text)(&logs, n_samples);
    }
    return LS_OK;
}

ls_status ls_verb_evaluate(int argc, char **argv, ls_err *err) {
    return ls_rank_main(argc, argv, usage, LS_ARG(DATA) | LS_ARG(BATCH) | LS_ARG(PLUGIN) | LS_ARG(JSON), evaluate, err);
}
