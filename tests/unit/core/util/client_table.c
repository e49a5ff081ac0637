/*
 * Clients and their shares: rates against a naive model, the table at its maximum.
 */
#include "core/util/client_table.h"

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

#define SECOND UINT64_C(1000000000)
#define START  (UINT64_C(1000) * SECOND)

static const uint64_t seed[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};

static struct fm_client_key key_of(uint32_t number)
{
    struct fm_client_key key = {{0}};
    memcpy(key.bytes, &number, sizeof number);
    return key;
}

TEST(rates_as_text)
{
    static const char *const wrong[] = {"",      "5",     "/s",          "0/s",
                                        "5/",    "5/d",   "5/s:",        "5/s:0",
                                        "5/s:x", "-1/s",  "1000001/s",   " 5/s",
                                        "5/sec", "1.5/s", "5/s:1000001", "12345678901234567890/s"};
    struct fm_client_limit limit = {.in_flight_max = 3};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_client_rate_parse("100/s", &limit, &error), 0);
    CHECK_INT_EQ(limit.interval_ns, 10000000);
    CHECK_INT_EQ(limit.burst_ns, SECOND);
    CHECK_INT_EQ(fm_client_rate_parse("100/s:300", &limit, &error), 0);
    CHECK_INT_EQ(limit.burst_ns, 3 * SECOND);
    CHECK_INT_EQ(fm_client_rate_parse("30/m", &limit, &error), 0);
    CHECK_INT_EQ(limit.interval_ns, 2 * SECOND);
    CHECK_INT_EQ(limit.burst_ns, 2 * SECOND);
    CHECK_INT_EQ(fm_client_rate_parse("1/h:2", &limit, &error), 0);
    CHECK_INT_EQ(limit.interval_ns, 3600 * SECOND);
    CHECK_INT_EQ(limit.in_flight_max, 3);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_INT_EQ(fm_client_rate_parse(wrong[i], &limit, &error), FM_EINVAL);
    }
    CHECK_STR_CONTAINS(error.text, "is no rate");
}

/* A bucket that fills with time and never beyond the burst. */
TEST(a_rate_is_a_token_bucket)
{
    for (uint64_t run = 1; run <= 50; run++) {
        struct fm_random random;
        fm_random_init(&random, run);
        struct fm_client_table table;
        uint64_t interval = 1 + fm_random_below(&random, 1000);
        uint64_t burst = 1 + fm_random_below(&random, 20);
        const struct fm_client_limit limit = {interval, interval * burst, 0};
        const struct fm_client_key key = key_of(1);
        uint64_t now = START;
        uint64_t filled = burst * interval; /* in units of 1 / interval of a request */
        fm_client_table_init(&table, 16, seed);
        for (uint32_t i = 0; i < 2000; i++) {
            uint64_t step = fm_random_below(&random, 2 * interval);
            uint64_t wait = 0;
            now += step;
            filled = filled + step < burst * interval ? filled + step : burst * interval;
            uint32_t index = fm_client_table_find(&table, &key, now);
            bool good = fm_client_table_take(&table, index, &limit, now, &wait);
            CHECK_INT_EQ(good, filled >= interval);
            if (good) {
                filled -= interval;
            } else {
                CHECK_INT_EQ(wait, interval - filled);
            }
        }
        fm_client_table_deinit(&table);
    }
}

