/* lockstep evaluate CHECKPOINT|RUN --data FILE:/split */
#include <stdio.h>
#include <stdlib.h>

#include "common/json.h"
#include "trainer/cli/rank_args.h"
#include "trainer/cli/verbs.h"
#include "trainer/fit/infer.h"

static const char usage[] =
    "usage: lockstep evaluate CHECKPOINT|RUN --data FILE.h5:/SPLIT [--batch N] [--metric NAME]... [--plugin "
    "FILE.so]...\n"
    "                         [--json]";

static void print_text(const ls_logs *logs, const ls_tables *tables, size_t n_samples) {
    printf("%zu samples", n_samples);
    for (int i = 0; i < logs->n; i++) {
        printf("  %s %.6g", logs->item[i].name, logs->item[i].value);
    }
    printf("\n");
    for (int i = 0; i < tables->n; i++) {
        char *text = ls_table_text(&tables->item[i]);
        fputs(text, stdout);
        free(text);
    }
}

/* A metric that is a table is shown as one. */
static void print_json(const ls_logs *logs, const ls_tables *tables, size_t n_samples) {
    json_t *out = json_pack("{s:I}", "samples", (json_int_t)n_samples);
    for (int i = 0; i < logs->n; i++) {
        const ls_table *table = ls_tables_find(tables, logs->item[i].name);
        json_t *value = table != NULL ? ls_table_json(table) : json_real(logs->item[i].value);
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
    request.metrics = args->metrics;
    request.n_metrics = args->n_metrics;
    ls_logs logs = {0};
    ls_tables tables = {0};
    size_t n_samples = 0;
    ls_status status = ls_infer_evaluate(team, &request, &logs, &tables, &n_samples, err);
    if (status == LS_OK && team->rank == 0) {
        (args->value[LS_ARG_JSON] != NULL ? print_json : print_text)(&logs, &tables, n_samples);
    }
    ls_tables_release(&tables);
    return status;
}

ls_status ls_verb_evaluate(int argc, char **argv, ls_err *err) {
    unsigned takes = LS_ARG(DATA) | LS_ARG(BATCH) | LS_ARG(METRIC) | LS_ARG(PLUGIN) | LS_ARG(JSON);
    return ls_rank_main(argc, argv, usage, takes, evaluate, err);
}
