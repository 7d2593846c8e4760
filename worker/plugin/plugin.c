#include "worker/plugin/plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "storage/hash.h"
#include "worker/layers/layer.h"
#include "worker/loss/loss.h"
#include "worker/metric/metric.h"
#include "worker/plugin/plugin_private.h"

#define COMPILE_LINE "compile it with: cc -shared -fPIC -I PREFIX/include x.c -o x.so"

static ls_status digest_file(ls_plugin *p, ls_err *err) {
    char *bytes;
    size_t n;
    unsigned char sum[LS_HASH_BYTES];
    LS_TRY(ls_file_read(p->path, &bytes, &n, err));
    ls_hash *hash = ls_hash_start();
    ls_hash_add(hash, bytes, n);
    ls_hash_finish(hash, sum);
    free(bytes);
    for (int i = 0; i < LS_HASH_BYTES; i++) {
        snprintf(p->digest + 2 * i, 3, "%02x", sum[i]);
    }
    return LS_OK;
}

/* ---- the table of the plugin, checked ---- */

/* The sizes come right after the number, so that they can be read whatever else has changed. */
static ls_status check_abi(const char *path, const lockstep_plugin *row, ls_err *err) {
    static const lockstep_plugin mine = {LOCKSTEP_PLUGIN_HEAD};
    if (row->abi != mine.abi) {
        return ls_fail(
            err, LS_EINPUT,
            "%s: was compiled for plugin interface %u, this Lockstep (%s) has %u; compile it again with this "
            "version's lockstep_plugin.h",
            path, row->abi, LOCKSTEP_VERSION, mine.abi);
    }
    if (memcmp(row, &mine, offsetof(lockstep_plugin, name)) != 0) {
        return ls_fail(
            err, LS_EINPUT,
            "%s: its structs have other sizes than those of lockstep_plugin.h; begin the lockstep_plugin with "
            "LOCKSTEP_PLUGIN_HEAD and compile it again without options that change how structs lie in memory",
            path);
    }
    return LS_OK;
}

static ls_status check_plugin(const ls_plugin *p, ls_err *err) {
    const lockstep_plugin *row = p->row;
    if (row->name == NULL || row->name[0] == '\0' || row->version == NULL) {
        return ls_fail(err, LS_EINPUT, "%s: its lockstep_plugin has no name or no version", p->path);
    }
    if (row->losses == NULL && row->metrics == NULL && row->layers == NULL && row->callbacks == NULL) {
        return ls_fail(err, LS_EINPUT, "%s: adds no loss, metric, layer or callback", p->path);
    }
    return LS_OK;
}

static ls_status open_library(ls_plugin *p, ls_err *err) {
    LS_TRY(digest_file(p, err)); /* says well what is wrong with a file that is not there */
    p->library = dlopen(p->path, RTLD_NOW | RTLD_LOCAL);
    if (p->library == NULL) {
        const char *why = dlerror();
        return ls_fail(err, LS_EINPUT, "%s: cannot be loaded as a plugin (%s); " COMPILE_LINE, p->path,
                       why != NULL ? why : "no reason given");
    }
    union { /* ISO C has no conversion from an object pointer to a function pointer; POSIX does */
        void *object;
        const lockstep_plugin *(*function)(void);
    } entry = {.object = dlsym(p->library, "lockstep_plugin_entry")};
    if (entry.object == NULL) {
        return ls_fail(
            err, LS_EINPUT,
            "%s: is a shared object but no Lockstep plugin: it exports no function lockstep_plugin_entry (see "
            "lockstep_plugin.h)",
            p->path);
    }
    p->row = entry.function();
    if (p->row == NULL) {
        return ls_fail(err, LS_EINPUT, "%s: its lockstep_plugin_entry gives NULL instead of a lockstep_plugin",
                       p->path);
    }
    LS_TRY(check_abi(p->path, p->row, err));
    return check_plugin(p, err);
}

/* ---- into the tables ---- */

static ls_status begin(ls_plugin *p, ls_json config, ls_err *err) {
    lockstep_value settings[LOCKSTEP_MAX_KEYS] = {{0}};
    char text[LS_PLUGIN_TEXT] = "", *words;
    LS_TRY(ls_plugin_keys(p->made, p->row->keys, p->path, &words, err));
    const char *const keys[] = {words};
    LS_TRY(ls_json_only_listed(config, keys, 1, "plugin", p->row->name, err));
    LS_TRY(ls_settings_read(p->row->keys, config, settings, err));
    lockstep_error error = {text, sizeof text};
    if (p->row->init != NULL && p->row->init(settings, &error) != 0) {
        return ls_fail(err, LS_EINPUT, "%s: its init failed: %s", p->path, text[0] ? text : "no reason given");
    }
    p->begun = true;
    return LS_OK;
}

