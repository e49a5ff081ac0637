/*
 * latency_table: where it ends, what fits, and what it learns.
 */
#include "core/sched/latency_table.h"

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

static void point(struct fm_profile *profile, uint32_t batch, uint64_t latency_ns)
{
    struct fm_profile_point given = {.batch = batch, .sample_count = 1};
    for (unsigned i = 0; i < FM_PROFILE_STATISTIC_COUNT_; i++) {
        given.latency_ns[i] = latency_ns;
    }
    CHECK_INT_EQ(fm_profile_add(profile, &given, NULL), 0);
}

static void affine(struct fm_latency_table *table, uint64_t alpha_ns, uint64_t beta_ns,
                   uint32_t batch_limit, uint64_t data_ns)
{
    struct fm_profile profile = {0};
    CHECK_INT_EQ(fm_profile_add_affine(&profile, alpha_ns, beta_ns, 64, NULL), 0);
    CHECK_INT_EQ(fm_latency_table_set(table, &profile, FM_PROFILE_P99, batch_limit, data_ns), 0);
}

TEST(affine_goes_up_to_the_limit)
{
    struct fm_latency_table table = {0};
    affine(&table, 1053000, 5072000, 40, 50000);
    CHECK_UINT_EQ(table.batch_max, 40);
    CHECK_UINT_EQ(table.latency_ns[0], 0);
    for (uint32_t batch = 1; batch <= 40; batch++) {
        CHECK_UINT_EQ(table.latency_ns[batch], 1053000 * batch + 5072000);
        CHECK_UINT_EQ(table.total_ns[batch], table.latency_ns[batch] + batch * 50000);
    }
    affine(&table, 1000, 90000, 1000, 0); /* not beyond what was measured; frees the former one */
    CHECK_UINT_EQ(table.batch_max, 64);
    fm_latency_table_deinit(&table);
}

TEST(a_share_of_the_throughput_takes_that_large_a_batch)
{
    /* b / l(b), l(b) = b + 4: 16 / 20 = 0.8, 15 / 19 = 0.789, 12 / 16 = 0.75, 1 / 5 = 0.2. */
    struct fm_latency_table table = {0};
    affine(&table, 1000000, 4000000, 32, 0);
    CHECK_UINT_EQ(fm_latency_table_share(&table, 16 << 8, 1000), 16);
    CHECK_UINT_EQ(fm_latency_table_share(&table, 16 << 8, 987), 16);
    CHECK_UINT_EQ(fm_latency_table_share(&table, 16 << 8, 986), 15);
    CHECK_UINT_EQ(fm_latency_table_share(&table, 16 << 8, 937), 12);
    CHECK_UINT_EQ(fm_latency_table_share(&table, 16 << 8, 250), 1);
    /* 4.5 in 8.5 is 0.529; 4 in 8 are 0.5, which is 0.944 of it. */
    CHECK_UINT_EQ(fm_latency_table_share(&table, 1152, 1000), 5);
    CHECK_UINT_EQ(fm_latency_table_share(&table, 1152, 945), 5);
    CHECK_UINT_EQ(fm_latency_table_share(&table, 1152, 944), 4);
    CHECK_UINT_EQ(fm_latency_table_share(&table, 100 << 8, 1000), 32);
    CHECK_UINT_EQ(fm_latency_table_share(&table, 0, 1000), 1);
    fm_latency_table_deinit(&table);
}

TEST(batching_that_does_not_pay_ends_at_one)
{
    struct fm_profile profile = {0};
    point(&profile, 1, 1000000);
    point(&profile, 8, 8200000);
    struct fm_latency_table table = {0};
    CHECK_INT_EQ(fm_latency_table_set(&table, &profile, FM_PROFILE_MEAN, 8, 0), 0);
    CHECK_UINT_EQ(table.batch_max, 1);
    fm_latency_table_deinit(&table);
}

TEST(falling_throughput_ends_at_the_peak)
{
    struct fm_profile profile = {0};
    point(&profile, 1, 1000000);
    point(&profile, 4, 2000000);
    point(&profile, 8, 3000000); /* the peak */
    point(&profile, 16, 9000000);
    struct fm_latency_table table = {0};
    CHECK_INT_EQ(fm_latency_table_set(&table, &profile, FM_PROFILE_MEAN, 16, 0), 0);
    CHECK_UINT_EQ(table.batch_max, 8);
    fm_latency_table_deinit(&table);
}

/* Between 16 and 32 throughput is flat: the longer batch gains nothing. */
TEST(plateau_ends_where_it_begins)
{
    struct fm_profile profile = {0};
    point(&profile, 1, 4000000);
    point(&profile, 16, 16000000);
    point(&profile, 32, 31990000);
    struct fm_latency_table table = {0};
    CHECK_INT_EQ(fm_latency_table_set(&table, &profile, FM_PROFILE_MEAN, 32, 0), 0);
    CHECK_UINT_EQ(table.batch_max, 16);
    fm_latency_table_deinit(&table);
}

