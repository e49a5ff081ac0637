/*
 * The response cache: what is a question of its own, what comes back, the bound, and what happens
 * without memory.
 */
#include "engines/serve/response_cache.h"

#include <stdatomic.h>

#include "core/util/memory.h"
#include "core/util/random.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

static struct fm_digester *digester;
static atomic_uint wrong; /* what helpers found, on any thread; each test looks at the end */

static void expect(bool holds)
{
    if (!holds) {
        atomic_fetch_add(&wrong, 1);
    }
}

static struct fm_lru_key key_make(uint64_t load, struct fm_value *inputs, uint32_t input_count,
                                  const bool *wanted, uint32_t output_count)
{
    const struct fm_oip_request request = {.inputs = inputs, .input_count = input_count};
    struct fm_lru_key key;
    digester = digester != NULL ? digester : fm_digester_create();
    expect(digester != NULL);
    expect(fm_response_key_make(digester, load, &request, wanted, output_count, &key) == 0);
    return key;
}

static struct fm_value tensor(uint32_t dtype, int64_t rows, int64_t columns, void *data,
                              size_t size)
{
    return (struct fm_value){
        .tensor = {
            .dtype = dtype, .rank = 2, .shape = {rows, columns}, .data = data, .size = size}};
}

TEST(what_makes_a_question)
{
    char zeros[4096] = {0};
    char other[4096] = {0};
    other[4095] = 1;
    const bool first[] = {true, false};
    const bool second[] = {false, true};
    const bool both[] = {true, true};
    struct fm_lru_key keys[16];
    struct fm_value inputs[2] = {tensor(FM_DTYPE_UINT8, 1, 4096, zeros, 4096)};
    size_t count = 0;
    keys[count++] = key_make(1, inputs, 1, NULL, 2);
    keys[count++] = key_make(2, inputs, 1, NULL, 2);
    keys[count++] = key_make(1, inputs, 1, first, 2);
    keys[count++] = key_make(1, inputs, 1, second, 2);
    keys[count++] = key_make(1, inputs, 2, NULL, 2); /* the second one is absent */
    inputs[1] = tensor(FM_DTYPE_UINT8, 1, 0, NULL, 0);
    keys[count++] = key_make(1, inputs, 2, NULL, 2); /* ... or empty */
    inputs[0] = tensor(FM_DTYPE_UINT8, 2, 2048, zeros, 4096);
    keys[count++] = key_make(1, inputs, 1, NULL, 2);
    inputs[0] = tensor(FM_DTYPE_INT8, 1, 4096, zeros, 4096);
    keys[count++] = key_make(1, inputs, 1, NULL, 2);
    inputs[0] = tensor(FM_DTYPE_UINT8, 1, 4096, other, 4096);
    keys[count++] = key_make(1, inputs, 1, NULL, 2);
    inputs[0] = tensor(FM_DTYPE_UINT8, 1, 4095, zeros, 4095);
    keys[count++] = key_make(1, inputs, 1, NULL, 2);
    /* The same bytes, cut elsewhere. */
    inputs[0] = tensor(FM_DTYPE_UINT8, 1, 8, zeros, 8);
    inputs[1] = tensor(FM_DTYPE_UINT8, 1, 16, zeros, 16);
    keys[count++] = key_make(1, inputs, 2, NULL, 2);
    inputs[0] = tensor(FM_DTYPE_UINT8, 1, 16, zeros, 16);
    inputs[1] = tensor(FM_DTYPE_UINT8, 1, 8, zeros, 8);
    keys[count++] = key_make(1, inputs, 2, NULL, 2);
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < i; k++) {
            CHECK(memcmp(&keys[i], &keys[k], sizeof keys[0]) != 0);
        }
    }
    inputs[0] = tensor(FM_DTYPE_UINT8, 1, 4096, zeros, 4096);
    struct fm_lru_key again = key_make(1, inputs, 1, both, 2);
    CHECK_MEM_EQ(&again, &keys[0], sizeof again);
    CHECK_UINT_EQ(atomic_load(&wrong), 0);
}

static struct fm_lru_key key_of(uint64_t number)
{
    struct fm_value input = tensor(FM_DTYPE_UINT64, 1, 1, &number, sizeof number);
    return key_make(1, &input, 1, NULL, 2);
}

