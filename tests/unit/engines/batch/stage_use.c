/*
 * Tests of engines/batch/stage_use: means by stage, the limit, JSON there and back.
 */
#include "engines/batch/stage_use.h"

#include <stdio.h>

#include "tests/harness/test.h"

static struct fm_stage_uses worker(double read, double model)
{
    const struct fm_batch_stages stages = {
        .count = 2,
        .items = {{.name = fm_batch_view_of("read"), .busy = read},
                  {.name = fm_batch_view_of("model"), .busy = model}}};
    struct fm_stage_uses uses = {.count = 0};
    fm_stage_uses_set(&uses, &stages);
    return uses;
}

TEST(means_are_of_the_workers_that_say_something)
{
    struct fm_stage_uses means = {.count = 0};
    const struct fm_stage_uses silent = {.count = 0};
    const struct fm_stage_uses workers[] = {worker(0.1, 0.9), worker(0.2, 0.6), worker(0.6, 0.9)};
    fm_stage_uses_add(&means, &silent);
    for (size_t i = 0; i < 3; i++) {
        fm_stage_uses_add(&means, &workers[i]);
    }
    CHECK_UINT_EQ(means.count, 2);
    CHECK_NEAR(means.items[0].busy, 0.3, 1e-9);
    CHECK_NEAR(means.items[1].busy, 0.8, 1e-9);
    /* Means of means weigh by workers. */
    struct fm_stage_uses all = worker(0.7, 0);
    fm_stage_uses_add(&all, &means);
    CHECK_NEAR(all.items[0].busy, 0.4, 1e-9);
    CHECK_UINT_EQ(all.items[0].workers, 4);
}

TEST(names_are_copied_and_cut_and_stages_beyond_the_limit_are_left_out)
{
    char long_name[200];
    struct fm_stage_uses means = {.count = 0};
    memset(long_name, 'x', sizeof(long_name));
    for (uint32_t i = 0; i < 2 * FM_BATCH_STAGES_MAX; i++) {
        struct fm_batch_stages stages = {.count = 1, .items = {{.busy = 0.5}}};
        struct fm_stage_uses one;
        (void)snprintf(long_name, 4, "%03u", i);
        long_name[3] = 'x';
        stages.items[0].name = (struct fm_batch_view){long_name, sizeof(long_name)};
        fm_stage_uses_set(&one, &stages);
        fm_stage_uses_add(&means, &one);
    }
    CHECK_UINT_EQ(means.count, FM_BATCH_STAGES_MAX);
    CHECK_UINT_EQ(strlen(means.items[0].name), FM_STAGE_NAME_SIZE - 1);
    struct fm_batch_stages views;
    fm_stage_uses_view(&means, &views);
    CHECK_UINT_EQ(views.count, FM_BATCH_STAGES_MAX);
    CHECK(views.items[1].name.data == means.items[1].name);
}

TEST(json_there_and_back)
{
    const struct fm_stage_uses uses = worker(0.12345, 1);
    struct fm_stage_uses again;
    struct fm_text text = {0};
    struct fm_json_writer writer;
    struct fm_json_reader reader;
    fm_json_writer_init(&writer, &text);
    fm_stage_uses_write(&uses, &writer);
    CHECK_STR_EQ(text.data, "{\"read\":0.123,\"model\":1.0}");
    fm_json_reader_init(&reader, text.data, text.length);
    CHECK(fm_json_next(&reader) == FM_JSON_OBJECT_BEGIN);
    CHECK_INT_EQ(fm_stage_uses_read(&again, &reader), 0);
    CHECK_UINT_EQ(again.count, 2);
    CHECK_NEAR(again.items[0].busy, 0.123, 1e-9);
    fm_text_deinit(&text);
    static const char *const wrong[] = {"{\"a\":\"b\"}", "{\"a\":[1]}", "{\"a\":1"};
    for (size_t i = 0; i < 3; i++) {
        fm_json_reader_init(&reader, wrong[i], strlen(wrong[i]));
        (void)fm_json_next(&reader);
        CHECK_INT_EQ(fm_stage_uses_read(&again, &reader), FM_ETYPE);
    }
}

TEST_MAIN()
