/*
 * Tests of core/util/random: reference values, bounds, rough shape. A change of any value breaks
 * every recorded seed.
 */
#include "core/util/random.h"

#include "tests/harness/test.h"

TEST(same_seed_same_numbers)
{
    struct fm_random a;
    struct fm_random b;
    fm_random_init(&a, 42);
    fm_random_init(&b, 42);
    for (int i = 0; i < 100; i++) {
        CHECK_UINT_EQ(fm_random_next(&a), fm_random_next(&b));
    }
    fm_random_init(&b, 43);
    CHECK(fm_random_next(&a) != fm_random_next(&b));
}

/* First outputs for state {1, 2, 3, 4}, from the authors' reference implementation. */
TEST(reference_values)
{
    static const uint64_t expected[] = {11520u, 0u, 1509978240u, 1215971899390074240u};
    struct fm_random random = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        CHECK_UINT_EQ(fm_random_next(&random), expected[i]);
    }
}

TEST(below_is_in_range_and_even)
{
    struct fm_random random;
    int counts[7] = {0};
    fm_random_init(&random, 1);
    for (int i = 0; i < 70000; i++) {
        uint64_t value = fm_random_below(&random, 7);
        CHECK(value < 7);
        counts[value]++;
    }
    for (int i = 0; i < 7; i++) {
        CHECK_NEAR(counts[i], 10000, 500);
    }
}

TEST(unit_and_normal_have_their_moments)
{
    struct fm_random random;
    double sum = 0;
    double squares = 0;
    fm_random_init(&random, 9);
    for (int i = 0; i < 100000; i++) {
        double unit = fm_random_unit(&random);
        CHECK(unit >= 0 && unit < 1);
        double normal = fm_random_normal(&random);
        sum += normal;
        squares += normal * normal;
    }
    CHECK_NEAR(sum / 100000, 0, 0.02);
    CHECK_NEAR(squares / 100000, 1, 0.03);
}

TEST_MAIN()
