/*
 * Configurations as documents: what was configured shows under Triton's names.
 */
#include "engines/serve/model_document.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

static const struct fm_port in_port = {
    .name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 3}};
static const struct fm_port out_port = {
    .name = "y", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 10}};
static const struct fm_oip_signature signature = {.name = "m",
                                                  .version = 1,
                                                  .inputs = &in_port,
                                                  .input_count = 1,
                                                  .outputs = &out_port,
                                                  .output_count = 1,
                                                  .batch_max = 8};

static int config_make(struct fm_model_config *config)
{
    struct fm_error error;
    fm_model_config_init(config);
    config->path = "/models/m/1/weights.onnx";
    config->warmup_count = 2;
    config->warmup_batch = 4;
    config->max_queue_delay_ns = 100000;
    config->outputs = fm_arena_alloc(&config->arena, sizeof(*config->outputs));
    config->outputs[0] =
        (struct fm_model_port_config){.name = "y", .label_path = "/models/m/classes.txt"};
    config->output_count = 1;
    return fm_model_config_set(config, "threads", "2", &error);
}

TEST(a_model)
{
    struct fm_model_config config;
    struct fm_text text = {0};
    CHECK_INT_EQ(config_make(&config), 0);
    struct fm_setting device[] = {{"provider", "cuda"}, {"provider.device_id", "1"}};
    config.device_settings = device;
    config.device_setting_count = 2;
    const struct fm_model_document document = {.signature = &signature,
                                               .platform = "onnxruntime_onnx",
                                               .backend = "onnxruntime",
                                               .instance_count = 3,
                                               .batches = true,
                                               .priority_levels = 8,
                                               .queue_max = 1024,
                                               .config = &config};
    fm_model_document_write(&text, FM_MESSAGES_JSON, &document);
    CHECK(!text.failed);
    static const char *const parts[] = {
        "\"default_model_filename\":\"weights.onnx\"",
        "\"label_filename\":\"classes.txt\"",
        "\"instance_group\":[{\"name\":\"m\",\"count\":3,\"gpus\":[1],\"kind\":\"KIND_GPU\"",
        "\"max_queue_delay_microseconds\":100,",
        "\"priority_levels\":8,",
        "\"max_queue_size\":1024}",
        "\"provider\":{\"string_value\":\"cuda\"}",
        "\"threads\":{\"string_value\":\"2\"}",
        "\"batch_size\":4,",
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        CHECK_STR_CONTAINS(text.data, parts[i]);
    }
    fm_text_deinit(&text);
    for (uint64_t nth = 1; nth < 100; nth++) {
        (void)fm_memory_fail_at(nth, 1);
        fm_model_document_write(&text, FM_MESSAGES_PROTOBUF, &document);
        uint64_t happened = fm_memory_fail_at(0, 0);
        bool failed = text.failed;
        fm_text_deinit(&text);
        CHECK_INT_EQ(failed, happened >= nth);
        if (!failed) {
            break;
        }
    }
    config.device_setting_count = 0;
    fm_model_config_deinit(&config);
}

TEST_MAIN()
