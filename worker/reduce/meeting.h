/*
 * Meetings: in the middle of a step every lane gives a few numbers, and every lane reads their sums over all lanes.
 *
 * What batch statistics and counts that span the batch take. Sums are added along the tree of lanes
 * (worker/reduce/lanes.h), so their bits depend on the number of lanes alone. One meeting:
 *
 *   a. each rank adds its lanes as far as the tree allows, into its rows in the node's shared memory;
 *   b. on one node, every rank adds all rows;
 *   c. where there are several, the first rank of each adds its node's rows as far as the tree allows, and then goes up
 *      the levels (levels.h): in a group of them, whoever leads a node has what its own child comes to, hears what each
 *      other child comes to from one leader there, and adds. The highest level's sum is that of all lanes; it goes into
 *      the node's shared memory, where the others find it.
 *
 * With n nodes that is n - 1 messages a leader up to the team's fan-in, and with more nodes fan-in - 1 a level: 45 with
 * 4,096 nodes, not 4,095, and as many rows to read (some more where groups end within the tree). Waits are noted in the
 * progress row, for the watchdog. Nothing allocates but create.
 */
#ifndef LS_WORKER_MEETING_H
#define LS_WORKER_MEETING_H

#include "common/status.h"
#include "worker/reduce/team.h"

typedef struct ls_meeting ls_meeting;

typedef struct ls_meeting_options {
    int n_lanes; /* over all ranks; who owns which: ls_lanes_first */
    int n_sizes;
    const size_t *sizes; /* (n_sizes) the numbers of doubles that there are meetings of, each once */
    /* Called again and again while a rank waits: what else can get on meanwhile. */
    void (*meanwhile)(void *context);
    void *context;
} ls_meeting_options;

/* Collective. n_lanes and sizes must be the same on all ranks, which is checked. Copies the table. LS_ENOMEM on all
 * ranks alike. */
ls_status ls_meeting_create(ls_meeting **out, ls_team *team, const ls_meeting_options *options,
                            ls_err *err) LS_MUST_CHECK;
void ls_meeting_destroy(ls_meeting *m); /* collective; NULL is fine */

/* Messages that this rank has sent to other nodes since create. */
uint64_t ls_meeting_sent(const ls_meeting *m);

/* Collective. lane[i] has the n doubles of this rank's i-th lane and receives the sums; NULL: that lane has nothing to
 * give, and reads nothing. n is one of the sizes. One thread a rank. */
void ls_meeting_sum(ls_meeting *m, double *const *lane, size_t n);

#endif
