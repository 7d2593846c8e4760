/*
 * A job as lockstepd knows it: what was asked for, how it stands, and what its run last told.
 *
 * One JSON form serves the socket and the record on disk (STATE/jobs/ID.json); it holds all that is needed to find the
 * run again after the daemon's own death. `progress` holds what changes every second and is rebuilt from the run
 * folder's events.jsonl, so the record on disk is written only when the state changes.
 */
#ifndef LS_DAEMON_JOB_H
#define LS_DAEMON_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/json.h"
#include "common/process.h"
#include "common/status.h"

/* name, word, whether it is over */
#define LS_JOB_STATE_LIST(X)                                                     \
    X(QUEUED, "queued", false)     /* recorded, not yet started */               \
    X(STARTING, "starting", false) /* mpirun runs, the run has not yet spoken */ \
    X(RUNNING, "running", false)                                                 \
    X(STOPPING, "stopping", false) /* asked to stop, has not ended yet */        \
    X(STOPPED, "stopped", true)    /* on purpose; can be resumed */              \
    X(DONE, "done", true)                                                        \
    X(FAILED, "failed", true)                                                    \
    X(LOST, "lost", true) /* gone without a word on how it ended */

typedef enum {
#define X(name, word, over) LS_JOB_##name,
    LS_JOB_STATE_LIST(X)
#undef X
        LS_JOB_STATE_COUNT
} ls_job_state;

/* An event is known again by the hash of its text: it comes by the push socket and from events.jsonl. */
enum { LS_JOB_SEEN = 256 };

typedef struct ls_job {
    int64_t id;
    char *name;
    ls_job_state state;
    bool external; /* started by somebody else's mpirun, which reported here: process is rank 0, not mpirun */
    int ranks;
    char *job;     /* the job file; "" when an external run did not say */
    char *run_dir; /* absolute */
    char *folder;  /* the working folder of the run; "" for external */
    char *host;
    json_t *set;        /* array of "key=value" */
    json_t *command;    /* array: the argument vector of the last start */
    ls_process process; /* mpirun, the leader of a session of its own; or an external run's rank 0 */
    char boot[40];      /* the boot of the machine in which process has a meaning */
    bool has_exit_code;
    int exit_code;                    /* of mpirun: 128 + N for a death by signal N */
    int restarts;                     /* starts after the first */
    double submitted, started, ended; /* Unix seconds, 0: not yet */
    double stop_by;                   /* when to kill what was asked to stop; 0: was not asked */
    int64_t events_from;              /* bytes of events.jsonl that belong to earlier runs in the folder */
    char *message;                    /* one sentence for people: why it ended, or the last warning */
    json_t *progress;                 /* object; keys as in the progress event, and epochs, last_checkpoint */

    /* From here on not in the record. */
    bool child;       /* started by this very daemon, which so is told of its end */
    bool exited;      /* process is gone; what is left of its session is being cleared */
    bool killed;      /* asked to end at once */
    double exited_at; /* when that was seen */
    int exit_signal;
    char *end_status; /* from the end event: done, failed or stopped; NULL: none came */
    char *end_message;
    int64_t events_at; /* how far events.jsonl has been read */
    uint64_t seen[LS_JOB_SEEN];
    unsigned n_seen;
} ls_job;

const char *ls_job_state_word(ls_job_state state);
bool ls_job_over(const ls_job *job);

/* A zeroed job with empty texts; ls_job_destroy frees it. */
ls_job *ls_job_create(void);
void ls_job_destroy(ls_job *job);

/* Replaces one of its texts. */
void ls_job_set_text(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The JSON form, a new reference. */
json_t *ls_job_to_json(const ls_job *job);
/* Back from a record; name is the file's, for messages. On success *out is the caller's. */
ls_status ls_job_from_json(ls_job **out, const char *name, const char *text, ls_err *err) LS_MUST_CHECK;

/* A file in the run folder: "events.jsonl", "history.csv", "logs/output.log". Freed by the caller. */
char *ls_job_path(const ls_job *job, const char *name);
/* Where the output of what the daemon starts goes, relative to the run folder. */
#define LS_JOB_LOG "logs/output.log"

#endif
