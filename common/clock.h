/* Time. */
#ifndef LS_COMMON_CLOCK_H
#define LS_COMMON_CLOCK_H

#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* Monotonic nanoseconds; the same clock in every process of a node. */
static inline int64_t ls_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Seconds since the Unix epoch. */
static inline double ls_wall_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
