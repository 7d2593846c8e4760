/*
 * The arenas: where each weight lies in the flat parameter and gradient arrays, and in which layout.
 *
 * Order: trainable parameters in the order in which their gradients become ready in the backward pass (so that a bucket
 * of the all-reduce is one range), then moving statistics (whose "gradient" is the batch's value), then weights
 * without a gradient. Each weight starts on a 64-byte boundary; padding is zero and stays zero.
 */
#ifndef LS_WORKER_ARENA_H
#define LS_WORKER_ARENA_H

#include "worker/model/model.h"

typedef struct ls_arena_slot {
    const ls_layout *layout; /* NULL: Keras's order */
    bool decided;
    size_t n_elems; /* floats, padding of the layout included */
    size_t offset;  /* floats from the base */
    int ready;      /* rank in readiness order */
} ls_arena_slot;

typedef struct ls_arena {
    const ls_model *model;
    ls_arena_slot *slot; /* by weight id */
    int *order;          /* (n_weights) weight ids by offset */
    size_t n_trainable;  /* floats */
    size_t n_reduced;    /* trainable + statistics: the size of a gradient arena */
    size_t n_total;      /* the size of the parameter arena */
    bool placed;
} ls_arena;

ls_arena *ls_arena_create(const ls_model *model);
void ls_arena_destroy(ls_arena *arena);

/* Fixes offsets; ready[weight id] is the backward call after which the gradient is complete (-1: before the backward
 * pass), or LS_NO_GRADIENT: nothing writes it (frozen weights; moving statistics that nothing updates). Weights whose
 * layout no plan asked for lie in Keras's order. */
enum { LS_NO_GRADIENT = -2 };
void ls_arena_place(ls_arena *arena, const int *ready);

/* Copies one weight (or its gradient, or an optimizer slot) between an arena and Keras's order. */
void ls_arena_get(const ls_arena *arena, const ls_weight *w, const float *base, float *keras_order);
void ls_arena_set(const ls_arena *arena, const ls_weight *w, float *base, const float *keras_order);

#endif
