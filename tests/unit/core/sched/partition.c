/*
 * Tests of core/sched/partition: against exhaustive search on tiny cases, few moves after small
 * changes, large cases within a second, and what is refused.
 */
#include "core/sched/partition.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/util/memory.h"
#include "core/util/random.h"
#include "tests/harness/test.h"

#define MODELS   10000u
#define CLUSTERS 100u
#define PLACES   (MODELS + 4000u)
#define GB       (UINT64_C(1) << 30)

static struct fm_partition_model models[MODELS];
static struct fm_partition_cluster clusters[CLUSTERS];
static struct fm_partition_place places[PLACES];
static struct fm_partition_place previous[PLACES];
static struct fm_partition_problem problem;
static struct fm_partition_result result;

static void begin(uint32_t model_count, uint32_t cluster_count)
{
    memset(models, 0, sizeof models);
    memset(clusters, 0, sizeof clusters);
    problem = (struct fm_partition_problem){
        .models = models,
        .model_count = model_count,
        .clusters = clusters,
        .cluster_count = cluster_count,
        .threshold_permille = 100,
    };
}

static int solve(void)
{
    int status = fm_partition_solve(&problem, NULL, 0, places, PLACES, &result, NULL);
    bool valid = status != 0 || fm_partition_validate(&problem, places, result.place_count);
    return valid ? status : FM_EINTERNAL;
}

static int solve_again(void)
{
    uint32_t count = result.place_count;
    memcpy(previous, places, count * sizeof *places);
    int status = fm_partition_solve(&problem, previous, count, places, PLACES, &result, NULL);
    bool valid = status != 0 || fm_partition_validate(&problem, places, result.place_count);
    return valid ? status : FM_EINTERNAL;
}

/* The least highest load (permille, rounded up) of all assignments of whole models; UINT64_MAX:
 * there is none within memory. */
static uint64_t least_load(uint32_t model, uint64_t *loads, uint64_t *used)
{
    uint64_t best = 0;
    if (model == problem.model_count) {
        for (uint32_t i = 0; i < problem.cluster_count; i++) {
            uint64_t load = (loads[i] + clusters[i].accelerators - 1) / clusters[i].accelerators;
            best = load > best ? load : best;
        }
        return best;
    }
    best = UINT64_MAX;
    for (uint32_t i = 0; i < problem.cluster_count; i++) {
        if (used[i] + models[model].memory_bytes > clusters[i].memory_bytes) {
            continue;
        }
        loads[i] += models[model].demand_milli;
        used[i] += models[model].memory_bytes;
        uint64_t load = least_load(model + 1, loads, used);
        best = load < best ? load : best;
        loads[i] -= models[model].demand_milli;
        used[i] -= models[model].memory_bytes;
    }
    return best;
}

static uint64_t exhaustive(void)
{
    uint64_t loads[CLUSTERS] = {0};
    uint64_t used[CLUSTERS] = {0};
    return least_load(0, loads, used);
}

TEST(memory_no_constraint_against_exhaustive_search)
{
    struct fm_random random;
    fm_random_init(&random, 20291);
    uint32_t exact = 0;
    for (uint32_t round = 0; round < 300; round++) {
        uint32_t m = 2 + (uint32_t)fm_random_below(&random, 2);
        begin(1 + (uint32_t)fm_random_below(&random, 8), m);
        for (uint32_t i = 0; i < m; i++) {
            clusters[i] = (struct fm_partition_cluster){8, 100};
        }
        for (uint32_t i = 0; i < problem.model_count; i++) {
            models[i].demand_milli = fm_random_below(&random, 4000);
            models[i].memory_bytes = 1;
        }
        CHECK_INT_EQ(solve(), 0);
        CHECK(result.from_nothing);
        CHECK_UINT_EQ(result.move_count, 0);
        uint64_t best = exhaustive();
        CHECK_INT_LE(best, result.load_max_permille);
        /* Graham: 4/3 - 1/(3 m). */
        CHECK_INT_LE(result.load_max_permille * 3 * m, best * (4 * m - 1) + 3 * m);
        CHECK_INT_LE(result.load_max_permille, best * 112 / 100 + 1); /* what it is here */
        exact += result.load_max_permille == best ? 1u : 0u;
    }
    CHECK_INT_LE(220, exact);
}

