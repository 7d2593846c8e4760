/*
 * Example of a callback: keeps the model with the best F1.
 *
 * It calls for the metric f1_score, so that the job need not list it, and at the end of every epoch compares the
 * validation's value with the best so far. A better one is saved under `filepath` in the run folder. With `patience`,
 * training ends after that many epochs without a better one.
 *
 * In a job:
 *   "plugins": ["./best_f1.so"],
 *   "fit": { "callbacks": [{"class_name": "BestF1", "config": {"filepath": "best_f1.h5"}}] }
 */
#include "lockstep_plugin.h"

enum { FILEPATH, MONITOR, PATIENCE, WEIGHTS_ONLY };

static const lockstep_key keys[] = {
    {.name = "filepath", .type = LOCKSTEP_TEXT, .default_text = "best_f1.h5"},
    {.name = "monitor", .type = LOCKSTEP_TEXT, .default_text = "val_f1_score"},
    {.name = "patience", .type = LOCKSTEP_INT, .least = 0, .most = 1e6},
    {.name = "save_weights_only", .type = LOCKSTEP_BOOL},
    {0},
};

/* A checkpoint holds it, so that a resumed run knows the best of the epochs before. */
typedef struct {
    double best;
    int64_t waited; /* epochs since the best */
    int64_t any;    /* 1: there is a best */
} state;

static int epoch_end(lockstep_moment *m, lockstep_error *error) {
    state *s = m->state;
    char text[160];
    const double *f1 = lockstep_find_log(m, m->settings[MONITOR].text);
    if (f1 == NULL) {
        return lockstep_fail(error, "\"%s\" is not among the logs; give the job validation data, or another monitor",
                             m->settings[MONITOR].text);
    }
    if (!s->any || *f1 > s->best) {
        snprintf(text, sizeof text, "epoch %lld: f1 %.4f is the best so far", (long long)m->epoch + 1, *f1);
        m->say(m, 0, text);
        *s = (state){.best = *f1, .any = 1};
        return m->save(m, m->settings[FILEPATH].text, (int)m->settings[WEIGHTS_ONLY].integer, error);
    }
    s->waited++;
    if (m->settings[PATIENCE].integer > 0 && s->waited >= m->settings[PATIENCE].integer) {
        m->stop = 1;
        snprintf(m->reason, sizeof m->reason, "f1 is not better than %.4f for %lld epochs", s->best,
                 (long long)s->waited);
    }
    return 0;
}

static const lockstep_callback best_f1 = {
    .name = "BestF1", .keys = keys, .metrics = "f1_score", .state_bytes = sizeof(state), .epoch_end = epoch_end};

static const lockstep_callback *const callbacks[] = {&best_f1, NULL};

static const lockstep_plugin plugin = {LOCKSTEP_PLUGIN_HEAD, .name = "best_f1", .version = "1.0",
                                       .callbacks = callbacks};

const lockstep_plugin *lockstep_plugin_entry(void) {
    return &plugin;
}
