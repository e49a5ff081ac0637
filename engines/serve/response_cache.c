/*
 * Answers by the content of their questions. See response_cache.h.
 */
#include "engines/serve/response_cache.h"

#include <stdatomic.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/thread.h"

#define ALIGNMENT 64u
/* What the allocator and the buffer's own head take, about. */
#define ENTRY_OVERHEAD 192u
/* One bucket for so many bytes: entries are hardly smaller. */
#define BUCKET_BYTES 1024u

/* A tensor of an entry; its shape stands behind all of these. */
struct stored {
    uint32_t dtype; /* INVALID: this output is not there */
    uint32_t rank;
    uint64_t size;
};

struct entry {
    struct fm_lru_entry lru; /* first: it is what the shard knows */
    struct fm_buffer *buffer;
    uint32_t output_count;
    struct stored outputs[];
};

/* On cache lines of its own. */
struct shard {
    _Alignas(64) struct fm_mutex mutex;
    struct fm_lru lru;
    uint64_t inserted;
    uint64_t evicted;
};

struct fm_response_cache {
    struct shard *shards;
    uint32_t shard_count;
    uint64_t entry_bytes_max;
    _Atomic uint64_t too_large;
    _Atomic uint64_t no_memory;
};

/* --- life --------------------------------------------------------------------------------------
 */

/* Entries that are in no shard any more, linked by `chain`. */
static void entries_free(struct fm_lru_entry *list)
{
    while (list != NULL) {
        struct fm_lru_entry *next = list->chain;
        struct entry *entry = (struct entry *)list;
        fm_buffer_unref(entry->buffer);
        fm_free(entry);
        list = next;
    }
}

int fm_response_cache_create(uint64_t bytes_max, struct fm_response_cache **ret_cache,
                             struct fm_error *reterr)
{
    FM_ASSERT(bytes_max >= FM_RESPONSE_CACHE_BYTES_MIN);
    struct fm_response_cache *cache = fm_alloc_zero(1, sizeof *cache);
    uint32_t count = 1;
    while (count < FM_RESPONSE_CACHE_SHARDS_MAX &&
           bytes_max / (2 * count) >= FM_RESPONSE_CACHE_SHARD_BYTES) {
        count *= 2;
    }
    uint64_t shard_bytes = bytes_max / count;
    int status = cache != NULL ? 0 : FM_ENOMEM;
    if (status == 0) {
        cache->entry_bytes_max = shard_bytes / 2 < FM_RESPONSE_CACHE_ENTRY_BYTES_MAX
                                     ? shard_bytes / 2
                                     : FM_RESPONSE_CACHE_ENTRY_BYTES_MAX;
        /* For tensors, and so aligned to a line. */
        cache->shards = fm_alloc_tensor(count * sizeof *cache->shards);
        status = cache->shards != NULL ? 0 : FM_ENOMEM;
    }
    for (uint32_t i = 0; i < count && status == 0; i++) {
        struct shard *shard = &cache->shards[i];
        memset(shard, 0, sizeof *shard);
        fm_mutex_init(&shard->mutex);
        cache->shard_count++;
        status = fm_lru_init(&shard->lru, shard_bytes, shard_bytes / BUCKET_BYTES);
    }
    if (status != 0) {
        fm_response_cache_destroy(cache);
        return fm_error_set(reterr, status, "out of memory for the response cache");
    }
    *ret_cache = cache;
    return 0;
}

void fm_response_cache_destroy(struct fm_response_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    for (uint32_t i = 0; i < cache->shard_count; i++) {
        entries_free(fm_lru_deinit(&cache->shards[i].lru));
        fm_mutex_deinit(&cache->shards[i].mutex);
    }
    fm_free(cache->shards);
    fm_free(cache);
}

/* --- keys --------------------------------------------------------------------------------------
 */

/* Small pieces on their way to the digest, which is fed with large ones. */
struct feed {
    struct fm_digester *digester;
    int status;
    size_t length;
    uint8_t bytes[512];
};

static void feed_flush(struct feed *feed)
{
    if (feed->status == 0) {
        feed->status = fm_sha256_add(feed->digester, feed->bytes, feed->length);
    }
    feed->length = 0;
}

static void feed_add(struct feed *feed, const void *data, size_t size)
{
    if (size > sizeof feed->bytes - feed->length) {
        feed_flush(feed);
    }
    if (size <= sizeof feed->bytes) {
        if (size > 0) {
            memcpy(feed->bytes + feed->length, data, size);
        }
        feed->length += size;
    } else if (feed->status == 0) {
        feed->status = fm_sha256_add(feed->digester, data, size);
    }
}

static void feed_uint(struct feed *feed, uint64_t value)
{
    feed_add(feed, &value, sizeof value);
}

/* Every number has one width and every size stands in front of its bytes, so that no two requests
 * feed the same bytes. */
int fm_response_key_make(struct fm_digester *digester, uint64_t load,
                         const struct fm_oip_request *request, const bool *wanted,
                         uint32_t output_count, struct fm_lru_key *ret_key)
{
    struct feed feed = {.digester = digester, .status = fm_sha256_begin(digester)};
    feed_uint(&feed, load);
    feed_uint(&feed, output_count);
    for (uint32_t i = 0; i < output_count; i++) {
        const uint8_t is = wanted == NULL || wanted[i];
        feed_add(&feed, &is, 1);
    }
    feed_uint(&feed, request->input_count);
    for (uint32_t i = 0; i < request->input_count; i++) {
        const struct fm_tensor *tensor = &request->inputs[i].tensor;
        feed_uint(&feed, (uint64_t)tensor->dtype << 32 | tensor->rank);
        feed_add(&feed, tensor->shape, tensor->rank * sizeof tensor->shape[0]);
        feed_uint(&feed, tensor->size);
        feed_add(&feed, tensor->data, tensor->size);
    }
    feed_flush(&feed);
    _Static_assert(sizeof ret_key->words == FM_SHA256_BYTES, "the whole digest");
    uint8_t digest[FM_SHA256_BYTES];
    int status = feed.status != 0 ? feed.status : fm_sha256_end(digester, digest);
    if (status == 0) {
        memcpy(ret_key->words, digest, sizeof digest);
    }
    return status;
}

