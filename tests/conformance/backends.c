/*
 * The conformance suite: what every backend must do, run over all of ours. A new backend is one
 * more line in EVERY_BACKEND.
 */
#include <stdatomic.h>

#include "core/util/error.h"
#include "host/os/thread.h"
#include "host/runtime/backend_registry.h"
#include "tests/harness/subject.h"
#include "tests/harness/test.h"

#define EVERY_BACKEND(check)            \
    TEST(onnxruntime_##check)           \
    {                                   \
        check(&fm_subject_onnxruntime); \
    }                                   \
    TEST(emulated_##check)              \
    {                                   \
        check(&fm_subject_emulated);    \
    }                                   \
    TEST(identity_##check)              \
    {                                   \
        check(&fm_subject_identity);    \
    }

static const struct fm_port vector_port = {
    .name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 4}};

/* A loaded model of one FP32[-1,4] input. */
static struct fm_model *vector_model(const struct fm_subject *subject, uint32_t instances)
{
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    if (fm_subject_load(subject, &vector_port, 1, instances, &model, &error) != 0) {
        printf("# %s\n", error.text);
        fm_test_failed = 1;
    }
    return model;
}

/* Compares an output with what the subject makes of `input`. */
static bool answers(const struct fm_subject *subject, const struct fm_tensor *input,
                    const struct fm_tensor *output)
{
    static const char zeros[4096];
    if (output->dtype != input->dtype || output->rank != input->rank ||
        memcmp(output->shape, input->shape, input->rank * sizeof(input->shape[0])) != 0) {
        return false;
    }
    if (subject->echoes) {
        return output->size == input->size &&
               (input->size == 0 || memcmp(output->data, input->data, input->size) == 0);
    }
    return output->size <= sizeof(zeros) &&
           (output->size == 0 || memcmp(output->data, zeros, output->size) == 0);
}

/* --- Life cycle --- */

static void life_cycle(const struct fm_subject *subject)
{
    const struct fm_backend *backend = NULL;
    struct fm_model_config config;
    CHECK_INT_EQ(fm_backend_find(subject->backend, &backend, NULL), 0);
    CHECK_INT_EQ(fm_backend_check(backend, "test", NULL), 0);
    CHECK(backend->version != NULL && backend->description != NULL);
    CHECK_INT_EQ(fm_subject_config(subject, &vector_port, 1, 1, &config), 0);
    for (int round = 0; round < 3; round++) {
        void *device = NULL;
        void *model = NULL;
        void *instances[2] = {NULL, NULL};
        struct fm_model_source source = {
            .struct_size = sizeof(source), .name = "m", .version = "1", .path = config.path};
        struct fm_model_info info = {.struct_size = sizeof(info)};
        CHECK_INT_EQ(backend->device_open(fm_host_table(), NULL, 0, &device, NULL), 0);
        CHECK_INT_EQ(backend->model_load(device, &source, config.settings, config.setting_count,
                                         &model, NULL),
                     0);
        CHECK_INT_EQ(backend->model_info(model, &info), 0);
        CHECK_INT_EQ(info.input_count, 1);
        CHECK_INT_EQ(info.output_count, 1);
        CHECK_INT_EQ(info.batch_dimension, 1);
        CHECK(info.platform != NULL);
        /* A host that knows less gets no more than it asks for. */
        struct fm_model_info older = {.struct_size = offsetof(struct fm_model_info, never_waits),
                                      .never_waits = 77,
                                      .reserved = 78};
        CHECK_INT_EQ(backend->model_info(model, &older), 0);
        CHECK_UINT_EQ(older.input_count, 1);
        CHECK_UINT_EQ(older.never_waits, 77);
        CHECK_UINT_EQ(older.reserved, 78);
        (void)backend->model_memory(model);
        CHECK_INT_EQ(backend->instance_create(model, NULL, 0, &instances[0], NULL), 0);
        CHECK_INT_EQ(backend->instance_create(model, NULL, 0, &instances[1], NULL), 0);
        backend->instance_destroy(instances[1]);
        backend->instance_destroy(instances[0]);
        backend->model_unload(model);
        backend->device_close(device);
    }
    backend->instance_destroy(NULL);
    backend->model_unload(NULL);
    backend->device_close(NULL);
    fm_model_config_deinit(&config);
}
EVERY_BACKEND(life_cycle)

static void settings_unknown(const struct fm_subject *subject)
{
    const struct fm_backend *backend = NULL;
    struct fm_setting wrong = {.key = "no_such_setting", .value = "1"};
    struct fm_error error = {0};
    void *device = NULL;
    void *model = NULL;
    void *instance = NULL;
    struct fm_model_config config;
    CHECK_INT_EQ(fm_backend_find(subject->backend, &backend, NULL), 0);
    CHECK_INT_EQ(backend->device_open(fm_host_table(), &wrong, 1, &device, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "no_such_setting");
    CHECK_INT_EQ(backend->device_open(fm_host_table(), NULL, 0, &device, NULL), 0);
    CHECK_INT_EQ(fm_subject_config(subject, &vector_port, 1, 1, &config), 0);
    struct fm_model_source source = {
        .struct_size = sizeof(source), .name = "m", .version = "1", .path = config.path};
    error = (struct fm_error){0};
    CHECK_INT_EQ(backend->model_load(device, &source, &wrong, 1, &model, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "no_such_setting");
    CHECK_INT_EQ(
        backend->model_load(device, &source, config.settings, config.setting_count, &model, NULL),
        0);
    error = (struct fm_error){0};
    CHECK_INT_EQ(backend->instance_create(model, &wrong, 1, &instance, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "no_such_setting");
    backend->model_unload(model);
    backend->device_close(device);
    fm_model_config_deinit(&config);
}
EVERY_BACKEND(settings_unknown)

static void settings_misspelt(const struct fm_subject *subject)
{
    bool is_onnxruntime = strcmp(subject->backend, "onnxruntime") == 0;
    struct fm_model_config config;
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_subject_config(subject, &vector_port, 1, 1, &config), 0);
    CHECK_INT_EQ(fm_model_config_set(&config, is_onnxruntime ? "thraeds" : "input", "1", NULL), 0);
    CHECK_INT_EQ(fm_model_load(&config, &model, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "model 'subject' version 3: ");
    CHECK_STR_CONTAINS(error.text,
                       is_onnxruntime ? "did you mean 'threads'?" : "did you mean 'inputs'?");
    fm_model_config_deinit(&config);
}
EVERY_BACKEND(settings_misspelt)

/* --- Ports --- */

static void ports(const struct fm_subject *subject)
{
    static const struct fm_port inputs[] = {
        {.name = "image", .dtype = FM_DTYPE_UINT8, .rank = 4, .shape = {-1, 3, 8, 8}},
        {.name = "text", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {-1}},
        {.name = "scale", .dtype = FM_DTYPE_FP64, .rank = 2, .shape = {-1, 1}},
    };
    struct fm_model *model = NULL;
    uint32_t count = 0;
    CHECK_INT_EQ(fm_subject_load(subject, inputs, 3, 1, &model, NULL), 0);
    const struct fm_port *in = fm_model_inputs(model, &count);
    CHECK_INT_EQ(count, 3);
    for (uint32_t i = 0; i < count; i++) {
        CHECK_STR_EQ(in[i].name, inputs[i].name);
        CHECK_INT_EQ(in[i].dtype, inputs[i].dtype);
        CHECK_INT_EQ(in[i].rank, inputs[i].rank);
        CHECK_MEM_EQ(in[i].shape, inputs[i].shape, sizeof(int64_t) * (size_t)inputs[i].rank);
    }
    const struct fm_port *out = fm_model_outputs(model, &count);
    CHECK_INT_EQ(count, 3);
    CHECK_STR_EQ(out[0].name, "out_image");
    CHECK_INT_EQ(out[1].dtype, FM_DTYPE_BYTES);
    CHECK_INT_EQ(fm_model_batch_max(model), 8);
    CHECK_STR_EQ(fm_model_backend_name(model), subject->backend);
    fm_model_free(model);
}
EVERY_BACKEND(ports)

static void ports_fixed_batch(const struct fm_subject *subject)
{
    static const struct fm_port input = {
        .name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {2, 4}};
    struct fm_model *model = NULL;
    float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct fm_subject_run run;
    CHECK_INT_EQ(fm_subject_load(subject, &input, 1, 1, &model, NULL), 0);
    CHECK_INT_EQ(fm_model_batch_max(model), 0);
    fm_subject_run_init(&run, 1, 1, 1);
    run.inputs[0] = fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){2, 4}, 2, values, sizeof(values));
    CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
    CHECK(answers(subject, &run.inputs[0], &run.outputs[0].tensor));
    fm_subject_run_release(&run);
    fm_model_free(model);
}
EVERY_BACKEND(ports_fixed_batch)

static void ports_many(const struct fm_subject *subject)
{
    struct fm_port inputs[SUBJECT_PORTS_MAX];
    char names[SUBJECT_PORTS_MAX][24];
    float values[SUBJECT_PORTS_MAX];
    struct fm_model *model = NULL;
    struct fm_subject_run run;
    fm_subject_run_init(&run, SUBJECT_PORTS_MAX, SUBJECT_PORTS_MAX, 1);
    for (int i = 0; i < SUBJECT_PORTS_MAX; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "port_%d", i);
        inputs[i] =
            (struct fm_port){.name = names[i], .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {-1}};
        values[i] = (float)i;
        run.inputs[i] =
            fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1}, 1, &values[i], sizeof(float));
    }
    CHECK_INT_EQ(fm_subject_load(subject, inputs, SUBJECT_PORTS_MAX, 1, &model, NULL), 0);
    CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
    for (int i = 0; i < SUBJECT_PORTS_MAX; i++) {
        CHECK(answers(subject, &run.inputs[i], &run.outputs[i].tensor));
    }
    fm_subject_run_release(&run);
    fm_model_free(model);
}
EVERY_BACKEND(ports_many)

