#include "worker/plan/arena.h"

#include <stdlib.h>
#include <string.h>

#include "worker/dnn/dnn.h"

enum { ALIGN_FLOATS = LS_ALIGN / sizeof(float) };

ls_arena *ls_arena_create(const ls_model *model) {
    ls_arena *a = ls_xcalloc(1, sizeof *a);
    a->model = model;
    a->slot = ls_xcalloc((size_t)model->n_weights + 1, sizeof *a->slot);
    a->order = ls_xcalloc((size_t)model->n_weights + 1, sizeof *a->order);
    return a;
}

void ls_arena_destroy(ls_arena *arena) {
    if (arena != NULL) {
        free(arena->slot);
        free(arena->order);
        free(arena);
    }
}

/* 0: reduced parameters, 1: statistics, 2: without a gradient. */
static int region(const ls_weight *w, const int *ready) {
    return ready[w->id] == LS_NO_GRADIENT ? 2 : w->role == LS_WEIGHT_STAT ? 1 : 0;
}

size_t ls_arena_n_words(const ls_arena_slot *slot) {
    const size_t floats = 64 * (size_t)LS_ARENA_BLOCK;
    return (ls_align_up(slot->n_elems, ALIGN_FLOATS) + floats - 1) / floats;
}

void ls_arena_place(ls_arena *a, const int *ready) {
    LS_ASSERT(!a->placed);
    int n = a->model->n_weights, placed = 0;
    size_t at = 0;
    for (int r = 0; r < 3; r++) {
        int first = placed;
        for (int i = 0; i < n; i++) {
            const ls_weight *w = a->model->weights[i];
            if (region(w, ready) != r) {
                continue;
            }
            a->slot[i].ready = ready[i];
            int k = placed++; /* insertion sort by readiness; Keras's order among equals */
            while (k > first && a->slot[a->order[k - 1]].ready > a->slot[i].ready) {
                a->order[k] = a->order[k - 1];
                k--;
            }
            a->order[k] = i;
        }
        for (int k = first; k < placed; k++) {
            ls_arena_slot *s = &a->slot[a->order[k]];
            if (!s->decided) {
                s->decided = true;
                s->n_elems = (size_t)ls_shape_elems(&a->model->weights[a->order[k]]->shape);
            }
            s->offset = at;
            at += ls_align_up(s->n_elems, ALIGN_FLOATS);
        }
        if (r == 0) {
            a->n_trainable = at;
        } else if (r == 1) {
            a->n_reduced = at;
        }
    }
    a->n_total = at;
    a->n_gradient = a->n_reduced;
    for (int k = 0; k < n; k++) {
        ls_arena_slot *s = &a->slot[a->order[k]];
        if (s->sparse && s->offset < a->n_reduced) {
            s->marks = a->n_gradient;
            a->n_gradient += ls_align_up(ls_arena_n_words(s) * sizeof(uint64_t) / sizeof(float), ALIGN_FLOATS);
        }
    }
    a->placed = true;
}

void ls_arena_get(const ls_arena *a, const ls_weight *w, const float *base, float *keras_order) {
    const ls_arena_slot *s = &a->slot[w->id];
    if (s->layout != NULL) {
        ls_layout_to_keras(s->layout, base + s->offset, keras_order);
    } else {
        memcpy(keras_order, base + s->offset, s->n_elems * sizeof(float));
    }
}

void ls_arena_set(const ls_arena *a, const ls_weight *w, float *base, const float *keras_order) {
    const ls_arena_slot *s = &a->slot[w->id];
    if (s->layout != NULL) {
        ls_layout_from_keras(s->layout, keras_order, base + s->offset);
    } else {
        memcpy(base + s->offset, keras_order, s->n_elems * sizeof(float));
    }
}
