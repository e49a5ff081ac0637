/*
 * Counters of a model: what is counted arrives in the totals, from several threads, while they
 * count; histograms against the exact answer.
 */
#include "core/stats/model_counters.h"

#include "core/stats/counters_table.h"
#include "core/util/memory.h"
#include "core/util/random.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

TEST(histogram_edges_are_where_values_change_bucket)
{
    for (uint32_t i = 1; i < FM_LIVE_HISTOGRAM_BUCKETS; i++) {
        uint64_t edge_ns = fm_live_histogram_edge_ns(i);
        CHECK_UINT_EQ(fm_live_histogram_index(edge_ns), i);
        CHECK_UINT_EQ(fm_live_histogram_index(edge_ns - 1), i - 1);
    }
    CHECK_UINT_EQ(fm_live_histogram_index(0), 0);
    CHECK_UINT_EQ(fm_live_histogram_index(UINT64_MAX), FM_LIVE_HISTOGRAM_BUCKETS - 1);
}

TEST(quantiles_and_ranks_are_within_a_bucket)
{
    struct fm_live_histogram live = {0};
    for (uint64_t i = 1; i <= 1000; i++) {
        fm_live_histogram_add(&live, i * 100000);
    }
    struct fm_histogram_totals totals = {0};
    fm_histogram_totals_add_live(&totals, &live);
    CHECK_UINT_EQ(totals.count, 1000);
    CHECK_UINT_EQ(fm_histogram_totals_mean_ns(&totals), 50050000);
    CHECK_NEAR(fm_histogram_totals_quantile_ns(&totals, 500), 50e6, 50e6 * 0.07);
    CHECK_NEAR(fm_histogram_totals_quantile_ns(&totals, 990), 99e6, 99e6 * 0.07);
    static uint64_t bounds_ns[2003];
    static uint64_t counts[2003];
    for (uint64_t i = 0; i < 2002; i++) {
        bounds_ns[i] = i * 99991;
    }
    bounds_ns[2002] = UINT64_MAX;
    fm_histogram_totals_at_most(&totals, bounds_ns, 2003, counts);
    CHECK_UINT_EQ(counts[0], 0);
    CHECK_UINT_EQ(counts[2002], 1000);
    for (uint64_t i = 1; i < 2003; i++) {
        CHECK(counts[i] >= counts[i - 1]);
        CHECK_NEAR(counts[i], i < 1000 ? i : 1000, 1 + (double)(i < 1000 ? i : 1000) * 0.07);
    }
}

TEST(a_difference_is_what_came_between)
{
    struct fm_live_histogram live = {0};
    fm_live_histogram_add_times(&live, 5000, 3);
    struct fm_histogram_totals before = {0};
    fm_histogram_totals_add_live(&before, &live);
    fm_live_histogram_add(&live, 7000000);
    struct fm_histogram_totals after = {0};
    fm_histogram_totals_add_live(&after, &live);
    fm_histogram_totals_subtract(&after, &before);
    CHECK_UINT_EQ(after.count, 1);
    CHECK_UINT_EQ(after.sum_ns, 7000000);
    fm_histogram_totals_subtract(&before, &after);
    CHECK_UINT_EQ(before.count, 3);
    CHECK_UINT_EQ(before.sum_ns, 0);
}