TEST(tight_memory_against_exhaustive_search)
{
    struct fm_random random;
    fm_random_init(&random, 20292);
    uint32_t possible = 0;
    uint32_t found = 0;
    uint32_t close = 0;
    for (uint32_t round = 0; round < 400; round++) {
        uint32_t m = 2 + (uint32_t)fm_random_below(&random, 2);
        begin(3 + (uint32_t)fm_random_below(&random, 6), m);
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < problem.model_count; i++) {
            models[i].demand_milli = fm_random_below(&random, 3000);
            models[i].memory_bytes = 1 + fm_random_below(&random, 50);
            bytes += models[i].memory_bytes;
        }
        for (uint32_t i = 0; i < m; i++) {
            clusters[i].accelerators = 4 + (uint32_t)fm_random_below(&random, 8);
            clusters[i].memory_bytes = bytes * (105 + fm_random_below(&random, 60)) / 100 / m;
        }
        uint64_t best = exhaustive();
        int status = solve();
        CHECK(status == 0 || status == FM_ELIMIT || status == FM_ETOOLARGE);
        CHECK(best != UINT64_MAX || status != 0);
        if (best == UINT64_MAX) {
            continue;
        }
        possible++;
        found += status == 0 ? 1u : 0u;
        close += status == 0 && result.load_max_permille <= best * 125 / 100 ? 1u : 0u;
    }
    CHECK_INT_LE(300, possible);
    /* Measured: a packing is found in all but 1 % of what is possible, and 19 of 20 are within a
     * quarter of the least highest load. */
    CHECK_INT_LE(possible * 99, found * 100);
    CHECK_INT_LE(possible * 95, close * 100);
}

TEST(a_large_model_is_divided)
{
    begin(4, 3);
    problem.threshold_permille = 1000; /* no move for balance */
    for (uint32_t i = 0; i < 3; i++) {
        clusters[i] = (struct fm_partition_cluster){8, 12};
    }
    models[0] = (struct fm_partition_model){NULL, 12000, 6}; /* one and a half sub-clusters */
    for (uint32_t i = 1; i < 4; i++) {
        models[i] = (struct fm_partition_model){NULL, 2000, 4};
    }
    CHECK_INT_EQ(solve(), 0);
    CHECK_UINT_EQ(result.place_count, 5);
    CHECK_UINT_EQ(result.load_mean_permille, 750);
    /* 12 on two of them, the three of 2 on the third: 6/8. */
    CHECK_UINT_EQ(result.load_max_permille, 750);
    CHECK_UINT_EQ(places[0].model, 0);
    CHECK_UINT_EQ(places[1].model, 0);
    /* It shrinks, and keeps both until one is plainly enough; then it lets one go. */
    models[0].demand_milli = 7900;
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_UINT_EQ(result.place_count, 5);
    CHECK_UINT_EQ(result.move_count, 0);
    models[0].demand_milli = 6000;
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_UINT_EQ(result.place_count, 4);
    CHECK_UINT_EQ(result.move_count, 0);
    /* And grows again: one place more, nobody else moves. */
    models[0].demand_milli = 12000;
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_UINT_EQ(result.place_count, 5);
    CHECK_UINT_EQ(result.move_count, 1);
    /* Overload: all of everything. */
    models[0].demand_milli = 60000;
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_INT_LE(2000, result.load_max_permille);
    struct fm_partition_result none;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_partition_solve(&problem, NULL, 0, places, 4, &none, &error), FM_ELIMIT);
    CHECK_STR_CONTAINS(error.text, "place_capacity (4)");
}

static void fill_large(struct fm_random *random)
{
    begin(MODELS, CLUSTERS);
    for (uint32_t i = 0; i < CLUSTERS; i++) {
        clusters[i].accelerators = 50 + (uint32_t)fm_random_below(random, 100);
        clusters[i].memory_bytes = 80 * GB;
    }
    for (uint32_t i = 0; i < MODELS; i++) {
        /* Skewed: the first three are larger than a sub-cluster. */
        uint64_t share = i < 3 ? 300000 : 40000 / (i - 2);
        models[i].demand_milli = share + fm_random_below(random, 1300);
        models[i].memory_bytes = (1 + fm_random_below(random, 1000)) * GB / 1000;
    }
}

