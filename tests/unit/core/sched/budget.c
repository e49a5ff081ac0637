/*
 * Tests of core/sched/budget: against exhaustive search on up to four stages, worked examples, and
 * what is refused.
 */
#include "core/sched/budget.h"

#include "core/util/assert.h"
#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

#define MS         UINT64_C(1000000)
#define STAGES_MAX FM_BUDGET_STAGES_MAX
#define EDGES_MAX  FM_BUDGET_EDGES_MAX

static struct fm_latency_table tables[STAGES_MAX];
static struct fm_budget_stage stages[STAGES_MAX];
static struct fm_budget_edge edges[EDGES_MAX];
static struct fm_budget_pipeline pipeline;

static void table_affine(uint32_t stage, uint64_t alpha_ns, uint64_t beta_ns, uint32_t batch_max)
{
    struct fm_profile profile = {0};
    FM_ASSERT(fm_profile_add_affine(&profile, alpha_ns, beta_ns, batch_max, NULL) == 0);
    FM_ASSERT(fm_latency_table_set(&tables[stage], &profile, FM_PROFILE_MEAN, batch_max, 0) == 0);
}

static void begin(uint32_t stage_count, uint64_t rate_millihertz, uint64_t total_ns)
{
    for (uint32_t i = 0; i < stage_count; i++) {
        stages[i] = (struct fm_budget_stage){.table = &tables[i], .fan_out_permille = 1000};
    }
    pipeline = (struct fm_budget_pipeline){
        .stages = stages,
        .stage_count = stage_count,
        .edges = edges,
        .rate_millihertz = rate_millihertz,
        .total_ns = total_ns,
    };
}

static void edge(uint32_t from, uint32_t to)
{
    edges[pipeline.edge_count++] = (struct fm_budget_edge){from, to};
}

static void end(void)
{
    for (uint32_t i = 0; i < STAGES_MAX; i++) {
        fm_latency_table_deinit(&tables[i]);
    }
}

/* The longest path. Edges of these tests lead to higher numbers. */
static uint64_t longest_ns(const uint64_t *lengths_ns)
{
    uint64_t from_ns[STAGES_MAX];
    uint64_t longest = 0;
    for (uint32_t i = pipeline.stage_count; i-- > 0;) {
        uint64_t rest_ns = 0;
        for (uint32_t j = 0; j < pipeline.edge_count; j++) {
            if (edges[j].from == i && from_ns[edges[j].to] > rest_ns) {
                rest_ns = from_ns[edges[j].to];
            }
        }
        from_ns[i] = lengths_ns[i] + rest_ns;
        longest = from_ns[i] > longest ? from_ns[i] : longest;
    }
    return longest;
}

static uint64_t rows(uint32_t stage)
{
    return (pipeline.rate_millihertz * stages[stage].fan_out_permille + 999) / 1000;
}

/* The definition, written once more. */
static uint64_t span_ns(uint32_t stage, uint32_t batch)
{
    uint64_t gap_ns = (UINT64_C(1000000000000) + rows(stage) - 1) / rows(stage);
    uint64_t latency_ns = tables[stage].latency_ns[batch];
    uint64_t wait_ns = batch > 1 ? batch * gap_ns : gap_ns < latency_ns ? gap_ns : latency_ns;
    return latency_ns + wait_ns;
}

static uint64_t work_ns(uint32_t stage, uint32_t batch)
{
    return rows(stage) * tables[stage].latency_ns[batch] / (batch * UINT64_C(1000));
}

