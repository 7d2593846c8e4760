/*
 * What the service tests stand on: a lockstepd of their own in a folder of their own, the client's verbs, bare HTTP and
 * bare bytes, and waiting for conditions (never for a time).
 */
#ifndef LS_TESTS_SERVICE_HARNESS_H
#define LS_TESTS_SERVICE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/json.h"

#include <cmocka.h>

typedef struct service {
    char folder[64];
    char socket[96], push[96], state[96];
    pid_t daemon; /* 0: none runs */
} service;

/* What a program said. */
typedef struct outcome {
    int code; /* exit code, or 128 + signal */
    char *out, *err;
} outcome;

/* Takes the paths of lockstepd, lockstep and fake_job from the command line. */
void harness_init(int argc, char **argv);

/* cmocka's set-up and tear-down of a test: *state is a service with a daemon. The tear-down fails when a process of the
 * test is left or the daemon does not end well. */
int service_set_up(void **state);
int service_tear_down(void **state);

/* Starts a daemon (extra: options up to a NULL, or NULL) and waits until it answers. */
void daemon_start(service *s, const char *const *extra);
/* Starts one that is expected to end by itself. */
outcome daemon_refused(service *s, const char *const *extra);
/* Sends a signal and waits for its end; the exit code, or 128 + signal. */
int daemon_end(service *s, int signal_number);

/* `lockstep WORDS --socket ...`; words end with NULL. */
outcome cli(service *s, ...) __attribute__((sentinel));
void outcome_release(outcome *o);
/* Runs it and asserts the exit code and that out and err hold these texts (NULL: whatever). */
void cli_expect(service *s, int code, const char *in_out, const char *in_err, ...) __attribute__((sentinel));

/* A job file with this content; returns its path, in s->folder. */
char *job_file(service *s, const char *name, const char *text);
/* Submits it under fake_job; returns the job's ID. */
int64_t submit(service *s, const char *job, const char *ranks, const char *run_dir);
/* The job as lockstepd has it; the caller's. NULL: there is none. */
json_t *job_of(service *s, int64_t id);
/* Waits (20 s at most) until its state is this word, and gives it. */
json_t *wait_state(service *s, int64_t id, const char *word);
/* Waits until the run has told of a step past this one. */
void wait_step(service *s, int64_t id, int64_t step);
/* Writes the word that the ranks wait for into RUN_DIR/go. */
void say(const char *run_dir, const char *word);

const char *text_of(const json_t *object, const char *key); /* "" when there is none */
int64_t number_of(const json_t *object, const char *key);

/* Connects to a socket; -1 when nobody takes it. */
int connect_to(const char *path);
/* Sends bytes and takes what comes until the other end closes (10 s at most); the caller's. */
char *talk(const char *path, const char *bytes, size_t n_bytes);
/* A request over HTTP; the status, and the body if wanted (the caller's). */
int http(service *s, const char *method, const char *path, const char *body, char **reply);

/* How many processes have the test's folder in their command line, the daemon left out. */
int processes_of(const service *s);
/* Waits until there are none. */
void wait_no_processes(const service *s);

/* true while there is time left, after a moment's pause; fails the test after 20 s from *since (0 at first). */
bool wait_more(int64_t *since, const char *what);

/* Starts fake_job by hand, as a user's own mpirun: -n RANKS, reporting to the daemon. Returns its process. */
pid_t run_by_hand(service *s, const char *job, const char *ranks, const char *run_dir);

/* The program `lockstep`. */
const char *path_of_lockstep(void);

#endif
