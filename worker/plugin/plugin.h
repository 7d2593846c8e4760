/*
 * Plugins: shared objects that add losses, metrics, layers and callbacks (common/lockstep_plugin.h is what their
 * authors see). This is the only place that knows dlfcn.h.
 *
 * Loading is local and comes before the model is built. The tables of losses, metrics and layers are filled here; the
 * callbacks, which belong to the training loop, are trainer/fit's to add from ls_plugin.row.
 */
#ifndef LS_WORKER_PLUGIN_H
#define LS_WORKER_PLUGIN_H

#include "common/json.h"
#include "common/lockstep_plugin.h"

enum { LS_PLUGIN_TEXT = 512 }; /* characters of a plugin's error sentence */

typedef struct ls_plugin {
    const lockstep_plugin *row; /* the plugin's own table */
    char *path;                 /* absolute, or as it was given with its folder */
    char digest[33];            /* of the file's bytes, hexadecimal */
    void *library;
    bool begun; /* init went well */
    void *made; /* the rows that stand in Lockstep's tables */
} ls_plugin;

/* A zeroed one is empty. */
typedef struct ls_plugins {
    int n;
    ls_plugin *item; /* [n] */
} ls_plugins;

/*
 * Loads a list of paths, or of {"path", "config"}; relative ones count from `folder`. Absent: none. LS_EINPUT with the
 * file and what to do: not there, not a shared object, not a plugin, of another ABI, an incomplete row, a name that is
 * taken, an init that fails; nothing stays loaded then. A process holds one ls_plugins at a time. On success the caller
 * releases *out when everything that was built with it is gone: rows and code are unloaded.
 */
ls_status ls_plugins_load(ls_json list, const char *folder, ls_plugins *out, ls_err *err) LS_MUST_CHECK;
void ls_plugins_release(ls_plugins *plugins);

/* The list for ls_plugins_load from words of a command line: paths, or JSON objects. On success the caller releases
 * *doc, after the plugins. LS_EINPUT. */
ls_status ls_plugins_words(char *const *words, size_t n_words, ls_json_doc *doc, ls_err *err) LS_MUST_CHECK;

/* What a checkpoint keeps: a list of {"name", "version", "digest", "path"}, a new reference. */
json_t *ls_plugins_record(const ls_plugins *plugins);
/* Of that name; NULL: not loaded. */
const ls_plugin *ls_plugins_find(const ls_plugins *plugins, const char *name);

/*
 * Reads settings by a table of keys (NULL: none) into out, in the order of the table; absent ones get their defaults.
 * Keys that the table does not have are not looked at. LS_EINPUT as ls_json_get_*, or for a required one that is
 * missing. Texts are borrowed from the document.
 */
ls_status ls_settings_read(const lockstep_key *keys, ls_json config, lockstep_value *out, ls_err *err) LS_MUST_CHECK;
/* The same, and the row's own check; what that finds is said of the place of config. */
ls_status ls_settings_check(const lockstep_key *keys, lockstep_check check, ls_json config, lockstep_value *out,
                            ls_err *err) LS_MUST_CHECK;

#endif
