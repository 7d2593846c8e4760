/* One golden case: a file of the layout that tests/oracle/README.md describes. */
#ifndef LS_TESTS_ORACLE_CASE_H
#define LS_TESTS_ORACLE_CASE_H

#include "common/status.h"
#include "worker/reduce/team.h"

typedef enum { CASE_PASSED, CASE_FAILED, CASE_UNSUPPORTED } case_outcome;

typedef struct case_result {
    case_outcome outcome;
    char kind[64];
    double worst;       /* of all fields: error / its tolerance */
    double worst_error; /* that field's error */
    char where[256];    /* that field, or what is not supported */
} case_result;

/* Runs the case in this process (a team of one rank). */
void case_run(const char *path, ls_team *team, case_result *result);

#endif
