/*
 * Tests of core/sched/warmup: which batches are tried, what is believed, how it gives way.
 */
#include "core/sched/warmup.h"

#include "core/util/random.h"
#include "tests/harness/test.h"

#define MS UINT64_C(1000000)

/* Tries a model of alpha * batch + beta as the server does; the batches, in order. */
static uint32_t try_all(uint64_t alpha_ns, uint64_t beta_ns, uint32_t batch_max, uint32_t *batches,
                        uint64_t *ret_spent_ns)
{
    struct fm_profile profile = {0};
    uint32_t count = 0;
    uint32_t batch;
    *ret_spent_ns = 0;
    while ((batch = fm_warmup_next(&profile, batch_max, *ret_spent_ns)) != 0) {
        uint64_t took_ns = alpha_ns * batch + beta_ns;
        uint32_t runs = 0;
        uint64_t spent_ns = 0;
        while (!fm_warmup_counts_first(took_ns) && fm_warmup_repeats(runs, spent_ns)) {
            runs++;
            spent_ns += took_ns;
        }
        *ret_spent_ns += took_ns + spent_ns;
        batches[count++] = batch;
        int status = fm_profile_add_samples(&profile, batch, &took_ns, 1);
        if (status != 0) {
            return 0;
        }
    }
    return count;
}

TEST(a_fast_model_is_tried_at_powers_of_two_and_at_its_largest)
{
    static const uint32_t expected[] = {1, 2, 4, 8, 16, 32, 48};
    uint32_t batches[32];
    uint64_t spent_ns;
    CHECK_UINT_EQ(try_all(1000, 10000, 48, batches, &spent_ns), 7);
    CHECK_MEM_EQ(batches, expected, sizeof(expected));
    CHECK(spent_ns < 300 * MS);
    CHECK_UINT_EQ(try_all(1000, 10000, 1, batches, &spent_ns), 1);
}

TEST(a_slow_model_is_tried_once_more_at_a_size_that_is_worth_its_time)
{
    uint32_t batches[32];
    uint64_t spent_ns;
    /* A row takes 100 ms: 64 would take 6.4 s, half of it is below four seconds. */
    CHECK_UINT_EQ(try_all(100 * MS, 0, 64, batches, &spent_ns), 3);
    CHECK_UINT_EQ(batches[0], 1);
    CHECK_UINT_EQ(batches[1], 2);
    CHECK_UINT_EQ(batches[2], 32);
    CHECK_UINT_EQ(spent_ns, 3500 * MS);
    /* One that takes five seconds is not tried again at any size. */
    CHECK_UINT_EQ(try_all(5000 * MS, 0, 64, batches, &spent_ns), 1);
}

TEST(trying_ends_for_any_model)
{
    struct fm_random random;
    fm_random_init(&random, 11);
    for (int i = 0; i < 2000; i++) {
        uint32_t batches[64];
        uint64_t spent_ns;
        uint32_t batch_max = 1 + (uint32_t)fm_random_below(&random, 1024);
        uint64_t alpha_ns = fm_random_below(&random, 1000 * MS);
        uint32_t count = try_all(alpha_ns, 1 + fm_random_below(&random, 1000 * MS), batch_max,
                                 batches, &spent_ns);
        CHECK(count >= 1 && count <= 20);
        for (uint32_t j = 1; j < count; j++) {
            CHECK(batches[j] > batches[j - 1] && batches[j] <= batch_max);
        }
    }
}

TEST(an_slo_that_was_not_given_drops_only_overload)
{
    CHECK_UINT_EQ(fm_warmup_slo_ns(1), 10000 * MS);
    CHECK_UINT_EQ(fm_warmup_slo_ns(2000 * MS), 40000 * MS);
    CHECK_UINT_EQ(fm_warmup_slo_ns(FM_PROFILE_LATENCY_MAX_NS), 20 * FM_PROFILE_LATENCY_MAX_NS);
}

TEST(what_batches_take_is_followed)
{
    struct fm_profile profile;
    struct fm_batch_row_total rows[9] = {{0}};
    struct fm_batch_row_total learnt[9] = {{0}};
    bool guessed = true;
    fm_warmup_guess(64, &profile);
    uint64_t believed_ns = fm_profile_latency_ns(&profile, FM_PROFILE_MEAN, 4);
    rows[4] = (struct fm_batch_row_total){.batches = 7, .infer_ns = 7 * 30 * MS};
    CHECK(!fm_warmup_follow(&profile, &guessed, rows, learnt, 9));
    CHECK(guessed);
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_MEAN, 4), believed_ns);

    rows[4] = (struct fm_batch_row_total){
        .batches = 8, .input_ns = 8 * MS, .infer_ns = 8 * 30 * MS, .output_ns = 8 * MS};
    CHECK(fm_warmup_follow(&profile, &guessed, rows, learnt, 9));
    CHECK(!guessed);
    CHECK_UINT_EQ(profile.point_count, 1); /* nothing is left of the guess */
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_MEAN, 4), 32 * MS);
    CHECK(!fm_warmup_follow(&profile, &guessed, rows, learnt, 9));

    /* A quarter more is not believed, half as much again is. */
    rows[4].batches += 8;
    rows[4].infer_ns += 8 * 40 * MS;
    CHECK(!fm_warmup_follow(&profile, &guessed, rows, learnt, 9));
    rows[4].batches += 8;
    rows[4].infer_ns += 8 * 48 * MS;
    rows[8] = (struct fm_batch_row_total){.batches = 8, .infer_ns = 8 * 90 * MS};
    CHECK(fm_warmup_follow(&profile, &guessed, rows, learnt, 9));
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_MEAN, 4), 48 * MS);
    CHECK_UINT_EQ(profile.point_count, 1); /* 90 ms is nearly what 8 are expected to take by now */
}

TEST(a_full_profile_does_not_change_for_one_more_size)
{
    struct fm_profile profile = {0};
    struct fm_batch_row_total rows[FM_PROFILE_POINTS_MAX + 2] = {{0}};
    struct fm_batch_row_total learnt[FM_PROFILE_POINTS_MAX + 2] = {{0}};
    const uint32_t size = FM_PROFILE_POINTS_MAX + 1;
    bool guessed = false;
    for (uint32_t batch = 1; batch < size; batch++) {
        const uint64_t took_ns = batch * MS;
        CHECK_INT_EQ(fm_profile_add_samples(&profile, batch, &took_ns, 1), 0);
    }
    rows[size] = (struct fm_batch_row_total){.batches = 8, .infer_ns = 8 * 999 * MS};
    CHECK(!fm_warmup_follow(&profile, &guessed, rows, learnt, size + 1));
    rows[size - 1] = rows[size];
    CHECK(fm_warmup_follow(&profile, &guessed, rows, learnt, size + 1));
    CHECK_UINT_EQ(fm_profile_latency_ns(&profile, FM_PROFILE_MEAN, size - 1), 999 * MS);
}

TEST_MAIN()
