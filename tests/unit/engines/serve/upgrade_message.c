/*
 * Tests of engines/serve/upgrade_message: strings arrive as they were sent; what is no message is
 * refused.
 */
#include "engines/serve/upgrade_message.h"

#include <sys/socket.h>

#include "host/os/os.h"
#include "host/os/successor.h"
#include "tests/harness/test.h"

static int pair[2];

static void channel_open(void)
{
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
        abort();
    }
}

static void channel_close(void)
{
    fm_channel_close(pair[0]);
    fm_channel_close(pair[1]);
}

static uint64_t soon(void)
{
    return fm_os_now_ns() + UINT64_C(60000000000);
}

TEST(strings_arrive)
{
    struct fm_text sent = {0};
    struct fm_text got = {0};
    enum fm_upgrade_kind kind = FM_UPGRADE_STATE;
    size_t offset = 0;
    channel_open();
    fm_upgrade_add(&sent, "config");
    fm_upgrade_add(&sent, "");
    fm_upgrade_add(&sent, "two\nlines");
    CHECK_INT_EQ(fm_upgrade_send(pair[0], FM_UPGRADE_GO, &sent, soon()), 0);
    CHECK_INT_EQ(fm_upgrade_receive(pair[1], &kind, &got, soon()), 0);
    CHECK_INT_EQ(kind, FM_UPGRADE_GO);
    CHECK_STR_EQ(fm_upgrade_next(&got, &offset), "config");
    CHECK_STR_EQ(fm_upgrade_next(&got, &offset), "");
    CHECK_STR_EQ(fm_upgrade_next(&got, &offset), "two\nlines");
    CHECK(fm_upgrade_next(&got, &offset) == NULL);
    fm_text_deinit(&got);
    got = (struct fm_text){0};
    offset = 0;
    fm_text_deinit(&sent);
    sent = (struct fm_text){0};
    CHECK_INT_EQ(fm_upgrade_send(pair[1], FM_UPGRADE_READY, &sent, soon()), 0);
    CHECK_INT_EQ(fm_upgrade_receive(pair[0], &kind, &got, soon()), 0);
    CHECK_INT_EQ(kind, FM_UPGRADE_READY);
    CHECK(fm_upgrade_next(&got, &offset) == NULL);
    fm_text_deinit(&got);
    channel_close();
}

static int receive_raw(uint64_t kind, uint64_t size, const char *data, size_t length)
{
    const uint64_t head[2] = {kind, size};
    struct fm_text got = {0};
    enum fm_upgrade_kind read = FM_UPGRADE_STATE;
    channel_open();
    int status = fm_channel_send(pair[0], head, sizeof(head), soon());
    status = status == 0 ? fm_channel_send(pair[0], data, length, soon()) : status;
    fm_channel_wake(pair[0]);
    status = status == 0 ? fm_upgrade_receive(pair[1], &read, &got, soon()) : status;
    fm_text_deinit(&got);
    channel_close();
    return status;
}

TEST(what_is_no_message_is_refused)
{
    CHECK_INT_EQ(receive_raw(FM_UPGRADE_FAILED, 3, "no", 3), 0);
    CHECK_INT_EQ(receive_raw(FM_UPGRADE_FAILED, 2, "no", 2), FM_ECORRUPT);
    CHECK_INT_EQ(receive_raw(0, 0, "", 0), FM_ECORRUPT);
    CHECK_INT_EQ(receive_raw(FM_UPGRADE_KIND_COUNT_, 0, "", 0), FM_ECORRUPT);
    CHECK_INT_EQ(receive_raw(UINT64_MAX, 0, "", 0), FM_ECORRUPT);
    CHECK_INT_EQ(receive_raw(FM_UPGRADE_GO, FM_UPGRADE_BYTES_MAX + 1, "", 0), FM_ECORRUPT);
    CHECK_INT_EQ(receive_raw(FM_UPGRADE_GO, 10, "short", 5), FM_ECANCELLED);
}

TEST_MAIN()
