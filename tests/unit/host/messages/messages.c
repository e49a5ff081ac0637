/*
 * The control plane's messages: what is written as protobuf is read by protobuf-c, what is written
 * as JSON has what perf_analyzer looks for, and requests mean the same in both forms.
 */
#include "host/messages/messages.h"

#include "core/proto/protobuf.h"
#include "core/util/memory.h"
#include "host/messages/inference.pb-c.h"
#include "tests/harness/test.h"

static const struct fm_port in_ports[] = {
    {.name = "x", .dtype = FM_DTYPE_FP32, .rank = 3, .shape = {-1, 3, -1}},
    {.name = "s", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {-1}, .flags = FM_PORT_OPTIONAL},
};
static const struct fm_port out_ports[] = {
    {.name = "y", .dtype = FM_DTYPE_BF16, .rank = 2, .shape = {-1, 10}},
};
static const struct fm_oip_signature signature = {.name = "m",
                                                  .version = 3,
                                                  .inputs = in_ports,
                                                  .input_count = 2,
                                                  .outputs = out_ports,
                                                  .output_count = 1,
                                                  .batch_max = 8};

#define UNPACK(type, text) \
    inference__##type##__unpack(NULL, (text).length, (const uint8_t *)(text).data)

TEST(flags_and_names)
{
    struct fm_text text = {0};
    fm_messages_write_live(&text, FM_MESSAGES_JSON, true);
    CHECK_STR_EQ(text.data, "{\"live\":true}");
    fm_text_clear(&text);
    fm_messages_write_ready(&text, FM_MESSAGES_JSON, false);
    CHECK_STR_EQ(text.data, "{\"ready\":false}");
    fm_text_clear(&text);
    fm_messages_write_model_ready(&text, FM_MESSAGES_JSON, "m", true);
    CHECK_STR_EQ(text.data, "{\"name\":\"m\",\"ready\":true}");
    fm_text_clear(&text);
    fm_messages_write_live(&text, FM_MESSAGES_PROTOBUF, true);
    CHECK_INT_EQ(text.length, 2);
    CHECK_MEM_EQ(text.data, "\x08\x01", 2);
    fm_text_clear(&text);
    fm_messages_write_health(&text, FM_MESSAGES_HEALTH_NOT_SERVING);
    CHECK_INT_EQ(text.length, 2);
    CHECK_MEM_EQ(text.data, "\x08\x02", 2);
    fm_text_deinit(&text);
}

TEST(server_and_model)
{
    static const char *const extensions[] = {"statistics", "model_configuration"};
    static const uint64_t versions[] = {1, 3};
    const struct fm_messages_server server = {"fermata", "1.0", extensions, 2};
    const struct fm_messages_model model = {&signature, "onnx", versions, 2};
    struct fm_text text = {0};
    fm_messages_write_server(&text, FM_MESSAGES_JSON, &server);
    CHECK_STR_EQ(text.data, "{\"name\":\"fermata\",\"version\":\"1.0\",\"extensions\":"
                            "[\"statistics\",\"model_configuration\"]}");
    fm_text_clear(&text);
    fm_messages_write_model(&text, FM_MESSAGES_JSON, &model);
    CHECK_STR_EQ(text.data,
                 "{\"name\":\"m\",\"versions\":[\"1\",\"3\"],\"platform\":\"onnx\",\"inputs\":["
                 "{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,3,-1]},"
                 "{\"name\":\"s\",\"datatype\":\"BYTES\",\"shape\":[-1]}],\"outputs\":["
                 "{\"name\":\"y\",\"datatype\":\"BF16\",\"shape\":[-1,10]}]}");
    fm_text_clear(&text);
    fm_messages_write_model(&text, FM_MESSAGES_PROTOBUF, &model);
    Inference__ModelMetadataResponse *message = UNPACK(model_metadata_response, text);
    CHECK(message != NULL);
    CHECK_STR_EQ(message->versions[1], "3");
    CHECK_STR_EQ(message->inputs[0]->datatype, "FP32");
    CHECK_INT_EQ(message->inputs[0]->shape[0], -1);
    inference__model_metadata_response__free_unpacked(message, NULL);
    fm_text_deinit(&text);
}

