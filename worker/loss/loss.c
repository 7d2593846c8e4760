#include "worker/loss/loss.h"

#include <stdio.h>
#include <string.h>

#include "common/additions.h"
#include "common/text.h"
#include "worker/loss/loss_rows.h"

static const ls_loss_class *const classes[] = {
#define X(name) &ls_loss_##name,
    LS_LOSS_LIST(X)
#undef X
        NULL,
};

const ls_loss_class *const *ls_loss_classes(void) {
    return classes;
}

static ls_additions added;

static const ls_loss_class *find_built_in(const char *name) {
    for (int i = 0; classes[i] != NULL; i++) {
        if (strcmp(classes[i]->name, name) == 0 || ls_word_listed(classes[i]->aliases, name)) {
            return classes[i];
        }
    }
    return NULL;
}

bool ls_loss_built_in(const char *name) {
    return find_built_in(name) != NULL;
}

const ls_loss_class *ls_loss_class_find(const char *name) {
    const ls_loss_class *found = find_built_in(name);
    return found != NULL ? found : ls_additions_find(&added, name);
}

ls_status ls_loss_class_add(const ls_loss_class *class_, const char *owner, ls_err *err) {
    const ls_addition row = {.name = class_->name, .aliases = class_->aliases, .owner = owner, .row = class_};
    return ls_additions_add(&added, "loss", ls_loss_built_in, &row, err);
}

void ls_loss_class_drop_added(void) {
    ls_additions_clear(&added);
}

size_t ls_loss_class_added_names(const char **names, size_t n, size_t max) {
    return ls_additions_names(&added, names, n, max);
}

static ls_status find(ls_json at, const char *name, const ls_loss_class **out, ls_err *err) {
    enum { MAX_NAMES = 128 };
    const char *names[MAX_NAMES];
    size_t n = 0;
    *out = ls_loss_class_find(name);
    if (*out != NULL) {
        return LS_OK;
    }
    for (; classes[n] != NULL && n < MAX_NAMES; n++) {
        names[n] = classes[n]->name;
    }
    n = ls_additions_names(&added, names, n, MAX_NAMES);
    const char *near = ls_nearest(name, names, n);
    return ls_json_fail(at, err, "\"%s\" is not a loss that Lockstep knows%s%s%s", name,
                        near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

ls_status ls_loss_parse(ls_json at, ls_loss *out, ls_err *err) {
    *out = (ls_loss){.a = 1.0, .b = 1.0};
    if (json_is_string(at.value)) {
        LS_TRY(find(at, json_string_value(at.value), &out->class_, err));
        return ls_loss_configure(out, (ls_json){.doc = at.doc}, err);
    }
    const char *name = NULL;
    LS_TRY(ls_json_expect_object(at, err));
    LS_TRY(ls_json_get_string(at, "class_name", &name, err));
    if (name == NULL) {
        return ls_json_fail(at, err, "a loss needs a \"class_name\"");
    }
    LS_TRY(find(ls_json_member(at, "class_name"), name, &out->class_, err));
    ls_json config = ls_json_member(at, "config");
    const char *key;
    json_t *value;
    if (ls_json_present(config)) {
        LS_TRY(ls_json_expect_object(config, err));
    } else {
        snprintf(config.path, sizeof config.path, "%s", at.path); /* what is missing is missing here */
    }
    json_object_foreach(config.value, key, value) {
        if (!ls_word_listed("name reduction fn axis dtype", key) && !ls_word_listed(out->class_->keys, key)) {
            return ls_json_fail(ls_json_member(config, key), err, "unknown key of loss %s", out->class_->name);
        }
    }
    return ls_loss_configure(out, config, err);
}

ls_status ls_loss_configure(ls_loss *out, ls_json config, ls_err *err) {
    if (out->class_->configure != NULL) {
        return out->class_->configure(out, config, err);
    }
    out->a = out->class_->a != 0 ? out->class_->a : out->a;
    LS_TRY(ls_json_get_bool(config, "from_logits", &out->from_logits, err));
    LS_TRY(ls_json_get_double(config, "label_smoothing", 0, 1, &out->label_smoothing, err));
    LS_TRY(ls_json_get_double(config, "smooth", 0, 1e300, &out->a, err));
    LS_TRY(ls_json_get_double(config, "delta", 0, 1e300, &out->a, err));
    LS_TRY(ls_json_get_double(config, "under_cost", 0, 1e300, &out->a, err));
    LS_TRY(ls_json_get_double(config, "over_cost", 0, 1e300, &out->b, err));
    return LS_OK;
}
