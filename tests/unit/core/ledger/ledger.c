/*
 * The ledger's rules, one by one; tests/prop/ledger.c has them all at once.
 */
#include "core/ledger/ledger.h"

#include "tests/harness/test.h"

static struct fm_ledger *ledger_of(uint64_t rows, const struct fm_ledger_options *options)
{
    struct fm_ledger *ledger = NULL;
    struct fm_ledger_segment segment;
    if (fm_ledger_create(options, &ledger) != 0 ||
        fm_ledger_add_rows(ledger, &(struct fm_ledger_segment){.row_count = rows, .grain_rows = 1},
                           &segment) != 0) {
        abort();
    }
    fm_ledger_close(ledger, true);
    return ledger;
}

static struct fm_ledger *ledger_with(uint64_t rows, uint32_t leases_max, uint64_t lease_ns)
{
    struct fm_ledger_options options = {.leases_max = leases_max, .lease_ns = lease_ns};
    return ledger_of(rows, &options);
}

/* The next shard of at most so many rows; aborts when there is none. */
static struct fm_shard claimed(struct fm_ledger *ledger, uint64_t now_ns, uint64_t owner,
                               uint64_t rows_max)
{
    enum fm_ledger_answer answer = FM_LEDGER_WAIT;
    struct fm_shard shard = {0};
    const struct fm_ledger_claim claim = {.owner = owner, .rows_max = rows_max, .suspects = true};
    if (fm_ledger_claim(ledger, now_ns, &claim, &answer, &shard) != 0 ||
        answer != FM_LEDGER_GRANTED) {
        abort();
    }
    return shard;
}

static enum fm_ledger_answer claim_answer(struct fm_ledger *ledger, uint64_t now_ns)
{
    enum fm_ledger_answer answer = FM_LEDGER_GRANTED;
    struct fm_shard shard;
    const struct fm_ledger_claim claim = {.owner = 1, .rows_max = 1, .suspects = true};
    return fm_ledger_claim(ledger, now_ns, &claim, &answer, &shard) == 0 ? answer
                                                                         : FM_LEDGER_GRANTED;
}

/* Rows of the lowest rank are handed out first, whenever they were added; what comes back has its
 * place among them again, also after a restart. */
TEST(rows_of_the_lowest_rank_come_first)
{
    const struct fm_ledger_options options = {.leases_max = 8};
    static const uint32_t ranks[] = {FM_LEDGER_RANK_LAST, 3, 0, 3};
    struct fm_ledger_segment segments[4];
    struct fm_ledger *ledger = NULL;
    CHECK_INT_EQ(fm_ledger_create(&options, &ledger), 0);
    for (int i = 0; i < 4; i++) {
        const struct fm_ledger_segment rows = {.row_count = 10, .grain_rows = 1, .rank = ranks[i]};
        CHECK_INT_EQ(fm_ledger_add_rows(ledger, &rows, &segments[i]), 0);
    }
    const struct fm_ledger_segment wrong = {
        .row_count = 10, .grain_rows = 1, .rank = FM_LEDGER_RANKS};
    const struct fm_ledger_segment much = {.row_count = FM_LEDGER_ROWS_MAX, .grain_rows = 1};
    CHECK_INT_EQ(fm_ledger_add_rows(ledger, &wrong, &segments[0]), FM_EINVAL);
    CHECK_INT_EQ(fm_ledger_add_rows(ledger, &much, &segments[0]), FM_EINVAL);
    struct fm_shard first = claimed(ledger, 0, 1, 10);
    struct fm_shard second = claimed(ledger, 0, 1, 7);
    CHECK_UINT_EQ(first.first_row, 20);
    CHECK_UINT_EQ(second.first_row, 10);
    CHECK_INT_EQ(fm_ledger_release(ledger, first.number, 1, first.epoch), 0);
    struct fm_ledger *again = NULL;
    CHECK_INT_EQ(fm_ledger_create(&options, &again), 0);
    for (int i = 0; i < 4; i++) {
        CHECK_INT_EQ(fm_ledger_restore_segment(again, &segments[i]), 0);
    }
    first.state = FM_SHARD_READY;
    CHECK_INT_EQ(fm_ledger_restore_shard(again, 0, &second), 0);
    CHECK_INT_EQ(fm_ledger_restore_shard(again, 0, &first), 0);
    CHECK_INT_EQ(fm_ledger_restore_finish(again), 0);
    static const uint64_t expected[] = {20, 17, 30, 0};
    struct fm_ledger *both[] = {ledger, again};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 4; i++) {
            CHECK_UINT_EQ(claimed(both[k], 0, 2, 10).first_row, expected[i]);
        }
        fm_ledger_validate(both[k]);
        fm_ledger_destroy(both[k]);
    }
}

