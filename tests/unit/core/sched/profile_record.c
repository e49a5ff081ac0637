/*
 * Tests of core/sched/profile_record: the choice among settings, with the numbers of the reference
 * machine.
 */
#include "core/sched/profile_record.h"

#include "tests/harness/test.h"

/* Adds a point: rate in rows per second, p99 in microseconds. */
static int add(struct fm_profile_setting *setting, uint32_t batch, uint64_t rate, uint64_t p99_us)
{
    struct fm_profile_point point = {.batch = batch, .sample_count = 10};
    struct fm_profile_measure measure = {.rate_millihertz = rate * 1000};
    for (unsigned i = 0; i < FM_PROFILE_STATISTIC_COUNT_; i++) {
        point.latency_ns[i] = p99_us * 1000;
    }
    return fm_profile_setting_add(setting, &point, &measure, NULL);
}

/* Recognition on two cores: instances beat threads, one row at a time is best. */
static void reference(struct fm_profile_record *record)
{
    memset(record, 0, sizeof *record);
    record->setting_count = 3;
    record->settings[0].threads = 1;
    record->settings[0].instances = 1;
    record->settings[1].threads = 1;
    record->settings[1].instances = 2;
    record->settings[2].threads = 2;
    record->settings[2].instances = 1;
    (void)!add(&record->settings[0], 8, 47, 170000);
    (void)!add(&record->settings[0], 1, 50, 20100);
    (void)!add(&record->settings[1], 1, 99, 20300);
    (void)!add(&record->settings[1], 8, 86, 190000);
    (void)!add(&record->settings[2], 1, 58, 17300);
    (void)!add(&record->settings[2], 8, 87, 92000);
}

TEST(points_and_measures_stay_in_step)
{
    static struct fm_profile_record record;
    reference(&record);
    CHECK_UINT_EQ(record.settings[0].profile.points[0].batch, 1);
    CHECK_UINT_EQ(record.settings[0].measures[0].rate_millihertz, 50000);
    CHECK_UINT_EQ(record.settings[0].measures[1].rate_millihertz, 47000);
    CHECK_INT_EQ(add(&record.settings[0], 8, 1, 1), FM_EEXIST);
    CHECK_UINT_EQ(record.settings[0].measures[1].rate_millihertz, 47000);
}

TEST(two_instances_of_one_thread_win)
{
    static struct fm_profile_record record;
    reference(&record);
    CHECK(fm_profile_record_choose(&record, 2, 0, 20));
    CHECK_UINT_EQ(record.choice_setting, 1);
    CHECK_UINT_EQ(record.choice_point, 0);
}

TEST(limits_narrow_the_choice)
{
    static struct fm_profile_record record;
    reference(&record);
    CHECK(fm_profile_record_choose(&record, 1, 0, 20)); /* one CPU */
    CHECK_UINT_EQ(record.choice_setting, 0);
    CHECK(fm_profile_record_choose(&record, 2, 20000000,
                                   20)); /* p99 within 20 ms: only two threads do that */
    CHECK_UINT_EQ(record.choice_setting, 2);
    CHECK(!fm_profile_record_choose(&record, 2, 1000000, 20));
    CHECK(!record.has_choice);
    CHECK_UINT_EQ(record.slo_ns, 1000000);
}

TEST(near_equals_are_decided_by_batch_then_cpus_then_threads)
{
    static struct fm_profile_record record;
    reference(&record);
    (void)!add(&record.settings[1], 16, 100, 400000); /* 1 % faster, far larger batch */
    CHECK(fm_profile_record_choose(&record, 2, 0, 20));
    CHECK_UINT_EQ(record.choice_point, 0);
    CHECK(fm_profile_record_choose(&record, 2, 0, 0));
    CHECK_UINT_EQ(record.choice_point, 2);
    record.settings[0].measures[0].rate_millihertz = 99500; /* one CPU as fast as two */
    record.settings[2].measures[0].rate_millihertz = 99900;
    CHECK(fm_profile_record_choose(&record, 2, 0, 20));
    CHECK_UINT_EQ(record.choice_setting, 0);
    record.settings[0].measures[0].rate_millihertz = 1000;
    CHECK(fm_profile_record_choose(&record, 2, 0, 20));
    CHECK_UINT_EQ(record.choice_setting, 1); /* fewer threads */
}

TEST(settings_are_found)
{
    static struct fm_profile_record record;
    reference(&record);
    CHECK_PTR_EQ(fm_profile_record_find(&record, 2, 1), &record.settings[2]);
    CHECK_PTR_EQ(fm_profile_record_find(&record, 2, 2), NULL);
    CHECK_PTR_EQ(fm_profile_record_find(&record, 0, 0), &record.settings[0]);
    CHECK(fm_profile_record_choose(&record, 2, 0, 20));
    CHECK_PTR_EQ(fm_profile_record_find(&record, 0, 0), &record.settings[1]);
    CHECK_PTR_EQ(fm_profile_record_find(&record, 2, 0), &record.settings[2]);
}

TEST_MAIN()
