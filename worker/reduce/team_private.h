/* What the files that speak MPI share. */
#ifndef LS_WORKER_TEAM_PRIVATE_H
#define LS_WORKER_TEAM_PRIVATE_H

#include <mpi.h>

#include "worker/reduce/team.h"

struct ls_team_mpi {
    MPI_Comm all, node; /* both in team order */
    MPI_Comm leaders;   /* the first ranks of all nodes, in order; MPI_COMM_NULL on the others */
    ls_progress private_row;
};

/* Tests until the request is done, noting that `rank` is waited for. */
void ls_team_wait(ls_team *team, MPI_Request *request, int rank, bool hearsay);

#endif
