/*
 * FNV-1a with 64 bits: the one hash of the tree, for checksums of files, settings and buckets.
 *
 * Owns nothing: the caller keeps the running hash. It notices damage and difference, not malice:
 * there is no key and anybody can make two inputs with one hash, even an input that brings the
 * running hash to 0, after which zero bytes no longer count. So it proves no integrity against an
 * adversary, keys no table that strangers fill, and whoever must be sure that two things are equal
 * compares the things. It hashes bytes: integers are fed with one width, text with its terminator,
 * or two different lists become one input. Thread rule: pure.
 */
#ifndef FM_CORE_UTIL_HASH_H
#define FM_CORE_UTIL_HASH_H

#include <stddef.h>
#include <stdint.h>

/* The hash of nothing: where every hash starts. */
#define FM_HASH_START UINT64_C(0xcbf29ce484222325)

/* `hash` continued with `size` bytes at `data` (borrowed; NULL only with 0). Feeding two pieces
 * equals feeding them joined. */
static inline uint64_t fm_hash_add(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)data;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

#endif
