/*
 * Tests of core/stats/fine_histogram: buckets without gaps, quantiles against sorted samples,
 * merging, extremes.
 */
#include "core/stats/fine_histogram.h"

#include <math.h>

#include "core/util/random.h"
#include "tests/harness/test.h"

enum { SAMPLES = 20000 };

static struct fm_fine_histogram histogram;
static uint64_t samples[SAMPLES];

static int compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one;
    uint64_t b = *(const uint64_t *)other;
    return a < b ? -1 : a > b;
}

TEST(buckets_have_no_gaps_and_equal_width)
{
    for (uint32_t i = 0; i < FM_FINE_HISTOGRAM_BUCKETS; i++) {
        uint64_t from = fm_fine_histogram_edge_ns(i);
        uint64_t to = fm_fine_histogram_edge_ns(i + 1);
        CHECK(from < to);
        CHECK_UINT_EQ(fm_fine_histogram_index(from), i);
        CHECK_UINT_EQ(fm_fine_histogram_index(to - 1), i);
        CHECK(to - from == 1 ||
              (double)(to - from) / (double)from <= 1.0 / FM_FINE_HISTOGRAM_STEPS);
    }
    CHECK(fm_fine_histogram_edge_ns(FM_FINE_HISTOGRAM_BUCKETS) > UINT64_C(73) * 60 * 1000000000);
    CHECK_UINT_EQ(fm_fine_histogram_index(UINT64_MAX), FM_FINE_HISTOGRAM_BUCKETS - 1);
}

TEST(quantiles_are_those_of_the_sorted_samples)
{
    static const double wanted[] = {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999};
    struct fm_random random;
    fm_random_init(&random, 3);
    for (unsigned shape = 0; shape < 3; shape++) {
        memset(&histogram, 0, sizeof(histogram));
        for (uint32_t i = 0; i < SAMPLES; i++) {
            double unit = fm_random_unit(&random);
            double value = shape == 0   ? 1e6 * -log(1 - unit)
                           : shape == 1 ? (unit < 0.98 ? 2e5 + 1e4 * unit : 1e9)
                                        : 400 * unit;
            samples[i] = (uint64_t)value;
            fm_fine_histogram_add(&histogram, samples[i], 1);
        }
        qsort(samples, SAMPLES, sizeof(samples[0]), compare);
        for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
            double truth = (double)samples[(size_t)ceil(wanted[i] * SAMPLES) - 1];
            CHECK_NEAR(fm_fine_histogram_quantile_ns(&histogram, wanted[i]), truth,
                       truth * 0.002 + 1);
        }
        CHECK(fm_fine_histogram_quantile_ns(&histogram, 1) == (double)samples[SAMPLES - 1]);
        CHECK(fm_fine_histogram_quantile_ns(&histogram, 0) <= (double)samples[0] * 1.004 + 1);
        CHECK_UINT_EQ(fm_fine_histogram_below(&histogram, samples[SAMPLES - 1]), SAMPLES);
        double half = (double)fm_fine_histogram_below(&histogram, samples[SAMPLES / 2]);
        CHECK(half >= SAMPLES / 2 && half <= SAMPLES * (shape == 1 ? 0.63 : 0.51));
    }
}

TEST(merged_is_as_if_all_had_been_in_one)
{
    static struct fm_fine_histogram parts[3];
    static struct fm_fine_histogram merged;
    struct fm_random random;
    fm_random_init(&random, 4);
    memset(&histogram, 0, sizeof(histogram));
    fm_fine_histogram_merge(&merged, &parts[2]); /* nothing into nothing */
    CHECK_UINT_EQ(merged.count, 0);
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t value = fm_random_below(&random, UINT64_C(1) << (i % 44));
        fm_fine_histogram_add(&parts[i % 2], value, 1 + i % 3);
        fm_fine_histogram_add(&histogram, value, 1 + i % 3);
    }
    for (uint32_t i = 0; i < 3; i++) {
        fm_fine_histogram_merge(&merged, &parts[i]);
    }
    CHECK(memcmp(merged.buckets, histogram.buckets, sizeof(merged.buckets)) == 0);
    CHECK(merged.count == histogram.count && merged.min_ns == histogram.min_ns &&
          merged.max_ns == histogram.max_ns);
    CHECK_NEAR(merged.sum_ns, histogram.sum_ns, histogram.sum_ns * 1e-12);
}

TEST(means_and_variation)
{
    memset(&histogram, 0, sizeof(histogram));
    CHECK(fm_fine_histogram_mean_ns(&histogram) == 0 &&
          fm_fine_histogram_quantile_ns(&histogram, 0.5) == 0);
    CHECK(fm_fine_histogram_variation(&histogram) == 0 &&
          fm_fine_histogram_below(&histogram, 5) == 0);
    fm_fine_histogram_add(&histogram, 7, 0);
    CHECK_UINT_EQ(histogram.count, 0);
    fm_fine_histogram_add(&histogram, 1000, 3);
    CHECK(fm_fine_histogram_variation(&histogram) == 0);
    CHECK_NEAR(fm_fine_histogram_quantile_ns(&histogram, 0.5), 1000, 4);
    fm_fine_histogram_add(&histogram, 3000, 3);
    CHECK_NEAR(fm_fine_histogram_mean_ns(&histogram), 2000, 1e-9);
    CHECK_NEAR(fm_fine_histogram_variation(&histogram), 0.5, 1e-9);
    CHECK_NEAR(fm_fine_histogram_quantile_ns(&histogram, 0.5), 1000, 4);
    CHECK(histogram.min_ns == 1000);
}

TEST_MAIN()
