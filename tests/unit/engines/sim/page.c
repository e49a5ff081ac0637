/*
 * The page, the trace and the JSON of a run: complete, well formed, nothing from outside.
 */
#include "engines/sim/page.h"

#include "core/proto/json.h"
#include "engines/sim/report.h"
#include "engines/sim/scenario_file.h"
#include "tests/harness/test.h"

static const char text[] =
    "accelerators: 6\nwarmup: 100ms\nmeasure: 400ms\nmodels:\n"
    "  - {name: 'a<b', slo: 25ms, profile: {alpha: 1ms, beta: 5ms}, arrivals: {rate: 500}}\n"
    "  - {name: '</script>', count: 2, slo: 25ms, profile: {alpha: 1ms, beta: 5ms}, arrivals: "
    "{rate: 100}}\n";

static struct fm_sim_scenario scenario;
static struct fm_sim_recording recording;
static struct fm_sim_result *result;

static int prepare(uint32_t span_max)
{
    struct fm_error error = {0};
    fm_sim_result_free(result);
    result = NULL;
    fm_sim_recording_deinit(&recording);
    fm_sim_scenario_deinit(&scenario);
    recording.span_max = span_max;
    int status = fm_sim_scenario_load_text("<s>.yaml", text, sizeof text - 1, &scenario, &error);
    struct fm_sim_run_options options = {
        .seed = 1, .scale = 1, .on_span = fm_sim_recording_add, .context = &recording};
    return status == 0 ? fm_sim_run(&scenario, &options, &result, &error) : status;
}

static int json_is_complete(const char *json, size_t length)
{
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, json, length);
    enum fm_json_token token = FM_JSON_NULL;
    while (token != FM_JSON_END && token != FM_JSON_ERROR) {
        token = fm_json_next(&reader);
    }
    return token == FM_JSON_END;
}

TEST(the_trace_has_every_batch)
{
    struct fm_text trace = {0};
    CHECK_INT_EQ(prepare(FM_SIM_TRACE_SPANS_MAX), 0);
    fm_sim_recording_trace(&recording, result, &trace);
    CHECK(!trace.failed);
    CHECK(json_is_complete(trace.data, trace.length));
    CHECK_STR_CONTAINS(trace.data, "\"thread_name\"");
    CHECK_STR_CONTAINS(trace.data, "\"name\":\"accelerator 0\"");
    uint32_t found = 0;
    for (const char *c = trace.data; (c = strstr(c, "\"ph\":\"X\"")) != NULL; c++) {
        found++;
    }
    CHECK_UINT_EQ(found, recording.span_count);
    CHECK(found >= result->total.batches);
    CHECK_UINT_EQ(recording.omitted, 0);
    fm_text_deinit(&trace);
}

TEST(what_does_not_fit_is_counted)
{
    CHECK_INT_EQ(prepare(10), 0);
    CHECK_UINT_EQ(recording.span_count, 10);
    CHECK(recording.omitted > 0);
}

TEST(the_json_is_complete)
{
    struct fm_text json = {0};
    CHECK_INT_EQ(prepare(10), 0);
    fm_sim_report_json(result, &json);
    CHECK(json_is_complete(json.data, json.length));
    static const char *const keys[] = {
        "offered_rps",  "goodput_rps", "bad_rate",  "bad_rate_worst_model",
        "batch_mean",   "latency_ms",  "p50",       "p99",
        "accelerators", "total",       "touched",   "busy_equivalent",
        "trace_hash",   "models",      "sacrificed"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char quoted[40];
        (void)snprintf(quoted, sizeof quoted, "\"%s\":", keys[i]);
        CHECK_STR_CONTAINS(json.data, quoted);
    }
    fm_text_deinit(&json);
}

TEST(the_page_needs_nothing_from_outside)
{
    struct fm_sim_task curve[4] = {{.summary = {.offered_rps = 100, .goodput_rps = 100}},
                                   {.summary = {.offered_rps = 200, .goodput_rps = 150}},
                                   {.policy = FM_SCHED_POLICY_EAGER},
                                   {.policy = FM_SCHED_POLICY_EAGER}};
    struct fm_text page = {0};
    CHECK_INT_EQ(prepare(FM_SIM_PAGE_SPANS_MAX), 0);
    fm_sim_page_write(&(struct fm_sim_page){.result = result,
                                            .recording = &recording,
                                            .curve = curve,
                                            .curve_policies = 2,
                                            .curve_loads = 2},
                      &page);
    CHECK(!page.failed);
    static const char *const parts[] = {
        "Goodput over load", "Batch sizes",    "Accelerators over time", "<canvas id=\"timeline\">",
        "</body></html>",    "&lt;s&gt;.yaml", ">eager</text>",          "\\u003c/script>.1"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        CHECK_STR_CONTAINS(page.data, parts[i]);
    }
    CHECK_PTR_EQ(strstr(page.data, "http"), NULL);
    CHECK_PTR_EQ(strstr(page.data, " src="), NULL);
    CHECK_PTR_EQ(strstr(page.data, "nan"), NULL);
    CHECK_PTR_EQ(strstr(page.data, "a<b"), NULL);
    fm_text_deinit(&page);
    fm_sim_result_free(result);
    result = NULL;
    fm_sim_recording_deinit(&recording);
    fm_sim_scenario_deinit(&scenario);
    fm_sim_scenario_init(&scenario);
}

TEST_MAIN()
