/*
 * popularity: Zipf's law.
 */
#include "core/load/popularity.h"

#include "tests/harness/test.h"

TEST(shares_follow_the_rank_and_sum_to_one)
{
    static double shares[1000];
    const double exponents[] = {0.0, 0.5, 0.9, 1.0, 1.5, 20.0};
    for (size_t i = 0; i < 6; i++) {
        CHECK_INT_EQ(fm_popularity_zipf(exponents[i], 1000, shares, NULL), 0);
        double sum = 0;
        for (uint32_t rank = 1; rank <= 1000; rank++) {
            double expected = shares[0] * pow(rank, -exponents[i]);
            CHECK_NEAR(shares[rank - 1], expected, 1e-13 * expected);
            sum += shares[rank - 1];
        }
        CHECK_NEAR(sum, 1, 1e-12);
    }
    CHECK_INT_EQ(fm_popularity_zipf(0.9, 1, shares, NULL), 0);
    CHECK(shares[0] == 1.0);
}

/* Of three models with exponent 1: 6/11, 3/11, 2/11. */
TEST(three_by_hand)
{
    double shares[3];
    CHECK_INT_EQ(fm_popularity_zipf(1.0, 3, shares, NULL), 0);
    CHECK_NEAR(shares[0], 6.0 / 11, 1e-15);
    CHECK_NEAR(shares[1], 3.0 / 11, 1e-15);
    CHECK_NEAR(shares[2], 2.0 / 11, 1e-15);
}

TEST(what_makes_no_sense_is_refused)
{
    double share = 7;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_popularity_zipf(1.0, 0, &share, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "count");
    CHECK_INT_EQ(fm_popularity_zipf(1.0, FM_POPULARITY_COUNT_MAX + 1, &share, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "count");
    const double exponents[] = {-0.1, 20.1, (double)NAN, (double)INFINITY};
    for (int i = 0; i < 4; i++) {
        CHECK_INT_EQ(fm_popularity_zipf(exponents[i], 1, &share, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, "exponent");
    }
    CHECK(share == 7);
}

TEST_MAIN()
