/*
 * A hash table of chains, and a list by age through all of its entries. See lru.h.
 */
#include "core/util/lru.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"

int fm_lru_init(struct fm_lru *lru, uint64_t bytes_max, uint64_t bucket_count)
{
    uint32_t buckets = 1;
    while (buckets < bucket_count && buckets < FM_LRU_BUCKETS_MAX) {
        buckets *= 2;
    }
    *lru = (struct fm_lru){.bytes_max = bytes_max, .bucket_mask = buckets - 1};
    lru->buckets = fm_alloc_zero(buckets, sizeof(struct fm_lru_entry *));
    return lru->buckets != NULL ? 0 : FM_ENOMEM;
}

struct fm_lru_entry *fm_lru_deinit(struct fm_lru *lru)
{
    struct fm_lru_entry *all = lru->newest;
    for (struct fm_lru_entry *entry = all; entry != NULL; entry = entry->older) {
        entry->chain = entry->older;
    }
    fm_free(lru->buckets);
    *lru = (struct fm_lru){0};
    return all;
}

static bool key_equal(const struct fm_lru_key *left, const struct fm_lru_key *right)
{
    return memcmp(left->words, right->words, sizeof left->words) == 0;
}

/* What points to the entry of that key, or to the end of its chain. */
static struct fm_lru_entry **place_of(const struct fm_lru *lru, const struct fm_lru_key *key)
{
    struct fm_lru_entry **place = &lru->buckets[key->words[0] & lru->bucket_mask];
    while (*place != NULL && !key_equal(&(*place)->key, key)) {
        place = &(*place)->chain;
    }
    return place;
}

static void age_unlink(struct fm_lru *lru, struct fm_lru_entry *entry)
{
    *(entry->newer != NULL ? &entry->newer->older : &lru->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &lru->oldest) = entry->newer;
}

static void age_link(struct fm_lru *lru, struct fm_lru_entry *entry)
{
    entry->newer = NULL;
    entry->older = lru->newest;
    *(lru->newest != NULL ? &lru->newest->newer : &lru->oldest) = entry;
    lru->newest = entry;
}

struct fm_lru_entry *fm_lru_find(struct fm_lru *lru, const struct fm_lru_key *key)
{
    struct fm_lru_entry *entry = *place_of(lru, key);
    if (entry != NULL && entry != lru->newest) {
        age_unlink(lru, entry);
        age_link(lru, entry);
    }
    return entry;
}

static void remove_oldest(struct fm_lru *lru)
{
    struct fm_lru_entry *entry = lru->oldest;
    struct fm_lru_entry **place = place_of(lru, &entry->key);
    FM_ASSERT(*place == entry);
    *place = entry->chain;
    age_unlink(lru, entry);
    lru->bytes -= entry->bytes;
    lru->count--;
}

struct fm_lru_entry *fm_lru_insert(struct fm_lru *lru, struct fm_lru_entry *entry)
{
    struct fm_lru_entry *gone = NULL;
    FM_ASSERT(entry->bytes <= lru->bytes_max);
    while (lru->bytes > lru->bytes_max - entry->bytes) {
        struct fm_lru_entry *oldest = lru->oldest;
        remove_oldest(lru);
        oldest->chain = gone;
        gone = oldest;
    }
    struct fm_lru_entry **place = place_of(lru, &entry->key);
    FM_ASSERT(*place == NULL);
    entry->chain = NULL;
    *place = entry;
    age_link(lru, entry);
    lru->bytes += entry->bytes;
    lru->count++;
    return gone;
}

bool fm_lru_is_valid(const struct fm_lru *lru)
{
    uint64_t bytes = 0;
    uint64_t count = 0;
    const struct fm_lru_entry *newer = NULL;
    for (const struct fm_lru_entry *entry = lru->newest; entry != NULL; entry = entry->older) {
        if (entry->newer != newer || *place_of(lru, &entry->key) != entry) {
            return false;
        }
        newer = entry;
        bytes += entry->bytes;
        count++;
    }
    return lru->oldest == newer && bytes == lru->bytes && count == lru->count &&
           bytes <= lru->bytes_max;
}
