/*
 * Lines of results and dead letters, byte by byte, and memory that runs out in the middle of one.
 */
#include "engines/batch/row_format.h"

#include "engines/batch/sink.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

static const char *const stage_names[] = {"page", "read"};
static const uint64_t stage_ns[] = {2300400, 1000000};
static const struct fm_port ports[] = {
    {.name = "text", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}},
    {.name = "score", .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {2}},
};
static const struct fm_row_format plain = {
    .sink = &fm_sink_jsonl, .outputs = ports, .output_count = 2};

static void outputs_make(struct fm_value *values, const char *text, size_t length, float score)
{
    const int64_t shape[] = {2};
    const float scores[] = {score, 0.5f};
    memset(values, 0, 2 * sizeof(*values));
    if (fm_value_from_bytes(&values[0], text, length) != 0 ||
        fm_value_alloc(&values[1], FM_DTYPE_FP32, shape, 1, sizeof(scores)) != 0) {
        abort();
    }
    memcpy(values[1].tensor.data, scores, sizeof(scores));
}

/* fm_row_format_result with the row's parts by themselves. */
static int result(const struct fm_row_format *format, const char *id, const struct fm_value *values,
                  uint64_t total_ns, struct fm_text *line, struct fm_error *error)
{
    struct fm_tensor tensors[2] = {values[0].tensor};
    if (format->output_count > 1) {
        tensors[1] = values[1].tensor;
    }
    const struct fm_result row = {
        .id = {id, strlen(id)}, .outputs = tensors, .stage_ns = stage_ns, .total_ns = total_ns};
    return fm_row_format_result(format, &row, line, error);
}

static void outputs_free(struct fm_value *values)
{
    fm_value_unref(&values[0]);
    fm_value_unref(&values[1]);
}

TEST(a_result)
{
    struct fm_value values[2];
    struct fm_text line = {0};
    struct fm_row_format format = plain;
    outputs_make(values, "two\n\"lines\"", 11, 0.25f);
    CHECK_INT_EQ(result(&format, "a/b.jpg", values, 0, &line, NULL), 0);
    CHECK_STR_EQ(line.data,
                 "{\"id\":\"a/b.jpg\",\"text\":\"two\\n\\\"lines\\\"\",\"score\":[0.25,0.5]}\n");
    fm_text_clear(&line);
    format.timings = true;
    format.stage_names = stage_names;
    format.stage_count = 2;
    CHECK_INT_EQ(result(&format, "a", values, 7000000, &line, NULL), 0);
    CHECK_STR_CONTAINS(line.data, ",\"timings\":{\"page\":2.3,\"read\":1.0,\"total_ms\":7.0}}\n");
    fm_text_deinit(&line);
    outputs_free(values);
}

TEST(bytes_that_are_no_text_and_numbers_that_are_none)
{
    struct fm_value values[2];
    struct fm_text line = {0};
    struct fm_row_format format = plain;
    outputs_make(values, "\xff\x00\xfe", 3, NAN);
    CHECK_INT_EQ(result(&format, "x\xff", values, 0, &line, NULL), 0);
    CHECK_STR_CONTAINS(line.data, "\"id_base64\":\"eP8=\"");
    CHECK_STR_CONTAINS(line.data, "\"score\":[\"NaN\",0.5]");
    fm_text_clear(&line);
    format.bytes = FM_JOB_BYTES_BASE64;
    CHECK_INT_EQ(result(&format, "x", values, 0, &line, NULL), 0);
    CHECK_STR_CONTAINS(line.data, "\"text\":\"/wD+\"");
    fm_text_deinit(&line);
    outputs_free(values);
}

TEST(the_batch_dimension_of_one_model_is_not_shown)
{
    const int64_t shape[] = {1, 2};
    const int32_t numbers[] = {-1, 7};
    const struct fm_port port = {.name = "y", .dtype = FM_DTYPE_INT32, .rank = 2, .shape = {-1, 2}};
    struct fm_row_format format = {
        .sink = &fm_sink_jsonl, .outputs = &port, .output_count = 1, .strip_rows = true};
    struct fm_value value = {0};
    struct fm_text line = {0};
    CHECK_INT_EQ(fm_value_alloc(&value, FM_DTYPE_INT32, shape, 2, sizeof(numbers)), 0);
    memcpy(value.tensor.data, numbers, sizeof(numbers));
    CHECK_INT_EQ(result(&format, "a", &value, 0, &line, NULL), 0);
    CHECK_STR_EQ(line.data, "{\"id\":\"a\",\"y\":[-1,7]}\n");
    fm_text_clear(&line);
    format.strip_rows = false;
    CHECK_INT_EQ(result(&format, "a", &value, 0, &line, NULL), 0);
    CHECK_STR_EQ(line.data, "{\"id\":\"a\",\"y\":[[-1,7]]}\n");
    fm_text_deinit(&line);
    fm_value_unref(&value);
}

