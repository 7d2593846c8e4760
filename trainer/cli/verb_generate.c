/* lockstep generate CHECKPOINT|RUN --seed-text TEXT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "trainer/cli/option.h"
#include "trainer/cli/rank_args.h"
#include "trainer/cli/verbs.h"
#include "trainer/fit/generate.h"

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
                             .vocabulary = args->value[LS_RANK_ARG_VOCABULARY],
                             .seed_text = args->value[LS_RANK_ARG_SEED_TEXT],
                             .plugins = args->plugins,
                             .n_plugins = args->n_plugins,
                             .temperature = 1,
                             .stateful = args->value[LS_RANK_ARG_STATEFUL] != NULL,
                             .put = put,
                             .context = stdout};
    if (args->value[LS_RANK_ARG_LENGTH] != NULL) {
        LS_TRY(ls_option_int("--length", args->value[LS_RANK_ARG_LENGTH], 0, INT64_MAX, &length, err));
    }
    if (args->value[LS_RANK_ARG_SEED] != NULL) {
        LS_TRY(ls_option_int("--seed", args->value[LS_RANK_ARG_SEED], 0, INT64_MAX, &seed, err));
    }
    LS_TRY(read_temperature(args->value[LS_RANK_ARG_TEMPERATURE], &r.temperature, err));
    if (r.seed_text == NULL) {
        return ls_option_fail(args->verb, err, "--seed-text TEXT is missing, what the text begins with");
    }
    r.length = length;
    r.seed = (uint64_t)seed;
    LS_TRY(ls_generate(team, &r, err));
    printf("\n");
    return LS_OK;
}

ls_status ls_verb_generate(int argc, char **argv, ls_err *err) {
    uint32_t takes = LS_RANK_ARG(SEED_TEXT) | LS_RANK_ARG(LENGTH) | LS_RANK_ARG(TEMPERATURE) | LS_RANK_ARG(SEED) |
                     LS_RANK_ARG(VOCABULARY) | LS_RANK_ARG(STATEFUL) | LS_RANK_ARG(PLUGIN);
    return ls_rank_main(argc, argv, "the CHECKPOINT or RUN", takes, generate, err);
}
