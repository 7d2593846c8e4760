/*
 * What ThreadSanitizer has to know of OpenMP: linked into everything in the preset tsan.
 *
 * libgomp is not compiled for it, so its barriers go unseen and every parallel region would look like a race with what
 * comes before and after. Here libgomp's entry points are taken over, say so, and call the real ones: a region begins
 * after what its master did before, and what follows comes after all of it. Races within a region are still seen.
 */
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>
#include <stdlib.h>

#define UNSEEN __attribute__((no_sanitize_thread))

/* Where it begins and where it ends are two things: a thread that begins late knows nothing of one that has ended. */
typedef struct region {
    void (*body)(void *);
    void *data;
    void *begin, *end; /* never read: their addresses count */
} region;

typedef void (*parallel_function)(void (*body)(void *), void *data, unsigned n_threads, unsigned flags);
typedef void (*critical_function)(void **name);

/* Prototypes: libgomp has no header for what the compiler calls. */
void GOMP_parallel(void (*body)(void *), void *data, unsigned n_threads, unsigned flags);
void GOMP_critical_name_start(void **name);
void GOMP_critical_name_end(void **name);

UNSEEN static void *real(const char *name) {
    void *p = dlsym(RTLD_NEXT, name);
    if (p == NULL) {
        abort();
    }
    return p;
}

UNSEEN static void run_body(void *context) {
    region *r = context;
    __tsan_acquire(&r->begin);
    r->body(r->data);
    __tsan_release(&r->end);
}

UNSEEN void GOMP_parallel(void (*body)(void *), void *data, unsigned n_threads, unsigned flags) {
    region r = {.body = body, .data = data};
    __tsan_release(&r.begin);
    ((parallel_function)real("GOMP_parallel"))(run_body, &r, n_threads, flags);
    __tsan_acquire(&r.end);
}

UNSEEN void GOMP_critical_name_start(void **name) {
    ((critical_function)real("GOMP_critical_name_start"))(name);
    __tsan_acquire(name);
}

UNSEEN void GOMP_critical_name_end(void **name) {
    __tsan_release(name);
    ((critical_function)real("GOMP_critical_name_end"))(name);
}
