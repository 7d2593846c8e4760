/* Settings of plugins: JSON values by a table of keys. */
#include <float.h>
#include <string.h>

#include "worker/plugin/plugin_private.h"

enum { MAX_WORDS = 1000, MAX_KEY_NAME = 48 }; /* what the tables' lists of keys have room for */

ls_status ls_plugin_keys(ls_pool *pool, const lockstep_key *keys, const char *where, char **words, ls_err *err) {
    int n = 0;
    *words = ls_pool_strdup(pool, "");
    for (const lockstep_key *k = keys; k != NULL && k->name != NULL; k++, n++) {
        size_t length = strlen(k->name);
        if (n == LOCKSTEP_MAX_KEYS) {
            return ls_fail(err, LS_EINPUT, "%s: has more than %d keys", where, LOCKSTEP_MAX_KEYS);
        }
        if (length == 0 || length > MAX_KEY_NAME || strpbrk(k->name, " \"\\\n") != NULL) {
            return ls_fail(err, LS_EINPUT, "%s: the key \"%.80s\" is not a name of 1 to %d characters without spaces",
                           where, k->name, MAX_KEY_NAME);
        }
        if (k->type < LOCKSTEP_REAL || k->type > LOCKSTEP_TEXT) {
            return ls_fail(err, LS_EINPUT, "%s: the key \"%s\" has the type %d, which there is not", where, k->name,
                           k->type);
        }
        *words = ls_pool_printf(pool, "%s%s%s", *words, n > 0 ? " " : "", k->name);
    }
    if (strlen(*words) > MAX_WORDS) {
        return ls_fail(err, LS_EINPUT, "%s: the names of its keys are longer than %d characters together", where,
                       (int)MAX_WORDS);
    }
    return LS_OK;
}

static ls_status read_one(const lockstep_key *k, ls_json config, lockstep_value *out, ls_err *err) {
    const bool any = k->least == k->most;
    const double least = any ? -DBL_MAX : k->least, most = any ? DBL_MAX : k->most;
    bool on = k->standard != 0;
    switch (k->type) {
        case LOCKSTEP_REAL:
            out->real = k->standard;
            return ls_json_get_double(config, k->name, least, most, &out->real, err);
        case LOCKSTEP_INT:
            out->integer = (int64_t)k->standard;
            return ls_json_get_int(config, k->name, any || least < -9e18 ? INT64_MIN : (int64_t)least,
                                   any || most > 9e18 ? INT64_MAX : (int64_t)most, &out->integer, err);
        case LOCKSTEP_BOOL:
            LS_TRY(ls_json_get_bool(config, k->name, &on, err));
            out->integer = on;
            return LS_OK;
        default:
            out->text = k->default_text != NULL ? k->default_text : "";
            return ls_json_get_string(config, k->name, &out->text, err);
    }
}

ls_status ls_settings_read(const lockstep_key *keys, ls_json config, lockstep_value *out, ls_err *err) {
    for (int i = 0; keys != NULL && keys[i].name != NULL; i++) {
        if (keys[i].required && !ls_json_present(ls_json_member(config, keys[i].name))) {
            return ls_json_fail(config, err, "\"%s\" is missing", keys[i].name);
        }
        LS_TRY(read_one(&keys[i], config, &out[i], err));
    }
    return LS_OK;
}

ls_status ls_settings_check(const lockstep_key *keys, lockstep_check check, ls_json config, lockstep_value *out,
                            ls_err *err) {
    char text[LS_PLUGIN_TEXT] = "";
    lockstep_error error = {text, sizeof text};
    LS_TRY(ls_settings_read(keys, config, out, err));
    if (check != NULL && check(out, &error) != 0) {
        return ls_json_fail(config, err, "%s", text[0] ? text : "the plugin refuses these settings without a reason");
    }
    return LS_OK;
}
