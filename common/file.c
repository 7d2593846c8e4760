#include "common/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/memory.h"

ls_status ls_file_read(const char *path, char **text, size_t *n_bytes, ls_err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0) {
        return ls_fail(err, LS_EINPUT, "%s: cannot be opened: %s", path, strerror(errno));
    }
    if (fstat(fd, &st) != 0 || S_ISDIR(st.st_mode)) {
        close(fd);
        return ls_fail(err, LS_EINPUT, "%s: is a folder; a file was expected", path);
    }
    size_t used = 0, size = st.st_size > 0 ? (size_t)st.st_size + 1 : 4096;
    char *buffer = ls_xrealloc(NULL, size);
    for (;;) {
        if (size - used < 2) {
            size *= 2;
            buffer = ls_xrealloc(buffer, size);
        }
        ssize_t n = read(fd, buffer + used, size - used - 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            ls_status s = ls_fail(err, LS_EIO, "%s: cannot be read: %s", path, strerror(errno));
            free(buffer);
            close(fd);
            return s;
        }
        if (n == 0) {
            break;
        }
        used += (size_t)n;
    }
    close(fd);
    buffer[used] = '\0';
    *text = buffer;
    if (n_bytes != NULL) {
        *n_bytes = used;
    }
    return LS_OK;
}

ls_status ls_file_sync(const char *path, ls_err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        ls_status s = ls_fail(err, LS_EIO, "%s: cannot be flushed to disk: %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return s;
    }
    close(fd);
    return LS_OK;
}

ls_status ls_folder_sync(const char *path, ls_err *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return ls_fail(err, LS_EIO, "%s: cannot be opened as a folder: %s", path, strerror(errno));
    }
    /* Some network file systems refuse to sync a folder; their rename is durable by itself. */
    if (fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP) {
        ls_status s = ls_fail(err, LS_EIO, "%s: cannot be flushed to disk: %s", path, strerror(errno));
        close(fd);
        return s;
    }
    close(fd);
    return LS_OK;
}

ls_status ls_file_write_atomic(const char *path, const void *bytes, size_t n_bytes, ls_err *err) {
    char *temporary = ls_xprintf("%s.tmp.%d", path, (int)getpid());
    char *folder = ls_path_folder(path);
    ls_status s = LS_OK;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    size_t done = 0;
    while (fd >= 0 && done < n_bytes) {
        ssize_t n = write(fd, (const char *)bytes + done, n_bytes - done);
        if (n < 0 && errno != EINTR) {
            break;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    if (fd < 0 || done < n_bytes || fsync(fd) != 0 || rename(temporary, path) != 0) {
        s = ls_fail(err, ls_write_status(errno), "%s: cannot be written: %s", path, strerror(errno));
        if (fd >= 0) {
            unlink(temporary);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    if (s == LS_OK) {
        s = ls_folder_sync(folder, err);
    }
    free(temporary);
    free(folder);
    return s;
}

static bool is_temporary(const char *name) {
    const char *at = NULL;
    for (const char *p = name; (p = strstr(p, ".tmp.")) != NULL; p++) {
        at = p + 5;
    }
    return at != NULL && *at != '\0' && at[strspn(at, "0123456789")] == '\0';
}

void ls_folder_remove_temporaries(const char *path) {
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return; /* writing will say why */
    }
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        if (is_temporary(d->d_name)) {
            unlinkat(dirfd(dir), d->d_name, 0);
        }
    }
    closedir(dir);
}

ls_status ls_write_status(int reason) {
    switch (reason) {
        case EACCES:
        case EPERM:
        case EROFS:
        case ENOENT:
        case ENOTDIR:
        case EISDIR:
        case ELOOP:
        case ENAMETOOLONG: return LS_EINPUT;
        default: return LS_EIO;
    }
}

/* Nothing to lose (as mktemp makes a file), or a file of the kind that is to replace it. */
static bool is_empty_or_begins_with(FILE *file, const char *start) {
    int c = getc(file);
    if (c == EOF && !ferror(file)) {
        return true;
    }
    for (; *start != '\0'; start++, c = getc(file)) {
        if (c != (unsigned char)*start) {
            return false;
        }
    }
    return true;
}

ls_status ls_file_check_output(const char *path, const char *kind, const char *start, ls_err *err) {
    char *folder = ls_path_folder(path);
    ls_status s = LS_OK;
    FILE *file = NULL;
    if (ls_folder_exists(path)) {
        s = ls_fail(err, LS_EINPUT, "%s: is a folder; name the file that is to be written", path);
    } else if (access(folder, W_OK | X_OK) != 0) {
        s = ls_fail(err, ls_write_status(errno), "%s: cannot be written, its folder %s: %s", path, folder,
                    strerror(errno));
    } else if ((file = fopen(path, "rbe")) == NULL && errno != ENOENT) {
        s = ls_fail(err, LS_EINPUT, "%s: cannot be replaced: %s", path, strerror(errno));
    } else if (file != NULL && !is_empty_or_begins_with(file, start)) {
        s = ls_fail(err, LS_EINPUT,
                    "%s: exists and is not %s; name another file for the output, which would replace it", path, kind);
    }
    if (file != NULL) {
        fclose(file);
    }
    free(folder);
    return s;
}

ls_status ls_folder_create(const char *path, ls_err *err) {
    char *copy = ls_xstrdup(path);
    ls_status s = LS_OK;
    for (char *p = copy + 1; s == LS_OK; p++) {
        if (*p == '/' || *p == '\0') {
            char kept = *p;
            *p = '\0';
            if (mkdir(copy, 0777) != 0 && errno != EEXIST) {
                s = ls_fail(err, ls_write_status(errno), "%s: cannot be created: %s", copy, strerror(errno));
            }
            *p = kept;
            if (kept == '\0') {
                break;
            }
        }
    }
    if (s == LS_OK && !ls_folder_exists(path)) {
        s = ls_fail(err, LS_EINPUT, "%s: is a file; a folder was expected", path);
    }
    free(copy);
    return s;
}

bool ls_file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool ls_folder_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *ls_path_join(const char *folder, const char *name) {
    if (name[0] == '/' || folder[0] == '\0') {
        return ls_xstrdup(name);
    }
    size_t n = strlen(folder);
    return ls_xprintf("%s%s%s", folder, folder[n - 1] == '/' ? "" : "/", name);
}

char *ls_path_absolute(const char *path) {
    char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);
    char *whole = ls_path_join(cwd != NULL ? cwd : "", path);
    for (size_t n = strlen(whole); n > 1 && whole[n - 1] == '/'; n--) {
        whole[n - 1] = '\0';
    }
    free(cwd);
    return whole;
}

char *ls_path_folder(const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return ls_xstrdup(".");
    }
    return slash == path ? ls_xstrdup("/") : ls_xprintf("%.*s", (int)(slash - path), path);
}
