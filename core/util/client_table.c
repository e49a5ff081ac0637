/*
 * Clients and their shares. See client_table.h.
 */
#include "core/util/client_table.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"

#define CAPACITY_MIN 16u

/* --- rates as text --- */

static int rate_fail(const char *text, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_EINVAL,
                        "'%.40s' is no rate: write requests per second, minute or hour and, if "
                        "wanted, how many at once, such as 100/s, 100/s:300 or 30/m:5; each from 1 "
                        "to %u",
                        text, FM_CLIENT_RATE_MAX);
}

int fm_client_rate_parse(const char *text, struct fm_client_limit *limit, struct fm_error *reterr)
{
    char number[16];
    uint64_t rate = 0;
    uint64_t burst = 0;
    const char *slash = strchr(text, '/');
    if (slash == NULL || slash == text || (size_t)(slash - text) >= sizeof number ||
        (slash[1] != 's' && slash[1] != 'm' && slash[1] != 'h') ||
        (slash[2] != '\0' && slash[2] != ':')) {
        return rate_fail(text, reterr);
    }
    memcpy(number, text, (size_t)(slash - text));
    number[slash - text] = '\0';
    if (fm_parse_uint64(number, &rate) != 0 || rate == 0 || rate > FM_CLIENT_RATE_MAX) {
        return rate_fail(text, reterr);
    }
    uint64_t unit_s = slash[1] == 's' ? 1 : slash[1] == 'm' ? 60 : 3600;
    if (slash[2] == ':') {
        if (fm_parse_uint64(slash + 3, &burst) != 0 || burst == 0 || burst > FM_CLIENT_BURST_MAX) {
            return rate_fail(text, reterr);
        }
    } else {
        burst = rate / unit_s > 0 ? rate / unit_s : 1;
    }
    limit->interval_ns = unit_s * UINT64_C(1000000000) / rate;
    limit->burst_ns = limit->interval_ns * burst;
    return 0;
}

/* --- the hash --- */

static uint64_t rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

