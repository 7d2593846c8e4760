#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "worker/reduce/shared.h"

/* The number after "key" at the start of a line of a file, times `scale`; SIZE_MAX when there is none. */
static size_t keyed(const char *path, const char *key, size_t scale) {
    FILE *f = fopen(path, "r");
    size_t value = SIZE_MAX;
    char line[256];
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        unsigned long long n;
        if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%llu", &n) == 1) {
            value = (size_t)n * scale;
            break;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return value;
}

/* Limit less use of one control group; its file cache can be dropped and does not count. */
static size_t group_left(const char *folder, const char *limit_name, const char *used_name, const char *cache_key) {
    char limit_path[512], used_path[512], stat_path[512];
    snprintf(limit_path, sizeof limit_path, "%s/%s", folder, limit_name);
    snprintf(used_path, sizeof used_path, "%s/%s", folder, used_name);
    snprintf(stat_path, sizeof stat_path, "%s/memory.stat", folder);
    size_t limit = keyed(limit_path, "", 1), used = keyed(used_path, "", 1);
    if (limit == SIZE_MAX || used == SIZE_MAX) {
        return SIZE_MAX;
    }
    size_t cache = keyed(stat_path, cache_key, 1);
    used -= cache != SIZE_MAX && cache < used ? cache : 0;
    return limit > used ? limit - used : 0;
}

size_t ls_memory_left(void) {
    size_t least = keyed("/proc/meminfo", "MemAvailable:", 1024);
    FILE *f = fopen("/proc/self/cgroup", "r");
    char line[400];
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        char *path = strrchr(line, ':'), folder[460];
        if (path == NULL) {
            continue;
        }
        path[strcspn(path, "\n")] = '\0';
        size_t left = SIZE_MAX;
        if (strncmp(line, "0::", 3) == 0) {
            snprintf(folder, sizeof folder, "/sys/fs/cgroup%s", path + 1);
            left = group_left(folder, "memory.max", "memory.current", "inactive_file ");
        } else if (strstr(line, ":memory:") != NULL) {
            snprintf(folder, sizeof folder, "/sys/fs/cgroup/memory%s", path + 1);
            left = group_left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ");
        }
        least = left < least ? left : least;
    }
    if (f != NULL) {
        fclose(f);
    }
    return least;
}
