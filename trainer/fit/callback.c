#include "trainer/fit/callback.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "common/text.h"
#include "trainer/fit/callback_private.h"

static const ls_callback_class *const classes[] = {
#define X(symbol, name) &ls_callback_##symbol,
    LS_CALLBACK_LIST(X)
#undef X
};
static const char *const class_names[] = {
#define X(symbol, name) name,
    LS_CALLBACK_LIST(X)
#undef X
        NULL};
enum { N_CLASSES = sizeof classes / sizeof classes[0] };

const char *const *ls_callback_names(void) {
    return class_names;
}

static ls_status find_class(ls_json at, const ls_callback_class **out, ls_json *config, ls_err *err) {
    const char *name = NULL;
    *config = (ls_json){.doc = at.doc};
    ls_json where = at;
    if (json_is_string(at.value)) {
        name = json_string_value(at.value);
    } else {
        static const char *const outer[] = {"class_name", "config", "module", "registered_name"};
        LS_TRY(ls_json_only_keys(at, outer, 4, err));
        LS_TRY(ls_json_get_string(at, "class_name", &name, err));
        if (name == NULL) {
            return ls_json_fail(at, err, "\"class_name\" is missing");
        }
        where = ls_json_member(at, "class_name");
        *config = ls_json_member(at, "config");
    }
    for (int i = 0; i < N_CLASSES; i++) {
        if (strcmp(classes[i]->name, name) == 0) {
            *out = classes[i];
            return LS_OK;
        }
    }
    *out = ls_callback_added(name);
    if (*out != NULL) {
        return LS_OK;
    }
    enum { MAX_NAMES = 64 };
    const char *names[MAX_NAMES];
    memcpy(names, class_names, N_CLASSES * sizeof *names);
    return ls_json_unknown(where, name, "a callback", names, ls_callback_added_names(names, N_CLASSES, MAX_NAMES), err);
}

static ls_status parse_one(ls_json at, double learning_rate, int index, ls_callback **out, ls_err *err) {
    const ls_callback_class *class_ = NULL;
    ls_json config;
    LS_TRY(find_class(at, &class_, &config, err));
    size_t n_keys = 0;
    while (class_->keys[n_keys] != NULL) {
        n_keys++;
    }
    if (ls_json_present(config)) {
        LS_TRY(ls_json_only_keys(config, class_->keys, n_keys, err));
    } else {
        snprintf(config.path, sizeof config.path, "%s", at.path);
    }
    ls_callback *cb = ls_xcalloc(1, class_->n_bytes);
    cb->class_ = class_;
    cb->index = index;
    ls_status status = class_->parse(cb, config, learning_rate, err);
    if (status != LS_OK) {
        if (class_->release != NULL) {
            class_->release(cb);
        }
        free(cb);
        return status;
    }
    *out = cb;
    return LS_OK;
}

ls_status ls_callbacks_parse(ls_json list, double learning_rate, ls_callbacks *out, ls_err *err) {
    *out = (ls_callbacks){0};
    if (!ls_json_present(list)) {
        return LS_OK;
    }
    if (!json_is_array(list.value)) {
        char found[96];
        return ls_json_fail(list, err, "expected a list of callbacks, found %s",
                            ls_json_describe(list.value, found, sizeof found));
    }
    size_t n = ls_json_length(list);
    ls_callbacks callbacks = {.item = ls_xcalloc(n + 1, sizeof *callbacks.item)};
    for (size_t i = 0; i < n; i++) {
        ls_status status = parse_one(ls_json_element(list, i), learning_rate, (int)i, &callbacks.item[i], err);
        if (status != LS_OK) {
            ls_callbacks_release(&callbacks);
            return status;
        }
        callbacks.n++;
    }
    *out = callbacks;
    return LS_OK;
}

void ls_callbacks_release(ls_callbacks *callbacks) {
    for (int i = 0; i < callbacks->n; i++) {
        ls_callback *cb = callbacks->item[i];
        if (cb->class_->release != NULL) {
            cb->class_->release(cb);
        }
        free(cb);
    }
    free(callbacks->item);
    *callbacks = (ls_callbacks){0};
}

