/*
 * A set of ids as a tree of words. See id_set.h.
 */
#include "core/sched/id_set.h"

#include "core/util/assert.h"
#include "core/util/memory.h"

int fm_id_set_init(struct fm_id_set *set, uint32_t bound)
{
    FM_ASSERT(bound <= FM_ID_SET_BOUND_MAX);
    *set = (struct fm_id_set){.bound = bound};
    set->words = fm_alloc_zero(bound / 64 + 1, sizeof *set->words);
    return set->words != NULL ? 0 : FM_ENOMEM;
}

void fm_id_set_deinit(struct fm_id_set *set)
{
    fm_free(set->words);
    *set = (struct fm_id_set){0};
}

static uint64_t bit(uint32_t index)
{
    return UINT64_C(1) << (index % 64);
}

bool fm_id_set_has(const struct fm_id_set *set, uint32_t id)
{
    FM_ASSERT(id < set->bound);
    return (set->words[id / 64] & bit(id)) != 0;
}

void fm_id_set_add(struct fm_id_set *set, uint32_t id)
{
    if (fm_id_set_has(set, id)) {
        return;
    }
    set->words[id / 64] |= bit(id);
    set->middle[id / 4096] |= bit(id / 64);
    set->top |= bit(id / 4096);
    set->count++;
}

void fm_id_set_remove(struct fm_id_set *set, uint32_t id)
{
    if (!fm_id_set_has(set, id)) {
        return;
    }
    set->count--;
    set->words[id / 64] &= ~bit(id);
    if (set->words[id / 64] == 0) {
        set->middle[id / 4096] &= ~bit(id / 64);
        if (set->middle[id / 4096] == 0) {
            set->top &= ~bit(id / 4096);
        }
    }
}

/* The least bit of `word` at or above `from` (0 to 64), or 64. */
static uint32_t bit_from(uint64_t word, uint32_t from)
{
    word = from < 64 ? word & (UINT64_MAX << from) : 0;
    return word == 0 ? 64 : (uint32_t)__builtin_ctzll(word);
}

uint32_t fm_id_set_first(const struct fm_id_set *set, uint32_t from)
{
    if (from >= set->bound) {
        return FM_ID_SET_NONE;
    }
    uint32_t low = bit_from(set->words[from / 64], from % 64);
    if (low < 64) {
        return from / 64 * 64 + low;
    }
    uint32_t word = from / 64;
    uint32_t middle = bit_from(set->middle[word / 64], word % 64 + 1);
    if (middle == 64) {
        uint32_t top = bit_from(set->top, word / 64 + 1);
        if (top == 64) {
            return FM_ID_SET_NONE;
        }
        middle = top * 64 + (uint32_t)__builtin_ctzll(set->middle[top]);
    } else {
        middle += word / 64 * 64;
    }
    return middle * 64 + (uint32_t)__builtin_ctzll(set->words[middle]);
}

/* Whether `summary` tells which of `count` words are not zero. */
static bool summary_ok(uint64_t summary, const uint64_t *words, uint32_t count)
{
    for (uint32_t i = 0; i < 64; i++) {
        if (((summary & bit(i)) != 0) != (i < count && words[i] != 0)) {
            return false;
        }
    }
    return true;
}

bool fm_id_set_validate(const struct fm_id_set *set)
{
    uint32_t word_count = set->bound / 64 + 1;
    uint32_t count = 0;
    for (uint32_t i = 0; i < word_count; i++) {
        count += (uint32_t)__builtin_popcountll(set->words[i]);
    }
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t begin = i * 64;
        uint32_t left = begin < word_count ? word_count - begin : 0;
        if (!summary_ok(set->middle[i], left > 0 ? &set->words[begin] : NULL, left)) {
            return false;
        }
    }
    return count == set->count && summary_ok(set->top, set->middle, 64) &&
           set->words[set->bound / 64] >> (set->bound % 64) == 0;
}

uint32_t fm_id_set_count_below(const struct fm_id_set *set, uint32_t bound)
{
    FM_ASSERT(bound <= set->bound);
    uint32_t count = 0;
    for (uint32_t word = 0; word < bound / 64; word++) {
        count += (uint32_t)__builtin_popcountll(set->words[word]);
    }
    if (bound % 64 != 0) {
        count += (uint32_t)__builtin_popcountll(set->words[bound / 64] & (bit(bound) - 1));
    }
    return count;
}

uint32_t fm_id_set_end(const struct fm_id_set *set, uint32_t count)
{
    for (uint32_t word = 0; count > 0 && word <= set->bound / 64; word++) {
        uint64_t members = set->words[word];
        uint32_t here = (uint32_t)__builtin_popcountll(members);
        if (here < count) {
            count -= here;
            continue;
        }
        for (; count > 1; count--) {
            members &= members - 1;
        }
        return word * 64 + (uint32_t)__builtin_ctzll(members) + 1;
    }
    return count > 0 ? set->bound : 0;
}
