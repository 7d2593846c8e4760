/* Memory of a node: both ways of sharing it, nothing left with a name, and too much asked for. */
#include <dirent.h>

#include "check.h"
#include "worker/reduce/shared.h"

static int named_segments(void) {
    DIR *d = opendir("/dev/shm");
    int n = 0;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        n += strncmp(e->d_name, "lockstep-", 9) == 0 && e->d_type == DT_REG;
    }
    if (d != NULL) {
        closedir(d);
    }
    return n;
}

static void neighbours_see_it(ls_team *t, ls_shared_kind kind) {
    ls_shared s;
    ls_err err = LS_ERR_INIT;
    size_t n = 3 << 20;
    int before = named_segments();
    ls_team_barrier(t);
    ls_status status = ls_shared_create(&s, t, n, kind, &err);
    CHECK(status == LS_OK, "%s", err.text);
    if (status != LS_OK) {
        return;
    }
    unsigned char *bytes = s.base;
    CHECK(bytes[0] == 0 && bytes[n - 1] == 0, "zero at first");
    ls_team_barrier(t);
    CHECK(named_segments() <= before, "a name is left");
    bytes[1000 + t->local] = (unsigned char)(t->local + 1);
    bytes[n - 1 - (size_t)t->local] = (unsigned char)(100 + t->local);
    ls_team_barrier(t);
    for (int l = 0; l < t->n_local; l++) {
        CHECK(bytes[1000 + l] == l + 1 && bytes[n - 1 - (size_t)l] == 100 + l, "what rank %d of the node wrote", l);
    }
    CHECK(bytes[1000 + t->n_local] == 0, "another node's memory is another");
    ls_team_barrier(t);
    ls_shared_release(&s);
}

static void too_much(ls_team *t) {
    ls_shared s;
    ls_err err = LS_ERR_INIT;
    size_t n = ls_memory_left();
    CHECK(n > 1 << 20 && n < (size_t)1 << 50, "%zu bytes left", n);
    ls_status status = ls_shared_create(&s, t, n + ((size_t)64 << 30), LS_SHARED_BEST, &err);
    CHECK(status == LS_ENOMEM, "status %s", ls_status_name(status));
    CHECK(strstr(err.text, "are free; use fewer ranks") != NULL, "\"%s\"", err.text);
    CHECK(s.base == NULL, "nothing to release");
}

int main(int argc, char **argv) {
    ls_team *team = ranks_begin(argc, argv);
    neighbours_see_it(team, LS_SHARED_BEST);
    neighbours_see_it(team, LS_SHARED_NAMED);
    too_much(team);
    return ranks_end(team);
}
