/* The team's collective calls: small, before and between steps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "worker/reduce/team_private.h"

/* Bytes a message, well below the 2^31 that an MPI count can say. */
enum { PIECE = 1 << 28 };
enum { TAG_GATHER = 1, TAG_BCAST, TAG_SUM };

/* Some ranks that talk: the team, or those of this node. */
typedef struct {
    MPI_Comm comm;
    int rank, size;
    int base; /* team rank of rank 0 */
} circle;

static circle everybody(const ls_team *t) {
    return (circle){t->mpi->all, t->rank, t->size, 0};
}
static circle neighbours(const ls_team *t) {
    return (circle){t->mpi->node, t->local, t->n_local, t->node_first[t->node]};
}

void ls_team_wait(ls_team *team, MPI_Request *request, int rank, bool hearsay) {
    ls_wait w = ls_wait_begin(team->progress, team->oversubscribed);
    ls_wait_for(&w, rank, hearsay);
    int done = 0;
    for (MPI_Test(request, &done, MPI_STATUS_IGNORE); !done; MPI_Test(request, &done, MPI_STATUS_IGNORE)) {
        ls_wait_pause(&w);
    }
    ls_wait_end(&w);
}

static int piece(size_t n_bytes) {
    return (int)(n_bytes < PIECE ? n_bytes : PIECE);
}

/* Down a binomial tree: in its places (root first), the one below p in reach 1, 2, 4, ... is p + reach. */
static void bcast(ls_team *team, circle c, int root, void *bytes, size_t n_bytes) {
    enum { MOST = 32 };
    int place = (c.rank - root + c.size) % c.size, reach = 1;
    while (reach < c.size && (place & reach) == 0) {
        reach *= 2;
    }
    int above = (place - reach + root + c.size) % c.size;
    for (size_t at = 0; at < n_bytes && c.size > 1; at += PIECE) {
        char *part = (char *)bytes + at;
        int n_part = piece(n_bytes - at), n = 0, below[MOST];
        MPI_Request requests[MOST];
        if (place != 0) {
            MPI_Irecv(part, n_part, MPI_BYTE, above, TAG_BCAST, c.comm, &requests[0]);
            ls_team_wait(team, &requests[0], c.base + above, true);
        }
        for (int step = reach / 2; step > 0; step /= 2) {
            if (place + step < c.size) {
                below[n] = (place + step + root) % c.size;
                MPI_Isend(part, n_part, MPI_BYTE, below[n], TAG_BCAST, c.comm, &requests[n]);
                n++;
            }
        }
        for (int i = 0; i < n; i++) {
            ls_team_wait(team, &requests[i], c.base + below[i], true);
        }
    }
}

/* Root receives n_bytes[r] from each rank r. At least one message a rank, so that it is also a sign of life. */
static void gatherv(ls_team *team, circle c, int root, const void *mine, const size_t *n_bytes, char *all) {
    if (c.rank != root) {
        size_t at = 0;
        do {
            MPI_Request request;
            MPI_Isend((const char *)mine + at, piece(n_bytes[c.rank] - at), MPI_BYTE, root, TAG_GATHER, c.comm,
                      &request);
            ls_team_wait(team, &request, c.base + root, true);
            at += PIECE;
        } while (at < n_bytes[c.rank]);
        return;
    }
    MPI_Request *requests = ls_xcalloc((size_t)c.size, sizeof(MPI_Request));
    size_t offset = 0;
    for (int r = 0; r < c.size; r++) { /* the first piece of each, then the rest in order */
        requests[r] = MPI_REQUEST_NULL;
        if (r != root) {
            MPI_Irecv(all + offset, piece(n_bytes[r]), MPI_BYTE, r, TAG_GATHER, c.comm, &requests[r]);
        } else if (n_bytes[r] > 0) {
            memmove(all + offset, mine, n_bytes[r]);
        }
        offset += n_bytes[r];
    }
    offset = 0;
    for (int r = 0; r < c.size; r++) {
        if (r != root) {
            ls_team_wait(team, &requests[r], c.base + r, false);
            for (size_t at = PIECE; at < n_bytes[r]; at += PIECE) {
                MPI_Irecv(all + offset + at, piece(n_bytes[r] - at), MPI_BYTE, r, TAG_GATHER, c.comm, &requests[r]);
                ls_team_wait(team, &requests[r], c.base + r, false);
            }
        }
        offset += n_bytes[r];
    }
    free(requests);
}

static void gather(ls_team *team, circle c, int root, const void *mine, size_t n_bytes, void *all) {
    size_t *sizes = ls_xcalloc((size_t)c.size, sizeof *sizes);
    for (int r = 0; r < c.size; r++) {
        sizes[r] = n_bytes;
    }
    gatherv(team, c, root, mine, sizes, all);
    free(sizes);
}

static void barrier(ls_team *team, circle c) {
    char token = 0;
    char *tokens = ls_xcalloc((size_t)c.size, 1);
    gather(team, c, 0, &token, 1, tokens);
    bcast(team, c, 0, &token, 1);
    free(tokens);
}