TEST(bytes_whose_lengths_do_not_add_up_are_refused)
{
    struct fm_value values[2];
    struct fm_text line = {0};
    struct fm_error error = {0};
    outputs_make(values, "text", 4, 0);
    ((char *)values[0].tensor.data)[0] = 9;
    CHECK_INT_EQ(result(&plain, "a", values, 0, &line, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "output 'text'");
    fm_text_deinit(&line);
    outputs_free(values);
}

TEST(names_that_lines_have_already_are_refused)
{
    static const char *const names[] = {"id", "id_base64", "timings"};
    for (size_t i = 0; i < 3; i++) {
        struct fm_port port = {.dtype = FM_DTYPE_FP32};
        struct fm_row_format format = {.sink = &fm_sink_jsonl, .outputs = &port, .output_count = 1};
        struct fm_error error = {0};
        port.name = names[i];
        CHECK_INT_EQ(fm_row_format_check(&format, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, names[i]);
    }
    CHECK_INT_EQ(fm_row_format_check(&plain, NULL), 0);
}

TEST(tables_need_to_know_their_columns)
{
    struct fm_error error;
    struct fm_port port = {.name = "y", .dtype = FM_DTYPE_FP32, .rank = -1};
    struct fm_row_format format = {.sink = &fm_sink_parquet, .outputs = &port, .output_count = 1};
    CHECK_INT_EQ(fm_row_format_check(&format, &error), FM_EUNSUPPORTED);
    CHECK_STR_CONTAINS(error.text, "may have any type or any number of axes");
    port = (struct fm_port){.name = "y", .dtype = FM_DTYPE_INVALID, .rank = 1};
    CHECK_INT_EQ(fm_row_format_check(&format, &error), FM_EUNSUPPORTED);
    format.sink = &fm_sink_csv;
    CHECK_INT_EQ(fm_row_format_check(&format, &error), 0);
    port.dtype = FM_DTYPE_COMPLEX64;
    CHECK_INT_EQ(fm_row_format_check(&format, &error), FM_EUNSUPPORTED);
    CHECK_STR_CONTAINS(error.text, "has no form in CSV");
}

TEST(a_dead_letter)
{
    struct fm_text line = {0};
    const struct fm_dead_letter letter = {.id = {"bad.jpg", 7},
                                          .source = "in/bad.jpg",
                                          .row = 17,
                                          .stage = "page",
                                          .status = FM_ECORRUPT,
                                          .message = "no \"image\"",
                                          .attempts = 1};
    CHECK_INT_EQ(fm_row_format_letter(&letter, &line), 0);
    CHECK_STR_EQ(line.data, "{\"id\":\"bad.jpg\",\"row\":17,\"source\":\"in/bad.jpg\",\"stage\":"
                            "\"page\",\"code\":\"ECORRUPT\",\"message\":\"no "
                            "\\\"image\\\"\",\"attempts\":1}\n");
    fm_text_deinit(&line);
}

TEST(every_failing_allocation_is_an_error_and_leaks_nothing)
{
    struct fm_value values[2];
    struct fm_row_format format = plain;
    int status = FM_ENOMEM;
    int failures = 0;
    format.bytes = FM_JOB_BYTES_BASE64;
    outputs_make(values, "text", 4, 1);
    for (uint64_t n = 1; n < 1000 && status != 0; n++) {
        struct fm_text line = {0};
        const struct fm_dead_letter letter = {
            .id = {"\xff", 1}, .source = "s", .stage = "read", .message = "m"};
        (void)fm_memory_fail_at(n, 0);
        status = result(&format, "i\xff", values, 0, &line, NULL);
        fm_text_deinit(&line);
        line = (struct fm_text){0};
        status = status != 0 ? status : fm_row_format_letter(&letter, &line);
        (void)fm_memory_fail_at(0, 0);
        fm_text_deinit(&line);
        CHECK(status == 0 || status == FM_ENOMEM);
        failures += status != 0;
    }
    CHECK_INT_EQ(status, 0);
    CHECK_INT_GT(failures, 2);
    outputs_free(values);
}

TEST_MAIN()