/* --- Running --- */

static void batches_of_any_size(const struct fm_subject *subject)
{
    float values[32 * 4];
    struct fm_model *model = vector_model(subject, 1);
    struct fm_subject_run run;
    for (int i = 0; i < 32 * 4; i++) {
        values[i] = (float)i;
    }
    for (int64_t rows = 0; rows <= 32 && model != NULL; rows++) { /* 0: an empty batch is a batch */
        fm_subject_run_init(&run, 1, 1, (uint32_t)rows);
        run.inputs[0] =
            fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){rows, 4}, 2, values, (size_t)rows * 16);
        CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
        CHECK(answers(subject, &run.inputs[0], &run.outputs[0].tensor));
        CHECK(run.execution.start_ns > 0 && run.execution.start_ns <= run.execution.end_ns);
        fm_subject_run_release(&run);
    }
    fm_model_free(model);
}
EVERY_BACKEND(batches_of_any_size)

static void every_dtype(const struct fm_subject *subject)
{
    for (uint32_t dtype = 1; dtype < FM_DTYPE_COUNT_; dtype++) {
        struct fm_port input = {.name = "x", .dtype = dtype, .rank = 2, .shape = {-1, 3}};
        struct fm_model *model = NULL;
        struct fm_error error = {0};
        struct fm_subject_run run;
        unsigned char bytes[96];
        memset(bytes, 0, sizeof(bytes));
        int64_t shape[] = {1, 3};
        size_t size = 3 * 4; /* three empty strings */
        int status = fm_subject_load(subject, &input, 1, 1, &model, &error);
        if (!subject->supports(dtype)) {
            CHECK_INT_NE(status, 0);
            CHECK_STR_CONTAINS(error.text, "complex");
            continue;
        }
        if (status != 0) {
            printf("# %s: %s\n", fm_dtype_name(dtype), error.text);
        }
        /* Older ONNX Runtimes lack kernels for the newest types; they must say so, and do. */
        if (status == FM_EUNSUPPORTED && dtype >= FM_DTYPE_FP8E4M3FN) {
            continue;
        }
        CHECK_INT_EQ(status, 0);
        if (dtype != FM_DTYPE_BYTES) {
            CHECK_INT_EQ(fm_tensor_bytes(dtype, shape, 2, &size), 0);
            for (size_t i = 0; i < size; i++) {
                bytes[i] = dtype == FM_DTYPE_BOOL ? i % 2 : (unsigned char)(i + 1);
            }
        }
        if (dtype == FM_DTYPE_UINT4 || dtype == FM_DTYPE_INT4) {
            bytes[size - 1] &= 0x0f; /* the unused nibble */
        }
        fm_subject_run_init(&run, 1, 1, 1);
        run.inputs[0] = fm_subject_tensor(dtype, shape, 2, bytes, size);
        status = fm_model_run(model, 0, &run.execution, &error);
        if (status != 0 || !answers(subject, &run.inputs[0], &run.outputs[0].tensor)) {
            printf("# %s: %s\n", fm_dtype_name(dtype), status != 0 ? error.text : "another answer");
            fm_test_failed = 1;
        }
        fm_subject_run_release(&run);
        fm_model_free(model);
    }
}
EVERY_BACKEND(every_dtype)

