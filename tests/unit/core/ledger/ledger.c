/*
 * The ledger's rules, one by one; tests/prop/ledger.c has them all at once.
 */
#include "core/ledger/ledger.h"

#include "tests/harness/test.h"

static struct fm_ledger *ledger_with(uint64_t rows, uint64_t shard_rows, uint32_t leases_max,
                                     uint64_t lease_ns)
{
    struct fm_ledger *ledger = NULL;
    struct fm_ledger_segment segment;
    struct fm_ledger_options options = {.leases_max = leases_max, .lease_ns = lease_ns};
    if (fm_ledger_create(&options, &ledger) != 0 ||
        fm_ledger_add_rows(ledger, rows, shard_rows, &segment) != 0) {
        abort();
    }
    return ledger;
}

TEST(shards_come_in_row_order_and_the_last_is_shorter)
{
    struct fm_ledger *ledger = ledger_with(10, 4, 8, 0);
    enum fm_ledger_answer answer;
    struct fm_shard shard;
    for (uint64_t i = 0; i < 3; i++) {
        CHECK_INT_EQ(fm_ledger_claim(ledger, 0, 1, &answer, &shard), 0);
        CHECK_INT_EQ(answer, FM_LEDGER_GRANTED);
        CHECK_UINT_EQ(shard.number, i);
        CHECK_UINT_EQ(shard.first_row, 4 * i);
        CHECK_UINT_EQ(shard.row_count, i == 2 ? 2 : 4);
        CHECK_UINT_EQ(shard.epoch, 1);
    }
    CHECK_INT_EQ(fm_ledger_claim(ledger, 0, 1, &answer, &shard), 0);
    CHECK_INT_EQ(answer, FM_LEDGER_WAIT);
    fm_ledger_validate(ledger);
    fm_ledger_destroy(ledger);
}

TEST(a_stale_commit_is_refused_and_counted)
{
    struct fm_ledger *ledger = ledger_with(4, 4, 8, 100);
    enum fm_ledger_answer answer;
    struct fm_shard zombie;
    struct fm_shard second;
    struct fm_shard rest;
    struct fm_ledger_stats stats;
    CHECK_INT_EQ(fm_ledger_claim(ledger, 0, 1, &answer, &zombie), 0);
    CHECK_INT_EQ(fm_ledger_claim(ledger, 100, 2, &answer, &second), 0);
    CHECK_INT_EQ(answer, FM_LEDGER_GRANTED);
    CHECK_UINT_EQ(second.number, zombie.number);
    CHECK_UINT_EQ(second.epoch, 2);
    CHECK_INT_EQ(fm_ledger_commit(ledger, zombie.number, 1, zombie.epoch, 4, 0, &rest),
                 FM_ECANCELLED);
    CHECK_INT_EQ(fm_ledger_commit(ledger, zombie.number, 1, second.epoch, 4, 0, &rest),
                 FM_ECANCELLED);
    CHECK_INT_EQ(fm_ledger_commit(ledger, second.number, 2, second.epoch, 5, 0, &rest), FM_EINVAL);
    CHECK_INT_EQ(fm_ledger_commit(ledger, second.number, 2, second.epoch, 3, 1, &rest), 0);
    CHECK_INT_EQ(fm_ledger_commit(ledger, second.number, 2, second.epoch, 3, 1, &rest),
                 FM_ECANCELLED);
    fm_ledger_stats(ledger, &stats);
    CHECK_UINT_EQ(stats.stale, 3);
    CHECK_UINT_EQ(stats.expiries, 1);
    struct fm_ledger_proof proof;
    fm_ledger_prove(ledger, &proof);
    CHECK(proof.complete);
    CHECK_UINT_EQ(proof.dead_letters, 1);
    fm_ledger_destroy(ledger);
}

TEST(a_prefix_can_be_committed_and_the_rest_goes_on_under_a_new_number)
{
    struct fm_ledger *ledger = ledger_with(20, 10, 8, 0);
    enum fm_ledger_answer answer;
    struct fm_shard shard;
    struct fm_shard rest;
    CHECK_INT_EQ(fm_ledger_claim(ledger, 0, 1, &answer, &shard), 0);
    CHECK_INT_EQ(fm_ledger_commit(ledger, shard.number, 1, 1, 3, 0, &rest), 0);
    CHECK_UINT_EQ(rest.number, 2);
    CHECK_UINT_EQ(rest.first_row, 3);
    CHECK_UINT_EQ(rest.row_count, 7);
    CHECK_INT_EQ(fm_ledger_claim(ledger, 0, 1, &answer, &shard), 0);
    CHECK_UINT_EQ(shard.number, 2);
    fm_ledger_validate(ledger);
    fm_ledger_destroy(ledger);
}

