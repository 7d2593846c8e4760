#include "trainer/daemon/supervisor.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"

enum { TICK_MS = 250, MAX_MEMBERS = 4096 };

static const double leftover_s = 2; /* what mpirun's end leaves alive is given this long */
static const double give_up_s = 30; /* a killed process that is still there then waits for a device: no one can help */

/* The record on disk follows the state; that it cannot be written must not end the job. */
static void save(ls_supervisor *supervisor, ls_job *job) {
    ls_err err = LS_ERR_INIT;
    if (ls_registry_save(supervisor->registry, job, &err) != LS_OK) {
        ls_error("job %" PRId64 " is not on record: %s", job->id, err.text);
    }
}

static void tell(ls_supervisor *supervisor, ls_job *job) {
    if (supervisor->notify != NULL) {
        supervisor->notify(supervisor->notify_context, job, "job", NULL);
    }
}

static void change(ls_supervisor *supervisor, ls_job *job, ls_job_state state) {
    job->state = state;
    save(supervisor, job);
    ls_info("job %" PRId64 " (%s) is %s%s%s", job->id, job->name, ls_job_state_word(state),
            job->message[0] != '\0' ? ": " : "", job->message);
    tell(supervisor, job);
}

/* Applies what the run wrote; the first word of a run makes it running. */
static void read_events(ls_supervisor *supervisor, ls_job *job) {
    ls_job_state before = job->state;
    ls_events_read(job, supervisor->notify, supervisor->notify_context);
    if (job->state != before) {
        change(supervisor, job, job->state);
    }
}

void ls_supervisor_event(ls_supervisor *supervisor, ls_job *job, const char *line, size_t n_bytes) {
    ls_job_state before = job->state;
    if (ls_job_over(job)) {
        return;
    }
    ls_events_apply(job, line, n_bytes, supervisor->notify, supervisor->notify_context);
    if (job->state != before) {
        change(supervisor, job, job->state);
    }
}

static ls_job_state outcome(const ls_job *job) {
    bool asked = job->stop_by > 0;
    if (job->end_status != NULL) {
        return strcmp(job->end_status, "done") == 0               ? LS_JOB_DONE
               : strcmp(job->end_status, "stopped") == 0 || asked ? LS_JOB_STOPPED
                                                                  : LS_JOB_FAILED;
    }
    if (!job->has_exit_code) {
        return asked ? LS_JOB_STOPPED : LS_JOB_LOST;
    }
    return job->exit_code == 0                                           ? LS_JOB_DONE
           : job->exit_code == ls_status_exit_code(LS_ESTOPPED) || asked ? LS_JOB_STOPPED
                                                                         : LS_JOB_FAILED;
}

/* One sentence on how it ended; the run's own words where it had some. */
static void explain(ls_job *job, ls_job_state state) {
    const char *runner = job->external ? "rank 0" : "mpirun";
    if (job->end_message != NULL && job->end_message[0] != '\0') {
        ls_job_set_text(&job->message, "%s", job->end_message);
    } else if (state == LS_JOB_LOST) {
        ls_job_set_text(&job->message, "%s ended and left no word on how; its log may tell", runner);
    } else if (state == LS_JOB_FAILED && job->exit_signal != 0) {
        ls_job_set_text(&job->message, "%s was killed by signal %d (%s)", runner, job->exit_signal,
                        strsignal(job->exit_signal));
    } else if (state == LS_JOB_FAILED) {
        ls_job_set_text(&job->message, "%s ended with exit code %d; \"lockstep logs %" PRId64 "\" tells more", runner,
                        job->exit_code, job->id);
    } else if (state == LS_JOB_STOPPED && job->killed) {
        ls_job_set_text(&job->message, "it was ended at once, as asked; what came after its last checkpoint is lost");
    } else if (state == LS_JOB_STOPPED && job->end_status == NULL && job->exit_code != 75) {
        ls_job_set_text(&job->message,
                        "it did not stop by itself and was ended; what came after its last checkpoint is lost");
    } else {
        ls_job_set_text(&job->message, "%s", "");
    }
}

static void finish(ls_supervisor *supervisor, ls_job *job) {
    read_events(supervisor, job); /* all that it wrote before its end is there now */
    ls_job_state state = outcome(job);
    explain(job, state);
    job->ended = ls_wall_seconds();
    job->child = false;
    change(supervisor, job, state);
}

