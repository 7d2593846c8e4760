#include "trainer/fit/source.h"

#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "trainer/fit/source_private.h"

static bool used(const ls_source *s, size_t array) {
    for (int i = 0; i < s->n_bindings; i++) {
        if (s->bindings[i].array == (int)array) {
            return true;
        }
    }
    return false;
}

/* The same on all ranks: data is in memory everywhere or nowhere. */
static void decide_memory(ls_source *s, double memory_gb) {
    ls_store *st = s->store;
    double need = 0, room = memory_gb > 0 ? memory_gb * 1e9 : (double)ls_memory_left() / 2;
    for (size_t a = 0; a < st->dataset->n_arrays; a++) {
        need += used(s, a) ? (double)st->dataset->n_samples * (double)st->dataset->arrays[a].sample_bytes : 0;
    }
    bool fits = need <= room, *all = ls_xcalloc((size_t)st->team->size, sizeof *all);
    ls_team_allgather(st->team, &fits, sizeof fits, all);
    st->in_memory = true;
    for (int r = 0; r < st->team->size; r++) {
        st->in_memory = st->in_memory && all[r];
    }
    free(all);
}

enum { READ_BYTES = 64 << 20 };

/* Reads this rank's part of an array into the node's memory, piece by piece, and checks it. */
static ls_status load_part(ls_source *s, size_t array, char *memory, ls_err *err) {
    ls_store *st = s->store;
    const ls_data_array *a = &st->dataset->arrays[array];
    uint64_t n = st->dataset->n_samples, from = n * (uint64_t)st->team->local / (uint64_t)st->team->n_local;
    uint64_t to = n * ((uint64_t)st->team->local + 1) / (uint64_t)st->team->n_local;
    uint64_t piece = READ_BYTES / a->sample_bytes > 0 ? READ_BYTES / a->sample_bytes : 1;
    for (uint64_t at = from; at < to; at += piece) {
        uint64_t m = to - at < piece ? to - at : piece;
        char *here = memory + at * a->sample_bytes;
        LS_TRY(ls_dataset_read(st->dataset, array, at, m, here, err));
        for (int i = 0; i < s->n_bindings; i++) {
            if (s->bindings[i].array == (int)array) {
                LS_TRY(ls_binding_check(s, &s->bindings[i], here, at, m, err));
            }
        }
        ls_progress_phase(st->team->progress, LS_DOING_SETUP, 0);
    }
    return LS_OK;
}

static ls_status load(ls_source *s, double memory_gb, ls_err *err) {
    ls_store *st = s->store;
    decide_memory(s, memory_gb);
    if (!st->in_memory) {
        return LS_OK;
    }
    for (size_t a = 0; a < st->dataset->n_arrays; a++) {
        if (!used(s, a)) {
            continue;
        }
        size_t bytes = (size_t)st->dataset->n_samples * st->dataset->arrays[a].sample_bytes;
        LS_TRY(ls_shared_create(&st->memory[a], st->team, bytes, LS_SHARED_BEST, err));
        ls_status mine = load_part(s, a, st->memory[a].base, err);
        LS_TRY(ls_team_agree(st->team, mine, err));
        for (int i = 0; i < s->n_bindings; i++) {
            if (s->bindings[i].array == (int)a) {
                s->bindings[i].raw = st->memory[a].base;
            }
        }
    }
    return LS_OK;
}

/* Rank 0 looks at the contents, the others are told. */
static ls_status take_fingerprint(ls_store *st, ls_err *err) {
    ls_status mine = st->team->rank == 0 ? ls_dataset_fingerprint(st->dataset, &st->fingerprint, err) : LS_OK;
    LS_TRY(ls_team_agree(st->team, mine, err));
    ls_team_bcast(st->team, 0, &st->fingerprint, sizeof st->fingerprint);
    return LS_OK;
}