TEST(what_fits_agrees_with_a_linear_search)
{
    struct fm_random random;
    fm_random_init(&random, 1);
    struct fm_latency_table table = {0};
    for (uint32_t i = 0; i < 3000; i++) {
        if (i % 100 == 0) {
            affine(&table, 1 + fm_random_below(&random, 2000), fm_random_below(&random, 20000),
                   1 + (uint32_t)fm_random_below(&random, 64), fm_random_below(&random, 500));
        }
        uint64_t budget_ns = fm_random_below(&random, table.total_ns[table.batch_max] * 5 / 4);
        uint64_t row_ns = fm_random_below(&random, i % 2 == 0 ? 3000 : UINT64_MAX);
        uint32_t limit = (uint32_t)fm_random_below(&random, 80);
        uint32_t fits = 0;
        uint32_t grows = 0;
        for (uint32_t batch = 1; batch <= table.batch_max; batch++) {
            fits = batch <= limit && table.total_ns[batch] <= budget_ns ? batch : fits;
            bool row_fits = row_ns <= budget_ns;
            grows = row_fits && table.total_ns[batch] + batch * row_ns <= budget_ns ? batch : grows;
        }
        CHECK_UINT_EQ(fm_latency_table_within(&table, budget_ns, limit), fits);
        CHECK_UINT_EQ(fm_latency_table_within_growing(&table, budget_ns, row_ns), grows);
    }
    fm_latency_table_deinit(&table);
}

/* Batches take `permille` of the profile, with noise of 5 %, and each 50th ten times as long. */
static void learn(struct fm_latency_table *table, struct fm_random *random, uint32_t permille,
                  uint32_t batches, bool outliers)
{
    for (uint32_t i = 0; i < batches; i++) {
        uint32_t batch = 1 + (uint32_t)fm_random_below(random, table->batch_max);
        uint64_t measured_ns = table->profiled_ns[batch] * permille / 1000;
        measured_ns = measured_ns * (975 + fm_random_below(random, 51)) / 1000;
        measured_ns *= outliers && i % 50 == 49 ? 10u : 1u;
        (void)fm_latency_table_learn(table, batch, measured_ns);
    }
}

TEST(drift_is_followed)
{
    /* Also where l(b) is a microsecond or two: nothing may hang on its low bits. */
    const uint64_t alphas_ns[] = {1000000, 20000, 1100, 300};
    for (uint32_t i = 0; i < 4; i++) {
        struct fm_random random;
        fm_random_init(&random, i);
        struct fm_latency_table table = {0};
        affine(&table, alphas_ns[i], alphas_ns[i] * 3, 32, 7);
        learn(&table, &random, 1300, 400, false);
        CHECK_NEAR(table.drift_permille, 1300, 40);
        for (uint32_t batch = 1; batch <= table.batch_max; batch++) {
            CHECK_UINT_EQ(table.latency_ns[batch],
                          table.profiled_ns[batch] * table.drift_permille / 1000);
            CHECK_UINT_EQ(table.total_ns[batch], table.latency_ns[batch] + 7 * batch);
        }
        learn(&table, &random, 1000, 400, false);
        CHECK_NEAR(table.drift_permille, 1000, 30);
        learn(&table, &random, 700, 400, false);
        CHECK_NEAR(table.drift_permille, 700, 25);
        fm_latency_table_deinit(&table);
    }
}

TEST(outliers_are_not_followed)
{
    struct fm_random random;
    fm_random_init(&random, 9);
    struct fm_latency_table table = {0};
    affine(&table, 100000, 300000, 32, 0);
    CHECK(!fm_latency_table_learn(&table, 4, UINT64_C(1) << 45));
    CHECK(!fm_latency_table_learn(&table, 4, 1));
    CHECK_UINT_EQ(table.drift_permille, 1000);
    learn(&table, &random, 1000, 5000, true);
    CHECK_NEAR(table.drift_permille, 1000, 30);
    fm_latency_table_deinit(&table);
}

TEST(learning_stays_within_bounds)
{
    struct fm_latency_table table = {0};
    affine(&table, 1, 1, 32, 0);
    for (uint32_t i = 0; i < 5000; i++) {
        (void)fm_latency_table_learn(&table, 1, 0);
    }
    CHECK_NEAR(table.drift_permille, 250, 5); /* it moves in steps of 2 % */
    CHECK_UINT_EQ(table.latency_ns[1], 1);    /* never nothing */
    for (uint32_t i = 0; i < 5000; i++) {
        (void)fm_latency_table_learn(&table, table.batch_max, FM_PROFILE_LATENCY_MAX_NS);
    }
    CHECK_NEAR(table.drift_permille, 16000, 320);
    CHECK(!fm_latency_table_learn(&table, 0, 5));
    CHECK(!fm_latency_table_learn(&table, 33, 5));
    CHECK(!fm_latency_table_learn(&table, 1, FM_PROFILE_LATENCY_MAX_NS + 1));
    fm_latency_table_deinit(&table);
}

TEST(no_memory_keeps_the_former_table)
{
    struct fm_latency_table table = {0};
    affine(&table, 1000, 5000, 8, 0);
    struct fm_profile profile = {0};
    point(&profile, 1, 77);
    (void)fm_memory_fail_at(1, 0);
    CHECK_INT_EQ(fm_latency_table_set(&table, &profile, FM_PROFILE_MEAN, 8, 0), FM_ENOMEM);
    (void)fm_memory_fail_at(0, 0);
    CHECK_UINT_EQ(table.batch_max, 8);
    CHECK_UINT_EQ(table.latency_ns[8], 13000);
    fm_latency_table_deinit(&table);
}

TEST_MAIN()