TEST(large_within_a_second_and_few_moves)
{
    struct fm_random random;
    fm_random_init(&random, 20293);
    fill_large(&random);
    clock_t start = clock();
    CHECK_INT_EQ(solve(), 0);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    printf("# %u models x %u sub-clusters: %.3f s of CPU time, highest load %llu, mean %llu\n",
           MODELS, CLUSTERS, seconds, (unsigned long long)result.load_max_permille,
           (unsigned long long)result.load_mean_permille);
    CHECK(seconds < 10); /* 0.01 s; a sanitizer's build on a busy machine needs more */
    CHECK_INT_LE(result.load_max_permille, result.load_mean_permille * 102 / 100);

    /* Nothing has changed: nothing moves, whatever the threshold. */
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_UINT_EQ(result.move_count, 0);
    CHECK(!result.from_nothing);

    /* Noise of 10 % in every demand is averaged out on a sub-cluster: nothing moves. */
    for (uint32_t i = 0; i < MODELS; i++) {
        models[i].demand_milli =
            models[i].demand_milli * (950 + fm_random_below(&random, 100)) / 1000;
    }
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_INT_LE(result.move_count, 5);

    /* One in a hundred triples: few moves, and the bound of the threshold holds. */
    for (uint32_t i = 50; i < MODELS; i += 100) {
        models[i].demand_milli *= 3;
    }
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_INT_LE(result.move_count, 50);
    CHECK_INT_LE(result.load_max_permille, result.load_mean_permille * 110 / 100 + 1);

    /* A sub-cluster goes: its models move, few others. */
    uint32_t held = 0;
    for (uint32_t i = 0; i < result.place_count; i++) {
        held += places[i].cluster == CLUSTERS - 1 ? 1u : 0u;
    }
    problem.cluster_count--;
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_INT_LE(result.move_count, held + 20);
    CHECK_INT_LE(result.load_max_permille, result.load_mean_permille * 110 / 100 + 1);
    /* It comes back: it takes over what the threshold asks for. */
    problem.cluster_count++;
    problem.threshold_permille = 20;
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_INT_LE(result.move_count, 150);
}

/* The trade-off: a lower threshold buys balance with moves. */
TEST(threshold_and_gain)
{
    begin(8, 2);
    for (uint32_t i = 0; i < 8; i++) {
        models[i] = (struct fm_partition_model){NULL, 500, 1};
    }
    clusters[0] = clusters[1] = (struct fm_partition_cluster){4, 100};
    CHECK_INT_EQ(solve(), 0);
    CHECK_UINT_EQ(result.load_max_permille, 500);
    models[places[0].cluster == 0 ? 0 : 1].demand_milli = 1500;
    problem.threshold_permille = 300; /* 750 is 20 % above the mean of 625 */
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_UINT_EQ(result.move_count, 0);
    CHECK_UINT_EQ(result.load_max_permille, 750);
    problem.threshold_permille = 100;
    problem.gain_permille = 250; /* a move would gain 125 of 625: 20 % */
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_UINT_EQ(result.move_count, 0);
    problem.gain_permille = 150;
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_UINT_EQ(result.move_count, 1);
    CHECK_UINT_EQ(result.load_max_permille, 625);
}

TEST(seeded_epochs_keep_memory_and_bounds)
{
    struct fm_random random;
    fm_random_init(&random, 20294);
    for (uint32_t round = 0; round < 60; round++) {
        begin(20 + (uint32_t)fm_random_below(&random, 200),
              2 + (uint32_t)fm_random_below(&random, 10));
        problem.threshold_permille = (uint32_t)fm_random_below(&random, 300);
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < problem.model_count; i++) {
            models[i].memory_bytes = fm_random_below(&random, 1000);
            bytes += models[i].memory_bytes;
        }
        for (uint32_t i = 0; i < problem.cluster_count; i++) {
            clusters[i].accelerators = 1 + (uint32_t)fm_random_below(&random, 20);
            clusters[i].memory_bytes = bytes * 3 / 2 / problem.cluster_count + 1000;
        }
        result.place_count = 0;
        for (uint32_t epoch = 0; epoch < 20; epoch++) {
            uint32_t changed = (uint32_t)fm_random_below(&random, problem.model_count);
            for (uint32_t i = 0; i < changed; i++) {
                uint32_t model = (uint32_t)fm_random_below(&random, problem.model_count);
                models[model].demand_milli = fm_random_below(&random, 1500);
            }
            models[0].demand_milli = fm_random_below(&random, 40000);
            CHECK_INT_EQ(epoch == 0 ? solve() : solve_again(), 0);
            CHECK_INT_LE(result.load_mean_permille, result.load_max_permille);
            CHECK_INT_LE(result.move_count, result.place_count);
            CHECK_INT_EQ(fm_test_failed, 0);
        }
    }
}

