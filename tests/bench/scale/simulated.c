#include "tests/bench/scale/simulated.h"

void *simulated_map(size_t n_bytes) {
    const size_t common[] = {SIMULATED_OWN, n_bytes};
    return n_bytes > SIMULATED_OWN ? smpi_shared_malloc_partial(n_bytes, common, 1)
                                   : (mmap)(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

void *simulated_calloc(size_t n_items, size_t item_bytes) {
    return simulated_map(n_items * item_bytes);
}