uint64_t fm_client_hash(const uint64_t seed[2], const struct fm_client_key *key)
{
    uint64_t v[4] = {seed[0] ^ UINT64_C(0x736f6d6570736575), seed[1] ^ UINT64_C(0x646f72616e646f6d),
                     seed[0] ^ UINT64_C(0x6c7967656e657261),
                     seed[1] ^ UINT64_C(0x7465646279746573)};
    /* The last word holds the length, as it would behind a message of whole words. */
    for (unsigned i = 0; i <= FM_CLIENT_KEY_BYTES / 8; i++) {
        uint64_t word = (uint64_t)FM_CLIENT_KEY_BYTES << 56;
        if (i < FM_CLIENT_KEY_BYTES / 8) {
            memcpy(&word, key->bytes + (size_t)8 * i, 8);
        }
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (unsigned i = 0; i < 3; i++) {
        sip_round(v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* --- the table --- */

void fm_client_table_init(struct fm_client_table *table, uint32_t clients_max,
                          const uint64_t seed[2])
{
    FM_ASSERT(clients_max > 0 && (clients_max & (clients_max - 1)) == 0);
    *table = (struct fm_client_table){.clients_max = clients_max,
                                      .oldest = FM_CLIENT_NONE,
                                      .newest = FM_CLIENT_NONE,
                                      .seed = {seed[0], seed[1]}};
}

void fm_client_table_deinit(struct fm_client_table *table)
{
    fm_free(table->entries);
    fm_free(table->heads);
    *table = (struct fm_client_table){0};
}

static uint32_t *head_of(struct fm_client_table *table, const struct fm_client_key *key)
{
    return &table->heads[fm_client_hash(table->seed, key) & (table->capacity - 1)];
}

static void order_remove(struct fm_client_table *table, uint32_t index)
{
    const struct fm_client_entry *entry = &table->entries[index];
    *(entry->older != FM_CLIENT_NONE ? &table->entries[entry->older].newer : &table->oldest) =
        entry->newer;
    *(entry->newer != FM_CLIENT_NONE ? &table->entries[entry->newer].older : &table->newest) =
        entry->older;
}

static void order_append(struct fm_client_table *table, uint32_t index)
{
    struct fm_client_entry *entry = &table->entries[index];
    entry->older = table->newest;
    entry->newer = FM_CLIENT_NONE;
    *(table->newest != FM_CLIENT_NONE ? &table->entries[table->newest].newer : &table->oldest) =
        index;
    table->newest = index;
}

/* False: no memory; everything is as it was. */
static bool grow(struct fm_client_table *table)
{
    uint32_t capacity = table->capacity > 0 ? table->capacity * 2 : CAPACITY_MIN;
    capacity = capacity < table->clients_max ? capacity : table->clients_max;
    struct fm_client_entry *entries = fm_realloc(table->entries, capacity * sizeof *table->entries);
    table->entries = entries != NULL ? entries : table->entries;
    uint32_t *heads = entries != NULL ? fm_alloc(capacity * sizeof *heads) : NULL;
    if (heads == NULL) {
        return false;
    }
    fm_free(table->heads);
    table->heads = heads;
    table->capacity = capacity;
    memset(heads, 0xff, capacity * sizeof *heads);
    for (uint32_t i = 0; i < table->count; i++) {
        uint32_t *head = head_of(table, &entries[i].key);
        entries[i].next = *head;
        *head = i;
    }
    return true;
}

/* Takes the least recently seen client that may go out of the table. */
static uint32_t evict(struct fm_client_table *table)
{
    uint32_t index = table->oldest;
    while (index != FM_CLIENT_NONE && table->entries[index].in_flight > 0) {
        index = table->entries[index].newer;
    }
    if (index == FM_CLIENT_NONE) {
        return index;
    }
    uint32_t *place = head_of(table, &table->entries[index].key);
    while (*place != index) {
        place = &table->entries[*place].next;
    }
    *place = table->entries[index].next;
    order_remove(table, index);
    table->evicted++;
    return index;
}

uint32_t fm_client_table_find(struct fm_client_table *table, const struct fm_client_key *key,
                              uint64_t now_ns)
{
    bool crowded = false;
    uint32_t index = table->capacity > 0 ? *head_of(table, key) : FM_CLIENT_NONE;
    while (index != FM_CLIENT_NONE && memcmp(&table->entries[index].key, key, sizeof *key) != 0) {
        index = table->entries[index].next;
    }
    if (index != FM_CLIENT_NONE) {
        order_remove(table, index);
        order_append(table, index);
        return index;
    }
    if (table->count < table->capacity || (table->capacity < table->clients_max && grow(table))) {
        index = table->count++;
    } else {
        index = evict(table);
        if (index == FM_CLIENT_NONE) {
            return index;
        }
        crowded = table->entries[index].used_until_ns > now_ns;
    }
    uint32_t *head = head_of(table, key);
    table->entries[index] =
        (struct fm_client_entry){.key = *key, .next = *head, .crowded = crowded};
    *head = index;
    order_append(table, index);
    return index;
}

bool fm_client_table_take(struct fm_client_table *table, uint32_t index,
                          const struct fm_client_limit *limit, uint64_t now_ns,
                          uint64_t *ret_wait_ns)
{
    struct fm_client_entry *entry = &table->entries[index];
    if (limit->interval_ns == 0) {
        return true;
    }
    FM_ASSERT(limit->burst_ns >= limit->interval_ns);
    if (entry->crowded) {
        entry->crowded = false;
        entry->used_until_ns = now_ns + limit->burst_ns - limit->interval_ns;
    }
    uint64_t used = entry->used_until_ns > now_ns ? entry->used_until_ns : now_ns;
    /* A limit that became smaller does not make anybody wait for what was used under the old one.
     */
    used = used < now_ns + limit->burst_ns ? used : now_ns + limit->burst_ns;
    if (used + limit->interval_ns > now_ns + limit->burst_ns) {
        *ret_wait_ns = used + limit->interval_ns - now_ns - limit->burst_ns;
        return false;
    }
    entry->used_until_ns = used + limit->interval_ns;
    return true;
}

bool fm_client_table_enter(struct fm_client_table *table, uint32_t index,
                           const struct fm_client_limit *limit)
{
    struct fm_client_entry *entry = &table->entries[index];
    if (limit->in_flight_max > 0 && entry->in_flight >= limit->in_flight_max) {
        return false;
    }
    entry->in_flight++;
    return true;
}

void fm_client_table_leave(struct fm_client_table *table, uint32_t index)
{
    FM_ASSERT(index < table->count && table->entries[index].in_flight > 0);
    table->entries[index].in_flight--;
}

bool fm_client_table_note(struct fm_client_table *table, uint32_t index, uint64_t now_ns,
                          uint64_t interval_ns)
{
    struct fm_client_entry *entry = &table->entries[index];
    if (entry->noted_ns != 0 && now_ns < entry->noted_ns + interval_ns) {
        return false;
    }
    entry->noted_ns = now_ns;
    return true;
}
