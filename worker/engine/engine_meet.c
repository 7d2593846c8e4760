/* Where lanes meet in the middle of a step. */
#include <stdlib.h>

#include "worker/engine/engine_internal.h"

void ls_engine_note_meetings(ls_engine *e, const ls_plan *p, bool training) {
    int n = e->n_meet[training] = ls_plan_n_meetings(p);
    e->meet[training] = ls_xcalloc((size_t)n + 1, sizeof(size_t));
    for (int k = 0; k < n; k++) {
        ls_plan_meeting(p, k, &e->meet[training][k]);
    }
}

static void poll_reducer(void *context) {
    ls_reducer_poll(((ls_engine *)context)->reducer);
}

ls_status ls_engine_make_meeting(ls_engine *e, ls_err *err) {
    if (!ls_engine_meets(e)) {
        return LS_OK;
    }
    int n = 0;
    size_t *sizes = ls_xcalloc((size_t)(e->n_meet[0] + e->n_meet[1]), sizeof *sizes);
    for (int training = 0; training < 2; training++) {
        for (int k = 0, i; k < e->n_meet[training]; k++) {
            for (i = 0; i < n && sizes[i] != e->meet[training][k]; i++) {
            }
            sizes[i] = e->meet[training][k];
            n += i == n;
        }
    }
    e->meet_values = ls_xcalloc((size_t)(e->lane_last - e->lane_first), sizeof *e->meet_values);
    ls_meeting_options o = {
        .n_lanes = e->n_lanes, .n_sizes = n, .sizes = sizes, .meanwhile = poll_reducer, .context = e};
    ls_status s = ls_meeting_create(&e->meeting, e->team, &o, err);
    free(sizes);
    return s;
}
