/*
 * The master of a job, one step at a time: pauses. (What it does in a world of faults is in
 * tests/prop/elastic.c.)
 */
#include "core/ledger/master.h"

#include "tests/harness/test.h"

enum { WORKER = 7, ROWS = 100, SHARD_ROWS = 10 };

#define S UINT64_C(1000000000)

static struct fm_master *master_make(void)
{
    struct fm_master *master = NULL;
    struct fm_ledger_segment segment;
    const struct fm_master_options options = {
        .ledger = {.leases_max = 100, .lease_ns = 5 * S, .attempts_max = {20, 2}},
        .pace = {.target_ns = S, .least_ns = S, .rows_first = SHARD_ROWS, .rows_max = SHARD_ROWS},
        .shard_rows = SHARD_ROWS,
        .workers_max = 10,
        .limits = {.bad_rows_max = UINT64_MAX, .bad_ratio_max = 1},
        .relief_ns = S,
        .duplicate_ns = S};
    if (fm_master_create(&options, &master) != 0 ||
        fm_master_add_rows(master, 1,
                           &(struct fm_ledger_segment){.row_count = ROWS, .grain_rows = 1},
                           &segment) != 0) {
        abort();
    }
    fm_master_close(master, 1, true);
    return master;
}

/* Stores what there is to store; the shards that are granted then, in `ret_shards`. */
static size_t grants_take(struct fm_master *master, struct fm_shard *ret_shards, size_t max)
{
    const struct fm_shard_record *records = NULL;
    struct fm_master_action action;
    uint64_t sequence = 0;
    size_t count = 0;
    if (fm_master_take_records(master, &records, &sequence) > 0) {
        fm_master_persisted(master, sequence);
    }
    while (fm_master_next_action(master, &action)) {
        if (action.kind == FM_MASTER_GRANT && count < max) {
            ret_shards[count++] = action.shard;
        }
    }
    fm_master_validate(master);
    return count;
}

static int shard_done(struct fm_master *master, uint64_t now_ns, const struct fm_shard *shard)
{
    const struct fm_master_done done = {
        .number = shard->number, .epoch = shard->epoch, .rows_out = shard->row_count};
    return fm_master_done(master, now_ns, WORKER, &done);
}

TEST(a_paused_job_hands_nothing_out_and_takes_what_is_done)
{
    struct fm_master *master = master_make();
    struct fm_shard held[4];
    struct fm_shard more[4];
    CHECK_INT_EQ(fm_master_hello(master, S, WORKER, 2, NULL, 0), 0);
    CHECK_UINT_EQ(grants_take(master, held, 4), 2);
    fm_master_pause(master, S, true);
    CHECK_INT_EQ(shard_done(master, 2 * S, &held[0]), 0);
    CHECK_UINT_EQ(grants_take(master, more, 4), 0);
    CHECK_INT_EQ(shard_done(master, 2 * S, &held[1]), 0);
    for (uint64_t now_ns = 3 * S; now_ns < 60 * S; now_ns += S) {
        CHECK_INT_EQ(fm_master_beat(master, now_ns, WORKER, NULL, 0), 0);
        CHECK_INT_EQ(fm_master_tick(master, now_ns), 0);
        CHECK_UINT_EQ(grants_take(master, more, 4), 0);
    }
    struct fm_master_progress progress;
    fm_master_progress(master, &progress);
    CHECK_UINT_EQ(progress.rows_committed, 2 * SHARD_ROWS);
    CHECK(!fm_master_over(master));
    /* Another worker comes, and waits too. */
    CHECK_INT_EQ(fm_master_hello(master, 60 * S, WORKER + 1, 2, NULL, 0), 0);
    CHECK_UINT_EQ(grants_take(master, more, 4), 0);
    fm_master_pause(master, 60 * S, false);
    CHECK(fm_master_next_ns(master, 60 * S) == 60 * S);
    CHECK_INT_EQ(fm_master_tick(master, 60 * S), 0);
    CHECK_UINT_EQ(grants_take(master, more, 4), 4);
    fm_master_destroy(master);
}

TEST(what_a_lost_worker_held_waits_for_the_end_of_the_pause)
{
    struct fm_master *master = master_make();
    struct fm_shard held[4];
    CHECK_INT_EQ(fm_master_hello(master, S, WORKER, 2, NULL, 0), 0);
    CHECK_UINT_EQ(grants_take(master, held, 4), 2);
    fm_master_pause(master, S, true);
    CHECK_INT_EQ(fm_master_gone(master, 2 * S, WORKER, FM_SHARD_FAILURE_INFRASTRUCTURE, "gone"), 0);
    CHECK_INT_EQ(fm_master_hello(master, 3 * S, WORKER + 1, 2, NULL, 0), 0);
    CHECK_INT_EQ(fm_master_tick(master, 20 * S), 0);
    CHECK_UINT_EQ(grants_take(master, held, 4), 0);
    fm_master_pause(master, 20 * S, false);
    CHECK_INT_EQ(fm_master_hello(master, 20 * S, WORKER + 2, 2, NULL, 0), 0);
    CHECK_INT_EQ(fm_master_tick(master, 20 * S), 0);
    CHECK(grants_take(master, held, 4) > 0);
    CHECK_UINT_EQ(held[0].first_row, 0);
    fm_master_destroy(master);
}

TEST(a_paused_job_can_be_stopped_and_that_is_for_good)
{
    struct fm_master *master = master_make();
    struct fm_shard held[4];
    CHECK_INT_EQ(fm_master_hello(master, S, WORKER, 2, NULL, 0), 0);
    CHECK_UINT_EQ(grants_take(master, held, 4), 2);
    fm_master_pause(master, S, true);
    CHECK_INT_EQ(fm_master_stop(master, S, false), 0);
    fm_master_pause(master, S, false);
    for (int i = 0; i < 2; i++) {
        CHECK_INT_EQ(fm_master_released(master, 2 * S, WORKER, held[i].number, held[i].epoch), 0);
    }
    CHECK_INT_EQ(fm_master_tick(master, 2 * S), 0);
    CHECK_UINT_EQ(grants_take(master, held, 4), 0);
    CHECK(fm_master_over(master));
    fm_master_destroy(master);
}

TEST(a_job_whose_last_rows_are_done_while_it_is_paused_is_over)
{
    struct fm_master *master = master_make();
    struct fm_shard held[16];
    CHECK_INT_EQ(fm_master_hello(master, S, WORKER, 16, NULL, 0), 0);
    size_t count = grants_take(master, held, 16);
    CHECK_UINT_EQ(count, ROWS / SHARD_ROWS);
    fm_master_pause(master, S, true);
    for (size_t i = 0; i < count; i++) {
        CHECK_INT_EQ(shard_done(master, 2 * S, &held[i]), 0);
    }
    (void)grants_take(master, held, 16);
    CHECK_INT_EQ(fm_master_tick(master, 3 * S), 0);
    (void)grants_take(master, held, 16);
    CHECK(fm_master_over(master));
    fm_master_destroy(master);
}

TEST_MAIN()
