/*
 * Callbacks of plugins. Their hooks run on the chief alone; what they decide is told to the other ranks, so that all go
 * on alike:
 *
 *   a. the chief calls the hook, which writes its wishes into a copy of the moment
 *   b. the decision (status, learning rate, stop, how many files) is shared; sentences and file names only if there are
 * any c. all ranks take over the decision and write the files together, since that is collective
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/additions.h"
#include "common/file.h"
#include "common/memory.h"
#include "trainer/fit/callback_private.h"
#include "worker/plugin/plugin.h"

enum { MAX_STATE = 1 << 20, MAX_FILE = 512 };

/* ---- the table ---- */

typedef struct {
    ls_callback_class class_;
    const lockstep_callback *own;
    const char *path;
    const char *keys[LOCKSTEP_MAX_KEYS + 1];
} plugin_class;

static ls_additions added;
static plugin_class **made; /* [n_made] */
static int n_made, cap_made;

const ls_callback_class *ls_callback_added(const char *name) {
    return ls_additions_find(&added, name);
}

size_t ls_callback_added_names(const char **names, size_t n, size_t max) {
    return ls_additions_names(&added, names, n, max);
}

static bool built_in(const char *name) {
    for (const char *const *known = ls_callback_names(); *known != NULL; known++) {
        if (strcmp(*known, name) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- one callback ---- */

typedef struct {
    ls_callback base;
    lockstep_value settings[LOCKSTEP_MAX_KEYS];
    void *state; /* [own->state_bytes] */
    void *self;
    bool created; /* on the chief, by train_begin */
} plugin_callback;

static const plugin_class *class_of(const ls_callback *cb) {
    return (const plugin_class *)cb->class_;
}

static ls_status parse(ls_callback *base, ls_json config, double learning_rate, ls_err *err) {
    (void)learning_rate;
    plugin_callback *cb = (plugin_callback *)base;
    const lockstep_callback *own = class_of(base)->own;
    cb->state = ls_xcalloc(own->state_bytes + 1, 1);
    return ls_settings_check(own->keys, own->check, config, cb->settings, err);
}

static void release(ls_callback *base) {
    plugin_callback *cb = (plugin_callback *)base;
    const lockstep_callback *own = class_of(base)->own;
    if (cb->created && own->destroy != NULL) {
        own->destroy(cb->self);
    }
    free(cb->state);
}

/* ---- a hook ---- */

typedef struct {
    char file[MAX_FILE];
    int weights_only;
} wish;

/* What all ranks have to know. */
typedef struct {
    ls_status status;
    int stop, n_wishes;
    double learning_rate;
} decision;

typedef struct {
    char reason[sizeof((lockstep_moment *)0)->reason];
    char error[LS_PLUGIN_TEXT];
} words;

/* Behind lockstep_moment.host, on the chief. */
typedef struct {
    ls_moment *moment;
    plugin_callback *callback;
    int n_wishes;
    wish wishes[LOCKSTEP_MAX_SAVES];
    lockstep_log logs[LS_LOGS_MAX];
} host;

static int ask_to_save(lockstep_moment *moment, const char *file, int weights_only, lockstep_error *error) {
    host *h = moment->host;
    size_t n = file != NULL ? strlen(file) : 0;
    bool h5 = (n > 3 && strcmp(file + n - 3, ".h5") == 0) || (n > 5 && strcmp(file + n - 5, ".hdf5") == 0);
    if (!h5 || n >= MAX_FILE) {
        return lockstep_fail(error, "save: expected a file name that ends with .h5 or .hdf5, found \"%.200s\"",
                             file != NULL ? file : "");
    }
    if (h->n_wishes == LOCKSTEP_MAX_SAVES) {
        return lockstep_fail(error, "save: a hook may ask for %d files", (int)LOCKSTEP_MAX_SAVES);
    }
    wish *w = &h->wishes[h->n_wishes++];
    snprintf(w->file, sizeof w->file, "%s", file);
    w->weights_only = weights_only != 0;
    return 0;
}

static void say(lockstep_moment *moment, int warning, const char *text) {
    ls_callback_say(((host *)moment->host)->moment, warning != 0, "%s", text);
}

/* On the chief: calls the hook. */
static void call_hook(plugin_callback *cb, lockstep_hook hook, ls_moment *m, host *h, decision *d, words *w) {
    const ls_logs none = {0}, *from = m->logs != NULL ? m->logs : &none;
    for (int i = 0; i < from->n; i++) {
        h->logs[i] = (lockstep_log){from->item[i].name, from->item[i].value};
    }
    lockstep_moment moment = {.settings = cb->settings,
                              .state = cb->state,
                              .self = cb->self,
                              .epoch = m->epoch,
                              .batch = m->batch,
                              .step = m->step,
                              .learning_rate = m->learning_rate,
                              .stop = m->stop,
                              .n_logs = from->n,
                              .logs = h->logs,
                              .run_folder = m->port != NULL ? m->port->run_folder : ".",
                              .host = h,
                              .save = ask_to_save,
                              .say = say};
    lockstep_error error = {w->error, sizeof w->error};
    *d = (decision){.status = hook(&moment, &error) == 0 ? LS_OK : LS_ELIBRARY};
    if (d->status == LS_OK && !(isfinite(moment.learning_rate) && moment.learning_rate >= 0)) {
        d->status = LS_ELIBRARY;
        snprintf(w->error, sizeof w->error, "set the learning rate %g; expected a number from 0", moment.learning_rate);
    }
    d->learning_rate = moment.learning_rate;
    d->stop = moment.stop != 0;
    d->n_wishes = h->n_wishes;
    memcpy(w->reason, moment.reason, sizeof w->reason);
    w->reason[sizeof w->reason - 1] = '\0';
}

static void share(const ls_moment *m, void *bytes, size_t n_bytes) {
    if (m->port != NULL && m->port->share != NULL) {
        m->port->share(m->port->self, bytes, n_bytes);
    }
}

static ls_status write_files(const ls_moment *m, const host *h, int n, ls_err *err) {
    for (int i = 0; i < n; i++) {
        char *path = ls_path_join(m->port->run_folder, h->wishes[i].file);
        ls_status status = m->port->save(m->port->self, path, h->wishes[i].weights_only != 0, err);
        free(path);
        LS_TRY(status);
    }
    return LS_OK;
}

static ls_status run_hook(ls_callback *base, lockstep_hook hook, const char *name, ls_moment *m, ls_err *err) {
    host h = {.moment = m, .callback = (plugin_callback *)base};
    decision d = {0};
    words w = {{0}, {0}};
    if (m->chief) {
        call_hook(h.callback, hook, m, &h, &d, &w);
    }
    share(m, &d, sizeof d);
    if (d.status != LS_OK || (d.stop && !m->stop)) {
        share(m, &w, sizeof w);
    }
    if (d.status != LS_OK) {
        return ls_fail(err, d.status, "%s, plugin %s: %s", name, class_of(base)->path,
                       w.error[0] ? w.error : "failed without a reason");
    }
    m->learning_rate = d.learning_rate;
    if (d.stop && !m->stop) {
        m->stop = true;
        snprintf(m->reason, sizeof m->reason, "%s%s%s", base->class_->name, w.reason[0] ? ": " : " asked to stop",
                 w.reason);
    }
    if (d.n_wishes > 0) {
        share(m, h.wishes, (size_t)d.n_wishes * sizeof *h.wishes);
    }
    return write_files(m, &h, d.n_wishes, err);
}

#define HOOK(name)                                                        \
    static ls_status name(ls_callback *base, ls_moment *m, ls_err *err) { \
        return run_hook(base, class_of(base)->own->name, #name, m, err);  \
    }
HOOK(epoch_begin)
HOOK(batch_begin)
HOOK(batch_end)
HOOK(epoch_end)
HOOK(train_end)

/* Creates what the plugin keeps outside checkpoints, then its own train_begin, both as one decision. */
static int create_and_begin(lockstep_moment *moment, lockstep_error *error) {
    plugin_callback *cb = ((host *)moment->host)->callback;
    const lockstep_callback *own = class_of(&cb->base)->own;
    if (!cb->created && own->create != NULL && own->create(cb->settings, &cb->self, error) != 0) {
        return -1;
    }
    cb->created = true;
    moment->self = cb->self;
    return own->train_begin != NULL ? own->train_begin(moment, error) : 0;
}

static ls_status train_begin(ls_callback *base, ls_moment *m, ls_err *err) {
    return run_hook(base, create_and_begin, "train_begin", m, err);
}

/* ---- its state: bytes in hexadecimal ---- */

static json_t *save(const ls_callback *base) {
    const plugin_callback *cb = (const plugin_callback *)base;
    const size_t n = class_of(base)->own->state_bytes;
    char *text = ls_xcalloc(2 * n + 1, 1);
    for (size_t i = 0; i < n; i++) {
        snprintf(text + 2 * i, 3, "%02x", ((const unsigned char *)cb->state)[i]);
    }
    json_t *state = json_pack("{s:s}", "bytes", text);
    free(text);
    return state;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static ls_status restore(ls_callback *base, ls_json state, ls_err *err) {
    plugin_callback *cb = (plugin_callback *)base;
    const size_t n = class_of(base)->own->state_bytes;
    const char *text = NULL;
    LS_TRY(ls_json_get_string(state, "bytes", &text, err));
    if (text == NULL || strlen(text) != 2 * n) {
        return ls_json_fail(state, err,
                            "the checkpoint holds %zu bytes of state for \"%s\", plugin %s keeps %zu; resume with the "
                            "plugin that the run was started with",
                            text != NULL ? strlen(text) / 2 : 0, base->class_->name, class_of(base)->path, n);
    }
    for (size_t i = 0; i < n; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return ls_json_fail(state, err, "the state of \"%s\" is not hexadecimal", base->class_->name);
        }
        ((unsigned char *)cb->state)[i] = (unsigned char)(high * 16 + low);
    }
    return LS_OK;
}

/* ---- registration ---- */

static ls_status add(const ls_plugin *plugin, const lockstep_callback *own, ls_err *err) {
    int n = 0;
    for (const lockstep_key *k = own->keys; k != NULL && k->name != NULL; k++, n++) {
        if (n == LOCKSTEP_MAX_KEYS || k->type < LOCKSTEP_REAL || k->type > LOCKSTEP_TEXT) {
            return ls_fail(err, LS_EINPUT,
                           "%s: callback \"%s\" has more than %d keys, or one of a type that there is not",
                           plugin->path, own->name, LOCKSTEP_MAX_KEYS);
        }
    }
    if (own->state_bytes > MAX_STATE) {
        return ls_fail(err, LS_EINPUT, "%s: callback \"%s\" wants %zu bytes of state; at most %d can be kept",
                       plugin->path, own->name, own->state_bytes, MAX_STATE);
    }
    plugin_class *c = ls_xcalloc(1, sizeof *c);
    LS_PUSH(made, n_made, cap_made, c);
    for (int i = 0; i < n; i++) {
        c->keys[i] = own->keys[i].name;
    }
    c->own = own;
    c->path = plugin->path;
    c->class_ = (ls_callback_class){.name = own->name,
                                    .keys = c->keys,
                                    .metrics = own->metrics,
                                    .n_bytes = sizeof(plugin_callback),
                                    .parse = parse,
                                    .train_begin = train_begin,
                                    .epoch_begin = own->epoch_begin != NULL ? epoch_begin : NULL,
                                    .batch_begin = own->batch_begin != NULL ? batch_begin : NULL,
                                    .batch_end = own->batch_end != NULL ? batch_end : NULL,
                                    .epoch_end = own->epoch_end != NULL ? epoch_end : NULL,
                                    .train_end = own->train_end != NULL ? train_end : NULL,
                                    .save = save,
                                    .restore = restore,
                                    .release = release};
    const ls_addition row = {.name = own->name, .owner = plugin->path, .row = &c->class_};
    return ls_additions_add(&added, "callback", built_in, &row, err);
}

ls_status ls_callbacks_add_plugins(const ls_plugins *plugins, ls_err *err) {
    for (int i = 0; i < plugins->n; i++) {
        const lockstep_callback *const *rows = plugins->item[i].row->callbacks;
        for (; rows != NULL && *rows != NULL; rows++) {
            LS_TRY(add(&plugins->item[i], *rows, err));
        }
    }
    return LS_OK;
}

void ls_callbacks_drop_added(void) {
    ls_additions_clear(&added);
    for (int i = 0; i < n_made; i++) {
        free(made[i]);
    }
    free(made);
    made = NULL;
    n_made = cap_made = 0;
}
