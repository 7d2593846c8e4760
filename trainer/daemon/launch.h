/* How a job is started: its command line, as an argument vector, and the file that takes its output. */
#ifndef LS_DAEMON_LAUNCH_H
#define LS_DAEMON_LAUNCH_H

#include "trainer/daemon/job.h"
#include "trainer/daemon/loop.h"

/* What all jobs have in common. */
typedef struct ls_launcher {
    const char *mpirun;   /* a path, or a name to be searched for in PATH */
    const char *lockstep; /* path of the program that every rank runs */
    const char *control;  /* socket to report to */
    int n_cores;          /* to be shared by the ranks */
    bool root;            /* mpirun refuses to run as root unless told */
} ls_launcher;

/* The processor cores (not hardware threads: mpirun counts cores) that this process may use, by its affinity and its
 * container's share; at least 1. */
int ls_launch_cores(void);

/* The argument vector of a start as a JSON array, a new reference. Each rank gets an equal share of the cores and is
 * bound to it; with more ranks than cores none is bound. */
json_t *ls_launch_command(const ls_launcher *launcher, const ls_job *job, bool resume);

/* Starts the job, whose run folder is there with its logs/: the command line written at the end of its log,
 * job->command and job->process set. LS_EIO / LS_EINPUT: it could not be started, and why. */
ls_status ls_launch_start(const ls_launcher *launcher, ls_loop *loop, ls_job *job, bool resume, ls_loop_exit_fn fn,
                          void *context, ls_err *err) LS_MUST_CHECK;

#endif
