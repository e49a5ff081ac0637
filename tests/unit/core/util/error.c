/*
 * Tests of core/util/error: the status table is dense and complete, texts are safe.
 */
#include "core/util/error.h"

#include "tests/harness/test.h"

TEST(every_status_has_its_row)
{
    CHECK_STR_EQ(fm_status_name(FM_OK), "OK");
    CHECK_STR_EQ(fm_status_name(FM_EINVAL), "EINVAL");
    CHECK_STR_EQ(fm_status_name(FM_EAGAIN), "EAGAIN");
    CHECK_INT_EQ(fm_status_http(FM_ENOTFOUND), 404);
    CHECK_INT_EQ(fm_status_grpc(FM_ENOTFOUND), 5);
    CHECK_INT_EQ(fm_status_retry(FM_EUNAVAILABLE), 1);
    CHECK_INT_EQ(fm_status_retry(FM_EINVAL), 0);
#define CHECK_ROW(name, value, text, http, grpc, retry) \
    CHECK_STR_EQ(fm_status_name(value), #name);         \
    CHECK_STR_EQ(fm_status_text(value), text);
    FM_STATUS_TABLE(CHECK_ROW)
}

TEST(unknown_status_is_named_so)
{
    CHECK_STR_EQ(fm_status_name(1), "EUNKNOWN");
    CHECK_STR_EQ(fm_status_name(-1000), "EUNKNOWN");
    CHECK_INT_EQ(fm_status_http(-1000), 500);
}

TEST(set_returns_the_status_and_accepts_null)
{
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_error_set(&error, FM_EINVAL, "bad %s", "thing"), FM_EINVAL);
    CHECK_INT_EQ(error.status, FM_EINVAL);
    CHECK_STR_EQ(error.text, "bad thing");
    CHECK_INT_EQ(fm_error_set(NULL, FM_EIO, "x"), FM_EIO);
}

TEST(text_is_one_line)
{
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_error_set(&error, FM_EINVAL, "a\nb\x1b[31m\x7f"), FM_EINVAL);
    CHECK_STR_EQ(error.text, "a?b?[31m?");
}

TEST(long_text_is_cut_at_a_character)
{
    struct fm_error error = {0};
    char text[600];
    for (size_t i = 0; i < sizeof(text) - 1; i += 2) {
        memcpy(text + i, "\xc3\xa9", 2); /* two bytes each: the cut falls into one */
    }
    text[598] = '\0';
    CHECK_INT_EQ(fm_error_set(&error, FM_EINVAL, "%s", text), FM_EINVAL);
    CHECK_INT_EQ(strlen(error.text), FM_ERROR_TEXT_SIZE - 2);
    CHECK_INT_EQ((unsigned char)error.text[strlen(error.text) - 1], 0xA9);
}

TEST(what_cannot_be_done_and_the_first_failure)
{
    struct fm_error first = {0};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_error_cannot(&error, FM_ENOMEM, "take a shard"), FM_ENOMEM);
    CHECK_STR_EQ(error.text, "cannot take a shard: out of memory");
    fm_error_keep(&first, &error);
    (void)fm_error_set(&error, FM_EIO, "later");
    fm_error_keep(&first, &error);
    CHECK_INT_EQ(first.status, FM_ENOMEM);
    CHECK_STR_EQ(first.text, "cannot take a shard: out of memory");
}

TEST(prefix_keeps_the_status)
{
    struct fm_error error = {0};
    (void)fm_error_set(&error, FM_ENOTFOUND, "no such file");
    CHECK_INT_EQ(fm_error_prefix(&error, FM_EIO, "model '%s'", "m"), FM_ENOTFOUND);
    CHECK_STR_EQ(error.text, "model 'm': no such file");
    struct fm_error empty = {0};
    CHECK_INT_EQ(fm_error_prefix(&empty, FM_EIO, "x"), FM_EIO);
    CHECK_STR_EQ(empty.text, "x: input/output error");
    CHECK_INT_EQ(fm_error_prefix(NULL, FM_EIO, "x"), FM_EIO);
}

TEST_MAIN()