/* Outputs that follow from the number: rows of bytes, and a scalar. */
static void outputs_make(uint64_t number, size_t size, unsigned char *bytes,
                         struct fm_value outputs[2])
{
    memset(bytes, (int)(number % 251), size);
    outputs[0] = tensor(FM_DTYPE_UINT8, 1, (int64_t)size, bytes, size);
    outputs[1] = (struct fm_value){
        .tensor = {.dtype = FM_DTYPE_UINT8, .rank = 0, .data = bytes, .size = size > 0 ? 1 : 0}};
}

static void put(struct fm_response_cache *cache, uint64_t number, size_t size)
{
    struct fm_value outputs[2];
    unsigned char *bytes = fm_alloc(size + 1);
    CHECK(bytes != NULL);
    outputs_make(number, size, bytes, outputs);
    const struct fm_lru_key key = key_of(number);
    fm_response_cache_put(cache, &key, outputs, 2);
    fm_free(bytes);
}

/* Whether it is in; then it is right. */
static bool has(struct fm_response_cache *cache, uint64_t number, size_t size)
{
    struct fm_value outputs[2] = {0};
    const struct fm_lru_key key = key_of(number);
    if (!fm_response_cache_find(cache, &key, outputs, 2)) {
        expect(outputs[0].buffer == NULL);
        return false;
    }
    const struct fm_tensor *tensors[] = {&outputs[0].tensor, &outputs[1].tensor};
    expect(tensors[0]->dtype == FM_DTYPE_UINT8 && tensors[0]->rank == 2);
    expect(tensors[0]->shape[1] == (int64_t)size && tensors[0]->size == size);
    expect(tensors[1]->rank == 0 && (uintptr_t)tensors[1]->data % 64 == 0);
    const unsigned char *bytes = tensors[0]->data;
    for (size_t i = 0; i < size; i++) {
        expect(bytes[i] == number % 251);
    }
    fm_value_unref(&outputs[0]);
    fm_value_unref(&outputs[1]);
    return true;
}

TEST(what_is_put_in_comes_out)
{
    struct fm_response_cache *cache = NULL;
    struct fm_response_cache_stats stats;
    CHECK_INT_EQ(fm_response_cache_create(UINT64_C(64) << 20, &cache, NULL), 0);
    CHECK(!has(cache, 1, 100));
    put(cache, 1, 100);
    put(cache, 2, 0);
    put(cache, 3, 1 << 20);
    put(cache, 1, 100); /* is in already */
    CHECK(has(cache, 1, 100) && has(cache, 2, 0) && has(cache, 3, 1 << 20));
    fm_response_cache_stats(cache, &stats);
    CHECK_UINT_EQ(stats.entries, 3);
    CHECK_UINT_EQ(stats.inserted, 3);
    CHECK(stats.bytes > (1 << 20) + 100 && stats.bytes < (1 << 20) + 4000);
    /* Whoever holds an answer keeps it beyond the cache. */
    struct fm_value outputs[2] = {0};
    const struct fm_lru_key key = key_of(1);
    CHECK(fm_response_cache_find(cache, &key, outputs, 2));
    fm_response_cache_destroy(cache);
    CHECK_UINT_EQ(((unsigned char *)outputs[0].tensor.data)[99], 1);
    fm_value_unref(&outputs[0]);
    fm_value_unref(&outputs[1]);
    CHECK_UINT_EQ(atomic_load(&wrong), 0);
}

TEST(an_output_that_nobody_wanted_stays_away)
{
    struct fm_response_cache *cache = NULL;
    CHECK_INT_EQ(fm_response_cache_create(FM_RESPONSE_CACHE_BYTES_MIN, &cache, NULL), 0);
    char bytes[4] = "abc";
    struct fm_value outputs[2] = {0};
    outputs[1] = tensor(FM_DTYPE_UINT8, 1, 4, bytes, 4);
    const struct fm_lru_key key = key_of(7);
    fm_response_cache_put(cache, &key, outputs, 2);
    struct fm_value found[2] = {0};
    CHECK(fm_response_cache_find(cache, &key, found, 2));
    CHECK_UINT_EQ(found[0].tensor.dtype, FM_DTYPE_INVALID);
    CHECK_PTR_EQ(found[0].buffer, NULL);
    CHECK_MEM_EQ(found[1].tensor.data, "abc", 4);
    fm_value_unref(&found[1]);
    fm_response_cache_destroy(cache);
}