static void ranks(const struct fm_subject *subject)
{
    static const int32_t some[] = {0, 1, 8, FM_RANK_MAX};
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
        struct fm_port input = {.name = "x", .dtype = FM_DTYPE_INT64, .rank = some[i]};
        struct fm_model *model = NULL;
        struct fm_error error = {0};
        struct fm_subject_run run;
        int64_t value = 42;
        for (int32_t axis = 0; axis < input.rank; axis++) {
            input.shape[axis] = 1;
        }
        if (fm_subject_load(subject, &input, 1, 1, &model, &error) != 0) {
            printf("# rank %d: %s\n", some[i], error.text);
            CHECK(model != NULL);
        }
        CHECK_INT_EQ(fm_model_batch_max(model), 0);
        fm_subject_run_init(&run, 1, 1, 1);
        run.inputs[0] = fm_subject_tensor(FM_DTYPE_INT64, input.shape, (uint32_t)input.rank, &value,
                                          sizeof(value));
        CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
        CHECK(answers(subject, &run.inputs[0], &run.outputs[0].tensor));
        fm_subject_run_release(&run);
        fm_model_free(model);
    }
}
EVERY_BACKEND(ranks)

static void strings(const struct fm_subject *subject)
{
    struct fm_port input = {.name = "text", .dtype = FM_DTYPE_BYTES, .rank = 2, .shape = {-1, 2}};
    struct fm_model *model = NULL;
    struct fm_subject_run run;
    static unsigned char wire[4 * 4 + 5 + 3 + 2000];
    static const uint32_t lengths[] = {5, 0, 3, 2000};
    size_t size = 0;
    for (int i = 0; i < 4; i++) {
        memcpy(wire + size, &lengths[i], 4);
        memset(wire + size + 4, 'a' + i, lengths[i]);
        size += 4 + lengths[i];
    }
    wire[6] = 0; /* a NUL inside a string, and bytes that are no UTF-8 */
    wire[7] = 0xff;
    CHECK_INT_EQ(fm_subject_load(subject, &input, 1, 1, &model, NULL), 0);
    fm_subject_run_init(&run, 1, 1, 2);
    run.inputs[0] = fm_subject_tensor(FM_DTYPE_BYTES, (int64_t[]){2, 2}, 2, wire, size);
    CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
    CHECK(answers(subject, &run.inputs[0], &run.outputs[0].tensor));
    CHECK_INT_EQ(fm_tensor_check(&run.outputs[0].tensor, NULL), 0);
    fm_subject_run_release(&run);
    run.inputs[0] = fm_subject_tensor(FM_DTYPE_BYTES, (int64_t[]){0, 2}, 2, NULL, 0);
    CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
    fm_subject_run_release(&run);
    fm_model_free(model);
}
EVERY_BACKEND(strings)

