/*
 * Estimates of bench tasks: the formula, what is learnt, and how wrong it was.
 */
#include "core/bench/task_estimate.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

#define S UINT64_C(1000000000)

static const struct fm_task_estimate_options options = {
    .keys_max = 2, .load_ns = 3 * S, .request_ns = S / 100};

static struct fm_task_estimator *estimator_make(void)
{
    struct fm_task_estimator *estimator = NULL;
    return fm_task_estimator_create(&options, &estimator) == 0 ? estimator : NULL;
}

TEST(the_formula)
{
    struct fm_task_estimator *estimator = estimator_make();
    struct fm_task_shape shape = {
        .points = 4, .repeats = 2, .warmup_ns = S, .duration_ns = 20 * S, .drain_ns = 2 * S};
    CHECK(estimator != NULL);
    CHECK_UINT_EQ(fm_task_estimator_ns(estimator, "a", &shape), 3 * S + 8 * 23 * S);
    /* Both the duration and the count must be reached. */
    shape.requests = 3000;
    shape.rate_hz = 100;
    CHECK_UINT_EQ(fm_task_estimator_ns(estimator, "a", &shape), 3 * S + 8 * 33 * S);
    shape.rate_hz = 1000;
    CHECK_UINT_EQ(fm_task_estimator_ns(estimator, "a", &shape), 3 * S + 8 * 23 * S);
    shape.rate_hz = 0;
    CHECK_UINT_EQ(fm_task_estimator_ns(estimator, "a", &shape), 3 * S + 8 * 33 * S);
    /* Whatever it says, a number comes out. */
    shape.points = UINT64_MAX;
    CHECK_UINT_EQ(fm_task_estimator_ns(estimator, "a", &shape), FM_TASK_ESTIMATE_MAX_NS);
    shape = (struct fm_task_shape){0};
    CHECK_UINT_EQ(fm_task_estimator_ns(estimator, "a", &shape), 3 * S);
    fm_task_estimator_destroy(estimator);
    fm_task_estimator_destroy(NULL);
}

TEST(what_is_learnt)
{
    struct fm_task_estimator *estimator = estimator_make();
    struct fm_task_shape shape = {.requests = 100};
    struct fm_task_record record = {
        .estimate_ns = 10 * S, .took_ns = 15 * S, .load_ns = 5 * S, .request_ns = S / 10};
    struct fm_task_estimate_facts facts;
    CHECK(!fm_task_estimator_facts(estimator, NULL, &facts));
    fm_task_estimator_learn(estimator, "a", &record);
    CHECK_UINT_EQ(fm_task_estimator_ns(estimator, "a", &shape), 15 * S);
    /* A key that nothing is known of takes what is known of all. */
    CHECK_UINT_EQ(fm_task_estimator_ns(estimator, "b", &shape), 15 * S);
    record = (struct fm_task_record){.estimate_ns = 10 * S, .took_ns = 5 * S, .load_ns = 7 * S};
    fm_task_estimator_learn(estimator, "a", &record);
    CHECK(fm_task_estimator_facts(estimator, "a", &facts));
    CHECK_UINT_EQ(facts.load_ns.count, 2);
    CHECK_NEAR(facts.load_ns.mean, 6e9, 1);
    CHECK_NEAR(fm_weighted_mean_spread(&facts.load_ns), 1e9, 1);
    CHECK_UINT_EQ(facts.request_ns.count, 1);
    CHECK_NEAR(facts.error.mean, 0, 1e-9);
    CHECK_NEAR(fm_weighted_mean_spread(&facts.error), 0.5, 1e-9);
    CHECK(!fm_task_estimator_facts(estimator, "b", &facts));
    CHECK_UINT_EQ(facts.load_ns.count, 0);
    CHECK(fm_task_estimator_facts(estimator, NULL, &facts));
    CHECK_UINT_EQ(facts.load_ns.count, 2);
    fm_task_estimator_destroy(estimator);
}

TEST(what_has_changed_is_followed)
{
    struct fm_weighted_mean mean = {0};
    for (uint32_t i = 0; i < 100; i++) {
        fm_weighted_mean_add(&mean, 1);
    }
    CHECK_NEAR(fm_weighted_mean_spread(&mean), 0, 1e-12);
    for (uint32_t i = 0; i < 40; i++) {
        fm_weighted_mean_add(&mean, 2);
    }
    CHECK_NEAR(mean.mean, 2, 0.01);
}

TEST(the_key_heard_of_longest_ago_goes)
{
    struct fm_task_estimator *estimator = estimator_make();
    struct fm_task_record record = {.load_ns = S};
    struct fm_task_estimate_facts facts;
    fm_task_estimator_learn(estimator, "a", &record);
    fm_task_estimator_learn(estimator, "b", &record);
    fm_task_estimator_learn(estimator, "a", &record);
    fm_task_estimator_learn(estimator, "c", &record);
    CHECK(fm_task_estimator_facts(estimator, "a", &facts));
    CHECK_UINT_EQ(facts.load_ns.count, 2);
    CHECK(!fm_task_estimator_facts(estimator, "b", &facts));
    CHECK(fm_task_estimator_facts(estimator, "c", &facts));
    /* Long keys are one key as far as they are kept. */
    char key[2 * FM_TASK_ESTIMATE_KEY_SIZE];
    memset(key, 'k', sizeof(key));
    key[sizeof(key) - 1] = '\0';
    fm_task_estimator_learn(estimator, key, &record);
    key[sizeof(key) - 2] = 'x';
    CHECK(fm_task_estimator_facts(estimator, key, &facts));
    fm_task_estimator_destroy(estimator);
}

TEST(no_memory_leaves_nothing)
{
    for (uint64_t nth = 1; nth <= 2; nth++) {
        struct fm_task_estimator *estimator;
        (void)fm_memory_fail_at(nth, 0);
        CHECK_INT_EQ(fm_task_estimator_create(&options, &estimator), FM_ENOMEM);
        (void)fm_memory_fail_at(0, 0);
        CHECK(estimator == NULL);
    }
}

TEST_MAIN()
