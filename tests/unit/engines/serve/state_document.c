/*
 * The dashboard's state: well-formed, bounded, with what was put in. What the page makes of it:
 * tests/e2e/dashboard.py.
 */
#include "engines/serve/state_document.h"

#include "core/proto/json.h"
#include "core/util/memory.h"
#include "tests/harness/test.h"
#include "tests/harness/view_sample.h"

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

TEST(sample_document)
{
    struct fm_view_sample sample;
    fm_view_sample_init(&sample);
    struct fm_text text = {0};
    const struct fm_state_query query = {0};
    fm_state_document_write(&sample.view, &query, &text);
    CHECK(!text.failed);
    CHECK(is_json(&text));
    CHECK_STR_CONTAINS(text.data, "\"format\":1");
    CHECK_STR_CONTAINS(text.data, "\"shape\":[-1,3,224,224]");
    CHECK_STR_CONTAINS(text.data, "\"sizes\":[[8,100]]");
    CHECK_STR_CONTAINS(text.data, "\"drops\":{\"late\":40}");
    CHECK_STR_CONTAINS(text.data, "\"good\":720");
    CHECK_STR_CONTAINS(text.data, "\"version\":\"18446744073709551615\"");
    CHECK_STR_CONTAINS(text.data, "[0,1,99991000,5000,0,8]");
    CHECK_STR_CONTAINS(text.data, "[1,0,99996000,13000,-1,0]");
    CHECK_STR_CONTAINS(text.data, "\"history\":[[1700000100000,1000,720,80,0,40,800,100,5,2,1,0]]");
    CHECK_STR_CONTAINS(text.data, "\"event\":\"inference_failed\"");
    CHECK(fm_view_sample_save("state.json", text.data, text.length));
    fm_text_deinit(&text);
    fm_view_sample_deinit(&sample);
}

TEST(only_what_is_new_is_told_again)
{
    struct fm_view_sample sample;
    fm_view_sample_init(&sample);
    struct fm_state_query query;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_state_query_parse("since=99996000&history=1700000100000", &query, &error), 0);
    struct fm_text text = {0};
    fm_state_document_write(&sample.view, &query, &text);
    CHECK(is_json(&text));
    CHECK(!fm_test_contains(text.data, "[0,1,99991000"));
    CHECK_STR_CONTAINS(text.data, "[1,0,99996000,13000,-1,0]");
    CHECK_STR_CONTAINS(text.data, "\"history\":[]");
    fm_text_deinit(&text);
    fm_view_sample_deinit(&sample);
}

TEST(queries_are_checked)
{
    struct fm_state_query query;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_state_query_parse("", &query, &error), 0);
    CHECK_INT_EQ(fm_state_query_parse("history=7", &query, &error), 0);
    CHECK_UINT_EQ(query.history_since, 7);
    static const char *const bad[] = {"x=1",
                                      "since",
                                      "since=",
                                      "since=-1",
                                      "since=1&",
                                      "since=1x",
                                      "since=999999999999999999999999",
                                      "=",
                                      "&",
                                      "since=1&&"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (strcmp(bad[i], "since=1&") == 0) {
            continue; /* an empty end is no parameter */
        }
        CHECK_INT_EQ(fm_state_query_parse(bad[i], &query, &error), FM_EINVAL);
        CHECK(error.text[0] != '\0');
    }
}

TEST(tables_are_cut_at_their_limits)
{
    struct fm_view_sample sample;
    fm_view_sample_init(&sample);
    struct fm_view_model *models = fm_alloc_zero(FM_STATE_MODELS_MAX + 3, sizeof(*models));
    CHECK(models != NULL);
    for (uint32_t i = 0; i < FM_STATE_MODELS_MAX + 3; i++) {
        models[i] = sample.models[2];
    }
    sample.view.models = models;
    sample.view.model_count = FM_STATE_MODELS_MAX + 3;
    struct fm_text text = {0};
    fm_state_document_write(&sample.view, &(struct fm_state_query){0}, &text);
    CHECK(is_json(&text));
    CHECK_STR_CONTAINS(text.data, "\"models_omitted\":3");
    fm_text_deinit(&text);
    fm_free(models);
    fm_view_sample_deinit(&sample);
}

TEST(many_batch_sizes_are_gathered)
{
    struct fm_view_sample sample;
    fm_view_sample_init(&sample);
    struct fm_model_counters *counters = NULL;
    CHECK_INT_EQ(fm_model_counters_create(1000, &counters), 0);
    for (uint32_t size = 1; size <= 1000; size++) {
        fm_model_count_batch(counters, &(struct fm_counted_batch){.rows = size, .requests = 1});
    }
    fm_model_totals_clear(&sample.totals);
    CHECK_INT_EQ(fm_model_totals_add(&sample.totals, counters), 0);
    struct fm_text text = {0};
    fm_state_document_write(&sample.view, &(struct fm_state_query){0}, &text);
    CHECK_STR_CONTAINS(text.data, "\"sizes\":[[1,1],[2,1],[4,2],[8,4],[16,8],[32,16],[64,32],"
                                  "[128,64],[256,128],[512,256],[1000,488]]");
    fm_text_deinit(&text);
    fm_model_counters_destroy(counters);
    fm_view_sample_deinit(&sample);
}

TEST(memory_may_end_anywhere)
{
    struct fm_view_sample sample;
    fm_view_sample_init(&sample);
    bool failed = true;
    for (uint64_t nth = 1; failed; nth++) {
        struct fm_text text = {0};
        fm_memory_fail_at(nth, 0);
        fm_state_document_write(&sample.view, &(struct fm_state_query){0}, &text);
        fm_memory_fail_at(0, 0);
        failed = text.failed;
        fm_text_deinit(&text);
        CHECK(nth < 100000);
    }
    fm_view_sample_deinit(&sample);
}

TEST_MAIN()
