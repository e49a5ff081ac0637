/*
 * The crew's rules, one by one; tests/prop/crew.c has them with random workers.
 */
#include "core/ledger/crew.h"

#include "core/ledger/blame.h"
#include "tests/harness/test.h"

#define MS UINT64_C(1000000)

static struct fm_crew *crew_of(uint32_t places)
{
    const struct fm_crew_options options = {.places = places,
                                            .restart_ns = 50 * MS,
                                            .restart_max_ns = 300 * MS,
                                            .in_vain_max = 3,
                                            .silent_ns = 3000 * MS,
                                            .leave_ns = 500 * MS,
                                            .calm_ns = 10000 * MS,
                                            .calm_max_ns = 30000 * MS,
                                            .pause_ns = 5000 * MS};
    struct fm_crew *crew = NULL;
    if (fm_crew_create(&options, 0, &crew) != 0) {
        abort();
    }
    return crew;
}

/* Whether the next action is this one. */
static bool next_is(struct fm_crew *crew, enum fm_crew_action_kind kind, uint32_t place)
{
    struct fm_crew_action action;
    fm_crew_validate(crew);
    return fm_crew_next_action(crew, &action) && action.kind == kind && action.place == place;
}

static bool nothing_follows(struct fm_crew *crew)
{
    struct fm_crew_action action;
    return !fm_crew_next_action(crew, &action);
}

/* A process in place 0 that has asked for work. */
static void work_begin(struct fm_crew *crew, uint64_t now_ns, bool single)
{
    fm_crew_tick(crew, now_ns);
    if (!next_is(crew, FM_CREW_START, 0)) {
        abort();
    }
    (void)fm_crew_welcome(crew, 0);
    fm_crew_joined(crew, now_ns, 0, single);
}

static struct fm_crew_verdict ended(struct fm_crew *crew, uint64_t now_ns, enum fm_crew_exit exit)
{
    struct fm_crew_verdict verdict;
    fm_crew_ended(crew, now_ns, 0, exit, "signal 6 (Aborted)", &verdict);
    fm_crew_validate(crew);
    return verdict;
}

static struct fm_crew_counts counts_of(const struct fm_crew *crew)
{
    struct fm_crew_counts counts;
    fm_crew_counts(crew, &counts);
    return counts;
}

TEST(a_crash_is_held_against_the_rows_and_the_next_start_waits)
{
    struct fm_crew *crew = crew_of(1);
    work_begin(crew, 0, false);
    struct fm_crew_verdict verdict = ended(crew, 1000 * MS, FM_CREW_EXIT_CRASH);
    CHECK_INT_EQ(verdict.reason, FM_CREW_REASON_CRASH);
    CHECK_INT_EQ(verdict.failure, FM_SHARD_FAILURE_DATA);
    CHECK(!verdict.harmless && !verdict.wanted && !verdict.smaller);
    CHECK_STR_EQ(verdict.words, "the worker that ran it ended with signal 6 (Aborted)");
    fm_crew_tick(crew, 1049 * MS);
    CHECK(nothing_follows(crew));
    fm_crew_tick(crew, 1050 * MS);
    CHECK(next_is(crew, FM_CREW_START, 0));
    CHECK_UINT_EQ(counts_of(crew).restarts[FM_CREW_REASON_CRASH], 1);
    fm_crew_destroy(crew);
}

TEST(delays_double_until_a_process_has_finished_something)
{
    struct fm_crew *crew = crew_of(1);
    const uint64_t delays_ms[] = {50, 100, 200, 300, 300, 50, 100};
    uint64_t now_ns = 0;
    for (size_t i = 0; i < sizeof(delays_ms) / sizeof(delays_ms[0]); i++) {
        work_begin(crew, now_ns, false);
        if (i == 5) {
            fm_crew_worked(crew, 0);
        }
        (void)ended(crew, now_ns, FM_CREW_EXIT_CRASH);
        fm_crew_tick(crew, now_ns + delays_ms[i] * MS - 1);
        CHECK(nothing_follows(crew));
        now_ns += delays_ms[i] * MS;
    }
    fm_crew_destroy(crew);
}

