/*
 * The auditor, fed by hand: a clean run is silent, and each planted violation is found.
 */
#include "engines/sim/auditor.h"

#include "tests/harness/test.h"

static struct fm_sim_auditor *auditor;

static void fresh_of(int ahead, int learn, uint32_t model_count)
{
    struct fm_sim_auditor_options options = {
        .requests_max = 16,
        .accelerator_count = 2,
        .batch_max = 4,
        .model_count = model_count,
        .result_ns = 10,
        .ahead = ahead,
        .learn = learn,
    };
    fm_sim_auditor_destroy(auditor);
    if (fm_sim_auditor_create(&options, &auditor, NULL) != 0) {
        abort();
    }
    fm_sim_auditor_accelerator(auditor, 0, true, false);
    fm_sim_auditor_accelerator(auditor, 1, true, false);
    for (uint32_t i = 0; i < 4; i++) {
        fm_sim_auditor_arrived(auditor, 0, i, 7, 1000);
    }
}

static void fresh(int ahead, int learn)
{
    fresh_of(ahead, learn, 0);
}

static void fresh_with_models(uint32_t model_count)
{
    fresh_of(0, 0, model_count);
}

static struct fm_sim_audit found(void)
{
    struct fm_sim_audit audit;
    fm_sim_auditor_get(auditor, &audit);
    return audit;
}

static bool start(uint32_t accelerator, uint64_t batch, uint64_t start_ns, uint32_t first,
                  uint32_t count)
{
    const uint32_t requests[] = {first, first + 1, first + 2, first + 3, first + 4};
    struct fm_sched_action action = {
        .kind = FM_SCHED_ACTION_START,
        .model = 7,
        .accelerator = accelerator,
        .batch = batch,
        .start_ns = start_ns,
        .expected_ns = start_ns + 100,
        .request_count = count,
    };
    return fm_sim_auditor_action(auditor, start_ns, &action, requests, 100);
}

static bool drop(uint32_t request)
{
    struct fm_sched_action action = {.kind = FM_SCHED_ACTION_DROP, .request = request};
    return fm_sim_auditor_action(auditor, 5, &action, NULL, 0);
}

TEST(a_clean_run_is_silent)
{
    fresh(0, 0);
    CHECK(start(0, 1, 5, 0, 2));
    CHECK(start(1, 2, 890, 2, 1)); /* ends at 1000 with the answer's way: just in time */
    CHECK(drop(3));
    fm_sim_auditor_batch_ended(auditor, 105, 0, 1);
    fm_sim_auditor_returned(auditor, 105, 0, true);
    fm_sim_auditor_returned(auditor, 105, 1, true);
    fm_sim_auditor_batch_ended(auditor, 990, 1, 2);
    fm_sim_auditor_returned(auditor, 990, 2, true);
    fm_sim_auditor_finish(auditor, 990);
    CHECK_STR_EQ(found().first, "");
    CHECK_UINT_EQ(found().violations, 0);
}

TEST(a_busy_accelerator_is_not_granted)
{
    fresh(0, 0);
    CHECK(start(0, 1, 5, 0, 1));
    CHECK(!start(0, 2, 200, 1, 1));
    CHECK_STR_CONTAINS(found().first, "accelerator 0, which is busy with batch 1");
    fresh(1, 0);
    CHECK(start(0, 1, 5, 0, 1));
    CHECK(start(0, 2, 105, 1, 1)); /* behind it */
    CHECK(!start(0, 3, 300, 2, 1));
    fresh(1, 0);
    CHECK(start(0, 1, 5, 0, 1));
    CHECK(!start(0, 2, 104, 1, 1)); /* into it */
    CHECK_UINT_EQ(found().violations, 1);
}

TEST(an_accelerator_that_is_down_is_not_granted)
{
    fresh(0, 0);
    fm_sim_auditor_accelerator(auditor, 1, false, false);
    CHECK(!start(1, 1, 5, 0, 1));
    CHECK_STR_CONTAINS(found().first, "which is not up");
    fresh(0, 0);
    CHECK(!start(2, 1, 5, 0, 1));
}

