/*
 * The life of jobs: started, watched, asked to stop, killed when they do not, cleared away, adopted after the daemon's
 * own death.
 *
 * A run is over when its mpirun is gone and nothing is left of the session that mpirun led; what is left 2 s after
 * mpirun's end is killed. How it ended is taken from the run itself first (the `end` event), then from the exit code:
 *
 *   end event, else exit code      becomes
 *   done    0                      done
 *   stopped 75                     stopped
 *   failed  any other              failed, or stopped when it had been asked to stop
 *   none of them known             lost,   or stopped when it had been asked to stop
 *
 * Stopping: SIGUSR1 to mpirun, which passes it on to the ranks (SIGTERM would make it kill them); they write a
 * checkpoint and exit with 75. Before the run has spoken there is nothing to save, so then it is SIGTERM. After the
 * grace time everything in the session is killed.
 */
#ifndef LS_DAEMON_SUPERVISOR_H
#define LS_DAEMON_SUPERVISOR_H

#include "trainer/daemon/events.h"
#include "trainer/daemon/launch.h"
#include "trainer/daemon/registry.h"

typedef struct ls_supervisor {
    ls_registry *registry;
    ls_loop *loop;
    ls_launcher launcher;
    double grace_s;
    /* Told of each new event of a run, and, with the name "job" and NULL, of each change of state. */
    ls_event_fn notify;
    void *notify_context;
} ls_supervisor;

/* What is asked for in a submission; texts are copied. Paths are absolute. */
typedef struct ls_submission {
    const char *job;
    const char *name;    /* NULL: from the job file's name */
    const char *run_dir; /* NULL: FOLDER/runs/NAME-ID */
    const char *folder;  /* NULL: the job file's folder */
    const json_t *set;   /* array of texts, or NULL */
    int ranks;
    bool resume;
} ls_submission;

/* Adopts what the registry holds and runs still, and begins to watch. The supervisor outlives the loop's callbacks. */
void ls_supervisor_start(ls_supervisor *supervisor);
/* Looks now after what is otherwise looked after some times a second: what runs have written, and which have ended. To
 * be called before a question about them is answered. */
void ls_supervisor_refresh(ls_supervisor *supervisor);

/* Records and starts a job; *out is the registry's. LS_EINPUT: the request cannot be met, and why. A job that could be
 * recorded but not started is there, failed, and is no error. */
ls_status ls_supervisor_submit(ls_supervisor *supervisor, const ls_submission *what, ls_job **out,
                               ls_err *err) LS_MUST_CHECK;
/* Asks it to stop, or, with now, kills it at once. LS_EINPUT: it is over already. */
ls_status ls_supervisor_stop(ls_supervisor *supervisor, ls_job *job, bool now, ls_err *err) LS_MUST_CHECK;
/* Starts a job that is over again from its last checkpoint. LS_EINPUT: it runs, it is done, or it is not the daemon's.
 */
ls_status ls_supervisor_resume(ls_supervisor *supervisor, ls_job *job, ls_err *err) LS_MUST_CHECK;
/* Takes a job that is over off the list. LS_EINPUT: it runs. */
ls_status ls_supervisor_remove(ls_supervisor *supervisor, ls_job *job, ls_err *err) LS_MUST_CHECK;

/* A run introduced itself over the push socket: finds its job, or makes an external one. Returns NULL when it cannot be
 * recorded (the log says why). */
ls_job *ls_supervisor_hello(ls_supervisor *supervisor, const char *run_dir, const char *job_path, const char *host,
                            int ranks, ls_process process);
/* One line of a run that did so. */
void ls_supervisor_event(ls_supervisor *supervisor, ls_job *job, const char *line, size_t n_bytes);

#endif