static void kill_all(ls_job *job) {
    ls_process members[MAX_MEMBERS];
    size_t n = job->external ? 0 : ls_process_session(job->process, members, MAX_MEMBERS);
    for (size_t i = 0; i < n && i < MAX_MEMBERS; i++) {
        ls_process_signal(members[i], SIGKILL);
    }
    ls_process_signal(job->process, SIGKILL);
}

/* The leader is gone: ends what it left, and calls the job over when nothing is left. */
static void clear_away(ls_supervisor *supervisor, ls_job *job, double now) {
    ls_process left[1];
    size_t n = job->external ? 0 : ls_process_session(job->process, left, 1);
    if (n > 0 && now < job->exited_at + give_up_s) {
        if (now > job->exited_at + leftover_s) {
            kill_all(job);
        }
        return;
    }
    if (n > 0) {
        ls_warn("job %" PRId64 ": %zu processes cannot be killed, process %d among them", job->id, n, left[0].pid);
    }
    finish(supervisor, job);
}

static void note_exit(ls_supervisor *supervisor, ls_job *job) {
    job->exited = true;
    job->exited_at = ls_wall_seconds();
    clear_away(supervisor, job, job->exited_at);
}

static void watch_job(ls_supervisor *supervisor, ls_job *job, double now) {
    read_events(supervisor, job);
    if (job->exited) {
        clear_away(supervisor, job, now);
        return;
    }
    if (job->stop_by > 0 && now > job->stop_by) {
        kill_all(job);
    }
    /* A run that somebody else started is over with its last word: mpirun, which the daemon does not know, may have
     * ended by the time that rank 0's process is gone. */
    bool last_word = job->external && job->end_status != NULL;
    if (!job->child && (last_word || !ls_process_alive(job->process))) {
        note_exit(supervisor, job);
    }
}

void ls_supervisor_refresh(ls_supervisor *supervisor) {
    double now = ls_wall_seconds();
    for (size_t i = 0; i < supervisor->registry->n_jobs; i++) {
        ls_job *job = supervisor->registry->jobs[i];
        if (!ls_job_over(job) && job->state != LS_JOB_QUEUED) {
            watch_job(supervisor, job, now);
        }
    }
}

static void on_tick(void *context) {
    ls_supervisor_refresh(context);
}

/* A child of this daemon ended. */
static void on_exit_of_run(void *context, int pid, int exit_code, int signal_number) {
    ls_supervisor *supervisor = context;
    for (size_t i = 0; i < supervisor->registry->n_jobs; i++) {
        ls_job *job = supervisor->registry->jobs[i];
        if (job->child && job->process.pid == pid && !job->exited) {
            read_events(supervisor, job);
            job->exit_signal = signal_number;
            job->exit_code = signal_number != 0 ? 128 + signal_number : exit_code;
            job->has_exit_code = true;
            note_exit(supervisor, job);
            return;
        }
    }
}

static void adopt(ls_supervisor *supervisor, ls_job *job, const char *boot) {
    if (ls_job_over(job)) {
        return;
    }
    if (job->state == LS_JOB_QUEUED) {
        ls_job_set_text(&job->message, "lockstepd ended while it was starting this job");
        job->ended = ls_wall_seconds();
        change(supervisor, job, LS_JOB_LOST);
        return;
    }
    job->events_at = job->events_from;
    job->has_exit_code = false;
    if (strcmp(job->boot, boot) != 0) {
        job->process = (ls_process){0, 0}; /* the machine was rebooted: the number means nothing now */
    }
    bool alive = ls_process_alive(job->process);
    ls_info("job %" PRId64 " (%s) %s", job->id, job->name,
            alive ? "runs on and is watched again" : "ended while no lockstepd was there");
    read_events(supervisor, job);
    if (!alive) {
        note_exit(supervisor, job);
    }
}

void ls_supervisor_start(ls_supervisor *supervisor) {
    char boot[40];
    ls_process_boot(boot);
    for (size_t i = 0; i < supervisor->registry->n_jobs; i++) {
        adopt(supervisor, supervisor->registry->jobs[i], boot);
    }
    (void)ls_loop_every(supervisor->loop, TICK_MS, on_tick, supervisor);
}

