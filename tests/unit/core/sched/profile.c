/*
 * Tests of core/sched/profile: the table, l(b) against its definition, and every search against
 * brute force.
 */
#include "core/sched/profile.h"

#include "core/util/random.h"
#include "tests/harness/test.h"

static struct fm_profile_point flat_point(uint32_t batch, uint64_t latency_ns)
{
    struct fm_profile_point point = {.batch = batch, .sample_count = 1};
    for (unsigned i = 0; i < FM_PROFILE_STATISTIC_COUNT_; i++) {
        point.latency_ns[i] = latency_ns;
    }
    return point;
}

static int add(struct fm_profile *profile, uint32_t batch, uint64_t latency_ns)
{
    struct fm_profile_point point = flat_point(batch, latency_ns);
    return fm_profile_add(profile, &point, NULL);
}

TEST(points_are_sorted_and_checked)
{
    struct fm_profile profile = {0};
    CHECK_INT_EQ(add(&profile, 8, 165), 0);
    CHECK_INT_EQ(add(&profile, 1, 20), 0);
    CHECK_INT_EQ(add(&profile, 32, 887), 0);
    CHECK_UINT_EQ(profile.point_count, 3);
    CHECK_UINT_EQ(profile.points[0].batch, 1);
    CHECK_UINT_EQ(profile.points[2].batch, 32);
    CHECK(fm_profile_validate(&profile));
    CHECK_INT_EQ(add(&profile, 8, 1), FM_EEXIST);
    CHECK_INT_EQ(add(&profile, 0, 1), FM_EINVAL);
    CHECK_INT_EQ(add(&profile, FM_PROFILE_BATCH_MAX + 1, 1), FM_EINVAL);
    CHECK_INT_EQ(add(&profile, 2, 0), FM_EINVAL);
    CHECK_INT_EQ(add(&profile, 2, FM_PROFILE_LATENCY_MAX_NS + 1), FM_EINVAL);
    struct fm_error error = {0};
    struct fm_profile_point falling = flat_point(2, 100);
    falling.latency_ns[FM_PROFILE_P99] = 99;
    CHECK_INT_EQ(fm_profile_add(&profile, &falling, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "p99 (99 ns) is below p90");
    for (uint32_t i = 0; profile.point_count < FM_PROFILE_POINTS_MAX; i++) {
        CHECK_INT_EQ(add(&profile, 100 + i, 1000), 0);
    }
    CHECK_INT_EQ(add(&profile, 99, 1000), FM_ELIMIT);
}

TEST(samples_become_a_point)
{
    static const uint64_t sorted_ns[] = {10, 20, 30, 40, 50, 60, 70, 80, 90, 150};
    static const uint64_t none = 0;
    struct fm_profile profile = {0};
    CHECK_INT_EQ(fm_profile_add_samples(&profile, 4, sorted_ns, 10), 0);
    const struct fm_profile_point *point = &profile.points[0];
    CHECK_UINT_EQ(point->batch, 4);
    CHECK_UINT_EQ(point->sample_count, 10);
    CHECK_UINT_EQ(point->latency_ns[FM_PROFILE_MEAN], 60);
    CHECK_UINT_EQ(point->latency_ns[FM_PROFILE_P50], 60);
    CHECK_UINT_EQ(point->latency_ns[FM_PROFILE_P90], 150);
    CHECK_UINT_EQ(point->latency_ns[FM_PROFILE_P99], 150);
    CHECK_INT_EQ(fm_profile_add_samples(&profile, 4, sorted_ns, 1), FM_EEXIST);
    CHECK_INT_EQ(fm_profile_add_samples(&profile, 8, &none, 1), 0);
    CHECK_UINT_EQ(profile.points[1].latency_ns[FM_PROFILE_P50], 1);
}

TEST(latency_interpolates_and_extrapolates)
{
    struct fm_profile profile = {0};
    CHECK_INT_EQ(add(&profile, 2, 200), 0);
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_P50, 1), 200);
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_P50, 4),
                  400); /* one point: proportional */
    CHECK_INT_EQ(add(&profile, 4, 300), 0);
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_P50, 3), 250);
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_P50, 6), 400);
    CHECK_INT_EQ(add(&profile, 8, 300), 0); /* a flat end does not extrapolate flat */
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_P50, 8), 300);
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_P50, 14), 400);
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_P50, FM_PROFILE_BATCH_MAX),
                  300 + (65528 * 100 + 5) / 6);
}

TEST(noise_never_makes_a_larger_batch_faster)
{
    struct fm_profile profile = {0};
    CHECK_INT_EQ(add(&profile, 1, 100), 0);
    CHECK_INT_EQ(add(&profile, 2, 180), 0);
    CHECK_INT_EQ(add(&profile, 4, 150), 0);
    CHECK_INT_EQ(add(&profile, 8, 400), 0);
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_MEAN, 3), 180);
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_MEAN, 4), 180);
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_MEAN, 6), 290);
}

TEST(statistic_is_selectable)
{
    struct fm_profile profile = {0};
    struct fm_profile_point point = {.batch = 1, .latency_ns = {105, 100, 130, 190}};
    CHECK_INT_EQ(fm_profile_add(&profile, &point, NULL), 0);
    for (unsigned i = 0; i < FM_PROFILE_STATISTIC_COUNT_; i++) {
        enum fm_profile_statistic statistic = (enum fm_profile_statistic)i;
        CHECK_UINT_EQ(fm_profile_latency_ns(&profile, statistic, 1), point.latency_ns[i]);
        CHECK_INT_EQ(fm_profile_statistic_parse(fm_profile_statistic_name(statistic)), i);
    }
    CHECK_INT_EQ(fm_profile_statistic_parse("p42"), FM_PROFILE_STATISTIC_COUNT_);
}