/* --- Outputs --- */

static void outputs_bound(const struct fm_subject *subject)
{
    float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float target[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    struct fm_model *model = vector_model(subject, 1);
    struct fm_subject_run run;
    CHECK(model != NULL);
    fm_subject_run_init(&run, 1, 1, 2);
    run.inputs[0] = fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){2, 4}, 2, values, sizeof(values));
    run.outputs[0].tensor =
        fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){2, 4}, 2, target, sizeof(target));
    CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
    CHECK_PTR_EQ(run.outputs[0].tensor.data, target);
    CHECK(run.outputs[0].release == NULL);
    CHECK(answers(subject, &run.inputs[0], &run.outputs[0].tensor));
    fm_model_free(model);
}
EVERY_BACKEND(outputs_bound)

/* A buffer of the wrong type, shape or size must be refused before a backend writes into it. */
static void outputs_bound_wrongly(const struct fm_subject *subject)
{
    float values[4] = {1, 2, 3, 4};
    float target[8] = {0};
    const struct fm_tensor wrong[] = {
        fm_subject_tensor(FM_DTYPE_INT32, (int64_t[]){1, 4}, 2, target, 16),
        fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 5}, 2, target, 20),
        fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){4}, 1, target, 16),
        fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 4}, 2, target, 12),
    };
    struct fm_model *model = vector_model(subject, 1);
    CHECK(model != NULL);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct fm_subject_run run;
        struct fm_error error = {0};
        fm_subject_run_init(&run, 1, 1, 1);
        run.inputs[0] =
            fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 4}, 2, values, sizeof(values));
        run.outputs[0].tensor = wrong[i];
        CHECK_INT_NE(fm_model_run(model, 0, &run.execution, &error), 0);
        CHECK_STR_CONTAINS(error.text, "out_x");
    }
    fm_model_free(model);
}
EVERY_BACKEND(outputs_bound_wrongly)

