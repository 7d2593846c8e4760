/* A folder in memory for the files of a fuzz target, made at the first input and left empty between inputs. */
#ifndef LS_TESTS_FUZZ_SCRATCH_H
#define LS_TESTS_FUZZ_SCRATCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char scratch_folder[64];

static inline void scratch_remove(void) {
    rmdir(scratch_folder);
}

/* The path of a name in the folder, into one of four buffers used in turn. */
static inline const char *scratch(const char *name) {
    static char paths[4][128];
    static int next;
    if (scratch_folder[0] == '\0') {
        snprintf(scratch_folder, sizeof scratch_folder, "%s/lockstep-fuzz-XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        if (mkdtemp(scratch_folder) == NULL) {
            abort();
        }
        atexit(scratch_remove);
    }
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", scratch_folder, name);
    return path;
}

static inline void scratch_write(const char *name, const uint8_t *bytes, size_t n_bytes) {
    FILE *file = fopen(scratch(name), "wb");
    if (file == NULL || fwrite(bytes, 1, n_bytes, file) != n_bytes || fclose(file) != 0) {
        abort();
    }
}

#endif
