#include "tests/bench/scale/schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

static _Noreturn void refuse(const char *path, int line, const char *why) {
    fprintf(stderr, "%s:%d: %s\n", path, line, why);
    exit(2);
}

static void add_bucket(schedule *s, size_t floats, double used, size_t least, int caps[3]) {
    int n = s->n_buckets, m = s->n_buckets;
    if (n > 0 && s->floats[n - 1] < least && used == 1 && s->used[n - 1] == 1) {
        s->floats[n - 1] += floats;
        s->after[n - 1] = s->n_calls;
    } else {
        LS_PUSH(s->after, n, caps[0], s->n_calls);
        LS_PUSH(s->used, m, caps[2], used);
        LS_PUSH(s->floats, s->n_buckets, caps[1], floats);
    }
    s->n_floats += floats;
}

void schedule_read(schedule *s, const char *path, size_t least) {
    FILE *f = fopen(path, "r");
    char line[256], word[64];
    int caps[3] = {0}, cap_calls = 0;
    *s = (schedule){.batch = 0};
    if (f == NULL) {
        refuse(path, 0, "cannot be opened");
    }
    for (int at = 1; fgets(line, sizeof line, f) != NULL; at++) {
        double value = 0, used = 0;
        char name[64] = "";
        if (line[0] == '#' || sscanf(line, "%63s %63s %lf", word, name, &used) < 2) {
            continue;
        }
        char *end;
        value = strtod(name, &end);
        if (strcmp(word, "model") != 0 && (*end != '\0' || !(value >= 0))) {
            refuse(path, at, "a number was expected");
        }
        if (strcmp(word, "model") == 0) {
            snprintf(s->model, sizeof s->model, "%s", name);
        } else if (strcmp(word, "batch") == 0) {
            s->batch = (int)value;
        } else if (strcmp(word, "forward") == 0) {
            s->forward_s = value / 1e3;
        } else if (strcmp(word, "update") == 0) {
            s->update_s = value / 1e3;
        } else if (strcmp(word, "call") == 0) {
            LS_PUSH(s->call_s, s->n_calls, cap_calls, value / 1e3);
            s->backward_s += value / 1e3;
        } else if (strcmp(word, "bucket") == 0) {
            add_bucket(s, (size_t)value, 1, least, caps);
        } else if (strcmp(word, "table") == 0 && used > 0 && used < 1) {
            add_bucket(s, (size_t)value, used, least, caps);
        } else {
            refuse(path, at,
                   "model, batch, forward, update, call, bucket or table (with a share below 1) was expected");
        }
    }
    fclose(f);
    if (s->batch < 1 || s->n_buckets < 1) {
        refuse(path, 0, "there is no batch, or no bucket");
    }
}

void schedule_release(schedule *s) {
    free(s->call_s);
    free(s->floats);
    free(s->after);
    free(s->used);
}
