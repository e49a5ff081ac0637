/*
 * Unit tests of the operator registry: loading, table checks, parameters, and what emit and forward
 * refuse.
 */
#include "host/runtime/operator_registry.h"

#include <stddef.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "tests/harness/operator_rig.h"
#include "tests/harness/test.h"

/* --- An operator whose every answer a test can choose --- */

static struct {
    int create_status;
    int ports_status;
    int run_status;
    int (*run)(struct fm_operator_call *call);
    struct fm_port inputs[2];
    struct fm_port outputs[3];
    uint32_t input_count;
    uint32_t output_count;
    char seen[256];
    bool info_without_files;
    int alive;
} odd;

static int odd_create(const struct fm_host *host, const struct fm_setting *settings,
                      size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    odd.seen[0] = '\0';
    if (host == NULL || host->now_ns == NULL) {
        return FM_EINTERNAL;
    }
    for (size_t i = 0; i < setting_count; i++) {
        size_t used = strlen(odd.seen);
        (void)snprintf(odd.seen + used, sizeof(odd.seen) - used, "%s=%s;", settings[i].key,
                       settings[i].value);
    }
    if (odd.create_status != 0) {
        return fm_error_set(reterr, odd.create_status, "no luck today");
    }
    odd.alive++;
    *ret_state = &odd;
    return 0;
}

static void odd_destroy(void *state)
{
    odd.alive -= state == &odd;
}

static int odd_ports(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                     const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    (void)state;
    *ret_inputs = odd.inputs;
    *ret_input_count = odd.input_count;
    *ret_outputs = odd.outputs;
    *ret_output_count = odd.output_count;
    return odd.ports_status;
}

static int odd_run(void *state, struct fm_operator_call *call)
{
    (void)state;
    return odd.run != NULL ? odd.run(call) : odd.run_status;
}

static const struct fm_operator_parameter odd_parameters[] = {
    {"needed", NULL, "must be given"},
    {"colour", "blue", "has a default"},
    {"keys_file", "", "a path"},
    {"model_path", "sub/x", "a path"},
    {NULL, NULL, NULL},
};

static const struct fm_operator odd_operator = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "odd",
    .summary = "for tests",
    .parameters = odd_parameters,
    .create = odd_create,
    .destroy = odd_destroy,
    .ports = odd_ports,
    .run = odd_run,
};

static void odd_reset(void)
{
    memset(&odd, 0, sizeof(odd));
    odd.inputs[0] =
        (struct fm_port){.name = "x", .dtype = FM_DTYPE_INT32, .rank = 1, .shape = {-1}};
    odd.inputs[1] = (struct fm_port){
        .name = "extra", .dtype = FM_DTYPE_INVALID, .rank = -1, .flags = FM_PORT_OPTIONAL};
    odd.outputs[0] =
        (struct fm_port){.name = "y", .dtype = FM_DTYPE_INT32, .rank = 1, .shape = {2}};
    odd.outputs[1] = (struct fm_port){
        .name = "m", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}, .flags = FM_PORT_MANY};
    odd.outputs[2] =
        (struct fm_port){.name = "n", .dtype = FM_DTYPE_INVALID, .rank = -1, .flags = FM_PORT_MANY};
    odd.input_count = 2;
    odd.output_count = 3;
}

static const struct fm_setting needed = {"needed", "1"};

/* --- Tables --- */

static const struct fm_operator *list[1];
static struct fm_operator changed;
static struct fm_operator_plugin plugin;

static void plugin_reset(void)
{
    changed = odd_operator;
    list[0] = &changed;
    plugin = (struct fm_operator_plugin){.struct_size = sizeof(plugin),
                                         .abi_major = FM_OPERATOR_ABI_MAJOR,
                                         .abi_minor = FM_OPERATOR_ABI_MINOR,
                                         .name = "odd_ones",
                                         .operators = list,
                                         .operator_count = 1};
}

