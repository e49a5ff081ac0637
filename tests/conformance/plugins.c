/*
 * Plug-ins that did not come with this build: one of the oldest ABI that must go on working, one
 * that is none, and one that lies in every way.
 */
#include "host/os/file.h"
#include "host/runtime/backend_registry.h"
#include "tests/harness/subject.h"
#include "tests/harness/test.h"

static const char *plugin_path(const char *name)
{
    static char path[1024];
    const char *folder = getenv("FM_TEST_PLUGINS");
    (void)snprintf(path, sizeof(path), "%s/libfm_backend_%s.so", folder != NULL ? folder : ".",
                   name);
    return path;
}

/* Makes the test plug-ins known under their names. */
static void search_test_plugins(void)
{
    const char *folder = getenv("FM_TEST_PLUGINS");
    (void)setenv("FERMATA_PLUGIN_PATH", folder != NULL ? folder : ".", 1);
}

/* --- ABI 1.0 --- */

TEST(old_abi_runs)
{
    const struct fm_backend *backend = NULL;
    struct fm_model_config config;
    struct fm_model *model = NULL;
    struct fm_subject_run run;
    float values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float target[8] = {0};
    search_test_plugins();
    CHECK_INT_EQ(fm_backend_find("old", &backend, NULL), 0);
    CHECK_INT_EQ(backend->abi_minor, 0);
    fm_model_config_init(&config);
    config.name = "ancient";
    config.backend = "old";
    config.instance_count = 2;
    config.warmup_count = 1;
    CHECK_INT_EQ(fm_model_load(&config, &model, NULL), 0);
    CHECK_UINT_EQ(fm_model_memory(model),
                  0); /* model_memory came with 1.1: the field must not be read */
    CHECK_INT_EQ(fm_model_batch_max(model), 8);
    fm_subject_run_init(&run, 1, 1, 2);
    run.inputs[0] = fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){2, 4}, 2, values, sizeof(values));
    CHECK_INT_EQ(fm_model_run(model, 1, &run.execution, NULL), 0);
    CHECK_MEM_EQ(run.outputs[0].tensor.data, values, sizeof(values));
    fm_subject_run_release(&run);
    run.outputs[0].tensor =
        fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){2, 4}, 2, target, sizeof(target));
    CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, NULL), 0);
    CHECK_MEM_EQ(target, values, sizeof(values));
    fm_model_free(model);
    fm_model_config_deinit(&config);
}

/* --- Files that are no plug-ins --- */

