/*
 * What only the onnxruntime backend has: files that are no models, what it refuses, its settings,
 * its numbers.
 */
#include <sys/stat.h>

#include "host/os/file.h"
#include "tests/harness/onnx_writer.h"
#include "tests/harness/subject.h"
#include "tests/harness/test.h"

static const struct fm_port vector_in = {
    .name = "x", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 4}};
static const struct fm_port vector_out = {
    .name = "y", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 4}};

/* Loads a file, with up to two settings. */
static int load(const char *path, const char *const *settings, struct fm_model **ret_model,
                struct fm_error *reterr)
{
    struct fm_model_config config;
    fm_model_config_init(&config);
    config.name = "m";
    config.version = 2;
    config.path = path;
    config.instance_count = 1;
    int status = 0;
    for (; status == 0 && settings != NULL && *settings != NULL; settings += 2) {
        status = fm_model_config_set(&config, settings[0], settings[1], reterr);
    }
    status = status != 0 ? status : fm_model_load(&config, ret_model, reterr);
    fm_model_config_deinit(&config);
    return status;
}

/* Saves what the writer holds and loads it. */
static int load_written(struct fm_onnx_writer *writer, const char *name,
                        struct fm_model **ret_model, struct fm_error *reterr)
{
    const char *path = fm_subject_path(name);
    int status = fm_onnx_save(writer, path);
    fm_onnx_deinit(writer);
    return status != 0 ? status : load(path, NULL, ret_model, reterr);
}

static const char *identity_file(void)
{
    const char *path = fm_subject_path("identity.onnx");
    return fm_onnx_save_identity(path, &vector_in, 1) == 0 ? path : NULL;
}

/* One line, and not a page. */
static bool is_one_line(const char *text)
{
    return strlen(text) > 0 && strlen(text) < FM_ERROR_TEXT_SIZE && strpbrk(text, "\r\n") == NULL;
}

/* --- Files --- */

TEST(files_that_are_no_models)
{
    static const struct {
        const char *name;
        const char *bytes; /* NULL: not there */
        int status;
        const char *reason;
    } files[] = {
        {"missing.onnx", NULL, FM_ENOTFOUND, "cannot open"},
        {"empty.onnx", "", FM_ECORRUPT, "is empty"},
        {"text.onnx", "this is a text, and no model at all\n", FM_ECORRUPT, "text.onnx"},
        {"zeros.onnx", "\x08\x0a", FM_ECORRUPT, "zeros.onnx"},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        struct fm_model *model = NULL;
        struct fm_error error = {0};
        const char *path = fm_subject_path(files[i].name);
        if (files[i].bytes != NULL) {
            CHECK_INT_EQ(fm_file_write_atomic(path, files[i].bytes, strlen(files[i].bytes), NULL),
                         0);
        }
        int status = load(path, NULL, &model, &error);
        printf("# %s\n", error.text);
        CHECK_INT_EQ(status, files[i].status);
        CHECK_STR_CONTAINS(error.text, "model 'm' version 2: ");
        CHECK_STR_CONTAINS(error.text, files[i].reason);
        CHECK(is_one_line(error.text));
    }
}

TEST(directory)
{
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    const char *path = fm_subject_path("folder.onnx");
    CHECK_INT_EQ(mkdir(path, 0700), 0);
    CHECK_INT_LT(load(path, NULL, &model, &error), 0);
    CHECK_STR_CONTAINS(error.text, "is a directory");
}

TEST(no_path)
{
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(load(NULL, NULL, &model, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "needs a model file");
}

/* A model cut off anywhere, or with any byte changed, must never crash the process. */
TEST(truncated_and_damaged)
{
    char *data = NULL;
    size_t size = 0;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_file_read(identity_file(), 1 << 20, &data, &size, NULL), 0);
    for (size_t i = 1; i < size; i += 3) {
        struct fm_model *model = NULL;
        const char *path = fm_subject_path("damaged.onnx");
        char before = data[i];
        CHECK_INT_EQ(fm_file_write_atomic(path, data, i, NULL), 0);
        CHECK_INT_LT(load(path, NULL, &model, &error), 0);
        CHECK(is_one_line(error.text));
        data[i] = (char)~before;
        CHECK_INT_EQ(fm_file_write_atomic(path, data, size, NULL), 0);
        if (load(path, NULL, &model, &error) == 0) {
            fm_model_free(model); /* a letter of a name, say */
        }
        data[i] = before;
    }
    fm_free(data);
}

