/*
 * The arenas: where each weight lies in the flat parameter and gradient arrays, and in which layout.
 *
 * Order: trainable parameters in the order in which their gradients become ready in the backward pass (so that a bucket
 * of the all-reduce is one range), then moving statistics (whose "gradient" is the batch's value), then weights
 * without a gradient. Each weight starts on a 64-byte boundary; padding is zero and stays zero. A gradient arena has
 * the words of sparse weights behind the rest.
 */
#ifndef LS_WORKER_ARENA_H
#define LS_WORKER_ARENA_H

#include "worker/model/model.h"

enum { LS_ARENA_BLOCK = 64 }; /* floats; the unit of sparse gradients, LS_REDUCE_BLOCK */

typedef struct ls_arena_slot {
    const ls_layout *layout; /* NULL: Keras's order */
    bool decided;
    size_t n_elems; /* floats, padding of the layout included */
    size_t offset;  /* floats from the base */
    int ready;      /* rank in readiness order */
    bool sparse;    /* its gradient is that of some rows: only marked blocks of it may be other than zero (reducer.h) */
    size_t marks;   /* sparse: floats from the base of a gradient arena to its words */
} ls_arena_slot;

typedef struct ls_arena {
    const ls_model *model;
    ls_arena_slot *slot; /* by weight id */
    int *order;          /* (n_weights) weight ids by offset */
    size_t n_trainable;  /* floats */
    size_t n_reduced;    /* trainable + statistics: the size of a gradient arena */
    size_t n_gradient;   /* the same with the words of sparse weights behind: the size to allocate, zero at first */
    size_t n_total;      /* the size of the parameter arena */
    bool sparse;         /* whether weights may be sparse; false unless set before the first plan */
    bool placed;
} ls_arena;

ls_arena *ls_arena_create(const ls_model *model);
void ls_arena_destroy(ls_arena *arena);

/* Fixes offsets; ready[weight id] is the backward call after which the gradient is complete (-1: before the backward
 * pass), or LS_NO_GRADIENT: nothing writes it (frozen weights; moving statistics that nothing updates). Weights whose
 * layout no plan asked for lie in Keras's order. */
enum { LS_NO_GRADIENT = -2 };
void ls_arena_place(ls_arena *arena, const int *ready);

/* Words of a sparse weight. */
size_t ls_arena_n_words(const ls_arena_slot *slot);

/* Copies one weight (or its gradient, or an optimizer slot) between an arena and Keras's order. */
void ls_arena_get(const ls_arena *arena, const ls_weight *w, const float *base, float *keras_order);
void ls_arena_set(const ls_arena *arena, const ls_weight *w, float *base, const float *keras_order);

#endif
