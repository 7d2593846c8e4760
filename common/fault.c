#include "common/fault.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/memory.h"

enum { MAX_FAULTS = 8 };

typedef enum { DIE, STOP, SPIN, EXHAUST, LINGER, FAIL } effect;
static const char *const effect_words[] = {"kill", "stop", "spin", "oom", "slow"};

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
            "lockstep: error: LOCKSTEP_FAULT=\"%s\": expected PLACE:K:ACTION with K from 1 and ACTION fail, full, "
            "kill, stop, spin, oom or slow, separated by commas, at most %d\n",
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
        f.effect = DIE;
        while (f.effect < FAIL && strcmp(action, effect_words[f.effect]) != 0) {
            f.effect++;
        }
        if (f.effect < FAIL) {
            f.error = 0;
        } else if (strcmp(action, "fail") == 0 || strcmp(action, "full") == 0) {
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

/* Memory is limited for this process alone, so that a test does not bring the machine down. */
static _Noreturn void exhaust(void) {
    enum { LIMIT_MIB = 64, PIECE = 1 << 20 };
    for (int i = 0; i < LIMIT_MIB; i++) {
        char *piece = malloc(PIECE);
        if (piece != NULL) {
            memset(piece, 1, PIECE);
        }
    }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) /* these map memory at any moment, and die without \
                                                                   */
    (void)ls_xcalloc(1, SIZE_MAX / 4);
#else
    struct rlimit limit = {0, 0};
    setrlimit(RLIMIT_AS, &limit);
    (void)ls_xcalloc(1, PIECE);
#endif
    abort();
}

static void suffer(effect e) {
    const struct timespec slow = {.tv_sec = LS_FAULT_SLOW_S};
    switch (e) {
        case DIE:
            kill(getpid(), SIGKILL);
            pause();
            break;
        case STOP: raise(SIGSTOP); break;
        case SPIN:
            for (volatile unsigned i = 0;; i++) {
            }
        case EXHAUST: exhaust();
        case LINGER: nanosleep(&slow, NULL); break;
        case FAIL: break;
    }
}

int ls_fault_at(const char *place) {
    if (atomic_load_explicit(&armed, memory_order_relaxed) == 0) {
        return 0;
    }
    int error = 0;
    effect strike = FAIL;
    pthread_mutex_lock(&lock);
    if (atomic_load(&armed) < 0) {
        parse(getenv("LOCKSTEP_FAULT"));
    }
    for (int i = 0; i < n_faults; i++) {
        if (strcmp(faults[i].place, place) == 0 && ++faults[i].passed == faults[i].at) {
            strike = faults[i].effect;
            error = faults[i].error;
            n_struck++;
        }
    }
    pthread_mutex_unlock(&lock);
    suffer(strike);
    return error;
}