TEST(external_data)
{
    float weights[4] = {10, 20, 30, 40};
    float values[4] = {1, 2, 3, 4};
    struct fm_tensor constant =
        fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){4}, 1, weights, sizeof(weights));
    struct fm_onnx_writer writer = {0};
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    struct fm_subject_run run;
    fm_onnx_input(&writer, &vector_in);
    fm_onnx_output(&writer, &vector_out);
    fm_onnx_constant_external(&writer, "w", &constant, "weights.bin");
    fm_onnx_node(&writer, "Add", "x,w", "y");
    const char *path = fm_subject_path("external.onnx");
    CHECK_INT_EQ(fm_onnx_save(&writer, path), 0);
    fm_onnx_deinit(&writer);
    CHECK_INT_LT(load(path, NULL, &model, &error), 0); /* the weights are not there yet */
    CHECK(is_one_line(error.text));
    CHECK_INT_EQ(
        fm_file_write_atomic(fm_subject_path("weights.bin"), weights, sizeof(weights), NULL), 0);
    CHECK_INT_EQ(load(path, NULL, &model, NULL), 0);
    fm_subject_run_init(&run, 1, 1, 1);
    run.inputs[0] = fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 4}, 2, values, sizeof(values));
    CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
    CHECK_NEAR(((float *)run.outputs[0].tensor.data)[3], 44, 0);
    fm_subject_run_release(&run);
    fm_model_free(model);
}

/* --- Models --- */

TEST(inputs_that_are_no_tensors)
{
    static const struct {
        enum fm_onnx_kind kind;
        const char *word;
    } kinds[] = {
        {FM_ONNX_SEQUENCE, "sequence"}, {FM_ONNX_OPTIONAL, "optional"}, {FM_ONNX_MAP, "map"}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct fm_onnx_writer writer = {0};
        struct fm_model *model = NULL;
        struct fm_error error = {0};
        fm_onnx_input(&writer, &vector_in);
        fm_onnx_input_of_kind(&writer, "odd", kinds[i].kind);
        fm_onnx_output(&writer, &vector_out);
        fm_onnx_node(&writer, "Identity", "x", "y");
        CHECK_INT_EQ(load_written(&writer, "odd.onnx", &model, &error), FM_EUNSUPPORTED);
        CHECK_STR_CONTAINS(error.text, "input 'odd'");
        CHECK_STR_CONTAINS(error.text, kinds[i].word);
    }
}

TEST(operation_that_does_not_exist)
{
    struct fm_onnx_writer writer = {0};
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    fm_onnx_input(&writer, &vector_in);
    fm_onnx_output(&writer, &vector_out);
    fm_onnx_node(&writer, "Frobnicate", "x", "y");
    CHECK_INT_LT(load_written(&writer, "frobnicate.onnx", &model, &error), 0);
    CHECK_STR_CONTAINS(error.text, "Frobnicate");
    CHECK(is_one_line(error.text));
}

TEST(numbers)
{
    float identity[16] = {2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 5};
    float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float expected[8] = {2, 6, 12, 20, 10, 18, 28, 40};
    struct fm_tensor constant =
        fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){4, 4}, 2, identity, sizeof(identity));
    struct fm_onnx_writer writer = {0};
    struct fm_model *model = NULL;
    struct fm_subject_run run;
    fm_onnx_input(&writer, &vector_in);
    fm_onnx_output(&writer, &vector_out);
    fm_onnx_constant(&writer, "w", &constant);
    fm_onnx_node(&writer, "MatMul", "x,w", "y");
    CHECK_INT_EQ(load_written(&writer, "matmul.onnx", &model, NULL), 0);
    fm_subject_run_init(&run, 1, 1, 2);
    run.inputs[0] = fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){2, 4}, 2, values, sizeof(values));
    CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
    CHECK_MEM_EQ(run.outputs[0].tensor.data, expected, sizeof(expected));
    CHECK(fm_model_memory(model) > sizeof(identity));
    fm_subject_run_release(&run);
    fm_model_free(model);
}

/* The sizes of an output may depend on values: nothing but the run tells. And a failing run is one
 * answer, not the end. */
TEST(failure_while_running)
{
    static const struct fm_port index = {
        .name = "i", .dtype = FM_DTYPE_INT64, .rank = 1, .shape = {-1}};
    static const struct fm_port output = {
        .name = "y", .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {-1}};
    float table[3] = {0.5f, 1.5f, 2.5f};
    struct fm_tensor constant =
        fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){3}, 1, table, sizeof(table));
    struct fm_onnx_writer writer = {0};
    struct fm_model *model = NULL;
    fm_onnx_input(&writer, &index);
    fm_onnx_output(&writer, &output);
    fm_onnx_constant(&writer, "t", &constant);
    fm_onnx_node(&writer, "Gather", "t,i", "y");
    CHECK_INT_EQ(load_written(&writer, "gather.onnx", &model, NULL), 0);
    for (int64_t i = 0; i < 6; i++) {
        struct fm_subject_run run;
        struct fm_error error = {0};
        int64_t value = i % 2 == 0 ? 2 : 1000;
        fm_subject_run_init(&run, 1, 1, 1);
        run.inputs[0] = fm_subject_tensor(FM_DTYPE_INT64, (int64_t[]){1}, 1, &value, sizeof(value));
        int status = fm_model_run(model, 0, &run.execution, &error);
        if (value == 2) {
            CHECK_INT_EQ(status, 0);
            CHECK_NEAR(*(float *)run.outputs[0].tensor.data, 2.5, 0);
        } else {
            CHECK_INT_LT(status, 0);
            CHECK_STR_CONTAINS(error.text, "Gather");
            CHECK(is_one_line(error.text));
            CHECK(run.outputs[0].release == NULL && run.outputs[0].tensor.data == NULL);
        }
        fm_subject_run_release(&run);
    }
    fm_model_free(model);
}