/* Starts what is on record as queued. */
static void start(ls_supervisor *supervisor, ls_job *job, bool resume) {
    ls_err err = LS_ERR_INIT;
    ls_events_restart(job);
    ls_job_set_text(&job->message, "%s", "");
    job->exited = false;
    job->exit_signal = 0;
    job->killed = false;
    job->stop_by = 0;
    job->ended = 0;
    job->external = false;
    job->started = ls_wall_seconds();
    if (ls_launch_start(&supervisor->launcher, supervisor->loop, job, resume, on_exit_of_run, supervisor, &err) !=
        LS_OK) {
        ls_job_set_text(&job->message, "%s", err.text);
        job->ended = job->started;
        change(supervisor, job, LS_JOB_FAILED);
        return;
    }
    job->child = true;
    change(supervisor, job, LS_JOB_STARTING);
}

/* Sees that the folder may take a new run (it is no other job's, and holds no earlier run unless that is to be
 * resumed), and makes it, with the one for logs. */
static ls_status prepare_run_dir(ls_supervisor *supervisor, const char *run_dir, bool resume, ls_err *err) {
    ls_job *other = ls_registry_find_run(supervisor->registry, run_dir);
    if (other != NULL && !ls_job_over(other)) {
        return ls_fail(err, LS_EINPUT, "run_dir: %s belongs to job %" PRId64 ", which is %s; choose another", run_dir,
                       other->id, ls_job_state_word(other->state));
    }
    char *events = ls_path_join(run_dir, "events.jsonl");
    bool used = ls_file_exists(events);
    free(events);
    if (used && !resume) {
        return ls_fail(err, LS_EINPUT, "run_dir: %s already holds a run; ask to resume it, or choose another folder",
                       run_dir);
    }
    char *logs = ls_path_join(run_dir, "logs");
    ls_status status = ls_folder_create(logs, err);
    free(logs);
    return status != LS_OK ? ls_err_context(err, "run_dir") : LS_OK;
}

/* "digits" of "/x/digits.json" */
static char *stem(const char *path) {
    const char *slash = strrchr(path, '/');
    char *name = ls_xstrdup(slash != NULL ? slash + 1 : path);
    char *dot = strrchr(name, '.');
    if (dot != NULL && dot != name) {
        *dot = '\0';
    }
    return name;
}

ls_status ls_supervisor_submit(ls_supervisor *supervisor, const ls_submission *what, ls_job **out, ls_err *err) {
    ls_job *job = ls_job_create();
    char *folder = what->folder != NULL ? ls_xstrdup(what->folder) : ls_path_folder(what->job);
    char *name = what->name != NULL ? ls_xstrdup(what->name) : stem(what->job);
    ls_job_set_text(&job->name, "%s", name);
    ls_job_set_text(&job->job, "%s", what->job);
    ls_job_set_text(&job->folder, "%s", folder);
    if (what->run_dir != NULL) {
        ls_job_set_text(&job->run_dir, "%s", what->run_dir);
    } else {
        ls_job_set_text(&job->run_dir, "%s/runs/%s-%" PRId64, folder, name, supervisor->registry->next_id);
    }
    free(folder);
    free(name);
    char host[256] = "";
    (void)gethostname(host, sizeof host - 1);
    ls_job_set_text(&job->host, "%s", host);
    if (what->set != NULL) {
        json_decref(job->set);
        job->set = json_deep_copy(what->set);
    }
    job->ranks = what->ranks;
    job->submitted = ls_wall_seconds();
    job->state = LS_JOB_QUEUED;
    ls_status status = prepare_run_dir(supervisor, job->run_dir, what->resume, err);
    if (status == LS_OK) {
        status = ls_registry_add(supervisor->registry, job, err);
    }
    if (status != LS_OK) {
        ls_job_destroy(job);
        return status;
    }
    start(supervisor, job, what->resume);
    *out = job;
    return LS_OK;
}