static void outputs_unwanted(const struct fm_subject *subject)
{
    static const struct fm_port inputs[] = {
        {.name = "a", .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {-1}},
        {.name = "b", .dtype = FM_DTYPE_INT32, .rank = 1, .shape = {-1}},
        {.name = "c", .dtype = FM_DTYPE_UINT8, .rank = 1, .shape = {-1}},
    };
    float a = 1;
    int32_t b = 2;
    uint8_t c = 3;
    struct fm_model *model = NULL;
    CHECK_INT_EQ(fm_subject_load(subject, inputs, 3, 1, &model, NULL), 0);
    for (unsigned mask = 0; mask < 8; mask++) { /* also: none at all */
        struct fm_subject_run run;
        fm_subject_run_init(&run, 3, 3, 1);
        run.inputs[0] = fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1}, 1, &a, sizeof(a));
        run.inputs[1] = fm_subject_tensor(FM_DTYPE_INT32, (int64_t[]){1}, 1, &b, sizeof(b));
        run.inputs[2] = fm_subject_tensor(FM_DTYPE_UINT8, (int64_t[]){1}, 1, &c, sizeof(c));
        for (unsigned i = 0; i < 3; i++) {
            run.outputs[i].wanted = mask >> i & 1;
        }
        CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
        for (unsigned i = 0; i < 3; i++) {
            if ((mask >> i & 1) != 0) {
                CHECK(answers(subject, &run.inputs[i], &run.outputs[i].tensor));
            } else {
                CHECK(run.outputs[i].release == NULL && run.outputs[i].tensor.data == NULL);
            }
        }
        fm_subject_run_release(&run);
    }
    fm_model_free(model);
}
EVERY_BACKEND(outputs_unwanted)

