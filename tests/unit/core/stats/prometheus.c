/*
 * The Prometheus text format, byte for byte.
 */
#include "core/stats/prometheus.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

static const struct fm_prometheus_family requests = {"requests_total", FM_PROMETHEUS_COUNTER,
                                                     "All of\nthem, \\ \"each\"."};
static const struct fm_prometheus_family depth = {"depth", FM_PROMETHEUS_GAUGE, "How deep."};
static const struct fm_prometheus_family wait = {"wait_seconds", FM_PROMETHEUS_HISTOGRAM, "Wait."};

#define LABELS(...)                                                                            \
    ((struct fm_prometheus_labels){(const struct fm_prometheus_label[]){__VA_ARGS__},          \
                                   sizeof((const struct fm_prometheus_label[]){__VA_ARGS__}) / \
                                       sizeof(struct fm_prometheus_label)})

static const struct fm_prometheus_labels none = {NULL, 0};

TEST(families_stay_together_and_labels_are_escaped)
{
    struct fm_prometheus page = {0};
    fm_prometheus_uint(&page, &requests, LABELS({"model", "a\"b\\c\nd"}, {"version", "1"}), 7);
    fm_prometheus_number(&page, &depth, none, 0.1);
    fm_prometheus_uint(&page, &requests, LABELS({"model", "z"}), UINT64_MAX);
    fm_prometheus_number(&page, &depth, LABELS({"x", ""}), -INFINITY);
    fm_prometheus_number(&page, &depth, LABELS({"x", "n"}), NAN);
    struct fm_text text = {0};
    fm_prometheus_write(&page, &text);
    CHECK_STR_EQ(text.data, "# HELP requests_total All of\\nthem, \\\\ \"each\".\n"
                            "# TYPE requests_total counter\n"
                            "requests_total{model=\"a\\\"b\\\\c\\nd\",version=\"1\"} 7\n"
                            "requests_total{model=\"z\"} 18446744073709551615\n"
                            "# HELP depth How deep.\n"
                            "# TYPE depth gauge\n"
                            "depth 0.1\n"
                            "depth{x=\"\"} -Inf\n"
                            "depth{x=\"n\"} NaN\n");
    fm_text_deinit(&text);
    fm_prometheus_deinit(&page);
}

TEST(histograms_have_bounds_sum_and_count)
{
    struct fm_live_histogram live = {0};
    fm_live_histogram_add(&live, 500000);      /* 0.5 ms */
    fm_live_histogram_add(&live, 3000000);     /* 3 ms */
    fm_live_histogram_add(&live, 99000000000); /* 99 s */
    struct fm_histogram_totals totals = {0};
    fm_histogram_totals_add_live(&totals, &live);
    struct fm_prometheus page = {0};
    const uint64_t bounds_ns[] = {1000000, 10000000};
    fm_prometheus_histogram(&page, &wait, LABELS({"model", "m"}), &totals, bounds_ns, 2);
    const uint64_t bounds[] = {1, 2};
    const uint64_t cumulative[] = {3, 5};
    fm_prometheus_histogram_counts(&page, &wait, none, bounds, cumulative, 2, 40, 9);
    struct fm_text text = {0};
    fm_prometheus_write(&page, &text);
    CHECK_STR_EQ(text.data, "# HELP wait_seconds Wait.\n"
                            "# TYPE wait_seconds histogram\n"
                            "wait_seconds_bucket{model=\"m\",le=\"0.001\"} 1\n"
                            "wait_seconds_bucket{model=\"m\",le=\"0.01\"} 2\n"
                            "wait_seconds_bucket{model=\"m\",le=\"+Inf\"} 3\n"
                            "wait_seconds_sum{model=\"m\"} 99.0035\n"
                            "wait_seconds_count{model=\"m\"} 3\n"
                            "wait_seconds_bucket{le=\"1\"} 3\n"
                            "wait_seconds_bucket{le=\"2\"} 5\n"
                            "wait_seconds_bucket{le=\"+Inf\"} 9\n"
                            "wait_seconds_sum 40.0\n"
                            "wait_seconds_count 9\n");
    fm_text_deinit(&text);
    fm_prometheus_deinit(&page);
}

TEST(no_memory_is_told_at_the_end)
{
    struct fm_prometheus page = {0};
    fm_memory_fail_at(1, 0);
    fm_prometheus_uint(&page, &depth, none, 1);
    fm_memory_fail_at(0, 0);
    struct fm_text text = {0};
    fm_prometheus_write(&page, &text);
    CHECK(text.failed);
    fm_text_deinit(&text);
    fm_prometheus_deinit(&page);
}

TEST_MAIN()
