/* lockstep generate CHECKPOINT|RUN --seed-text TEXT */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/cli/rank_args.h"
#include "trainer/cli/verbs.h"
#include "trainer/fit/generate.h"

static const char usage[] =
    "usage: lockstep generate CHECKPOINT|RUN --seed-text TEXT [--length N] [--temperature T] [--seed N]\n"
    "                         [--vocabulary FILE] [--stateful] [--plugin FILE.so]...";

static ls_status read_count(const char *option, const char *text, int64_t *out, ls_err *err) {
    char *end;
    if (text == NULL) {
        return LS_OK;
    }
    errno = 0;
    *out = strtoll(text, &end, 10);
    return *text != '\0' && *end == '\0' && errno == 0 && *out >= 0
               ? LS_OK
               : ls_fail(err, LS_EINPUT, "--%s %s: expected a whole number from 0", option, text);
}

static ls_status read_temperature(const char *text, double *out, ls_err *err) {
    char *end;
    if (text == NULL) {
        return LS_OK;
    }
    *out = strtod(text, &end);
    return *text != '\0' && *end == '\0' && isfinite(*out) && *out >= 0
               ? LS_OK
               : ls_fail(
                     err, LS_EINPUT,
                     "--temperature %s: expected a number from 0 (always the likeliest character); 1 is the model's "
                     "own distribution",
                     text);
}

static void put(void *context, const char *text, size_t n_bytes) {
    fwrite(text, 1, n_bytes, context);
    fflush(context);
}

static ls_status generate(ls_team *team, const ls_rank_args *args, ls_err *err) {
    int64_t length = 400, seed = 1;
    ls_generate_request r = {.checkpoint = args->operand,
                             .vocabulary = args->value[LS_ARG_VOCABULARY],
                             .seed_text = args->value[LS_ARG_SEED_TEXT],
                             .plugins = args->plugins,
                             .n_plugins = args->n_plugins,
                             .temperature = 1,
                             .stateful = args->value[LS_ARG_STATEFUL] != NULL,
                             .put = put,
                             .context = stdout};
    LS_TRY(read_count("length", args->value[LS_ARG_LENGTH], &length, err));
    LS_TRY(read_count("seed", args->value[LS_ARG_SEED], &seed, err));
    LS_TRY(read_temperature(args->value[LS_ARG_TEMPERATURE], &r.temperature, err));
    if (r.seed_text == NULL) {
        return ls_fail(err, LS_EINPUT, "--seed-text TEXT is missing: what the text begins with; %s", usage);
    }
    r.length = length;
    r.seed = (uint64_t)seed;
    LS_TRY(ls_generate(team, &r, err));
    printf("\n");
    return LS_OK;
}

ls_status ls_verb_generate(int argc, char **argv, ls_err *err) {
    unsigned takes = LS_ARG(SEED_TEXT) | LS_ARG(LENGTH) | LS_ARG(TEMPERATURE) | LS_ARG(SEED) | LS_ARG(VOCABULARY) |
                     LS_ARG(STATEFUL) | LS_ARG(PLUGIN);
    return ls_rank_main(argc, argv, usage, takes, generate, err);
}