TEST(the_bound_holds_and_the_oldest_go)
{
    struct fm_response_cache *cache = NULL;
    struct fm_response_cache_stats stats;
    enum { SIZE = 10000, COUNT = 1000 };
    CHECK_INT_EQ(fm_response_cache_create(FM_RESPONSE_CACHE_BYTES_MIN, &cache, NULL), 0);
    for (uint64_t i = 0; i < COUNT; i++) {
        put(cache, i, SIZE);
        CHECK(has(cache, 0, SIZE)); /* what is used stays */
        fm_response_cache_stats(cache, &stats);
        CHECK(stats.bytes <= FM_RESPONSE_CACHE_BYTES_MIN);
    }
    CHECK(has(cache, COUNT - 1, SIZE) && !has(cache, 1, SIZE));
    CHECK_UINT_EQ(stats.entries + stats.evicted, COUNT);
    CHECK(stats.entries > 90);
    put(cache, COUNT, FM_RESPONSE_CACHE_BYTES_MIN); /* more than half of it */
    fm_response_cache_stats(cache, &stats);
    CHECK_UINT_EQ(stats.too_large, 1);
    CHECK(has(cache, 0, SIZE) && !has(cache, COUNT, FM_RESPONSE_CACHE_BYTES_MIN));
    CHECK_UINT_EQ(atomic_load(&wrong), 0);
    fm_response_cache_destroy(cache);
}

TEST(without_memory_nothing_is_kept)
{
    for (uint64_t nth = 1;; nth++) {
        struct fm_response_cache *cache = NULL;
        struct fm_error error = {0};
        (void)fm_memory_fail_at(nth, 0);
        int status = fm_response_cache_create(UINT64_C(64) << 20, &cache, &error);
        (void)fm_memory_fail_at(0, 0);
        if (status == 0) {
            CHECK(nth > 3);
            fm_response_cache_destroy(cache);
            break;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
        CHECK_STR_CONTAINS(error.text, "out of memory");
    }
    struct fm_response_cache *cache = NULL;
    struct fm_response_cache_stats stats;
    CHECK_INT_EQ(fm_response_cache_create(FM_RESPONSE_CACHE_BYTES_MIN, &cache, NULL), 0);
    unsigned char bytes[8];
    struct fm_value outputs[2];
    outputs_make(5, sizeof bytes, bytes, outputs);
    const struct fm_lru_key key = key_of(5);
    for (uint64_t nth = 1; nth <= 2; nth++) {
        (void)fm_memory_fail_at(nth, 0);
        fm_response_cache_put(cache, &key, outputs, 2);
        (void)fm_memory_fail_at(0, 0);
        fm_response_cache_stats(cache, &stats);
        CHECK_UINT_EQ(stats.no_memory, nth);
        CHECK(!has(cache, 5, sizeof bytes));
    }
    put(cache, 5, sizeof bytes);
    CHECK(has(cache, 5, sizeof bytes));
    fm_response_cache_destroy(cache);
}

enum { THREADS = 4, ROUNDS = 4000, NUMBERS = 600 };

static struct fm_response_cache *shared;
static struct fm_lru_key shared_keys[NUMBERS];

static void use(void *argument)
{
    struct fm_random random;
    fm_random_init(&random, (uintptr_t)argument);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint64_t number = fm_random_below(&random, NUMBERS);
        unsigned char bytes[4096];
        struct fm_value outputs[2];
        struct fm_value found[2] = {0};
        if (fm_response_cache_find(shared, &shared_keys[number], found, 2)) {
            expect(((unsigned char *)found[0].tensor.data)[4095] == number % 251);
            fm_value_unref(&found[0]);
            fm_value_unref(&found[1]);
        } else {
            outputs_make(number, sizeof bytes, bytes, outputs);
            fm_response_cache_put(shared, &shared_keys[number], outputs, 2);
        }
    }
}

TEST(several_threads)
{
    struct fm_thread threads[THREADS];
    struct fm_response_cache_stats stats;
    for (uint64_t i = 0; i < NUMBERS; i++) {
        shared_keys[i] = key_of(i);
    }
    /* Too small for all: they come and go while others hold them. */
    CHECK_INT_EQ(fm_response_cache_create(FM_RESPONSE_CACHE_BYTES_MIN, &shared, NULL), 0);
    for (uintptr_t i = 0; i < THREADS; i++) {
        CHECK_INT_EQ(fm_thread_start(&threads[i], "test", use, (void *)(i + 1)), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        fm_thread_join(&threads[i]);
    }
    fm_response_cache_stats(shared, &stats);
    CHECK(stats.evicted > 0 && stats.bytes <= FM_RESPONSE_CACHE_BYTES_MIN);
    CHECK_UINT_EQ(stats.inserted, stats.entries + stats.evicted);
    CHECK_UINT_EQ(atomic_load(&wrong), 0);
    fm_response_cache_destroy(shared);
}

TEST_MAIN()