#define CHECK_TABLE(change, words)                                                \
    do {                                                                          \
        struct fm_error error = {0};                                              \
        plugin_reset();                                                           \
        change;                                                                   \
        CHECK_INT_EQ(fm_operator_plugin_check(&plugin, "here", &error), FM_EABI); \
        CHECK_STR_CONTAINS(error.text, words);                                    \
        CHECK_STR_CONTAINS(error.text, "here: ");                                 \
    } while (0)

TEST(good_table_passes)
{
    plugin_reset();
    CHECK_INT_EQ(fm_operator_plugin_check(&plugin, "here", NULL), 0);
    plugin.abi_minor = 99;
    plugin.struct_size = 4096;
    CHECK_INT_EQ(fm_operator_plugin_check(&plugin, "here", NULL), 0);
}

TEST(hostile_tables_are_refused)
{
    static const struct fm_operator_parameter twice[] = {{"a", "", "h"}, {"a", "", "h"}, {0}};
    static const struct fm_operator_parameter unnamed[] = {{"A b", "", "h"}, {0}};
    static const struct fm_operator_parameter helpless[] = {{"a", "", NULL}, {0}};
    static struct fm_operator_parameter endless[70];
    static char names[70][16];
    const struct fm_operator *pair[2] = {&changed, &changed};
    for (int i = 0; i < 70; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "p%d", i);
        endless[i] = (struct fm_operator_parameter){names[i], "", "h"};
    }
    CHECK_TABLE(plugin.struct_size = 8, "has 8 bytes");
    CHECK_TABLE(plugin.abi_major = 2, "rebuild");
    CHECK_TABLE(plugin.name = NULL, "no name");
    CHECK_TABLE(plugin.name = "Bad Name", "no name");
    CHECK_TABLE(plugin.operators = NULL, "lists 0 operators");
    CHECK_TABLE(plugin.operator_count = 0, "lists 0 operators");
    CHECK_TABLE(plugin.operator_count = SIZE_MAX, "operators; 1 to");
    CHECK_TABLE((plugin.operators = pair, plugin.operator_count = 2), "two operators 'odd'");
    CHECK_TABLE(list[0] = NULL, "operator 0 is NULL");
    CHECK_TABLE(changed.struct_size = 12, "operator 0 has 12 bytes");
    CHECK_TABLE(changed.abi_major = 7, "operator ABI 7.1");
    CHECK_TABLE(changed.name = NULL, "has no name");
    CHECK_TABLE(changed.name = "", "has no name");
    CHECK_TABLE(changed.name = "9x", "has no name");
    CHECK_TABLE(changed.summary = NULL, "lacks a summary");
    CHECK_TABLE(changed.create = NULL, "lacks create()");
    CHECK_TABLE(changed.destroy = NULL, "lacks destroy()");
    CHECK_TABLE(changed.ports = NULL, "lacks ports()");
    CHECK_TABLE(changed.run = NULL, "lacks run()");
    CHECK_TABLE(changed.parameters = twice, "two parameters 'a'");
    CHECK_TABLE(changed.parameters = unnamed, "name that is not");
    CHECK_TABLE(changed.parameters = helpless, "no help text");
    CHECK_TABLE(changed.parameters = endless, "more than 64 parameters");
}

/* --- Loading --- */

static const char *plugin_path(const char *name)
{
    static char path[1024];
    const char *folder = getenv("FM_TEST_PLUGINS");
    (void)snprintf(path, sizeof(path), "%s/lib%s.so", folder != NULL ? folder : "", name);
    return path;
}