TEST(makes_room_by_moving_another)
{
    begin(3, 2);
    problem.threshold_permille = 2000; /* no move for balance */
    clusters[0] = clusters[1] = (struct fm_partition_cluster){1, 10};
    models[0] = (struct fm_partition_model){NULL, 10, 4};
    models[1] = (struct fm_partition_model){NULL, 10, 6};
    models[2] = (struct fm_partition_model){"new", 1, 6};
    places[0] = (struct fm_partition_place){0, 0, 0};
    places[1] = (struct fm_partition_place){1, 1, 0};
    result.place_count = 2;
    clusters[1].memory_bytes = 10;
    clusters[0].memory_bytes = 9; /* 5 left there, 4 here: model 0 must go over */
    CHECK_INT_EQ(solve_again(), 0);
    CHECK(!result.from_nothing);
    CHECK_UINT_EQ(result.move_count, 1);
    CHECK_UINT_EQ(places[0].cluster, 1);
    CHECK_UINT_EQ(places[2].cluster, 0);
}

/* 6 + 5 and 4 + 3: no move of one helps, 6 for 4 makes 9 and 9. */
TEST(exchanges_where_no_move_helps)
{
    begin(4, 2);
    clusters[0] = clusters[1] = (struct fm_partition_cluster){10, 100};
    for (uint32_t i = 0; i < 4; i++) {
        models[i] = (struct fm_partition_model){NULL, 6000 - 1000 * i, 1};
        places[i] = (struct fm_partition_place){i, i / 2, 0};
    }
    result.place_count = 4;
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_UINT_EQ(result.load_max_permille, 900);
    CHECK_UINT_EQ(result.move_count, 2);
    /* Not where the memory of the smaller one's sub-cluster cannot hold the larger. */
    for (uint32_t i = 0; i < 4; i++) {
        places[i] = (struct fm_partition_place){i, i / 2, 0};
    }
    models[0].memory_bytes = models[1].memory_bytes = 50;
    clusters[1].memory_bytes = 50;
    CHECK_INT_EQ(solve_again(), 0);
    CHECK_UINT_EQ(result.load_max_permille, 1100);
    CHECK_UINT_EQ(result.move_count, 0);
}

static void refused(int status, const char *word)
{
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_partition_solve(&problem, NULL, 0, places, PLACES, &result, &error), status);
    CHECK_STR_CONTAINS(error.text, word);
    CHECK_UINT_EQ(result.place_count, 0);
}

TEST(refuses_with_words)
{
    begin(3, 2);
    clusters[0] = clusters[1] = (struct fm_partition_cluster){8, 10};
    for (uint32_t i = 0; i < 3; i++) {
        models[i] = (struct fm_partition_model){NULL, 100, 6};
    }
    models[2].name = "detector";
    refused(FM_ELIMIT, "'detector' needs 6 bytes on each accelerator and finds no sub-cluster");
    models[1].memory_bytes = 9;
    refused(FM_ELIMIT, "need 21 bytes, all sub-clusters together have 20");
    models[2].memory_bytes = 11;
    refused(FM_ETOOLARGE, "'detector' needs 11 bytes on each accelerator; no sub-cluster has more "
                          "than 10");
    models[2] = (struct fm_partition_model){NULL, FM_PARTITION_DEMAND_MAX_MILLI + 1, 0};
    refused(FM_EINVAL, "model '2' demands");
    clusters[1].accelerators = 0;
    refused(FM_EINVAL, "sub-cluster 1 has 0 accelerators");
    clusters[1] = (struct fm_partition_cluster){1, FM_PARTITION_MEMORY_MAX_BYTES + 1};
    refused(FM_EINVAL, "sub-cluster 1 has");
    problem.cluster_count = 0;
    refused(FM_EINVAL, "0 sub-clusters");
    problem.model_count = 0;
    refused(FM_EINVAL, "0 models");

    begin(1, 1);
    clusters[0] = (struct fm_partition_cluster){8, 10};
    previous[0] = previous[1] = (struct fm_partition_place){0, 0, 0};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_partition_solve(&problem, previous, 2, places, PLACES, &result, &error),
                 FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "model '0' twice on sub-cluster 0");
    for (uint64_t fail = 1; fail <= 8; fail++) {
        (void)fm_memory_fail_at(fail, 0);
        CHECK_INT_EQ(fm_partition_solve(&problem, NULL, 0, places, PLACES, &result, &error),
                     FM_ENOMEM);
    }
    (void)fm_memory_fail_at(0, 0);
    CHECK_INT_EQ(solve(), 0);
}

