/*
 * The trace of the last seconds: one well-formed document, whatever pieces it comes in. What a
 * viewer needs of it: tests/e2e/metrics_page.py.
 */
#include "engines/serve/debug_trace.h"

#include "core/proto/json.h"
#include "tests/harness/test.h"
#include "tests/harness/view_sample.h"

static uint32_t trace_write(const struct fm_view *view, uint32_t seconds, struct fm_text *text)
{
    struct fm_debug_trace trace;
    uint32_t pieces = 0;
    if (fm_debug_trace_init(&trace, view, seconds) != 0) {
        return 0;
    }
    do {
        pieces++;
    } while (fm_debug_trace_next(&trace, text));
    fm_debug_trace_deinit(&trace);
    return pieces + 1;
}

static bool is_json(const struct fm_text *text)
{
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, text->data, text->length);
    enum fm_json_token token;
    do {
        token = fm_json_next(&reader);
    } while (token != FM_JSON_END && token != FM_JSON_ERROR);
    return token == FM_JSON_END;
}

TEST(sample_trace)
{
    struct fm_view_sample sample;
    fm_view_sample_init(&sample);
    struct fm_text text = {0};
    CHECK(trace_write(&sample.view, 10, &text) >= 3);
    CHECK(!text.failed);
    CHECK(is_json(&text));
    CHECK_STR_CONTAINS(text.data, "\"name\":\"cpu-1 1\"");
    CHECK_STR_CONTAINS(text.data,
                       "{\"ph\":\"X\",\"name\":\"resnet\",\"pid\":1,\"tid\":2,\"ts\":9991000.0,"
                       "\"cat\":\"batch\",\"dur\":5000.0,\"args\":{\"rows\":8,\"batch\":42}}");
    CHECK_STR_CONTAINS(text.data, "{\"ph\":\"s\",\"name\":\"batch\"");
    CHECK_STR_CONTAINS(text.data, "\"id\":42,\"bp\":\"e\"}");
    CHECK_STR_CONTAINS(text.data, "\"cut\":\"no\"");
    CHECK(fm_view_sample_save("trace.json", text.data, text.length));
    fm_text_deinit(&text);
    fm_view_sample_deinit(&sample);
}

TEST(older_spans_are_left_out)
{
    struct fm_view_sample sample;
    fm_view_sample_init(&sample);
    sample.view.now_ns += 3000000000u;
    struct fm_text text = {0};
    CHECK(trace_write(&sample.view, 1, &text) > 0);
    CHECK(is_json(&text));
    CHECK(!fm_test_contains(text.data, "\"ph\":\"X\""));
    fm_text_deinit(&text);
    fm_view_sample_deinit(&sample);
}

TEST(many_spans_come_in_pieces)
{
    struct fm_view_sample sample;
    fm_view_sample_init(&sample);
    struct fm_timeline timeline;
    CHECK_INT_EQ(fm_timeline_init(&timeline, 3, 4096, 0), 0);
    for (uint32_t i = 0; i < 5000; i++) {
        const struct fm_span span = {.kind = FM_SPAN_BATCH,
                                     .start_ns = sample.view.now_ns - 1000,
                                     .end_ns = sample.view.now_ns};
        fm_timeline_put(&timeline, 1, &span);
    }
    sample.view.timeline = &timeline;
    struct fm_text text = {0};
    CHECK(trace_write(&sample.view, 1, &text) >= 4096 / FM_DEBUG_TRACE_CHUNK_SPANS + 2);
    CHECK(is_json(&text));
    sample.view.timeline = NULL;
    fm_text_clear(&text);
    CHECK(trace_write(&sample.view, 1, &text) > 0);
    CHECK(is_json(&text));
    fm_text_deinit(&text);
    fm_timeline_deinit(&timeline);
    fm_view_sample_deinit(&sample);
}

TEST(queries_are_checked)
{
    uint32_t seconds = 0;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_debug_trace_query_parse("", &seconds, &error), 0);
    CHECK_UINT_EQ(seconds, FM_DEBUG_TRACE_SECONDS);
    CHECK_INT_EQ(fm_debug_trace_query_parse("seconds=60", &seconds, &error), 0);
    CHECK_UINT_EQ(seconds, 60);
    static const char *const bad[] = {"seconds=0", "seconds=301", "seconds=", "seconds=1.5", "s=1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_INT_EQ(fm_debug_trace_query_parse(bad[i], &seconds, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, "seconds=N");
    }
}

TEST_MAIN()
