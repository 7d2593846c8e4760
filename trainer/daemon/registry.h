/*
 * The jobs that lockstepd knows, in memory and in its state folder:
 *
 *   STATE/lock           held (flock) by the one daemon that uses the folder; its pid inside
 *   STATE/next_id        the number that the next job gets; never given twice
 *   STATE/jobs/ID.json   one record a job (job.h), written whole or not at all
 */
#ifndef LS_DAEMON_REGISTRY_H
#define LS_DAEMON_REGISTRY_H

#include "trainer/daemon/job.h"

typedef struct ls_registry {
    char *folder;
    int lock_fd;
    int64_t next_id;
    ls_job **jobs; /* [n_jobs], by id, ascending */
    size_t n_jobs, cap_jobs;
} ls_registry;

/* Makes the folder (mode 0700) where needed, takes its lock and reads all records. A damaged record is named in the log
 * and left out. LS_EINPUT: another lockstepd holds the folder. After an error nothing is to be released. */
ls_status ls_registry_init(ls_registry *registry, const char *folder, ls_err *err) LS_MUST_CHECK;
void ls_registry_release(ls_registry *registry);

/* Gives the job the next number, takes it over and writes its record. After an error it is still the caller's. */
ls_status ls_registry_add(ls_registry *registry, ls_job *job, ls_err *err) LS_MUST_CHECK;
/* Writes the record. */
ls_status ls_registry_save(ls_registry *registry, const ls_job *job, ls_err *err) LS_MUST_CHECK;
/* Deletes the record and the job; the run folder stays as it is. */
ls_status ls_registry_remove(ls_registry *registry, ls_job *job, ls_err *err) LS_MUST_CHECK;

/* NULL when there is none. */
ls_job *ls_registry_find(const ls_registry *registry, int64_t id);
/* The job that has this run folder (compared as absolute paths, links resolved where they exist); the newest. */
ls_job *ls_registry_find_run(const ls_registry *registry, const char *run_dir);

#endif