TEST(the_largest_numbers_do_not_overflow)
{
    begin(MODELS, CLUSTERS);
    for (uint32_t i = 0; i < CLUSTERS; i++) {
        clusters[i] = (struct fm_partition_cluster){
            i % 2 == 0 ? 1 : FM_PARTITION_ACCELERATORS_LIMIT, FM_PARTITION_MEMORY_MAX_BYTES};
    }
    for (uint32_t i = 0; i < MODELS; i++) {
        models[i].demand_milli = FM_PARTITION_DEMAND_MAX_MILLI;
        models[i].memory_bytes = FM_PARTITION_MEMORY_MAX_BYTES / MODELS * (CLUSTERS / 2);
    }
    CHECK_INT_EQ(solve(), 0);
    CHECK_INT_EQ(solve_again(), 0);
}

/* Memory 3 % beyond the need, and one model that makes the mean unreachable: all attempts
 * are made, and search to their ends. */
TEST(large_and_tight)
{
    struct fm_random random;
    fm_random_init(&random, 20296);
    begin(MODELS, CLUSTERS);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < MODELS; i++) {
        models[i].demand_milli = i == 0 ? 95000 : fm_random_below(&random, 1000);
        models[i].memory_bytes = (1 + fm_random_below(&random, 1000)) * GB / 1000;
        bytes += models[i].memory_bytes;
    }
    for (uint32_t i = 0; i < CLUSTERS; i++) {
        clusters[i].accelerators = 100;
        clusters[i].memory_bytes = bytes * 103 / 100 / CLUSTERS;
    }
    clock_t start = clock();
    CHECK_INT_EQ(solve(), 0);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    printf("# %.3f s of CPU time, highest load %llu, mean %llu\n", seconds,
           (unsigned long long)result.load_max_permille,
           (unsigned long long)result.load_mean_permille);
    CHECK(seconds < 20);
    CHECK_INT_LE(result.load_max_permille, 955);
}

/* Two sub-clusters make for many pairs; what is looked at stays bounded. */
TEST(many_models_on_two)
{
    struct fm_random random;
    fm_random_init(&random, 20295);
    begin(MODELS, 2);
    for (uint32_t i = 0; i < 2; i++) {
        clusters[i] = (struct fm_partition_cluster){1000, 50000 * GB};
    }
    for (uint32_t i = 0; i < MODELS; i++) {
        models[i] = (struct fm_partition_model){NULL, fm_random_below(&random, 300), GB};
        previous[i] = (struct fm_partition_place){i, 0, 0};
    }
    /* All on the first; the other is new. */
    CHECK_INT_EQ(fm_partition_solve(&problem, previous, MODELS, places, PLACES, &result, NULL), 0);
    CHECK(fm_partition_validate(&problem, places, result.place_count));
    CHECK_INT_LE(result.load_max_permille, result.load_mean_permille * 110 / 100 + 1);
    CHECK_INT_LE(result.move_count, MODELS / 2);
}

TEST(validate_sees_what_is_wrong)
{
    begin(2, 2);
    clusters[0] = clusters[1] = (struct fm_partition_cluster){8, 10};
    models[0] = models[1] = (struct fm_partition_model){NULL, 100, 6};
    CHECK_INT_EQ(solve(), 0);
    places[1].cluster = places[0].cluster; /* too much memory */
    CHECK(!fm_partition_validate(&problem, places, 2));
    places[1].cluster = 2;
    CHECK(!fm_partition_validate(&problem, places, 2));
    CHECK_INT_EQ(solve(), 0);
    CHECK(!fm_partition_validate(&problem, places, 1));
    places[0].demand_milli--;
    CHECK(!fm_partition_validate(&problem, places, 2));
}

TEST_MAIN()
