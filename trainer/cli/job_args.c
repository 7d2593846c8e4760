#include "trainer/cli/job_args.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"

static const struct {
    const char *word;
    char letter;
    int value;
} options[LS_JOB_OPTION_COUNT] = {
#define X(name, word, letter, value) {word, letter, value},
    LS_JOB_OPTION_LIST(X)
#undef X
};

static ls_status parse_number(const char *what, const char *text, int64_t max, int64_t *out, ls_err *err) {
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || *out < 1 || *out > max) {
        return ls_fail(err, LS_EINPUT, "%s: expected a whole number from 1, found \"%s\"", what, text);
    }
    return LS_OK;
}

static ls_status take_option(ls_job_args *args, int option, const char *value, ls_err *err) {
    switch (option) {
        case LS_JOB_OPTION_SOCKET:
            if (snprintf(args->socket, sizeof args->socket, "%s", value) >= (int)sizeof args->socket) {
                return ls_fail(err, LS_EINPUT, "--socket: the path is too long for a socket, at most %d characters",
                               LS_CONTROL_PATH_MAX - 6);
            }
            return LS_OK;
        case LS_JOB_OPTION_RANKS: return parse_number("-n", value, 65536, &args->ranks, err);
        case LS_JOB_OPTION_RUN_DIR: args->run_dir = value; return LS_OK;
        case LS_JOB_OPTION_NAME: args->name = value; return LS_OK;
        case LS_JOB_OPTION_SET:
            if (json_array_append_new(args->set, json_string(value)) != 0) {
                return ls_fail(err, LS_EINPUT, "--set: \"%s\" is not UTF-8", value);
            }
            return LS_OK;
        case LS_JOB_OPTION_JSON: args->json = true; return LS_OK;
        case LS_JOB_OPTION_RESUME: args->resume = true; return LS_OK;
        case LS_JOB_OPTION_FOLLOW: args->follow = true; return LS_OK;
        default: args->now = true; return LS_OK;
    }
}

static ls_status unknown_option(const char *verb, const char *word, unsigned takes, ls_err *err) {
    const char *known[LS_JOB_OPTION_COUNT];
    size_t n = 0;
    for (int i = 0; i < LS_JOB_OPTION_COUNT; i++) {
        if (takes & 1u << i) {
            known[n++] = options[i].word;
        }
    }
    const char *near = strncmp(word, "--", 2) == 0 ? ls_nearest(word + 2, known, n) : NULL;
    return ls_fail(err, LS_EINPUT, "\"lockstep %s\" has no option %s%s%s%s; \"lockstep help\" shows what it takes",
                   verb, word, near != NULL ? " (did you mean --" : "", near != NULL ? near : "",
                   near != NULL ? "?)" : "");
}

static ls_status take_operand(ls_job_args *args, int argc, char **argv, ls_operand operand, ls_err *err) {
    const char *word = optind < argc ? argv[optind] : NULL;
    if (argc - optind > (operand == LS_OPERAND_NONE ? 0 : 1)) {
        const char *stray = argv[optind + (operand == LS_OPERAND_NONE ? 0 : 1)];
        return ls_fail(err, LS_EINPUT, "\"lockstep %s\" does not know what to do with \"%s\"", argv[0], stray);
    }
    if (word == NULL && operand == LS_OPERAND_JOB) {
        return ls_fail(err, LS_EINPUT, "say which job file: \"lockstep %s JOB -n RANKS\"", argv[0]);
    }
    if (word == NULL && operand == LS_OPERAND_ID) {
        return ls_fail(err, LS_EINPUT, "say which job: \"lockstep %s ID\"; \"lockstep list\" shows all", argv[0]);
    }
    if (word != NULL && operand == LS_OPERAND_JOB) {
        args->job = word;
    } else if (word != NULL) {
        return parse_number("the job's ID", word, INT32_MAX, &args->id, err);
    }
    return LS_OK;
}

ls_status ls_job_args_parse(ls_job_args *args, int argc, char **argv, unsigned takes, ls_operand operand, ls_err *err) {
    struct option known[LS_JOB_OPTION_COUNT + 1] = {{NULL, 0, NULL, 0}};
    char letters[2 * LS_JOB_OPTION_COUNT + 2] = ":";
    int n = 0, n_letters = 1;
    takes |= LS_TAKES(SOCKET);
    *args = (ls_job_args){.set = json_array()};
    for (int i = 0; i < LS_JOB_OPTION_COUNT; i++) {
        if (takes & 1u << i) {
            known[n++] = (struct option){options[i].word, options[i].value, NULL, 1000 + i};
            if (options[i].letter != 0) {
                letters[n_letters++] = options[i].letter;
                letters[n_letters] = ':';
                n_letters += options[i].value != 0;
                letters[n_letters] = '\0';
            }
        }
    }
    opterr = 0;
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, letters, known, NULL)) != -1;) {
        const char *word = argv[optind - 1];
        if (option == ':') {
            return ls_fail(err, LS_EINPUT, "%s needs a value", word);
        }
        if (option == '?') {
            return unknown_option(argv[0], word, takes, err);
        }
        for (int i = 0; option < 1000 && i < LS_JOB_OPTION_COUNT; i++) {
            option = options[i].letter == option ? 1000 + i : option;
        }
        LS_TRY(take_option(args, option - 1000, optarg, err));
    }
    if (args->socket[0] == '\0') {
        LS_TRY(ls_control_default_socket(args->socket, err));
    }
    return take_operand(args, argc, argv, operand, err);
}

void ls_job_args_release(ls_job_args *args) {
    json_decref(args->set);
    *args = (ls_job_args){0};
}
