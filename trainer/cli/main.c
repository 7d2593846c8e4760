/* The program that people and mpirun start: finds the verb and turns its status into words and an exit code. */
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/text.h"
#include "trainer/cli/verbs.h"

typedef struct {
    const char *word;
    const char *arguments;
    const char *what;
    ls_status (*run)(int argc, char **argv, ls_err *err);
} verb;

static const verb verbs[] = {
#define X(name, word, arguments, what) {word, arguments, what, ls_verb_##name},
    LS_VERB_LIST(X)
#undef X
        {NULL, NULL, NULL, NULL},
};
enum { N_VERBS = sizeof verbs / sizeof verbs[0] - 1 };

static void print_help(FILE *to) {
    fprintf(to, "lockstep %s: distributed data-parallel training of neural networks\n\nusage: lockstep VERB ...\n\n",
            LOCKSTEP_VERSION);
    for (int i = 0; i < N_VERBS; i++) {
        fprintf(to, "  %-10s %s\n             %s\n", verbs[i].word, verbs[i].arguments, verbs[i].what);
    }
    fprintf(to,
            "\nVerbs that talk to lockstepd take --socket PATH where it does not listen at its usual place.\n"
            "Exit codes: 0 done, 1 failed, 2 bad usage or input, 75 stopped on purpose and resumable.\n");
}

static ls_status dispatch(int argc, char **argv, ls_err *err) {
    for (int i = 0; i < N_VERBS; i++) {
        if (strcmp(argv[1], verbs[i].word) == 0) {
            return verbs[i].run(argc - 1, argv + 1, err);
        }
    }
    const char *words[N_VERBS + 1] = {NULL};
    for (int i = 0; i < N_VERBS; i++) {
        words[i] = verbs[i].word;
    }
    const char *near = ls_nearest(argv[1], words, N_VERBS);
    return ls_fail(err, LS_EINPUT, "\"%s\" is not a verb of lockstep%s%s%s; \"lockstep help\" lists them", argv[1],
                   near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return ls_status_exit_code(LS_EINPUT);
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
        printf("lockstep %s\n", LOCKSTEP_VERSION);
        return 0;
    }
    ls_err err = LS_ERR_INIT;
    ls_status status = dispatch(argc, argv, &err);
    if (err.text[0] != '\0' && status != LS_OK && !err.told) {
        ls_log(status == LS_ESTOPPED ? LS_LOG_INFO : LS_LOG_ERROR, "%s", err.text);
    }
    return ls_status_exit_code(status);
}
