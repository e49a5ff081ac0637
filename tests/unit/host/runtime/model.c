/*
 * Loaded models: what a configuration declares against what a model is, batch sizes, labels,
 * warm-up, instances, and which settings go where. The .c file is included for the list of devices.
 */
#include "host/runtime/model.c"

#include "tests/harness/subject.h"
#include "tests/harness/test.h"

/* A configuration of an identity model with the given inputs. */
static void identity_config(struct fm_model_config *config, const char *inputs)
{
    fm_model_config_init(config);
    config->name = "net";
    config->backend = "identity";
    config->instance_count = 1;
    if (fm_model_config_set(config, "inputs", inputs, NULL) != 0) {
        abort();
    }
}

static uint32_t device_count(void)
{
    uint32_t count = 0;
    for (const struct device *device = devices; device != NULL; device = device->next) {
        count++;
    }
    return count;
}

/* --- Configuration --- */

TEST(config_set_replaces_and_appends)
{
    struct fm_model_config config;
    char key[] = "a";
    char value[] = "1";
    fm_model_config_init(&config);
    CHECK_UINT_EQ(config.version, 1);
    CHECK_INT_EQ(config.max_batch_size, -1);
    CHECK_INT_EQ(fm_model_config_set(&config, key, value, NULL), 0);
    key[0] = 'x'; /* copied: not ours any more */
    value[0] = 'x';
    CHECK_INT_EQ(fm_model_config_set(&config, "b", "2", NULL), 0);
    CHECK_INT_EQ(fm_model_config_set(&config, "a", "3", NULL), 0);
    CHECK_UINT_EQ(config.setting_count, 2);
    CHECK_STR_EQ(config.settings[0].key, "a");
    CHECK_STR_EQ(config.settings[0].value, "3");
    CHECK_STR_EQ(config.settings[1].value, "2");
    fm_model_config_deinit(&config);
}

TEST(config_set_has_a_limit)
{
    struct fm_model_config config;
    struct fm_error error = {0};
    char key[16];
    fm_model_config_init(&config);
    for (int i = 0; i < SETTINGS_MAX; i++) {
        (void)snprintf(key, sizeof(key), "key%d", i);
        CHECK_INT_EQ(fm_model_config_set(&config, key, "", NULL), 0);
    }
    CHECK_INT_EQ(fm_model_config_set(&config, "key0", "again", NULL), 0);
    CHECK_INT_EQ(fm_model_config_set(&config, "one_more", "", &error), FM_ELIMIT);
    CHECK_STR_CONTAINS(error.text, "at most 256 settings");
    fm_model_config_deinit(&config);
}

