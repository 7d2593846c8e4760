#include "worker/reduce/team.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/log.h"
#include "common/memory.h"
#include "worker/reduce/cores.h"
#include "worker/reduce/launcher.h"
#include "worker/reduce/levels.h"
#include "worker/reduce/team_private.h"

/* How long the others may take to come to the end (rank 0 may have a checkpoint to write), and how long MPI_Finalize,
 * MPI_Abort and the launcher that it tells may take. */
enum { FINISH_S = 600, FINALIZE_S = 60, ABORT_S = 5, LAUNCHER_S = 10 };

/* The program's own exit code for "did not come to an end": async-signal-safe, for a deadline's handler. */
static volatile sig_atomic_t deadline_code = 1;
static volatile sig_atomic_t deadline_victim;
static char deadline_text[256];

static void on_deadline(int signal_number) {
    (void)signal_number;
    ssize_t ignored = write(STDERR_FILENO, deadline_text, strlen(deadline_text));
    (void)ignored;
    if (deadline_victim > 0) {
        kill(deadline_victim, SIGKILL);
    }
    _exit(deadline_code);
}

/* After `seconds` this process writes the text and exits with the code, whatever its threads are stuck in. */
static void set_deadline(unsigned seconds, int code, const char *text) {
    deadline_code = code;
    snprintf(deadline_text, sizeof deadline_text, "%s", text);
    struct sigaction action = {.sa_handler = on_deadline};
    sigaction(SIGALRM, &action, NULL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    alarm(seconds);
}

/* ---- who is there ---- */

/* A whole number of at least `least` from the environment; `unset` without one. */
static ls_status read_number(const char *name, int least, int unset, int *out, ls_err *err) {
    const char *text = getenv(name);
    *out = unset;
    if (text == NULL || text[0] == '\0') {
        return LS_OK;
    }
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || *end != '\0' || value < least || value > 1000000) {
        return ls_fail(err, LS_EINPUT, "%s=\"%s\": expected a whole number of at least %d; correct it or unset it",
                       name, text, least);
    }
    *out = (int)value;
    return LS_OK;
}

/* Cores and threads, from what all ranks of this machine (not of the capped node) are bound to. */
static void place_threads(ls_team *team, MPI_Comm machine) {
    int n, me;
    MPI_Comm_size(machine, &n);
    MPI_Comm_rank(machine, &me);
    ls_cpus *bound = ls_xcalloc((size_t)n, sizeof *bound);
    ls_cpus mine = ls_cpus_bound(), together = {{0}};
    MPI_Allgather(&mine, sizeof mine, MPI_BYTE, bound, sizeof mine, MPI_BYTE, machine);
    int sharing = 0;
    for (int i = 0; i < n; i++) {
        sharing += i == me || ls_cpus_overlap(&bound[i], &mine);
        ls_cpus_add(&together, &bound[i]);
    }
    LS_ASSERT(sharing > 0); /* itself at least */
    int n_cores = ls_cpus_cores(&together);
    int quota = ls_cores_quota(n_cores);
    int threads = ls_cpus_cores(&mine) / sharing;
    int fair = quota / n;
    team->n_machine_cores = quota;
    team->n_threads = threads;
    if (quota < n_cores && fair < threads) {
        team->n_threads = fair;
    }
    if (team->n_threads < 1) {
        team->n_threads = 1;
    }
    team->oversubscribed = n > quota || sharing > ls_cpus_cores(&mine);
    free(bound);
}

typedef struct {
    int leader; /* rank 0 of the node in MPI_COMM_WORLD */
    int local, world;
    char host[LS_HOST_CHARS];
} seat;

static int by_node(const void *a, const void *b) {
    const seat *x = a, *y = b;
    return x->leader != y->leader ? (x->leader > y->leader) - (x->leader < y->leader)
                                  : (x->local > y->local) - (x->local < y->local);
}

