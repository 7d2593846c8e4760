/* Hashes of bytes: XXH3, 64 and 128 bits. Fast (memory speed), not cryptographic; the values are the same everywhere.
 */
#ifndef LS_STORAGE_HASH_H
#define LS_STORAGE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t ls_hash64(const void *bytes, size_t n_bytes);

/* A hash of what is added piece by piece: 128 bits, or those of ls_hash64. */
typedef struct ls_hash ls_hash;

enum { LS_HASH_BYTES = 16 };

/* Never NULL: without memory for its 576 bytes the process ends. */
ls_hash *ls_hash_start(void);
void ls_hash_add(ls_hash *hash, const void *bytes, size_t n_bytes);
/* Eight bytes, little-endian. */
void ls_hash_add_u64(ls_hash *hash, uint64_t value);
/* The text's length, then the text, so that none can borrow from the next; NULL counts as "". */
void ls_hash_add_text(ls_hash *hash, const char *text);
/* Writes the hash, most significant byte first, and frees. */
void ls_hash_finish(ls_hash *hash, unsigned char out[LS_HASH_BYTES]);
/* Frees; returns the ls_hash64 of all that was added. */
uint64_t ls_hash_finish64(ls_hash *hash);

#endif
