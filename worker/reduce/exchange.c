#include "worker/reduce/exchange.h"

#include <limits.h>
#include <mpi.h>
#include <stdlib.h>

#include "common/memory.h"
#include "worker/reduce/team_private.h"

enum { NO_TAG = 32767 }; /* that no message has; the largest that every MPI allows */
enum { RECEIVED = 1 };   /* a length that no message has: they are whole units */

/* A message whose length is known only when it starts. */
typedef struct {
    const void *bytes;
    int peer, tag;
} loose;

struct ls_exchange {
    MPI_Comm comm;
    MPI_Datatype unit;
    MPI_Request *requests; /* (n) persistent */
    bool *active;          /* (n) */
    loose *loose;          /* (n) */
    size_t *outgoing;      /* (n) bytes, or RECEIVED */
    int n, cap, cap_active, cap_loose, cap_outgoing;
    uint64_t n_sent, bytes_sent;
};

ls_exchange *ls_exchange_create(ls_team *team) {
    ls_exchange *x = ls_xcalloc(1, sizeof *x);
    MPI_Comm_dup(team->mpi->all, &x->comm);
    MPI_Type_contiguous(LS_EXCHANGE_UNIT, MPI_BYTE, &x->unit);
    MPI_Type_commit(&x->unit);
    return x;
}

void ls_exchange_clear(ls_exchange *x) {
    for (int i = 0; i < x->n; i++) {
        LS_ASSERT(!x->active[i]);
        if (x->requests[i] != MPI_REQUEST_NULL) {
            MPI_Request_free(&x->requests[i]);
        }
    }
    x->n = 0;
}

void ls_exchange_destroy(ls_exchange *x) {
    if (x == NULL) {
        return;
    }
    ls_exchange_clear(x);
    MPI_Type_free(&x->unit);
    MPI_Comm_free(&x->comm);
    free(x->requests);
    free(x->active);
    free(x->loose);
    free(x->outgoing);
    free(x);
}

static int units(size_t n_bytes) {
    LS_ASSERT(n_bytes % LS_EXCHANGE_UNIT == 0 && n_bytes / LS_EXCHANGE_UNIT <= INT_MAX);
    return (int)(n_bytes / LS_EXCHANGE_UNIT);
}

static int valid(int tag) {
    LS_ASSERT(tag >= 0 && tag < NO_TAG);
    return tag;
}

static int append(ls_exchange *x, MPI_Request request, size_t outgoing) {
    int n = x->n, m = x->n, k = x->n;
    LS_PUSH(x->outgoing, k, x->cap_outgoing, outgoing);
    LS_PUSH(x->loose, m, x->cap_loose, ((loose){0}));
    LS_PUSH(x->active, n, x->cap_active, false);
    LS_PUSH(x->requests, x->n, x->cap, request);
    return x->n - 1;
}

int ls_exchange_send(ls_exchange *x, int peer, int tag, const void *bytes, size_t n_bytes) {
    MPI_Request request;
    MPI_Send_init(bytes, units(n_bytes), x->unit, peer, valid(tag), x->comm, &request);
    return append(x, request, n_bytes);
}

int ls_exchange_receive(ls_exchange *x, int peer, int tag, void *bytes, size_t n_bytes) {
    MPI_Request request;
    MPI_Recv_init(bytes, units(n_bytes), x->unit, peer, valid(tag), x->comm, &request);
    return append(x, request, RECEIVED);
}

int ls_exchange_send_some(ls_exchange *x, int peer, int tag, const void *bytes) {
    int message = append(x, MPI_REQUEST_NULL, 0);
    x->loose[message] = (loose){bytes, peer, valid(tag)};
    return message;
}

void ls_exchange_start_some(ls_exchange *x, int message, size_t n_bytes) {
    const loose *l = &x->loose[message];
    LS_ASSERT(!x->active[message] && l->bytes != NULL);
    MPI_Isend(l->bytes, units(n_bytes), x->unit, l->peer, l->tag, x->comm, &x->requests[message]);
    x->active[message] = true;
    x->n_sent++;
    x->bytes_sent += n_bytes;
}

void ls_exchange_start(ls_exchange *x, int message) {
    LS_ASSERT(!x->active[message]);
    MPI_Start(&x->requests[message]);
    x->active[message] = true;
    if (x->outgoing[message] != RECEIVED) {
        x->n_sent++;
        x->bytes_sent += x->outgoing[message];
    }
}

void ls_exchange_sent(const ls_exchange *x, uint64_t *n_messages, uint64_t *n_bytes) {
    *n_messages += x->n_sent;
    *n_bytes += x->bytes_sent;
}

bool ls_exchange_done(ls_exchange *x, int message) {
    if (x->active[message]) {
        int done;
        MPI_Test(&x->requests[message], &done, MPI_STATUS_IGNORE);
        x->active[message] = !done;
    }
    return !x->active[message];
}

void ls_exchange_poke(ls_exchange *x) {
    int there;
    MPI_Iprobe(MPI_ANY_SOURCE, NO_TAG, x->comm, &there, MPI_STATUS_IGNORE);
}
