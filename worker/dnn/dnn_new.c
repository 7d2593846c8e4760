/*
 * Small C++ objects without the heap.
 *
 * dnnl_primitive_execute puts a call's arguments into a hash map, four to eight small objects that are made and thrown
 * away within the call, and its C API has no way around that. A program may replace the global operator new and
 * delete (ISO C++, [replacement.functions]; the names are those of the Itanium ABI that GCC and Clang use on Linux):
 * here blocks of up to LARGEST bytes go back to a list of the thread that freed them and are handed out again, so that
 * a training step, whose calls are the same in every step, takes nothing from the heap after the first. (That holds for
 * the kernels of AVX-512; the matrix products that oneDNN uses on older processors allocate their packing buffers.)
 *
 * Blocks come from malloc and are told by malloc_usable_size, so any other way to free them stays right. Out of
 * memory: C cannot throw, the process ends with a message. Sanitizers keep their own operator new.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/dnn/dnn_private.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)

void ls_dnn_keep_small_objects(void) {}

#else

enum { STEP = 16, LARGEST = 512, CLASSES = LARGEST / STEP + 1, MOST = 64 };

typedef struct block {
    struct block *next;
} block;

typedef struct pocket {
    block *first[CLASSES]; /* by bytes / STEP */
    int n[CLASSES];
    bool known; /* emptied when the thread ends */
} pocket;

static _Thread_local pocket mine;
static pthread_key_t key;
static bool keeping; /* set once, before the first primitive runs */

static void empty(void *p) {
    pocket *all = p;
    for (int c = 0; c < CLASSES; c++) {
        while (all->first[c] != NULL) {
            block *b = all->first[c];
            all->first[c] = b->next;
            free(b);
        }
        all->n[c] = MOST; /* later ones go straight to the heap */
    }
}

void ls_dnn_keep_small_objects(void) {
    keeping = pthread_key_create(&key, empty) == 0;
}

void *_Znwm(size_t n_bytes);
void _ZdlPv(void *p);
void _ZdlPvm(void *p, size_t n_bytes);

/* operator new */
void *_Znwm(size_t n_bytes) {
    size_t c = (n_bytes + STEP - 1) / STEP;
    c = c > 0 ? c : 1;
    /* malloc hands out a block one step larger where the rest would be too small for it; it lies in that class then. */
    for (size_t k = c; k <= c + 1 && k < CLASSES; k++) {
        if (mine.first[k] != NULL) {
            block *b = mine.first[k];
            mine.first[k] = b->next;
            mine.n[k]--;
            return b;
        }
    }
    void *p = malloc(c < CLASSES ? c * STEP : n_bytes);
    if (p == NULL) {
        fprintf(stderr, "lockstep: out of memory (%zu bytes for oneDNN)\n", n_bytes);
        abort();
    }
    return p;
}

/* operator delete */
void _ZdlPv(void *p) {
    if (p == NULL) {
        return;
    }
    size_t c = malloc_usable_size(p) / STEP;
    if (!keeping || c >= CLASSES || mine.n[c] >= MOST) {
        free(p);
        return;
    }
    if (!mine.known) {
        mine.known = pthread_setspecific(key, &mine) == 0;
        if (!mine.known) {
            free(p);
            return;
        }
    }
    block *b = p;
    b->next = mine.first[c];
    mine.first[c] = b;
    mine.n[c]++;
}

/* operator delete with a size */
void _ZdlPvm(void *p, size_t n_bytes) {
    (void)n_bytes;
    _ZdlPv(p);
}

#endif
