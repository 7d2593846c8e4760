/* A temporary folder for a test program's files, and the path of files that lie beside the test's source. */
#ifndef LS_TESTS_TEMPORARY_H
#define LS_TESTS_TEMPORARY_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char temporary_folder[256];

static inline int temporary_setup(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    snprintf(temporary_folder, sizeof temporary_folder, "%s/lockstep-test-XXXXXX", base ? base : "/tmp");
    return mkdtemp(temporary_folder) ? 0 : -1;
}

static inline size_t temporary_count(void) {
    DIR *folder = opendir(temporary_folder);
    size_t n = 0;
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        n += entry->d_name[0] != '.';
    }
    closedir(folder);
    return n;
}

static inline int temporary_teardown(void **state) {
    (void)state;
    DIR *folder = opendir(temporary_folder);
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] != '.') {
            unlinkat(dirfd(folder), entry->d_name, 0);
        }
    }
    closedir(folder);
    return rmdir(temporary_folder);
}

/* The path of a file of that name in the folder; one of four buffers used in turn. */
static inline const char *temporary(const char *name) {
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", temporary_folder, name);
    return path;
}

static inline void temporary_write(const char *name, const void *bytes, size_t n_bytes) {
    FILE *file = fopen(temporary(name), "wb");
    if (file == NULL || fwrite(bytes, 1, n_bytes, file) != n_bytes || fclose(file) != 0) {
        abort();
    }
}

#endif
