/*
 * Memory: checked, aligned allocation, and a bump allocator for objects that die together.
 */
#ifndef LS_COMMON_MEMORY_H
#define LS_COMMON_MEMORY_H

#include <stddef.h>

#include "common/status.h"

#define LS_ALIGN 64 /* bytes; a cache line and an AVX-512 register */

static inline size_t ls_align_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

/* Zeroed, 64-byte aligned, freed with free(). NULL when out of memory or on overflow. */
void *ls_calloc(size_t n_items, size_t item_bytes);

/* As ls_calloc / strdup, but a failure ends the process with a message: for small objects made before the first step,
 * where there is nothing sensible to do without them. */
void *ls_xcalloc(size_t n_items, size_t item_bytes);
void *ls_xrealloc(void *old, size_t n_bytes);
char *ls_xstrdup(const char *text);
char *ls_xprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* memcpy past the caches, for lines that other cores hold copies of: an ordinary store to such a line waits until all
 * copies are gone, one line at a time, which costs 50 to 70 ns each on a Zen 4; this one writes whole lines without
 * asking. ls_copy_past_fence makes what this thread copied visible before whatever it stores next. */
void ls_copy_past(void *restrict to, const void *restrict from, size_t n_bytes);
void ls_copy_past_fence(void);

/* Bump allocator. Everything is zeroed, 16-byte aligned, and freed by ls_pool_release. A zeroed pool is valid. */
typedef struct ls_pool {
    struct ls_pool_block *head;
} ls_pool;

void *ls_pool_alloc(ls_pool *pool, size_t n_bytes);
char *ls_pool_strdup(ls_pool *pool, const char *text);
char *ls_pool_printf(ls_pool *pool, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ls_pool_release(ls_pool *pool);

/* Appends one element to a growing array: LS_PUSH(items, n_items, cap_items, value). */
#define LS_PUSH(items, n, cap, value)                                        \
    do {                                                                     \
        if ((n) == (cap)) {                                                  \
            (cap) = (cap) ? 2 * (cap) : 8;                                   \
            (items) = ls_xrealloc((items), (size_t)(cap) * sizeof *(items)); \
        }                                                                    \
        (items)[(n)++] = (value);                                            \
    } while (0)

#endif