static void config_write(struct fm_text *text, enum fm_messages_form form)
{
    static const int32_t gpus[] = {0};
    static const struct fm_messages_instances instances[] = {{"m_0", FM_MESSAGES_CPU, 2, NULL, 0},
                                                             {"m_1", FM_MESSAGES_GPU, 1, gpus, 1}};
    static const uint32_t preferred[] = {4, 8};
    static const struct fm_setting parameters[] = {{"threads", "2"}};
    static const char *const labels[] = {"labels.txt"};
    const struct fm_messages_config config = {.signature = &signature,
                                              .platform = "onnxruntime_onnx",
                                              .backend = "onnxruntime",
                                              .file_name = "model.onnx",
                                              .label_files = labels,
                                              .versions = FM_MESSAGES_VERSIONS_LATEST,
                                              .latest_count = 2,
                                              .instances = instances,
                                              .instance_count = 2,
                                              .dynamic_batching = true,
                                              .preferred_batch_sizes = preferred,
                                              .preferred_batch_size_count = 2,
                                              .max_queue_delay_ns = 5000000,
                                              .queue_max = 64,
                                              .parameters = parameters,
                                              .parameter_count = 1,
                                              .warmup_count = 3,
                                              .warmup_batch = 1};
    fm_messages_write_config(text, form, &config);
}

TEST(configuration)
{
    struct fm_text text = {0};
    config_write(&text, FM_MESSAGES_JSON);
    CHECK(!text.failed);
    static const char *const parts[] = {
        "{\"name\":\"m\",\"platform\":\"onnxruntime_onnx\",",
        "\"version_policy\":{\"latest\":{\"num_versions\":2}}",
        "\"max_batch_size\":8,",
        "\"input\":[{\"name\":\"x\",\"data_type\":\"TYPE_FP32\",\"format\":\"FORMAT_NONE\","
        "\"dims\":[3,-1],\"is_shape_tensor\":false,\"allow_ragged_batch\":false,"
        "\"optional\":false,",
        "{\"name\":\"s\",\"data_type\":\"TYPE_STRING\",\"format\":\"FORMAT_NONE\",\"dims\":[],",
        "\"label_filename\":\"labels.txt\"",
        "\"kind\":\"KIND_CPU\"",
        "\"gpus\":[0],\"kind\":\"KIND_GPU\"",
        "\"dynamic_batching\":{\"preferred_batch_size\":[4,8],\"max_queue_delay_microseconds\":"
        "5000,",
        "\"max_queue_size\":64}",
        "\"parameters\":{\"threads\":{\"string_value\":\"2\"}}",
        "\"model_warmup\":[{\"name\":\"zeros\",\"batch_size\":1,\"inputs\":{\"x\":{\"data_type\":"
        "\"TYPE_FP32\",\"dims\":[3,-1],\"zero_data\":true},",
        "\"backend\":\"onnxruntime\"",
        "\"model_transaction_policy\":{\"decoupled\":false}",
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        CHECK_STR_CONTAINS(text.data, parts[i]);
    }
    /* perf_analyzer takes its presence for the kind of scheduler. */
    CHECK(strstr(text.data, "sequence_batching") == NULL);
    CHECK(strstr(text.data, "ensemble_scheduling") == NULL);
    CHECK(strstr(text.data, "response_cache") == NULL);
    fm_text_clear(&text);
    config_write(&text, FM_MESSAGES_PROTOBUF);
    Inference__ModelConfigResponse *message = UNPACK(model_config_response, text);
    CHECK(message != NULL);
    CHECK_STR_EQ(message->config->name, "m");
    CHECK_INT_EQ(message->config->max_batch_size, 8);
    CHECK_INT_EQ(message->config->input[0]->dims[0], 3);
    CHECK_INT_EQ(message->config->scheduling_choice_case,
                 INFERENCE__MODEL_CONFIG__SCHEDULING_CHOICE_DYNAMIC_BATCHING);
    CHECK_INT_EQ(message->config->instance_group[0]->kind,
                 INFERENCE__MODEL_INSTANCE_GROUP__KIND__KIND_CPU);
    CHECK(message->config->model_transaction_policy != NULL);
    inference__model_config_response__free_unpacked(message, NULL);
    fm_text_deinit(&text);
}

