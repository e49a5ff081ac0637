/* Tests of host/runtime/accelerator_group: groups as they are written, and which of them models may
 * use. */
#include "host/runtime/accelerator_group.h"

#include <stdio.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "tests/harness/test.h"

TEST(groups_are_read)
{
    struct fm_accelerator_group groups[FM_GROUPS_MAX];
    struct fm_error error = {0};
    uint32_t count = 0;
    CHECK_INT_EQ(fm_accelerator_groups_parse("big=cpu:1x4,cpu:256,gpu:2@1,emulated:8,g.0-_=gpu:1",
                                             groups, &count, &error),
                 0);
    CHECK_UINT_EQ(count, 5);
    CHECK_STR_EQ(groups[0].name, "big");
    CHECK(groups[0].kind == FM_GROUP_CPU && groups[0].accelerators == 1 && groups[0].threads == 4);
    CHECK_STR_EQ(groups[1].name, "cpu");
    CHECK(groups[1].kind == FM_GROUP_CPU && groups[1].accelerators == 256 &&
          groups[1].threads == 0);
    CHECK_STR_EQ(groups[2].name, "gpu");
    CHECK(groups[2].kind == FM_GROUP_GPU && groups[2].accelerators == 2 && groups[2].device == 1);
    CHECK(groups[3].kind == FM_GROUP_EMULATED && groups[3].accelerators == 8);
    CHECK_STR_EQ(groups[4].name, "g.0-_");
    CHECK(groups[4].kind == FM_GROUP_GPU && groups[4].device == 0);
}

