/*
 * What clients have used of what they may: a rate and a number of requests at once for each, in a
 * table that does not grow beyond a maximum.
 *
 * Owns: the table, the arithmetic. Does not own: who a client is (the caller makes keys), time
 * (passed in), what a refusal looks like. Thread rule: caller's memory and lock; pure.
 *
 * HOW IT WORKS. A rate is kept as one time for each client: up to when it has used its share. Each
 * request moves that time on by one interval; a request is refused when the time would lie more
 * than the burst ahead of now. The least recently seen client makes room for a new one, but never
 * one that has requests in flight. One that has used its share up to now or less loses nothing by
 * that. When a client that still owes goes, its successor begins with one request instead of a
 * whole burst, so that many addresses together gain nothing by pushing each other out.
 */
#ifndef FM_CORE_UTIL_CLIENT_TABLE_H
#define FM_CORE_UTIL_CLIENT_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_CLIENT_KEY_BYTES 24u
#define FM_CLIENT_NONE      UINT32_MAX
#define FM_CLIENT_RATE_MAX  1000000u /* requests per second, or minute, or hour */
#define FM_CLIENT_BURST_MAX 1000000u

struct fm_client_key {
    uint8_t bytes[FM_CLIENT_KEY_BYTES];
};

struct fm_client_limit {
    uint64_t interval_ns;   /* between two requests, on average; 0: no limit */
    uint64_t burst_ns;      /* so many intervals at once */
    uint32_t in_flight_max; /* 0: no limit */
};

/* "100/s", "100/s:300", also "/m" and "/h"; behind the colon the burst (without it, one second's
 * worth, at least 1). Leaves in_flight_max alone. FM_EINVAL. */
int FM_NODISCARD fm_client_rate_parse(const char *text, struct fm_client_limit *limit,
                                      struct fm_error *reterr);

struct fm_client_entry {
    struct fm_client_key key;
    uint64_t used_until_ns;
    uint64_t noted_ns; /* 0: never */
    uint32_t in_flight;
    uint32_t next; /* with the same hash */
    uint32_t older;
    uint32_t newer;
    bool crowded; /* pushed out one that owed */
};

struct fm_client_table {
    struct fm_client_entry *entries;
    uint32_t *heads; /* capacity of them */
    uint32_t count;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t clients_max;
    uint32_t oldest;
    uint32_t newest;
    uint64_t seed[2];
    uint64_t evicted;
};

/* A hash that strangers cannot foresee without the seed (SipHash-1-3). */
uint64_t fm_client_hash(const uint64_t seed[2], const struct fm_client_key *key);

/* clients_max: a power of two. */
void fm_client_table_init(struct fm_client_table *table, uint32_t clients_max,
                          const uint64_t seed[2]);
void fm_client_table_deinit(struct fm_client_table *table);

/* The client's index, valid until another find. FM_CLIENT_NONE: everybody in the table has requests
 * in flight, or there is no memory. */
uint32_t fm_client_table_find(struct fm_client_table *table, const struct fm_client_key *key,
                              uint64_t now_ns);
/* True: the request may go on, and was counted. False: after *ret_wait_ns it may be tried again. */
bool fm_client_table_take(struct fm_client_table *table, uint32_t index,
                          const struct fm_client_limit *limit, uint64_t now_ns,
                          uint64_t *ret_wait_ns);
/* One more at once. While there are some the index stays valid; each is given back once. */
bool fm_client_table_enter(struct fm_client_table *table, uint32_t index,
                           const struct fm_client_limit *limit);
void fm_client_table_leave(struct fm_client_table *table, uint32_t index);
/* Whether something about the client is to be said: once in interval_ns. */
bool fm_client_table_note(struct fm_client_table *table, uint32_t index, uint64_t now_ns,
                          uint64_t interval_ns);

#endif
