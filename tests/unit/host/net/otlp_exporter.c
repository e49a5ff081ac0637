/*
 * The exporter: what is sent when the collector is there (tests/e2e/otlp_export.py starts one and
 * runs `to_a_collector`), and that nothing waits when it is not.
 */
#include "host/net/otlp_exporter.h"

#include <stdlib.h>

#include "core/proto/json.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

#define MS UINT64_C(1000000)
/* Port 9 of this machine: nobody listens there, connecting fails at once. */
#define NOBODY "http://127.0.0.1:9"

static struct fm_otlp_span span_make(uint64_t number)
{
    struct fm_otlp_span span = {
        .context = {.trace_high = 0xabc, .trace_low = 0xdef, .span = number, .sampled = true},
        .parent = 7,
        .start_ns = 1700000000000000000u,
        .end_ns = 1700000000005000000u,
        .name = "infer",
        .kind = FM_OTLP_SERVER,
        .batch = 8,
        .has_window = true,
        .queue_ns = 2000000,
        .window_ns = 1500000,
        .protocol = "grpc",
        .tracestate = "a=1"};
    fm_otlp_span_set_model(&span, "resnet \"50\"");
    return span;
}

TEST(the_document_has_ids_as_text_and_numbers_as_strings)
{
    struct fm_otlp_span spans[2] = {span_make(1), span_make(2)};
    spans[1].status = FM_EDEADLINE;
    spans[1].parent = 0;
    struct fm_text text = {0};
    fm_otlp_write(&(struct fm_otlp_resource){"svc", "1.0", "node"}, spans, 2, &text);
    CHECK(!text.failed);
    CHECK_STR_CONTAINS(text.data, "\"traceId\":\"0000000000000abc0000000000000def\"");
    CHECK_STR_CONTAINS(text.data,
                       "\"spanId\":\"0000000000000001\",\"parentSpanId\":\"0000000000000007\"");
    CHECK_STR_CONTAINS(text.data, "\"startTimeUnixNano\":\"1700000000000000000\"");
    CHECK_STR_CONTAINS(text.data, "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"svc\"}}");
    CHECK_STR_CONTAINS(text.data,
                       "{\"key\":\"fermata.window_ns\",\"value\":{\"intValue\":\"1500000\"}}");
    CHECK_STR_CONTAINS(text.data, "\"status\":{\"code\":2,\"message\":\"deadline exceeded\"}");
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, text.data, text.length);
    CHECK_INT_EQ(fm_json_skip(&reader), 0);
    fm_text_deinit(&text);
}

TEST(long_names_are_cut_at_a_character)
{
    struct fm_otlp_span span = {0};
    char name[FM_OTLP_MODEL_SIZE + 8];
    memset(name, 'a', sizeof(name));
    memcpy(name + FM_OTLP_MODEL_SIZE - 2, "\xC3\xA4", 2);
    name[sizeof(name) - 1] = '\0';
    fm_otlp_span_set_model(&span, name);
    CHECK_UINT_EQ(strlen(span.model), FM_OTLP_MODEL_SIZE - 2);
}

TEST(options_are_checked)
{
    static const struct fm_otlp_options bad[] = {
        {.endpoint = NULL},
        {.endpoint = "ftp://127.0.0.1"},
        {.endpoint = "http://"},
        {.endpoint = NOBODY, .headers = "no-value"},
        {.endpoint = NOBODY, .headers = "=x"},
        {.endpoint = NOBODY, .headers = "a=b\r\nc: d"},
        {.traces_endpoint = "127.0.0.1:4318"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fm_otlp_exporter *exporter = NULL;
        struct fm_error error = {0};
        CHECK_INT_EQ(fm_otlp_exporter_start(&bad[i], &exporter, &error), FM_EINVAL);
        CHECK(strstr(error.text, "trace collector") != NULL);
    }
}

TEST(without_a_collector_spans_are_dropped_and_nobody_waits)
{
    const struct fm_otlp_options options = {.endpoint = NOBODY,
                                            .queue_max = 16,
                                            .batch_max = 4,
                                            .attempts_max = 3,
                                            .delay_ns = MS,
                                            .pause_ns = 50 * MS};
    struct fm_otlp_exporter *exporter = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_otlp_exporter_start(&options, &exporter, &error), 0);
    const struct fm_otlp_span span = span_make(1);
    uint32_t taken = 0;
    for (uint32_t i = 0; i < 200; i++) {
        taken += fm_otlp_exporter_put(exporter, &span) ? 1 : 0;
    }
    CHECK(taken >= 16 && taken <= 24);
    struct fm_otlp_stats stats;
    uint64_t until_ns = fm_os_now_ns() + 20000 * MS;
    do {
        fm_sleep_until(fm_os_now_ns() + 5 * MS);
        fm_otlp_exporter_stats(exporter, &stats);
    } while (stats.dropped < 200 - taken + 4 && fm_os_now_ns() < until_ns);
    CHECK(stats.dropped >= 200 - taken + 4); /* a batch was given up */
    CHECK(stats.failed >= 3);
    CHECK_UINT_EQ(stats.sent, 0);
    uint64_t start_ns = fm_os_now_ns();
    fm_otlp_exporter_stop(exporter, 100 * MS);
    CHECK((fm_os_now_ns() - start_ns) < 10000 * MS);
}

TEST(to_a_collector)
{
    const char *endpoint = getenv("FM_OTLP_ENDPOINT");
    if (endpoint == NULL) {
        TEST_SKIP("tests/e2e/otlp_export.py runs it");
    }
    const struct fm_otlp_options options = {.endpoint = endpoint,
                                            .headers = "x-team=vision,x-key=a b",
                                            .service_name = "cameras",
                                            .service_version = "0.1.0",
                                            .batch_max = 10,
                                            .delay_ns = 20 * MS,
                                            .pause_ns = 20 * MS};
    struct fm_otlp_exporter *exporter = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_otlp_exporter_start(&options, &exporter, &error), 0);
    for (uint64_t i = 1; i <= 95; i++) {
        const struct fm_otlp_span span = span_make(i);
        CHECK(fm_otlp_exporter_put(exporter, &span));
    }
    struct fm_otlp_stats stats;
    uint64_t until_ns = fm_os_now_ns() + 20000 * MS;
    do {
        fm_sleep_until(fm_os_now_ns() + 5 * MS);
        fm_otlp_exporter_stats(exporter, &stats);
    } while (stats.sent + stats.dropped < 95 && fm_os_now_ns() < until_ns);
    printf("# sent %" PRIu64 " dropped %" PRIu64 " failed %" PRIu64 "\n", stats.sent, stats.dropped,
           stats.failed);
    const struct fm_otlp_span last = span_make(96);
    CHECK(fm_otlp_exporter_put(exporter, &last));
    fm_otlp_exporter_stop(exporter, 5000 * MS); /* sends what is left */
}

TEST_MAIN()