/* An output outlives the run, the instance and the next run: it is the caller's until released. */
static void outputs_outlive_the_run(const struct fm_subject *subject)
{
    float values[2][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}};
    struct fm_model *model = vector_model(subject, 1);
    struct fm_subject_run runs[2];
    CHECK(model != NULL);
    for (int i = 0; i < 2; i++) {
        fm_subject_run_init(&runs[i], 1, 1, 1);
        runs[i].inputs[0] =
            fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 4}, 2, values[i], sizeof(values[i]));
        CHECK_INT_EQ(fm_model_run(model, 0, &runs[i].execution, NULL), 0);
    }
    CHECK(answers(subject, &runs[0].inputs[0], &runs[0].outputs[0].tensor));
    CHECK(answers(subject, &runs[1].inputs[0], &runs[1].outputs[0].tensor));
    fm_subject_run_release(&runs[0]);
    fm_subject_run_release(&runs[1]);
    fm_model_free(model);
}
EVERY_BACKEND(outputs_outlive_the_run)

/* --- Refusals --- */

static void inputs_refused(const struct fm_subject *subject)
{
    float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const struct {
        struct fm_tensor tensor;
        int status;
        const char *words;
    } wrong[] = {
        {fm_subject_tensor(FM_DTYPE_INT32, (int64_t[]){1, 4}, 2, values, 16), FM_ETYPE,
         "must be FP32, but is INT32"},
        {fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 5}, 2, values, 20), FM_ETYPE,
         "shape [-1,4], but has [1,5]"},
        {fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){4}, 1, values, 16), FM_ETYPE,
         "shape [-1,4], but has [4]"},
        {fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 4}, 2, values, 12), 0, "'x'"},
        {fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){-1, 4}, 2, values, 16), 0, "'x'"},
        {{.dtype = FM_DTYPE_INVALID}, FM_EINVAL, "input 'x' is missing"},
        {{.dtype = FM_DTYPE_FP32, .rank = 1000}, FM_ETYPE, "too many dimensions"},
    };
    struct fm_model *model = vector_model(subject, 1);
    CHECK(model != NULL);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct fm_subject_run run;
        struct fm_error error = {0};
        fm_subject_run_init(&run, 1, 1, 1);
        run.inputs[0] = wrong[i].tensor;
        int status = fm_model_run(model, 0, &run.execution, &error);
        CHECK_INT_LT(status, 0);
        CHECK(wrong[i].status == 0 || status == wrong[i].status);
        CHECK_STR_CONTAINS(error.text, wrong[i].words);
        CHECK_STR_CONTAINS(error.text, "model 'subject'");
        /* And the instance goes on. */
        fm_subject_run_init(&run, 1, 1, 1);
        run.inputs[0] = fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 4}, 2, values, 16);
        CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
        fm_subject_run_release(&run);
    }
    struct fm_subject_run run;
    fm_subject_run_init(&run, 2, 1, 1);
    CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), FM_EINVAL);
    fm_model_free(model);
}
EVERY_BACKEND(inputs_refused)

/* --- Threads --- */

static _Thread_local bool submitting;

struct observed {
    struct fm_mutex mutex;
    struct fm_condition condition;
    int completions;
    int status;
    bool inlined;
};

static void observe(struct fm_execution *execution, int status)
{
    struct observed *observed = execution->user;
    fm_mutex_lock(&observed->mutex);
    observed->completions++;
    observed->status = status;
    observed->inlined = submitting;
    fm_condition_signal(&observed->condition);
    fm_mutex_unlock(&observed->mutex);
}

static void completes_once(const struct fm_subject *subject)
{
    float values[4] = {1, 2, 3, 4};
    struct fm_model *model = vector_model(subject, 1);
    CHECK(model != NULL);
    for (int round = 0; round < 20; round++) {
        struct observed observed = {.completions = 0};
        struct fm_subject_run run;
        fm_mutex_init(&observed.mutex);
        fm_condition_init(&observed.condition);
        fm_subject_run_init(&run, 1, 1, 1);
        run.inputs[0] =
            fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 4}, 2, values, sizeof(values));
        run.execution.complete = observe;
        run.execution.user = &observed;
        submitting = true;
        int status = fm_model_submit(model, 0, &run.execution);
        submitting = false;
        CHECK_INT_EQ(status, 0);
        fm_mutex_lock(&observed.mutex);
        while (observed.completions == 0) {
            fm_condition_wait(&observed.condition, &observed.mutex);
        }
        fm_mutex_unlock(&observed.mutex);
        CHECK_INT_EQ(observed.completions, 1);
        CHECK_INT_EQ(observed.status, 0);
        CHECK_INT_EQ(observed.inlined, subject->inlines);
        fm_subject_run_release(&run);
        fm_condition_deinit(&observed.condition);
        fm_mutex_deinit(&observed.mutex);
    }
    fm_model_free(model);
}
EVERY_BACKEND(completes_once)

