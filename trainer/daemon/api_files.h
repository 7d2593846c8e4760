/* The replies that are read from a run folder. */
#ifndef LS_DAEMON_API_FILES_H
#define LS_DAEMON_API_FILES_H

#include "trainer/daemon/api.h"

/* history.csv; no file yet: no columns. A new reference. */
ls_status ls_api_read_history(const ls_job *job, json_t **out, ls_err *err) LS_MUST_CHECK;

/* The .h5 files in checkpoints/, oldest first. A new reference. */
ls_status ls_api_read_checkpoints(const ls_job *job, json_t **out, ls_err *err) LS_MUST_CHECK;

/* Begins a log's stream at a byte offset. LS_EINPUT: there is no log. */
ls_status ls_api_log(const ls_job *job, int64_t offset, bool follow, ls_reply *reply, ls_err *err) LS_MUST_CHECK;

#endif
