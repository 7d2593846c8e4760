#include "trainer/cli/rank_args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/memory.h"
#include "common/text.h"
#include "storage/hash.h"

static const struct {
    const char *word;
    int takes_value;
} options[] = {
#define X(name, word, value) {word, value},
    LS_RANK_ARG_LIST(X)
#undef X
};

static ls_status unknown(const char *word, unsigned takes, const char *usage, ls_err *err) {
    const char *known[LS_ARG_COUNT];
    size_t n = 0;
    for (int i = 0; i < LS_ARG_COUNT; i++) {
        if (takes & (1u << i)) {
            known[n++] = options[i].word;
        }
    }
    const char *near = ls_nearest(word, known, n);
    return ls_fail(err, LS_EINPUT, "unknown option --%s%s%s%s; %s", word, near ? "; did you mean --" : "",
                   near ? near : "", near ? "?" : "", usage);
}

static ls_status take_option(ls_rank_args *args, const char *word, const char *next, unsigned takes, const char *usage,
                             int *used, ls_err *err) {
    size_t n = strcspn(word, "=");
    for (int i = 0; i < LS_ARG_COUNT; i++) {
        if (!(takes & (1u << i)) || strlen(options[i].word) != n || strncmp(options[i].word, word, n) != 0) {
            continue;
        }
        const char *value = word[n] == '=' ? word + n + 1 : NULL;
        if (!options[i].takes_value && value != NULL) {
            return ls_fail(err, LS_EINPUT, "--%s takes no value; %s", options[i].word, usage);
        }
        if (options[i].takes_value && value == NULL) {
            value = next;
            *used = 2;
        }
        if (options[i].takes_value && value == NULL) {
            return ls_fail(err, LS_EINPUT, "--%s needs a value; %s", options[i].word, usage);
        }
        args->value[i] = value != NULL ? value : "";
        if (i == LS_ARG_SET) {
            args->sets[args->n_sets++] = (char *)value;
        }
        if (i == LS_ARG_PLUGIN) {
            args->plugins[args->n_plugins++] = (char *)value;
        }
        if (i == LS_ARG_METRIC) {
            args->metrics[args->n_metrics++] = (char *)value;
        }
        return LS_OK;
    }
    return unknown(word, takes, usage, err);
}

ls_status ls_rank_args_parse(ls_rank_args *args, int argc, char **argv, const char *usage, unsigned takes,
                             ls_err *err) {
    *args = (ls_rank_args){.sets = ls_xcalloc((size_t)argc + 1, sizeof *args->sets),
                           .plugins = ls_xcalloc((size_t)argc + 1, sizeof *args->plugins),
                           .metrics = ls_xcalloc((size_t)argc + 1, sizeof *args->metrics)};
    ls_status status = LS_OK;
    for (int i = 1, used; i < argc && status == LS_OK; i += used) {
        used = 1;
        if (strncmp(argv[i], "--", 2) == 0 && argv[i][2] != '\0') {
            status = take_option(args, argv[i] + 2, i + 1 < argc ? argv[i + 1] : NULL, takes, usage, &used, err);
        } else if (args->operand == NULL) {
            args->operand = argv[i];
        } else {
            status = ls_fail(err, LS_EINPUT, "\"%s\" is one argument too many; %s", argv[i], usage);
        }
    }
    if (status == LS_OK && args->operand == NULL) {
        status = ls_fail(err, LS_EINPUT, "%s", usage);
    }
    if (status != LS_OK) {
        ls_rank_args_release(args);
    }
    return status;
}

void ls_rank_args_release(ls_rank_args *args) {
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

ls_status ls_rank_main(int argc, char **argv, const char *usage, unsigned takes,
                       ls_status (*run)(ls_team *team, const ls_rank_args *args, ls_err *err), ls_err *err) {
    ls_team *team = NULL;
    ls_rank_args args = {0};
    LS_TRY(ls_team_create(&team, NULL, NULL, err));
    ls_status status = agree_on_line(team, argc, argv, err);
    if (status == LS_OK) {
        status = ls_rank_args_parse(&args, argc, argv, usage, takes, err);
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
    ls_rank_args_release(&args);
    ls_team_finish(team, status);
    return status;
}