TEST(what_is_no_group_is_refused_in_words)
{
    static const struct {
        const char *text;
        const char *message;
    } rows[] = {
        {"", "'' is no kind of accelerators; there are cpu, gpu and emulated"},
        {"tpu:1", "'tpu' is no kind of accelerators"},
        {"cpu", "group 'cpu' needs a number of accelerators from 1 to 256"},
        {"cpu:", "group 'cpu' needs a number of accelerators from 1 to 256"},
        {"cpu:-1", "group 'cpu' needs a number of accelerators from 1 to 256"},
        {"cpu:0", "group 'cpu' needs a number of accelerators from 1 to 256"},
        {"cpu:257", "group 'cpu' needs a number of accelerators from 1 to 256"},
        {"cpu:99999999999999999999", "group 'cpu' needs a number of accelerators"},
        {"cpu:1x", "group 'cpu' needs a number of threads from 1 to 1024 behind the 'x'"},
        {"cpu:1x0", "group 'cpu' needs a number of threads from 1 to 1024"},
        {"cpu:1x1025", "group 'cpu' needs a number of threads from 1 to 1024"},
        {"cpu:1x2x3", "group 'cpu': nobody understands 'x3'"},
        {"cpu:1@0", "group 'cpu': nobody understands '@0'"},
        {"gpu:1x2", "group 'gpu': nobody understands 'x2'"},
        {"gpu:1@1024", "group 'gpu' needs the number of a GPU from 0 to 1023"},
        {"emulated:1x2", "group 'emulated': nobody understands 'x2'"},
        {"=cpu:1", "'' is no name of a group of accelerators"},
        {"a b=cpu:1", "'a b' is no name of a group of accelerators"},
        {"an-awfully-long-name-for-a-group-is=cpu:1", "is no name of a group of accelerators"},
        {"cpu:1,cpu:2", "two groups of accelerators are called 'cpu'"},
        {"cpu:1,", "'' is no kind of accelerators"},
        {"a=cpu:1,b=cpu:1,c=cpu:1,d=cpu:1,e=cpu:1,f=cpu:1,g=cpu:1,h=cpu:1,i=cpu:1",
         "more than 8 groups of accelerators"},
        {"cpu:00000000000000000000000000000000000000000000000000000000000000000000000000000000000"
         "0000000000000000000001",
         "is longer than"},
    };
    for (size_t i = 0; i < FM_COUNT_OF(rows); i++) {
        struct fm_accelerator_group groups[FM_GROUPS_MAX];
        struct fm_error error = {0};
        uint32_t count = 77;
        CHECK_INT_EQ(fm_accelerator_groups_parse(rows[i].text, groups, &count, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, rows[i].message);
        CHECK_UINT_EQ(count, 77);
    }
}

/* What a model says of where it runs. */
struct wish {
    const char *backend;
    const char *names[3];
    const char *provider;
    uint32_t kinds;
    uint32_t gpus[2];
    size_t gpu_count;
};

/* The groups that it may use, as a row of digits; or why it may use none. */
static const char *match(const char *groups_text, const struct wish *wish)
{
    static char result[FM_ERROR_TEXT_SIZE];
    struct fm_accelerator_group groups[FM_GROUPS_MAX];
    struct fm_model_group_config named[3] = {{0}};
    struct fm_setting device = {.key = "provider", .value = wish->provider};
    struct fm_model_config config;
    struct fm_error error = {0};
    bool allowed[FM_GROUPS_MAX] = {false};
    uint32_t gpus[2] = {wish->gpus[0], wish->gpus[1]};
    uint32_t count = 0;
    fm_model_config_init(&config);
    config.name = "m";
    config.backend = wish->backend;
    config.kinds = wish->kinds;
    config.gpus = gpus;
    config.gpu_count = wish->gpu_count;
    config.device_settings = &device;
    config.device_setting_count = wish->provider != NULL ? 1 : 0;
    config.groups = named;
    while (config.group_count < 3 && wish->names[config.group_count] != NULL) {
        named[config.group_count].name = wish->names[config.group_count];
        config.group_count++;
    }
    int status = fm_accelerator_groups_parse(groups_text, groups, &count, &error);
    status =
        status != 0 ? status : fm_accelerator_groups_match(&config, groups, count, allowed, &error);
    (void)snprintf(result, sizeof(result), "%s", error.text);
    if (status == 0) {
        size_t length = 0;
        for (uint32_t i = 0; i < count; i++) {
            if (allowed[i]) {
                result[length++] = (char)('0' + i);
            }
        }
        result[length] = '\0';
    }
    config.device_settings = NULL;
    fm_model_config_deinit(&config);
    return result;
}

TEST(models_use_the_groups_that_suit_them)
{
    static const char all[] = "gpu:1@0,cpu:2,second=gpu:1@1,big=cpu:1x4,emulated:4";
    const uint32_t cpu = 1u << FM_GROUP_CPU;
    const uint32_t gpu = 1u << FM_GROUP_GPU;
    const struct {
        const char *groups;
        struct wish wish;
        const char *expected;
    } rows[] = {
        /* Nothing said: not on GPUs while there is anything else. */
        {all, {.backend = "emulated"}, "134"},
        {all, {.backend = "identity"}, "13"},
        {"gpu:1,second=gpu:1@1", {.backend = "identity"}, "01"},
        {"gpu:1,emulated:1", {.backend = "identity"}, "0"},
        {"gpu:1,emulated:1", {.backend = "emulated"}, "1"},
        /* Named, by group and by kind. */
        {all, {.backend = "emulated", .names = {"second"}}, "2"},
        {all, {.backend = "emulated", .names = {"cpu"}}, "13"},
        {all, {.backend = "emulated", .names = {"gpu", "big"}}, "023"},
        {all,
         {.backend = "emulated", .names = {"gpu", "emulated"}, .gpus = {1}, .gpu_count = 1},
         "24"},
        /* By device. */
        {all, {.backend = "emulated", .kinds = gpu}, "02"},
        {all, {.backend = "emulated", .kinds = gpu, .gpus = {1, 7}, .gpu_count = 2}, "2"},
        {all, {.backend = "emulated", .kinds = cpu}, "13"},
        {all, {.backend = "emulated", .kinds = cpu | gpu, .gpus = {0}, .gpu_count = 1}, "013"},
        {all, {.backend = "emulated", .provider = "cuda"}, "02"},
        {all, {.backend = "emulated", .provider = "cpu"}, "13"},
        /* None. */
        {"cpu:1,big=cpu:1",
         {.backend = "emulated", .kinds = gpu},
         "model 'm' may use none of the accelerators: there are cpu, big (cpu) (--accelerators), "
         "and its configuration asks for a GPU that is not among them"},
        {"gpu:1@3",
         {.backend = "emulated", .kinds = gpu, .gpus = {1}, .gpu_count = 1},
         "model 'm' may use none of the accelerators: there are gpu (--accelerators), and its "
         "configuration asks for a GPU that is not among them"},
        {"gpu:1",
         {.backend = "emulated", .kinds = cpu},
         "model 'm' may use none of the accelerators: there are gpu (--accelerators), and its "
         "configuration asks for the CPU"},
        {"emulated:1",
         {.backend = "identity"},
         "model 'm' may use none of the accelerators: there are emulated (--accelerators), and its "
         "backend cannot use those"},
        {"cpu:1,emulated:1",
         {.backend = "identity", .names = {"emulated"}},
         "model 'm' may use none of the accelerators: there are cpu, emulated (--accelerators), "
         "and its configuration names others, or its backend cannot use those"},
        {all,
         {.backend = "emulated", .names = {"cpu", "third"}},
         "model 'm' names accelerators 'third', but there are only gpu, cpu, second (gpu), big "
         "(cpu), emulated (--accelerators)"},
    };
    for (size_t i = 0; i < FM_COUNT_OF(rows); i++) {
        CHECK_STR_EQ(match(rows[i].groups, &rows[i].wish), rows[i].expected);
    }
    CHECK_STR_CONTAINS(match(all, &(struct wish){.backend = "no-such-backend"}), "no-such-backend");
}

TEST(a_groups_name_goes_before_its_kinds)
{
    const struct fm_accelerator_group big = {.name = "big", .kind = FM_GROUP_CPU};
    const struct fm_accelerator_group cpu = {.name = "cpu", .kind = FM_GROUP_CPU};
    const struct fm_accelerator_group gpu = {.name = "gpu", .kind = FM_GROUP_GPU};
    struct fm_model_group_config named[] = {{.name = "cpu"}, {.name = "big"}};
    struct fm_model_config config;
    fm_model_config_init(&config);
    config.groups = named;
    config.group_count = 2;
    CHECK_PTR_EQ(fm_accelerator_group_config(&config, &big), &named[1]);
    CHECK_PTR_EQ(fm_accelerator_group_config(&config, &cpu), &named[0]);
    CHECK_PTR_EQ(fm_accelerator_group_config(&config, &gpu), NULL);
    fm_model_config_deinit(&config);
}

TEST(stages_take_away_what_they_do_not_name)
{
    struct fm_accelerator_group groups[FM_GROUPS_MAX];
    uint32_t count = 0;
    struct fm_error error = {0};
    const struct fm_stage_groups big = {.stage = "s", .names = {"big"}, .name_count = 1};
    const struct fm_stage_groups kind = {.stage = "s", .names = {"gpu", "cpu"}, .name_count = 2};
    const struct fm_stage_groups other = {.stage = "s", .names = {"big", "none"}, .name_count = 2};
    const struct fm_stage_groups nothing = {.stage = "s"};
    bool allowed[FM_GROUPS_MAX] = {true, true, true};
    CHECK_INT_EQ(fm_accelerator_groups_parse("big=cpu:1,cpu:1,emulated:1", groups, &count, &error),
                 0);
    CHECK_INT_EQ(fm_stage_groups_narrow(&nothing, groups, count, allowed, &error), 0);
    CHECK(allowed[0] && allowed[1] && allowed[2]);
    CHECK_INT_EQ(fm_stage_groups_narrow(&kind, groups, count, allowed, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "'gpu', but there are only big (cpu), cpu, emulated");
    CHECK_INT_EQ(fm_stage_groups_narrow(&other, groups, count, allowed, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "'none', but there are only");
    CHECK(allowed[0] && allowed[1] && allowed[2]);
    CHECK_INT_EQ(fm_stage_groups_narrow(&big, groups, count, allowed, &error), 0);
    CHECK(allowed[0] && !allowed[1] && !allowed[2]);
    /* What its model may not use, naming does not give it. */
    bool others[FM_GROUPS_MAX] = {false, true, true};
    CHECK_INT_EQ(fm_stage_groups_narrow(&big, groups, count, others, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "that its model may not use");
}

TEST_MAIN()
