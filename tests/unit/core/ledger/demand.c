/*
 * How many workers a job wants, one rule at a time; tests/prop/demand.c has worlds of them.
 */
#include "core/ledger/demand.h"

#include "tests/harness/test.h"

#define MS UINT64_C(1000000)
#define S  (1000 * MS)

/* A job whose workers come at once and do what `bring` says in a second, all together. */
static struct {
    struct fm_demand demand;
    struct fm_demand_look look;
    struct fm_demand_advice advice;
    double done;
} rig;

static void begin(uint32_t min, uint32_t max, uint64_t rows, uint64_t left_ns)
{
    const struct fm_demand_options options = {.settle_ns = S,
                                              .window_ns = 3 * S,
                                              .window_max_ns = 60 * S,
                                              .window_rows = 8,
                                              .hold_ns = 30 * S,
                                              .ceiling_ns = 600 * S,
                                              .idle_ns = 2 * S,
                                              .late_ns = 5 * S,
                                              .startup_ns = S};
    memset(&rig, 0, sizeof(rig));
    fm_demand_init(&rig.demand, &options);
    rig.look = (struct fm_demand_look){.now_ns = S,
                                       .min = min,
                                       .max = max,
                                       .timed = left_ns > 0,
                                       .left_ns = left_ns,
                                       .rows_left = rows,
                                       .working = min,
                                       .startup_ns = 500 * MS};
    rig.advice = fm_demand_update(&rig.demand, &rig.look);
}

static void work(uint64_t ns, double (*bring)(uint32_t workers))
{
    for (uint64_t end_ns = rig.look.now_ns + ns; rig.look.now_ns < end_ns;) {
        rig.look.working = rig.advice.workers;
        rig.look.now_ns += 200 * MS;
        rig.look.left_ns -= rig.look.timed && rig.look.left_ns > 0 ? 200 * MS : 0;
        rig.done += bring(rig.look.working) * 0.2;
        uint64_t rows = (uint64_t)rig.done - rig.look.rows_done;
        rows = rows < rig.look.rows_left ? rows : rig.look.rows_left;
        rig.look.rows_done += rows;
        rig.look.rows_left -= rows;
        rig.advice = fm_demand_update(&rig.demand, &rig.look);
    }
}

static double ten_each(uint32_t workers)
{
    return 10.0 * workers;
}

static double room_for_three(uint32_t workers)
{
    return workers < 3 ? 10.0 * workers : 30;
}

static double nothing(uint32_t workers)
{
    (void)workers;
    return 0;
}

TEST(it_grows_as_long_as_that_pays)
{
    begin(1, 6, 100000, 0);
    work(60 * S, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 6);
    CHECK_INT_EQ(rig.advice.reason, FM_DEMAND_MOST);
}

TEST(it_goes_back_where_growing_brought_little_and_stays_there)
{
    begin(1, 64, 1000000, 0);
    work(400 * S, room_for_three);
    CHECK_UINT_EQ(rig.advice.workers, 4); /* of the third and fourth each brought half of one */
    CHECK_INT_EQ(rig.advice.reason, FM_DEMAND_NO_GAIN);
}

TEST(a_short_rest_is_not_worth_a_start)
{
    begin(1, 8, 60, 0);
    work(5 * S, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 1);
    CHECK_INT_EQ(rig.advice.reason, FM_DEMAND_SHORT);
}

TEST(as_many_as_finish_in_time)
{
    begin(1, 64, 36000, 600 * S); /* six would do if they were there at once */
    work(60 * S, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 8);
    CHECK_INT_EQ(rig.advice.reason, FM_DEMAND_FINISH_BY);
    CHECK(!rig.advice.late);
}

TEST(what_cannot_be_done_in_time_is_late_and_gets_the_most)
{
    begin(1, 4, 36000, 600 * S);
    work(60 * S, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 4);
    CHECK_INT_EQ(rig.advice.reason, FM_DEMAND_LATE);
    CHECK(rig.advice.late);
}

TEST(one_number_is_no_choice_and_may_be_late_all_the_same)
{
    begin(2, 2, 36000, 600 * S);
    work(60 * S, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 2);
    CHECK_INT_EQ(rig.advice.reason, FM_DEMAND_FIXED);
    CHECK(rig.advice.late);
}

TEST(fewer_do_when_the_rows_have_become_fewer)
{
    begin(1, 64, 36000, 600 * S);
    work(60 * S, ten_each);
    rig.look.rows_left = 4000;
    work(29 * S, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 8); /* it may be nothing but a moment */
    work(10 * S, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 1);
}

TEST(who_gets_no_work_at_the_end_is_not_wanted)
{
    begin(1, 8, 100000, 0);
    work(60 * S, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 8);
    rig.look.idle = 5;
    work(1800 * MS, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 8);
    work(400 * MS, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 3);
    CHECK_INT_EQ(rig.advice.reason, FM_DEMAND_NO_WORK);
    rig.look.idle = 0;
    work(60 * S, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 3); /* and does not come back */
}

TEST(while_it_is_paused_nothing_is_learned)
{
    begin(1, 8, 100000, 0);
    rig.look.paused = true;
    work(100 * S, nothing);
    rig.look.paused = false;
    CHECK_UINT_EQ(rig.advice.workers, 1);
    work(6 * S, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 2);
}

TEST(other_bounds_count_at_once)
{
    begin(1, 8, 100000, 0);
    work(60 * S, ten_each);
    rig.look.max = 3;
    work(S, ten_each);
    CHECK_UINT_EQ(rig.advice.workers, 3);
}

TEST_MAIN()