TEST(missing_plugin)
{
    const struct fm_backend *backend = NULL;
    struct fm_error error = {0};
    (void)setenv("FERMATA_PLUGIN_PATH", "/no/such/place:/nor/this", 1);
    CHECK_INT_EQ(fm_backend_find("not_there", &backend, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "libfm_backend_not_there.so");
    CHECK_STR_CONTAINS(error.text, "/no/such/place, /nor/this");
    CHECK_STR_CONTAINS(error.text, "FERMATA_PLUGIN_PATH");
}

TEST(name_that_is_a_path)
{
    const struct fm_backend *backend = NULL;
    static const char *const names[] = {"", "../x", "a/b", "with space", "UPPER"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct fm_error error = {0};
        CHECK_INT_EQ(fm_backend_find(names[i], &backend, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, "is no name of a backend");
    }
}

TEST(no_shared_object)
{
    const struct fm_backend *backend = NULL;
    struct fm_error error = {0};
    const char *path = fm_subject_path("libfm_backend_text.so");
    CHECK_INT_EQ(fm_file_write_atomic(path, "not an ELF file\n", 16, NULL), 0);
    CHECK_INT_EQ(fm_backend_load(path, &backend, &error), FM_EABI);
    CHECK_STR_CONTAINS(error.text, path);
    error = (struct fm_error){0};
    CHECK_INT_EQ(fm_backend_load("/no/such/file.so", &backend, &error), FM_EABI);
    CHECK_STR_CONTAINS(error.text, "/no/such/file.so");
}

TEST(no_entry_symbol)
{
    const struct fm_backend *backend = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_backend_load(plugin_path("mute"), &backend, &error), FM_EABI);
    CHECK_STR_CONTAINS(error.text, "does not export fm_backend_entry");
}

/* --- Tables that lie --- */

TEST(hostile_tables)
{
    static const struct {
        const char *lie;
        const char *reason;
    } lies[] = {
        {"null", "cannot serve ABI"},
        {"major", "rebuild the plug-in"},
        {"tiny", "too small"},
        {"short", "needs at least"},
        {"function", "lacks the function model_info"},
        {"name", "no proper name"},
        {"bad name", "no proper name"},
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        const struct fm_backend *backend = NULL;
        struct fm_error error = {0};
        (void)setenv("FM_HOSTILE", lies[i].lie, 1);
        CHECK_INT_EQ(fm_backend_load(plugin_path("hostile"), &backend, &error), FM_EABI);
        CHECK_STR_CONTAINS(error.text, lies[i].reason);
        CHECK_STR_CONTAINS(error.text, "libfm_backend_hostile.so");
        CHECK(backend == NULL);
    }
    (void)unsetenv("FM_HOSTILE");
}

TEST(hostile_name_of_another)
{
    const struct fm_backend *backend = NULL;
    struct fm_error error = {0};
    const char *path = fm_subject_path("libfm_backend_alias.so");
    char *data = NULL;
    size_t size = 0;
    /* A copy of its own: once loaded, a plug-in stays what it was. */
    CHECK_INT_EQ(fm_file_read(plugin_path("hostile"), 64 << 20, &data, &size, NULL), 0);
    CHECK_INT_EQ(fm_file_write_atomic(path, data, size, NULL), 0);
    fm_free(data);
    char folder[512];
    CHECK_INT_EQ(fm_path_directory(folder, sizeof(folder), path), 0);
    (void)setenv("FERMATA_PLUGIN_PATH", folder, 1);
    CHECK_INT_EQ(fm_backend_find("alias", &backend, &error), FM_EABI);
    CHECK_STR_CONTAINS(error.text, "calls itself 'hostile'");
}

/* --- Models that lie --- */

static int hostile_load(const char *lie, struct fm_model **ret_model, struct fm_error *reterr)
{
    struct fm_model_config config;
    search_test_plugins();
    fm_model_config_init(&config);
    config.name = "liar";
    config.version = 7;
    config.backend = "hostile";
    config.instance_count = 1;
    int status = fm_model_config_set(&config, "lie", lie, NULL);
    status = status != 0 ? status : fm_model_load(&config, ret_model, reterr);
    fm_model_config_deinit(&config);
    return status;
}

TEST(hostile_models)
{
    static const struct {
        const char *lie;
        int status;
        const char *reason;
    } lies[] = {
        {"negative rank", FM_EABI, "has -3 dimensions"},
        {"high rank", FM_EABI, "has 17 dimensions"},
        {"no name", FM_EABI, "input 0 without a name"},
        {"empty name", FM_EABI, "output 0 without a name"},
        {"unknown type", FM_EABI, "unknown data type (99)"},
        {"negative dimension", FM_EABI, "negative dimension"},
        {"too many", FM_EABI, "2000 inputs, more than the 1024 allowed"},
        {"null ports", FM_EABI, "without saying which"},
        {"same name", FM_EABI, "two inputs called 'x'"},
        {"no outputs", FM_EINVAL, "no outputs"},
        {"no info", FM_EINTERNAL, "cannot describe the model"},
        {"no instance", FM_ELIMIT, "instance 1 of 1"},
        {"wordless failure", FM_ECORRUPT, "corrupt"},
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct fm_model *model = NULL;
        struct fm_error error = {0};
        CHECK_INT_EQ(hostile_load(lies[i].lie, &model, &error), lies[i].status);
        CHECK_STR_CONTAINS(error.text, "model 'liar' version 7: ");
        CHECK_STR_CONTAINS(error.text, lies[i].reason);
        CHECK(model == NULL);
    }
}

TEST(hostile_submit)
{
    struct fm_model *model = NULL;
    struct fm_error error = {0};
    struct fm_subject_run run;
    float values[4] = {0};
    CHECK_INT_EQ(hostile_load("", &model, NULL), 0);
    fm_subject_run_init(&run, 1, 1, 1);
    run.inputs[0] = fm_subject_tensor(FM_DTYPE_FP32, (int64_t[]){1, 4}, 2, values, sizeof(values));
    CHECK_INT_EQ(fm_model_run(model, 0, &run.execution, &error), FM_EUNAVAILABLE);
    CHECK_STR_EQ(error.text, "unavailable");
    fm_model_free(model);
}

TEST_MAIN()
