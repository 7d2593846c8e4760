#include "worker/plan/plan_guard.h"

#if LS_PLAN_GUARDED

#include <sanitizer/asan_interface.h>
#include <string.h>

static char *start_of(const ls_plan *p, int buffer) {
    return ls_plan_resolve(p, (ls_ref){LS_REF_BUFFER, buffer, 0});
}

void ls_guard_close(const ls_plan *p) {
    ASAN_POISON_MEMORY_REGION(p->arena_base, ls_plan_arena_bytes(p));
    ASAN_POISON_MEMORY_REGION(p->persistent_base, p->persistent_bytes);
}

void ls_guard_open(const ls_plan *p) {
    ASAN_UNPOISON_MEMORY_REGION(p->arena_base, ls_plan_arena_bytes(p));
    ASAN_UNPOISON_MEMORY_REGION(p->persistent_base, p->persistent_bytes);
}

static int time_of(const ls_plan *p, ls_phase phase, int i) {
    for (int earlier = 0; earlier < (int)phase; earlier++) {
        i += p->list[earlier].n;
    }
    return i;
}

void ls_guard_before(const ls_plan *p, ls_phase phase, int i) {
    const ls_call *c = &p->list[phase].calls[i];
    int now = time_of(p, phase, i);
    for (int k = 0; k < c->n_args; k++) {
        if (c->args[k].ref.kind == LS_REF_BUFFER) {
            const plan_buffer *b = &p->buffers[c->args[k].ref.index];
            ASAN_UNPOISON_MEMORY_REGION(start_of(p, c->args[k].ref.index), b->n_asked);
            if (b->first == now && !b->persistent && !b->external) {
                memset(start_of(p, c->args[k].ref.index), 0xFF, b->n_asked); /* not a number, in every floating type */
            }
        }
    }
}

void ls_guard_after(const ls_plan *p, ls_phase phase, int i) {
    const ls_call *c = &p->list[phase].calls[i];
    for (int k = 0; k < c->n_args; k++) {
        if (c->args[k].ref.kind == LS_REF_BUFFER) {
            const plan_buffer *b = &p->buffers[c->args[k].ref.index];
            ASAN_POISON_MEMORY_REGION(start_of(p, c->args[k].ref.index), b->n_bytes);
        }
    }
}

#endif