TEST(memory_does_not_grow_with_done_shards)
{
    struct fm_ledger *ledger = ledger_with(100000, 1, 4, 0);
    enum fm_ledger_answer answer = FM_LEDGER_WAIT;
    struct fm_shard shard;
    struct fm_shard rest;
    struct fm_ledger_stats stats;
    for (int i = 0; i < 100000; i++) {
        CHECK_INT_EQ(fm_ledger_claim(ledger, 0, 1, &answer, &shard), 0);
        CHECK_INT_EQ(fm_ledger_commit(ledger, shard.number, 1, 1, 1, 0, &rest), 0);
    }
    fm_ledger_stats(ledger, &stats);
    CHECK_UINT_EQ(stats.done_ranges, 1);
    CHECK_UINT_EQ(stats.open_shards, 0);
    CHECK_INT_EQ(fm_ledger_claim(ledger, 0, 1, &answer, &shard), 0);
    CHECK_INT_EQ(answer, FM_LEDGER_FINISHED);
    fm_ledger_destroy(ledger);
}

TEST(what_does_not_fit_together_is_refused_when_restoring)
{
    struct fm_ledger *ledger = NULL;
    struct fm_ledger_options options = {.leases_max = 1};
    CHECK_INT_EQ(fm_ledger_create(&options, &ledger), 0);
    struct fm_ledger_segment segment = {
        .first_row = 0, .row_count = 10, .shard_rows = 5, .first_number = 0};
    struct fm_ledger_segment hole = {
        .first_row = 11, .row_count = 1, .shard_rows = 5, .first_number = 2};
    CHECK_INT_EQ(fm_ledger_restore_segment(ledger, &segment), 0);
    CHECK_INT_EQ(fm_ledger_restore_segment(ledger, &hole), FM_ECORRUPT);
    struct fm_shard done = {
        .number = 1, .first_row = 5, .row_count = 5, .state = FM_SHARD_DONE, .rows_out = 4};
    CHECK_INT_EQ(fm_ledger_restore_shard(ledger, &done), FM_ECORRUPT); /* 4 + 0 rows are not 5 */
    done.rows_out = 5;
    CHECK_INT_EQ(fm_ledger_restore_shard(ledger, &done), 0);
    CHECK_INT_EQ(fm_ledger_restore_shard(ledger, &done), FM_ECORRUPT); /* twice */
    CHECK_INT_EQ(fm_ledger_restore_finish(ledger),
                 FM_ECORRUPT); /* shard 0 must be there: claims go in order */
    struct fm_shard moved = {.number = 0, .first_row = 1, .row_count = 4, .state = FM_SHARD_READY};
    CHECK_INT_EQ(fm_ledger_restore_shard(ledger, &moved), FM_ECORRUPT);
    fm_ledger_destroy(ledger);
}

TEST(ranges_merge_and_refuse_overlaps)
{
    struct fm_row_ranges ranges = {0};
    CHECK_INT_EQ(fm_row_ranges_add(&ranges, 10, 5), 0);
    CHECK_INT_EQ(fm_row_ranges_add(&ranges, 20, 5), 0);
    CHECK_INT_EQ(fm_row_ranges_add(&ranges, 14, 2), FM_EEXIST);
    CHECK_INT_EQ(fm_row_ranges_add(&ranges, 8, 20), FM_EEXIST);
    CHECK_INT_EQ(fm_row_ranges_add(&ranges, UINT64_MAX, 2), FM_EINVAL);
    CHECK_INT_EQ(fm_row_ranges_add(&ranges, 15, 5), 0);
    CHECK_UINT_EQ(ranges.count, 1);
    CHECK_UINT_EQ(ranges.rows, 15);
    CHECK(fm_row_ranges_contains(&ranges, 24) && !fm_row_ranges_contains(&ranges, 25) &&
          !fm_row_ranges_contains(&ranges, 9));
    fm_row_ranges_deinit(&ranges);
}

TEST_MAIN()