TEST(the_least_recent_goes_and_its_successor_gains_nothing)
{
    struct fm_client_table table;
    const struct fm_client_limit limit = {SECOND, 5 * SECOND, 1};
    uint64_t wait = 0;
    fm_client_table_init(&table, 64, seed);
    for (uint32_t i = 0; i < 64; i++) {
        struct fm_client_key key = key_of(i);
        CHECK(fm_client_table_take(&table, fm_client_table_find(&table, &key, START), &limit, START,
                                   &wait));
    }
    struct fm_client_key first = key_of(0);
    struct fm_client_key fresh = key_of(1000);
    (void)fm_client_table_find(&table, &first, START);
    uint32_t index = fm_client_table_find(&table, &fresh, START);
    CHECK_INT_EQ(table.count, 64);
    CHECK_INT_EQ(table.evicted, 1);
    CHECK(fm_client_table_take(&table, index, &limit, START, &wait));
    CHECK(!fm_client_table_take(&table, index, &limit, START, &wait));
    /* 0 was just seen, so 1 went: it is new again, and what it owed is not forgiven. */
    CHECK_INT_EQ(fm_client_table_find(&table, &first, START), 0);
    struct fm_client_key second = key_of(1);
    index = fm_client_table_find(&table, &second, START);
    CHECK_INT_EQ(table.evicted, 2);
    CHECK(fm_client_table_take(&table, index, &limit, START, &wait));
    CHECK(!fm_client_table_take(&table, index, &limit, START, &wait));
    /* Once everybody's share has filled again, a newcomer has a whole burst. */
    struct fm_client_key late = key_of(2000);
    index = fm_client_table_find(&table, &late, START + 60 * SECOND);
    for (uint32_t i = 0; i < 5; i++) {
        CHECK(fm_client_table_take(&table, index, &limit, START + 60 * SECOND, &wait));
    }
    CHECK(!fm_client_table_take(&table, index, &limit, START + 60 * SECOND, &wait));
    fm_client_table_deinit(&table);
}

TEST(whoever_has_requests_in_flight_stays)
{
    struct fm_client_table table;
    const struct fm_client_limit limit = {0, 0, 2};
    fm_client_table_init(&table, 16, seed);
    for (uint32_t i = 0; i < 16; i++) {
        struct fm_client_key key = key_of(i);
        uint32_t index = fm_client_table_find(&table, &key, START);
        CHECK(fm_client_table_enter(&table, index, &limit));
        CHECK(fm_client_table_enter(&table, index, &limit));
        CHECK(!fm_client_table_enter(&table, index, &limit));
    }
    struct fm_client_key fresh = key_of(99);
    CHECK_INT_EQ(fm_client_table_find(&table, &fresh, START), FM_CLIENT_NONE);
    struct fm_client_key seventh = key_of(7);
    uint32_t index = fm_client_table_find(&table, &seventh, START);
    fm_client_table_leave(&table, index);
    CHECK_INT_EQ(fm_client_table_find(&table, &fresh, START), FM_CLIENT_NONE);
    fm_client_table_leave(&table, index);
    CHECK_INT_EQ(fm_client_table_find(&table, &fresh, START), index);
    fm_client_table_deinit(&table);
}

TEST(what_is_said_about_a_client_is_said_once_in_a_while)
{
    struct fm_client_table table;
    struct fm_client_key key = key_of(1);
    fm_client_table_init(&table, 16, seed);
    uint32_t index = fm_client_table_find(&table, &key, START);
    CHECK(fm_client_table_note(&table, index, START, SECOND));
    CHECK(!fm_client_table_note(&table, index, START + SECOND - 1, SECOND));
    CHECK(fm_client_table_note(&table, index, START + SECOND, SECOND));
    fm_client_table_deinit(&table);
}

TEST(memory_may_end_anywhere)
{
    for (uint64_t nth = 1; nth < 8; nth++) {
        struct fm_client_table table;
        fm_client_table_init(&table, 64, seed);
        (void)fm_memory_fail_at(nth, 1);
        for (uint32_t i = 0; i < 100; i++) {
            struct fm_client_key key = key_of(i);
            uint32_t index = fm_client_table_find(&table, &key, START);
            CHECK(index == FM_CLIENT_NONE ? nth <= 2 : index < table.count);
        }
        (void)fm_memory_fail_at(0, 0);
        fm_client_table_deinit(&table);
    }
}

TEST(the_hash_depends_on_the_seed)
{
    struct fm_client_key key = key_of(1);
    const uint64_t other[2] = {1, 2};
    CHECK(fm_client_hash(seed, &key) == fm_client_hash(seed, &key));
    CHECK(fm_client_hash(seed, &key) != fm_client_hash(other, &key));
    /* SipHash-1-3 of the bytes 0 to 23 under the key 0 to 15. */
    for (uint8_t i = 0; i < FM_CLIENT_KEY_BYTES; i++) {
        key.bytes[i] = i;
    }
    CHECK_INT_EQ((int64_t)fm_client_hash(seed, &key), (int64_t)UINT64_C(0xf464aeb267349c8c));
}

TEST_MAIN()
