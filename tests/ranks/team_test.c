/* The team: seats, collectives, agreement. Run as any number of ranks. */
#include "check.h"

static void seats(const ls_team *t) {
    CHECK(t->rank >= 0 && t->rank < t->size, "rank %d of %d", t->rank, t->size);
    CHECK(t->node_of[t->rank] == t->node, "node");
    CHECK(t->node_first[t->node] + t->local == t->rank, "ranks of a node are adjacent");
    CHECK(t->node_first[t->n_nodes] == t->size, "nodes cover the team");
    for (int r = 1; r < t->size; r++) {
        CHECK(t->node_of[r] == t->node_of[r - 1] || t->node_of[r] == t->node_of[r - 1] + 1, "node order at rank %d", r);
    }
    const char *cap = getenv("LOCKSTEP_RANKS_PER_NODE");
    CHECK(cap == NULL || cap[0] == 0 || t->n_local <= atoi(cap), "%d ranks on a node capped at %s", t->n_local, cap);
    CHECK(t->n_threads >= 1, "threads");
    CHECK(t->oversubscribed == (t->size > t->n_machine_cores) || t->n_threads == 1,
          "crowded only with one thread a rank");
    CHECK(strlen(t->hosts[t->rank]) > 0, "host");
}

static void collectives(ls_team *t) {
    int root = t->size - 1;
    char text[8] = "";
    if (t->rank == root) {
        strcpy(text, "hello");
    }
    ls_team_bcast(t, root, text, sizeof text);
    CHECK(strcmp(text, "hello") == 0, "bcast from %d gave %s", root, text);

    int mine[2] = {t->rank, 100 - t->rank};
    int *all = calloc((size_t)t->size, sizeof mine);
    ls_team_allgather(t, mine, sizeof mine, all);
    for (int r = 0; r < t->size; r++) {
        CHECK(all[2 * r] == r && all[2 * r + 1] == 100 - r, "allgather of rank %d: %d", r, all[2 * r]);
    }
    memset(all, 0, (size_t)t->size * sizeof mine);
    ls_team_gather(t, root, mine, sizeof mine, all);
    CHECK(t->rank != root || (all[0] == 0 && all[2 * root] == root), "gather");
    free(all);

    size_t n_bytes[64], total = 0;
    for (int r = 0; r < t->size; r++) {
        total += n_bytes[r] = (size_t)(r * 7 % 5);
    }
    char block[8], *blocks = calloc(total + 1, 1);
    memset(block, 'a' + t->rank, sizeof block);
    ls_team_gatherv(t, 0, block, n_bytes, blocks);
    for (size_t r = 0, at = 0; t->rank == 0 && r < (size_t)t->size; r++) {
        for (size_t i = 0; i < n_bytes[r]; i++, at++) {
            CHECK(blocks[at] == 'a' + (char)r, "block of rank %zu", r);
        }
    }
    free(blocks);

    char *long_text = t->rank == 0 ? strdup("{\"a\": 1}") : NULL;
    size_t n = t->rank == 0 ? strlen(long_text) : 0;
    ls_team_bcast_text(t, 0, &long_text, &n);
    CHECK(n == 8 && strcmp(long_text, "{\"a\": 1}") == 0, "text %s", long_text);
    free(long_text);
    for (int i = 0; i < 100; i++) {
        ls_team_barrier(t);
        ls_team_node_barrier(t);
    }
}

static void agreement(ls_team *t) {
    ls_err err = LS_ERR_INIT;
    CHECK(ls_team_agree(t, LS_OK, &err) == LS_OK && err.text[0] == '\0', "all well");
    ls_status mine = LS_OK;
    if (t->rank == t->size - 1) {
        mine = ls_fail(&err, LS_EIO, "disk is gone");
    }
    CHECK(ls_team_agree(t, mine, &err) == LS_EIO, "everyone learns of the last rank's failure");
    CHECK(strstr(err.text, "disk is gone") != NULL, "the sentence, not \"%s\"", err.text);
    CHECK(t->size == 1 || strncmp(err.text, "rank ", 5) == 0, "who says it: \"%s\"", err.text);
    CHECK(err.told == (t->rank != 0), "rank 0 prints");

    ls_err other = LS_ERR_INIT;
    CHECK(ls_team_check_same(t, "the job", 42, "x", &other) == LS_OK, "same digests");
    char words[16];
    snprintf(words, sizeof words, "side %d", t->rank);
    ls_status differs = ls_team_check_same(t, "the job", (uint64_t)(t->rank == 0 ? 1 : 2), words, &other);
    CHECK(differs == (t->size > 1 ? LS_EINPUT : LS_OK), "digests differ: %s", ls_status_name(differs));
    CHECK(t->size == 1 || (strstr(other.text, "side 0") != NULL && strstr(other.text, "side 1") != NULL),
          "both sides are named: \"%s\"", other.text);
}

static void sums(ls_team *t) {
    double values[3] = {1, t->rank, 1.0 / (3 + t->rank)}, expected = 0;
    ls_team_sum(t, values, 3);
    for (int r = 0; r < t->size; r++) {
        expected += 1.0 / (3 + r);
    }
    CHECK(values[0] == t->size && values[1] == t->size * (t->size - 1) / 2, "%g, %g", values[0], values[1]);
    CHECK(values[2] > expected - 1e-12 && values[2] < expected + 1e-12, "%.17g, not %.17g", values[2], expected);
    ls_team_sum(t, values, 0);
}

int main(int argc, char **argv) {
    ls_team *team = ranks_begin(argc, argv);
    sums(team);
    seats(team);
    collectives(team);
    agreement(team);
    return ranks_end(team);
}
