/* Tests of core/proto/batch_accelerators: what is written is read again, and nothing else is. */
#include "core/proto/batch_accelerators.h"

#include <string.h>

#include "tests/harness/test.h"

static uint32_t count_of(const char *text)
{
    struct fm_batch_view rest = fm_batch_view_of(text);
    struct fm_batch_accelerator accelerator;
    uint32_t count = 0;
    while (fm_batch_accelerator_next(&rest, &accelerator)) {
        count++;
    }
    return count;
}

TEST(what_is_written_is_read)
{
    char text[FM_BATCH_ACCELERATORS_TEXT_SIZE] = "";
    char name[FM_BATCH_NAME_BYTES_MAX];
    const struct fm_batch_accelerator front = {
        .name = fm_batch_view_of("front"), .busy_ms = 1234, .batches = 17};
    const struct fm_batch_accelerator back = {
        .name = fm_batch_view_of("back.0"), .busy_ms = UINT64_MAX, .batches = 0};
    struct fm_batch_accelerator read;
    CHECK(fm_batch_accelerator_append(text, sizeof(text), &front));
    CHECK(fm_batch_accelerator_append(text, sizeof(text), &back));
    CHECK_STR_EQ(text, "front 1234 17, back.0 18446744073709551615 0");
    struct fm_batch_view rest = fm_batch_view_of(text);
    CHECK(fm_batch_accelerator_next(&rest, &read));
    fm_batch_view_copy(read.name, name, sizeof(name));
    CHECK_STR_EQ(name, "front");
    CHECK_UINT_EQ(read.busy_ms, 1234);
    CHECK_UINT_EQ(read.batches, 17);
    CHECK(fm_batch_accelerator_next(&rest, &read));
    fm_batch_view_copy(read.name, name, sizeof(name));
    CHECK_STR_EQ(name, "back.0");
    CHECK_UINT_EQ(read.busy_ms, UINT64_MAX);
    CHECK_UINT_EQ(read.batches, 0);
    CHECK(!fm_batch_accelerator_next(&rest, &read));
}

TEST(what_has_no_room_leaves_the_text_as_it_was)
{
    char text[16] = "";
    const struct fm_batch_accelerator one = {
        .name = fm_batch_view_of("a"), .busy_ms = 10, .batches = 2};
    CHECK(fm_batch_accelerator_append(text, sizeof(text), &one));
    CHECK(fm_batch_accelerator_append(text, sizeof(text), &one));
    CHECK_STR_EQ(text, "a 10 2, a 10 2");
    CHECK(!fm_batch_accelerator_append(text, sizeof(text), &one));
    CHECK_STR_EQ(text, "a 10 2, a 10 2");
}

TEST(other_texts_end_the_list)
{
    CHECK_UINT_EQ(count_of("a 1 2, b 3 4"), 2);
    static const char *const wrong[] = {"",
                                        "a",
                                        "a 1",
                                        "a 1 2 3",
                                        "a 1 x",
                                        "a -1 2",
                                        " 1 2",
                                        "a 1 2;b 3 4",
                                        "a  1 2",
                                        "a 1 18446744073709551616",
                                        ", a 1 2",
                                        "a 1 2,b 1 2",
                                        "a 1 000000000000000000000000000002"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CHECK_UINT_EQ(count_of(wrong[i]), 0);
    }
    CHECK_UINT_EQ(count_of("a 1 2, "), 1);
}

TEST_MAIN()