TEST(plugins_load_once_and_work)
{
    if (getenv("FM_TEST_PLUGINS") == NULL) {
        TEST_SKIP("FM_TEST_PLUGINS is not set");
    }
    struct fm_error error = {0};
    const struct fm_operator *found = NULL;
    CHECK_INT_EQ(fm_operator_find("test_repeat", &found, &error), FM_ENOTFOUND);
    for (int i = 0; i < 2; i++) {
        error = (struct fm_error){0};
        int status = fm_operator_plugin_load(plugin_path("fm_operator_test_good"), &error);
        CHECK_STR_EQ(error.text, "");
        CHECK_INT_EQ(status, 0);
    }
    int count = 0;
    for (size_t i = 0; fm_operator_at(i) != NULL; i++) {
        count += strcmp(fm_operator_at(i)->name, "test_repeat") == 0;
    }
    CHECK_INT_EQ(count, 1);
    struct fm_rig rig;
    const int64_t shape[1] = {3};
    CHECK_INT_EQ(fm_rig_create(&rig, "test_repeat", NULL), 0);
    memcpy(fm_rig_input(&rig, 0, FM_DTYPE_INT32, 1, shape), (const int32_t[]){7, 8, 9}, 12);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    CHECK_INT_EQ(rig.outputs[0].count, 3);
    CHECK_INT_EQ(*(int32_t *)rig.outputs[0].items[2].tensor.data, 9);
    /* The limit of the fan-out. */
    CHECK_INT_EQ(fm_operator_run(rig.instance, rig.inputs, 1, rig.outputs + 1, 1, 2, &error),
                 FM_ELIMIT);
    CHECK_STR_CONTAINS(error.text, "more than 2 elements; raise 'fan_out_max'");
    fm_rig_destroy(&rig);
}

static void check_load(const char *name, int want, const char *text)
{
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_operator_plugin_load(name, &error), want);
    CHECK_STR_CONTAINS(error.text, text);
}

