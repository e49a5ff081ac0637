/*
 * Rings of spans: the latest are kept, and a reader never gets a torn one, however the writer
 * hurries.
 */
#include "core/stats/timeline.h"

#include "core/stats/recent.h"
#include "core/util/memory.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

TEST(the_oldest_are_overwritten)
{
    struct fm_timeline timeline;
    struct fm_span spans[16];
    CHECK_INT_EQ(fm_timeline_init(&timeline, 2, 7, 3), 0);
    CHECK_UINT_EQ(fm_timeline_read(&timeline, 0, 0, spans, 16), 0);
    for (uint64_t i = 1; i <= 20; i++) {
        fm_timeline_put(&timeline, 1, &(struct fm_span){.start_ns = i, .end_ns = i + 1});
    }
    CHECK_UINT_EQ(fm_timeline_read(&timeline, 1, 0, spans, 16), 8);
    CHECK_UINT_EQ(spans[0].start_ns, 13);
    CHECK_UINT_EQ(spans[7].start_ns, 20);
    CHECK_UINT_EQ(fm_timeline_read(&timeline, 1, 20, spans, 16), 2);
    CHECK_UINT_EQ(spans[0].start_ns, 19);
    CHECK_UINT_EQ(fm_timeline_read(&timeline, 1, 0, spans, 3), 3);
    CHECK_UINT_EQ(spans[2].start_ns, 20);
    CHECK(fm_timeline_samples(&timeline, 9));
    CHECK(!fm_timeline_samples(&timeline, 10));
    fm_timeline_deinit(&timeline);
}

TEST(sizes_and_memory_are_checked)
{
    struct fm_timeline timeline;
    CHECK_INT_EQ(fm_timeline_init(&timeline, 0, 8, 0), FM_EINVAL);
    CHECK_INT_EQ(fm_timeline_init(&timeline, 1, FM_TIMELINE_SPANS_MAX + 1, 0), FM_EINVAL);
    for (uint64_t nth = 1; nth <= 3; nth++) {
        fm_memory_fail_at(nth, 0);
        CHECK_INT_EQ(fm_timeline_init(&timeline, 2, 8, 0), FM_ENOMEM);
    }
    fm_memory_fail_at(0, 0);
    fm_timeline_deinit(&timeline);
    CHECK_STR_EQ(fm_span_kind_name(FM_SPAN_HELD), "held");
}

#define SPANS 200000

static void writer_run(void *argument)
{
    struct fm_timeline *timeline = argument;
    for (uint64_t i = 1; i <= SPANS; i++) {
        fm_timeline_put(timeline, 0,
                        &(struct fm_span){.start_ns = i,
                                          .end_ns = i,
                                          .request = i,
                                          .batch = i,
                                          .model = (uint32_t)i,
                                          .count = (uint32_t)i,
                                          .index = (uint32_t)i});
    }
}

TEST(a_reader_gets_whole_spans_only)
{
    struct fm_timeline timeline;
    struct fm_span spans[16];
    struct fm_thread thread;
    CHECK_INT_EQ(fm_timeline_init(&timeline, 1, 16, 0), 0);
    CHECK_INT_EQ(fm_thread_start(&thread, "spans", writer_run, &timeline), 0);
    uint64_t latest = 0;
    bool whole = true;
    while (latest < SPANS) {
        uint32_t count = fm_timeline_read(&timeline, 0, 0, spans, 16);
        for (uint32_t i = 0; i < count; i++) {
            uint64_t n = spans[i].start_ns;
            whole = whole && spans[i].end_ns == n && spans[i].request == n && spans[i].batch == n &&
                    spans[i].model == n && spans[i].count == n && spans[i].index == n &&
                    (i == 0 || n > spans[i - 1].start_ns);
            latest = n > latest ? n : latest;
        }
    }
    fm_thread_join(&thread);
    CHECK(whole);
    fm_timeline_deinit(&timeline);
}

/* --- recent.h --- */

TEST(rates_are_of_the_last_seconds)
{
    struct fm_model_totals totals = {0};
    static struct fm_recent recent;
    struct fm_recent_rates rates;
    fm_recent_rates(&recent, &rates);
    CHECK_UINT_EQ(rates.span_ns, 0);
    uint64_t second_ns = 1000000000;
    /* 100 a second for a minute, then 10. */
    for (uint64_t second = 0; second <= 72; second++) {
        fm_recent_sample(&recent, second * second_ns, &totals);
        uint64_t amount = second < 60 ? 100 : 10;
        totals.times[FM_COUNTED_SUCCESS].count += amount;
        totals.answers_late += amount / 10;
        totals.deadlines_met += amount - amount / 10;
        totals.deadlines_missed += amount / 10;
        totals.executions += amount / 5;
        totals.inferences += amount;
    }
    fm_recent_rates(&recent, &rates);
    CHECK(rates.span_ns >= 5 * second_ns && rates.span_ns <= 10 * second_ns);
    CHECK_NEAR(rates.requests, 10, 1e-9);
    CHECK_NEAR(rates.good, 9, 1e-9);
    CHECK_NEAR(rates.met_share, 0.9, 1e-9);
    CHECK_NEAR(rates.batch_mean, 5, 1e-9);
}

TEST(the_history_is_a_ring_of_seconds)
{
    static struct fm_history history;
    struct fm_history_now now = {0};
    for (uint32_t tick = 0; tick <= 2 * FM_HISTORY_SAMPLES * 2; tick++) {
        now.now_ns = tick * UINT64_C(500000000);
        now.wall_ns = now.now_ns;
        fm_history_sample(&history, &now);
        now.totals.good += 7;
    }
    CHECK_UINT_EQ(history.count, FM_HISTORY_SAMPLES);
    const struct fm_history_sample *last = fm_history_get(&history, FM_HISTORY_SAMPLES - 1);
    CHECK_UINT_EQ(last->good, 14);
    CHECK_UINT_EQ(last->span_ms, 1000);
    CHECK_UINT_EQ(last->wall_ms, 600000);
    CHECK_UINT_EQ(fm_history_get(&history, 0)->wall_ms, 301000);
}

TEST_MAIN()