TEST(shards_come_in_row_order_and_the_last_is_shorter)
{
    struct fm_ledger *ledger = ledger_with(10, 8, 0);
    for (uint64_t i = 0; i < 3; i++) {
        struct fm_shard shard = claimed(ledger, 0, 1, 4);
        CHECK_UINT_EQ(shard.number, i);
        CHECK_UINT_EQ(shard.first_row, 4 * i);
        CHECK_UINT_EQ(shard.row_count, i == 2 ? 2 : 4);
        CHECK_UINT_EQ(shard.epoch, 1);
    }
    CHECK_INT_EQ(claim_answer(ledger, 0), FM_LEDGER_WAIT);
    fm_ledger_validate(ledger);
    fm_ledger_destroy(ledger);
}

TEST(a_stale_commit_is_refused_and_counted)
{
    struct fm_ledger *ledger = ledger_with(4, 8, 100);
    struct fm_shard rest;
    struct fm_ledger_stats stats;
    struct fm_ledger_outcome outcome;
    struct fm_shard zombie = claimed(ledger, 0, 1, 4);
    CHECK(!fm_ledger_expire(ledger, 99, &outcome));
    CHECK_UINT_EQ(fm_ledger_next_ns(ledger), 100);
    CHECK(fm_ledger_expire(ledger, 100, &outcome));
    CHECK(outcome.expired && outcome.owner == 1 && outcome.epoch == 1);
    struct fm_shard second = claimed(ledger, 100, 2, 4);
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
    struct fm_ledger *ledger = ledger_with(20, 8, 0);
    struct fm_shard rest;
    struct fm_shard shard = claimed(ledger, 0, 1, 10);
    CHECK_INT_EQ(fm_ledger_commit(ledger, shard.number, 1, 1, 3, 0, &rest), 0);
    CHECK_UINT_EQ(rest.number, 1);
    CHECK_UINT_EQ(rest.first_row, 3);
    CHECK_UINT_EQ(rest.row_count, 7);
    CHECK_UINT_EQ(claimed(ledger, 0, 1, 10).number, 1);
    fm_ledger_validate(ledger);
    fm_ledger_destroy(ledger);
}

TEST(memory_does_not_grow_with_done_shards)
{
    struct fm_ledger *ledger = ledger_with(100000, 4, 0);
    struct fm_shard rest;
    struct fm_ledger_stats stats;
    for (int i = 0; i < 100000; i++) {
        struct fm_shard shard = claimed(ledger, 0, 1, 1);
        CHECK_INT_EQ(fm_ledger_commit(ledger, shard.number, 1, 1, 1, 0, &rest), 0);
    }
    fm_ledger_stats(ledger, &stats);
    CHECK_UINT_EQ(stats.done_ranges, 1);
    CHECK_UINT_EQ(stats.open_shards, 0);
    CHECK_INT_EQ(claim_answer(ledger, 0), FM_LEDGER_FINISHED);
    fm_ledger_destroy(ledger);
}

TEST(shards_keep_to_the_grain_of_their_segment)
{
    struct fm_ledger_options options = {.leases_max = 100};
    struct fm_ledger *ledger = ledger_of(3, &options);
    struct fm_ledger_segment segment;
    CHECK_INT_EQ(fm_ledger_add_rows(ledger,
                                    &(struct fm_ledger_segment){.row_count = 25, .grain_rows = 10},
                                    &segment),
                 0);
    const uint64_t wanted[] = {2, 1, 10, 10, 5};
    for (size_t i = 0; i < 5; i++) {
        CHECK_UINT_EQ(claimed(ledger, 0, 1, i == 2 ? 19 : 2).row_count, wanted[i]);
    }
    CHECK_INT_EQ(claim_answer(ledger, 0), FM_LEDGER_WAIT);
    fm_ledger_validate(ledger);
    fm_ledger_destroy(ledger);
}

TEST(more_rows_may_come_until_the_ledger_is_closed)
{
    struct fm_ledger_options options = {.leases_max = 4};
    struct fm_ledger *ledger = NULL;
    struct fm_ledger_proof proof;
    CHECK_INT_EQ(fm_ledger_create(&options, &ledger), 0);
    CHECK_INT_EQ(claim_answer(ledger, 0), FM_LEDGER_WAIT);
    fm_ledger_prove(ledger, &proof);
    CHECK(!proof.complete);
    fm_ledger_close(ledger, true);
    CHECK_INT_EQ(claim_answer(ledger, 0), FM_LEDGER_FINISHED);
    fm_ledger_prove(ledger, &proof);
    CHECK(proof.complete);
    fm_ledger_destroy(ledger);
}

