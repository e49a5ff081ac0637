/*
 * Tests of host/os/successor: the list of sockets, what a new process finds, the channel. That a
 * new process runs is shown by tests/e2e/serve_upgrade.py.
 */
#include "host/os/successor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

#define SECOND UINT64_C(1000000000)

TEST(sockets_of_one_name_are_told_apart_by_their_order)
{
    static struct fm_handed_sockets sockets;
    struct fm_error error = {0};
    int files[3];
    for (int i = 0; i < 3; i++) {
        files[i] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK_INT_EQ(fm_handed_sockets_add(&sockets, i == 1 ? "grpc" : "http", files[i], &error),
                     0);
    }
    CHECK_INT_EQ(fm_handed_sockets_add(&sockets, "http", -1, &error), 0);
    CHECK_INT_EQ(sockets.count, 3);
    CHECK_INT_EQ(fm_handed_sockets_count(&sockets, "http"), 2);
    CHECK_INT_EQ(fm_handed_sockets_count(&sockets, "metrics"), 0);
    CHECK_INT_EQ(fm_handed_sockets_take(&sockets, "metrics", 0), 0);
    CHECK_INT_EQ(fm_handed_sockets_take(&sockets, "http", 2), 0);
    int second = sockets.list[2].descriptor;
    CHECK(second != files[2]);
    CHECK_INT_EQ(fcntl(second, F_GETFD), FD_CLOEXEC);
    CHECK_INT_EQ(fm_handed_sockets_take(&sockets, "http", 1), second);
    CHECK_INT_EQ(fm_handed_sockets_take(&sockets, "http", 1), 0);
    int first = sockets.list[0].descriptor;
    fm_handed_sockets_close(&sockets);
    CHECK_INT_EQ(sockets.count, 0);
    CHECK_INT_EQ(fcntl(first, F_GETFD), -1);
    CHECK_INT_EQ(fcntl(second, F_GETFD), FD_CLOEXEC);
    close(second);
    for (int i = 0; i < 3; i++) {
        close(files[i]);
    }
}

TEST(a_closed_descriptor_and_one_too_many_are_refused)
{
    static struct fm_handed_sockets sockets;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_handed_sockets_add(&sockets, "http", 1 << 20, &error), FM_EIO);
    CHECK_STR_CONTAINS(error.text, "cannot copy a listening socket");
    sockets.count = FM_HANDED_SOCKETS_MAX;
    CHECK_INT_EQ(fm_handed_sockets_add(&sockets, "http", 0, &error), FM_ELIMIT);
    CHECK_STR_CONTAINS(error.text, "more than 1024 sockets");
}

static void variables_set(const char *process, const char *count, const char *channel)
{
    (void)setenv("LISTEN_PID", process, 1);
    (void)setenv("LISTEN_FDS", count, 1);
    (void)setenv("LISTEN_FDNAMES", "http", 1);
    (void)setenv("FERMATA_UPGRADE_FD", channel, 1);
}

TEST(a_process_that_somebody_else_started_finds_nothing)
{
    static struct fm_handed_sockets sockets;
    char process[24];
    (void)snprintf(process, sizeof(process), "%ld", (long)getpid());
    CHECK_INT_EQ(fm_predecessor_find(&sockets), -1);
    variables_set("1", "1", "4");
    CHECK_INT_EQ(fm_predecessor_find(&sockets), -1);
    variables_set(process, "1", "5");
    CHECK_INT_EQ(fm_predecessor_find(&sockets), -1);
    variables_set(process, "-1", "4");
    CHECK_INT_EQ(fm_predecessor_find(&sockets), -1);
    variables_set(process, "100000", "100003");
    CHECK_INT_EQ(fm_predecessor_find(&sockets), -1);
    variables_set(process, "one", "4");
    CHECK_INT_EQ(fm_predecessor_find(&sockets), -1);
    CHECK_INT_EQ(sockets.count, 0);
    (void)unsetenv("FERMATA_UPGRADE_FD");
    (void)unsetenv("LISTEN_FDNAMES");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_PID");
}