TEST(unknown_backend)
{
    struct fm_model_config config;
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    identity_config(&config, "x:FP32[-1]");
    config.backend = "no_such";
    CHECK_INT_EQ(fm_model_load(&config, &model, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "model 'net' version 1: backend 'no_such'");
    CHECK_STR_CONTAINS(error.text, "libfm_backend_no_such.so");
    CHECK_STR_CONTAINS(error.text, "FERMATA_PLUGIN_PATH");
    fm_model_config_deinit(&config);
}

/* --- Declared against real --- */

/* Every difference is in the one message. */
TEST(differences_are_reported_together)
{
    struct fm_model_config config;
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    struct fm_model_port_config inputs[] = {
        {.name = "image", .dtype = FM_DTYPE_INT8, .rank = -1},
        {.name = "scale", .rank = 1, .shape = {3}},
        {.name = "txet", .rank = -1},
    };
    struct fm_model_port_config outputs[] = {{.name = "nothing like it", .rank = -1}};
    identity_config(&config, "image:FP32[-1,3], scale:FP32[-1,2], text:BYTES[-1]");
    config.inputs = inputs;
    config.input_count = 3;
    config.outputs = outputs;
    config.output_count = 1;
    CHECK_INT_EQ(fm_model_load(&config, &model, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "the configuration does not fit the model");
    CHECK_STR_CONTAINS(error.text, "input 'image' is declared INT8, but is FP32; ");
    CHECK_STR_CONTAINS(error.text, "input 'scale' is declared [3] (without the batch dimension), "
                                   "but is [-1,2]; ");
    CHECK_STR_CONTAINS(error.text, "the model has no input 'txet'; did you mean 'text'; ");
    CHECK_STR_CONTAINS(error.text, "the model has no output 'nothing like it'; it has 'out_image'");
    CHECK(model == NULL);
    CHECK_UINT_EQ(device_count(), 0);
    fm_model_config_deinit(&config);
}

/* A fixed size in the configuration narrows a variable one of the model. */
TEST(declarations_narrow)
{
    struct fm_model_config config;
    struct fm_model *model = NULL;
    uint32_t count = 0;
    struct fm_model_port_config input = {
        .name = "x", .rank = 3, .shape = {3, -1, 224}, .optional = true};
    identity_config(&config, "x:FP32[-1,3,-1,-1]");
    config.inputs = &input;
    config.input_count = 1;
    CHECK_INT_EQ(fm_model_load(&config, &model, NULL), 0);
    const struct fm_port *port = fm_model_inputs(model, &count);
    CHECK_INT_EQ(port->shape[0], -1);
    CHECK_INT_EQ(port->shape[1], 3);
    CHECK_INT_EQ(port->shape[2], -1);
    CHECK_INT_EQ(port->shape[3], 224);
    CHECK((port->flags & FM_PORT_OPTIONAL) != 0);
    fm_model_free(model);
    /* Without batching the same model is declared with all its dimensions. */
    config.max_batch_size = 0;
    CHECK_INT_EQ(fm_model_load(&config, &model, NULL), FM_ETYPE);
    input = (struct fm_model_port_config){.name = "x", .rank = 4, .shape = {1, 3, -1, 224}};
    CHECK_INT_EQ(fm_model_load(&config, &model, NULL), 0);
    CHECK_INT_EQ(fm_model_inputs(model, &count)->shape[0], 1);
    fm_model_free(model);
    fm_model_config_deinit(&config);
}

TEST(batch_sizes)
{
    static const struct {
        const char *inputs;
        int64_t max;
        int status;
        uint32_t batch_max;
    } cases[] = {
        {"x:FP32[-1,4]", -1, 0, 8},
        {"x:FP32[-1,4]", 0, 0, 0},
        {"x:FP32[-1,4]", 1, 0, 1},
        {"x:FP32[-1,4]", 300, 0, 300},
        {"x:FP32[-1,4]", (int64_t)1 << 32, FM_EINVAL, 0},
        {"x:FP32[2,4]", -1, 0, 0},
        {"x:FP32[2,4]", 0, 0, 0},
        {"x:FP32[2,4]", 2, FM_EINVAL, 0},
        {"x:FP32[]", -1, 0, 0},
        {"x:FP32[-1,4], y:FP32[]", -1, 0, 0},
        {"x:FP32[-1,4], y:FP32[3]", 4, FM_EINVAL, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fm_model_config config;
        struct fm_model *model = NULL;
        struct fm_error error = {0};
        identity_config(&config, cases[i].inputs);
        config.max_batch_size = cases[i].max;
        CHECK_INT_EQ(fm_model_load(&config, &model, &error), cases[i].status);
        if (cases[i].status == 0) {
            CHECK_UINT_EQ(fm_model_batch_max(model), cases[i].batch_max);
        } else {
            CHECK_STR_CONTAINS(error.text, "max_batch_size");
        }
        fm_model_free(model);
        fm_model_config_deinit(&config);
    }
}

/* --- Labels --- */

static int load_labels(const char *text, size_t size, struct fm_model **ret_model,
                       struct fm_error *reterr)
{
    struct fm_model_config config;
    const char *path = fm_subject_path("labels.txt");
    struct fm_model_port_config output = {.name = "out_b", .rank = -1, .label_path = path};
    if (text != NULL && fm_file_write_atomic(path, text, size, NULL) != 0) {
        abort();
    }
    identity_config(&config, "a:FP32[-1,4], b:FP32[-1,4]");
    config.outputs = &output;
    config.output_count = 1;
    int status = fm_model_load(&config, ret_model, reterr);
    fm_model_config_deinit(&config);
    return status;
}

TEST(labels)
{
    static const char text[] = "cat\r\ndog\n\nd\xc3\xa9j\xc3\xa0 vu";
    struct fm_model *model = NULL;
    size_t count = 0;
    CHECK_INT_EQ(load_labels(text, sizeof(text) - 1, &model, NULL), 0);
    CHECK(fm_model_labels(model, 0, &count) == NULL && count == 0);
    CHECK(fm_model_labels(model, 99, &count) == NULL && count == 0);
    const char *const *lines = fm_model_labels(model, 1, &count);
    CHECK_UINT_EQ(count, 4);
    CHECK_STR_EQ(lines[0], "cat");
    CHECK_STR_EQ(lines[1], "dog");
    CHECK_STR_EQ(lines[2], "");
    CHECK_STR_EQ(lines[3], "d\xc3\xa9j\xc3\xa0 vu");
    fm_model_free(model);
    CHECK_INT_EQ(load_labels("", 0, &model, NULL), 0);
    CHECK(fm_model_labels(model, 1, &count) == NULL && count == 0);
    fm_model_free(model);
}

TEST(labels_that_are_none)
{
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    (void)remove(fm_subject_path("labels.txt"));
    CHECK_INT_EQ(load_labels(NULL, 0, &model, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "labels");
    CHECK_STR_CONTAINS(error.text, "labels.txt");
    CHECK_INT_EQ(load_labels("a\0b\nc\n", 6, &model, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "NUL byte");
    CHECK(model == NULL);
}

/* --- Warm-up --- */

static int load_warm(uint32_t runs, uint32_t rows, uint32_t instances, const char *fail_every,
                     struct fm_error *reterr)
{
    struct fm_model_config config;
    struct fm_model *model = NULL;
    fm_model_config_init(&config);
    config.name = "net";
    config.backend = "emulated";
    config.instance_count = instances;
    config.warmup_count = runs;
    config.warmup_batch = rows;
    int status = fm_model_config_set(&config, "fail_every", fail_every, NULL);
    status = status != 0 ? status : fm_model_config_set(&config, "inputs", "x:BYTES[-1,3]", NULL);
    status = status != 0 ? status : fm_model_config_set(&config, "alpha", "1us", NULL);
    status = status != 0 ? status : fm_model_load(&config, &model, reterr);
    fm_model_free(model);
    fm_model_config_deinit(&config);
    return status;
}

/* Failures counted per instance show how often each was run. */
TEST(warm_up_runs_each_instance)
{
    struct fm_error error = {0};
    CHECK_INT_EQ(load_warm(4, 8, 3, "5", NULL), 0);
    CHECK_INT_EQ(load_warm(5, 8, 3, "5", &error), FM_EINTERNAL);
    CHECK_STR_CONTAINS(error.text, "warm-up: emulated: injected failure of batch 5");
    CHECK_INT_EQ(load_warm(0, 0, 1, "1", NULL), 0);
    CHECK_INT_EQ(load_warm(1, 9, 1, "0", &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "warm-up batch of 9 rows, but the model takes at most 8");
}

/* --- Instances --- */

TEST(instance_counts)
{
    struct fm_model_config config;
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    identity_config(&config, "x:FP32[-1]");
    config.instance_count = 0;
    CHECK_INT_EQ(fm_model_load(&config, &model, NULL), 0);
    CHECK_UINT_EQ(fm_model_instance_count(model), fm_os_cpu_count());
    fm_model_free(model);
    config.instance_count = FM_MODEL_INSTANCES_MAX;
    CHECK_INT_EQ(fm_model_load(&config, &model, NULL), 0);
    CHECK_UINT_EQ(fm_model_instance_count(model), FM_MODEL_INSTANCES_MAX);
    fm_model_free(model);
    config.instance_count = FM_MODEL_INSTANCES_MAX + 1;
    CHECK_INT_EQ(fm_model_load(&config, &model, &error), FM_ELIMIT);
    CHECK_STR_CONTAINS(error.text, "257 instances, but a model has at most 256");
    fm_model_config_deinit(&config);
}

/* Left to choose, instances times threads fit on the CPUs. */
TEST(instances_and_threads_share_the_cpus)
{
    struct fm_model_config config;
    identity_config(&config, "x:FP32[-1]");
    config.instance_count = 0;
    CHECK_INT_EQ(fm_model_config_set(&config, "threads", "100000", NULL), 0);
    CHECK_UINT_EQ(instance_count_choose(&config), 1);
    CHECK_INT_EQ(fm_model_config_set(&config, "threads", "1", NULL), 0);
    CHECK_UINT_EQ(instance_count_choose(&config), fm_os_cpu_count());
    CHECK_INT_EQ(fm_model_config_set(&config, "threads", "nonsense", NULL), 0);
    CHECK_UINT_EQ(instance_count_choose(&config), fm_os_cpu_count()); /* the backend complains */
    config.instance_count = 7;
    CHECK_UINT_EQ(instance_count_choose(&config), 7);
    fm_model_config_deinit(&config);
}

/* --- Settings and devices --- */

static int vector_model_config(struct fm_model_config *config)
{
    static const struct fm_port port = {
        .name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 4}};
    return fm_subject_config(&fm_subject_onnxruntime, &port, 1, 1, config);
}

TEST(provider_settings_go_to_the_device)
{
    struct fm_model_config config;
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    struct fm_setting device_setting = {.key = "provider", .value = "no_such_provider"};
    CHECK_INT_EQ(vector_model_config(&config), 0);
    CHECK_INT_EQ(fm_model_config_set(&config, "provider", "cpu", NULL), 0);
    CHECK_INT_EQ(fm_model_config_set(&config, "threads", "1", NULL), 0);
    CHECK_INT_EQ(fm_model_load(&config, &model, NULL), 0);
    CHECK_STR_EQ(devices->key, "onnxruntime\n8:provider=3:cpu");
    fm_model_free(model);
    model = NULL;
    /* The model's settings win over the device's: they are nearer to the user. */
    config.device_settings = &device_setting;
    config.device_setting_count = 1;
    CHECK_INT_EQ(fm_model_load(&config, &model, NULL), 0);
    fm_model_free(model);
    model = NULL;
    CHECK_INT_EQ(fm_model_config_set(&config, "provider", "other_thing", NULL), 0);
    CHECK_INT_EQ(fm_model_load(&config, &model, &error), FM_EUNSUPPORTED);
    CHECK_STR_CONTAINS(error.text, "no execution provider 'other_thing'; it has ");
    CHECK_STR_CONTAINS(error.text, "CPU");
    CHECK(model == NULL);
    fm_model_config_deinit(&config);
    /* A backend without device settings refuses them, it does not pass over them. */
    identity_config(&config, "x:FP32[-1]");
    CHECK_INT_EQ(fm_model_config_set(&config, "provider", "cpu", NULL), 0);
    CHECK_INT_EQ(fm_model_load(&config, &model, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "a device has no settings, but 'provider' was given");
    CHECK_UINT_EQ(device_count(), 0);
    fm_model_config_deinit(&config);
}

TEST(no_value_reads_like_another_setting)
{
    static const struct fm_setting one[] = {{.key = "device.a", .value = "1\ndevice.b=2"}};
    static const struct fm_setting two[] = {{.key = "device.a", .value = "1"},
                                            {.key = "device.b", .value = "2"}};
    static const struct fm_backend backend = {.name = "any"};
    char *keys[2] = {device_key(&backend, one, 1), device_key(&backend, two, 2)};
    CHECK(keys[0] != NULL && keys[1] != NULL);
    bool same = strcmp(keys[0], keys[1]) == 0;
    fm_free(keys[0]);
    fm_free(keys[1]);
    CHECK(!same);
}

TEST(models_share_a_device)
{
    struct fm_model_config config;
    struct fm_model *models[3] = {NULL, NULL, NULL};
    CHECK_INT_EQ(vector_model_config(&config), 0);
    CHECK_INT_EQ(fm_model_load(&config, &models[0], NULL), 0);
    CHECK_INT_EQ(fm_model_load(&config, &models[1], NULL), 0);
    CHECK_UINT_EQ(device_count(), 1);
    CHECK_UINT_EQ(devices->users, 2);
    CHECK_PTR_EQ(models[0]->device, models[1]->device);
    CHECK_INT_EQ(fm_model_config_set(&config, "provider", "cpu", NULL), 0);
    CHECK_INT_EQ(fm_model_load(&config, &models[2], NULL), 0);
    CHECK_UINT_EQ(device_count(), 2);
    fm_model_free(models[0]);
    CHECK_UINT_EQ(device_count(), 2);
    fm_model_free(models[1]);
    CHECK_UINT_EQ(device_count(), 1);
    fm_model_free(models[2]);
    CHECK_UINT_EQ(device_count(), 0);
    fm_model_config_deinit(&config);
}

/* A model that fails to load leaves nothing behind and harms no other. */
TEST(failed_load_releases_the_device)
{
    struct fm_model_config config;
    struct fm_model *good = NULL;
    struct fm_model *bad = NULL;
    identity_config(&config, "x:FP32[-1]");
    CHECK_INT_EQ(fm_model_load(&config, &good, NULL), 0);
    CHECK_INT_EQ(fm_model_config_set(&config, "inputs", "x:FP99[-1]", NULL), 0);
    CHECK_INT_EQ(fm_model_load(&config, &bad, NULL), FM_EINVAL);
    CHECK_UINT_EQ(device_count(), 1);
    CHECK_UINT_EQ(devices->users, 1);
    fm_model_free(good);
    CHECK_UINT_EQ(device_count(), 0);
    fm_model_free(NULL);
    fm_model_config_deinit(&config);
}

TEST_MAIN()