/* The least work of all batches whose paths fit; UINT64_MAX: none fits. */
static uint64_t least_work_ns(uint64_t total_ns)
{
    uint32_t batches[STAGES_MAX];
    for (uint32_t i = 0; i < pipeline.stage_count; i++) {
        batches[i] = 1;
    }
    uint64_t least_ns = UINT64_MAX;
    for (uint32_t digit = 0; digit < pipeline.stage_count;) {
        uint64_t spans_ns[STAGES_MAX];
        uint64_t sum_ns = 0;
        for (uint32_t i = 0; i < pipeline.stage_count; i++) {
            spans_ns[i] = span_ns(i, batches[i]);
            sum_ns += work_ns(i, batches[i]);
        }
        if (sum_ns < least_ns && longest_ns(spans_ns) <= total_ns) {
            least_ns = sum_ns;
        }
        for (digit = 0; digit < pipeline.stage_count; digit++) {
            if (batches[digit] < tables[digit].batch_max) {
                batches[digit]++;
                break;
            }
            batches[digit] = 1;
        }
    }
    return least_ns;
}

static void check_split(const struct fm_budget_split *split)
{
    uint64_t budgets_ns[STAGES_MAX];
    uint64_t sum_ns = 0;
    for (uint32_t i = 0; i < pipeline.stage_count; i++) {
        const struct fm_budget_share *share = &split->shares[i];
        budgets_ns[i] = share->budget_ns;
        CHECK_INT_LE(share->span_ns, share->budget_ns);
        CHECK_UINT_EQ(share->span_ns, span_ns(i, share->batch));
        CHECK_UINT_EQ(share->work_ns, work_ns(i, share->batch));
        sum_ns += share->work_ns;
        for (uint32_t batch = 1; batch <= tables[i].batch_max; batch++) {
            if (span_ns(i, batch) <= share->budget_ns) {
                CHECK_INT_LE(share->work_ns, work_ns(i, batch));
            }
        }
    }
    CHECK_UINT_EQ(sum_ns, split->work_ns);
    CHECK_INT_LE(longest_ns(budgets_ns), pipeline.total_ns);
}

static void table_random(uint32_t stage, struct fm_random *random, uint32_t batch_max)
{
    if (fm_random_below(random, 2) == 0) {
        table_affine(stage, 1000 * (1 + fm_random_below(random, 2000)),
                     1000 * fm_random_below(random, 10000), batch_max);
        return;
    }
    struct fm_profile profile = {0};
    for (uint32_t batch = 1; batch <= batch_max; batch++) {
        struct fm_profile_point point = {.batch = batch, .sample_count = 1};
        uint64_t latency_ns = 1000 * (1 + fm_random_below(random, 10000));
        for (unsigned i = 0; i < FM_PROFILE_STATISTIC_COUNT_; i++) {
            point.latency_ns[i] = latency_ns;
        }
        FM_ASSERT(fm_profile_add(&profile, &point, NULL) == 0);
    }
    FM_ASSERT(fm_latency_table_set(&tables[stage], &profile, FM_PROFILE_MEAN, batch_max, 0) == 0);
}

static void pipeline_random(struct fm_random *random, uint32_t count, uint32_t batch_max,
                            uint32_t density)
{
    for (uint32_t i = 0; i < count; i++) {
        table_random(i, random, 1 + (uint32_t)fm_random_below(random, batch_max));
    }
    begin(count, 1000 * (1 + fm_random_below(random, 3000)), 1);
    for (uint32_t i = 0; i < count; i++) {
        stages[i].fan_out_permille = (uint32_t)(1 + fm_random_below(random, 5)) * 500;
        for (uint32_t j = i + 1; j < count; j++) {
            if (fm_random_below(random, 100) < density && pipeline.edge_count < EDGES_MAX) {
                edge(i, j);
            }
        }
    }
}

