#include "trainer/cli/rank_args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "storage/hash.h"
#include "trainer/cli/option.h"

static const ls_option options[] = {
#define X(name, word, value) {word, 0, value},
    LS_RANK_ARG_LIST(X)
#undef X
};
_Static_assert(LS_RANK_ARG_COUNT <= 32, "a bit each");

static ls_status take_option(void *context, int number, const char *value, ls_err *err) {
    (void)err;
    ls_rank_args *args = context;
    args->value[number] = value;
    switch (number) {
        case LS_RANK_ARG_SET: args->sets[args->n_sets++] = (char *)value; break;
        case LS_RANK_ARG_PLUGIN: args->plugins[args->n_plugins++] = (char *)value; break;
        case LS_RANK_ARG_METRIC: args->metrics[args->n_metrics++] = (char *)value; break;
        default: break;
    }
    return LS_OK;
}

static ls_status take_operand(void *context, const char *word, ls_err *err) {
    ls_rank_args *args = context;
    if (args->operand != NULL) {
        return ls_option_stray(args->verb, word, err);
    }
    args->operand = word;
    return LS_OK;
}

static ls_status parse(ls_rank_args *args, int argc, char **argv, const char *operand, uint32_t takes, ls_err *err) {
    size_t most = (size_t)argc + 1;
    *args = (ls_rank_args){.verb = argv[0],
                           .sets = ls_xcalloc(most, sizeof *args->sets),
                           .plugins = ls_xcalloc(most, sizeof *args->plugins),
                           .metrics = ls_xcalloc(most, sizeof *args->metrics)};
    const ls_option_table table = {argv[0], options, LS_RANK_ARG_COUNT, takes};
    LS_TRY(ls_options_read(&table, argc, argv, take_option, take_operand, args, err));
    return args->operand != NULL ? LS_OK : ls_option_fail(argv[0], err, "%s is missing", operand);
}

static void release(ls_rank_args *args) {
    free(args->sets);
    free(args->plugins);
    free(args->metrics);
    *args = (ls_rank_args){0};
}

/* All ranks must have been started alike: one that resumes beside one that begins would wait for ever. */
static ls_status agree_on_line(ls_team *team, int argc, char **argv, ls_err *err) {
    char *line = ls_xstrdup("");
    for (int i = 0; i < argc; i++) {
        char *longer = ls_xprintf("%s%s%s", line, i > 0 ? " " : "", argv[i]);
        free(line);
        line = longer;
    }
    ls_status status = ls_team_check_same(team, "the command line", ls_hash64(line, strlen(line)), line, err);
    free(line);
    return status;
}

ls_status ls_rank_main(int argc, char **argv, const char *operand, uint32_t takes,
                       ls_status (*run)(ls_team *team, const ls_rank_args *args, ls_err *err), ls_err *err) {
    ls_team *team = NULL;
    ls_rank_args args = {0};
    LS_TRY(ls_team_create(&team, NULL, NULL, err));
    ls_status status = agree_on_line(team, argc, argv, err);
    if (status == LS_OK) {
        status = parse(&args, argc, argv, operand, takes, err);
    }
    if (status == LS_OK) {
        status = run(team, &args, err);
    }
    /* Told before this rank lets the others go: the first that exits with a code other than 0 makes mpirun kill the
     * rest, words and all. */
    if (status != LS_OK && team->rank == 0 && err->text[0] != '\0') {
        ls_log(status == LS_ESTOPPED ? LS_LOG_INFO : LS_LOG_ERROR, "%s", err->text);
    }
    err->told = 1;
    fflush(stdout);
    release(&args);
    ls_team_finish(team, status);
    return status;
}