struct sender {
    struct fm_thread thread;
    int channel;
    size_t size;
    int status;
};

static void send_much(void *argument)
{
    struct sender *sender = argument;
    char *data = calloc(1, sender->size);
    data[sender->size - 1] = 'z';
    sender->status =
        fm_channel_send(sender->channel, data, sender->size, fm_os_now_ns() + 60 * SECOND);
    free(data);
}

TEST(the_channel_takes_more_than_fits)
{
    int pair[2];
    struct sender sender = {.size = (size_t)3 << 20};
    CHECK_INT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    sender.channel = pair[0];
    CHECK_INT_EQ(fm_thread_start(&sender.thread, "sender", send_much, &sender), 0);
    char *data = malloc(sender.size);
    CHECK_INT_EQ(fm_channel_receive(pair[1], data, sender.size, fm_os_now_ns() + 60 * SECOND), 0);
    CHECK_INT_EQ(data[sender.size - 1], 'z');
    fm_thread_join(&sender.thread);
    CHECK_INT_EQ(sender.status, 0);
    free(data);
    fm_channel_close(pair[0]);
    fm_channel_close(pair[1]);
    fm_channel_close(-1);
}

TEST(the_channel_gives_up)
{
    int pair[2];
    char data[8];
    CHECK_INT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    CHECK_INT_EQ(fm_channel_receive(pair[1], data, 1, fm_os_now_ns() + 1000000), FM_EDEADLINE);
    CHECK_INT_EQ(fm_channel_send(pair[0], "ab", 2, 0), 0);
    fm_channel_wake(pair[0]);
    CHECK_INT_EQ(fm_channel_receive(pair[1], data, 8, 0), FM_ECANCELLED);
    CHECK_INT_EQ(fm_channel_send(pair[1], "ab", 2, 0), FM_ECANCELLED);
    fm_channel_close(pair[0]);
    fm_channel_close(pair[1]);
}

/* A child that holds the other end of the successor's channel, and ends when told to. */
static struct fm_successor child_start(int *ret_end)
{
    int channel[2];
    int end[2];
    char byte = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) != 0 || pipe(end) != 0) {
        abort();
    }
    pid_t child = fork();
    if (child == 0) {
        (void)close(end[1]);
        _exit(read(end[0], &byte, 1) == 0 ? 3 : 4);
    }
    (void)close(channel[1]);
    (void)close(end[0]);
    *ret_end = end[1];
    return (struct fm_successor){.process = child, .channel = channel[0]};
}

TEST(a_successor_that_ended_is_told_from_one_that_has_to_be_ended)
{
    char how[64];
    int end = -1;
    struct fm_successor successor = child_start(&end);
    fm_successor_end(&successor, false, how, sizeof(how));
    CHECK_STR_EQ(how, "it was ended");
    (void)close(end);
    successor = child_start(&end);
    (void)close(end);
    struct pollfd channel = {.fd = successor.channel, .events = POLLIN};
    CHECK_INT_EQ(poll(&channel, 1, -1), 1);
    fm_successor_end(&successor, false, how, sizeof(how));
    CHECK_STR_EQ(how, "it ended with exit code 3");
    CHECK_INT_EQ(successor.process, 0);
}

/* The system drops what ends: there is no result, and the number may be somebody else's. */
TEST(a_successor_that_ended_unseen_is_let_go)
{
    char how[64];
    int end = -1;
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    struct fm_successor successor = child_start(&end);
    (void)close(end);
    while (kill(successor.process, 0) == 0) {
        fm_sleep_until(fm_os_now_ns() + SECOND / 1000);
    }
    CHECK_INT_EQ(errno, ESRCH);
    fm_successor_end(&successor, false, how, sizeof(how));
    CHECK(signal(SIGCHLD, SIG_DFL) != SIG_ERR);
    CHECK_STR_EQ(how, "it ended");
    CHECK_INT_EQ(successor.process, 0);
}

TEST_MAIN()
