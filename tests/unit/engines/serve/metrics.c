/*
 * The page for Prometheus: what is on it. Its grammar: tests/e2e/metrics_page.py.
 */
#include "engines/serve/metrics.h"

#include "core/util/memory.h"
#include "engines/serve/catalog.h"
#include "tests/harness/test.h"
#include "tests/harness/view_sample.h"

TEST(sample_page)
{
    struct fm_view_sample sample;
    fm_view_sample_init(&sample);
    struct fm_text text = {0};
    fm_metrics_write(&sample.view, &text);
    CHECK(!text.failed);
    CHECK_STR_CONTAINS(text.data,
                       "\nnv_inference_request_success{model=\"resnet\",version=\"1\"} 800\n");
    CHECK_STR_CONTAINS(
        text.data,
        "\nnv_inference_request_failure{model=\"resnet\",version=\"1\",reason=\"REJECTED\"} 40\n");
    CHECK_STR_CONTAINS(text.data, "\nnv_inference_count{model=\"resnet\",version=\"1\"} 800\n");
    CHECK_STR_CONTAINS(text.data,
                       "\nnv_inference_exec_count{model=\"resnet\",version=\"1\"} 100\n");
    CHECK_STR_CONTAINS(
        text.data,
        "\nnv_inference_compute_infer_duration_us{model=\"resnet\",version=\"1\"} 2400000\n");
    CHECK_STR_CONTAINS(text.data,
                       "\nfermata_good_answers_total{model=\"resnet\",version=\"1\"} 720\n");
    CHECK_STR_CONTAINS(
        text.data,
        "\nfermata_deadlines_total{model=\"resnet\",version=\"1\",outcome=\"missed\"} 120\n");
    CHECK_STR_CONTAINS(
        text.data, "\nfermata_drops_total{model=\"resnet\",version=\"1\",reason=\"late\"} 40\n");
    CHECK_STR_CONTAINS(
        text.data, "\nfermata_batch_size_bucket{model=\"resnet\",version=\"1\",le=\"8\"} 100\n");
    CHECK_STR_CONTAINS(text.data,
                       "\nfermata_batch_size_sum{model=\"resnet\",version=\"1\"} 800.0\n");
    CHECK_STR_CONTAINS(text.data, "\nfermata_accelerators{state=\"busy\"} 1\n");
    CHECK_STR_CONTAINS(text.data, "\nfermata_accelerators_wanted 3\n");
    CHECK_STR_CONTAINS(text.data, "\nfermata_accelerator_brief_batches_total{accelerator=\"0\","
                                  "name=\"cpu-0\",type=\"cpu\"} 21\n");
    CHECK_STR_CONTAINS(text.data, "\nfermata_access_refused_total{reason=\"rate\"} 5\n");
    CHECK_STR_CONTAINS(text.data, "\nfermata_access_tokens 4\n");
    CHECK_STR_CONTAINS(text.data,
                       "\nfermata_stage_items_total{pipeline=\"both\",version=\"1\",stage=\"find\","
                       "model=\"resnet\",outcome=\"failed\"} 40\n");
    CHECK_STR_CONTAINS(text.data, "stage=\"read\",model=\"resnet\"} 0.012\n");
    CHECK(strstr(text.data, "fermata_stage_seconds_count{pipeline=\"both\",version=\"1\","
                            "stage=\"read\"") == NULL);
    CHECK_STR_CONTAINS(text.data,
                       "{model=\"odd \\\"name\\\"\\\\\\n\",version=\"18446744073709551615\"");
    CHECK_STR_CONTAINS(text.data, "type=\"gpu\"} +Inf\n");
    CHECK(fm_view_sample_save("metrics.prom", text.data, text.length));
    fm_text_deinit(&text);
    fm_view_sample_deinit(&sample);
}

TEST(states_are_those_of_the_catalog)
{
    struct fm_view_sample sample;
    fm_view_sample_init(&sample);
    for (uint32_t state = 0; state < FM_CATALOG_STATE_COUNT_; state++) {
        char row[200];
        struct fm_text text = {0};
        sample.models[2].state = (enum fm_catalog_state)state;
        fm_metrics_write(&sample.view, &text);
        (void)snprintf(row, sizeof(row),
                       "\nfermata_model_state{model=\"broken\",version=\"1\",state=\"%s\"} 1\n",
                       fm_catalog_state_name(sample.models[2].state));
        CHECK_STR_CONTAINS(text.data, row);
        fm_text_deinit(&text);
    }
    fm_view_sample_deinit(&sample);
}

TEST(an_empty_server_has_a_page)
{
    struct fm_view view = {.version = "1", .commit = "", .build = "", .host = "", .policy = ""};
    struct fm_text text = {0};
    fm_metrics_write(&view, &text);
    CHECK(!text.failed);
    CHECK_STR_CONTAINS(text.data, "\nfermata_ready 0\n");
    fm_text_deinit(&text);
}

TEST(memory_may_end_anywhere)
{
    struct fm_view_sample sample;
    fm_view_sample_init(&sample);
    bool failed = true;
    for (uint64_t nth = 1; failed; nth += 7) {
        struct fm_text text = {0};
        fm_memory_fail_at(nth, 0);
        fm_metrics_write(&sample.view, &text);
        fm_memory_fail_at(0, 0);
        failed = text.failed;
        fm_text_deinit(&text);
        CHECK(nth < 100000);
    }
    fm_view_sample_deinit(&sample);
}

TEST_MAIN()
