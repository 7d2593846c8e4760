#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "storage/hash.h"
#include "trainer/fit/fit_private.h"

static ls_status load(ls_fit *f, ls_json list, const char *folder, ls_err *err) {
    LS_TRY(ls_plugins_load(list, folder, &f->plugins, err));
    return ls_callbacks_add_plugins(&f->plugins, err);
}

ls_status ls_fit_load_plugins(ls_fit *f, ls_json list, const char *folder, ls_err *err) {
    LS_TRY(ls_team_agree(f->team, load(f, list, folder, err), err));
    for (int i = 0; i < f->plugins.n; i++) {
        const ls_plugin *p = &f->plugins.item[i];
        char what[160], mine[4300];
        snprintf(what, sizeof what, "the plugin %.100s", p->row->name);
        snprintf(mine, sizeof mine, "%s with digest %s", p->path, p->digest);
        LS_TRY(ls_team_check_same(f->team, what, ls_hash64(p->digest, strlen(p->digest)), mine, err));
    }
    return LS_OK;
}

static const char *text_of(const json_t *record, const char *key) {
    const char *text = json_string_value(json_object_get(record, key));
    return text != NULL ? text : "?";
}

ls_status ls_fit_check_plugins(const ls_plugins *plugins, const json_t *state, const char *path, const char *cure,
                               ls_err *err) {
    const json_t *record;
    size_t i;
    json_array_foreach(json_object_get(state, "plugins"), i, record) {
        const char *name = text_of(record, "name"), *version = text_of(record, "version");
        const ls_plugin *p = ls_plugins_find(plugins, name);
        if (p == NULL) {
            return ls_fail(err, LS_EINPUT, "%s: was trained with the plugin \"%s\" %s (%s), which is not loaded; %s",
                           path, name, version, text_of(record, "path"), cure);
        }
        if (strcmp(p->digest, text_of(record, "digest")) != 0) {
            ls_warn(
                "%s was trained with another build of the plugin \"%s\" (version %s, digest %s) than %s (version %s, "
                "digest %s): the bits may not be those of an uninterrupted run",
                path, name, version, text_of(record, "digest"), p->path, p->row->version, p->digest);
        }
    }
    return LS_OK;
}

ls_status ls_fit_name_plugin(const ls_plugins *plugins, const ls_checkpoint *c, const char *file, ls_err *err) {
    ls_err missing = LS_ERR_INIT;
    json_t *state = c->state != NULL ? json_loads(c->state, 0, NULL) : NULL;
    if (ls_fit_check_plugins(plugins, state, file, "give its file with --plugin", &missing) != LS_OK) {
        *err = missing;
    }
    json_decref(state);
    return err->status;
}