struct caller {
    const struct fm_subject *subject;
    struct fm_model *model;
    uint32_t index;
    _Atomic int wrong;
};

static void caller_main(void *argument)
{
    struct caller *caller = argument;
    for (int i = 0; i < 50; i++) {
        float values[4] = {(float)i, (float)caller->index, 3, 4};
        struct fm_subject_run run;
        fm_subject_run_init(&run, 1, 1, 1);
        run.inputs[0] =
            fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 4}, 2, values, sizeof(values));
        if (fm_model_run(caller->model, caller->index, &run.execution, NULL) != 0 ||
            !answers(caller->subject, &run.inputs[0], &run.outputs[0].tensor)) {
            atomic_fetch_add(&caller->wrong, 1);
        }
        fm_subject_run_release(&run);
    }
}

static void instances_concurrent(const struct fm_subject *subject)
{
    enum { CALLERS = 4 };
    struct fm_model *model = vector_model(subject, CALLERS);
    struct caller callers[CALLERS];
    struct fm_thread threads[CALLERS];
    CHECK(model != NULL);
    CHECK_INT_EQ(fm_model_instance_count(model), CALLERS);
    for (uint32_t i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.subject = subject, .model = model, .index = i};
        CHECK_INT_EQ(fm_thread_start(&threads[i], "caller", caller_main, &callers[i]), 0);
    }
    int wrong = 0;
    for (uint32_t i = 0; i < CALLERS; i++) {
        fm_thread_join(&threads[i]);
        wrong += callers[i].wrong;
    }
    CHECK_INT_EQ(wrong, 0);
    fm_model_free(model);
}
EVERY_BACKEND(instances_concurrent)

static void load_main(void *argument)
{
    struct caller *caller = argument;
    for (int i = 0; i < 5; i++) {
        struct fm_model_config config;
        struct fm_model *model = NULL;
        fm_model_config_init(&config);
        config.name = "concurrent";
        config.backend = caller->subject->backend;
        config.instance_count = 1;
        config.path =
            strcmp(config.backend, "onnxruntime") == 0 ? fm_model_name(caller->model) : NULL;
        if (fm_model_load(&config, &model, NULL) != 0) {
            atomic_fetch_add(&caller->wrong, 1);
        }
        fm_model_free(model);
        fm_model_config_deinit(&config);
    }
}

/* Models come and go on one device from several threads. */
static void models_concurrent(const struct fm_subject *subject)
{
    enum { CALLERS = 3 };
    struct fm_model_config config;
    struct fm_model *named = NULL;
    struct caller callers[CALLERS];
    struct fm_thread threads[CALLERS];
    CHECK_INT_EQ(fm_subject_config(subject, &vector_port, 1, 1, &config), 0);
    if (config.path != NULL) {
        config.name = config.path; /* the threads read the file's path from the model's name */
    }
    CHECK_INT_EQ(fm_model_load(&config, &named, NULL), 0);
    for (uint32_t i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.subject = subject, .model = named};
        CHECK_INT_EQ(fm_thread_start(&threads[i], "loader", load_main, &callers[i]), 0);
    }
    int wrong = 0;
    for (uint32_t i = 0; i < CALLERS; i++) {
        fm_thread_join(&threads[i]);
        wrong += callers[i].wrong;
    }
    CHECK_INT_EQ(wrong, 0);
    fm_model_free(named);
    fm_model_config_deinit(&config);
}
EVERY_BACKEND(models_concurrent)

TEST_MAIN()
