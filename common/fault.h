/*
 * Faults on purpose, for tests: the program passes named places, and at the K-th passage of one it fails or dies.
 *
 *   LOCKSTEP_FAULT=PLACE:K:ACTION[,PLACE:K:ACTION...]      K counts from 1
 *
 *   fail   the operation at that place fails as if the device had an error (EIO)
 *   full   the same as if the disk were full (ENOSPC)
 *   kill   the process dies by SIGKILL, without any clean-up
 *   stop   the process is stopped by SIGSTOP, as by a machine that hangs
 *   spin   the thread computes for ever
 *   slow   the operation takes LS_FAULT_SLOW_S seconds longer, as on a disk that others keep busy
 *   oom    memory runs out: the process allocates what it is allowed to and is then ended as out of memory
 *
 * Always compiled in; without the variable a passage costs one load and one branch. Places are named by the modules
 * that have them (storage/checkpoint.h: "checkpoint"). Thread-safe.
 */
#ifndef LS_COMMON_FAULT_H
#define LS_COMMON_FAULT_H

enum { LS_FAULT_SLOW_S = 5 };

/* 0, or the errno value with which the operation at this place must fail now. Does not return for "kill". A malformed
 * LOCKSTEP_FAULT ends the process with a message at the first passage of any place: a fault test that silently tests
 * nothing is worse. */
int ls_fault_at(const char *place);

/* Replaces the variable's text (NULL: none) and starts counting again. */
void ls_fault_set(const char *spec);

/* How many of the faults have struck since then: a test goes on with K = 1, 2, ... until none does. */
int ls_fault_struck(void);

#endif
