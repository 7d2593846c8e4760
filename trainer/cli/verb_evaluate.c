/* lockstep evaluate CHECKPOINT|RUN --data FILE:/split */
#include <stdio.h>
#include <stdlib.h>

#include "common/json.h"
#include "trainer/cli/infer_args.h"
#include "trainer/cli/verbs.h"

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
    LS_TRY(ls_infer_args_read(args, &request, err));
    ls_logs logs = {0};
    ls_tables tables = {0};
    size_t n_samples = 0;
    ls_status status = ls_infer_evaluate(team, &request, &logs, &tables, &n_samples, err);
    if (status == LS_OK && team->rank == 0) {
        (args->value[LS_RANK_ARG_JSON] != NULL ? print_json : print_text)(&logs, &tables, n_samples);
    }
    ls_tables_release(&tables);
    return status;
}

ls_status ls_verb_evaluate(int argc, char **argv, ls_err *err) {
    return ls_rank_main(argc, argv, "the CHECKPOINT or RUN", LS_INFER_ARGS | LS_RANK_ARG(METRIC) | LS_RANK_ARG(JSON),
                        evaluate, err);
}