TEST(everything_counted_arrives)
{
    struct fm_model_counters *counters = NULL;
    CHECK_INT_EQ(fm_model_counters_create(8, &counters), 0);
    fm_model_count_success(counters, 3000000, FM_DEADLINE_MET);
    fm_model_count_success(counters, 5000000, FM_DEADLINE_MISSED);
    fm_model_count_success(counters, 5000000, FM_DEADLINE_NONE);
    fm_model_count_failure(counters, 1000, FM_COUNTED_REJECTED, true);
    fm_model_count_drop(counters, FM_COUNTED_DROP_LATE);
    fm_model_count_cache(counters, true, 40);
    fm_model_count_cache(counters, false, 60);
    fm_model_count_cost(counters, 100);
    fm_model_count_start(counters, 2000, 1500);
    fm_model_count_batch(counters, &(struct fm_counted_batch){.rows = 4,
                                                              .requests = 2,
                                                              .input_ns = 10,
                                                              .infer_ns = 100,
                                                              .output_ns = 20,
                                                              .wall_ms = 77});
    fm_model_count_batch(counters, &(struct fm_counted_batch){.rows = 100, .requests = 1});
    struct fm_model_totals totals = {0};
    CHECK_INT_EQ(fm_model_totals_add(&totals, counters), 0);
    CHECK_INT_EQ(fm_model_totals_add(&totals, counters), 0);
    CHECK_UINT_EQ(totals.times[FM_COUNTED_SUCCESS].count, 6);
    CHECK_UINT_EQ(totals.times[FM_COUNTED_SUCCESS].ns, 26000000);
    CHECK_UINT_EQ(totals.times[FM_COUNTED_COMPUTE_INFER].count, 6);
    CHECK_UINT_EQ(totals.times[FM_COUNTED_COMPUTE_INFER].ns, 400);
    CHECK_UINT_EQ(totals.times[FM_COUNTED_CACHE_MISS].ns, 120);
    CHECK_UINT_EQ(totals.deadlines_met, 2);
    CHECK_UINT_EQ(totals.deadlines_missed, 4);
    CHECK_UINT_EQ(totals.inferences, 208);
    CHECK_UINT_EQ(totals.executions, 4);
    CHECK_UINT_EQ(totals.row_count, 9);
    CHECK_UINT_EQ(totals.rows[4].batches, 2);
    CHECK_UINT_EQ(totals.rows[8].batches, 2); /* larger than batch_max: in the last row */
    CHECK_UINT_EQ(totals.bytes_copied, 200);
    CHECK_UINT_EQ(totals.last_inference_ms, 0); /* the second batch said 0 */
    CHECK_UINT_EQ(totals.histograms[FM_COUNTED_HISTOGRAM_WINDOW].count, 2);
    CHECK_UINT_EQ(totals.histograms[FM_COUNTED_HISTOGRAM_COMPUTE].count, 6);
    CHECK_UINT_EQ(fm_model_totals_requests(&totals), 8);
    CHECK_UINT_EQ(fm_model_totals_dropped(&totals), 2);
    CHECK_NEAR(fm_model_totals_batch_mean(&totals), 52, 1e-9);
    fm_model_totals_clear(&totals);
    CHECK_UINT_EQ(totals.rows[4].batches, 0);
    CHECK_UINT_EQ(fm_model_totals_requests(&totals), 0);
    fm_model_totals_deinit(&totals);
    fm_model_counters_destroy(counters);
}

TEST(sizes_are_moved_into_range_and_memory_may_fail)
{
    struct fm_model_counters *counters = NULL;
    CHECK_INT_EQ(fm_model_counters_create(0, &counters), 0);
    CHECK_UINT_EQ(counters->batch_max, 1);
    struct fm_model_totals totals = {0};
    fm_memory_fail_at(1, 0);
    CHECK_INT_EQ(fm_model_totals_add(&totals, counters), FM_ENOMEM);
    fm_memory_fail_at(1, 0);
    struct fm_model_counters *none = NULL;
    CHECK_INT_EQ(fm_model_counters_create(9, &none), FM_ENOMEM);
    fm_memory_fail_at(0, 0);
    fm_model_counters_destroy(counters);
    CHECK_INT_EQ(fm_model_counters_create(1u << 30, &counters), 0);
    CHECK_UINT_EQ(counters->batch_max, FM_COUNTERS_BATCH_LIMIT);
    fm_model_counters_destroy(counters);
    fm_model_totals_deinit(&totals);
}

#define WRITERS 3
#define ROUNDS  20000

static void writer_run(void *argument)
{
    struct fm_model_counters *counters = argument;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        fm_model_count_success(counters, 1000 + i, FM_DEADLINE_MET);
        fm_model_count_batch(counters, &(struct fm_counted_batch){.rows = 1, .requests = 1});
    }
}

TEST(readers_never_disturb_writers)
{
    struct fm_model_counters *counters[WRITERS];
    struct fm_thread threads[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        CHECK_INT_EQ(fm_model_counters_create(4, &counters[i]), 0);
        CHECK_INT_EQ(fm_thread_start(&threads[i], "counter", writer_run, counters[i]), 0);
    }
    struct fm_model_totals totals = {0};
    uint64_t seen = 0;
    do {
        fm_model_totals_clear(&totals);
        for (int i = 0; i < WRITERS; i++) {
            CHECK_INT_EQ(fm_model_totals_add(&totals, counters[i]), 0);
        }
        CHECK(totals.deadlines_met >= seen);
        seen = totals.deadlines_met;
    } while (seen < WRITERS * ROUNDS);
    for (int i = 0; i < WRITERS; i++) {
        fm_thread_join(&threads[i]);
    }
    fm_model_totals_clear(&totals);
    for (int i = 0; i < WRITERS; i++) {
        CHECK_INT_EQ(fm_model_totals_add(&totals, counters[i]), 0);
        fm_model_counters_destroy(counters[i]);
    }
    CHECK_UINT_EQ(totals.histograms[FM_COUNTED_HISTOGRAM_TOTAL].count, WRITERS * ROUNDS);
    CHECK_UINT_EQ(totals.executions, WRITERS * ROUNDS);
    fm_model_totals_deinit(&totals);
}

