/*
 * The response cache: what a model answered, by the content of the question.
 *
 * Owns: the outputs that it keeps, as copies of its own (a view into a batch's outputs would hold
 * the whole batch in memory), within a bound of bytes; the keys' making. Does not own: which
 * models may be cached, and what becomes of a hit (inference.c). Thread rule: find and put on any
 * thread; a digester belongs to one.
 *
 * HOW IT WORKS. A key is the SHA-256 digest of the copy of the model that is loaded (a number that
 * no other load has, so that nothing outlives a reload), of the outputs that are asked for, and of
 * all inputs: types, shapes, bytes. Two questions with one key are one question: nobody can make
 * two that collide, which a shorter or a faster hash could not promise of strangers' requests.
 * What is kept is what the model gave: how an answer is written (JSON, binary, protobuf, classes,
 * shared memory) is not of the question.
 *
 * The cache is cut into shards by the key, each with a lock, an order by age and its part of the
 * bytes: requests of several loops seldom meet, and when they do, for the length of a lookup. One
 * cache for each loop would need no lock, but hold the same answers several times and find each
 * only where it was computed.
 *
 * Equal questions that come while the first is being computed are computed too: they are mostly in
 * the same batch, none has to wait for the fate of another (its deadline, its client, its error),
 * and the first answer that is put in stays.
 */
#ifndef FM_ENGINES_SERVE_RESPONSE_CACHE_H
#define FM_ENGINES_SERVE_RESPONSE_CACHE_H

#include "core/proto/oip.h"
#include "core/util/lru.h"
#include "engines/serve/serve.h"
#include "host/net/digest.h"

#define FM_RESPONSE_CACHE_SHARDS_MAX 16u
/* A shard is not cut smaller than this, and an answer takes at most half of one: */
#define FM_RESPONSE_CACHE_SHARD_BYTES (UINT64_C(4) << 20)
/* ... and never more than what a loop can copy in a few milliseconds. */
#define FM_RESPONSE_CACHE_ENTRY_BYTES_MAX (UINT64_C(16) << 20)
/* Less is of no use. */
#define FM_RESPONSE_CACHE_BYTES_MIN FM_SERVE_RESPONSE_CACHE_MIN

struct fm_response_cache;

/* bytes_max: at least FM_RESPONSE_CACHE_BYTES_MIN; memory for entries, their tables not counted
 * (8 bytes for each KiB). FM_ENOMEM. */
int FM_NODISCARD fm_response_cache_create(uint64_t bytes_max, struct fm_response_cache **ret_cache,
                                          struct fm_error *reterr);
/* Outputs that were found and are still held stay valid. Accepts NULL. */
void fm_response_cache_destroy(struct fm_response_cache *cache);

/* The question: `load` is the number of the loaded copy; `wanted` by output, NULL: all. FM_ENOMEM.
 */
int FM_NODISCARD fm_response_key_make(struct fm_digester *digester, uint64_t load,
                                      const struct fm_oip_request *request, const bool *wanted,
                                      uint32_t output_count, struct fm_lru_key *ret_key);

/* True: outputs[output_count], which were zeroed, are references to what is kept. */
bool fm_response_cache_find(struct fm_response_cache *cache, const struct fm_lru_key *key,
                            struct fm_value *outputs, uint32_t output_count);
/* Keeps a copy of the outputs, unless they are too large, are in already, or there is no memory. */
void fm_response_cache_put(struct fm_response_cache *cache, const struct fm_lru_key *key,
                           const struct fm_value *outputs, uint32_t output_count);

struct fm_response_cache_stats {
    uint64_t bytes;
    uint64_t bytes_max;
    uint64_t entries;
    uint64_t inserted;  /* ever */
    uint64_t evicted;   /* of those: made room for others */
    uint64_t too_large; /* answers that were not kept for it */
    uint64_t no_memory; /* likewise */
};
void fm_response_cache_stats(struct fm_response_cache *cache,
                             struct fm_response_cache_stats *ret_stats);

#endif
