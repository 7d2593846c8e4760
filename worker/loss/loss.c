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
    return ls_json_unknown(at, name, "a loss", names, n, err);
}

/* Keras's settings of all losses that ask for what is not done; their defaults, as Keras writes them, are. */
static ls_status check_reduction(ls_json config, ls_err *err) {
    static const char known[] = "auto sum_over_batch_size mean";
    ls_json reduction = ls_json_member(config, "reduction");
    if (!ls_json_present(reduction) ||
        (json_is_string(reduction.value) && ls_word_listed(known, json_string_value(reduction.value)))) {
        return LS_OK;
    }
    return ls_json_fail(
        reduction, err,
        "a loss is the mean over the batch (\"sum_over_batch_size\"), and nothing else; leave it out, and "
        "scale it by loss_weights");
}

static ls_status check_rows(ls_json config, ls_err *err) {
    ls_json axis = ls_json_member(config, "axis");
    if (ls_json_present(axis) && !(json_is_integer(axis.value) && json_integer_value(axis.value) == -1)) {
        return ls_json_fail(axis, err, "losses work along the last axis (-1) alone; put a Permute before the output");
    }
    return LS_OK;
}

static ls_status read_ignored(ls_loss *loss, ls_json config, ls_err *err) {
    int64_t class_ = 0;
    loss->ignores = ls_json_present(ls_json_member(config, "ignore_class"));
    LS_TRY(ls_json_get_int(config, "ignore_class", INT32_MIN, INT32_MAX, &class_, err));
    loss->ignored = (int32_t)class_;
    return LS_OK;
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
    if (ls_json_present(config)) {
        LS_TRY(ls_json_expect_object(config, err));
    } else {
        snprintf(config.path, sizeof config.path, "%s", at.path); /* what is missing is missing here */
    }
    const char *const keys[] = {out->class_->keys, "name reduction fn axis dtype"};
    LS_TRY(ls_json_only_listed(config, keys, 2, "loss", out->class_->name, err));
    LS_TRY(check_reduction(config, err));
    return ls_loss_configure(out, config, err);
}

ls_status ls_loss_configure(ls_loss *out, ls_json config, ls_err *err) {
    if (out->class_->configure != NULL) {
        return out->class_->configure(out, config, err);
    }
    LS_TRY(check_rows(config, err));
    out->a = out->class_->a != 0 ? out->class_->a : out->a;
    LS_TRY(ls_json_get_bool(config, "from_logits", &out->from_logits, err));
    LS_TRY(ls_json_get_double(config, "label_smoothing", 0, 1, &out->label_smoothing, err));
    LS_TRY(ls_json_get_double(config, "smooth", 0, 1e300, &out->a, err));
    LS_TRY(ls_json_get_double(config, "delta", 0, 1e300, &out->a, err));
    LS_TRY(ls_json_get_double(config, "under_cost", 0, 1e300, &out->a, err));
    LS_TRY(ls_json_get_double(config, "over_cost", 0, 1e300, &out->b, err));
    return read_ignored(out, config, err);
}