/* Ranks in (node, rank in node) order; fills everything but threads. `node` is this rank's node, in world order. */
static void take_seats(ls_team *team, MPI_Comm node) {
    int world, n;
    seat mine = {0};
    MPI_Comm_rank(MPI_COMM_WORLD, &world);
    MPI_Comm_size(MPI_COMM_WORLD, &n);
    MPI_Comm_rank(node, &mine.local);
    mine.world = mine.leader = world;
    MPI_Bcast(&mine.leader, 1, MPI_INT, 0, node);
    if (gethostname(mine.host, sizeof mine.host - 1) != 0) {
        snprintf(mine.host, sizeof mine.host, "?");
    }
    seat *seats = ls_xcalloc((size_t)n, sizeof *seats);
    MPI_Allgather(&mine, sizeof mine, MPI_BYTE, seats, sizeof mine, MPI_BYTE, MPI_COMM_WORLD);
    qsort(seats, (size_t)n, sizeof *seats, by_node);
    team->size = n;
    team->node_of = ls_xcalloc((size_t)n, sizeof *team->node_of);
    team->node_first = ls_xcalloc((size_t)n + 1, sizeof *team->node_first);
    team->hosts = ls_xcalloc((size_t)n, sizeof *team->hosts);
    for (int r = 0; r < n; r++) {
        if (r == 0 || seats[r].leader != seats[r - 1].leader) {
            team->node_first[team->n_nodes++] = r;
        }
        team->node_of[r] = team->n_nodes - 1;
        memcpy(team->hosts[r], seats[r].host, LS_HOST_CHARS);
        if (seats[r].world == world) {
            team->rank = r;
        }
    }
    team->node_first[team->n_nodes] = n;
    team->node = team->node_of[team->rank];
    team->local = team->rank - team->node_first[team->node];
    team->n_local = team->node_first[team->node + 1] - team->node_first[team->node];
    free(seats);
}

/* Containers often forbid reading another process's memory, which Open MPI then tries again and again, complaining each
 * time. Where even the own memory cannot be read in this way, it is told not to. */
static void spare_single_copy(void) {
    char from = 1, to = 0;
    struct iovec local = {&to, 1}, remote = {&from, 1};
    if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != 1) {
        setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
    }
}

/* Whether the launcher has put all ranks on this machine (Open MPI's mpirun says so; others: no). */
static bool all_here(void) {
    const char *all = getenv("OMPI_COMM_WORLD_SIZE"), *here = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    return all != NULL && here != NULL && strcmp(all, here) == 0;
}

static ls_status initialise_mpi(int *argc, char ***argv, ls_err *err) {
    if (getenv("OMPI_COMM_WORLD_SIZE") == NULL && getenv("PMIX_RANK") == NULL && getenv("PMI_RANK") == NULL) {
        /* Nobody's mpirun: a team of one, for which Open MPI would otherwise start a daemon. */
        setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    } else {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a rank does not outlive the daemon that launched it */
        if (all_here()) {                 /* looking for fast networks takes 0.15 s, and none is needed */
            setenv("OMPI_MCA_pml", "ob1", 0);
        }
    }
    spare_single_copy();
    int there = 0, level = MPI_THREAD_SINGLE;
    MPI_Initialized(&there);
    if (there) {
        MPI_Query_thread(&level);
    } else {
        MPI_Init_thread(argc, argv, MPI_THREAD_SERIALIZED, &level);
    }
    if (level < MPI_THREAD_SERIALIZED) {
        return ls_fail(err, LS_EUNSUPPORTED, "this MPI library offers no MPI_THREAD_SERIALIZED; use one that does");
    }
    return LS_OK;
}

ls_status ls_team_create(ls_team **out, int *argc, char ***argv, ls_err *err) {
    LS_TRY(initialise_mpi(argc, argv, err));
    ls_team *team = ls_xcalloc(1, sizeof *team);
    team->mpi = ls_xcalloc(1, sizeof *team->mpi);
    team->progress = &team->mpi->private_row;
    atomic_store(&team->progress->waiting, LS_NOBODY);

    int cap, world;
    ls_status status = read_number("LOCKSTEP_RANKS_PER_NODE", 1, 0, &cap, err);
    ls_status fan_status = read_number("LOCKSTEP_FAN_IN", 2, LS_FAN_IN, &team->fan_in, err);
    status = status != LS_OK ? status : fan_status;
    team->fan_in_said = getenv("LOCKSTEP_FAN_IN") != NULL;
    MPI_Comm machine, node;
    MPI_Comm_rank(MPI_COMM_WORLD, &world);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, world, MPI_INFO_NULL, &machine);
    int seat_here;
    MPI_Comm_rank(machine, &seat_here);
    MPI_Comm_split(machine, cap > 0 ? seat_here / cap : 0, seat_here, &node);
    take_seats(team, node);
    place_threads(team, machine);
    MPI_Comm_free(&machine);
    MPI_Comm_free(&node);
    MPI_Comm_split(MPI_COMM_WORLD, 0, team->rank, &team->mpi->all);
    MPI_Comm_split(team->mpi->all, team->node, team->local, &team->mpi->node);
    MPI_Comm_split(team->mpi->all, team->local == 0 ? 0 : MPI_UNDEFINED, team->node, &team->mpi->leaders);
    ls_log_set_rank(team->rank, team->size, team->hosts[team->rank]);
    /* Sleeps of a wait are tens of microseconds; the default slack would triple them. */
    prctl(PR_SET_TIMERSLACK, 1000UL);

    status = ls_team_agree(team, status, err);
    if (status != LS_OK) {
        ls_team_finish(team, status);
        return status;
    }
    *out = team;
    return LS_OK;
}

