#include "trainer/daemon/registry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/log.h"
#include "common/memory.h"

static char *record_path(const ls_registry *registry, int64_t id) {
    return ls_xprintf("%s/jobs/%" PRId64 ".json", registry->folder, id);
}

static ls_status take_lock(ls_registry *registry, ls_err *err) {
    char *path = ls_path_join(registry->folder, "lock");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ls_status status = LS_OK;
    if (fd < 0) {
        status = ls_fail(err, LS_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        char pid[32] = "";
        ssize_t n = read(fd, pid, sizeof pid - 1);
        pid[n > 0 ? n : 0] = '\0';
        status = ls_fail(err, LS_EINPUT,
                         "another lockstepd (process %d) already uses the state folder %s; stop it first, or give this "
                         "one a folder of its own with --state",
                         atoi(pid), registry->folder);
        close(fd);
        fd = -1;
    } else if (ftruncate(fd, 0) != 0 || dprintf(fd, "%d\n", (int)getpid()) < 0) {
        status = ls_fail(err, LS_EIO, "%s: cannot be written: %s", path, strerror(errno));
        close(fd);
        fd = -1;
    }
    registry->lock_fd = fd;
    free(path);
    return status;
}

static int by_id(const void *a, const void *b) {
    int64_t x = (*(ls_job *const *)a)->id, y = (*(ls_job *const *)b)->id;
    return (x > y) - (x < y);
}

static void load_record(ls_registry *registry, const char *path) {
    ls_err err = LS_ERR_INIT;
    char *text = NULL;
    ls_job *job = NULL;
    ls_status status = ls_file_read(path, &text, NULL, &err);
    if (status == LS_OK) {
        status = ls_job_from_json(&job, path, text, &err);
    }
    free(text);
    if (status != LS_OK) {
        ls_warn("this record of a job is left out: %s", err.text);
        return;
    }
    LS_PUSH(registry->jobs, registry->n_jobs, registry->cap_jobs, job);
    if (job->id >= registry->next_id) {
        registry->next_id = job->id + 1;
    }
}

static ls_status load_all(ls_registry *registry, ls_err *err) {
    char *jobs = ls_path_join(registry->folder, "jobs");
    char *counter = ls_path_join(registry->folder, "next_id");
    char *text = NULL;
    registry->next_id = 1;
    if (ls_file_exists(counter) && ls_file_read(counter, &text, NULL, NULL) == LS_OK && atoll(text) > 0) {
        registry->next_id = atoll(text);
    }
    free(text);
    free(counter);
    DIR *folder = opendir(jobs);
    if (folder == NULL) {
        ls_status status = ls_fail(err, LS_EIO, "%s: cannot be read: %s", jobs, strerror(errno));
        free(jobs);
        return status;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        size_t n = strlen(entry->d_name);
        if (n > 5 && strcmp(entry->d_name + n - 5, ".json") == 0) {
            char *path = ls_path_join(jobs, entry->d_name);
            load_record(registry, path);
            free(path);
        }
    }
    closedir(folder);
    free(jobs);
    if (registry->n_jobs > 0) {
        qsort(registry->jobs, registry->n_jobs, sizeof(ls_job *), by_id);
    }
    return LS_OK;
}

ls_status ls_registry_init(ls_registry *registry, const char *folder, ls_err *err) {
    *registry = (ls_registry){.folder = ls_xstrdup(folder), .lock_fd = -1};
    char *jobs = ls_path_join(folder, "jobs");
    mode_t mask = umask(0077);
    ls_status status = ls_folder_create(jobs, err);
    umask(mask);
    free(jobs);
    if (status == LS_OK) {
        status = take_lock(registry, err);
    }
    if (status == LS_OK) {
        status = load_all(registry, err);
    }
    if (status != LS_OK) {
        ls_registry_release(registry);
    }
    return status;
}

void ls_registry_release(ls_registry *registry) {
    for (size_t i = 0; i < registry->n_jobs; i++) {
        ls_job_destroy(registry->jobs[i]);
    }
    free(registry->jobs);
    free(registry->folder);
    if (registry->lock_fd >= 0) {
        close(registry->lock_fd);
    }
    *registry = (ls_registry){.lock_fd = -1};
}

ls_status ls_registry_save(ls_registry *registry, const ls_job *job, ls_err *err) {
    json_t *json = ls_job_to_json(job);
    char *text = json_dumps(json, JSON_INDENT(2));
    char *path = record_path(registry, job->id);
    ls_status status = text != NULL ? ls_file_write_atomic(path, text, strlen(text), err)
                                    : ls_fail(err, LS_EINTERNAL, "job %" PRId64 " cannot be written as JSON", job->id);
    json_decref(json);
    free(text);
    free(path);
    return status;
}

ls_status ls_registry_add(ls_registry *registry, ls_job *job, ls_err *err) {
    char counter[32];
    int n = snprintf(counter, sizeof counter, "%" PRId64 "\n", registry->next_id + 1);
    char *path = ls_path_join(registry->folder, "next_id");
    ls_status status = ls_file_write_atomic(path, counter, (size_t)n, err);
    free(path);
    if (status == LS_OK) {
        job->id = registry->next_id;
        status = ls_registry_save(registry, job, err);
    }
    if (status == LS_OK) {
        registry->next_id++;
        LS_PUSH(registry->jobs, registry->n_jobs, registry->cap_jobs, job);
    }
    return status;
}

ls_status ls_registry_remove(ls_registry *registry, ls_job *job, ls_err *err) {
    char *path = record_path(registry, job->id);
    ls_status status = LS_OK;
    if (unlink(path) != 0 && errno != ENOENT) {
        status = ls_fail(err, LS_EIO, "%s: cannot be deleted: %s", path, strerror(errno));
    }
    free(path);
    if (status != LS_OK) {
        return status;
    }
    size_t at = 0;
    while (registry->jobs[at] != job) {
        at++;
    }
    memmove(registry->jobs + at, registry->jobs + at + 1, (registry->n_jobs - at - 1) * sizeof(ls_job *));
    registry->n_jobs--;
    ls_job_destroy(job);
    return LS_OK;
}

ls_job *ls_registry_find(const ls_registry *registry, int64_t id) {
    for (size_t i = 0; i < registry->n_jobs; i++) {
        if (registry->jobs[i]->id == id) {
            return registry->jobs[i];
        }
    }
    return NULL;
}

ls_job *ls_registry_find_run(const ls_registry *registry, const char *run_dir) {
    char *real = realpath(run_dir, NULL);
    ls_job *found = NULL;
    for (size_t i = registry->n_jobs; i-- > 0 && found == NULL;) {
        const char *theirs = registry->jobs[i]->run_dir;
        char *their_real = real != NULL ? realpath(theirs, NULL) : NULL;
        if (strcmp(theirs, run_dir) == 0 || (their_real != NULL && strcmp(real, their_real) == 0)) {
            found = registry->jobs[i];
        }
        free(their_real);
    }
    free(real);
    return found;
}
