/* The program that people and mpirun start: finds the verb and turns its status into words and an exit code. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/text.h"
#include "trainer/cli/verbs.h"

typedef struct {
    const char *word, *what, *arguments, *more;
    ls_status (*run)(int argc, char **argv, ls_err *err);
} verb;

static const verb verbs[] = {
#define X(name, what, arguments, more) {#name, what, arguments, more, ls_verb_##name},
    LS_VERB_LIST(X)
#undef X
};
enum { N_VERBS = sizeof verbs / sizeof verbs[0] };

static void print_help(FILE *to) {
    fprintf(to, "lockstep %s: distributed data-parallel training of neural networks\n\nusage: lockstep VERB ...\n\n",
            LOCKSTEP_VERSION);
    for (int i = 0; i < N_VERBS; i++) {
        fprintf(to, "  %-10s %s\n", verbs[i].word, verbs[i].what);
    }
    fprintf(to,
            "\n\"lockstep VERB --help\" shows what a verb takes.\n"
            "Exit codes: 0 done, 1 failed, 2 bad usage or input, 75 stopped on purpose and resumable.\n");
}

/* Each form of its arguments behind the verb; the further lines of a form are indented as they are. */
static void print_usage(const verb *v) {
    printf("lockstep %s: %s\n\n", v->word, v->what);
    for (const char *line = v->arguments; *line != '\0';) {
        int n = (int)strcspn(line, "\n");
        if (*line == ' ') {
            printf("           %.*s\n", n, line);
        } else {
            printf("%s lockstep %s %.*s\n", line == v->arguments ? "usage:" : "      ", v->word, n, line);
        }
        line += n + (line[n] != '\0');
    }
    fputs(v->more, stdout);
}

static bool wants_help(int argc, char **argv) {
    for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

static ls_status find_verb(const char *word, const verb **out, ls_err *err) {
    const char *words[N_VERBS];
    char hint[LS_HINT_MAX];
    for (int i = 0; i < N_VERBS; i++) {
        words[i] = verbs[i].word;
        if (strcmp(word, words[i]) == 0) {
            *out = &verbs[i];
            return LS_OK;
        }
    }
    return ls_fail(err, LS_EINPUT, "\"%s\" is not a verb of lockstep%s", word, ls_hint(hint, word, words, N_VERBS, ""));
}

static ls_status dispatch(int argc, char **argv, ls_err *err) {
    const verb *v = NULL;
    bool help = strcmp(argv[1], "help") == 0;
    LS_TRY(find_verb(help ? argv[2] : argv[1], &v, err));
    if (help || wants_help(argc, argv)) {
        print_usage(v);
        return LS_OK;
    }
    return v->run(argc - 1, argv + 1, err);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return ls_status_exit_code(LS_EINPUT);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || (strcmp(argv[1], "help") == 0 && argc == 2)) {
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