TEST(statistics)
{
    static const struct fm_messages_batch batches[] = {{4, {1, 10}, {1, 20}, {1, 30}}};
    static const struct fm_messages_memory memory[] = {{"CPU", 0, 4096}};
    const struct fm_messages_statistics row = {.name = "m",
                                               .version = 3,
                                               .last_inference_ms = 1700000000123,
                                               .inference_count = 8,
                                               .execution_count = 2,
                                               .success = {2, UINT64_MAX},
                                               .queue = {2, 50},
                                               .batches = batches,
                                               .batch_count = 1,
                                               .memory = memory,
                                               .memory_count = 1};
    struct fm_text text = {0};
    fm_messages_write_statistics(&text, FM_MESSAGES_JSON, &row, 1);
    CHECK_STR_EQ(
        text.data,
        "{\"model_stats\":[{\"name\":\"m\",\"version\":\"3\",\"last_inference\":1700000000123,"
        "\"inference_count\":8,\"execution_count\":2,\"inference_stats\":{"
        "\"success\":{\"count\":2,\"ns\":18446744073709551615},\"fail\":{\"count\":0,\"ns\":0},"
        "\"queue\":{\"count\":2,\"ns\":50},\"compute_input\":{\"count\":0,\"ns\":0},"
        "\"compute_infer\":{\"count\":0,\"ns\":0},\"compute_output\":{\"count\":0,\"ns\":0},"
        "\"cache_hit\":{\"count\":0,\"ns\":0},\"cache_miss\":{\"count\":0,\"ns\":0}},"
        "\"batch_stats\":[{\"batch_size\":4,\"compute_input\":{\"count\":1,\"ns\":10},"
        "\"compute_infer\":{\"count\":1,\"ns\":20},\"compute_output\":{\"count\":1,\"ns\":30}}],"
        "\"memory_usage\":[{\"type\":\"CPU\",\"id\":0,\"byte_size\":4096}],"
        "\"response_stats\":{}}]}");
    fm_text_clear(&text);
    fm_messages_write_statistics(&text, FM_MESSAGES_PROTOBUF, &row, 1);
    Inference__ModelStatisticsResponse *message = UNPACK(model_statistics_response, text);
    CHECK(message != NULL);
    CHECK(message->model_stats[0]->inference_stats->success->ns == UINT64_MAX);
    CHECK(message->model_stats[0]->inference_stats->cache_miss != NULL);
    CHECK_INT_EQ(message->model_stats[0]->batch_stats[0]->batch_size, 4);
    inference__model_statistics_response__free_unpacked(message, NULL);
    fm_text_clear(&text);
    fm_messages_write_statistics(&text, FM_MESSAGES_JSON, NULL, 0);
    CHECK_STR_EQ(text.data, "{\"model_stats\":[]}");
    fm_text_deinit(&text);
}

TEST(index_and_regions)
{
    static const struct fm_messages_index_row rows[] = {{"a", 1, "READY", ""},
                                                        {"b", 0, "UNAVAILABLE", "no \"file\""}};
    static const struct fm_messages_region regions[] = {{"in", "/in", 0, 64}, {"out", "/o", 8, 9}};
    struct fm_text text = {0};
    fm_messages_write_index(&text, FM_MESSAGES_JSON, rows, 2);
    CHECK_STR_EQ(text.data, "[{\"name\":\"a\",\"version\":\"1\",\"state\":\"READY\"},{\"name\":"
                            "\"b\",\"state\":\"UNAVAILABLE\",\"reason\":\"no \\\"file\\\"\"}]");
    fm_text_clear(&text);
    fm_messages_write_regions(&text, FM_MESSAGES_JSON, regions, 2);
    CHECK_STR_EQ(text.data, "[{\"name\":\"in\",\"key\":\"/in\",\"offset\":0,\"byte_size\":64},"
                            "{\"name\":\"out\",\"key\":\"/o\",\"offset\":8,\"byte_size\":9}]");
    fm_text_clear(&text);
    fm_messages_write_regions(&text, FM_MESSAGES_PROTOBUF, regions, 2);
    Inference__SystemSharedMemoryStatusResponse *message =
        UNPACK(system_shared_memory_status_response, text);
    CHECK(message != NULL);
    CHECK_STR_EQ(message->regions[1]->key, "out");
    CHECK_INT_EQ(message->regions[1]->value->offset, 8);
    inference__system_shared_memory_status_response__free_unpacked(message, NULL);
    fm_text_clear(&text);
    fm_messages_write_cuda_regions(&text, FM_MESSAGES_JSON);
    CHECK_STR_EQ(text.data, "[]");
    fm_text_deinit(&text);
}

