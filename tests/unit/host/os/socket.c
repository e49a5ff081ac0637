/* Tests of host/os/socket: whether the other end of a connection is still there, and who it is. */
#include "host/os/socket.h"

#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness/test.h"

TEST(a_peer_that_left_is_noticed_behind_what_it_said)
{
    for (int closes = 0; closes < 2; closes++) {
        int pair[2];
        CHECK_INT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        CHECK(!fm_socket_peer_left(pair[0]));
        CHECK_INT_EQ(send(pair[1], "x", 1, MSG_NOSIGNAL), 1);
        CHECK(!fm_socket_peer_left(pair[0]));
        if (closes == 1) {
            (void)close(pair[1]);
        } else {
            CHECK_INT_EQ(shutdown(pair[1], SHUT_WR), 0);
        }
        CHECK(fm_socket_peer_left(pair[0]));
        (void)close(pair[0]);
        if (closes == 0) {
            (void)close(pair[1]);
        }
    }
}

TEST(the_kernel_knows_who_is_at_the_other_end)
{
    int pair[2];
    CHECK_INT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    CHECK_INT_EQ(fm_socket_peer_process(pair[0]), getpid());
    (void)close(pair[0]);
    (void)close(pair[1]);
    CHECK_INT_EQ(fm_socket_peer_process(-1), 0);
}

TEST_MAIN()