void ls_team_barrier(ls_team *team) {
    barrier(team, everybody(team));
}
void ls_team_node_barrier(ls_team *team) {
    barrier(team, neighbours(team));
}
void ls_team_bcast(ls_team *team, int root, void *bytes, size_t n_bytes) {
    bcast(team, everybody(team), root, bytes, n_bytes);
}
void ls_team_node_bcast(ls_team *team, void *bytes, size_t n_bytes) {
    bcast(team, neighbours(team), 0, bytes, n_bytes);
}
void ls_team_node_allgather(ls_team *team, const void *mine, size_t n_bytes, void *all) {
    gather(team, neighbours(team), 0, mine, n_bytes, all);
    bcast(team, neighbours(team), 0, all, n_bytes * (size_t)team->n_local);
}
void ls_team_leaders_bcast(ls_team *team, void *bytes, size_t n_bytes) {
    bcast(team, (circle){team->mpi->leaders, team->node, team->n_nodes, 0}, 0, bytes, n_bytes);
}
void ls_team_gather(ls_team *team, int root, const void *mine, size_t n_bytes, void *all) {
    gather(team, everybody(team), root, mine, n_bytes, all);
}
void ls_team_gatherv(ls_team *team, int root, const void *mine, const size_t *n_bytes, void *all) {
    gatherv(team, everybody(team), root, mine, n_bytes, all);
}
void ls_team_allgather(ls_team *team, const void *mine, size_t n_bytes, void *all) {
    gather(team, everybody(team), 0, mine, n_bytes, all);
    bcast(team, everybody(team), 0, all, n_bytes * (size_t)team->size);
}

/* Up a binomial tree to rank 0, and down again. */
void ls_team_sum(ls_team *team, double *values, int n) {
    const circle c = everybody(team);
    double theirs[LS_TEAM_MOST_SUMS];
    LS_ASSERT(n >= 0 && n <= LS_TEAM_MOST_SUMS);
    MPI_Request request;
    for (int reach = 1; reach < c.size; reach *= 2) {
        if ((c.rank & reach) != 0) {
            MPI_Isend(values, n, MPI_DOUBLE, c.rank - reach, TAG_SUM, c.comm, &request);
            ls_team_wait(team, &request, c.rank - reach, true);
            break;
        }
        if (c.rank + reach < c.size) {
            MPI_Irecv(theirs, n, MPI_DOUBLE, c.rank + reach, TAG_SUM, c.comm, &request);
            ls_team_wait(team, &request, c.rank + reach, reach > 1);
            for (int i = 0; i < n; i++) {
                values[i] += theirs[i];
            }
        }
    }
    bcast(team, c, 0, values, (size_t)n * sizeof *values);
}

void ls_team_bcast_text(ls_team *team, int root, char **bytes, size_t *n_bytes) {
    uint64_t n = *n_bytes;
    ls_team_bcast(team, root, &n, sizeof n);
    if (team->rank != root) {
        *bytes = ls_xrealloc(NULL, (size_t)n + 1);
        *n_bytes = (size_t)n;
        (*bytes)[n] = '\0';
    }
    ls_team_bcast(team, root, *bytes, (size_t)n);
}

/* ---- agreement ---- */

ls_status ls_team_agree(ls_team *team, ls_status status, ls_err *err) {
    int32_t mine = (int32_t)status;
    int32_t *all = ls_xcalloc((size_t)team->size, sizeof *all);
    ls_team_allgather(team, &mine, sizeof mine, all);
    int failed = 0;
    while (failed < team->size && all[failed] == LS_OK) {
        failed++;
    }
    ls_status agreed = failed < team->size ? (ls_status)all[failed] : LS_OK;
    free(all);
    if (agreed == LS_OK) {
        return LS_OK;
    }
    char text[sizeof err->text] = "";
    if (team->rank == failed) {
        snprintf(text, sizeof text, "%s", err != NULL && err->text[0] != '\0' ? err->text : ls_status_text(agreed));
    }
    ls_team_bcast(team, failed, text, sizeof text);
    ls_fail(err, agreed, "%s", text);
    if (failed != 0) {
        ls_err_context(err, "rank %d on %s", failed, team->hosts[failed]);
    }
    if (err != NULL) {
        err->told = team->rank != 0;
    }
    return agreed;
}

ls_status ls_team_check_same(ls_team *team, const char *what, uint64_t digest, const char *mine, ls_err *err) {
    uint64_t *all = ls_xcalloc((size_t)team->size, sizeof *all);
    ls_team_allgather(team, &digest, sizeof digest, all);
    int other = 1;
    while (other < team->size && all[other] == all[0]) {
        other++;
    }
    uint64_t first = all[0], second = other < team->size ? all[other] : 0;
    free(all);
    if (other >= team->size) {
        return LS_OK;
    }
    char words[2][256] = {"", ""};
    snprintf(words[0], sizeof words[0], "%s", mine != NULL ? mine : "");
    memcpy(words[1], words[0], sizeof words[1]);
    ls_team_bcast(team, 0, words[0], sizeof words[0]);
    ls_team_bcast(team, other, words[1], sizeof words[1]);
    ls_fail(err, LS_EINPUT,
            "%s of rank 0 on %s (%s, digest %016llx) is not that of rank %d on %s (%s, digest %016llx); "
            "every host must start the same program on the same files",
            what, team->hosts[0], words[0], (unsigned long long)first, other, team->hosts[other], words[1],
            (unsigned long long)second);
    if (err != NULL) {
        err->told = team->rank != 0;
    }
    return LS_EINPUT;
}
