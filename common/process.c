#include "common/process.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

/* A small file of /proc; false when it cannot be read. */
static bool read_small(const char *path, char *out, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t n = read(fd, out, size - 1);
    close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n > 0;
}

bool ls_process_parse(const char *text, ls_process_stat *out) {
    const char *after = strrchr(text, ')');
    if (after == NULL || sscanf(text, "%d (", &out->pid) != 1) {
        return false;
    }
    /* Fields 3 to 8 are state, ppid, pgrp, session, tty_nr, tpgid; 22 is starttime. */
    return sscanf(after + 1, " %c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64,
                  &out->state, &out->parent, &out->session, &out->start) == 4;
}

static bool read_stat(int pid, ls_process_stat *out) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    return pid > 0 && read_small(path, text, sizeof text) && ls_process_parse(text, out);
}

static bool runs(const ls_process_stat *stat) {
    return stat->state != 'Z' && stat->state != 'X' && stat->state != 'x';
}

ls_process ls_process_of(int pid) {
    ls_process_stat stat;
    return (ls_process){pid, read_stat(pid, &stat) && runs(&stat) ? stat.start : 0};
}

bool ls_process_alive(ls_process process) {
    return process.start != 0 && ls_process_of(process.pid).start == process.start;
}

bool ls_process_signal(ls_process process, int signal_number) {
    if (process.start == 0 || process.pid <= 1) {
        return false;
    }
    /* The descriptor is taken first: what it stands for cannot change after the check. */
    int fd = pidfd_open(process.pid, 0);
    if (fd < 0) {
        return false;
    }
    bool sent = ls_process_alive(process) && pidfd_send_signal(fd, signal_number, NULL, 0) == 0;
    close(fd);
    return sent;
}

size_t ls_process_session(ls_process leader, ls_process *out, size_t max) {
    ls_process_stat stat;
    if (leader.pid <= 1 || (read_stat(leader.pid, &stat) && stat.start != leader.start)) {
        return 0; /* while a session has members its number is not given out again: so it has none */
    }
    size_t n = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc != NULL && (entry = readdir(proc)) != NULL;) {
        if (!isdigit((unsigned char)entry->d_name[0]) || !read_stat(atoi(entry->d_name), &stat) ||
            stat.session != leader.pid || !runs(&stat)) {
            continue;
        }
        if (n < max) {
            out[n] = (ls_process){stat.pid, stat.start};
        }
        n++;
    }
    if (proc != NULL) {
        closedir(proc);
    }
    return n;
}

double ls_process_start_seconds(ls_process process) {
    FILE *file = fopen("/proc/stat", "re");
    double boot = 0;
    char line[4096];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "btime %lf", &boot) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return boot > 0 && process.start > 0 ? boot + (double)process.start / (double)sysconf(_SC_CLK_TCK) : 0;
}

void ls_process_boot(char out[40]) {
    if (!read_small("/proc/sys/kernel/random/boot_id", out, 40)) {
        out[0] = '\0';
    }
    out[strcspn(out, "\n")] = '\0';
}
