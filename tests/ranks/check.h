/*
 * Checks for programs that run as several ranks. A failed check is printed and counted; the program goes on, so that no
 * rank leaves the others alone in a collective call, and ranks_end turns the counts of all ranks into one exit code.
 */
#ifndef LS_TESTS_RANKS_CHECK_H
#define LS_TESTS_RANKS_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/reduce/team.h"

static int ranks_failed, ranks_checked;

#define CHECK(condition, ...)                                                             \
    do {                                                                                  \
        ranks_checked++;                                                                  \
        if (!(condition) && ranks_failed++ < 10) {                                        \
            fprintf(stderr, "%s:%d: %s does not hold: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__);                                                 \
            fputc('\n', stderr);                                                          \
        }                                                                                 \
    } while (0)

/* The team, of exactly as many ranks (and nodes) as the command line says: --ranks N [--nodes M]. */
static ls_team *ranks_begin(int argc, char **argv) {
    ls_team *team = NULL;
    ls_err err = LS_ERR_INIT;
    if (ls_team_create(&team, &argc, &argv, &err) != LS_OK) {
        if (!err.told) {
            fprintf(stderr, "%s\n", err.text);
        }
        exit(99);
    }
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--ranks") == 0) {
            CHECK(team->size == atoi(argv[i + 1]), "asked for %s ranks, %d run", argv[i + 1], team->size);
        } else if (strcmp(argv[i], "--nodes") == 0) {
            CHECK(team->n_nodes == atoi(argv[i + 1]), "asked for %s nodes, there are %d", argv[i + 1], team->n_nodes);
        }
    }
    return team;
}

/* Collective. The exit code for main: 0 when every check of every rank held, and there were some. */
static int ranks_end(ls_team *team) {
    ls_err err = LS_ERR_INIT;
    ls_status status = LS_OK;
    if (ranks_failed > 0 || ranks_checked == 0) {
        status = ls_fail(&err, LS_EINTERNAL, "%d of %d checks failed", ranks_failed, ranks_checked);
    }
    status = ls_team_agree(team, status, &err);
    if (status != LS_OK && !err.told) {
        fprintf(stderr, "%s\n", err.text);
    }
    ls_team_finish(team, status);
    return status == LS_OK ? 0 : 1;
}

#endif