TEST(agrees_with_exhaustive_search)
{
    struct fm_random random;
    fm_random_init(&random, 20281);
    uint32_t exact = 0;
    uint32_t layered = 0;
    uint32_t round = 0;
    for (; round < 300; round++) {
        bool n_shaped = round % 4 == 0; /* the smallest order that is no series and no parallel */
        uint32_t count = n_shaped ? 4 : 1 + (uint32_t)fm_random_below(&random, 4);
        pipeline_random(&random, count, 7, n_shaped ? 0 : 50);
        if (n_shaped) {
            edge(0, 2);
            edge(0, 3);
            edge(1, 3);
        }
        struct fm_budget_split split;
        struct fm_error error = {0};
        CHECK_INT_EQ(fm_budget_split(&pipeline, &split, &error), FM_EINVAL); /* 1 ns */
        uint64_t least_ns = split.least_ns;
        CHECK_UINT_EQ(least_work_ns(least_ns - 1), UINT64_MAX);
        pipeline.total_ns = least_ns;
        CHECK_INT_EQ(fm_budget_split(&pipeline, &split, &error), 0);
        check_split(&split);
        pipeline.total_ns = least_ns + fm_random_below(&random, 3 * least_ns);
        CHECK_INT_EQ(fm_budget_split(&pipeline, &split, &error), 0);
        check_split(&split);
        uint64_t best_ns = least_work_ns(pipeline.total_ns);
        CHECK_INT_LE(best_ns, split.work_ns);
        exact += split.work_ns == best_ns ? 1u : 0u;
        layered += split.exact_order ? 0u : 1u;
        CHECK(split.exact_order || n_shaped || count == 4);
        if (split.exact_order) {
            CHECK(split.work_ns <= least_work_ns(pipeline.total_ns -
                                                 (count * pipeline.total_ns + FM_BUDGET_TICKS - 1) /
                                                     FM_BUDGET_TICKS));
        }
        /* Not proved, but so on every one of these. */
        CHECK(split.work_ns <= best_ns + best_ns / 20);
        CHECK_INT_EQ(fm_test_failed, 0);
        end();
    }
    CHECK_INT_LE(75, layered);
    /* All but a few are the very best. */
    CHECK_INT_LE(round * 98 / 100, exact);
}

/* Two equal stages in a row: half each. Two side by side: all of it each. */
TEST(worked_examples)
{
    struct fm_budget_split split;
    table_affine(0, MS, 5 * MS, 64);
    table_affine(1, MS, 5 * MS, 64);
    begin(2, 1000000, 60 * MS); /* 1000 requests/s: a gap of 1 ms */
    edge(0, 1);
    CHECK_INT_EQ(fm_budget_split(&pipeline, &split, NULL), 0);
    check_split(&split);
    /* 2 b + 5 + 2 c + 5 <= 60: 12 and 13, at 17/12 and 18/13 accelerators. */
    CHECK_UINT_EQ(split.shares[0].batch + split.shares[1].batch, 25);
    CHECK_UINT_EQ(split.shares[0].batch * split.shares[1].batch, 12 * 13);
    CHECK_UINT_EQ(split.work_ns, UINT64_C(17000000000) / 12 + UINT64_C(18000000000) / 13);
    CHECK(split.exact_order);

    begin(2, 1000000, 60 * MS);
    CHECK_INT_EQ(fm_budget_split(&pipeline, &split, NULL), 0);
    check_split(&split);
    CHECK_UINT_EQ(split.shares[0].batch, 27);
    CHECK_UINT_EQ(split.shares[0].budget_ns, 60 * MS);

    /* A stage that many rows pass earns more of the time than one that few do. */
    begin(2, 1000000, 60 * MS);
    edge(0, 1);
    stages[1].fan_out_permille = 20000;
    CHECK_INT_EQ(fm_budget_split(&pipeline, &split, NULL), 0);
    check_split(&split);
    CHECK_INT_LT(split.shares[0].batch, split.shares[1].batch);

    /* One request in ten seconds: batches of one, and no waiting for a second. */
    begin(2, 100, 24 * MS);
    edge(0, 1);
    CHECK_INT_EQ(fm_budget_split(&pipeline, &split, NULL), 0);
    CHECK_UINT_EQ(split.shares[0].batch, 1);
    CHECK_UINT_EQ(split.shares[0].span_ns, 12 * MS);
    end();
}