static struct shard *shard_of(struct fm_response_cache *cache, const struct fm_lru_key *key)
{
    return &cache->shards[key->words[3] & (cache->shard_count - 1)];
}

/* --- what is kept ------------------------------------------------------------------------------
 */

static size_t aligned(size_t size)
{
    return (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

bool fm_response_cache_find(struct fm_response_cache *cache, const struct fm_lru_key *key,
                            struct fm_value *outputs, uint32_t output_count)
{
    struct shard *shard = shard_of(cache, key);
    fm_mutex_lock(&shard->mutex);
    const struct entry *entry = (const struct entry *)fm_lru_find(&shard->lru, key);
    if (entry != NULL) {
        FM_ASSERT(entry->output_count == output_count);
        const int64_t *shape = (const void *)(entry->outputs + output_count);
        char *data = fm_buffer_data(entry->buffer);
        for (uint32_t i = 0; i < output_count; i++) {
            const struct stored *stored = &entry->outputs[i];
            if (stored->dtype == FM_DTYPE_INVALID) {
                continue;
            }
            struct fm_tensor *tensor = &outputs[i].tensor;
            tensor->dtype = stored->dtype;
            tensor->rank = stored->rank;
            memcpy(tensor->shape, shape, stored->rank * sizeof *shape);
            tensor->data = data;
            tensor->size = (size_t)stored->size;
            outputs[i].buffer = fm_buffer_ref(entry->buffer);
            shape += stored->rank;
            data += aligned((size_t)stored->size);
        }
    }
    fm_mutex_unlock(&shard->mutex);
    return entry != NULL;
}

/* A copy of the outputs; NULL: too large, or no memory. */
static struct entry *entry_create(struct fm_response_cache *cache, const struct fm_lru_key *key,
                                  const struct fm_value *outputs, uint32_t output_count)
{
    size_t head = sizeof(struct entry) + output_count * sizeof(struct stored);
    uint64_t data_size = 0;
    for (uint32_t i = 0; i < output_count; i++) {
        const struct fm_tensor *tensor = &outputs[i].tensor;
        head += tensor->rank * sizeof tensor->shape[0];
        /* Sizes are of tensors that exist: their sum does not overflow. */
        data_size += aligned(tensor->size);
    }
    uint64_t bytes = head + data_size + ENTRY_OVERHEAD;
    if (bytes > cache->entry_bytes_max) {
        atomic_fetch_add_explicit(&cache->too_large, 1, memory_order_relaxed);
        return NULL;
    }
    struct entry *entry = fm_alloc(head);
    struct fm_buffer *buffer = entry != NULL ? fm_buffer_create((size_t)data_size) : NULL;
    if (buffer == NULL) {
        fm_free(entry);
        atomic_fetch_add_explicit(&cache->no_memory, 1, memory_order_relaxed);
        return NULL;
    }
    *entry = (struct entry){
        .lru = {.key = *key, .bytes = bytes}, .buffer = buffer, .output_count = output_count};
    int64_t *shape = (void *)(entry->outputs + output_count);
    char *data = fm_buffer_data(buffer);
    for (uint32_t i = 0; i < output_count; i++) {
        const struct fm_tensor *tensor = &outputs[i].tensor;
        entry->outputs[i] =
            (struct stored){.dtype = tensor->dtype, .rank = tensor->rank, .size = tensor->size};
        memcpy(shape, tensor->shape, tensor->rank * sizeof *shape);
        if (tensor->size > 0) {
            memcpy(data, tensor->data, tensor->size);
        }
        shape += tensor->rank;
        data += aligned(tensor->size);
    }
    return entry;
}

void fm_response_cache_put(struct fm_response_cache *cache, const struct fm_lru_key *key,
                           const struct fm_value *outputs, uint32_t output_count)
{
    struct shard *shard = shard_of(cache, key);
    struct entry *entry = entry_create(cache, key, outputs, output_count);
    if (entry == NULL) {
        return;
    }
    struct fm_lru_entry *gone = &entry->lru; /* if it is in already */
    fm_mutex_lock(&shard->mutex);
    if (fm_lru_find(&shard->lru, key) == NULL) {
        gone = fm_lru_insert(&shard->lru, &entry->lru);
        shard->inserted++;
        for (const struct fm_lru_entry *of = gone; of != NULL; of = of->chain) {
            shard->evicted++;
        }
    } else {
        entry->lru.chain = NULL;
    }
    fm_mutex_unlock(&shard->mutex);
    entries_free(gone);
}

void fm_response_cache_stats(struct fm_response_cache *cache,
                             struct fm_response_cache_stats *ret_stats)
{
    *ret_stats = (struct fm_response_cache_stats){
        .too_large = atomic_load_explicit(&cache->too_large, memory_order_relaxed),
        .no_memory = atomic_load_explicit(&cache->no_memory, memory_order_relaxed)};
    for (uint32_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shards[i];
        fm_mutex_lock(&shard->mutex);
        ret_stats->bytes += shard->lru.bytes;
        ret_stats->bytes_max += shard->lru.bytes_max;
        ret_stats->entries += shard->lru.count;
        ret_stats->inserted += shard->inserted;
        ret_stats->evicted += shard->evicted;
        fm_mutex_unlock(&shard->mutex);
    }
}
