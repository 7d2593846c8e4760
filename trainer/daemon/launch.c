#include "trainer/daemon/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/file.h"
#include "common/memory.h"

static int topology(int cpu, const char *what) {
    char path[128];
    int value = -1;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, what);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%d", &value) != 1) {
            value = -1;
        }
        fclose(file);
    }
    return value;
}

/* What a container may use of the processor, in whole cores; INT_MAX: all. */
static int quota_cores(void) {
    double quota, period;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    bool limited = file != NULL && fscanf(file, "%lf %lf", &quota, &period) == 2 && period > 0;
    if (file != NULL) {
        fclose(file);
    }
    return limited ? (int)ceil(quota / period) : INT_MAX;
}

int ls_launch_cores(void) {
    cpu_set_t allowed;
    int packages[CPU_SETSIZE], cores[CPU_SETSIZE], n = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return 1;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) {
            continue;
        }
        int package = topology(cpu, "physical_package_id"), core = topology(cpu, "core_id");
        if (core < 0) {
            core = cpu; /* no topology to be had: each processor is taken for a core */
        }
        int i = 0;
        while (i < n && (packages[i] != package || cores[i] != core)) {
            i++;
        }
        if (i == n) {
            packages[n] = package;
            cores[n++] = core;
        }
    }
    int quota = quota_cores();
    n = n < quota ? n : quota;
    return n > 0 ? n : 1;
}

static void add(json_t *command, const char *word) {
    json_array_append_new(command, json_string_nocheck(word));
}

json_t *ls_launch_command(const ls_launcher *launcher, const ls_job *job, bool resume) {
    json_t *command = json_array();
    char ranks[16], share[32];
    snprintf(ranks, sizeof ranks, "%d", job->ranks);
    snprintf(share, sizeof share, "slot:PE=%d", launcher->n_cores / job->ranks);
    add(command, launcher->mpirun);
    add(command, "-n");
    add(command, ranks);
    if (job->ranks > launcher->n_cores) {
        add(command, "--oversubscribe");
        add(command, "--bind-to");
        add(command, "none");
    } else {
        add(command, "--map-by");
        add(command, share);
        add(command, "--bind-to");
        add(command, "core");
    }
    if (launcher->root) {
        add(command, "--allow-run-as-root");
    }
    add(command, launcher->lockstep);
    add(command, "train");
    add(command, job->job);
    add(command, "--run-dir");
    add(command, job->run_dir);
    add(command, "--control");
    add(command, launcher->control);
    if (resume) {
        add(command, "--resume");
    }
    size_t i;
    json_t *setting;
    json_array_foreach(job->set, i, setting) {
        add(command, "--set");
        json_array_append(command, setting);
    }
    return command;
}

/* Opens the log for appending and writes the command line into it, quoted for a shell where a word needs it. */
static int open_log(const ls_job *job, const json_t *command, ls_err *err) {
    char *path = ls_job_path(job, LS_JOB_LOG);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) {
        (void)ls_fail(err, LS_EIO, "%s: cannot be opened: %s", path, strerror(errno));
        free(path);
        return -1;
    }
    free(path);
    char stamp[64];
    time_t now = time(NULL);
    struct tm local;
    strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &local));
    char *line = ls_xprintf("lockstepd: %s:", stamp);
    size_t i;
    json_t *word;
    json_array_foreach(command, i, word) {
        const char *text = json_string_value(word);
        bool plain = text[0] != '\0' && strspn(text,
                                               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                               "-_=+./,:@%") == strlen(text);
        char *longer = ls_xprintf(plain ? "%s %s" : "%s '%s'", line, text);
        free(line);
        line = longer;
    }
    dprintf(fd, "%s\n", line);
    free(line);
    return fd;
}

ls_status ls_launch_start(const ls_launcher *launcher, ls_loop *loop, ls_job *job, bool resume, ls_loop_exit_fn fn,
                          void *context, ls_err *err) {
    json_t *command = ls_launch_command(launcher, job, resume);
    json_decref(job->command);
    job->command = command;
    int fd = open_log(job, command, err);
    if (fd < 0) {
        return LS_EIO;
    }
    size_t argc = json_array_size(command);
    char **argv = ls_xcalloc(argc + 1, sizeof *argv);
    for (size_t i = 0; i < argc; i++) {
        argv[i] = (char *)(uintptr_t)json_string_value(json_array_get(command, i));
    }
    int pid = 0;
    ls_status status = ls_loop_spawn(loop, argv, job->folder, fd, fn, context, &pid, err);
    free(argv);
    close(fd);
    if (status == LS_OK) {
        /* A child stays in /proc until it is waited for, which the loop does later: so this finds it. If it ended
         * already it is a zombie, and start is 0: the exit callback comes all the same. */
        job->process = ls_process_of(pid);
        ls_process_boot(job->boot);
    }
    return status;
}