ls_status ls_supervisor_stop(ls_supervisor *supervisor, ls_job *job, bool now, ls_err *err) {
    if (ls_job_over(job)) {
        return ls_fail(err, LS_EINPUT, "job %" PRId64 " is %s already; there is nothing to stop", job->id,
                       ls_job_state_word(job->state));
    }
    double limit = ls_wall_seconds() + supervisor->grace_s;
    job->stop_by = job->stop_by > 0 && job->stop_by < limit ? job->stop_by : limit;
    int signal_number = job->state == LS_JOB_STARTING ? SIGTERM : SIGUSR1;
    if (job->state != LS_JOB_STOPPING) {
        change(supervisor, job, LS_JOB_STOPPING); /* on record before it can take effect */
        ls_process_signal(job->process, signal_number);
    }
    if (now) {
        job->stop_by = ls_wall_seconds();
        job->killed = true;
        kill_all(job);
    }
    return LS_OK;
}

ls_status ls_supervisor_resume(ls_supervisor *supervisor, ls_job *job, ls_err *err) {
    const char *word = ls_job_state_word(job->state);
    if (!ls_job_over(job)) {
        return ls_fail(err, LS_EINPUT, "job %" PRId64 " is %s; only a job that has ended can be resumed", job->id,
                       word);
    }
    if (job->state == LS_JOB_DONE) {
        return ls_fail(err, LS_EINPUT, "job %" PRId64 " is done; there is nothing to resume", job->id);
    }
    if (job->job[0] == '\0' || job->ranks < 1) {
        return ls_fail(err, LS_EINPUT,
                       "job %" PRId64
                       " was not started by lockstepd, and did not say from which job file; resume it by "
                       "\"lockstep submit JOB --run-dir %s --resume\"",
                       job->id, job->run_dir);
    }
    if (job->folder[0] == '\0') {
        char *folder = ls_path_folder(job->job);
        ls_job_set_text(&job->folder, "%s", folder);
        free(folder);
    }
    LS_TRY(prepare_run_dir(supervisor, job->run_dir, true, err));
    job->restarts++;
    job->state = LS_JOB_QUEUED;
    LS_TRY(ls_registry_save(supervisor->registry, job, err));
    start(supervisor, job, true);
    return LS_OK;
}

ls_status ls_supervisor_remove(ls_supervisor *supervisor, ls_job *job, ls_err *err) {
    if (!ls_job_over(job)) {
        return ls_fail(err, LS_EINPUT, "job %" PRId64 " is %s; stop it before it is removed", job->id,
                       ls_job_state_word(job->state));
    }
    return ls_registry_remove(supervisor->registry, job, err);
}

ls_job *ls_supervisor_hello(ls_supervisor *supervisor, const char *run_dir, const char *job_path, const char *host,
                            int ranks, ls_process process) {
    ls_err err = LS_ERR_INIT;
    ls_job *job = ls_registry_find_run(supervisor->registry, run_dir);
    if (job != NULL && !ls_job_over(job)) {
        return job; /* one that the daemon started or knows already */
    }
    bool known = job != NULL;
    job = known ? job : ls_job_create();
    ls_job_set_text(&job->run_dir, "%s", run_dir);
    ls_job_set_text(&job->host, "%s", host);
    if (job_path[0] != '\0') {
        ls_job_set_text(&job->job, "%s", job_path);
    }
    if (!known) {
        char *name = stem(run_dir);
        ls_job_set_text(&job->name, "%s", name);
        free(name);
    }
    ls_events_restart(job);
    ls_job_set_text(&job->message, "%s", "");
    job->events_from = job->events_at = 0; /* which events are this run's is told by their time */
    job->external = true;
    job->child = job->exited = job->killed = false;
    job->stop_by = job->ended = 0;
    job->ranks = ranks;
    job->process = process;
    ls_process_boot(job->boot);
    double began = ls_process_start_seconds(process);
    job->started = began > 0 ? began : ls_wall_seconds();
    job->submitted = known ? job->submitted : job->started;
    job->restarts += known ? 1 : 0;
    job->state = LS_JOB_RUNNING;
    if (!known && ls_registry_add(supervisor->registry, job, &err) != LS_OK) {
        ls_error("the run in %s cannot be recorded: %s", run_dir, err.text);
        ls_job_destroy(job);
        return NULL;
    }
    change(supervisor, job, LS_JOB_RUNNING);
    read_events(supervisor, job);
    return job;
}
