/*
 * Text from a model that tells the next character.
 *
 * The model has one input, class numbers of characters (T) or one-hot rows (T, V), and one output, a distribution or
 * logits over the next character: after each place (T, V), or after the last (V).
 *
 *   window     (as the model was trained) each character is told from the last T before it. With an output after each
 *              place the context may be shorter at first, for models that look back only; else the seed text must have
 *              T characters.
 *   stateful   for networks of recurrent layers alone: one character at a time, the layers go on with their state; as
 *              cheap as can be, and the context is all that came before.
 *
 * Numerics  character i is drawn from the model's distribution sharpened by the temperature, p^(1/temperature), with
 *           random number i of the seed: the same request gives the same text. A temperature of 0 takes the likeliest.
 */
#ifndef LS_FIT_GENERATE_H
#define LS_FIT_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct ls_team;

typedef struct ls_generate_request {
    const char *checkpoint; /* a file, or a run folder */
    const char *vocabulary; /* a file (storage/vocabulary.h); NULL: of the data that the checkpoint was trained on */
    const char *seed_text;
    char *const *plugins; /* [n_plugins] of --plugin: files that the model needs */
    size_t n_plugins;
    int64_t length; /* characters to add */
    double temperature;
    uint64_t seed;
    bool stateful;
    void (*put)(void *context, const char *text, size_t n_bytes); /* gets the seed text, then each
                                                                      character as it is drawn */
    void *context;
} ls_generate_request;

/* One rank only. LS_EINPUT: a model or vocabulary that does not do, a seed text too short or with unknown characters;
 * LS_ENONFINITE: the model's output is NaN. */
ls_status ls_generate(struct ls_team *team, const ls_generate_request *request, ls_err *err) LS_MUST_CHECK;

#endif
