#include "trainer/cli/job_args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/cli/option.h"

static const ls_option options[LS_JOB_OPTION_COUNT] = {
#define X(name, word, letter, value) {word, letter, value},
    LS_JOB_OPTION_LIST(X)
#undef X
};

/* What the callbacks of one reading share. */
typedef struct {
    ls_job_args *args;
    const char *verb;
    ls_operand wanted;
    const char *word; /* the operand */
} reading;

static ls_status parse_number(const char *what, const char *text, int64_t max, int64_t *out, ls_err *err) {
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || *out < 1 || *out > max) {
        return ls_fail(err, LS_EINPUT, "%s: expected a whole number from 1, found \"%s\"", what, text);
    }
    return LS_OK;
}

static ls_status take_option(void *context, int option, const char *value, ls_err *err) {
    ls_job_args *args = ((reading *)context)->args;
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

static ls_status take_operand(void *context, const char *word, ls_err *err) {
    reading *r = context;
    if (r->word != NULL || r->wanted == LS_OPERAND_NONE) {
        return ls_option_stray(r->verb, word, err);
    }
    r->word = word;
    if (r->wanted == LS_OPERAND_JOB) {
        r->args->job = word;
        return LS_OK;
    }
    return parse_number("the job's ID", word, INT32_MAX, &r->args->id, err);
}

ls_status ls_job_args_parse(ls_job_args *args, int argc, char **argv, uint32_t takes, ls_operand operand, ls_err *err) {
    *args = (ls_job_args){.set = json_array()};
    const ls_option_table table = {argv[0], options, LS_JOB_OPTION_COUNT, takes | LS_TAKES(SOCKET)};
    reading r = {args, argv[0], operand, NULL};
    LS_TRY(ls_options_read(&table, argc, argv, take_option, take_operand, &r, err));
    if (r.word == NULL && operand == LS_OPERAND_JOB) {
        return ls_fail(err, LS_EINPUT, "say which job file: \"lockstep %s JOB -n RANKS\"", argv[0]);
    }
    if (r.word == NULL && operand == LS_OPERAND_ID) {
        return ls_fail(err, LS_EINPUT, "say which job: \"lockstep %s ID\"; \"lockstep list\" shows all", argv[0]);
    }
    return args->socket[0] != '\0' ? LS_OK : ls_control_default_socket(args->socket, err);
}

void ls_job_args_release(ls_job_args *args) {
    json_decref(args->set);
    *args = (ls_job_args){0};
}
