/*
 * Loaded into a program with LD_PRELOAD: counts what goes over the heap, all threads together, by standing before the C
 * library's functions of the same names.
 *
 * A mark is a call of raise(SIGSTOP), which here does not stop: so LOCKSTEP_FAULT=rank0.step:2:stop,rank0.step:9:stop
 * (common/fault.h) marks the moments before the second and the ninth step. At each mark the program says on standard
 * error, N counting from 1,
 *
 *   heap mark N pid P: A allocations, F frees since the last mark, M allocations of the main thread; resident R KiB
 *
 * and where the first few allocations since the last mark came from, as MODULE+OFFSET for addr2line.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_PLACES = 8, ENOMEM_CODE = 12 };

static atomic_long allocations, frees, of_main; /* of_main: allocations of the thread that main runs in */
static __attribute__((tls_model("initial-exec"))) _Thread_local int is_main; /* 0: not asked yet, 1: yes, 2: no */
static _Atomic(void *) places[MOST_PLACES];

/* glibc's own names, which need no dlsym (that allocates itself). */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t n);
void *__libc_memalign(size_t alignment, size_t n);
void __libc_free(void *p);

static void count(void *caller) {
    long n = atomic_fetch_add(&allocations, 1);
    is_main = is_main != 0 ? is_main : gettid() == getpid() ? 1 : 2;
    atomic_fetch_add(&of_main, is_main == 1);
    if (n < MOST_PLACES) {
        atomic_store(&places[n], caller);
    }
}

void *malloc(size_t n) {
    count(__builtin_return_address(0));
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size) {
    count(__builtin_return_address(0));
    return __libc_calloc(n, size);
}

void *realloc(void *old, size_t n) {
    count(__builtin_return_address(0));
    return __libc_realloc(old, n);
}

void *reallocarray(void *old, size_t n, size_t size) {
    size_t n_bytes;
    count(__builtin_return_address(0));
    return __builtin_mul_overflow(n, size, &n_bytes) ? NULL : __libc_realloc(old, n_bytes);
}

void *memalign(size_t alignment, size_t n) {
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, n);
}

void *aligned_alloc(size_t alignment, size_t n) {
    count(__builtin_return_address(0));
    return __libc_memalign(alignment, n);
}

int posix_memalign(void **out, size_t alignment, size_t n) {
    count(__builtin_return_address(0));
    *out = __libc_memalign(alignment, n);
    return *out != NULL ? 0 : ENOMEM_CODE;
}

void free(void *p) {
    atomic_fetch_add(&frees, p != NULL);
    __libc_free(p);
}

static long resident_kib(void) {
    long size = 0, resident = 0;
    char text[128] = "";
    FILE *f = fopen("/proc/self/statm", "r");
    if (f != NULL) {
        if (fgets(text, sizeof text, f) == NULL || sscanf(text, "%ld %ld", &size, &resident) != 2) {
            resident = -1;
        }
        fclose(f);
    }
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void tell(void) {
    static int n_marks;
    char text[1024];
    long n = atomic_load(&allocations), n_freed = atomic_load(&frees), n_main = atomic_load(&of_main);
    int used =
        snprintf(text, sizeof text,
                 "heap mark %d pid %d: %ld allocations, %ld frees since the last mark, %ld allocations of the main "
                 "thread; resident %ld KiB\n",
                 ++n_marks, (int)getpid(), n, n_freed, n_main, resident_kib());
    for (long i = 0; n_marks > 1 && i < n && i < MOST_PLACES; i++) {
        Dl_info info;
        void *at = atomic_load(&places[i]);
        if (dladdr(at, &info) != 0) {
            used += snprintf(text + used, sizeof text - (size_t)used, "  from %s+%#lx\n", info.dli_fname,
                             (unsigned long)((char *)at - (char *)info.dli_fbase));
        }
        if ((size_t)used >= sizeof text) {
            used = sizeof text - 1;
        }
    }
    if (write(STDERR_FILENO, text, (size_t)used) < 0) {
        _exit(1);
    }
    atomic_store(&allocations, 0);
    atomic_store(&frees, 0);
    atomic_store(&of_main, 0);
}

int raise(int number) {
    if (number == SIGSTOP) {
        tell();
        return 0;
    }
    return kill(getpid(), number);
}