TEST(each_thread_has_its_own_and_all_add_up)
{
    struct fm_counters_table table;
    CHECK_INT_EQ(fm_counters_table_init(&table, 3, 5), 0);
    for (uint32_t thread = 0; thread < 3; thread++) {
        for (uint32_t i = 0; i <= thread; i++) {
            struct fm_model_counters *counters = fm_counters_table_get(&table, thread, 4, 8);
            CHECK(counters != NULL);
            fm_model_count_success(counters, 1000, FM_DEADLINE_MET);
        }
    }
    struct fm_model_totals totals = {0};
    CHECK_INT_EQ(fm_counters_table_totals(&table, 4, &totals), 0);
    CHECK_UINT_EQ(totals.deadlines_met, 6);
    CHECK_PTR_EQ(fm_counters_table_get(&table, 1, 4, 8), fm_counters_table_get(&table, 1, 4, 8));
    CHECK_PTR_NE(fm_counters_table_get(&table, 1, 4, 8), fm_counters_table_get(&table, 2, 4, 8));
    fm_model_totals_clear(&totals);
    CHECK_INT_EQ(fm_counters_table_totals(&table, 3, &totals), 0);
    CHECK_UINT_EQ(totals.deadlines_met, 0);
    fm_counters_table_release(&table, 4);
    CHECK_INT_EQ(fm_counters_table_totals(&table, 4, &totals), 0);
    CHECK_UINT_EQ(totals.deadlines_met, 0);
    fm_memory_fail_at(1, 0);
    CHECK(fm_counters_table_get(&table, 0, 0, 8) == NULL);
    fm_memory_fail_at(0, 0);
    fm_model_totals_deinit(&totals);
    fm_counters_table_deinit(&table);
    CHECK_INT_EQ(fm_counters_table_init(&table, 0, 5), FM_EINVAL);
    CHECK_INT_EQ(fm_counters_table_init(&table, 8192, 100000), FM_EINVAL);
}

TEST(counting_is_cheap)
{
    struct fm_model_counters *counters = NULL;
    CHECK_INT_EQ(fm_model_counters_create(4, &counters), 0);
    uint64_t start_ns = fm_os_thread_cpu_ns();
    for (uint32_t i = 0; i < 1000000; i++) {
        fm_model_count_success(counters, 1000 + i, FM_DEADLINE_MET);
        fm_model_count_start(counters, i, i / 2);
        fm_model_count_cost(counters, i);
    }
    double each_ns = (double)(fm_os_thread_cpu_ns() - start_ns) / 1e6;
    printf("# a request's counts: %.1f ns\n", each_ns);
    /* Generous: shared machines and sanitizers. It is about 10 ns without. */
    CHECK(each_ns < 2000);
    fm_model_counters_destroy(counters);
}

TEST(a_failure_is_counted_by_its_status_and_whether_it_ran)
{
    CHECK_INT_EQ(fm_counted_failure_of(FM_ECANCELLED, false), FM_COUNTED_CANCELED);
    CHECK_INT_EQ(fm_counted_failure_of(FM_ECANCELLED, true), FM_COUNTED_CANCELED);
    CHECK_INT_EQ(fm_counted_failure_of(FM_EDEADLINE, false), FM_COUNTED_REJECTED);
    CHECK_INT_EQ(fm_counted_failure_of(FM_EINVAL, false), FM_COUNTED_REJECTED);
    CHECK_INT_EQ(fm_counted_failure_of(FM_EINVAL, true), FM_COUNTED_BACKEND);
    CHECK_INT_EQ(fm_counted_failure_of(FM_EINTERNAL, false), FM_COUNTED_BACKEND);
    CHECK_INT_EQ(fm_counted_failure_of(FM_EINTERNAL, true), FM_COUNTED_BACKEND);
}

TEST(names_are_those_of_dashboards)
{
    CHECK_STR_EQ(fm_counted_failure_name(FM_COUNTED_CANCELED), "CANCELED");
    CHECK_STR_EQ(fm_counted_drop_name(FM_COUNTED_DROP_INFEASIBLE), "infeasible");
    CHECK_STR_EQ(fm_counted_drop_name(FM_COUNTED_DROP_QUEUE_FULL), "queue_full");
}

TEST_MAIN()
