/*
 * The history of a job: thinned, continued over runs, damaged, and not writable.
 */
#include "engines/batch/history.h"

#include <sys/stat.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "tests/harness/test.h"

#define MS UINT64_C(1000000)

static char path[128];

static void path_make(void)
{
    char folder[] = "/tmp/fermata-history-XXXXXX";
    if (mkdtemp(folder) == NULL) {
        abort();
    }
    (void)snprintf(path, sizeof(path), "%s/history", folder);
}

/* A run of so many samples, as often as they are due. */
static uint64_t run(uint64_t count, uint64_t first_ms)
{
    struct fm_history *history = fm_history_open(path, 0);
    uint64_t added = 0;
    if (history == NULL) {
        abort();
    }
    const struct fm_stage_uses stages = {
        .count = 2, .items = {{.name = "read", .busy = 0.25}, {.name = "st\"age", .busy = 0.875}}};
    for (uint64_t ms = 0; added < count; ms += 500) {
        if (fm_history_due(history, ms * MS)) {
            const struct fm_history_sample sample = {.wall_ms = first_ms + ms,
                                                     .rows_done = ms,
                                                     .workers = 3,
                                                     .stage = "st\"age",
                                                     .stage_share = 0.5,
                                                     .stages = stages};
            fm_history_add(history, ms * MS, &sample);
            added++;
        }
    }
    fm_history_close(history);
    return added;
}

TEST(what_was_added_comes_back_over_runs)
{
    struct fm_history_record record;
    path_make();
    CHECK_INT_EQ(fm_history_read(path, &record, NULL), 0);
    CHECK_UINT_EQ(record.sample_count, 0);
    fm_history_record_deinit(&record);
    (void)run(3, 1000);
    (void)run(2, 100000);
    CHECK_INT_EQ(fm_history_read(path, &record, NULL), 0);
    CHECK_UINT_EQ(record.sample_count, 5);
    CHECK(record.samples[0].begin && !record.samples[1].begin && record.samples[3].begin);
    CHECK_UINT_EQ(record.samples[2].wall_ms, 2000);
    CHECK_UINT_EQ(record.samples[2].rows_done, 1000);
    CHECK_STR_EQ(record.samples[4].stage, "st\"age");
    CHECK_NEAR(record.samples[4].stage_share, 0.5, 1e-9);
    CHECK_UINT_EQ(record.samples[4].stages.count, 2);
    CHECK_STR_EQ(record.samples[4].stages.items[1].name, "st\"age");
    CHECK_NEAR(record.samples[4].stages.items[1].busy, 0.875, 1e-9);
    fm_history_record_deinit(&record);
}

TEST(it_stays_small_and_covers_all_of_the_time)
{
    struct fm_history_record record;
    struct stat facts;
    path_make();
    (void)run(5000, 1);
    CHECK_INT_EQ(stat(path, &facts), 0);
    CHECK(facts.st_size < 400000);
    CHECK_INT_EQ(fm_history_read(path, &record, NULL), 0);
    CHECK(record.sample_count <= FM_HISTORY_SAMPLES_MAX);
    CHECK(record.sample_count >= FM_HISTORY_SAMPLES_MAX / 2);
    CHECK(record.interval_ms >= 2000);
    CHECK(record.samples[0].begin);
    CHECK_UINT_EQ(record.samples[0].wall_ms, 1);
    uint64_t longest = 0;
    for (size_t i = 1; i < record.sample_count; i++) {
        CHECK(record.samples[i].wall_ms > record.samples[i - 1].wall_ms);
        uint64_t gap = record.samples[i].wall_ms - record.samples[i - 1].wall_ms;
        longest = gap > longest ? gap : longest;
    }
    CHECK(longest <= record.interval_ms);
    uint64_t interval_ms = record.interval_ms;
    fm_history_record_deinit(&record);
    /* The next run goes on as coarsely. */
    (void)run(10, 1000000000);
    CHECK_INT_EQ(fm_history_read(path, &record, NULL), 0);
    CHECK(record.interval_ms >= interval_ms);
    CHECK_UINT_EQ(record.samples[record.sample_count - 1].wall_ms -
                      record.samples[record.sample_count - 2].wall_ms,
                  record.interval_ms);
    fm_history_record_deinit(&record);
}