TEST(workers_that_cannot_begin_end_the_job)
{
    struct fm_crew *crew = crew_of(1);
    struct fm_crew_action action;
    uint64_t now_ns = 0;
    for (int i = 0; i < 3; i++) {
        fm_crew_tick(crew, now_ns);
        CHECK(next_is(crew, FM_CREW_START, 0));
        if (i == 1) {
            fm_crew_start_failed(crew, now_ns, 0, "no such program");
        } else {
            (void)ended(crew, now_ns, FM_CREW_EXIT_OTHER);
        }
        now_ns += 1000 * MS;
    }
    CHECK(fm_crew_next_action(crew, &action));
    CHECK_INT_EQ(action.kind, FM_CREW_GIVE_UP);
    CHECK_STR_EQ(action.error.text, "3 workers in a row could not begin to work; the last one: "
                                    "signal 6 (Aborted)");
    fm_crew_tick(crew, now_ns + 10000 * MS);
    CHECK(nothing_follows(crew)); /* for good */
    CHECK_UINT_EQ(fm_crew_running(crew), 0);
    fm_crew_destroy(crew);
}

TEST(somebody_who_kills_them_says_little_about_whether_they_could_begin)
{
    struct fm_crew *crew = crew_of(1);
    struct fm_crew_action action;
    uint64_t now_ns = 0;
    /* Three failures are too many, or thirty kills; here two failures and ten kills. */
    for (int i = 0; i < 12; i++) {
        fm_crew_tick(crew, now_ns);
        CHECK(next_is(crew, FM_CREW_START, 0));
        (void)ended(crew, now_ns, i < 2 ? FM_CREW_EXIT_OTHER : FM_CREW_EXIT_KILLED);
        now_ns += 1000 * MS;
    }
    CHECK(fm_crew_next_action(crew, &action));
    CHECK_INT_EQ(action.kind, FM_CREW_GIVE_UP);
    CHECK_STR_EQ(action.error.text, "12 workers in a row could not begin to work; the last one: "
                                    "signal 6 (Aborted)");
    fm_crew_destroy(crew);
}

TEST(one_that_begins_shows_that_it_can_be_done)
{
    struct fm_crew *crew = crew_of(1);
    uint64_t now_ns = 0;
    for (int i = 0; i < 9; i++) {
        fm_crew_tick(crew, now_ns);
        CHECK(next_is(crew, FM_CREW_START, 0));
        if (i % 3 == 2) {
            fm_crew_joined(crew, now_ns, 0, false);
        }
        (void)ended(crew, now_ns, FM_CREW_EXIT_OTHER);
        now_ns += 1000 * MS;
    }
    fm_crew_tick(crew, now_ns);
    CHECK(next_is(crew, FM_CREW_START, 0));
    fm_crew_destroy(crew);
}

TEST(a_place_that_never_works_beside_one_that_does_is_tried_on)
{
    struct fm_crew *crew = crew_of(2);
    struct fm_crew_verdict verdict;
    fm_crew_tick(crew, 0);
    CHECK(next_is(crew, FM_CREW_START, 0));
    CHECK(next_is(crew, FM_CREW_START, 1));
    fm_crew_joined(crew, 0, 0, false);
    for (uint64_t i = 1; i < 20; i++) {
        fm_crew_ended(crew, i * 1000 * MS, 1, FM_CREW_EXIT_OTHER, "exit code 3", &verdict);
        fm_crew_heard(crew, i * 1000 * MS, 0);
        fm_crew_tick(crew, i * 1000 * MS + 300 * MS);
        CHECK(next_is(crew, FM_CREW_START, 1));
    }
    fm_crew_destroy(crew);
}