TEST(a_model_that_is_not_there_is_not_started)
{
    const struct fm_sched_action gone = {
        .kind = FM_SCHED_ACTION_DROP, .request = 0, .reason = FM_SCHED_DROP_MODEL_GONE};
    fresh_with_models(8);
    CHECK(!start(0, 1, 5, 0, 1));
    CHECK_STR_CONTAINS(found().first, "batch 1 is of model 7, which is not there");
    fresh_with_models(8);
    fm_sim_auditor_model(auditor, 7, true);
    CHECK(start(0, 1, 5, 1, 1));
    CHECK_UINT_EQ(found().violations, 0);
    CHECK(fm_sim_auditor_action(auditor, 5, &gone, NULL, 0));
    CHECK_STR_CONTAINS(found().first, "dropped as if model 7 were gone, but it is there");
    fresh_with_models(8);
    CHECK(fm_sim_auditor_action(auditor, 5, &gone, NULL, 0));
    CHECK_UINT_EQ(found().violations, 0);
    fresh_with_models(7); /* beyond those there are */
    CHECK(!start(0, 1, 5, 0, 1));
}

TEST(nothing_starts_after_its_latest)
{
    fresh(0, 0);
    CHECK(start(0, 1, 891, 0, 1));
    CHECK_STR_CONTAINS(found().first, "after its latest");
    fresh(0, 0);
    fm_sim_auditor_accelerator(auditor, 0, true, true); /* slowed: nobody's fault */
    CHECK(start(0, 1, 891, 0, 1));
    CHECK_UINT_EQ(found().violations, 0);
    CHECK_UINT_EQ(found().late_plans, 1);
}

TEST(a_request_has_one_outcome)
{
    fresh(0, 0);
    CHECK(drop(0));
    CHECK(!drop(0));
    CHECK_STR_CONTAINS(found().first, "request 0 is dropped (infeasible), but it does not wait");
    fresh(0, 0);
    CHECK(start(0, 1, 5, 0, 2));
    CHECK(!start(1, 2, 5, 1, 1)); /* request 1 again */
    CHECK_STR_CONTAINS(found().first, "holds request 1");
    fresh(0, 0);
    CHECK(start(0, 1, 5, 0, 1));
    CHECK(!drop(0));
    fresh(0, 0);
    fm_sim_auditor_arrived(auditor, 9, 3, 7, 2000);
    CHECK_STR_CONTAINS(found().first, "used again");
    fresh(0, 0);
    fm_sim_auditor_returned(auditor, 9, 3, true);
    CHECK_STR_CONTAINS(found().first, "comes out of a batch it was not in");
    fresh(0, 0);
    fm_sim_auditor_finish(auditor, 9);
    CHECK_STR_CONTAINS(found().first, "4 requests never got an outcome");
}

TEST(batches_are_possible_ones)
{
    fresh(0, 0);
    CHECK(!start(0, 1, 5, 0, 0));
    CHECK(!start(0, 1, 5, 0, 5)); /* more than batch_max */
    CHECK(start(0, 2, 5, 0, 1));
    CHECK(!start(1, 2, 5, 1, 1)); /* a number twice */
    CHECK_UINT_EQ(found().violations, 3);
    fresh(0, 0);
    struct fm_sched_action action = {
        .kind = FM_SCHED_ACTION_START, .model = 8, .batch = 1, .start_ns = 5, .request_count = 1};
    const uint32_t request = 0;
    CHECK(!fm_sim_auditor_action(auditor, 5, &action, &request, 100)); /* another model's */
    action.kind = FM_SCHED_ACTION_PREEMPT;
    CHECK(!fm_sim_auditor_action(auditor, 5, &action, NULL, 0)); /* nothing runs there */
    fm_sim_auditor_batch_ended(auditor, 6, 0, 1);
    CHECK_UINT_EQ(found().violations, 3);
}

TEST(a_preempted_batch_waits_again)
{
    fresh(0, 0);
    CHECK(start(0, 1, 5, 0, 1));
    struct fm_sched_action action = {.kind = FM_SCHED_ACTION_PREEMPT, .model = 7, .batch = 1};
    CHECK(fm_sim_auditor_action(auditor, 6, &action, NULL, 0));
    fm_sim_auditor_batch_ended(auditor, 6, 0, 1);
    fm_sim_auditor_returned(auditor, 6, 0, false);
    CHECK(start(0, 2, 7, 0, 1));
    CHECK_UINT_EQ(found().violations, 0);
    fm_sim_auditor_destroy(auditor);
    auditor = NULL;
}

TEST_MAIN()
