/* What the files plugin*.c share. */
#ifndef LS_WORKER_PLUGIN_PRIVATE_H
#define LS_WORKER_PLUGIN_PRIVATE_H

#include "common/memory.h"
#include "worker/plugin/plugin.h"

/* The names of keys as one list of words. Checks them: LS_EINPUT with `where` ("FILE: loss \"x\"") before what is
 * wrong.
 */
ls_status ls_plugin_keys(ls_pool *pool, const lockstep_key *keys, const char *where, char **words,
                         ls_err *err) LS_MUST_CHECK;

/* Each makes a row of one of Lockstep's tables from the plugin's (checked: LS_EINPUT) and adds it; memory comes from
 * the pool, which must outlive the table's rows. */
ls_status ls_plugin_add_loss(ls_pool *pool, const char *path, const lockstep_loss *row, ls_err *err) LS_MUST_CHECK;
ls_status ls_plugin_add_metric(ls_pool *pool, const char *path, const lockstep_metric *row, ls_err *err) LS_MUST_CHECK;
ls_status ls_plugin_add_layer(ls_pool *pool, const char *path, const lockstep_layer *row, ls_err *err) LS_MUST_CHECK;

#endif