/* One row of 64 ends every process that touches it: twice as a whole, then once for each halving.
 */
TEST(bisecting_needs_as_many_failures_as_halvings)
{
    enum { ROWS = 64, POISON = 37 };
    struct fm_ledger_options options = {.leases_max = 8, .attempts_max = {20, 2}};
    struct fm_ledger *ledger = ledger_of(ROWS, &options);
    struct fm_ledger_outcome outcome;
    struct fm_shard rest;
    struct fm_shard shard = claimed(ledger, 0, 1, ROWS);
    int failures = 0;
    for (;;) {
        bool poisoned = shard.first_row <= POISON && POISON < shard.first_row + shard.row_count;
        CHECK_INT_EQ(fm_shard_suspect(&shard), failures > 0 && !shard.condemned);
        if (poisoned && !shard.condemned) {
            CHECK_INT_EQ(fm_ledger_fail(ledger, 0, shard.number, 1, shard.epoch,
                                        FM_SHARD_FAILURE_DATA, &outcome),
                         0);
            failures++;
        } else {
            uint64_t letters = shard.condemned ? 1 : 0;
            CHECK_INT_EQ(fm_ledger_commit(ledger, shard.number, 1, shard.epoch,
                                          shard.row_count - letters, letters, &rest),
                         0);
        }
        enum fm_ledger_answer answer = FM_LEDGER_WAIT;
        const struct fm_ledger_claim claim = {.owner = 1, .rows_max = ROWS, .suspects = true};
        CHECK_INT_EQ(fm_ledger_claim(ledger, 0, &claim, &answer, &shard), 0);
        if (answer == FM_LEDGER_FINISHED) {
            break;
        }
        CHECK_INT_EQ(answer, FM_LEDGER_GRANTED);
    }
    struct fm_ledger_proof proof;
    fm_ledger_prove(ledger, &proof);
    CHECK(proof.complete && proof.dead_letters == 1);
    CHECK_INT_EQ(failures, 2 + 6); /* 64 rows twice, then 32, 16, 8, 4, 2 and 1 */
    fm_ledger_destroy(ledger);
}

TEST(a_row_that_cannot_even_be_written_down_is_dead_and_the_job_incomplete)
{
    struct fm_ledger_options options = {.leases_max = 8, .attempts_max = {0, 1}};
    struct fm_ledger *ledger = ledger_of(1, &options);
    struct fm_ledger_outcome outcome = {0};
    uint32_t failures = 0;
    while (claim_answer(ledger, 0) == FM_LEDGER_GRANTED) {
        struct fm_shard shard;
        CHECK(fm_ledger_find(ledger, 0, &shard, NULL, NULL));
        CHECK_INT_EQ(shard.condemned, failures > 0);
        CHECK_INT_EQ(fm_ledger_fail(ledger, 0, 0, 1, shard.epoch, FM_SHARD_FAILURE_DATA, &outcome),
                     0);
        failures++;
    }
    CHECK_UINT_EQ(failures, 1 + FM_LEDGER_CONDEMNED_ATTEMPTS);
    CHECK_INT_EQ(outcome.shard.state, FM_SHARD_DEAD);
    struct fm_ledger_proof proof;
    fm_ledger_prove(ledger, &proof);
    CHECK(!proof.complete && proof.rows_dead == 1 && proof.rows_missing == 0);
    fm_ledger_destroy(ledger);
}

TEST(what_failed_has_to_wait_longer_each_time)
{
    struct fm_ledger_options options = {.leases_max = 8, .backoff_ns = 10, .backoff_max_ns = 35};
    struct fm_ledger *ledger = ledger_of(1, &options);
    const uint64_t waits[] = {10, 20, 35, 35};
    struct fm_ledger_outcome outcome;
    uint64_t now_ns = 1000;
    for (size_t i = 0; i < 4; i++) {
        struct fm_shard shard = claimed(ledger, now_ns, 1, 1);
        CHECK_INT_EQ(fm_ledger_fail(ledger, now_ns, 0, 1, shard.epoch,
                                    FM_SHARD_FAILURE_INFRASTRUCTURE, &outcome),
                     0);
        CHECK_UINT_EQ(fm_ledger_next_ns(ledger), now_ns + waits[i]);
        CHECK_INT_EQ(claim_answer(ledger, now_ns + waits[i] - 1), FM_LEDGER_WAIT);
        now_ns += waits[i];
    }
    fm_ledger_destroy(ledger);
}

