/*
 * Entries under 256-bit keys, within a budget of bytes: the least recently used go first.
 *
 * Owns: the order, the lookup, the sum of bytes. Does not own: entries (the user embeds the struct
 * in its own object and says how many bytes that is), keys' making: they are digests, whose bits
 * are as good as random, so that they need no hashing here. Thread rule: caller's memory and lock.
 */
#ifndef FM_CORE_UTIL_LRU_H
#define FM_CORE_UTIL_LRU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_LRU_BUCKETS_MAX (1u << 20)

struct fm_lru_key {
    uint64_t words[4];
};

struct fm_lru_entry {
    struct fm_lru_key key;
    size_t bytes; /* not changed while it is in */
    struct fm_lru_entry *newer;
    struct fm_lru_entry *older;
    struct fm_lru_entry *chain; /* of its bucket; among those that had to go: the next */
};

struct fm_lru {
    struct fm_lru_entry **buckets;
    uint32_t bucket_mask;
    struct fm_lru_entry *newest;
    struct fm_lru_entry *oldest;
    uint64_t bytes;
    uint64_t bytes_max;
    uint64_t count;
};

/* `bucket_count` is made a power of two, at most FM_LRU_BUCKETS_MAX; it does not grow: more entries
 * than buckets make lookups longer. FM_ENOMEM. */
int FM_NODISCARD fm_lru_init(struct fm_lru *lru, uint64_t bytes_max, uint64_t bucket_count);
/* Returns what is in, as fm_lru_insert does. Accepts a zeroed one, and leaves one. */
struct fm_lru_entry *fm_lru_deinit(struct fm_lru *lru);

/* NULL: none. What is found is the newest from now on. */
struct fm_lru_entry *fm_lru_find(struct fm_lru *lru, const struct fm_lru_key *key);
/*
 * Puts in an entry whose key is not in, and whose bytes are at most bytes_max (both asserted), and
 * returns those that had to go for it, linked by `chain`: the caller's again.
 */
struct fm_lru_entry *fm_lru_insert(struct fm_lru *lru, struct fm_lru_entry *entry);

/* The whole structure, in O(entries): for tests. */
bool fm_lru_is_valid(const struct fm_lru *lru);

#endif
