/*
 * Histograms of durations: edges, quantiles against sorted values, merging.
 */
#include "core/stats/log_histogram.h"

#include "core/util/random.h"
#include "tests/harness/test.h"

TEST(every_value_lies_in_its_bucket)
{
    for (uint64_t value = 1024; value < UINT64_C(1) << 39; value += value / 7 + 1) {
        uint32_t index = fm_log_histogram_index(value);
        CHECK(fm_log_histogram_edge_ns(index) <= value);
        CHECK(fm_log_histogram_edge_ns(index + 1) > value);
    }
    CHECK_UINT_EQ(fm_log_histogram_index(0), 0);
    CHECK_UINT_EQ(fm_log_histogram_index(UINT64_MAX), FM_LOG_HISTOGRAM_BUCKETS - 1);
}

static int ascending(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

TEST(quantiles_are_those_of_the_sorted_values)
{
    enum { COUNT = 5000 };
    static uint64_t values[COUNT];
    static struct fm_log_histogram all;
    static struct fm_log_histogram half;
    struct fm_random random;
    fm_random_init(&random, 3);
    uint64_t sum = 0;
    for (int i = 0; i < COUNT; i++) {
        values[i] = 5000 + fm_random_below(&random, 50000000);
        sum += values[i];
        fm_log_histogram_add(i % 2 == 0 ? &all : &half, values[i]);
    }
    fm_log_histogram_merge(&all, &half);
    qsort(values, COUNT, sizeof values[0], ascending);
    CHECK_UINT_EQ(all.count, COUNT);
    CHECK_UINT_EQ(fm_log_histogram_mean_ns(&all), sum / COUNT);
    CHECK_UINT_EQ(all.max_ns, values[COUNT - 1]);
    const uint32_t permilles[] = {100, 500, 900, 990};
    for (size_t i = 0; i < sizeof permilles / sizeof permilles[0]; i++) {
        double exact = (double)values[COUNT / 1000 * permilles[i] - 1];
        double found = (double)fm_log_histogram_quantile_ns(&all, permilles[i]);
        CHECK_NEAR(found / exact, 1, 0.032);
    }
    CHECK_UINT_EQ(fm_log_histogram_quantile_ns(&all, 1000), values[COUNT - 1]);
}

TEST(nothing_gives_zero)
{
    static struct fm_log_histogram empty;
    CHECK_UINT_EQ(fm_log_histogram_quantile_ns(&empty, 990), 0);
    CHECK_UINT_EQ(fm_log_histogram_mean_ns(&empty), 0);
}

TEST_MAIN()
