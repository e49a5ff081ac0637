/*
 * Tests of host/os/service_manager against a socket and variables of our own making.
 */
#include "host/os/service_manager.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/harness/test.h"

/* A manager's socket: $NOTIFY_SOCKET leads to it. */
static int manager_open(bool abstract)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[100];
    (void)snprintf(name, sizeof(name), "%sfm-notify-%d", abstract ? "@" : "/tmp/", getpid());
    int descriptor = socket(AF_UNIX, SOCK_DGRAM, 0);
    memcpy(address.sun_path, name, strlen(name));
    address.sun_path[0] = abstract ? '\0' : '/';
    (void)unlink(name);
    if (bind(descriptor, (const struct sockaddr *)&address,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))) != 0 ||
        setenv("NOTIFY_SOCKET", name, 1) != 0) {
        abort();
    }
    return descriptor;
}

static void manager_close(int descriptor)
{
    (void)close(descriptor);
    (void)unlink(getenv("NOTIFY_SOCKET"));
    (void)unsetenv("NOTIFY_SOCKET");
}

TEST(what_is_told_arrives)
{
    for (int abstract = 0; abstract < 2; abstract++) {
        char text[200] = "";
        int descriptor = manager_open(abstract != 0);
        CHECK(fm_service_manager_tell("READY=1\nSTATUS=fine"));
        CHECK_INT_EQ(recv(descriptor, text, sizeof(text) - 1, MSG_DONTWAIT), 19);
        CHECK_STR_EQ(text, "READY=1\nSTATUS=fine");
        CHECK(fm_service_manager_tell_reloading());
        ssize_t length = recv(descriptor, text, sizeof(text) - 1, MSG_DONTWAIT);
        CHECK(length > 0);
        text[length] = '\0';
        CHECK_STR_CONTAINS(text, "RELOADING=1\nMONOTONIC_USEC=");
        manager_close(descriptor);
    }
}

TEST(nobody_listens)
{
    char path[200];
    CHECK(!fm_service_manager_tell("READY=1"));
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    static const char *const wrong[] = {"", "/", "relative", "/tmp/no/such/socket"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CHECK_INT_EQ(setenv("NOTIFY_SOCKET", wrong[i], 1), 0);
        CHECK(!fm_service_manager_tell("READY=1"));
    }
    CHECK_INT_EQ(setenv("NOTIFY_SOCKET", path, 1), 0);
    CHECK(!fm_service_manager_tell("READY=1"));
    CHECK_INT_EQ(unsetenv("NOTIFY_SOCKET"), 0);
}

static void set_own_process(const char *variable)
{
    char process[24];
    (void)snprintf(process, sizeof(process), "%d", getpid());
    (void)setenv(variable, process, 1);
}

TEST(the_watchdog)
{
    CHECK_UINT_EQ(fm_service_manager_watchdog_ns(), 0);
    (void)setenv("WATCHDOG_USEC", "30000000", 1);
    CHECK_UINT_EQ(fm_service_manager_watchdog_ns(), UINT64_C(30000000000));
    (void)setenv("WATCHDOG_PID", "1", 1);
    CHECK_UINT_EQ(fm_service_manager_watchdog_ns(), 0);
    set_own_process("WATCHDOG_PID");
    CHECK_UINT_EQ(fm_service_manager_watchdog_ns(), UINT64_C(30000000000));
    (void)setenv("WATCHDOG_USEC", "soon", 1);
    CHECK_UINT_EQ(fm_service_manager_watchdog_ns(), 0);
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
}

TEST(sockets_that_were_opened_for_us)
{
    int pair[2];
    CHECK_INT_EQ(fm_service_manager_socket("http", 0), 0);
    CHECK_INT_EQ(pipe(pair), 0);
    CHECK_INT_EQ(dup2(pair[0], 3), 3);
    CHECK_INT_EQ(dup2(pair[1], 4), 4);
    (void)setenv("LISTEN_FDS", "2", 1);
    (void)setenv("LISTEN_PID", "1", 1);
    CHECK_INT_EQ(fm_service_manager_socket("http", 0), 0);
    set_own_process("LISTEN_PID");
    int first = fm_service_manager_socket("http", 0);
    CHECK(first > 4);
    CHECK_INT_EQ(fcntl(first, F_GETFD), FD_CLOEXEC);
    (void)close(first);
    CHECK_INT_EQ(fm_service_manager_socket("metrics", 2), 0);
    /* By name, whatever the order. */
    (void)setenv("LISTEN_FDNAMES", "grpc:http", 1);
    int named = fm_service_manager_socket("http", 0);
    CHECK(named > 4);
    CHECK_INT_EQ(write(named, "x", 1), 1);
    (void)close(named);
    CHECK_INT_EQ(fm_service_manager_socket("metrics", 0), 0);
    (void)setenv("LISTEN_FDNAMES", "fermata.socket:fermata.socket", 1);
    int unnamed = fm_service_manager_socket("http", 1);
    CHECK(unnamed > 4);
    (void)close(unnamed);
    (void)setenv("LISTEN_FDS", "many", 1);
    CHECK_INT_EQ(fm_service_manager_socket("http", 0), 0);
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDNAMES");
}

TEST_MAIN()
