#include "storage/checkpoint_writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/memory.h"
#include "common/trace.h"

struct ls_checkpoint_writer {
    char *folder;
    int keep;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    bool busy, quit;
    ls_checkpoint job; /* the thread's while busy, then what reclaim gives */
    bool have_snapshot;
    char *job_path; /* NULL: into the folder */
    bool have_written;
    ls_checkpoint_written written;
    ls_err failed; /* LS_OK: nothing to report */
};

static void forget_written(ls_checkpoint_writer *w) {
    if (w->have_written) {
        free(w->written.path);
        w->have_written = false;
    }
}

/* Called without the lock: job and job_path belong to the thread while busy. */
static ls_status write_job(ls_checkpoint_writer *w, char **path, ls_err *err) {
    int64_t start = ls_now_ns();
    ls_status status;
    if (w->job_path == NULL) {
        status = ls_checkpoint_save(&w->job, w->folder, w->keep, path, err);
    } else {
        char *folder = ls_path_folder(w->job_path);
        status = ls_folder_create(folder, err);
        free(folder);
        status = status == LS_OK ? ls_checkpoint_write(&w->job, w->job_path, err) : status;
        *path = status == LS_OK ? ls_xstrdup(w->job_path) : NULL;
    }
    ls_trace_event("checkpoint", "write", NULL, -1, start, ls_now_ns());
    return status;
}

static void *run(void *arg) {
    ls_checkpoint_writer *w = arg;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->busy && !w->quit) {
            pthread_cond_wait(&w->changed, &w->lock);
        }
        if (!w->busy) {
            break;
        }
        pthread_mutex_unlock(&w->lock);
        ls_err err = LS_ERR_INIT;
        char *path = NULL;
        int64_t start = ls_now_ns();
        ls_status s = write_job(w, &path, &err);
        double seconds = 1e-9 * (double)(ls_now_ns() - start);
        pthread_mutex_lock(&w->lock);
        if (s == LS_OK) {
            forget_written(w);
            w->written = (ls_checkpoint_written){path, w->job.epoch, w->job.step, seconds};
            w->have_written = true;
        } else {
            w->failed = err;
        }
        free(w->job_path);
        w->job_path = NULL;
        w->have_snapshot = true;
        w->busy = false;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

ls_status ls_checkpoint_writer_create(ls_checkpoint_writer **writer, const char *folder, int keep, ls_err *err) {
    ls_checkpoint_writer *w = ls_xcalloc(1, sizeof *w);
    w->folder = ls_xstrdup(folder);
    w->keep = keep;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&w->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    /* Signals are the training thread's business. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&w->thread, NULL, run, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        free(w->folder);
        free(w);
        return ls_fail(err, LS_ELIBRARY, "the thread that writes checkpoints cannot be started: %s", strerror(error));
    }
    *writer = w;
    return LS_OK;
}

bool ls_checkpoint_writer_busy(ls_checkpoint_writer *w) {
    pthread_mutex_lock(&w->lock);
    bool busy = w->busy;
    pthread_mutex_unlock(&w->lock);
    return busy;
}

bool ls_checkpoint_writer_idle_within(ls_checkpoint_writer *w, double seconds) {
    int64_t until = ls_now_ns() + (int64_t)(seconds * 1e9);
    struct timespec t = {until / 1000000000, until % 1000000000};
    pthread_mutex_lock(&w->lock);
    while (w->busy && pthread_cond_timedwait(&w->changed, &w->lock, &t) != ETIMEDOUT) {
    }
    bool idle = !w->busy;
    pthread_mutex_unlock(&w->lock);
    return idle;
}

/* Under the lock: waits until idle and reports a failure, once. */
static ls_status settle(ls_checkpoint_writer *w, ls_err *err) {
    while (w->busy) {
        pthread_cond_wait(&w->changed, &w->lock);
    }
    ls_status s = w->failed.status;
    if (s != LS_OK) {
        if (err != NULL) {
            *err = w->failed;
        }
        w->failed = (ls_err)LS_ERR_INIT;
    }
    return s;
}

ls_status ls_checkpoint_writer_submit(ls_checkpoint_writer *w, ls_checkpoint *ckpt, const char *path, ls_err *err) {
    pthread_mutex_lock(&w->lock);
    ls_status s = settle(w, err);
    if (s == LS_OK) {
        if (w->have_snapshot) {
            ls_checkpoint_release(&w->job);
            w->have_snapshot = false;
        }
        w->job = *ckpt;
        *ckpt = (ls_checkpoint){0};
        w->job_path = path != NULL ? ls_xstrdup(path) : NULL;
        w->busy = true;
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return s;
}

bool ls_checkpoint_writer_collect(ls_checkpoint_writer *w, ls_checkpoint_written *written) {
    pthread_mutex_lock(&w->lock);
    bool have = w->have_written;
    if (have) {
        *written = w->written;
        w->have_written = false;
    }
    pthread_mutex_unlock(&w->lock);
    return have;
}

bool ls_checkpoint_writer_reclaim(ls_checkpoint_writer *w, ls_checkpoint *ckpt) {
    pthread_mutex_lock(&w->lock);
    bool have = w->have_snapshot && !w->busy;
    if (have) {
        *ckpt = w->job;
        w->job = (ls_checkpoint){0};
        w->have_snapshot = false;
    }
    pthread_mutex_unlock(&w->lock);
    return have;
}

ls_status ls_checkpoint_writer_wait(ls_checkpoint_writer *w, ls_err *err) {
    pthread_mutex_lock(&w->lock);
    ls_status s = settle(w, err);
    pthread_mutex_unlock(&w->lock);
    return s;
}

ls_status ls_checkpoint_writer_destroy(ls_checkpoint_writer *w, ls_err *err) {
    if (w == NULL) {
        return LS_OK;
    }
    pthread_mutex_lock(&w->lock);
    ls_status s = settle(w, err);
    w->quit = true;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    forget_written(w);
    ls_checkpoint_release(&w->job);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->changed);
    free(w->folder);
    free(w);
    return s;
}
