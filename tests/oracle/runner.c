/* Runs golden cases: one line a case, then "N passed, N failed, N skipped". */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/memory.h"
#include "common/text.h"
#include "tests/oracle/case.h"
#include "tests/unit/worker/layer_models.h"

static int is_case(const struct dirent *d) {
    size_t n = strlen(d->d_name);
    return n > 3 && strcmp(d->d_name + n - 3, ".h5") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void print_digest(const ls_team *team, const char *name, ls_status s, uint64_t digest, const ls_err *err) {
    if (team->rank == 0) {
        printf("%016llx  %s%s%s\n", (unsigned long long)digest, name, s != LS_OK ? "  FAILED: " : "",
               s != LS_OK ? err->text : "");
    }
}

/* The same of every layer in every mode. */
static void print_layers(ls_team *team, int n_lanes, int *n_done, int *n_failed) {
    const char *missing = layer_models_missing();
    if (missing != NULL) {
        print_digest(team, missing, LS_EINTERNAL, 0, &(ls_err){.text = "the layer has no model in layer_models.h"});
        ++*n_failed;
    }
    for (int i = 0; i < N_LAYER_MODELS; i++) {
        if (layer_models[i].why == NULL) {
            char label[400], *config = layer_models_text(i);
            ls_err err = LS_ERR_INIT;
            uint64_t digest = 0;
            ls_status s = case_digest("model", config, team, n_lanes, &digest, &err);
            *n_done += s == LS_OK;
            *n_failed += s != LS_OK;
            print_digest(team, layer_models_label(i, label, sizeof label), s, digest, &err);
            free(config);
        }
    }
}

/* Under mpirun: one line a case, the digest after some steps in so many lanes. Fails when a case that trains cannot. */
static int print_digests(ls_team *team, int n_lanes, int argc, char **argv) {
    int n_failed = 0, n_done = 0;
    for (int a = 0; a < argc; a++) {
        struct dirent **entries;
        int n = scandir(argv[a], &entries, is_case, by_name);
        for (int i = 0; i < n; i++) {
            char *path = ls_path_join(argv[a], entries[i]->d_name);
            ls_err err = LS_ERR_INIT;
            uint64_t digest = 0;
            ls_status s = case_digest(path, NULL, team, n_lanes, &digest, &err);
            n_done += s == LS_OK;
            n_failed += s != LS_OK && s != LS_EUNSUPPORTED;
            if (s != LS_EUNSUPPORTED) {
                print_digest(team, entries[i]->d_name, s, digest, &err);
            }
            free(path);
            free(entries[i]);
        }
        if (n >= 0) {
            free(entries);
        }
    }
    print_layers(team, n_lanes, &n_done, &n_failed);
    if (team->rank == 0) {
        printf("%d cases on %d ranks in %d lanes\n", n_done, team->size, n_lanes);
    }
    ls_team_finish(team, LS_OK);
    return n_failed > 0 || n_done == 0;
}

int main(int argc, char **argv) {
    ls_err err = LS_ERR_INIT;
    ls_team *team;
    char *supported = NULL;
    int first = 1, n_lanes = 1, count[3] = {0}, missing = 0;
    if (argc > 2 && strcmp(argv[1], "--lanes") == 0) {
        n_lanes = atoi(argv[2]);
        argv += 2;
        argc -= 2;
    }
    if (argc > 2 && strcmp(argv[1], "--supported") == 0) {
        if (ls_file_read(argv[2], &supported, NULL, &err) != LS_OK) {
            fprintf(stderr, "%s\n", err.text);
            return 2;
        }
        for (char *p = supported; *p != '\0'; p++) {
            *p = *p == '\n' ? ' ' : *p;
        }
        first = 3;
    }
    if (first >= argc || ls_team_create(&team, NULL, NULL, &err) != LS_OK) {
        fprintf(stderr, "usage: oracle_runner [--lanes N] [--supported FILE] DIR... | --digests LANES DIR...  %s\n",
                err.text);
        return 2;
    }
    if (argc > 3 && strcmp(argv[1], "--digests") == 0) {
        return print_digests(team, atoi(argv[2]), argc - 3, argv + 3);
    }
    for (int a = first; a < argc; a++) {
        struct dirent **entries;
        int n = scandir(argv[a], &entries, is_case, by_name);
        if (n < 0) {
            fprintf(stderr, "%s: is not a folder that can be read\n", argv[a]);
            return 2;
        }
        for (int i = 0; i < n; i++) {
            char *path = ls_path_join(argv[a], entries[i]->d_name);
            case_result r;
            case_run(path, team, n_lanes, &r);
            count[r.outcome]++;
            if (r.outcome == CASE_PASSED) {
                printf("pass         %s  (worst %.1e at %s)\n", entries[i]->d_name, r.worst_error, r.where);
            } else if (r.outcome == CASE_FAILED) {
                printf("FAIL         %s  (error %.3e, %.3g times the tolerance, at %s)\n", entries[i]->d_name,
                       r.worst_error, r.worst, r.where);
            } else {
                bool promised = ls_word_listed(supported, r.kind);
                missing += promised;
                printf("unsupported  %s  (%s%s)\n", entries[i]->d_name, promised ? "BUT PROMISED: " : "", r.where);
            }
            fflush(stdout);
            free(path);
            free(entries[i]);
        }
        free(entries);
    }
    printf("%d passed, %d failed, %d skipped\n", count[CASE_PASSED], count[CASE_FAILED], count[CASE_UNSUPPORTED]);
    free(supported);
    ls_team_finish(team, LS_OK);
    return count[CASE_FAILED] > 0 || missing > 0 || count[CASE_PASSED] == 0;
}