/* The CPU of the reference: recognition is convex, so one row at a time is best; the MatMul batches
 * well up to 4. */
TEST(knee_of_convex_and_concave_profiles)
{
    struct fm_profile recognition = {0};
    CHECK_INT_EQ(add(&recognition, 1, 20100), 0);
    CHECK_INT_EQ(add(&recognition, 8, 165000), 0);
    CHECK_INT_EQ(add(&recognition, 32, 887000), 0);
    CHECK_UINT_EQ(fm_profile_knee(&recognition, FM_PROFILE_P50, 50), 1);
    CHECK_UINT_EQ(fm_profile_batch_fastest_within(&recognition, FM_PROFILE_P50, 1000000, 64), 1);
    CHECK_UINT_EQ(fm_profile_batch_within(&recognition, FM_PROFILE_P50, 165000, 64), 8);
    CHECK_UINT_EQ(fm_profile_batch_within(&recognition, FM_PROFILE_P50, 20099, 64), 0);
    CHECK_UINT_EQ(fm_profile_batch_fastest_within(&recognition, FM_PROFILE_P50, 20099, 64), 0);

    struct fm_profile matmul = {0};
    CHECK_INT_EQ(add(&matmul, 1, 240), 0);
    CHECK_INT_EQ(add(&matmul, 4, 330), 0);
    CHECK_INT_EQ(add(&matmul, 8, 655), 0);
    CHECK_INT_EQ(add(&matmul, 16, 1320), 0);
    CHECK_UINT_EQ(fm_profile_knee(&matmul, FM_PROFILE_P50, 50), 4);
    CHECK_UINT_EQ(fm_profile_rate_millihertz(&matmul, FM_PROFILE_P50, 4),
                  UINT64_C(4000000000000) / 330);
}

/* Reference: alpha 1.053 ms, beta 5.072 ms, 8 accelerators, SLO 25 ms -> b = 16. */
TEST(affine_profile_of_the_paper)
{
    struct fm_profile profile = {0};
    CHECK_INT_EQ(fm_profile_add_affine(&profile, 1053000, 5072000, 64, NULL), 0);
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_P99, 16), 21920000);
    CHECK_UINT_EQ(fm_profile_batch_within(&profile, FM_PROFILE_P99, UINT64_C(25000000) * 8 / 9, 64),
                  16);
    CHECK_UINT_EQ(fm_profile_batch_within(&profile, FM_PROFILE_P99, 25000000 / 2, 64), 7);
    struct fm_profile single = {0};
    CHECK_INT_EQ(fm_profile_add_affine(&single, 10, 5, 1, NULL), 0);
    CHECK_UINT_EQ(single.point_count, 1);
    CHECK_INT_EQ(fm_profile_add_affine(&single, UINT64_MAX, 5, 1, NULL), FM_EINVAL);
}

static struct fm_profile random_profile(struct fm_random *random)
{
    struct fm_profile profile = {0};
    uint32_t count = 1 + (uint32_t)fm_random_below(random, 8);
    for (uint32_t i = 0; i < count; i++) {
        struct fm_profile_point point = flat_point(1 + (uint32_t)fm_random_below(random, 40),
                                                   1 + fm_random_below(random, 1000));
        (void)!fm_profile_add(&profile, &point, NULL); /* doubles are refused */
    }
    return profile;
}

TEST(searches_agree_with_brute_force)
{
    struct fm_random random;
    fm_random_init(&random, 20261);
    for (int round = 0; round < 2000; round++) {
        struct fm_profile profile = random_profile(&random);
        CHECK(fm_profile_validate(&profile));
        uint64_t budget_ns = fm_random_below(&random, 1500);
        uint32_t limit = 1 + (uint32_t)fm_random_below(&random, 60);
        uint32_t largest = 0;
        uint64_t before_ns = 0;
        double best_rate = 0;
        for (uint32_t batch = 1; batch <= limit; batch++) {
            uint64_t latency_ns = fm_profile_latency_ns(&profile, FM_PROFILE_P90, batch);
            CHECK_INT_LE(before_ns, latency_ns);
            before_ns = latency_ns;
            if (latency_ns <= budget_ns) {
                largest = batch;
                double rate = (double)batch / (double)latency_ns;
                best_rate = rate > best_rate ? rate : best_rate;
            }
        }
        CHECK_UINT_EQ(fm_profile_batch_within(&profile, FM_PROFILE_P90, budget_ns, limit), largest);
        uint32_t fastest =
            fm_profile_batch_fastest_within(&profile, FM_PROFILE_P90, budget_ns, limit);
        CHECK_INT_LE(fastest, largest);
        if (largest > 0) {
            /* Rounding l up to whole ns between points can cost at most one part in l. */
            double rate =
                (double)fastest / (double)fm_profile_latency_ns(&profile, FM_PROFILE_P90, fastest);
            CHECK(rate >= best_rate * (1.0 - 1e-9) ||
                  best_rate - rate <= best_rate / (double)before_ns * 2 + 1e-9);
        }
    }
}

TEST_MAIN()
