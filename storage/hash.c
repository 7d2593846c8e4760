#include "storage/hash.h"

#include <endian.h>
#include <string.h>
#include <xxhash.h>

#include "common/status.h"

uint64_t ls_hash64(const void *bytes, size_t n_bytes) {
    return XXH3_64bits(bytes, n_bytes);
}

ls_hash *ls_hash_start(void) {
    XXH3_state_t *state = XXH3_createState();
    LS_ASSERT(state != NULL);
    XXH3_128bits_reset(state);
    return (ls_hash *)state;
}

void ls_hash_add(ls_hash *hash, const void *bytes, size_t n_bytes) {
    if (n_bytes > 0) {
        XXH3_128bits_update((XXH3_state_t *)hash, bytes, n_bytes);
    }
}

void ls_hash_add_u64(ls_hash *hash, uint64_t value) {
    value = htole64(value);
    ls_hash_add(hash, &value, sizeof value);
}

void ls_hash_add_text(ls_hash *hash, const char *text) {
    size_t n = text != NULL ? strlen(text) : 0;
    ls_hash_add_u64(hash, n);
    ls_hash_add(hash, text, n);
}

void ls_hash_finish(ls_hash *hash, unsigned char out[LS_HASH_BYTES]) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest((XXH3_state_t *)hash));
    memcpy(out, canonical.digest, LS_HASH_BYTES);
    XXH3_freeState((XXH3_state_t *)hash);
}

/* xxhash.h: states of 64 and of 128 bits are one and the same until the digest. */
uint64_t ls_hash_finish64(ls_hash *hash) {
    uint64_t value = XXH3_64bits_digest((XXH3_state_t *)hash);
    XXH3_freeState((XXH3_state_t *)hash);
    return value;
}
