#include "common/rng.h"

#include <math.h>

static uint64_t mix(uint64_t z) {
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

uint64_t ls_rng_key(uint64_t seed, uint64_t stream, uint64_t id) {
    return mix(mix(mix(seed) ^ stream) ^ id);
}

double ls_rng_uniform(uint64_t key, uint64_t n) {
    ls_philox r = ls_philox4x32(key, n, 0);
    uint64_t bits = ((uint64_t)r.v[0] << 32 | r.v[1]) >> 11;
    return (double)bits * 0x1p-53;
}

double ls_rng_normal(uint64_t key, uint64_t n) {
    ls_philox r = ls_philox4x32(key, n, 1);
    double u = ((double)(((uint64_t)r.v[0] << 32 | r.v[1]) >> 11) + 1.0) * 0x1p-53; /* (0, 1], log is finite */
    double v = (double)(((uint64_t)r.v[2] << 32 | r.v[3]) >> 11) * 0x1p-53;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

void ls_rng_permutation(uint64_t seed, uint64_t epoch, size_t n, uint32_t *out) {
    uint64_t key = ls_rng_key(seed, LS_STREAM_SHUFFLE, epoch);
    for (size_t i = 0; i < n; i++) {
        out[i] = (uint32_t)i;
    }
    for (size_t i = n; i > 1; i--) {
        /* Lemire's multiply-shift on 64 bits: the bias of a 32-bit range is below 2^-32. */
        ls_philox r = ls_philox4x32(key, i, 0);
        uint64_t bits = (uint64_t)r.v[0] << 32 | r.v[1];
        size_t j = (size_t)(((unsigned __int128)bits * i) >> 64);
        uint32_t t = out[i - 1];
        out[i - 1] = out[j];
        out[j] = t;
    }
}
