#include "common/memory.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

void *ls_calloc(size_t n_items, size_t item_bytes) {
    size_t n_bytes;
    if (__builtin_mul_overflow(n_items, item_bytes, &n_bytes) || n_bytes > SIZE_MAX - LS_ALIGN) {
        return NULL;
    }
    n_bytes = ls_align_up(n_bytes ? n_bytes : 1, LS_ALIGN);
    void *p = aligned_alloc(LS_ALIGN, n_bytes);
    if (p != NULL) {
        memset(p, 0, n_bytes);
    }
    return p;
}

static void *or_die(void *p, size_t n_bytes) {
    if (p == NULL) {
        ls_error("out of memory: %zu bytes cannot be had", n_bytes); /* allocates nothing; names the rank */
        _Exit(1);
    }
    return p;
}

void *ls_xcalloc(size_t n_items, size_t item_bytes) {
    return or_die(ls_calloc(n_items, item_bytes), n_items * item_bytes);
}

void *ls_xrealloc(void *old, size_t n_bytes) {
    return or_die(realloc(old, n_bytes ? n_bytes : 1), n_bytes);
}

char *ls_xstrdup(const char *text) {
    return or_die(strdup(text), strlen(text));
}

char *ls_xprintf(const char *format, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    return or_die(n < 0 ? NULL : text, 0);
}

#ifdef __SSE2__
void ls_copy_past(void *restrict to, const void *restrict from, size_t n_bytes) {
    char *t = to;
    const char *f = from;
    size_t head = (0 - (uintptr_t)t) & (sizeof(__m128i) - 1);
    head = head < n_bytes ? head : n_bytes;
    memcpy(t, f, head);
    size_t i = head;
    for (; i + sizeof(__m128i) <= n_bytes; i += sizeof(__m128i)) {
        _mm_stream_si128((__m128i *)(void *)(t + i), _mm_loadu_si128((const __m128i_u *)(const void *)(f + i)));
    }
    memcpy(t + i, f + i, n_bytes - i);
}

void ls_copy_past_fence(void) {
    _mm_sfence();
}
#else
void ls_copy_past(void *restrict to, const void *restrict from, size_t n_bytes) {
    memcpy(to, from, n_bytes);
}

void ls_copy_past_fence(void) {}
#endif

struct ls_pool_block {
    struct ls_pool_block *next;
    size_t used, size;
    _Alignas(16) char bytes[];
};

void *ls_pool_alloc(ls_pool *pool, size_t n_bytes) {
    n_bytes = ls_align_up(n_bytes ? n_bytes : 1, 16);
    struct ls_pool_block *block = pool->head;
    if (block == NULL || block->size - block->used < n_bytes) {
        size_t size = n_bytes > 16384 ? n_bytes : 16384;
        block = ls_xcalloc(1, sizeof *block + size);
        block->size = size;
        block->next = pool->head;
        pool->head = block;
    }
    void *p = block->bytes + block->used;
    block->used += n_bytes;
    return p;
}

char *ls_pool_strdup(ls_pool *pool, const char *text) {
    size_t n = strlen(text) + 1;
    return memcpy(ls_pool_alloc(pool, n), text, n);
}

char *ls_pool_printf(ls_pool *pool, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = ls_pool_alloc(pool, (size_t)n + 1);
    vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}

void ls_pool_release(ls_pool *pool) {
    for (struct ls_pool_block *b = pool->head; b != NULL;) {
        struct ls_pool_block *next = b->next;
        free(b);
        b = next;
    }
    pool->head = NULL;
}