/* --- Settings --- */

TEST(settings_that_work)
{
    static const char *const good[][5] = {
        {"threads", "2", "inter_op_threads", "2", NULL},
        {"spinning", "on", "execution_mode", "parallel", NULL},
        {"arena", "false", "memory_pattern", "false", NULL},
        {"arena_extend", "same_as_requested", NULL, NULL, NULL},
        {"graph_optimization", "disabled", NULL, NULL, NULL},
        {"graph_optimization", "basic", "session.disable_prepacking", "1", NULL},
        {"graph_optimization", "extended", "provider", "cpu", NULL},
        {"provider", "CPU", NULL, NULL, NULL},
    };
    const char *path = identity_file();
    CHECK(path != NULL);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct fm_model *model = NULL;
        struct fm_error error = {0};
        struct fm_subject_run run;
        float values[4] = {1, 2, 3, 4};
        int status = load(path, good[i], &model, &error);
        if (status != 0) {
            printf("# %s\n", error.text);
        }
        CHECK_INT_EQ(status, 0);
        fm_subject_run_init(&run, 1, 1, 1);
        run.inputs[0] =
            fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 4}, 2, values, sizeof(values));
        CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
        CHECK_MEM_EQ(run.outputs[0].tensor.data, values, sizeof(values));
        fm_subject_run_release(&run);
        fm_model_free(model);
    }
}

/* That its time is bounded only its owner can know. */
TEST(a_model_never_waits_if_its_owner_says_so)
{
    static const char *const says[] = {"brief", "true", NULL};
    static const char *const says_nothing[] = {NULL};
    const char *path = identity_file();
    struct fm_model *model = NULL;
    CHECK(path != NULL);
    CHECK_INT_EQ(load(path, says, &model, NULL), 0);
    CHECK(fm_model_never_waits(model));
    fm_model_free(model);
    CHECK_INT_EQ(load(path, says_nothing, &model, NULL), 0);
    CHECK(!fm_model_never_waits(model));
    fm_model_free(model);
}

TEST(settings_that_do_not)
{
    static const struct {
        const char *settings[5];
        const char *reason;
    } bad[] = {
        {{"threads", "0", NULL}, "setting 'threads' must be a number from 1 to 1024, but is '0'"},
        {{"threads", "many", NULL}, "'many'"},
        {{"spinning", "perhaps", NULL}, "true or false"},
        {{"graph_optimization", "most", NULL}, "disabled, basic, extended or all"},
        {{"execution_mode", "random", NULL}, "sequential or parallel"},
        {{"brief", "perhaps", NULL}, "true or false"},
        {{"brief", "true", "threads", "2", NULL}, "but this one has several"},
        {{"arena_extend", "double", NULL}, "power_of_two or same_as_requested"},
        {{"arena_extend", "power_of_two", "arena", "off", NULL}, "remove one"},
        {{"free_dimension.batch", "-1", NULL}, "a positive number"},
        {{"graph_optimisation", "all", NULL}, "did you mean 'graph_optimization'?"},
        {{"provider", "warp_drive", NULL}, "no execution provider 'warp_drive'; it has"},
        {{"provider", "cuda", NULL}, "CPU"},
        {{"device.number", "1", NULL}, "unknown device setting 'device.number'"},
    };
    const char *path = identity_file();
    CHECK(path != NULL);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fm_model *model = NULL;
        struct fm_error error = {0};
        int status = load(path, bad[i].settings, &model, &error);
        if (status == 0 && strcmp(bad[i].settings[1], "cuda") == 0) {
            fm_model_free(model); /* this ONNX Runtime can */
            continue;
        }
        CHECK_INT_LT(status, 0);
        CHECK_STR_CONTAINS(error.text, bad[i].reason);
        CHECK(is_one_line(error.text));
    }
}

TEST(arena_extend_is_one_for_all)
{
    static const char *const one[] = {"arena_extend", "same_as_requested", NULL};
    static const char *const other[] = {"arena_extend", "power_of_two", NULL};
    struct fm_model *models[2] = {NULL, NULL};
    struct fm_error error = {0};
    const char *path = identity_file();
    CHECK_INT_EQ(load(path, one, &models[0], NULL), 0);
    CHECK_INT_EQ(load(path, one, &models[1], NULL), 0);
    fm_model_free(models[1]);
    CHECK_INT_EQ(load(path, other, &models[1], &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "share one arena");
    fm_model_free(models[0]);
    CHECK_INT_EQ(load(path, other, &models[1], NULL), 0); /* nobody holds the first one any more */
    fm_model_free(models[1]);
}

TEST(free_dimension_fixes_the_batch)
{
    static const char *const settings[] = {"free_dimension.batch", "2", NULL};
    struct fm_model *model = NULL;
    uint32_t count = 0;
    CHECK_INT_EQ(load(identity_file(), settings, &model, NULL), 0);
    CHECK_INT_EQ(fm_model_inputs(model, &count)[0].shape[0], 2);
    CHECK_UINT_EQ(fm_model_batch_max(model), 0);
    fm_model_free(model);
}

TEST_MAIN()
