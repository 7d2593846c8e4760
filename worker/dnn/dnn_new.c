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
 * Why it is sound:
 *   any block      comes from malloc and is told by malloc_usable_size, not by a header of ours: what another library
 *                  allocated by its own copy of operator new may end here, and what is allocated here may end in free.
 *                  A list holds blocks of at least its size, since a usable size is rounded down to find the list.
 *   forms          the array, nothrow and sized forms of the standard library call these three. The aligned forms have
 *                  their own pair there, which never meets this one; STEP is malloc's own alignment.
 *   threads        a block belongs to nobody: whoever frees it keeps it. A thread that only frees keeps MOST of a size,
 *                  at most 528 KiB in all, and gives the rest to the heap. Nothing is shared, so nothing is locked.
 *   thread's end   destructors of C++ objects run first, then that of the key, which empties the lists and closes them:
 *                  what later destructors free goes to the heap. A new thread's lists are zeroed by the C library.
 *   fork           the child has the lists of the thread that forked; those of the other threads are lost to it.
 *   spares         what malloc must give comes with a second block for the list: a list that once ran empty, where a
 *                  smaller object took a block one step too large, has one more from then on.
 *   stock          what is made while plans are compiled stays, and takes what the lists have; so a thread's first call
 *                  of a kernel sees to it that there are STOCK blocks of each size, 132 KiB at most.
 *   before start   until the engine is made nothing is kept, so a program that never uses oneDNN sees plain malloc.
 *   no memory      C cannot throw: the process ends with a message, as after every failed allocation here. That holds
 *                  for nothrow as well; oneDNN's tensors and kernels do not come from operator new.
 *   sanitizers     have an operator new of their own that knows more, so this one stands back.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/dnn/dnn_private.h"

#if !LS_DNN_KEEPS_SMALL_OBJECTS

void ls_dnn_keep_small_objects(void) {}
void ls_dnn_stock_up(void) {}

#else

enum { STEP = 16, LARGEST = 512, CLASSES = LARGEST / STEP + 1, MOST = 64, STOCK = 16 };

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
static atomic_bool keeping; /* set once; whoever sees it sees the key */

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
    bool made = pthread_key_create(&key, empty) == 0;
    atomic_store_explicit(&keeping, made, memory_order_release);
}

void ls_dnn_stock_up(void) {
    static _Thread_local bool done;
    if (done || !atomic_load_explicit(&keeping, memory_order_acquire)) {
        return;
    }
    done = true;
    for (size_t c = 1; c < CLASSES; c++) {
        for (int i = mine.n[c]; i < STOCK; i++) {
            ls_operator_delete(malloc(c * STEP));
        }
    }
}

/* operator new */
void *ls_operator_new(size_t n_bytes) {
    size_t size = n_bytes;
    if (n_bytes <= LARGEST) {
        size_t c = n_bytes == 0 ? 1 : (n_bytes + STEP - 1) / STEP;
        /* malloc hands out a block one step larger where the rest would be too small; it lies in that class then. */
        for (size_t k = c; k <= c + 1 && k < CLASSES; k++) {
            if (mine.first[k] != NULL) {
                block *b = mine.first[k];
                mine.first[k] = b->next;
                mine.n[k]--;
                return b;
            }
        }
        size = c * STEP;
    }
    void *p = malloc(size);
    if (p == NULL) {
        fprintf(stderr, "lockstep: out of memory (%zu bytes for oneDNN)\n", n_bytes);
        abort();
    }
    if (size <= LARGEST && atomic_load_explicit(&keeping, memory_order_acquire)) {
        ls_operator_delete(malloc(size));
    }
    return p;
}

/* operator delete */
void ls_operator_delete(void *p) {
    if (p == NULL) {
        return;
    }
    size_t c = malloc_usable_size(p) / STEP;
    if (!atomic_load_explicit(&keeping, memory_order_acquire) || c >= CLASSES || mine.n[c] >= MOST) {
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
void ls_operator_delete_sized(void *p, size_t n_bytes) {
    (void)n_bytes;
    ls_operator_delete(p);
}

#endif