ls_status ls_source_open(ls_source **out, struct ls_team *team, const char *name, const ls_model *model,
                         const ls_compile *compile, const ls_source_options *options, ls_err *err) {
    ls_source *s = ls_xcalloc(1, sizeof *s);
    s->store = ls_xcalloc(1, sizeof *s->store);
    s->store->team = team;
    s->store->references = 1;
    pthread_mutex_init(&s->store->lock, NULL);
    s->feed = (ls_feed){.self = s, .fill = ls_source_fill};
    ls_status status = ls_dataset_open(name, &s->store->dataset, err);
    if (status == LS_OK) {
        s->store->memory = ls_xcalloc(s->store->dataset->n_arrays + 1, sizeof *s->store->memory);
        s->feed.n_samples = s->store->dataset->n_samples;
        status = ls_source_bind(s, model, compile, options, err);
    }
    status = ls_team_agree(team, status, err);
    if (status == LS_OK) {
        status = take_fingerprint(s->store, err);
    }
    if (status == LS_OK) {
        status = load(s, options->memory_gb, err);
    }
    if (status == LS_OK && !s->store->in_memory) {
        s->feed.expect = ls_source_expect;
        s->deadline_s = options->deadline_s;
    }
    if (status != LS_OK) {
        ls_source_destroy(s);
        return status;
    }
    *out = s;
    return LS_OK;
}

ls_source *ls_source_slice(ls_source *whole, size_t first, size_t n) {
    ls_source *s = ls_xcalloc(1, sizeof *s);
    LS_ASSERT(first + n <= whole->feed.n_samples);
    s->feed = whole->feed;
    s->feed.self = s;
    s->feed.n_samples = n;
    s->feed.has_sample_weights = whole->weight_of >= 0;
    s->store = whole->store;
    s->store->references++;
    s->first = whole->first + first;
    s->deadline_s = whole->deadline_s;
    s->n_inputs = whole->n_inputs;
    s->n_outputs = whole->n_outputs;
    s->n_bindings = whole->n_bindings;
    s->weight_of = whole->weight_of;
    s->bindings = ls_xcalloc((size_t)s->n_bindings, sizeof *s->bindings);
    memcpy(s->bindings, whole->bindings, (size_t)s->n_bindings * sizeof *s->bindings);
    return s;
}

void ls_source_truncate(ls_source *s, size_t n) {
    LS_ASSERT(n <= s->feed.n_samples);
    s->feed.n_samples = n;
}

void ls_source_destroy(ls_source *s) {
    if (s == NULL) {
        return;
    }
    ls_store *st = s->store;
    ls_ahead_destroy(s->ahead);
    if (--st->references == 0) {
        for (size_t a = 0; st->memory != NULL && a < st->dataset->n_arrays; a++) {
            ls_shared_release(&st->memory[a]);
        }
        free(st->memory);
        free(st->scratch);
        free(st->wanted);
        ls_dataset_destroy(st->dataset);
        pthread_mutex_destroy(&st->lock);
        free(st);
    }
    free(s->bindings);
    free(s);
}

void ls_walk_ahead(ls_walk *w, const ls_engine *e, const ls_source *s, size_t first) {
    size_t last = first + LS_SOURCE_AHEAD * w->batch;
    last = last < w->n_samples ? last : w->n_samples;
    while (w->announced < last) {
        size_t left = w->n_samples - w->announced, n = left < w->batch ? left : w->batch;
        ls_engine_expect(e, &s->feed, w->order + w->announced, n);
        w->announced += n;
    }
}

const ls_feed *ls_source_feed(const ls_source *s) {
    return &s->feed;
}
const char *ls_source_name(const ls_source *s) {
    return s->store->dataset->name;
}
bool ls_source_in_memory(const ls_source *s) {
    return s->store->in_memory;
}
bool ls_source_weighted(const ls_source *s) {
    return s->feed.has_sample_weights;
}
uint64_t ls_source_fingerprint(const ls_source *s) {
    return s->store->fingerprint;
}

void ls_source_spoil(ls_source *s, bool fail, bool nan) {
    if (fail) {
        atomic_store(&s->spoil_fail, 1);
    }
    if (nan) {
        atomic_store(&s->spoil_nan, 1);
    }
}