TEST(hostile_plugins_are_refused_with_the_reason)
{
    if (getenv("FM_TEST_PLUGINS") == NULL) {
        TEST_SKIP("FM_TEST_PLUGINS is not set");
    }
    check_load(plugin_path("fm_operator_test_no_entry"), FM_EABI,
               "does not export fm_operator_entry()");
    check_load(plugin_path("fm_operator_test_refuses"), FM_EABI, "refused operator ABI 1.1");
    check_load(plugin_path("fm_operator_test_other_major"), FM_EABI, "operator ABI 2.0");
    check_load("/nonexistent/plugin.so", FM_ENOTFOUND, "/nonexistent/plugin.so");
    check_load("./meson.build", FM_EABI, "cannot load operator plug-in");
    check_load("no_such_plugin", FM_ENOTFOUND, "no_such_plugin");
    char path[5000];
    memset(path, '/', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    check_load(path, FM_ETOOLARGE, "longer than");
}

TEST(plugins_are_found_along_the_search_path)
{
    const char *folder = getenv("FM_TEST_PLUGINS");
    if (folder == NULL) {
        TEST_SKIP("FM_TEST_PLUGINS is not set");
    }
    CHECK_INT_EQ(setenv("FERMATA_PLUGIN_PATH", folder, 1), 0);
    struct fm_error error = {0};
    int status = fm_operator_plugin_load("test_good", &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
}

TEST(find_suggests)
{
    struct fm_error error = {0};
    const struct fm_operator *found = NULL;
    CHECK_INT_EQ(fm_operator_find("image_decode", &found, &error), 0);
    CHECK_PTR_EQ(found, fm_operator_at(0));
    CHECK_INT_EQ(fm_operator_find("image_decoder", &found, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "did you mean 'image_decode'?");
    CHECK_INT_EQ(fm_operator_find("teleport", &found, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "'plugins:'");
}

/* --- Parameters --- */

TEST(parameters_are_completed_in_order)
{
    struct fm_operator_instance *instance = NULL;
    const struct fm_setting settings[] = {{"keys_file", "k.txt"}, {"needed", "5"}};
    odd_reset();
    CHECK_INT_EQ(fm_operator_create(&odd_operator, settings, 2, "/base/dir", &instance, NULL), 0);
    CHECK_STR_EQ(odd.seen,
                 "needed=5;colour=blue;keys_file=/base/dir/k.txt;model_path=/base/dir/sub/x;");
    CHECK_INT_EQ(odd.alive, 1);
    fm_operator_destroy(instance);
    CHECK_INT_EQ(odd.alive, 0);
    const struct fm_setting absolute[] = {{"needed", "5"}, {"model_path", "/abs"}};
    CHECK_INT_EQ(fm_operator_create(&odd_operator, absolute, 2, "/base", &instance, NULL), 0);
    CHECK_STR_EQ(odd.seen, "needed=5;colour=blue;keys_file=;model_path=/abs;");
    fm_operator_destroy(instance);
}

/* --- What came with 1.1 --- */

static int later_info(void *state, struct fm_operator_info *ret_info)
{
    static const char *const files[] = {"/a", "/b"};
    if (state != &odd || ret_info->struct_size != sizeof(*ret_info)) {
        return FM_EINTERNAL;
    }
    ret_info->runs_at_once = 7;
    ret_info->file_count = 2;
    ret_info->files = odd.info_without_files ? NULL : files;
    return 0;
}

static int later_start(void *state, const char *stage, struct fm_error *reterr)
{
    if (state != &odd) {
        return FM_EINTERNAL;
    }
    if (strcmp(stage, "lucky") == 0) {
        return 0;
    }
    return strcmp(stage, "speechless") == 0
               ? FM_EIO
               : fm_error_set(reterr, FM_EUNAVAILABLE, "nobody there for '%s'", stage);
}

TEST(an_operator_says_what_it_needs_and_begins)
{
    struct fm_operator later = odd_operator;
    struct fm_operator_instance *instance = NULL;
    struct fm_operator_info info = {.runs_at_once = 99};
    struct fm_error error = {0};
    odd_reset();
    later.info = later_info;
    later.start = later_start;
    CHECK_INT_EQ(fm_operator_create(&later, &needed, 1, ".", &instance, NULL), 0);
    CHECK_INT_EQ(fm_operator_info(instance, &info, &error), 0);
    CHECK_INT_EQ(info.runs_at_once, 7);
    CHECK_STR_EQ(info.files[1], "/b");
    CHECK_INT_EQ(fm_operator_start(instance, "lucky", &error), 0);
    CHECK_INT_EQ(fm_operator_start(instance, "unlucky", &error), FM_EUNAVAILABLE);
    CHECK_STR_EQ(error.text, "operator 'odd': nobody there for 'unlucky'");
    CHECK_INT_EQ(fm_operator_start(instance, "speechless", &error), FM_EIO);
    CHECK_STR_EQ(error.text, "operator 'odd': input/output error");
    odd.info_without_files = true;
    CHECK_INT_EQ(fm_operator_info(instance, &info, &error), FM_EABI);
    CHECK_STR_CONTAINS(error.text, "cannot say what it depends on");
    /* A table of version 1.0 ends before these: what stands there is no function. */
    later.struct_size = offsetof(struct fm_operator, info);
    later.abi_minor = 0;
    CHECK_INT_EQ(fm_operator_info(instance, &info, &error), 0);
    CHECK_INT_EQ(info.runs_at_once, 0);
    CHECK_INT_EQ(info.file_count, 0);
    CHECK_INT_EQ(fm_operator_start(instance, "unlucky", &error), 0);
    fm_operator_destroy(instance);
}

TEST(a_table_of_version_1_0_is_taken)
{
    plugin_reset();
    changed.struct_size = offsetof(struct fm_operator, info);
    changed.abi_minor = 0;
    CHECK_INT_EQ(fm_operator_plugin_check(&plugin, "here", NULL), 0);
    CHECK_TABLE(changed.struct_size = offsetof(struct fm_operator, info) - 1, "version 1.0 has");
}

static void check_create(const struct fm_setting *settings, size_t count, int want,
                         const char *text)
{
    struct fm_operator_instance *instance = NULL;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_operator_create(&odd_operator, settings, count, ".", &instance, &error), want);
    CHECK_STR_CONTAINS(error.text, text);
    CHECK(instance == NULL);
    CHECK_INT_EQ(odd.alive, 0);
}

TEST(bad_parameters_are_refused)
{
    const struct fm_setting unknown[] = {{"needed", "5"}, {"color", "red"}};
    const struct fm_setting strange[] = {{"needed", "5"}, {"zzzzzzzz", "red"}};
    const struct fm_setting twice[] = {{"needed", "5"}, {"needed", "6"}};
    odd_reset();
    check_create(NULL, 0, FM_EINVAL, "operator 'odd' needs the parameter 'needed': must be given");
    check_create(unknown, 2, FM_EINVAL, "no parameter 'color'; did you mean 'colour'?");
    check_create(strange, 2, FM_EINVAL, "no parameter 'zzzzzzzz'");
    check_create(twice, 2, FM_EINVAL, "given twice");
    odd.create_status = FM_EIO;
    check_create(&needed, 1, FM_EIO, "operator 'odd': no luck today");
}

#define CHECK_PORTS(change, words)                \
    do {                                          \
        odd_reset();                              \
        change;                                   \
        check_create(&needed, 1, FM_EABI, words); \
    } while (0)

TEST(bad_ports_are_refused)
{
    CHECK_PORTS(odd.outputs[1].name = "y", "bad output 1");
    CHECK_PORTS(odd.outputs[1].name = NULL, "bad output 1");
    CHECK_PORTS(odd.outputs[0].dtype = 99, "bad output 0");
    CHECK_PORTS(odd.inputs[0].rank = 17, "bad input 0");
    CHECK_PORTS(odd.inputs[0].rank = -2, "bad input 0");
    CHECK_PORTS(odd.inputs[0].shape[0] = -5, "bad input 0");
    CHECK_PORTS(odd.input_count = 1000, "declares 1000 inputs");
    CHECK_PORTS(odd.ports_status = FM_EABI, "cannot say what its ports are");
}

/* --- Calls --- */

static const struct fm_tensor pair_like = {.dtype = FM_DTYPE_INT32, .rank = 1, .shape = {2}};
static const struct fm_tensor text_like = {
    .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}, .size = 6};

static int emit_pair(struct fm_operator_call *call)
{
    void *data = NULL;
    int status = call->emit(call, 0, &pair_like, &data);
    if (status == 0) {
        memcpy(data, (const int32_t[]){3, 4}, 8);
    }
    return status;
}

static int emit_text(struct fm_operator_call *call, const char *bytes)
{
    void *data = NULL;
    int status = call->emit(call, 1, &text_like, &data);
    if (status == 0) {
        memcpy(data, bytes, 6);
    }
    return status;
}

static int run_good(struct fm_operator_call *call)
{
    int status = emit_pair(call);
    for (int i = 0; status == 0 && i < 3; i++) {
        status = emit_text(call, "\2\0\0\0hi");
        if (status == 0) {
            status = call->forward(call, 2, 0, 0);
        }
    }
    return status;
}

static int run_emit_other_type(struct fm_operator_call *call)
{
    struct fm_tensor like = pair_like;
    void *data = NULL;
    like.dtype = FM_DTYPE_FP32;
    return call->emit(call, 0, &like, &data);
}

static int run_emit_other_shape(struct fm_operator_call *call)
{
    struct fm_tensor like = pair_like;
    void *data = NULL;
    like.shape[0] = 3;
    /* Ignoring the failure does not help. */
    (void)call->emit(call, 0, &like, &data);
    return 0;
}

static int run_emit_twice(struct fm_operator_call *call)
{
    int status = emit_pair(call);
    return status != 0 ? status : emit_pair(call);
}

static int run_emit_no_port(struct fm_operator_call *call)
{
    void *data = NULL;
    return call->emit(call, 3, &pair_like, &data);
}

static int run_emit_huge(struct fm_operator_call *call)
{
    struct fm_tensor like = {
        .dtype = FM_DTYPE_FP64, .rank = 3, .shape = {1 << 30, 1 << 30, 1 << 30}};
    void *data = NULL;
    return call->emit(call, 2, &like, &data);
}

static int run_emit_negative(struct fm_operator_call *call)
{
    struct fm_tensor like = {.dtype = FM_DTYPE_FP64, .rank = 1, .shape = {-1}};
    void *data = NULL;
    return call->emit(call, 2, &like, &data);
}

static int run_emit_bad_rank(struct fm_operator_call *call)
{
    struct fm_tensor like = {.dtype = FM_DTYPE_FP64, .rank = 4000000000u};
    void *data = NULL;
    return call->emit(call, 2, &like, &data);
}

static int run_emit_bad_bytes(struct fm_operator_call *call)
{
    int status = emit_pair(call);
    if (status == 0) {
        status = emit_text(call, "\xff\xff\xff\xffhi");
    }
    return status != 0 ? status : call->forward(call, 2, 0, 0);
}

static int run_uneven(struct fm_operator_call *call)
{
    int status = emit_pair(call);
    return status != 0 ? status : emit_text(call, "\2\0\0\0hi");
}

static int run_nothing(struct fm_operator_call *call)
{
    (void)call;
    return 0;
}

static int run_forward_wrong_port(struct fm_operator_call *call)
{
    return call->forward(call, 2, 9, 0);
}

static int run_forward_wrong_index(struct fm_operator_call *call)
{
    return call->forward(call, 2, 0, 1);
}

static int run_forward_wrong_type(struct fm_operator_call *call)
{
    return call->forward(call, 1, 0, 0);
}

static int run_own_error(struct fm_operator_call *call)
{
    (void)emit_pair(call);
    return fm_error_set(&call->error, FM_ECORRUPT, "the page is upside down");
}

static int run_silent_error(struct fm_operator_call *call)
{
    (void)call;
    return FM_EIO;
}

static int run_positive(struct fm_operator_call *call)
{
    (void)call;
    return 1;
}

static int odd_call(int (*run)(struct fm_operator_call *call), struct fm_rig *rig)
{
    const int64_t shape[1] = {3};
    odd_reset();
    *rig = (struct fm_rig){.input_count = 2, .output_count = 3};
    int status = fm_operator_create(&odd_operator, &needed, 1, NULL, &rig->instance, &rig->error);
    odd.run = run;
    if (status == 0) {
        (void)fm_rig_input(rig, 0, FM_DTYPE_INT32, 1, shape);
        status = fm_rig_run(rig);
    }
    return status;
}

TEST(outputs_arrive)
{
    struct fm_rig rig;
    CHECK_INT_EQ(odd_call(run_good, &rig), 0);
    CHECK_INT_EQ(rig.outputs[0].count, 1);
    CHECK_INT_EQ(rig.outputs[1].count, 3);
    CHECK_INT_EQ(rig.outputs[2].count, 3);
    CHECK_PTR_EQ(rig.outputs[2].items[1].tensor.data, rig.inputs[0].items[0].tensor.data);
    CHECK_INT_EQ((uintptr_t)rig.outputs[0].items[0].tensor.data % 64, 0);
    fm_rig_destroy(&rig);
    CHECK_INT_EQ(odd.alive, 0);
}

TEST(borrowed_inputs_are_copied_when_forwarded)
{
    struct fm_rig rig;
    CHECK_INT_EQ(odd_call(run_good, &rig), 0);
    int32_t numbers[3] = {5, 6, 7};
    fm_rig_inputs_clear(&rig);
    struct fm_value borrowed = {.tensor = {.dtype = FM_DTYPE_INT32,
                                           .rank = 1,
                                           .shape = {3},
                                           .data = numbers,
                                           .size = sizeof(numbers)}};
    CHECK_INT_EQ(fm_value_list_append(&rig.inputs[0], &borrowed), 0);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    const struct fm_tensor *copy = fm_rig_output(&rig, 2);
    CHECK_PTR_NE(copy->data, numbers);
    CHECK_MEM_EQ(copy->data, numbers, sizeof(numbers));
    fm_rig_destroy(&rig);
}

TEST(misbehaviour_is_an_error_and_leaves_nothing)
{
    static const struct {
        int (*run)(struct fm_operator_call *call);
        int status;
        const char *text;
    } rows[] = {
        {run_emit_other_type, FM_ETYPE,
         "output 'y' is declared as INT32[2], but was given FP32[2]"},
        {run_emit_other_shape, FM_ETYPE, "INT32[3]"},
        {run_emit_twice, FM_EINVAL, "takes one element"},
        {run_emit_no_port, FM_EINVAL, "no output 3"},
        {run_emit_huge, FM_ETOOLARGE, "output 'n'"},
        {run_emit_negative, FM_EINVAL, "output 'n'"},
        {run_emit_bad_rank, FM_ETYPE, "invalid data type or rank"},
        {run_emit_bad_bytes, FM_ETYPE, "output 'm': BYTES element 0 claims"},
        {run_uneven, FM_EINTERNAL, "1 elements for output 'm', but 0 for 'n'"},
        {run_nothing, FM_EINTERNAL, "gave nothing for output 'y'"},
        {run_forward_wrong_port, FM_EINVAL, "input 9, which does not exist"},
        {run_forward_wrong_index, FM_EINVAL, "element 1 of input 0"},
        {run_forward_wrong_type, FM_ETYPE, "output 'm' is declared as BYTES[1]"},
        {run_own_error, FM_ECORRUPT, "operator 'odd': the page is upside down"},
        {run_silent_error, FM_EIO, "operator 'odd': input/output error"},
        {run_positive, FM_EINTERNAL, "positive status 1"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fm_rig rig;
        CHECK_INT_EQ(odd_call(rows[i].run, &rig), rows[i].status);
        CHECK_STR_CONTAINS(rig.error.text, rows[i].text);
        CHECK_STR_CONTAINS(rig.error.text, "operator 'odd': ");
        for (int j = 0; j < 3; j++) {
            CHECK_INT_EQ(rig.outputs[j].count, 0);
        }
        fm_rig_destroy(&rig);
        CHECK_INT_EQ(odd.alive, 0);
    }
}

TEST(inputs_are_checked)
{
    const int64_t shape[2] = {3, 1};
    struct fm_rig rig;
    CHECK_INT_EQ(odd_call(run_good, &rig), 0);
    CHECK(fm_rig_input(&rig, 0, FM_DTYPE_INT32, 1, shape) != NULL);
    CHECK_INT_EQ(fm_rig_run(&rig), FM_EINVAL);
    CHECK_STR_CONTAINS(rig.error.text, "input 'x' takes one element, not 2");
    fm_rig_inputs_clear(&rig);
    CHECK_INT_EQ(fm_rig_run(&rig), FM_EINVAL);
    CHECK(fm_rig_input(&rig, 0, FM_DTYPE_INT32, 2, shape) != NULL);
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ETYPE);
    CHECK_STR_CONTAINS(rig.error.text, "input 'x' takes INT32[-1], but was given INT32[3,1]");
    fm_rig_inputs_clear(&rig);
    CHECK(fm_rig_input(&rig, 0, FM_DTYPE_INT64, 1, shape) != NULL);
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ETYPE);
    fm_rig_inputs_clear(&rig);
    CHECK(fm_rig_input(&rig, 0, FM_DTYPE_INT32, 1, shape) != NULL);
    rig.inputs[0].items[0].tensor.size = 5;
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ETYPE);
    CHECK_STR_CONTAINS(rig.error.text, "must have 12 bytes, but has 5");
    fm_rig_destroy(&rig);
}

TEST(every_allocation_may_fail)
{
    struct fm_rig rig;
    for (uint64_t n = 1;; n++) {
        (void)fm_memory_fail_at(n, 0);
        int status = odd_call(run_good, &rig);
        uint64_t count = fm_memory_fail_at(0, 0);
        fm_rig_destroy(&rig);
        CHECK_INT_EQ(odd.alive, 0);
        if (count < n) {
            CHECK_INT_EQ(status, 0);
            break;
        }
        CHECK(status == FM_ENOMEM || status == FM_EINVAL);
    }
}

TEST_MAIN()
