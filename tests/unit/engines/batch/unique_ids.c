/*
 * Whether ids are different: against a naive comparison, in memory, in files, and a second time.
 */
#include "engines/batch/unique_ids.h"

#include <string.h>

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

enum { ROWS_MAX = 70000, FOUND_MAX = 64 };

static uint32_t numbers[ROWS_MAX];

static int feed(struct fm_unique_ids *ids, size_t count)
{
    int status = 0;
    for (size_t i = 0; i < count && status == 0; i++) {
        char id[32];
        int length = snprintf(id, sizeof(id), "id-%08u", numbers[i]);
        status = fm_unique_ids_add(ids, id, (size_t)length, i, NULL);
    }
    return status;
}

/* Feeds as often as it is wanted; the number of rows that were named. */
static int check(size_t count, size_t in_memory, uint64_t *rows, size_t *ret_found,
                 unsigned *ret_times)
{
    struct fm_unique_ids *ids = NULL;
    bool again = true;
    int status = fm_unique_ids_create(in_memory, &ids, NULL);
    *ret_times = 0;
    while (status == 0 && again) {
        ++*ret_times;
        status = feed(ids, count);
        status = status != 0 ? status
                             : fm_unique_ids_finish(ids, rows, FOUND_MAX, ret_found, &again, NULL);
    }
    fm_unique_ids_destroy(ids);
    return status;
}

TEST(ids_in_order_are_different)
{
    uint64_t rows[FOUND_MAX];
    size_t found = 1;
    unsigned times = 0;
    for (uint32_t i = 0; i < ROWS_MAX; i++) {
        numbers[i] = i;
    }
    for (size_t count = 0; count < 5; count++) {
        CHECK_INT_EQ(check(count, 1000, rows, &found, &times), 0);
        CHECK_UINT_EQ(found, 0);
    }
    CHECK_INT_EQ(check(ROWS_MAX, 1000, rows, &found, &times), 0);
    CHECK_UINT_EQ(found, 0);
    CHECK_UINT_EQ(times, 1);
}

TEST(twins_are_found_wherever_they_are)
{
    static const size_t memories[] = {ROWS_MAX, 50000, 1024, 100};
    uint64_t rows[FOUND_MAX];
    size_t found = 0;
    unsigned times = 0;
    struct fm_random random;
    fm_random_init(&random, 7);
    for (size_t m = 0; m < sizeof(memories) / sizeof(memories[0]); m++) {
        for (uint32_t i = 0; i < ROWS_MAX; i++) {
            numbers[i] = i * 2;
        }
        /* Ascending for long, then not, and one id twice. */
        uint64_t late = ROWS_MAX - 1 - fm_random_below(&random, 1000);
        uint64_t early = fm_random_below(&random, 60000);
        numbers[late] = numbers[early];
        CHECK_INT_EQ(check(ROWS_MAX, memories[m], rows, &found, &times), 0);
        CHECK_UINT_EQ(found, 2);
        CHECK_UINT_EQ(rows[0], early);
        CHECK_UINT_EQ(rows[1], late);
        CHECK_UINT_EQ(times, memories[m] == ROWS_MAX ? 1 : 2);
        /* The same without the twin: out of order, and all different. */
        numbers[late] = 1;
        CHECK_INT_EQ(check(ROWS_MAX, memories[m], rows, &found, &times), 0);
        CHECK_UINT_EQ(found, 0);
    }
}

TEST(neighbours_and_empty_ids)
{
    struct fm_unique_ids *ids = NULL;
    uint64_t rows[FOUND_MAX];
    size_t found = 0;
    bool again = false;
    CHECK_INT_EQ(fm_unique_ids_create(10, &ids, NULL), 0);
    CHECK_INT_EQ(fm_unique_ids_add(ids, "", 0, 5, NULL), 0);
    CHECK_INT_EQ(fm_unique_ids_add(ids, "a", 1, 6, NULL), 0);
    CHECK_INT_EQ(fm_unique_ids_add(ids, "a\0b", 3, 7, NULL), 0);
    CHECK_INT_EQ(fm_unique_ids_add(ids, "a\0b", 3, 8, NULL), 0);
    CHECK_INT_EQ(fm_unique_ids_add(ids, "a", 1, 9, NULL), 0);
    CHECK_INT_EQ(fm_unique_ids_finish(ids, rows, FOUND_MAX, &found, &again, NULL), 0);
    CHECK(!again);
    CHECK_UINT_EQ(found, 4);
    CHECK_UINT_EQ(rows[0], 6);
    CHECK_UINT_EQ(rows[3], 9);
    fm_unique_ids_destroy(ids);
}

TEST(no_more_are_named_than_there_is_room_for)
{
    uint64_t rows[FOUND_MAX];
    size_t found = 0;
    unsigned times = 0;
    for (uint32_t i = 0; i < ROWS_MAX; i++) {
        numbers[i] = i % 100;
    }
    CHECK_INT_EQ(check(ROWS_MAX, 1000, rows, &found, &times), 0);
    CHECK_UINT_EQ(found, FOUND_MAX);
}

TEST(memory_that_runs_out_is_an_error)
{
    uint64_t rows[FOUND_MAX];
    size_t found = 0;
    unsigned times = 0;
    int status = FM_ENOMEM;
    uint64_t countdown = 0;
    for (uint32_t i = 0; i < 3000; i++) {
        numbers[i] = i * 7 % 3000;
    }
    while (status != 0) {
        (void)fm_memory_fail_at(++countdown, 0);
        status = check(3000, 1000, rows, &found, &times);
        (void)fm_memory_fail_at(0, 0);
        CHECK(status == 0 || status == FM_ENOMEM);
    }
    CHECK(countdown > 60);
}

TEST_MAIN()