TEST(more_time_never_costs_more)
{
    struct fm_random random;
    fm_random_init(&random, 20282);
    for (int round = 0; round < 20; round++) {
        pipeline_random(&random, 6, 32, 0);
        for (uint32_t i = 0; i < 5; i++) {
            edge(i, i + 1);
        }
        struct fm_budget_split split;
        CHECK_INT_EQ(fm_budget_split(&pipeline, &split, NULL), FM_EINVAL);
        uint64_t least_ns = split.least_ns;
        uint64_t before_ns = UINT64_MAX;
        for (uint64_t times = 10; times < 40; times++) {
            pipeline.total_ns = least_ns * times / 10;
            CHECK_INT_EQ(fm_budget_split(&pipeline, &split, NULL), 0);
            check_split(&split);
            CHECK(split.work_ns <= before_ns);
            before_ns = split.work_ns;
        }
        end();
    }
}

TEST(the_largest_pipeline)
{
    struct fm_random random;
    fm_random_init(&random, 20283);
    for (uint32_t density = 0; density <= 40; density += 8) {
        pipeline_random(&random, STAGES_MAX, 64, density);
        struct fm_budget_split split;
        CHECK_INT_EQ(fm_budget_split(&pipeline, &split, NULL), FM_EINVAL);
        pipeline.total_ns = split.least_ns * 2;
        CHECK_INT_EQ(fm_budget_split(&pipeline, &split, NULL), 0);
        check_split(&split);
        struct fm_budget_split again;
        CHECK_INT_EQ(fm_budget_split(&pipeline, &again, NULL), 0);
        CHECK_UINT_EQ(split.work_ns, again.work_ns);
        end();
    }
}

static void refused(const char *word)
{
    struct fm_budget_split split;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_budget_split(&pipeline, &split, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, word);
    CHECK_UINT_EQ(split.work_ns, 0);
}

TEST(refuses_with_words)
{
    for (uint32_t i = 0; i < 4; i++) {
        table_affine(i, MS, 4 * MS, 8);
    }
    begin(4, 1000000, 10 * MS);
    stages[0].name = "decode";
    stages[2].name = "recognise";
    edge(0, 2);
    edge(2, 3);
    edge(1, 3);
    refused("10000 us do not hold even batches of one: the path decode -> recognise -> 3 needs "
            "18000 us");
    edge(3, 0);
    refused("'decode' waits for itself");
    pipeline.edge_count = 0;
    edge(0, 4);
    refused("edge 0 goes from stage 0 to stage 4");
    edges[0] = (struct fm_budget_edge){2, 2};
    refused("edge 0 goes from stage 2 to stage 2");
    pipeline.edge_count = FM_BUDGET_EDGES_MAX + 1;
    refused("edge_count is 257");
    pipeline.edge_count = 0;
    stages[2].fan_out_permille = 0;
    refused("'recognise' has a fan_out_permille of 0");
    stages[2].fan_out_permille = 1000;
    struct fm_latency_table none = {0};
    stages[1].table = &none;
    refused("'1' has no latency table");
    stages[1].table = NULL;
    refused("'1' has no latency table");
    stages[1].table = &tables[1];
    pipeline.rate_millihertz = 0;
    refused("rate_millihertz is 0");
    pipeline.rate_millihertz = 1;
    pipeline.total_ns = 0;
    refused("total_ns is 0");
    pipeline.stage_count = 33;
    refused("stage_count is 33");
    end();
}

TEST(out_of_memory_is_an_error)
{
    table_affine(0, MS, 5 * MS, 64);
    begin(1, 1000000, 60 * MS);
    struct fm_budget_split split;
    for (uint64_t fail = 1; fail <= 2; fail++) {
        (void)fm_memory_fail_at(fail, 0);
        struct fm_error error = {0};
        CHECK_INT_EQ(fm_budget_split(&pipeline, &split, &error), FM_ENOMEM);
        CHECK_STR_CONTAINS(error.text, "out of memory");
    }
    (void)fm_memory_fail_at(0, 0);
    CHECK_INT_EQ(fm_budget_split(&pipeline, &split, NULL), 0);
    end();
}

TEST_MAIN()