ls_team *ls_team_split(const ls_team *team) {
    ls_team *alone = ls_xcalloc(1, sizeof *alone);
    *alone = (ls_team){.size = 1,
                       .n_nodes = 1,
                       .n_local = 1,
                       .node_of = ls_xcalloc(1, sizeof *alone->node_of),
                       .node_first = ls_xcalloc(2, sizeof *alone->node_first),
                       .hosts = ls_xcalloc(1, sizeof *alone->hosts),
                       .fan_in = team->fan_in,
                       .fan_in_said = team->fan_in_said,
                       .n_machine_cores = team->n_machine_cores,
                       .n_threads = team->n_threads,
                       .oversubscribed = team->oversubscribed,
                       .mpi = ls_xcalloc(1, sizeof *alone->mpi)};
    alone->node_first[1] = 1;
    memcpy(alone->hosts[0], team->hosts[team->rank], LS_HOST_CHARS);
    alone->progress = &alone->mpi->private_row;
    atomic_store(&alone->progress->waiting, LS_NOBODY);
    MPI_Comm_split(team->mpi->all, team->rank, 0, &alone->mpi->all);
    MPI_Comm_dup(alone->mpi->all, &alone->mpi->node);
    MPI_Comm_dup(alone->mpi->all, &alone->mpi->leaders);
    return alone;
}

/* Communicators first: they are collective. */
static void free_team(ls_team *team) {
    if (team->local == 0) {
        MPI_Comm_free(&team->mpi->leaders);
    }
    MPI_Comm_free(&team->mpi->node);
    MPI_Comm_free(&team->mpi->all);
    free(team->node_of);
    free(team->node_first);
    free(team->hosts);
    free(team->mpi);
    free(team);
}

void ls_team_join(ls_team *alone) {
    if (alone != NULL) {
        free_team(alone);
    }
}

void ls_team_forget_progress(ls_team *team) {
    ls_progress *row = &team->mpi->private_row;
    row->wait_ns = team->progress->wait_ns;
    row->waiting = LS_NOBODY;
    team->progress = row;
}

void ls_team_finish(ls_team *team, ls_status status) {
    if (team == NULL) {
        return;
    }
    char text[sizeof deadline_text];
    int code = ls_status_exit_code(status);
    snprintf(text, sizeof text, "lockstep: error: rank %d on %s: the other ranks did not come to the end in time\n",
             team->rank, team->hosts[team->rank]);
    set_deadline(FINISH_S, code != 0 ? code : 1, text);
    ls_team_barrier(team);
    alarm(FINALIZE_S);
    free_team(team);
    MPI_Finalize();
    alarm(0);
}

void ls_team_abort(ls_team *team, ls_status status, const char *sentence) {
    ls_team_abort_with(team, status, sentence, 0);
}

void ls_team_abort_with(ls_team *team, ls_status status, const char *sentence, int victim) {
    int code = ls_status_exit_code(status);
    code = code != 0 ? code : 1;
    /* Before the first word: standard error may be what everything is stuck on. */
    deadline_victim = victim;
    set_deadline(ABORT_S, code, "");
    if (team != NULL && team->size > 1) {
        ls_launcher_give_up_after(LAUNCHER_S);
    }
    if (sentence != NULL) {
        ls_error("%s", sentence);
    }
    if (team != NULL) {
        MPI_Abort(MPI_COMM_WORLD, code);
    }
    _exit(code);
}
