#include "worker/optimizer/optimizer.h"

#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "worker/optimizer/optimizer_rows.h"

static const ls_optimizer_class *const classes[] = {
#define X(name) &ls_optimizer_##name,
    LS_OPTIMIZER_LIST(X)
#undef X
        NULL,
};

/* Keys that every Keras optimizer's config may have. Those that ask for something that is not done are refused below.
 */
static const char *const common_keys =
    "name learning_rate lr decay clipnorm clipvalue global_clipnorm weight_decay use_ema ema_momentum "
    "ema_overwrite_frequency "
    "jit_compile is_legacy_optimizer loss_scale_factor gradient_accumulation_steps";

static ls_status find(ls_json at, const char *name, const ls_optimizer_class **out, ls_err *err) {
    const char *names[sizeof classes / sizeof classes[0]];
    size_t n = 0;
    name += strncmp(name, "Custom>", 7) == 0 ? 7 : 0; /* TensorFlow 2.11 and 2.12 write "Custom>Adam" */
    for (; classes[n] != NULL; n++) {
        names[n] = classes[n]->name;
        if (strcasecmp(classes[n]->name, name) == 0 || ls_word_listed(classes[n]->aliases, name)) {
            *out = classes[n];
            return LS_OK;
        }
    }
    return ls_json_unknown(at, name, "an optimizer", names, n, err);
}

static ls_status parse_common(ls_optimizer *o, ls_json config, ls_err *err) {
    const double none = 1e300;
    bool ema = false;
    const char *const keys[] = {o->class_->keys, common_keys};
    LS_TRY(ls_json_only_listed(config, keys, 2, "optimizer", o->class_->name, err));
    LS_TRY(ls_json_get_bool(config, "use_ema", &ema, err));
    if (ema) {
        return ls_json_fail(ls_json_member(config, "use_ema"), err,
                            "averaged weights are not supported; set it to false");
    }
    /* A schedule object instead of a number is the training loop's. */
    const char *rate_key = ls_json_present(ls_json_member(config, "learning_rate")) ? "learning_rate" : "lr";
    if (!json_is_object(ls_json_member(config, rate_key).value)) {
        LS_TRY(ls_json_get_double(config, rate_key, 0, none, &o->learning_rate, err));
    }
    LS_TRY(ls_json_get_double(config, "decay", 0, none, &o->decay, err));
    LS_TRY(ls_json_get_double(config, "clipnorm", 0, none, &o->clipnorm, err));
    LS_TRY(ls_json_get_double(config, "clipvalue", 0, none, &o->clipvalue, err));
    LS_TRY(ls_json_get_double(config, "global_clipnorm", 0, none, &o->global_clipnorm, err));
    LS_TRY(ls_json_get_double(config, "weight_decay", 0, none, &o->weight_decay, err));
    LS_TRY(ls_json_get_bool(config, "is_legacy_optimizer", &o->legacy, err));
    return LS_OK;
}

ls_status ls_optimizer_parse(ls_json at, ls_optimizer *out, ls_err *err) {
    *out = (ls_optimizer){0};
    ls_json config = {.doc = at.doc};
    if (json_is_string(at.value)) {
        LS_TRY(find(at, json_string_value(at.value), &out->class_, err));
    } else {
        const char *name = NULL;
        LS_TRY(ls_json_expect_object(at, err));
        LS_TRY(ls_json_get_string(at, "class_name", &name, err));
        if (name == NULL) {
            return ls_json_fail(at, err, "an optimizer needs a \"class_name\", for example \"Adam\"");
        }
        LS_TRY(find(ls_json_member(at, "class_name"), name, &out->class_, err));
        config = ls_json_member(at, "config");
        if (ls_json_present(config)) {
            LS_TRY(ls_json_expect_object(config, err));
        }
    }
    out->learning_rate = 0.001;
    out->class_->defaults(out);
    LS_TRY(parse_common(out, config, err));
    return out->class_->parse(out, config, err);
}

int ls_optimizer_n_slots(const ls_optimizer *o) {
    const char *const *names = o->class_->slots(o);
    int n = 0;
    while (names[n] != NULL) {
        n++;
    }
    return n;
}

bool ls_optimizer_excludes(const char *words, const ls_weight *w) {
    char word[160];
    for (const char *p = words; *p != '\0';) {
        size_t n = strcspn(p, " ");
        snprintf(word, sizeof word, "%.*s", (int)n, p);
        if (n > 0 && strstr(w->path, word) != NULL) {
            return true;
        }
        p += n + (p[n] == ' ');
    }
    return false;
}

bool ls_optimizer_divides_by_epsilon(const ls_optimizer *o) {
    return (float)o->epsilon > 0;
}

ls_update ls_update_begin(const ls_optimizer *o, double learning_rate, uint64_t t) {
    ls_update u = {.learning_rate = learning_rate, .t = t, .trust = 1};
    if (o->class_->coefficients != NULL) {
        o->class_->coefficients(o, &u);
    }
    return u;
}
