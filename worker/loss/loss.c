#include "worker/loss/loss.h"

#include <string.h>

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

static ls_status find(ls_json at, const char *name, const ls_loss_class **out, ls_err *err) {
    const char *names[sizeof classes / sizeof classes[0]];
    size_t n = 0;
    for (; classes[n] != NULL; n++) {
        names[n] = classes[n]->name;
        if (strcmp(classes[n]->name, name) == 0 || ls_word_listed(classes[n]->aliases, name)) {
            *out = classes[n];
            return LS_OK;
        }
    }
    const char *near = ls_nearest(name, names, n);
    return ls_json_fail(at, err, "\"%s\" is not a loss that Lockstep knows%s%s%s", name,
                        near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

ls_status ls_loss_parse(ls_json at, ls_loss *out, ls_err *err) {
    *out = (ls_loss){.a = 1.0, .b = 1.0};
    if (json_is_string(at.value)) {
        return find(at, json_string_value(at.value), &out->class_, err);
    }
    const char *name = NULL;
    LS_TRY(ls_json_expect_object(at, err));
    LS_TRY(ls_json_get_string(at, "class_name", &name, err));
    if (name == NULL) {
        return ls_json_fail(at, err, "a loss needs a \"class_name\"");
    }
    LS_TRY(find(ls_json_member(at, "class_name"), name, &out->class_, err));
    ls_json config = ls_json_member(at, "config");
    if (!ls_json_present(config)) {
        return LS_OK;
    }
    const char *key;
    json_t *value;
    LS_TRY(ls_json_expect_object(config, err));
    json_object_foreach(config.value, key, value) {
        if (!ls_word_listed("name reduction fn axis dtype", key) && !ls_word_listed(out->class_->keys, key)) {
            return ls_json_fail(ls_json_member(config, key), err, "unknown key of loss %s", out->class_->name);
        }
    }
    LS_TRY(ls_json_get_bool(config, "from_logits", &out->from_logits, err));
    LS_TRY(ls_json_get_double(config, "label_smoothing", 0, 1, &out->label_smoothing, err));
    LS_TRY(ls_json_get_double(config, "delta", 0, 1e300, &out->a, err));
    LS_TRY(ls_json_get_double(config, "under_cost", 0, 1e300, &out->a, err));
    LS_TRY(ls_json_get_double(config, "over_cost", 0, 1e300, &out->b, err));
    return LS_OK;
}
