/*
 * Counter-based random numbers: Philox4x32-10.
 *
 * A number is a pure function of (key, counter), so that what is drawn depends on the seed, the epoch, the step, the
 * layer and the sample, never on which rank draws it or in which order.
 *
 * Source  Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
 */
#ifndef LS_COMMON_RNG_H
#define LS_COMMON_RNG_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t v[4];
} ls_philox;

/* The stream constants of the whole program: what the second word of a key is. */
enum {
    LS_STREAM_INIT = 1,
    LS_STREAM_SHUFFLE = 2,
    LS_STREAM_LAYER = 3,
    LS_STREAM_SYNTHETIC = 4,
    LS_STREAM_AUGMENT = 5,
    LS_STREAM_SAMPLE = 6
};

static inline ls_philox ls_philox4x32(uint64_t key, uint64_t counter_lo, uint64_t counter_hi) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)counter_lo, c1 = (uint32_t)(counter_lo >> 32);
    uint32_t c2 = (uint32_t)counter_hi, c3 = (uint32_t)(counter_hi >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (ls_philox){{c0, c1, c2, c3}};
}

/* Mixes up to three words into one key (SplitMix64 finaliser). */
uint64_t ls_rng_key(uint64_t seed, uint64_t stream, uint64_t id);

/* A uniform double in [0, 1) from 53 bits of counter number n, and a standard normal (Box-Muller). */
double ls_rng_uniform(uint64_t key, uint64_t n);
double ls_rng_normal(uint64_t key, uint64_t n);

/* The permutation of 0..n-1 of an epoch: Fisher-Yates with a Philox stream; a pure function of its arguments. */
void ls_rng_permutation(uint64_t seed, uint64_t epoch, size_t n, uint32_t *out);

#endif
