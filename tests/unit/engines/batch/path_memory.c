/*
 * The memory of blocks in work: what is counted, when it is looked at, and the limit for a job.
 */
#include "engines/batch/path_memory.h"

#include "tests/harness/test.h"

#define MIB (UINT64_C(1) << 20)

TEST(a_look_is_due_after_a_millisecond_and_not_before)
{
    struct fm_path_memory memory;
    const struct fm_path_measure measure = {.executor_bytes = 5, .resident_bytes = MIB};
    fm_path_memory_init(&memory, 10 * MIB, false);
    fm_path_memory_look(&memory, &measure, 7000000);
    CHECK(!fm_path_memory_is_due(&memory, 7999999));
    CHECK(fm_path_memory_is_due(&memory, 8000000));
    CHECK(!fm_path_memory_is_due(&memory, 6999999)); /* another thread has looked meanwhile */
    CHECK(!fm_path_memory_is_due(&memory, 0));
}

TEST(what_is_counted_is_told_and_taken_back)
{
    struct fm_path_memory memory;
    struct fm_batch_memory told;
    struct fm_path_piece pieces[2] = {0};
    fm_path_memory_init(&memory, 10 * MIB, false);
    const struct fm_path_measure measure = {.executor_bytes = 3 * MIB,
                                            .resident_bytes = memory.budget.base_bytes + 7 * MIB};
    for (size_t i = 0; i < 2; i++) {
        CHECK(fm_path_memory_may(&memory, 1000));
        fm_memory_budget_begin(&memory.budget, &pieces[i].piece, 1000);
        fm_path_memory_charge(&memory, &pieces[i], 5000);
        fm_path_memory_charge(&memory, &pieces[i], 1000);
        fm_path_memory_own(&memory, &pieces[i], 2 * MIB);
        fm_path_memory_own(&memory, &pieces[i], MIB);
    }
    CHECK_UINT_EQ(memory.bytes_in_flight, 2000);
    fm_path_memory_look(&memory, &measure, 1);
    fm_path_memory_tell(&memory, &told);
    CHECK_UINT_EQ(told.budget, 10 * MIB);
    CHECK_UINT_EQ(told.base, memory.budget.base_bytes);
    CHECK_UINT_EQ(told.used, 7 * MIB);
    CHECK_UINT_EQ(told.most, 7 * MIB);
    CHECK_UINT_EQ(told.rows, 5 * MIB);
    for (size_t i = 0; i < 2; i++) {
        fm_path_memory_end(&memory, &pieces[i]);
    }
    CHECK_UINT_EQ(memory.bytes_in_flight, 0);
    CHECK_UINT_EQ(memory.own_bytes, 0);
    CHECK_UINT_EQ(memory.budget.pieces, 0);
}

TEST(the_limit_of_a_job_is_its_own_or_a_part_of_what_there_is)
{
    struct fm_job job = {.memory_budget = 5 * MIB};
    CHECK_UINT_EQ(fm_path_memory_limit(&job, 0, 1), 5 * MIB);
    CHECK(fm_path_memory_is_strict(&job));
    job.memory_budget = 0;
    CHECK_UINT_EQ(fm_path_memory_limit(&job, 0, 1), 0);
    CHECK(!fm_path_memory_is_strict(&job));
    job.memory_budget = FM_MEMORY_BUDGET_UNSAID;
    CHECK(!fm_path_memory_is_strict(&job));
    uint64_t alone = fm_path_memory_limit(&job, 0, 1);
    uint64_t shared = fm_path_memory_limit(&job, 0, 10);
    CHECK(alone >= FM_MEMORY_BUDGET_MIN);
    CHECK(shared < alone / 5 || shared == FM_MEMORY_BUDGET_MIN);
    CHECK_UINT_EQ(fm_path_memory_limit(&job, 1, 1), FM_MEMORY_BUDGET_MIN);
}

TEST_MAIN()