static ls_status add_rows(ls_plugin *p, ls_err *err) {
    for (const lockstep_loss *const *l = p->row->losses; l != NULL && *l != NULL; l++) {
        LS_TRY(ls_plugin_add_loss(p->made, p->path, *l, err));
    }
    for (const lockstep_metric *const *m = p->row->metrics; m != NULL && *m != NULL; m++) {
        LS_TRY(ls_plugin_add_metric(p->made, p->path, *m, err));
    }
    for (const lockstep_layer *const *l = p->row->layers; l != NULL && *l != NULL; l++) {
        LS_TRY(ls_plugin_add_layer(p->made, p->path, *l, err));
    }
    return LS_OK;
}

static ls_status load_one(ls_plugins *all, ls_json at, const char *folder, ls_err *err) {
    static const char *const keys[] = {"path", "config"};
    const char *path = json_string_value(at.value);
    ls_json config = {.doc = at.doc};
    if (path == NULL) {
        LS_TRY(ls_json_expect_object(at, err));
        LS_TRY(ls_json_only_keys(at, keys, 2, err));
        LS_TRY(ls_json_get_string(at, "path", &path, err));
        config = ls_json_member(at, "config");
        if (ls_json_present(config)) {
            LS_TRY(ls_json_expect_object(config, err));
        }
    }
    if (path == NULL || path[0] == '\0') {
        return ls_json_fail(at, err, "expected the path of a shared object, for example \"./mine.so\"");
    }
    ls_plugin *p = &all->item[all->n++];
    p->made = ls_xcalloc(1, sizeof(ls_pool));
    char *whole = ls_path_join(folder, path);
    p->path = strchr(whole, '/') != NULL ? ls_xstrdup(whole) : ls_xprintf("./%s", whole); /* never the search path */
    free(whole);
    LS_TRY(open_library(p, err));
    for (int i = 0; i + 1 < all->n; i++) {
        if (strcmp(all->item[i].row->name, p->row->name) == 0) {
            return ls_json_fail(at, err, "%s is the plugin \"%s\", which %s is already; name it once", p->path,
                                p->row->name, all->item[i].path);
        }
    }
    LS_TRY(begin(p, config, err));
    return add_rows(p, err);
}

ls_status ls_plugins_load(ls_json list, const char *folder, ls_plugins *out, ls_err *err) {
    *out = (ls_plugins){0};
    if (!ls_json_present(list)) {
        return LS_OK;
    }
    if (!json_is_array(list.value)) {
        char found[96];
        return ls_json_fail(list, err, "expected a list of shared objects such as [\"./mine.so\"], found %s",
                            ls_json_describe(list.value, found, sizeof found));
    }
    ls_plugins all = {.item = ls_xcalloc(ls_json_length(list) + 1, sizeof *all.item)};
    for (size_t i = 0; i < ls_json_length(list); i++) {
        ls_status status = load_one(&all, ls_json_element(list, i), folder, err);
        if (status != LS_OK) {
            ls_plugins_release(&all);
            return status;
        }
    }
    *out = all;
    return LS_OK;
}

ls_status ls_plugins_words(char *const *words, size_t n_words, ls_json_doc *doc, ls_err *err) {
    json_t *list = json_array();
    for (size_t i = 0; i < n_words; i++) {
        json_t *word = words[i][0] == '{' ? json_loads(words[i], JSON_REJECT_DUPLICATES, NULL) : json_string(words[i]);
        if (word == NULL) {
            json_decref(list);
            return ls_fail(
                err, LS_EINPUT,
                "--plugin %s: expected a path, or an object such as {\"path\": \"./mine.so\", \"config\": {}}",
                words[i]);
        }
        json_array_append_new(list, word);
    }
    ls_json_wrap(doc, "--plugin", list);
    json_decref(list);
    return LS_OK;
}

void ls_plugins_release(ls_plugins *plugins) {
    if (plugins->item != NULL) {
        ls_loss_class_drop_added();
        ls_metric_class_drop_added();
        ls_layer_class_drop_added();
    }
    for (int i = plugins->n - 1; i >= 0; i--) {
        ls_plugin *p = &plugins->item[i];
        if (p->begun && p->row->release != NULL) {
            p->row->release();
        }
        if (p->library != NULL) {
            dlclose(p->library);
        }
        ls_pool_release(p->made);
        free(p->made);
        free(p->path);
    }
    free(plugins->item);
    *plugins = (ls_plugins){0};
}

json_t *ls_plugins_record(const ls_plugins *plugins) {
    json_t *list = json_array();
    for (int i = 0; i < plugins->n; i++) {
        const ls_plugin *p = &plugins->item[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "name", p->row->name, "version", p->row->version,
                                              "digest", p->digest, "path", p->path));
    }
    return list;
}

const ls_plugin *ls_plugins_find(const ls_plugins *plugins, const char *name) {
    for (int i = 0; i < plugins->n; i++) {
        if (strcmp(plugins->item[i].row->name, name) == 0) {
            return &plugins->item[i];
        }
    }
    return NULL;
}