TEST(many_short_runs_are_thinned_too)
{
    struct fm_history_record record;
    path_make();
    for (uint64_t i = 0; i < 1050; i++) {
        (void)run(2, 1 + i * 10000);
    }
    CHECK_INT_EQ(fm_history_read(path, &record, NULL), 0);
    CHECK(record.sample_count <= FM_HISTORY_SAMPLES_MAX);
    CHECK_UINT_EQ(record.samples[record.sample_count - 2].wall_ms, 1 + UINT64_C(1049) * 10000);
    fm_history_record_deinit(&record);
}

TEST(the_slowest_shards_are_kept)
{
    struct fm_history_record record;
    path_make();
    struct fm_history *history = fm_history_open(path, 0);
    CHECK(history != NULL);
    for (uint64_t i = 0; i < 100; i++) {
        const struct fm_history_shard shard = {.number = i, .first_row = 10 * i, .rows = 10};
        fm_history_granted(history, 1000 * MS, 1, &shard);
    }
    fm_history_committed(history, 1001 * MS, 1, 2); /* another attempt than the one that is known */
    for (uint64_t i = 0; i < 100; i++) {
        fm_history_committed(history, (1000 + (i * 37) % 100) * MS, i, 1);
    }
    fm_history_committed(history, 9000 * MS, 7, 1); /* again */
    fm_history_close(history);
    for (int again = 0; again < 2; again++) {
        CHECK_INT_EQ(fm_history_read(path, &record, NULL), 0);
        CHECK_UINT_EQ(record.shard_count, FM_HISTORY_SHARDS_MAX);
        CHECK_UINT_EQ(record.shards[0].ms, 99);
        for (size_t i = 1; i < record.shard_count; i++) {
            CHECK_UINT_EQ(record.shards[i].ms, 99 - i);
            CHECK_UINT_EQ(record.shards[i].first_row, 10 * record.shards[i].number);
        }
        fm_history_record_deinit(&record);
        (void)run(1, 1);
    }
}

TEST(damage_is_passed_over)
{
    struct fm_history_record record;
    path_make();
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    fputs("{\"at\":1,\"done\":5,\"begin\":true}\n\xff\n{}\n[]\n{\"at\":\"x\"}\n{\"at\":-1}\n"
          "{\"at\":2,\"stage\":7,\"share\":\"x\"}\n{\"at\":3,\"new\":{\"a\":[1]},\"done\":6}\n"
          "{\"interval\":1}\n{\"interval\":99999999999}\n{\"interval\":1000}\n{\"at\":4,\"do",
          file);
    fclose(file);
    CHECK_INT_EQ(fm_history_read(path, &record, NULL), 0);
    CHECK(record.sample_count >= 2);
    CHECK_UINT_EQ(record.samples[0].rows_done, 5);
    CHECK_UINT_EQ(record.samples[record.sample_count - 1].rows_done, 6);
    CHECK_UINT_EQ(record.interval_ms, 1000);
    fm_history_record_deinit(&record);
}

TEST(a_file_that_cannot_be_written_is_told_once)
{
    struct fm_error error = {0};
    const struct fm_history_sample sample = {.wall_ms = 1};
    path_make();
    CHECK_INT_EQ(mkdir(path, 0755), 0);
    struct fm_history *history = fm_history_open(path, 0);
    CHECK(history != NULL);
    CHECK(fm_history_due(history, 0));
    fm_history_add(history, 0, &sample);
    CHECK(fm_history_trouble(history, &error));
    CHECK(error.status != 0);
    CHECK(!fm_history_trouble(history, &error));
    CHECK(!fm_history_due(history, 1000 * MS));
    const struct fm_history_shard shard = {.number = 1};
    fm_history_granted(history, 0, 1, &shard);
    fm_history_committed(history, 1, 1, 1);
    fm_history_close(history);
    fm_history_close(NULL);
}

TEST(memory_that_runs_out_breaks_nothing)
{
    path_make();
    for (uint64_t countdown = 1; countdown < 40; countdown++) {
        (void)fm_memory_fail_at(countdown, 0);
        struct fm_history *history = fm_history_open(path, 0);
        const struct fm_history_sample sample = {.wall_ms = 1};
        const struct fm_history_shard shard = {.number = 1};
        if (history != NULL) {
            fm_history_granted(history, 0, 1, &shard);
            fm_history_add(history, 0, &sample);
            fm_history_committed(history, 1, 1, 1);
        }
        fm_history_close(history);
        (void)fm_memory_fail_at(0, 0);
    }
}

TEST_MAIN()