TEST(silence_is_ended_and_counts_as_a_hang)
{
    struct fm_crew *crew = crew_of(1);
    work_begin(crew, 0, false);
    fm_crew_tick(crew, 2000 * MS);
    fm_crew_heard(crew, 2000 * MS, 0);
    fm_crew_tick(crew, 4999 * MS);
    CHECK(nothing_follows(crew));
    fm_crew_tick(crew, 5000 * MS);
    CHECK(next_is(crew, FM_CREW_KILL, 0));
    fm_crew_tick(crew, 6000 * MS);
    CHECK(nothing_follows(crew)); /* once is enough */
    struct fm_crew_verdict verdict = ended(crew, 6000 * MS, FM_CREW_EXIT_OTHER);
    CHECK_INT_EQ(verdict.reason, FM_CREW_REASON_HANG);
    CHECK_INT_EQ(verdict.failure, FM_SHARD_FAILURE_INFRASTRUCTURE);
    CHECK_STR_EQ(verdict.words, "[EDEADLINE process] the worker that ran it was not heard of for 3 "
                                "s, and was ended");
    fm_crew_destroy(crew);
}

TEST(while_this_process_stands_still_nobody_is_silent)
{
    struct fm_crew *crew = crew_of(1);
    work_begin(crew, 0, false);
    fm_crew_tick(crew, 1000 * MS);
    fm_crew_tick(crew, 60000 * MS);
    CHECK(nothing_follows(crew));
    fm_crew_tick(crew, 61999 * MS);
    CHECK(nothing_follows(crew));
    fm_crew_tick(crew, 62000 * MS);
    CHECK(next_is(crew, FM_CREW_KILL, 0));
    fm_crew_destroy(crew);
}

TEST(loading_may_take_long)
{
    struct fm_crew *crew = crew_of(1);
    fm_crew_tick(crew, 0);
    CHECK(next_is(crew, FM_CREW_START, 0));
    for (uint64_t s = 1; s < 600; s++) {
        fm_crew_tick(crew, s * 1000 * MS);
        CHECK(nothing_follows(crew));
    }
    fm_crew_destroy(crew);
}

TEST(one_that_says_that_it_hangs_has_little_time_to_go)
{
    struct fm_crew *crew = crew_of(1);
    work_begin(crew, 0, false);
    fm_crew_leaving(crew, 1000 * MS, 0, FM_CREW_HUNG);
    fm_crew_tick(crew, 1499 * MS);
    CHECK(nothing_follows(crew));
    fm_crew_tick(crew, 1500 * MS);
    CHECK(next_is(crew, FM_CREW_KILL, 0));
    struct fm_crew_verdict verdict = ended(crew, 1510 * MS, FM_CREW_EXIT_OTHER);
    CHECK_INT_EQ(verdict.reason, FM_CREW_REASON_HANG);
    CHECK(verdict.harmless); /* it has said which rows are to blame */
    fm_crew_destroy(crew);
}

TEST(a_recycled_one_is_followed_at_once)
{
    struct fm_crew *crew = crew_of(1);
    work_begin(crew, 0, false);
    fm_crew_leaving(crew, 1000 * MS, 0, FM_CREW_RECYCLED);
    struct fm_crew_verdict verdict = ended(crew, 1010 * MS, FM_CREW_EXIT_OTHER);
    CHECK_INT_EQ(verdict.reason, FM_CREW_REASON_RECYCLED);
    CHECK(verdict.harmless);
    fm_crew_tick(crew, 1010 * MS);
    CHECK(next_is(crew, FM_CREW_START, 0));
    fm_crew_destroy(crew);
}

