/*
 * Tests of engines/batch/stage_watch: shares between two looks, the slowest stage, the limit.
 */
#include "engines/batch/stage_watch.h"

#include <stdio.h>
#include <string.h>

#include "core/plan/pipeline.h"
#include "tests/harness/test.h"

#define SECOND_NS UINT64_C(1000000000)

static bool is_called(struct fm_batch_view name, const char *wanted)
{
    return name.size == strlen(wanted) && memcmp(name.data, wanted, name.size) == 0;
}

TEST(shares_are_of_the_slots_and_of_the_time_since_the_last_look)
{
    const char *const names[] = {"decode", "model"};
    struct fm_stage_watch watch;
    CHECK_INT_EQ(fm_stage_watch_init(&watch, names, 2, 10 * SECOND_NS), 0);
    CHECK(watch.slowest == NULL && watch.stages.count == 0);
    CHECK(!fm_stage_watch_is_due(&watch, 10 * SECOND_NS));
    CHECK(!fm_stage_watch_is_due(&watch, 12 * SECOND_NS - 1));
    CHECK(fm_stage_watch_is_due(&watch, 12 * SECOND_NS));

    const struct fm_stage_sum readers = {.busy_ns = SECOND_NS, .slots = 2};
    const struct fm_stage_sum sums[] = {{.busy_ns = 3 * SECOND_NS, .slots = 3},
                                        {.busy_ns = 1 * SECOND_NS, .slots = 1}};
    fm_stage_watch_look(&watch, &readers, sums, 14 * SECOND_NS);
    CHECK_UINT_EQ(watch.stages.count, 3);
    CHECK(is_called(watch.stages.items[0].name, "read"));
    CHECK_NEAR(watch.stages.items[0].busy, 1.0 / (4 * 2), 1e-9);
    CHECK(is_called(watch.stages.items[1].name, "decode"));
    CHECK_NEAR(watch.stages.items[1].busy, 3.0 / (4 * 3), 1e-9);
    CHECK_NEAR(watch.stages.items[2].busy, 1.0 / 4, 1e-9);
    CHECK_STR_EQ(watch.slowest, "decode");
    CHECK_NEAR(watch.slowest_share, 0.75, 1e-9);

    /* Only what came since counts; the readers are four now. */
    const struct fm_stage_sum more_readers = {.busy_ns = 5 * SECOND_NS, .slots = 4};
    const struct fm_stage_sum more[] = {{.busy_ns = 3 * SECOND_NS, .slots = 3},
                                        {.busy_ns = 3 * SECOND_NS, .slots = 1}};
    fm_stage_watch_look(&watch, &more_readers, more, 16 * SECOND_NS);
    CHECK_UINT_EQ(watch.stages.count, 3);
    CHECK_NEAR(watch.stages.items[0].busy, 0.5, 1e-9);
    CHECK_NEAR(watch.stages.items[1].busy, 0, 1e-9);
    CHECK_NEAR(watch.stages.items[2].busy, 1, 1e-9);
    CHECK_STR_EQ(watch.slowest, "model");
    CHECK_NEAR(watch.slowest_share, 1, 1e-9);

    /* A run that began long before and ended now is no more than all of the time. Where nothing
     * ran, the slowest stays who it was. */
    const struct fm_stage_sum late[] = {{.busy_ns = 3 * SECOND_NS, .slots = 3},
                                        {.busy_ns = 13 * SECOND_NS, .slots = 1}};
    fm_stage_watch_look(&watch, &more_readers, late, 18 * SECOND_NS);
    CHECK_NEAR(watch.stages.items[2].busy, 1, 1e-9);
    fm_stage_watch_look(&watch, &more_readers, late, 20 * SECOND_NS);
    CHECK_STR_EQ(watch.slowest, "model");
    CHECK_NEAR(watch.slowest_share, 1, 1e-9);
    CHECK_NEAR(watch.stages.items[2].busy, 0, 1e-9);
    fm_stage_watch_deinit(&watch);
}

TEST(reading_has_a_name_of_its_own_where_a_stage_is_called_read)
{
    const char *const names[] = {"read"};
    const struct fm_stage_sum sums[] = {{.busy_ns = SECOND_NS, .slots = 1}};
    const struct fm_stage_sum readers = {.busy_ns = 0, .slots = 1};
    struct fm_stage_watch watch;
    CHECK_INT_EQ(fm_stage_watch_init(&watch, names, 1, 0), 0);
    fm_stage_watch_look(&watch, &readers, sums, 2 * SECOND_NS);
    CHECK(is_called(watch.stages.items[0].name, "read (input)"));
    CHECK(is_called(watch.stages.items[1].name, "read"));
    CHECK_NEAR(watch.stages.items[1].busy, 0.5, 1e-9);
    fm_stage_watch_deinit(&watch);
}

TEST(of_more_stages_than_are_told_the_busiest_stay_in_their_order)
{
    enum { STAGES = FM_BATCH_STAGES_MAX + 8 };
    static char texts[STAGES][16];
    const char *names[STAGES];
    struct fm_stage_sum sums[STAGES];
    const struct fm_stage_sum readers = {.busy_ns = SECOND_NS, .slots = 1};
    struct fm_stage_watch watch;
    for (uint32_t i = 0; i < STAGES; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "stage-%u", i);
        names[i] = texts[i];
        /* Every other one is nearly idle, as long as there are more than fit. */
        bool idle = i % 2 == 0 && i < 2 * 9;
        sums[i] = (struct fm_stage_sum){.busy_ns = idle ? i : SECOND_NS + i, .slots = 1};
    }
    CHECK_INT_EQ(fm_stage_watch_init(&watch, names, STAGES, 0), 0);
    fm_stage_watch_look(&watch, &readers, sums, 2 * SECOND_NS);
    CHECK_UINT_EQ(watch.stages.count, FM_BATCH_STAGES_MAX);
    CHECK(is_called(watch.stages.items[0].name, "read"));
    for (uint32_t i = 1; i < watch.stages.count; i++) {
        CHECK(watch.stages.items[i].busy >= 0.5);
    }
    CHECK(is_called(watch.stages.items[1].name, "stage-1"));
    CHECK(is_called(watch.stages.items[watch.stages.count - 1].name, texts[STAGES - 1]));
    fm_stage_watch_deinit(&watch);
}

TEST_MAIN()