ls_status ls_callbacks_call(ls_callbacks *callbacks, ls_callback_when when, ls_moment *m, ls_err *err) {
    for (int i = 0; i < callbacks->n; i++) {
        ls_callback *cb = callbacks->item[i];
        const ls_callback_class *c = cb->class_;
        ls_status (*const call[])(ls_callback *, ls_moment *, ls_err *) = {
            [LS_TRAIN_BEGIN] = c->train_begin, [LS_EPOCH_BEGIN] = c->epoch_begin, [LS_BATCH_BEGIN] = c->batch_begin,
            [LS_BATCH_END] = c->batch_end,     [LS_EPOCH_END] = c->epoch_end,     [LS_TRAIN_END] = c->train_end,
        };
        if (call[when] != NULL && call[when](cb, m, err) != LS_OK) {
            return ls_err_context(err, "%s", c->name);
        }
    }
    return LS_OK;
}

bool ls_callbacks_have(const ls_callbacks *callbacks, const char *name) {
    for (int i = 0; i < callbacks->n; i++) {
        if (strcmp(callbacks->item[i]->class_->name, name) == 0) {
            return true;
        }
    }
    return false;
}

bool ls_callbacks_change_in_batches(const ls_callbacks *callbacks) {
    for (int i = 0; i < callbacks->n; i++) {
        const ls_callback_class *c = callbacks->item[i]->class_;
        if (c->save != NULL && (c->batch_begin != NULL || c->batch_end != NULL)) {
            return true;
        }
    }
    return false;
}

json_t *ls_callbacks_save(const ls_callbacks *callbacks) {
    json_t *list = json_array();
    for (int i = 0; i < callbacks->n; i++) {
        const ls_callback *cb = callbacks->item[i];
        json_array_append_new(list, json_pack("{s:s, s:o}", "class_name", cb->class_->name, "state",
                                              cb->class_->save != NULL ? cb->class_->save(cb) : json_object()));
    }
    return list;
}

ls_status ls_callbacks_restore(ls_callbacks *callbacks, ls_json states, ls_err *err) {
    if (!json_is_array(states.value) || ls_json_length(states) != (size_t)callbacks->n) {
        return ls_json_fail(states, err,
                            "the checkpoint was written with %zu callbacks, the job has %d; resume with the same list",
                            ls_json_length(states), callbacks->n);
    }
    for (int i = 0; i < callbacks->n; i++) {
        ls_callback *cb = callbacks->item[i];
        ls_json at = ls_json_element(states, (size_t)i);
        const char *name = "";
        LS_TRY(ls_json_get_string(at, "class_name", &name, err));
        if (strcmp(name, cb->class_->name) != 0) {
            return ls_json_fail(at, err,
                                "the checkpoint was written with the callback \"%s\" in this place, the job has "
                                "\"%s\"; resume with the same list",
                                name, cb->class_->name);
        }
        if (cb->class_->restore != NULL) {
            LS_TRY(cb->class_->restore(cb, ls_json_member(at, "state"), err));
        }
    }
    return LS_OK;
}

ls_status ls_monitor_parse(ls_json config, ls_monitor *out, ls_mode *mode, ls_err *err) {
    static const char *const modes[] = {"auto", "min", "max"};
    int choice = LS_MODE_AUTO;
    out->name = "val_loss";
    LS_TRY(ls_json_get_string(config, "monitor", &out->name, err));
    LS_TRY(ls_json_get_choice(config, "mode", modes, 3, &choice, err));
    *mode = (ls_mode)choice;
    return LS_OK;
}

double ls_monitor_worst(const ls_monitor *m) {
    return m->greater ? -INFINITY : INFINITY;
}

const double *ls_monitor_value(const ls_monitor *mon, const ls_callback *cb, const ls_moment *m) {
    const double *value = ls_logs_find(m->logs, mon->name);
    if (value == NULL) {
        char names[1024];
        ls_callback_say(m, true, "%s watches \"%s\", which is not available; available are: %s", cb->class_->name,
                        mon->name, ls_logs_names(m->logs, names, sizeof names));
    }
    return value;
}

ls_status ls_verbose_parse(ls_json config, int64_t *out, ls_err *err) {
    *out = 0;
    return ls_json_get_int(config, "verbose", 0, 2, out, err);
}

void ls_callback_say(const ls_moment *m, bool warning, const char *format, ...) {
    if (!m->chief || m->port == NULL || m->port->say == NULL) {
        return;
    }
    char text[1500];
    LS_FORMAT(text, format);
    m->port->say(m->port->self, warning, text);
}

json_t *ls_state_number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

ls_status ls_state_get(ls_json state, const char *key, double when_null, double *out, ls_err *err) {
    ls_json m = ls_json_member(state, key);
    if (m.value == NULL || !(json_is_null(m.value) || json_is_number(m.value))) {
        return ls_json_fail(m, err, "this state lacks the number \"%s\"", key);
    }
    *out = json_is_null(m.value) ? when_null : json_number_value(m.value);
    return LS_OK;
}