TEST(without_memory_the_next_ones_do_half_until_one_row_is_left)
{
    struct fm_crew *crew = crew_of(1);
    struct fm_blame blame;
    for (uint32_t i = 0; i < 4; i++) {
        work_begin(crew, i * 1000 * MS, i == 3);
        CHECK_UINT_EQ(fm_crew_welcome(crew, 0), i);
        /* What the worker says and what the kernel shows come to the same. */
        if (i % 2 == 0) {
            fm_crew_leaving(crew, i * 1000 * MS, 0, FM_CREW_STARVED);
        }
        struct fm_crew_verdict verdict =
            ended(crew, i * 1000 * MS, i % 2 == 0 ? FM_CREW_EXIT_OTHER : FM_CREW_EXIT_MEMORY);
        CHECK_INT_EQ(verdict.reason, FM_CREW_REASON_MEMORY);
        CHECK(verdict.smaller == (i < 3) && verdict.harmless == (i < 3));
        fm_blame_read(verdict.words, &blame);
        CHECK_INT_EQ(blame.status, FM_ENOMEM);
        CHECK_INT_EQ(verdict.failure, FM_SHARD_FAILURE_DATA);
    }
    CHECK_UINT_EQ(counts_of(crew).halvings, 3);
    CHECK_UINT_EQ(counts_of(crew).restarts[FM_CREW_REASON_MEMORY], 4);
    fm_crew_destroy(crew);
}

TEST(one_lack_of_memory_in_many_processes_is_one_halving)
{
    struct fm_crew *crew = crew_of(1);
    struct fm_crew_verdict verdict;
    work_begin(crew, 0, false);
    fm_crew_starved_elsewhere(crew, 1000 * MS, 0, false, false, &verdict);
    CHECK(verdict.smaller && verdict.harmless);
    fm_crew_starved_elsewhere(crew, 1000 * MS, 0, false, false, &verdict);
    CHECK(verdict.smaller);
    CHECK_UINT_EQ(counts_of(crew).halvings, 1);
    (void)ended(crew, 1000 * MS, FM_CREW_EXIT_MEMORY);
    CHECK_UINT_EQ(counts_of(crew).halvings, 1);
    fm_crew_starved_elsewhere(crew, 1000 * MS, 1, false, false, &verdict);
    CHECK_UINT_EQ(counts_of(crew).halvings, 2);
    fm_crew_starved_elsewhere(crew, 1000 * MS, 2, true, false, &verdict);
    CHECK(!verdict.smaller && !verdict.harmless);
    CHECK_UINT_EQ(counts_of(crew).halvings, 2);
    fm_crew_destroy(crew);
}

TEST(calm_brings_the_size_back_one_process_after_the_other)
{
    struct fm_crew *crew = crew_of(2);
    struct fm_crew_verdict verdict;
    fm_crew_starved_elsewhere(crew, 0, 0, false, false, &verdict);
    fm_crew_tick(crew, 0);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK(next_is(crew, FM_CREW_START, i));
        CHECK_UINT_EQ(fm_crew_welcome(crew, i), 1);
        fm_crew_joined(crew, 0, i, false);
    }
    for (uint64_t ms = 0; ms < 10000; ms += 500) {
        fm_crew_tick(crew, ms * MS);
        fm_crew_heard(crew, ms * MS, 0);
        fm_crew_heard(crew, ms * MS, 1);
        CHECK(nothing_follows(crew));
    }
    fm_crew_tick(crew, 10000 * MS);
    CHECK_UINT_EQ(counts_of(crew).halvings, 0);
    CHECK(next_is(crew, FM_CREW_RECYCLE, 0));
    fm_crew_tick(crew, 10100 * MS);
    CHECK(nothing_follows(crew)); /* the other one when this one is back */
    fm_crew_leaving(crew, 10200 * MS, 0, FM_CREW_RECYCLED);
    (void)ended(crew, 10200 * MS, FM_CREW_EXIT_OTHER);
    fm_crew_tick(crew, 10200 * MS);
    CHECK(next_is(crew, FM_CREW_START, 0));
    CHECK(nothing_follows(crew));
    CHECK_UINT_EQ(fm_crew_welcome(crew, 0), 0);
    fm_crew_joined(crew, 10300 * MS, 0, false);
    fm_crew_tick(crew, 10300 * MS);
    CHECK(next_is(crew, FM_CREW_RECYCLE, 1));
    /* The next lack of memory is followed by a longer calm. */
    fm_crew_starved_elsewhere(crew, 11000 * MS, 0, false, false, &verdict);
    fm_crew_tick(crew, 15000 * MS);
    CHECK_UINT_EQ(counts_of(crew).halvings, 1);
    fm_crew_tick(crew, 30999 * MS);
    CHECK_UINT_EQ(counts_of(crew).halvings, 1);
    fm_crew_tick(crew, 31000 * MS);
    CHECK_UINT_EQ(counts_of(crew).halvings, 0);
    fm_crew_destroy(crew);
}

