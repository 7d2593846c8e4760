#include "common/fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FAULTS = 8 };

typedef enum { DIE, FAIL } effect;

typedef struct {
    char place[32];
    long at, passed;
    effect effect;
    int error;
} fault;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static fault faults[MAX_FAULTS];
static int n_faults, n_struck;
static atomic_int armed = -1; /* -1: the environment has not been looked at */

static _Noreturn void malformed(const char *spec) {
    fprintf(stderr,
            "lockstep: error: LOCKSTEP_FAULT=\"%s\": expected PLACE:K:ACTION with K from 1 and ACTION fail, full or "
            "kill, separated by commas, at most %d\n",
            spec, MAX_FAULTS);
    _exit(2);
}

/* Called with the lock held. */
static void parse(const char *spec) {
    n_faults = n_struck = 0;
    for (const char *p = spec; p != NULL && *p != '\0'; p += *p == ',') {
        fault f = {.passed = 0};
        char action[8];
        int used = 0;
        if (n_faults == MAX_FAULTS || sscanf(p, "%31[^:,]:%ld:%7[a-z]%n", f.place, &f.at, action, &used) != 3 ||
            f.at < 1 || (p[used] != ',' && p[used] != '\0')) {
            malformed(spec);
        }
        if (strcmp(action, "kill") == 0) {
            f.effect = DIE;
        } else if (strcmp(action, "fail") == 0 || strcmp(action, "full") == 0) {
            f.effect = FAIL;
            f.error = action[1] == 'a' ? EIO : ENOSPC;
        } else {
            malformed(spec);
        }
        faults[n_faults++] = f;
        p += used;
    }
    atomic_store(&armed, n_faults > 0);
}

void ls_fault_set(const char *spec) {
    pthread_mutex_lock(&lock);
    parse(spec);
    pthread_mutex_unlock(&lock);
}

int ls_fault_struck(void) {
    pthread_mutex_lock(&lock);
    int n = n_struck;
    pthread_mutex_unlock(&lock);
    return n;
}

int ls_fault_at(const char *place) {
    if (atomic_load_explicit(&armed, memory_order_relaxed) == 0) {
        return 0;
    }
    int error = 0;
    pthread_mutex_lock(&lock);
    if (atomic_load(&armed) < 0) {
        parse(getenv("LOCKSTEP_FAULT"));
    }
    for (int i = 0; i < n_faults; i++) {
        if (strcmp(faults[i].place, place) == 0 && ++faults[i].passed == faults[i].at) {
            if (faults[i].effect == DIE) {
                kill(getpid(), SIGKILL);
                pause();
            }
            error = faults[i].error;
            n_struck++;
        }
    }
    pthread_mutex_unlock(&lock);
    return error;
}
