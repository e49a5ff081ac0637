/*
 * The holder's rules, one by one; tests/prop/elastic.c has them with a master and faults.
 */
#include "core/ledger/holder.h"

#include "tests/harness/test.h"

static struct fm_holder *holder_with(uint64_t shards)
{
    const struct fm_holder_options options = {.beat_ns = 10, .give_up_ns = 100};
    struct fm_holder *holder = NULL;
    struct fm_holder_action action;
    if (fm_holder_create(&options, 0, &holder) != 0) {
        abort();
    }
    fm_holder_connected(holder, 0);
    for (uint64_t i = 0; i < shards; i++) {
        const struct fm_shard shard = {.number = i, .row_count = 5, .epoch = 1};
        if (fm_holder_granted(holder, &shard, "") != 0) {
            abort();
        }
    }
    while (fm_holder_next_action(holder, &action)) {
    }
    return holder;
}

/* The next action must be of this kind and shard. */
static bool next_is(struct fm_holder *holder, enum fm_holder_action_kind kind, uint64_t number)
{
    struct fm_holder_action action;
    return fm_holder_next_action(holder, &action) && action.kind == kind &&
           action.shard.number == number;
}

static bool nothing_follows(struct fm_holder *holder)
{
    struct fm_holder_action action;
    return !fm_holder_next_action(holder, &action);
}

static size_t held(const struct fm_holder *holder)
{
    struct fm_master_holding holdings[FM_MASTER_SHARDS_OF_ONE_MAX];
    return fm_holder_holdings(holder, holdings);
}

TEST(a_failure_is_kept_until_it_is_answered)
{
    struct fm_holder *holder = holder_with(2);
    struct fm_holder_action action;
    fm_holder_failed(holder, 1, FM_SHARD_FAILURE_DATA, "it hung");
    CHECK(fm_holder_next_action(holder, &action) && action.kind == FM_HOLDER_FAILED);
    CHECK_UINT_EQ(action.shard.number, 1);
    CHECK_INT_EQ(action.failure, FM_SHARD_FAILURE_DATA);
    CHECK_STR_EQ(action.reason, "it hung");
    CHECK_UINT_EQ(held(holder), 2);
    /* Of another epoch: not this one. */
    fm_holder_refused(holder, 1, 2);
    CHECK_UINT_EQ(held(holder), 2);
    fm_holder_refused(holder, 1, 1);
    CHECK_UINT_EQ(held(holder), 1);
    CHECK(nothing_follows(holder)); /* there is nothing left to throw away */
    fm_holder_destroy(holder);
}

TEST(a_failure_without_a_connection_is_said_with_the_next_one)
{
    struct fm_holder *holder = holder_with(2);
    fm_holder_disconnected(holder, 5);
    fm_holder_failed(holder, 0, FM_SHARD_FAILURE_DATA, "it hung");
    CHECK(nothing_follows(holder));
    for (int times = 0; times < 2; times++) {
        fm_holder_connected(holder, 20);
        CHECK(next_is(holder, FM_HOLDER_HELLO, 0));
        CHECK(next_is(holder, FM_HOLDER_FAILED, 0));
        CHECK(nothing_follows(holder));
        fm_holder_disconnected(holder, 30);
    }
    fm_holder_destroy(holder);
}

TEST(what_has_failed_is_not_thrown_away_trimmed_or_given_back)
{
    struct fm_holder *holder = holder_with(3);
    fm_holder_failed(holder, 1, FM_SHARD_FAILURE_DATA, "it hung");
    CHECK(next_is(holder, FM_HOLDER_FAILED, 1));
    fm_holder_asked(holder, 1, 1, 2);
    CHECK(nothing_follows(holder));
    fm_holder_stop(holder, true);
    CHECK(next_is(holder, FM_HOLDER_ABANDON, 2));
    CHECK(next_is(holder, FM_HOLDER_RELEASED, 2));
    CHECK(next_is(holder, FM_HOLDER_ABANDON, 0));
    CHECK(next_is(holder, FM_HOLDER_RELEASED, 0));
    CHECK(nothing_follows(holder));
    CHECK_UINT_EQ(held(holder), 1);
    fm_holder_destroy(holder);
}

TEST(giving_up_keeps_what_was_reported)
{
    struct fm_holder *holder = holder_with(3);
    const struct fm_master_done done = {.number = 2, .epoch = 1, .rows_out = 5};
    fm_holder_done(holder, &done);
    CHECK(next_is(holder, FM_HOLDER_DONE, 2));
    fm_holder_failed(holder, 1, FM_SHARD_FAILURE_DATA, "it hung");
    CHECK(next_is(holder, FM_HOLDER_FAILED, 1));
    CHECK(fm_holder_is_reported(holder, 2));
    CHECK(!fm_holder_is_reported(holder, 1));
    CHECK(!fm_holder_is_reported(holder, 7));
    fm_holder_disconnected(holder, 10);
    fm_holder_tick(holder, 109);
    CHECK(nothing_follows(holder));
    fm_holder_tick(holder, 110);
    CHECK(next_is(holder, FM_HOLDER_ABANDON, 0));
    struct fm_holder_action action;
    CHECK(fm_holder_next_action(holder, &action) && action.kind == FM_HOLDER_EXIT);
    CHECK(action.given_up);
    CHECK(nothing_follows(holder));
    struct fm_master_holding holdings[FM_MASTER_SHARDS_OF_ONE_MAX];
    CHECK_UINT_EQ(fm_holder_holdings(holder, holdings), 1);
    CHECK_UINT_EQ(holdings[0].number, 2);
    fm_holder_destroy(holder);
}

TEST_MAIN()