TEST(settings)
{
    static const char *const levels[] = {"TIMESTAMPS", "TENSORS"};
    static const char *const rate[] = {"1000"};
    static const struct fm_messages_setting trace[] = {
        {.key = "trace_level", .strings = levels, .string_count = 2},
        {.key = "trace_rate", .strings = rate, .string_count = 1}};
    static const struct fm_messages_setting logging[] = {
        {.key = "log_info", .kind = FM_MESSAGES_BOOL, .is_true = true},
        {.key = "log_verbose_level", .kind = FM_MESSAGES_UINT, .number = 2},
        {.key = "log_format", .strings = rate, .string_count = 1}};
    struct fm_text text = {0};
    struct fm_error error = {0};
    struct fm_messages_settings read;
    fm_messages_write_trace(&text, FM_MESSAGES_JSON, trace, 2);
    CHECK_STR_EQ(text.data,
                 "{\"trace_level\":[\"TIMESTAMPS\",\"TENSORS\"],\"trace_rate\":\"1000\"}");
    CHECK_INT_EQ(fm_messages_read_trace(FM_MESSAGES_JSON, text.data, text.length, &read, &error),
                 0);
    CHECK_INT_EQ(read.count, 2);
    CHECK_STR_EQ(read.settings[0].strings[1], "TENSORS");
    fm_messages_settings_deinit(&read);
    fm_text_clear(&text);
    /* Request and answer have the same fields. */
    fm_messages_write_trace(&text, FM_MESSAGES_PROTOBUF, trace, 2);
    fm_protobuf_append_string(&text, 2, "m");
    CHECK_INT_EQ(
        fm_messages_read_trace(FM_MESSAGES_PROTOBUF, text.data, text.length, &read, &error), 0);
    CHECK_STR_EQ(read.model, "m");
    CHECK_STR_EQ(read.settings[1].key, "trace_rate");
    CHECK_STR_EQ(read.settings[1].strings[0], "1000");
    fm_messages_settings_deinit(&read);
    static const char clearing[] = "{\"trace_file\":null,\"trace_rate\":5}";
    CHECK_INT_EQ(
        fm_messages_read_trace(FM_MESSAGES_JSON, clearing, strlen(clearing), &read, &error), 0);
    CHECK_INT_EQ(read.settings[0].string_count, 0);
    CHECK_STR_EQ(read.settings[1].strings[0], "5");
    fm_messages_settings_deinit(&read);
    for (int form = FM_MESSAGES_PROTOBUF; form <= FM_MESSAGES_JSON; form++) {
        fm_text_clear(&text);
        fm_messages_write_log(&text, (enum fm_messages_form)form, logging, 3);
        CHECK_INT_EQ(fm_messages_read_log((enum fm_messages_form)form, text.data, text.length,
                                          &read, &error),
                     0);
        CHECK_INT_EQ(read.count, 3);
        CHECK(read.settings[0].kind == FM_MESSAGES_BOOL && read.settings[0].is_true);
        CHECK(read.settings[1].kind == FM_MESSAGES_UINT && read.settings[1].number == 2);
        CHECK_STR_EQ(read.settings[2].strings[0], "1000");
        fm_messages_settings_deinit(&read);
    }
    fm_text_deinit(&text);
}

/* --- Requests --- */

