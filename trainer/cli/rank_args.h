/* What the verbs that mpirun starts share: options from one table, the team around them, and one message for all. */
#ifndef LS_CLI_RANK_ARGS_H
#define LS_CLI_RANK_ARGS_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/reduce/team.h"

/* name, word, whether it takes a value */
#define LS_RANK_ARG_LIST(X)          \
    X(RUN_DIR, "run-dir", 1)         \
    X(RESUME, "resume", 0)           \
    X(SET, "set", 1)                 \
    X(PLUGIN, "plugin", 1)           \
    X(METRIC, "metric", 1)           \
    X(QUIET, "quiet", 0)             \
    X(CONTROL, "control", 1)         \
    X(TRACE, "trace", 1)             \
    X(DATA, "data", 1)               \
    X(OUT, "out", 1)                 \
    X(BATCH, "batch", 1)             \
    X(JSON, "json", 0)               \
    X(SEED_TEXT, "seed-text", 1)     \
    X(LENGTH, "length", 1)           \
    X(TEMPERATURE, "temperature", 1) \
    X(SEED, "seed", 1)               \
    X(VOCABULARY, "vocabulary", 1)   \
    X(STATEFUL, "stateful", 0)       \
    X(SECONDS, "seconds", 1)         \
    X(PRECISION, "precision", 1)     \
    X(OPTIMIZER, "optimizer", 1)     \
    X(LOSS, "loss", 1)               \
    X(LANES, "lanes", 1)             \
    X(ACCUMULATE, "accumulate", 1)   \
    X(THREADS, "threads", 1)         \
    X(BUCKET_KB, "bucket-kb", 1)     \
    X(CONVOLUTION, "convolution", 1) \
    X(WIRE, "wire", 1)               \
    X(DENSE, "dense", 0)             \
    X(APART, "apart", 0)             \
    X(PROFILE, "profile", 0)

enum {
#define X(name, word, value) LS_RANK_ARG_##name,
    LS_RANK_ARG_LIST(X)
#undef X
        LS_RANK_ARG_COUNT
};
#define LS_RANK_ARG(name) (UINT32_C(1) << LS_RANK_ARG_##name)

typedef struct ls_rank_args {
    const char *verb;
    const char *operand;                  /* borrowed from argv, as all */
    const char *value[LS_RANK_ARG_COUNT]; /* NULL: not given; "" where it takes none */
    char **sets;                          /* [n_sets] */
    size_t n_sets;
    char **plugins; /* [n_plugins] of --plugin */
    size_t n_plugins;
    char **metrics; /* [n_metrics] of --metric */
    size_t n_metrics;
} ls_rank_args;

/* A whole verb: joins the team, reads the arguments (takes: LS_RANK_ARG(SET) | ...; one operand, which `operand` names
 * in the complaint when it is missing), runs, leaves. What fails is told once, by rank 0, before it leaves; err->told
 * is set. */
ls_status ls_rank_main(int argc, char **argv, const char *operand, uint32_t takes,
                       ls_status (*run)(ls_team *team, const ls_rank_args *args, ls_err *err), ls_err *err);

#endif