TEST(at_the_end_nobody_is_started_and_who_stays_is_pressed)
{
    struct fm_crew *crew = crew_of(1);
    work_begin(crew, 0, false);
    fm_crew_end(crew, UINT64_MAX);
    fm_crew_tick(crew, 4000 * MS);
    CHECK(nothing_follows(crew)); /* nor is silence looked at any more */
    fm_crew_end(crew, 5000 * MS);
    fm_crew_end(crew, UINT64_MAX);
    fm_crew_tick(crew, 4999 * MS);
    CHECK(nothing_follows(crew));
    fm_crew_tick(crew, 5000 * MS);
    CHECK(next_is(crew, FM_CREW_KILL, 0));
    struct fm_crew_verdict verdict = ended(crew, 5000 * MS, FM_CREW_EXIT_OTHER);
    CHECK(verdict.wanted);
    fm_crew_tick(crew, 9000 * MS);
    CHECK(nothing_follows(crew));
    CHECK_UINT_EQ(counts_of(crew).restarts[FM_CREW_REASON_LOST], 0);
    fm_crew_destroy(crew);
}

TEST(one_that_went_politely_has_done_no_harm)
{
    struct fm_crew *crew = crew_of(1);
    work_begin(crew, 0, false);
    struct fm_crew_verdict verdict = ended(crew, 0, FM_CREW_EXIT_CLEAN);
    CHECK(verdict.harmless);
    work_begin(crew, 1000 * MS, false);
    fm_crew_leaving(crew, 1000 * MS, 0, FM_CREW_WENT);
    fm_crew_leaving(crew, 1000 * MS, 0, FM_CREW_STARVED); /* the first word counts */
    verdict = ended(crew, 1000 * MS, FM_CREW_EXIT_OTHER);
    CHECK(verdict.harmless);
    CHECK_INT_EQ(verdict.reason, FM_CREW_REASON_LOST);
    CHECK_STR_EQ(fm_crew_reason_name(verdict.reason), "lost");
    fm_crew_destroy(crew);
}

TEST(who_does_not_begin_in_time_is_ended_and_counts_as_one_that_cannot)
{
    const struct fm_crew_options options = {.places = 1,
                                            .restart_ns = 50 * MS,
                                            .restart_max_ns = 300 * MS,
                                            .in_vain_max = 2,
                                            .begin_ns = 2500 * MS,
                                            .pause_ns = 100000 * MS};
    struct fm_crew *crew = NULL;
    struct fm_crew_action action;
    CHECK_INT_EQ(fm_crew_create(&options, 0, &crew), 0);
    for (uint64_t now_ns = 0; now_ns <= 10000 * MS; now_ns += 10000 * MS) {
        fm_crew_tick(crew, now_ns);
        CHECK(next_is(crew, FM_CREW_START, 0));
        fm_crew_tick(crew, now_ns + 2499 * MS);
        CHECK(nothing_follows(crew));
        fm_crew_tick(crew, now_ns + 2500 * MS);
        CHECK(next_is(crew, FM_CREW_KILL, 0));
        struct fm_crew_verdict verdict = ended(crew, now_ns + 2600 * MS, FM_CREW_EXIT_KILLED);
        CHECK(verdict.harmless);
        CHECK_INT_EQ(verdict.reason, FM_CREW_REASON_HANG);
    }
    CHECK(fm_crew_next_action(crew, &action));
    CHECK_INT_EQ(action.kind, FM_CREW_GIVE_UP);
    CHECK_STR_EQ(action.error.text,
                 "2 workers in a row could not begin to work; the last one: it had not asked for "
                 "work after 2.5 s (limits.begin_time), and was ended");
    fm_crew_destroy(crew);
}

