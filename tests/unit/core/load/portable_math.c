/*
 * portable_math: close to the C library's functions, and the same bits everywhere.
 */
#include "core/load/portable_math.h"

#include "core/util/hash.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

TEST(logarithm_is_close)
{
    struct fm_random random;
    fm_random_init(&random, 1);
    CHECK(fm_portable_log(1.0) == 0.0);
    for (int i = 0; i < 200000; i++) {
        double unit = 1.0 - fm_random_unit(&random);
        double values[] = {unit, 0.5 + unit, unit * unit * 0x1.0p-900, unit * 0x1.0p+1000};
        for (int j = 0; j < 4; j++) {
            double expected = log(values[j]);
            CHECK_NEAR(fm_portable_log(values[j]), expected, 4e-16 * fabs(expected));
        }
    }
}

TEST(exponential_is_close)
{
    struct fm_random random;
    fm_random_init(&random, 2);
    CHECK(fm_portable_exp(0.0) == 1.0);
    CHECK(fm_portable_exp(-701.0) == 0.0);
    CHECK(fm_portable_exp(-1e300) == 0.0);
    for (int i = 0; i < 200000; i++) {
        double value = 1400.0 * fm_random_unit(&random) - 700.0;
        value = i % 2 == 0 ? value : value / 1000;
        double expected = exp(value);
        CHECK_NEAR(fm_portable_exp(value), expected, 1e-15 * expected);
    }
}

TEST(bits_are_the_same_everywhere)
{
    struct fm_random random;
    fm_random_init(&random, 3);
    uint64_t hash = FM_HASH_START;
    for (int i = 0; i < 100000; i++) {
        double values[] = {fm_portable_log(1.0 - fm_random_unit(&random)),
                           fm_portable_exp(-50.0 * fm_random_unit(&random))};
        hash = fm_hash_add(hash, values, sizeof(values));
    }
    CHECK_UINT_EQ(hash, UINT64_C(0x51755818d90ad7bc));
}

TEST_MAIN()
