/* States of stateful layers: where each lane finds its samples', and how they come to other ranks. */
#include <stdlib.h>
#include <string.h>

#include "worker/engine/engine_internal.h"

/* The place of sample `first` of state k. */
static float *place(const ls_engine *e, int k, size_t first) {
    float *at = e->states;
    for (int i = 0; i < k; i++) {
        at += e->state_samples * e->model->state_elems[i];
    }
    return at + first * e->model->state_elems[k];
}

/* Every rank gets what the others' lanes left. Collective. */
static void exchange(ls_engine *e) {
    for (int r = 0; e->state_batch > 0 && e->team->size > 1 && r < e->team->size; r++) {
        size_t from = ls_engine_cut(e->state_batch, e->n_lanes, ls_lanes_first(e->n_lanes, e->team->size, r));
        size_t to = ls_engine_cut(e->state_batch, e->n_lanes, ls_lanes_first(e->n_lanes, e->team->size, r + 1));
        for (int k = 0; to > from && k < e->model->n_states; k++) {
            ls_team_bcast(e->team, r, place(e, k, from), (to - from) * e->model->state_elems[k] * sizeof(float));
        }
    }
    e->state_batch = 0; /* all are right everywhere */
}

void ls_engine_prepare_states(ls_engine *e, size_t n) {
    if (e->n_state_elems > 0 && n != e->state_batch) {
        exchange(e);
        e->state_batch = n;
    }
}

float *const *ls_engine_lane_states(ls_engine *e, lane_context *c, size_t first) {
    for (int k = 0; k < e->model->n_states; k++) {
        c->states[k] = place(e, k, first);
    }
    return c->states;
}

size_t ls_engine_n_state_elems(const ls_engine *e) {
    return e->n_state_elems;
}

void ls_engine_reset_states(ls_engine *e) {
    if (e->n_state_elems > 0) {
        memset(e->states, 0, e->n_state_elems * sizeof *e->states);
        e->state_batch = 0;
    }
}

void ls_engine_gather_states(ls_engine *e, float *out) {
    if (e->n_state_elems > 0) {
        exchange(e);
        if (out != NULL) {
            memcpy(out, e->states, e->n_state_elems * sizeof *out);
        }
    }
}

void ls_engine_publish_states(ls_engine *e, const float *in) {
    if (e->n_state_elems > 0) {
        if (e->team->rank == 0) {
            memcpy(e->states, in, e->n_state_elems * sizeof *in);
        }
        ls_team_bcast(e->team, 0, e->states, e->n_state_elems * sizeof *e->states);
        e->state_batch = 0;
    }
}

void ls_engine_mark_states(ls_engine *e) {
    if (e->n_state_elems > 0) {
        memcpy(e->marked_states, e->states, e->n_state_elems * sizeof *e->states);
        e->marked_batch = e->state_batch;
    }
}

void ls_engine_return_states(ls_engine *e) {
    if (e->n_state_elems > 0) {
        memcpy(e->states, e->marked_states, e->n_state_elems * sizeof *e->states);
        e->state_batch = e->marked_batch;
    }
}
