/* One golden case: a file of the layout that tests/oracle/README.md describes. */
#ifndef LS_TESTS_ORACLE_CASE_H
#define LS_TESTS_ORACLE_CASE_H

#include <stdint.h>

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

/* Runs the case in this process (a team of one rank), its batch cut into n_lanes lanes with synchronized batch
 * normalization. What each lane has for itself (gradients, outputs in training) is compared in one lane only. */
void case_run(const char *path, ls_team *team, int n_lanes, case_result *result);

/* Collective: trains the case's model (config: that of this configuration, on invented data) for three steps on all
 * ranks, its batch cut into n_lanes lanes, and gives the hash of weights and optimizer state, the same on every rank.
 * LS_EUNSUPPORTED when the case does not train. */
ls_status case_digest(const char *path, const char *config, ls_team *team, int n_lanes, uint64_t *digest,
                      ls_err *err) LS_MUST_CHECK;

#endif