TEST(of_two_leases_the_first_commit_counts)
{
    struct fm_ledger *ledger = ledger_with(4, 8, 100);
    struct fm_shard first = claimed(ledger, 0, 1, 4);
    struct fm_shard second;
    struct fm_shard third;
    struct fm_shard rest;
    CHECK_INT_EQ(fm_ledger_lease_again(ledger, 10, 1, 0, &second), FM_EINVAL);
    CHECK_INT_EQ(fm_ledger_lease_again(ledger, 10, 2, 0, &second), 0);
    CHECK_UINT_EQ(second.epoch, 2);
    CHECK_INT_EQ(fm_ledger_lease_again(ledger, 10, 3, 0, &third), FM_ELIMIT);
    CHECK_INT_EQ(fm_ledger_commit(ledger, 0, 1, first.epoch, 4, 0, &rest), 0);
    CHECK_INT_EQ(fm_ledger_commit(ledger, 0, 2, second.epoch, 4, 0, &rest), FM_ECANCELLED);
    struct fm_ledger_proof proof;
    fm_ledger_prove(ledger, &proof);
    CHECK(proof.complete && proof.rows_out == 4);
    fm_ledger_destroy(ledger);
}

TEST(a_trimmed_shard_gives_its_end_to_others)
{
    struct fm_ledger *ledger = ledger_with(10, 8, 0);
    struct fm_shard shard = claimed(ledger, 0, 1, 10);
    struct fm_shard rest;
    struct fm_shard left;
    CHECK_INT_EQ(fm_ledger_trim(ledger, 0, 1, shard.epoch, 10, &left, &rest), FM_EINVAL);
    CHECK_INT_EQ(fm_ledger_trim(ledger, 0, 2, shard.epoch, 6, &left, &rest), FM_ECANCELLED);
    CHECK_INT_EQ(fm_ledger_trim(ledger, 0, 1, shard.epoch, 6, &left, &rest), 0);
    CHECK(left.row_count == 6 && left.state == FM_SHARD_LEASED);
    CHECK(rest.first_row == 6 && rest.row_count == 4);
    CHECK_INT_EQ(fm_ledger_commit(ledger, 0, 1, shard.epoch, 7, 0, &left), FM_EINVAL);
    CHECK_UINT_EQ(claimed(ledger, 0, 2, 10).first_row, 6);
    fm_ledger_validate(ledger);
    fm_ledger_destroy(ledger);
}

TEST(what_does_not_fit_together_is_refused_when_restoring)
{
    struct fm_ledger *ledger = NULL;
    struct fm_ledger_options options = {.leases_max = 1};
    CHECK_INT_EQ(fm_ledger_create(&options, &ledger), 0);
    struct fm_ledger_segment segment = {.first_row = 0, .row_count = 10, .grain_rows = 1};
    struct fm_ledger_segment hole = {.first_row = 11, .row_count = 1, .grain_rows = 1};
    CHECK_INT_EQ(fm_ledger_restore_segment(ledger, &segment), 0);
    CHECK_INT_EQ(fm_ledger_restore_segment(ledger, &hole), FM_ECORRUPT);
    struct fm_shard done = {
        .number = 1, .first_row = 5, .row_count = 5, .state = FM_SHARD_DONE, .rows_out = 4};
    CHECK_INT_EQ(fm_ledger_restore_shard(ledger, 0, &done), FM_ECORRUPT); /* 4 + 0 are not 5 */
    done.rows_out = 5;
    CHECK_INT_EQ(fm_ledger_restore_shard(ledger, 0, &done), 0);
    CHECK_INT_EQ(fm_ledger_restore_shard(ledger, 0, &done), FM_ECORRUPT); /* twice */
    CHECK_INT_EQ(fm_ledger_restore_finish(ledger),
                 FM_ECORRUPT); /* rows 0 to 4 must be somewhere: claims go in order */
    struct fm_shard beyond = {.number = 0, .first_row = 8, .row_count = 4};
    CHECK_INT_EQ(fm_ledger_restore_shard(ledger, 0, &beyond), FM_ECORRUPT);
    struct fm_shard overlap = {.number = 0, .first_row = 0, .row_count = 6};
    CHECK_INT_EQ(fm_ledger_restore_shard(ledger, 0, &overlap), 0);
    CHECK_INT_EQ(fm_ledger_restore_finish(ledger), FM_ECORRUPT);
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
    CHECK(fm_row_ranges_overlap(&ranges, 0, 11) && !fm_row_ranges_overlap(&ranges, 0, 10) &&
          !fm_row_ranges_overlap(&ranges, 25, 99) && !fm_row_ranges_overlap(&ranges, 12, 12));
    CHECK(fm_row_ranges_validate(&ranges));
    CHECK(fm_row_ranges_contains(&ranges, 24) && !fm_row_ranges_contains(&ranges, 25) &&
          !fm_row_ranges_contains(&ranges, 9));
    fm_row_ranges_deinit(&ranges);
}

TEST_MAIN()
