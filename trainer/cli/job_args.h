/* The arguments of the verbs that talk to lockstepd: one table of options, of which each verb takes some. */
#ifndef LS_CLI_JOB_ARGS_H
#define LS_CLI_JOB_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/control.h"
#include "common/json.h"

/* name, short form or 0, whether it takes a value */
#define LS_JOB_OPTION_LIST(X)   \
    X(SOCKET, "socket", 0, 1)   \
    X(JSON, "json", 0, 0)       \
    X(RANKS, "ranks", 'n', 1)   \
    X(RUN_DIR, "run-dir", 0, 1) \
    X(NAME, "name", 0, 1)       \
    X(SET, "set", 0, 1)         \
    X(RESUME, "resume", 0, 0)   \
    X(FOLLOW, "follow", 'f', 0) \
    X(NOW, "now", 0, 0)

enum {
#define X(name, word, letter, value) LS_JOB_OPTION_##name,
    LS_JOB_OPTION_LIST(X)
#undef X
        LS_JOB_OPTION_COUNT
};
#define LS_TAKES(name) (UINT32_C(1) << LS_JOB_OPTION_##name)

typedef enum { LS_OPERAND_NONE, LS_OPERAND_ID_OR_NONE, LS_OPERAND_ID, LS_OPERAND_JOB } ls_operand;

typedef struct ls_job_args {
    char socket[LS_CONTROL_PATH_MAX];
    int64_t id;      /* 0: not given */
    const char *job; /* borrowed from argv, as are run_dir and name */
    const char *run_dir, *name;
    int64_t ranks; /* 0: not given */
    bool json, resume, follow, now;
    json_t *set; /* array of texts */
} ls_job_args;

/* takes: the options besides --socket, LS_TAKES(JSON) | ... Release also after an error. */
ls_status ls_job_args_parse(ls_job_args *args, int argc, char **argv, uint32_t takes, ls_operand operand,
                            ls_err *err) LS_MUST_CHECK;
void ls_job_args_release(ls_job_args *args);

#endif
