/*
 * In builds with AddressSanitizer: while a call runs, it sees its own arguments and nothing else of the plan's memory.
 *
 * All buffers of a plan lie in one arena, where others follow on each other: writing past the end of one would damage
 * another, and reading what has not been written yet would find what another left behind, which differs from run to run
 * and from rank to rank. So the arena is poisoned, a call's buffers are opened for it, to the byte that was asked for,
 * and a buffer that comes alive is filled with what is not a number. Elsewhere all of this is nothing.
 */
#ifndef LS_WORKER_PLAN_GUARD_H
#define LS_WORKER_PLAN_GUARD_H

#include "worker/plan/plan_internal.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LS_PLAN_GUARDED 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define LS_PLAN_GUARDED 1
#endif
#ifndef LS_PLAN_GUARDED
#define LS_PLAN_GUARDED 0
#endif

/* Between buffers, for those that belong to the same call. */
enum { LS_GUARD_BYTES = LS_PLAN_GUARDED ? 2 * LS_ALIGN : 0 };

#if LS_PLAN_GUARDED

/* Around a walk through a list: close before, open after it, for those who fill inputs and read outputs. */
void ls_guard_close(const ls_plan *p);
void ls_guard_open(const ls_plan *p);
/* Around call i of a phase, within a walk. */
void ls_guard_before(const ls_plan *p, ls_phase phase, int i);
void ls_guard_after(const ls_plan *p, ls_phase phase, int i);

#else

static inline void ls_guard_close(const ls_plan *p) {
    (void)p;
}
static inline void ls_guard_open(const ls_plan *p) {
    (void)p;
}
static inline void ls_guard_before(const ls_plan *p, ls_phase phase, int i) {
    (void)p, (void)phase, (void)i;
}
static inline void ls_guard_after(const ls_plan *p, ls_phase phase, int i) {
    (void)p, (void)phase, (void)i;
}

#endif
#endif