TEST(who_costs_least_goes_first_and_nobody_takes_its_place)
{
    struct fm_crew *crew = crew_of(4);
    struct fm_crew_verdict verdict;
    fm_crew_want(crew, 0, 3);
    fm_crew_tick(crew, 0);
    for (uint32_t place = 0; place < 3; place++) {
        CHECK(next_is(crew, FM_CREW_START, place));
        fm_crew_value(crew, place, place == 1 ? 5 : 9);
    }
    CHECK(nothing_follows(crew));
    fm_crew_joined(crew, 1000 * MS, 0, false);
    fm_crew_joined(crew, 1000 * MS, 1, false);
    CHECK_UINT_EQ(fm_crew_startup_ns(crew), 1000 * MS);
    fm_crew_want(crew, 1000 * MS, 2); /* the third one is still loading, and holds nothing */
    CHECK(next_is(crew, FM_CREW_KILL, 2));
    fm_crew_ended(crew, 1100 * MS, 2, FM_CREW_EXIT_KILLED, "signal 9 (Killed)", &verdict);
    CHECK(verdict.wanted && verdict.harmless);
    fm_crew_want(crew, 1200 * MS, 1);
    CHECK(next_is(crew, FM_CREW_RETIRE, 1)); /* the slower one */
    CHECK_UINT_EQ(fm_crew_working(crew), 1);
    fm_crew_leaving(crew, 1300 * MS, 1, FM_CREW_WENT);
    fm_crew_ended(crew, 1400 * MS, 1, FM_CREW_EXIT_CLEAN, "exit code 0", &verdict);
    CHECK(verdict.wanted && verdict.harmless);
    fm_crew_tick(crew, 2000 * MS);
    CHECK(nothing_follows(crew));
    fm_crew_want(crew, 2000 * MS, 2); /* and without delay when more are wanted again */
    fm_crew_tick(crew, 2000 * MS);
    CHECK(next_is(crew, FM_CREW_START, 1));
    CHECK_UINT_EQ(counts_of(crew).restarts[FM_CREW_REASON_LOST], 0);
    fm_crew_destroy(crew);
}

TEST(who_is_asked_to_go_and_crashes_meanwhile_has_crashed)
{
    struct fm_crew *crew = crew_of(1);
    work_begin(crew, 0, false);
    fm_crew_want(crew, 100 * MS, 0);
    CHECK(next_is(crew, FM_CREW_RETIRE, 0));
    struct fm_crew_verdict verdict = ended(crew, 200 * MS, FM_CREW_EXIT_CRASH);
    CHECK(!verdict.wanted && !verdict.harmless);
    CHECK_INT_EQ(verdict.failure, FM_SHARD_FAILURE_DATA);
    fm_crew_tick(crew, 9000 * MS);
    CHECK(nothing_follows(crew));
    fm_crew_destroy(crew);
}

TEST(a_place_that_opens_again_is_taken_when_its_process_has_gone)
{
    struct fm_crew *crew = crew_of(1);
    struct fm_crew_verdict verdict;
    work_begin(crew, 0, false);
    fm_crew_want(crew, 100 * MS, 0);
    CHECK(next_is(crew, FM_CREW_RETIRE, 0));
    fm_crew_want(crew, 200 * MS, 1);
    fm_crew_tick(crew, 300 * MS);
    CHECK(nothing_follows(crew));
    fm_crew_leaving(crew, 400 * MS, 0, FM_CREW_WENT);
    fm_crew_ended(crew, 500 * MS, 0, FM_CREW_EXIT_CLEAN, "exit code 0", &verdict);
    CHECK(verdict.wanted);
    fm_crew_tick(crew, 500 * MS);
    CHECK(next_is(crew, FM_CREW_START, 0));
    fm_crew_destroy(crew);
}

TEST_MAIN()