static int load_json(const char *json, struct fm_messages_load *load, struct fm_error *error)
{
    *error = (struct fm_error){0};
    return fm_messages_read_load(FM_MESSAGES_JSON, json, strlen(json), load, error);
}

TEST(loading_over_rest)
{
    struct fm_messages_load load;
    struct fm_error error;
    CHECK_INT_EQ(load_json("", &load, &error), 0);
    CHECK(load.config == NULL);
    fm_messages_load_deinit(&load);
    CHECK_INT_EQ(load_json("{\"parameters\":{\"config\":\"{\\\"backend\\\":1}\","
                           "\"file:1/model.onnx\":\"aGVsbG8=\",\"file:a\":\"\",\"file:b\":\"QUI=\","
                           "\"file:c\":\"QUJD\"}}",
                           &load, &error),
                 0);
    CHECK_STR_EQ(load.config, "{\"backend\":1}");
    CHECK_INT_EQ(load.file_count, 4);
    CHECK_STR_EQ(load.files[0].path, "1/model.onnx");
    CHECK_INT_EQ(load.files[0].size, 5);
    CHECK_MEM_EQ(load.files[0].data, "hello", 5);
    CHECK_INT_EQ(load.files[1].size, 0);
    CHECK_MEM_EQ(load.files[2].data, "AB", 2);
    CHECK_MEM_EQ(load.files[3].data, "ABC", 3);
    fm_messages_load_deinit(&load);
    CHECK_INT_EQ(load_json("{\"parameters\":{\"file:a\":\"\"}}", &load, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "files need a configuration with them");
    CHECK_INT_EQ(load_json("{\"parameters\":{\"config\":\"\",\"file:a\":\"a!\"}}", &load, &error),
                 FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "'file:a' is not base64");
    CHECK_INT_EQ(load_json("{\"parameters\":{\"confg\":\"\"}}", &load, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "unknown parameter 'confg'");
    CHECK_INT_EQ(load_json("{\"parameters\":{\"config\":1}}", &load, &error), FM_EINVAL);
    CHECK_INT_EQ(load_json("[]", &load, &error), FM_EINVAL);
    CHECK_INT_EQ(load_json("{} x", &load, &error), FM_EINVAL);
    static const char unload[] = "{\"parameters\":{\"unload_dependents\":true}}";
    CHECK_INT_EQ(fm_messages_read_unload(FM_MESSAGES_JSON, unload, strlen(unload), &load, &error),
                 0);
    CHECK(load.unload_dependents);
    fm_messages_load_deinit(&load);
}

static void append_entry(struct fm_text *text, const char *key, uint32_t kind, const void *data,
                         size_t size)
{
    struct fm_text value = {0};
    struct fm_text entry = {0};
    fm_protobuf_append_bytes(&value, kind, data, size);
    fm_protobuf_append_string(&entry, 1, key);
    fm_protobuf_append_bytes(&entry, 2, value.data, value.length);
    fm_protobuf_append_bytes(text, 3, entry.data, entry.length);
    fm_text_deinit(&value);
    fm_text_deinit(&entry);
}

TEST(loading_over_grpc)
{
    struct fm_messages_load load;
    struct fm_error error = {0};
    struct fm_text text = {0};
    fm_protobuf_append_string(&text, 2, "m");
    append_entry(&text, "config", 3, "{}", 2);
    append_entry(&text, "file:1/model.onnx", 4, "\0\1", 2);
    CHECK_INT_EQ(fm_messages_read_load(FM_MESSAGES_PROTOBUF, text.data, text.length, &load, &error),
                 0);
    CHECK_STR_EQ(load.model, "m");
    CHECK_STR_EQ(load.config, "{}");
    CHECK_STR_EQ(load.files[0].path, "1/model.onnx");
    CHECK_INT_EQ(load.files[0].size, 2);
    fm_messages_load_deinit(&load);
    append_entry(&text, "other", 3, "{}", 2);
    CHECK_INT_EQ(fm_messages_read_load(FM_MESSAGES_PROTOBUF, text.data, text.length, &load, &error),
                 FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "unknown parameter 'other'");
    CHECK_INT_EQ(fm_messages_read_load(FM_MESSAGES_PROTOBUF, "\x12\x7F", 2, &load, &error),
                 FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "no well-formed RepositoryModelLoadRequest");
    fm_text_deinit(&text);
}

TEST(other_requests)
{
    struct fm_error error = {0};
    struct fm_messages_name name;
    struct fm_messages_register region;
    bool ready = false;
    CHECK_INT_EQ(fm_messages_read_name("\x0A\x01m\x12\x02"
                                       "12",
                                       7, &name, &error),
                 0);
    CHECK_STR_EQ(name.name, "m");
    CHECK_STR_EQ(name.version, "12");
    fm_messages_name_deinit(&name);
    CHECK_INT_EQ(fm_messages_read_name(NULL, 0, &name, &error), 0);
    CHECK_STR_EQ(name.name, "");
    fm_messages_name_deinit(&name);
    CHECK_INT_EQ(fm_messages_read_index(FM_MESSAGES_JSON, "", 0, &ready, &error), 0);
    CHECK(!ready);
    CHECK_INT_EQ(
        fm_messages_read_index(FM_MESSAGES_JSON, "{\"x\":[],\"ready\":true}", 21, &ready, &error),
        0);
    CHECK(ready);
    CHECK_INT_EQ(fm_messages_read_index(FM_MESSAGES_PROTOBUF, "\x10\x01", 2, &ready, &error), 0);
    CHECK(ready);
    CHECK_INT_EQ(fm_messages_read_index(FM_MESSAGES_JSON, "[]", 2, &ready, &error), FM_EINVAL);
    CHECK_INT_EQ(fm_messages_read_index(FM_MESSAGES_JSON, "{\"ready\":1}", 11, &ready, &error),
                 FM_EINVAL);
    CHECK_INT_EQ(fm_messages_read_name("\x0A\1\xFF", 3, &name, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "no message of a name and a version in UTF-8");
    CHECK_INT_EQ(fm_messages_read_trace(FM_MESSAGES_PROTOBUF, "\x0A\x08\x0A\1k\x12\3\x0A\1\xC3", 10,
                                        &(struct fm_messages_settings){0}, &error),
                 FM_EINVAL);
    CHECK_STR_EQ(error.text, "value of a TraceSettingRequest is not UTF-8");
    static const char json[] = "{\"key\":\"/in\",\"offset\":8,\"byte_size\":64}";
    CHECK_INT_EQ(fm_messages_read_register(FM_MESSAGES_JSON, json, strlen(json), &region, &error),
                 0);
    CHECK_STR_EQ(region.key, "/in");
    CHECK_INT_EQ(region.offset, 8);
    CHECK_INT_EQ(region.size, 64);
    fm_messages_register_deinit(&region);
    CHECK_INT_EQ(fm_messages_read_register(FM_MESSAGES_PROTOBUF, "\x0A\1r\x12\2/k\x18\4\x20\5", 11,
                                           &region, &error),
                 0);
    CHECK_STR_EQ(region.name, "r");
    CHECK_INT_EQ(region.size, 5);
    fm_messages_register_deinit(&region);
    CHECK_INT_EQ(fm_messages_read_register(FM_MESSAGES_JSON, "{}", 2, &region, &error), FM_EINVAL);
}

/* --- Reflection --- */

static int reflect(uint32_t field, const char *name, struct fm_text *text)
{
    struct fm_text request = {0};
    struct fm_error error = {0};
    fm_text_clear(text);
    fm_protobuf_append_string(&request, 1, "host");
    fm_protobuf_append_string(&request, field, name);
    int status = fm_messages_reflect(text, request.data, request.length, &error);
    fm_text_deinit(&request);
    return status;
}

/* How often `number` comes at the top of the answer; *ret_field is the last. */
static size_t answer_count(const struct fm_text *text, uint32_t number,
                           struct fm_protobuf_field *ret_field)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(text->data, text->length);
    struct fm_protobuf_field field;
    size_t count = 0;
    while (fm_protobuf_next(&reader, &field) == 1) {
        if (field.number == number) {
            *ret_field = field;
            count++;
        }
    }
    return count;
}

static size_t count_inside(const struct fm_protobuf_field *field)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(field->data, field->size);
    struct fm_protobuf_field inner;
    size_t count = 0;
    while (fm_protobuf_next(&reader, &inner) == 1) {
        count += inner.number == 1;
    }
    return count;
}

static bool holds(const struct fm_protobuf_field *field, const char *text)
{
    size_t length = strlen(text);
    for (size_t i = 0; i + length <= field->size; i++) {
        if (memcmp(field->data + i, text, length) == 0) {
            return true;
        }
    }
    return false;
}

TEST(reflection)
{
    struct fm_text text = {0};
    struct fm_protobuf_field field;
    CHECK_INT_EQ(reflect(7, "*", &text), 0);
    CHECK_INT_EQ(answer_count(&text, 6, &field), 1);
    CHECK_INT_EQ(count_inside(&field), 4);
    CHECK(holds(&field, "inference.GRPCInferenceService"));
    CHECK(holds(&field, "grpc.health.v1.Health"));
    CHECK(holds(&field, "grpc.reflection.v1alpha.ServerReflection"));
    CHECK_INT_EQ(answer_count(&text, 2, &field), 1);
    /* The file and what it imports. */
    CHECK_INT_EQ(reflect(3, "inference.proto", &text), 0);
    CHECK_INT_EQ(answer_count(&text, 4, &field), 1);
    CHECK_INT_EQ(count_inside(&field), 2);
    CHECK_INT_EQ(reflect(3, "nothing.proto", &text), 0);
    CHECK_INT_EQ(answer_count(&text, 7, &field), 1);
    CHECK(holds(&field, "no such file: nothing.proto"));
    static const char *const known[] = {"inference.GRPCInferenceService",
                                        "inference.GRPCInferenceService.ModelInfer",
                                        ".inference.ModelInferRequest",
                                        "inference.ModelInferRequest.InferInputTensor",
                                        "inference.ModelInferRequest.InferInputTensor.datatype",
                                        "inference.ModelInstanceGroup.Kind",
                                        "inference.ModelInstanceGroup.KIND_GPU",
                                        "inference.DataType",
                                        "inference.TYPE_BF16",
                                        "grpc.health.v1.HealthCheckResponse.ServingStatus"};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        CHECK_INT_EQ(reflect(4, known[i], &text), 0);
        if (answer_count(&text, 4, &field) != 1) {
            printf("# %s\n", known[i]);
        }
        CHECK_INT_EQ(answer_count(&text, 4, &field), 1);
    }
    static const char *const unknown[] = {
        "inference", "inference.",           "inference.Nothing",
        "",          "inference.ModelInfer", "grpc.health.v1.HealthX"};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        CHECK_INT_EQ(reflect(4, unknown[i], &text), 0);
        CHECK_INT_EQ(answer_count(&text, 7, &field), 1);
    }
    CHECK_INT_EQ(reflect(6, "inference.ModelInferRequest", &text), 0);
    CHECK_INT_EQ(answer_count(&text, 5, &field), 1);
    CHECK_INT_EQ(reflect(5, "", &text), 0);
    CHECK_INT_EQ(answer_count(&text, 7, &field), 1);
    CHECK_INT_EQ(reflect(9, "", &text), 0);
    CHECK_INT_EQ(answer_count(&text, 7, &field), 1);
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_messages_reflect(&text, "\x38\x01", 2, &error), FM_EINVAL);
    fm_text_deinit(&text);
}

/* Memory that runs out anywhere on the way shows in text->failed. */
TEST(no_memory)
{
    for (uint64_t nth = 1; nth < 200; nth++) {
        struct fm_text text = {0};
        (void)fm_memory_fail_at(nth, 1);
        config_write(&text, FM_MESSAGES_PROTOBUF);
        uint64_t happened = fm_memory_fail_at(0, 0);
        bool failed = text.failed;
        fm_text_deinit(&text);
        if (happened < nth) {
            CHECK(!failed);
            return;
        }
        CHECK(failed);
    }
    CHECK(false);
}

TEST_MAIN()
